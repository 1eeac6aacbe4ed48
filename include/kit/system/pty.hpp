// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

/// \file
/// Pseudo-terminals (pty(7)), for a child between clone and exec: nothing here allocates or throws. Each
/// function answers 0 or a descriptor, or -errno.

namespace kit {

struct pty_pair {
  int master = -1;
  int slave = -1;  ///< both O_CLOEXEC and O_NOCTTY
};

/// A new terminal of the devpts whose multiplexer is `ptmx`, a path this process resolves as its own. What is found
/// there must be a devpts multiplexer (ENODEV otherwise): the name may be an image's.
int open_pty(const char* ptmx, pty_pair& out) noexcept;

/// TIOCSWINSZ; a dimension of 0 leaves the terminal as it is.
int set_terminal_size(int terminal, std::uint16_t rows, std::uint16_t columns) noexcept;

/// A new session with `terminal` as its controlling one; the caller must not lead a process group.
int take_controlling_terminal(int terminal) noexcept;

}  // namespace kit
