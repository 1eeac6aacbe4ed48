// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kit/engine/logs.hpp"
#include "kit/system/fd.hpp"

namespace kit::detail {

/// One line of a log file; empty if it is none (a write that a full disk cut short).
std::optional<log_entry> parse_log_line(std::string_view line, monitor::log_format);

/// A file that was rotated.
struct old_log_file {
  std::uint64_t number;
  bool packed;
};
std::vector<old_log_file> old_log_files(const std::string& directory, const log_settings&);  // by number

/// Reads a log's entries, across its files, as they stand now; asked again, what came since.
class log_reader {
 public:
  /// `unpack`: the command whose stdout is the contents of a compressed file that is its last argument.
  log_reader(std::string directory, const log_settings&, std::vector<std::string> unpack);

  /// Goes to the first file that is left; or, with `since`, that has something so new.
  void to_begin(std::int64_t since_ns = 0);
  /// Goes to where the last `lines` of those lines begin that `wanted` likes.
  void to_last_lines(std::int64_t lines, function_ref<bool(const log_entry&)> wanted);
  void to(monitor::log_position);

  /// The next whole entry; none at what is the end now.
  std::optional<log_entry> next();
  /// Where it stands.
  [[nodiscard]] monitor::log_position position() const { return {number_, offset_ - buffer_.size() + used_}; }
  /// Whether a file was gone before it was read.
  [[nodiscard]] bool missed() const { return missed_; }

 private:
  using old_file = old_log_file;
  [[nodiscard]] std::vector<old_file> old_files() const { return old_log_files(directory_, how_); }
  [[nodiscard]] std::string path_of(const old_file&) const;
  bool open_old(const old_file&);
  bool open_live();
  bool open_next();
  bool go_on();
  std::uint64_t tail_in(const std::string& path, std::int64_t& lines, bool& last,
                        function_ref<bool(const log_entry&)> wanted);

  std::string directory_;
  log_settings how_;
  std::vector<std::string> unpack_;

  unique_fd fd_;
  bool live_ = false;         // fd_ is the file that is written
  std::uint64_t number_ = 0;  // of the file that is read, or waited for
  std::uint64_t offset_ = 0;  // in it, of what was read
  std::string buffer_;
  std::size_t used_ = 0;
  bool missed_ = false;
};

}  // namespace kit::detail
