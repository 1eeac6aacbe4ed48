// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>

/// \file
/// What a container's monitor and its clients say to each other, and how the monitor is started. Plain
/// constants: the monitor links neither libstdc++ nor any room: of headers it has this one
/// and kit/system/pidfd_info.hpp.

namespace kit::monitor {

/// Head of a frame: type, three zero bytes, length of what follows as 32 bits big endian. The form is that of
/// Docker's attach stream.
struct frame_head {
  unsigned char type;
  unsigned char zero[3];
  unsigned char length[4];
};
static_assert(sizeof(frame_head) == 8);

enum frame : unsigned char {
  // client -> monitor
  stdin_data = 0,
  stdin_end = 'E',    ///< no more stdin: the program reads end of file
  window_size = 'W',  ///< rows, columns: 16 bits big endian each
  will_finish = 'F',  ///< this client removes what the exit leaves behind; the monitor need not
  // monitor -> client
  stdout_data = 1,
  stderr_data = 2,
  behind = 'B',  ///< `behind_body`: output this client did not take in time, which it was not sent
  exited = 'X',  ///< exit code, 32 bits big endian; the last frame
};
inline constexpr uint32_t largest_frame = 64 * 1024;

/// A place in the log: old files are "log.json.NUMBER", perhaps with ".gz", and "log.json" comes after the highest of them.
struct log_position {
  uint64_t number = 0, offset = 0;
};
/// How many bytes a client was not sent, and between which places they stand in the log (number 0: they do not). Native
/// byte order.
struct behind_body {
  uint64_t bytes;
  log_position from, to;
};

/// Of the log's entries: Docker's json-file lines in log.json, or those of the Kubernetes CRI, "TIME STREAM P|F TEXT", in
/// log.txt.
enum class log_format : int { json, text };

/// Descriptors the launcher leaves open for the monitor, by number. Each may be closed (absent).
enum descriptor : int {
  waiter = 3,      ///< pidfd of the child that ends with the container's exit status
  output = 4,      ///< read end of stdout, or the terminal's master
  errors = 5,      ///< read end of stderr
  input = 6,       ///< write end of stdin
  log = 7,         ///< the directory of log.json, which is made when there is something to log
  listener = 8,    ///< listening socket for clients
  starter = 9,     ///< connection to the command that started the container
  directory = 10,  ///< the container's directory: exit.json goes there
  namespaces =
      11,  ///< the container's mount namespace: held so that its teardown, milliseconds of unmounting, comes after
           ///< the exit is told
  presence = 12,  ///< a lock on ROOT/presence.lock, held by being open
  first_free = 13,
};

}  // namespace kit::monitor
