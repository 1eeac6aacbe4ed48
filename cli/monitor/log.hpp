// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "kit/engine/monitor_protocol.hpp"

/// \file
/// The log: entries appended to a file, which is rotated, in the directory that is descriptor `log`. In non-blocking
/// mode a process of its own writes it, and what that cannot take in time is lost, counted, and told in the log.

namespace kit::monitor {

struct log_options {
  log_format format = log_format::json;
  uint64_t max_size = 0;     ///< bytes after which a new file is begun; 0: never
  uint64_t max_files = 1;    ///< kept, with the one that is written
  bool compress = false;     ///< by a helper process, all but the newest of the old ones
  uint64_t buffer_size = 0;  ///< not 0: non-blocking mode, and what may wait for the writer
  bool kept = true;          ///< false: there is no log at all
};
extern log_options log_how;

/// Starts the writer of the non-blocking mode; else nothing is made before the first byte.
void begin_log();
void log_output(const unsigned char* bytes, size_t count, bool is_stderr);
/// What is still to be written is, and after a loss the log says so.
void end_log();

/// Where the next entry will stand; number 0: that is not known here.
log_position next_log_position();
/// Bytes that were lost so far.
uint64_t log_bytes_lost();
/// The descriptor to be polled for POLLOUT before flush_log(), -1: nothing waits.
int log_waits_for();
void flush_log();
/// Lets go of memory that only a busy log needs.
void rest_log();

/// Executes the helper with this verb (main's COMMAND), as a child. Its pid, or -1.
int run_helper(const char* verb);

}  // namespace kit::monitor
