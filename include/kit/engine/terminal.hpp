// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <signal.h>
#include <termios.h>

#include <string>
#include <string_view>
#include <utility>

#include "kit/system/fd.hpp"

namespace kit {

/// The terminal `fd` in raw mode until the end of the scope (termios(3)). Throws if it is none.
class raw_terminal {
 public:
  explicit raw_terminal(int fd);
  ~raw_terminal();
  raw_terminal(const raw_terminal&) = delete;
  raw_terminal& operator=(const raw_terminal&) = delete;

 private:
  int fd_;
  termios saved_{};
};

/// {rows, columns}; zeros if it is no terminal.
std::pair<unsigned, unsigned> terminal_size(int fd) noexcept;

/// The signals a client passes on or acts upon, as a descriptor (signalfd(2)) instead of handlers.
class signal_reader {
 public:
  signal_reader();
  ~signal_reader();
  signal_reader(const signal_reader&) = delete;
  signal_reader& operator=(const signal_reader&) = delete;
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  int next() noexcept;  ///< the number of a pending signal, 0: none

 private:
  sigset_t taken_{}, before_{};
  unique_fd fd_;
};

/// Finds the detach keys in what is typed.
class detach_matcher {
 public:
  explicit detach_matcher(std::string keys) : keys_(std::move(keys)) {}
  /// Adds to `through` what the program shall get. True once all keys were typed in a row.
  bool feed(std::string_view typed, std::string& through);

 private:
  std::string keys_;
  std::size_t matched_ = 0;
};

}  // namespace kit
