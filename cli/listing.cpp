// SPDX-License-Identifier: Apache-2.0
#include "listing.hpp"

#include <ctime>
#include <nlohmann/json.hpp>
#include <range/v3/range/conversion.hpp>
#include <range/v3/view/filter.hpp>
#include <range/v3/view/transform.hpp>
#include <range/v3/view/zip.hpp>

namespace kit::cli {
namespace views = ranges::views;

std::string render(std::string_view format, const field_lookup& field) {
  std::string out;
  while (!format.empty()) {
    if (format.starts_with("\\t") || format.starts_with("\\n")) {
      out += format[1] == 't' ? '\t' : '\n';
      format.remove_prefix(2);
    } else if (format.starts_with("{{")) {
      const std::size_t end = format.find("}}");
      if (end == format.npos) fail(errc::invalid, "format {}: no closing braces", format);
      std::string_view inside = format.substr(2, end - 2);
      const auto trim = [](std::string_view& s) {
        while (s.starts_with(' ')) s.remove_prefix(1);
        while (s.ends_with(' ')) s.remove_suffix(1);
      };
      trim(inside);
      const bool as_json = inside.starts_with("json ");
      if (as_json) inside.remove_prefix(5), trim(inside);
      if (!inside.starts_with('.') || inside.find(' ') != inside.npos)
        fail(errc::invalid, "format {}: only {{{{.Field}}}} and {{{{json .Field}}}} are understood",
             format.substr(0, end + 2));
      out += field(inside.substr(1), as_json);
      format.remove_prefix(end + 2);
    } else {
      out += format.front();
      format.remove_prefix(1);
    }
  }
  return out;
}

void listing::bind(options& o) {
  o.flag("-q,--quiet", quiet_, "Print only the first column")
      .flag("--no-trunc", no_trunc_, "Do not shorten ids and commands")
      .value("--format", format_, "FORMAT", "json, or a template: '{{.ID}} {{.Names}}', 'table {{.ID}}\\t{{.Names}}'");
}

field_lookup listing::lookup(const std::vector<std::string>& row) const {
  return [this, &row](std::string_view path, bool as_json) -> std::string {
    nlohmann::ordered_json object;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      if (path == columns_[i].field) return as_json ? nlohmann::json(row[i]).dump() : row[i];
      object[columns_[i].field] = row[i];
    }
    constexpr auto replace = nlohmann::ordered_json::error_handler_t::replace;
    if (path.empty()) return object.dump(-1, ' ', false, replace);
    std::string known;
    for (const column& c : columns_) known += fmt::format("{}.{}", known.empty() ? "" : " ", c.field);
    fail(errc::invalid, "format: no field .{}; there are {}", path, known);
  };
}

void listing::print_aligned(const std::vector<std::vector<std::string>>& rows) const {
  std::vector<std::size_t> width;
  for (const auto& row : rows) {
    width.resize(std::max(width.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i)
      line += i + 1 == row.size() ? row[i] : fmt::format("{:<{}}", row[i], std::max<std::size_t>(width[i] + 3, 10));
    fmt::print("{}\n", line);
  }
}

void listing::print() const {
  if (quiet_ && format_.empty()) {
    for (const auto& row : rows_) fmt::print("{}\n", row.front());
    return;
  }
  if (format_ == "json") {
    for (const auto& row : rows_) fmt::print("{}\n", lookup(row)("", true));
    return;
  }
  if (!format_.empty() && !format_.starts_with("table ")) {
    for (const auto& row : rows_) fmt::print("{}\n", render(format_, lookup(row)));
    return;
  }
  std::vector<std::vector<std::string>> lines;
  if (format_.empty()) {
    const auto shown = [&](const std::vector<std::string>& row) {
      return views::zip(columns_, row) | views::filter([](const auto& cell) { return cell.first.header != nullptr; }) |
             views::transform([](const auto& cell) { return std::string(cell.second); }) | ranges::to<std::vector>();
    };
    lines.push_back(shown(columns_ |
                          views::transform([](const column& c) { return std::string(c.header ? c.header : ""); }) |
                          ranges::to<std::vector>()));
    for (const auto& row : rows_) lines.push_back(shown(row));
  } else {
    const auto split = [](const std::string& line) {
      std::vector<std::string> cells(1);
      for (char c : line) c == '\t' ? void(cells.emplace_back()) : cells.back().push_back(c);
      return cells;
    };
    const std::string_view format = std::string_view(format_).substr(6);
    const auto header = [&](std::string_view path, bool) -> std::string {
      std::string text(path);
      for (const column& c : columns_)
        if (path == c.field && c.header) text = c.header;
      for (char& letter : text) letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
      return text;
    };
    lines.push_back(split(render(format, header)));
    for (const auto& row : rows_) lines.push_back(split(render(format, lookup(row))));
  }
  print_aligned(lines);
}

std::vector<filter> parse_filters(const std::vector<std::string>& texts, const std::vector<std::string_view>& known) {
  std::vector<filter> filters;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == text.npos) fail(errc::invalid, "filter {}: KEY=VALUE is expected", text);
    filter f{text.substr(0, equals), text.substr(equals + 1)};
    if (std::find(known.begin(), known.end(), f.key) == known.end()) {
      std::string words;
      for (std::string_view k : known) words += fmt::format("{}{}", words.empty() ? "" : ", ", k);
      fail(errc::invalid, "filter {}: unknown key; there are {}", text, words);
    }
    filters.push_back(std::move(f));
  }
  return filters;
}

std::string human_duration(std::int64_t nanoseconds) {
  const std::int64_t seconds = nanoseconds / 1'000'000'000;
  const std::int64_t minutes = seconds / 60;
  const std::int64_t hours = (seconds + 1800) / 3600;
  if (seconds < 1) return "Less than a second";
  if (seconds == 1) return "1 second";
  if (seconds < 60) return fmt::format("{} seconds", seconds);
  if (minutes == 1) return "About a minute";
  if (minutes < 60) return fmt::format("{} minutes", minutes);
  if (hours == 1) return "About an hour";
  if (hours < 48) return fmt::format("{} hours", hours);
  if (hours < 24 * 7 * 2) return fmt::format("{} days", hours / 24);
  if (hours < 24 * 30 * 2) return fmt::format("{} weeks", hours / 24 / 7);
  if (hours < 24 * 365 * 2) return fmt::format("{} months", hours / 24 / 30);
  return fmt::format("{} years", hours / 24 / 365);
}

namespace {
std::string scaled(std::uint64_t bytes, double base, const std::vector<const char*>& units, int digits) {
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= base && unit + 1 < units.size()) value /= base, ++unit;
  return value >= 999.5 ? fmt::format("{:.0f}{}", value, units[unit])
                        : fmt::format("{:.{}g}{}", value, digits, units[unit]);
}
}  // namespace

std::string human_size(std::uint64_t bytes) { return scaled(bytes, 1000, {"B", "kB", "MB", "GB", "TB", "PB"}, 3); }
std::string human_memory(std::uint64_t bytes) {
  return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"}, 4);
}

std::string local_time(std::int64_t ns) {
  const time_t seconds = ns / 1'000'000'000;
  tm t{};
  ::localtime_r(&seconds, &t);
  char text[64];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z %Z", &t);
  return std::string(text, size);
}

std::string shortened(std::string_view text, std::size_t most) {
  return text.size() <= most ? std::string(text) : std::string(text.substr(0, most - 1)) + "…";
}

std::string brief_digest(std::string_view digest) {
  if (const std::size_t colon = digest.find(':'); colon != digest.npos) digest.remove_prefix(colon + 1);
  return std::string(digest.substr(0, 12));
}

}  // namespace kit::cli
