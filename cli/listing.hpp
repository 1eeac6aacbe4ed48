// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "options.hpp"

namespace kit::cli {

/// A list as `ps`, `images` and the like print it: aligned columns, or only ids (-q), or by --format. The first
/// column is the id.
class listing {
 public:
  struct column {
    const char* field;   ///< its name in templates and JSON: "RunningFor"
    const char* header;  ///< "CREATED"; nullptr: shown only through --format
  };
  explicit listing(std::vector<column> columns) : columns_(std::move(columns)) {}

  /// Adds -q, --format and --no-trunc to a verb.
  void bind(options&);
  [[nodiscard]] bool full_ids() const noexcept { return no_trunc_; }
  /// Whether the rows' column will be seen: for what is costly to find out.
  [[nodiscard]] bool shows(const std::string& field) const;
  /// Another header for a column, or one for a column without.
  void show(const std::string& field, const char* header);
  void clear() { rows_.clear(); }
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void print() const;

 private:
  [[nodiscard]] nlohmann::ordered_json object(const std::vector<std::string>& row) const;
  void print_aligned(const std::vector<std::vector<std::string>>& rows) const;
  std::vector<column> columns_;
  std::vector<std::vector<std::string>> rows_;
  std::string format_;
  bool quiet_ = false, no_trunc_ = false;
};

/// One `--filter KEY=VALUE`. Throws usage_error for what is no pair, invalid unless KEY is one of `known`.
struct filter {
  std::string key, value;
};
/// Whether all are passed; of several with one of the keys `any_of`, one is enough.
bool passes(const std::vector<filter>& filters, const std::vector<std::string_view>& any_of,
            const std::function<bool(const filter&)>& one);
std::vector<filter> parse_filters(const std::vector<std::string>& texts, const std::vector<std::string_view>& known);

std::string human_duration(std::int64_t nanoseconds);  ///< "About a minute", "3 hours"
std::string human_size(std::uint64_t bytes);           ///< decimal: "206MB"
std::string human_memory(std::uint64_t bytes);         ///< binary: "1.5MiB"
std::string local_time(std::int64_t ns);
/// As Go prints a string in quotation marks.
std::string quoted(std::string_view text);
std::string shortened(std::string_view text, std::size_t most);
std::string brief_digest(std::string_view digest);  ///< twelve digits, without "sha256:"

}  // namespace kit::cli
