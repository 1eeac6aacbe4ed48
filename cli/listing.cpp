// SPDX-License-Identifier: Apache-2.0
#include "listing.hpp"

#include "template.hpp"

#include <ctime>
#include <nlohmann/json.hpp>
#include <range/v3/range/conversion.hpp>
#include <range/v3/view/filter.hpp>
#include <range/v3/view/transform.hpp>
#include <range/v3/view/zip.hpp>

namespace kit::cli {
namespace views = ranges::views;

void listing::bind(options& o) {
  o.flag("-q,--quiet", quiet_, "Print only the first column")
      .flag("--no-trunc", no_trunc_, "Do not shorten ids and commands")
      .value("--format", format_, "FORMAT", "json, or a template: '{{.ID}} {{.Names}}', 'table {{.ID}}\\t{{.Names}}'");
}

bool listing::shows(const std::string& field) const {
  if (!format_.empty() && format_ != "json")
    return format_.find(field) != format_.npos || format_.find("json .}") != format_.npos;
  return std::any_of(columns_.begin(), columns_.end(), [&](const column& c) { return c.field == field && c.header; });
}

void listing::show(const std::string& field, const char* header) {
  for (column& c : columns_)
    if (c.field == field) c.header = header;
}

nlohmann::ordered_json listing::object(const std::vector<std::string>& row) const {
  nlohmann::ordered_json object;
  for (std::size_t i = 0; i < columns_.size(); ++i) object[columns_[i].field] = row[i];
  return object;
}

void listing::print_aligned(const std::vector<std::vector<std::string>>& rows) const {
  // In characters: the … of a shortened command is one.
  const auto length = [](const std::string& text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  };
  std::vector<std::size_t> width;
  for (const auto& row : rows) {
    width.resize(std::max(width.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], length(row[i]));
  }
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i)
      line +=
          row[i] + std::string(i + 1 == row.size() ? 0 : std::max<std::size_t>(width[i] + 3, 10) - length(row[i]), ' ');
    fmt::print("{}\n", line);
  }
}

void listing::print() const {
  if (quiet_ && format_.empty()) {
    for (const auto& row : rows_) fmt::print("{}\n", row.front());
    return;
  }
  if (format_ == "json") {
    constexpr auto replace = nlohmann::ordered_json::error_handler_t::replace;
    for (const auto& row : rows_) fmt::print("{}\n", object(row).dump(-1, ' ', false, replace));
    return;
  }
  if (!format_.empty() && !format_.starts_with("table ")) {
    for (const auto& row : rows_) fmt::print("{}\n", render(format_, object(row)));
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
    nlohmann::ordered_json header;
    for (const column& c : columns_) {
      if (!c.header && header.contains(c.field)) continue;
      std::string upper = c.header ? c.header : c.field;
      for (char& letter : upper) letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
      header[c.field] = upper;
    }
    lines.push_back(split(render(format, header)));
    for (const auto& row : rows_) lines.push_back(split(render(format, object(row))));
  }
  print_aligned(lines);
}

std::vector<filter> parse_filters(const std::vector<std::string>& texts, const std::vector<std::string_view>& known) {
  std::vector<filter> filters;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == text.npos)
      throw usage_error("kit", fmt::format("bad format of filter {} (expected name=value)", text), 125);
    filter f{text.substr(0, equals), text.substr(equals + 1)};
    for (char& c : f.key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (std::find(known.begin(), known.end(), f.key) == known.end()) {
      std::string words;
      for (std::string_view k : known) words += fmt::format("{}{}", words.empty() ? "" : ", ", k);
      fail(errc::invalid, "invalid filter '{}'; there are {}", f.key, words);
    }
    filters.push_back(std::move(f));
  }
  return filters;
}

bool passes(const std::vector<filter>& filters, const std::vector<std::string_view>& any_of,
            const std::function<bool(const filter&)>& one) {
  const auto is_any = [&](const filter& f) { return std::find(any_of.begin(), any_of.end(), f.key) != any_of.end(); };
  for (const filter& f : filters) {
    if (!is_any(f)) {
      if (!one(f)) return false;
      continue;
    }
    if (std::none_of(filters.begin(), filters.end(), [&](const filter& g) { return g.key == f.key && one(g); }))
      return false;
  }
  return true;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (c == '\n' || c == '\t' || c == '\r')
      (out += '\\') += c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
    else if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out + '"';
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
  const auto begins = [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; };
  if (static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins)) <= most) return std::string(text);
  std::size_t end = 0;
  for (std::size_t characters = 0; end < text.size(); ++end)
    if (begins(text[end]) && ++characters == most) break;
  return std::string(text.substr(0, end)) + "…";
}

std::string brief_digest(std::string_view digest) {
  if (const std::size_t colon = digest.find(':'); colon != digest.npos) digest.remove_prefix(colon + 1);
  return std::string(digest.substr(0, 12));
}

}  // namespace kit::cli
