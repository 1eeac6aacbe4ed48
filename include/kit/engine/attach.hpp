// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "kit/engine/lifecycle.hpp"

/// \file
/// The client's side of a container's monitor. The two speak over a stream socket in frames of eight
/// bytes of head (type, three zero bytes, length as 32 bits big endian: Docker's attach framing) and
/// `length` bytes; see monitor_protocol.hpp.

namespace kit {

/// Connects to the monitor of a running container. Throws not_found if it does not run.
session attach(engine&, const container_id&);

struct stream_options {
  bool stdin_open = false;  ///< pass this process's stdin on, to its end
  bool tty = false;         ///< raw mode, window size, detach keys
  bool signal_proxy =
      true;  ///< pass signals on to the container, unless it has a terminal; else this process dies of them
  bool output = true;
  std::string detach_keys = "ctrl-p,ctrl-q";
};

struct stream_end {
  bool exited = false;
  bool detached = false;  ///< by the keys; neither: the connection broke, the monitor is gone
  int exit_code = 0;
};

/// Moves bytes between this process's stdio and the container until it exits, the user detaches, or the
/// session breaks. The terminal is restored on every way out. `finishing`: on exit this process, not
/// the monitor, will call finish.
stream_end stream(engine&, const container_id&, session&, const stream_options&, bool finishing);

/// Keeps the promise of `finishing` after the exit that stream() saw: finish(), and the word to the monitor that it need not.
/// Answers the exit code.
int conclude(engine&, const container_id&, session&, const stream_end&);

/// Docker's notation for detach keys: "ctrl-p,ctrl-q", "a", "ctrl-@". Throws invalid.
std::string parse_detach_keys(const std::string& text);

}  // namespace kit
