// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "kit/engine/engine.hpp"
#include "kit/engine/monitor_protocol.hpp"
#include "kit/engine/spec.hpp"

/// \file
/// # Logs
///
/// A container's monitor appends what its program writes to a file in the container's directory, one entry a line; a line
/// without its newline is continued by the next entry of its stream. There are two forms of entries (log drivers):
///
/// - `json-file`, in log.json: Docker's, {"log":"...\n","stream":"stdout","time":"..."}. Bytes that are not UTF-8 stand as
///   U+FFFD in "log", and a member "base64", which other readers skip, has them exactly.
/// - `file`, in log.txt: plain text as Kubernetes' container runtimes write it, "TIME STREAM F text", and P in place of F
///   for a line without its newline.
///
/// A file of max-size bytes is renamed to log.json.NUMBER, and a new one begun. The number grows; it stays the file's as
/// long as it is kept, but for a ".gz" once it is compressed: so a reader that is anywhere in the log finds what comes
/// next, whatever happens meanwhile.

namespace kit {

struct log_entry {
  std::string text;  ///< with its newline, if the program wrote one; exact bytes
  bool is_stderr = false;
  std::string time;  ///< RFC 3339, nanoseconds, UTC
};

/// What --log-driver and --log-opt say.
struct log_settings {
  bool kept = true;  ///< false: the driver is "none"
  monitor::log_format format = monitor::log_format::json;
  std::uint64_t max_size = 0;   ///< bytes; 0: one file without an end
  std::uint64_t max_files = 1;  ///< kept, with the one that is written
  bool compress = false;        ///< old files, all but the newest
  std::uint64_t buffer_size =
      0;  ///< not 0: the program never waits for the log; beyond so many bytes its output is lost
  [[nodiscard]] std::string file_name() const { return format == monitor::log_format::json ? "log.json" : "log.txt"; }
};
/// Throws invalid for an unknown driver or option, naming it.
log_settings log_settings_of(const container_spec&);

struct log_options {
  bool follow = false;       ///< goes on until the container exits, and then to the log's last byte
  std::int64_t tail = -1;    ///< last N lines; -1: all
  std::string since, until;  ///< RFC 3339 or empty
};

/// Reports entries in the order they were written. `pause` is called before it waits for more. Throws unsupported if the
/// container keeps no log.
void read_log(engine&, const container_id&, const log_options&, function_ref<void(const log_entry&)> out,
              function_ref<void()> pause);

/// The entries between two places of the log. False if some of them are there no more.
bool read_log_range(engine&, const container_id&, monitor::log_position from, monitor::log_position to,
                    function_ref<void(const log_entry&)> out);

/// In kit-image (logs_archive.cpp). Compresses old files but the newest, unless another process is at it: the monitor
/// calls it by `kit internal compress`.
void compress_old_logs(engine&, const container_id&);
void unpack_log(const std::string& path, int to);

/// Bytes that the log of a running container could not take so far.
std::uint64_t log_bytes_lost(engine&, const container_record&);

}  // namespace kit
