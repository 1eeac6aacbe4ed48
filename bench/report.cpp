// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kit/system/error.hpp"
#include "options.hpp"
#include "statistics.hpp"

namespace kit::bench {

namespace {

std::vector<double> numbers(const json& object, const char* key) {
  std::vector<double> all;
  if (object.contains(key))
    for (const json& v : object[key])
      all.push_back(v.is_number() ? v.get<double>() : std::numeric_limits<double>::quiet_NaN());
  return all;
}

std::size_t count(const std::vector<double>& values) {
  return static_cast<std::size_t>(std::count_if(values.begin(), values.end(), [](double v) { return !std::isnan(v); }));
}

const json& list(const json& object, const char* key) {
  static const json none = json::array();
  return object.contains(key) ? object[key] : none;
}

std::string word(const json& object, const char* key) {
  return object.contains(key) && object[key].is_string() ? object[key].get<std::string>() : "";
}

/// Three digits that mean something.
std::string figure(double v) {
  if (std::isnan(v)) return "-";
  if (v == 0) return "0";
  const double size = std::abs(v);
  return fmt::format("{:.{}f}", v, size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

/// One contender's figures, computed once for both forms of a report.
struct row {
  std::string name, what;
  summary wall, each;
  estimate against;  ///< its time divided by the first one's, pair by pair
  double cpu = 0, gone = 0, peak_mb = 0;
  std::size_t samples = 0;
  std::vector<double> walls;
  bool has_gone = false, is_process = false;
  std::vector<std::pair<std::string, double>> phases;  ///< name, median
};

std::vector<row> rows_of(const json& c) {
  std::vector<row> rows;
  std::vector<double> first;
  for (const json& one : list(c, "contenders")) {
    row r;
    r.name = word(one, "name");
    r.what = word(one, "what");
    r.walls = numbers(one, "wall_ms");
    r.wall = summarize(r.walls);
    r.each = summarize(numbers(one, "each_ms"));
    r.cpu = summarize(numbers(one, "cpu_ms")).p50;
    const std::vector<double> gone = numbers(one, "gone_ms");
    r.gone = summarize(gone).p50;
    r.has_gone = count(gone) > 0;
    r.peak_mb = one.value("peak_kb", 0.0) / 1024;
    r.is_process = one.contains("cpu_ms");
    for (const json& p : list(one, "phases")) r.phases.emplace_back(word(p, "name"), summarize(numbers(p, "ms")).p50);
    r.samples = count(r.walls);
    if (rows.empty()) first = r.walls;
    r.against = ratio(r.walls, first);
    rows.push_back(std::move(r));
  }
  return rows;
}

const row* find(const std::vector<row>& rows, const std::string& name) {
  const auto found = std::find_if(rows.begin(), rows.end(), [&](const row& r) { return r.name == name; });
  return found == rows.end() ? nullptr : &*found;
}

std::vector<std::string> header(const std::vector<row>& rows, bool several) {
  std::vector<std::string> h{"", "p50 ms", "p90", "p99", "max"};
  h.push_back(rows.empty() ? "" : "/ " + rows[0].name);
  h.push_back("95 % interval");
  if (!rows.empty())
    for (const auto& [name, median] : rows[0].phases) h.push_back(name);
  if (!rows.empty() && rows[0].is_process) h.insert(h.end(), {"CPU ms", "peak MB", "all gone ms"});
  h.push_back("samples");
  if (several) h.insert(h.end(), {"of one: p50", "p99", "per second"});
  return h;
}

std::vector<std::string> cells(const row& r, unsigned at_once, bool is_first) {
  std::vector<std::string> out{r.name,
                               figure(r.wall.p50),
                               figure(r.wall.p90),
                               figure(r.wall.p99),
                               figure(r.wall.max),
                               figure(r.against.value),
                               is_first ? "" : figure(r.against.low) + " - " + figure(r.against.high)};
  for (const auto& [name, median] : r.phases) out.push_back(figure(median));
  if (r.is_process)
    out.insert(out.end(), {figure(r.cpu), figure(r.peak_mb), r.has_gone ? figure(r.gone) : std::string("-")});
  out.push_back(std::to_string(r.samples));
  if (at_once > 1)
    out.insert(out.end(), {figure(r.each.p50), figure(r.each.p99), figure(at_once * 1000.0 / r.wall.p50)});
  return out;
}

struct plain_table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
};

/// A line for each case with kit first: its time, that time in times of the floor's, and everybody else's in times of its.
plain_table glance(const json& seen, const std::vector<std::string>& only = {}) {
  plain_table out{{"", "kit ms", "kit / floor"}, {}};
  std::vector<std::string> others;
  std::vector<std::pair<std::string, std::vector<row>>> cases;
  for (const json& c : list(seen, "cases")) {
    std::vector<row> rows = rows_of(c);
    if (rows.size() < 2 || rows[0].name != "kit") continue;
    for (const row& r : rows)
      if (r.name != "kit" && r.name != "floor" && std::find(others.begin(), others.end(), r.name) == others.end() &&
          (only.empty() || std::find(only.begin(), only.end(), r.name) != only.end()))
        others.push_back(r.name);
    cases.emplace_back(word(c, "title"), std::move(rows));
  }
  for (const std::string& name : others) out.columns.push_back(name + " / kit");
  for (const auto& [title, rows] : cases) {
    const row* floor = find(rows, "floor");
    std::vector<std::string> line{title, figure(rows[0].wall.p50),
                                  floor == nullptr ? "" : figure(ratio(rows[0].walls, floor->walls).value)};
    for (const std::string& name : others) {
      const row* r = find(rows, name);
      line.push_back(r == nullptr ? "" : figure(r->against.value));
    }
    out.rows.push_back(std::move(line));
  }
  return out;
}

/// The sentences somebody wants who reads one paragraph.
std::vector<std::string> sentences(const json& seen) {
  std::vector<std::string> all;
  for (const json& c : list(seen, "cases")) {
    const std::vector<row> rows = rows_of(c);
    const row* kit = find(rows, "kit");
    if (kit == nullptr || rows.size() < 2 || rows[0].name != "kit" || !word(c, "id").starts_with("run")) continue;
    std::string text = fmt::format("{}: kit takes {} ms", word(c, "title"), figure(kit->wall.p50));
    if (const row* floor = find(rows, "floor")) {
      const estimate e = ratio(kit->walls, floor->walls);
      text += fmt::format(", {} times what the kernel alone needs ({} - {})", figure(e.value), figure(e.low),
                          figure(e.high));
    }
    std::string others;
    for (const row& r : rows)
      if (r.name != "kit" && r.name != "floor")
        others += fmt::format("{}{} {} times as long", others.empty() ? "; " : ", ", r.name, figure(r.against.value));
    all.push_back(text + others + ".");
  }
  return all;
}

// ---- Markdown --------------------------------------------------------------------------------------------------------

void markdown_table(std::string& out, const std::vector<std::string>& columns,
                    const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> width(columns.size(), 3);
  const auto widen = [&](const std::vector<std::string>& line) {
    for (std::size_t i = 0; i < line.size(); ++i) width[i] = std::max(width[i], line[i].size());
  };
  widen(columns);
  for (const auto& r : rows) widen(r);
  const auto put = [&](const std::vector<std::string>& line) {
    for (std::size_t i = 0; i < line.size(); ++i)
      out += i == 0 ? fmt::format("| {:<{}} ", line[i], width[i]) : fmt::format("| {:>{}} ", line[i], width[i]);
    out += "|\n";
  };
  put(columns);
  for (std::size_t i = 0; i < columns.size(); ++i) out += "|" + std::string(width[i] + 1, '-') + (i == 0 ? "-" : ":");
  out += "|\n";
  for (const auto& r : rows) put(r);
  out += "\n";
}

std::string cell_text(const json& cell) {
  if (cell.is_string()) return cell.get<std::string>();
  if (cell.is_number_integer()) return std::to_string(cell.get<long>());
  return cell.is_number() ? figure(cell.get<double>()) : "-";
}

plain_table table_of(const json& t) {
  plain_table out;
  for (const json& c : list(t, "columns")) out.columns.push_back(c.get<std::string>());
  for (const json& r : list(t, "rows")) {
    std::vector<std::string> line;
    for (const json& c : r) line.push_back(cell_text(c));
    out.rows.push_back(std::move(line));
  }
  return out;
}

}  // namespace

std::string to_markdown(const json& seen) {
  std::string out = fmt::format("# {}\n\n", word(seen, "title"));
  if (seen.contains("machine"))
    for (const auto& [name, value] : seen["machine"].items()) out += fmt::format("{}: {}; ", name, cell_text(value));
  out += fmt::format("load average {} before, {} after\n\n", word(seen, "load_before"), word(seen, "load_after"));
  if (const plain_table all = glance(seen); !all.rows.empty()) markdown_table(out, all.columns, all.rows);
  for (const json& c : list(seen, "cases")) {
    out += fmt::format("## {}\n\n{}\n\n", word(c, "title"), word(c, "explain"));
    const unsigned at_once = c.value("at_once", 1U);
    const std::vector<row> rows = rows_of(c);
    std::vector<std::vector<std::string>> lines;
    for (const row& r : rows) lines.push_back(cells(r, at_once, lines.empty()));
    markdown_table(out, header(rows, at_once > 1), lines);
    for (const json& l : list(c, "left_out"))
      out += fmt::format("Left out: {}: {}\n\n", word(l, "name"), word(l, "reason"));
  }
  for (const json& t : list(seen, "tables")) {
    out += fmt::format("## {}\n\n{}\n\n", word(t, "title"), word(t, "explain"));
    const plain_table table = table_of(t);
    markdown_table(out, table.columns, table.rows);
  }
  if (!list(seen, "left_out").empty()) {
    out += "## Left out\n\n";
    for (const json& l : seen["left_out"]) out += fmt::format("- {}: {}\n", word(l, "name"), word(l, "reason"));
    out += "\n";
  }
  if (!list(seen, "notes").empty()) out += "## What the figures leave out\n\n";
  for (const json& n : list(seen, "notes")) out += fmt::format("- {}\n", n.get<std::string>());
  return out;
}

// ---- HTML ------------------------------------------------------------------------------------------------------------

namespace {

std::string escape(const std::string& text) {
  std::string out;
  bool code = false;
  for (const char c : text) switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '`': out += (code = !code) ? "<code>" : "</code>"; break;
      default: out += c;
    }
  return out;
}

/// One colour each, the same in every plot; kit's stands out. Told apart by those who see fewer colours, too.
const char* colour(const std::string& name) {
  static constexpr std::pair<const char*, const char*> own[] = {
      {"kit", "#d1495b"},         {"floor", "#8a8a8a"},          {"nsenter", "#8a8a8a"},    {"mount(2)", "#8a8a8a"},
      {"podman", "#7b4fa3"},      {"docker", "#2f7ed8"},         {"crun", "#2a9d8f"},       {"runc", "#e09f3e"},
      {"lxc-execute", "#5c8a3a"}, {"systemd-nspawn", "#a0522d"}, {"bubblewrap", "#c77dba"}, {"unshare", "#4a6fa5"}};
  for (const auto& [who, what] : own)
    if (name.starts_with(who)) return what;
  static constexpr const char* others[] = {"#d1495b", "#2a9d8f", "#e09f3e", "#7b4fa3", "#2f7ed8",
                                           "#5c8a3a", "#a0522d", "#c77dba", "#4a6fa5"};
  // By what stands before its size: "NAME, 10 files" and "NAME: 10 of 10" are one.
  static std::vector<std::string> met;
  const std::string who = name.substr(0, name.find_first_of(",:"));
  const auto at = std::find(met.begin(), met.end(), who);
  const auto place = static_cast<std::size_t>(at - met.begin());
  if (at == met.end()) met.push_back(who);
  return others[place % std::size(others)];
}

struct axis {
  double low = 0, high = 1;
  bool logarithmic = false;
  double from = 0, to = 1;  ///< pixels

  [[nodiscard]] double at(double v) const {
    const double part =
        logarithmic ? std::log(std::max(v, low) / low) / std::log(high / low) : (v - low) / (high - low);
    return from + (to - from) * std::clamp(part, 0.0, 1.0);
  }
  [[nodiscard]] std::vector<double> ticks() const {
    std::vector<double> all;
    if (logarithmic) {
      for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10)
        for (const double step : {1.0, 2.0, 5.0})
          if (decade * step >= low && decade * step <= high) all.push_back(decade * step);
    } else {
      const double rough = (high - low) / 5, power = std::pow(10, std::floor(std::log10(rough)));
      const double step = power * (rough / power < 1.5 ? 1 : rough / power < 3.5 ? 2 : rough / power < 7.5 ? 5 : 10);
      for (double v = std::ceil(low / step) * step; v <= high * 1.0001; v += step) all.push_back(v);
    }
    return all;
  }
};

std::string tick_text(double v) { return v == std::round(v) ? fmt::format("{:.0f}", v) : fmt::format("{:g}", v); }

/// A line for each contender: every sample a dot, the middle eight of ten a bar, the median a mark with its figure.
std::string strip_plot(const std::vector<row>& rows) {
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const row& r : rows) low = std::min(low, r.wall.min), high = std::max(high, r.wall.max);
  if (rows.empty() || !(high > 0)) return "";
  std::size_t longest = 0;
  for (const row& r : rows) longest = std::max(longest, r.name.size());
  const double names = std::max(142.0, static_cast<double>(longest) * 7.2);
  axis x{low / 1.3, high * 1.15, true, names + 8, 790};
  const int line = 34, top = 8, bottom = top + line * static_cast<int>(rows.size());
  std::string out = fmt::format("<svg viewBox='0 0 940 {}' role='img' aria-label='samples of each'>\n", bottom + 40);
  for (const double t : x.ticks()) {
    out += fmt::format("<line class='grid' x1='{0:.1f}' x2='{0:.1f}' y1='{1}' y2='{2}'/>", x.at(t), top, bottom);
    out += fmt::format("<text class='tick' x='{:.1f}' y='{}'>{}</text>\n", x.at(t), bottom + 16, tick_text(t));
  }
  out += fmt::format(
      "<text class='label' x='{}' y='{}'>milliseconds; each step to the right is so many times longer</text>\n",
      (x.from + x.to) / 2, bottom + 34);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const row& r = rows[i];
    const double y = top + line * (static_cast<double>(i) + 0.5);
    const char* c = colour(r.name);
    out += fmt::format("<text class='name{}' x='{:.0f}' y='{:.1f}'>{}</text>", i == 0 ? " first" : "", names, y + 4,
                       escape(r.name));
    std::vector<double> sorted;
    for (const double v : r.walls)
      if (!std::isnan(v)) sorted.push_back(v);
    const std::size_t shown = sorted.size();
    std::size_t k = 0;
    for (const double v : sorted)
      // Beside each other by turns, so that dots of one value stay visible.
      out += fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='2.2' fill='{}' fill-opacity='{}'/>", x.at(v),
                         y + (static_cast<double>(k++ % 5) - 2) * 3.2, c, shown > 60 ? "0.25" : "0.4");
    std::sort(sorted.begin(), sorted.end());
    const double p10 = percentile(sorted, 0.1);
    out += fmt::format("<rect x='{:.1f}' y='{:.1f}' width='{:.1f}' height='6' rx='3' fill='{}' fill-opacity='0.55'/>",
                       x.at(p10), y - 3, std::max(x.at(r.wall.p90) - x.at(p10), 2.0), c);
    out +=
        fmt::format("<rect x='{:.1f}' y='{:.1f}' width='3' height='20' fill='{}'/>", x.at(r.wall.p50) - 1.5, y - 10, c);
    out += fmt::format("<text class='value{}' x='800' y='{:.1f}'>{} ms{}</text>\n", i == 0 ? " first" : "", y + 4,
                       figure(r.wall.p50), i == 0 ? "" : " &#183; " + figure(r.against.value) + "&#215;");
  }
  return out + "</svg>\n";
}

std::string curve_plot(const json& curve) {
  const bool logarithmic = curve.value("logarithmic", false);
  axis x{0, 1, logarithmic, 70, 900}, y{0, 0, logarithmic, 300, 12};
  double x_high = 0, x_low = std::numeric_limits<double>::infinity(), y_low = x_low;
  for (const json& s : list(curve, "series"))
    for (const json& p : list(s, "points")) {
      x_high = std::max(x_high, p[0].get<double>());
      x_low = std::min(x_low, p[0].get<double>());
      y.high = std::max(y.high, p[1].get<double>());
      y_low = std::min(y_low, p[1].get<double>());
    }
  if (!(x_high > 0) || !(y.high > 0)) return "";
  x.high = x_high;
  y.high *= 1.08;
  if (logarithmic) {
    x.low = std::max(x_low, 1e-3);
    y.low = std::max(y_low / 1.2, 1e-3);
    if (!(x.high > x.low)) return "";
  }
  std::string out = fmt::format("<svg viewBox='0 0 940 {}' role='img' aria-label='curve'>\n",
                                360 + (list(curve, "series").size() - 1) / 6 * 18);
  for (const double t : y.ticks())
    out += fmt::format(
        "<line class='grid' x1='70' x2='900' y1='{0:.1f}' y2='{0:.1f}'/><text class='tick' style='text-anchor:end' "
        "x='62' "
        "y='{1:.1f}'>{2}</text>\n",
        y.at(t), y.at(t) + 4, tick_text(t));
  for (const double t : x.ticks())
    out += fmt::format("<text class='tick' x='{:.1f}' y='318'>{}</text>\n", x.at(t), tick_text(t));
  out += fmt::format("<text class='label' x='485' y='340'>{}</text>", escape(word(curve, "x")));
  out +=
      fmt::format("<text class='label' style='text-anchor:start' x='74' y='24'>{}</text>\n", escape(word(curve, "y")));
  int legend = 0;
  for (const json& s : list(curve, "series")) {
    const std::string name = word(s, "name");
    const char* c = colour(name);
    std::vector<std::pair<double, double>> points;
    for (const json& p : list(s, "points")) points.emplace_back(p[0].get<double>(), p[1].get<double>());
    for (const auto& [px, py] : points)
      out +=
          fmt::format("<circle cx='{:.1f}' cy='{:.1f}' r='1.8' fill='{}' fill-opacity='0.3'/>", x.at(px), y.at(py), c);
    // The medians of twenty parts.
    std::string line;
    const std::size_t part = std::max<std::size_t>(points.size() / 20, 1);
    for (std::size_t i = 0; i + part <= points.size(); i += part) {
      std::vector<double> ys;
      for (std::size_t k = i; k < i + part; ++k) ys.push_back(points[k].second);
      std::sort(ys.begin(), ys.end());
      line += fmt::format("{:.1f},{:.1f} ", x.at(points[i + part / 2].first), y.at(percentile(ys, 0.5)));
    }
    out += fmt::format("<polyline points='{}' fill='none' stroke='{}' stroke-width='2.5'/>", line, c);
    out += fmt::format(
        "<rect x='{}' y='{}' width='14' height='6' fill='{}'/><text class='tick' style='text-anchor:start' x='{}' "
        "y='{}'>{}</text>\n",
        70 + legend % 6 * 140, 349 + legend / 6 * 18, c, 90 + legend % 6 * 140, 356 + legend / 6 * 18, escape(name));
    ++legend;
  }
  return out + "</svg>\n";
}

void html_table(std::string& out, const std::vector<std::string>& columns,
                const std::vector<std::vector<std::string>>& rows) {
  out += "<div class='wide'><table><thead><tr>";
  for (const std::string& c : columns) out += "<th>" + escape(c) + "</th>";
  out += "</tr></thead><tbody>\n";
  for (const auto& r : rows) {
    out += "<tr>";
    for (const std::string& c : r) out += "<td>" + escape(c) + "</td>";
    out += "</tr>\n";
  }
  out += "</tbody></table></div>\n";
}

constexpr const char* about_containers =
    "A <em>container</em> is a program that runs in a world of its own: its own files, network, process numbers "
    "and limits, "
    "on the machine's one kernel. A <em>container runtime</em> makes that world and removes it again. "
    "<strong>kit</strong> is "
    "one; beside it stand those that people use today, measured on the same machine in the same run, in turns. The "
    "<strong>floor</strong> is what the kernel alone needs for what kit does: the same system calls with no tool "
    "around "
    "them.";

constexpr const char* plot_style =
    "<style>text{font:12px system-ui,sans-serif;fill:#7d8590}.grid{stroke:#7d859055}.tick,.label{text-anchor:middle}"
    ".name{text-anchor:end;font-size:13px}.first{font-weight:700}</style>";

constexpr const char* style = R"(
:root { color-scheme: light dark; --ink: #1d2329; --soft: #626b75; --line: #d9dde2; --paper: #fff; --box: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #9aa3ad; --line: #3a4149; --paper: #16191d; --box: #1f2429; } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 980px; margin: 2.5em auto; padding: 0 1.2em; }
h1 { font-size: 1.9em; line-height: 1.2; margin-bottom: .3em; } h2 { font-size: 1.25em; margin: 2.4em 0 .3em; }
p, li { max-width: 46em; } .soft { color: var(--soft); } .wide { overflow-x: auto; }
.summary { background: var(--box); border-radius: 8px; padding: .6em 1.4em; } .summary li { margin: .4em 0; }
table { border-collapse: collapse; font-size: .82em; margin: .6em 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25em .55em; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 500; white-space: normal; vertical-align: bottom; } td:first-child, th:first-child { text-align: left; font-weight: 600; }
dl { display: grid; grid-template-columns: max-content auto; gap: .2em 1em; font-size: .9em; } dt { font-weight: 600; } dd { margin: 0; color: var(--soft); }
details { margin: .4em 0 0; } summary { cursor: pointer; color: var(--soft); }
svg { width: 100%; height: auto; display: block; margin: .8em 0; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .grid { stroke: var(--line); } svg .tick { text-anchor: middle; fill: var(--soft); } svg .label { text-anchor: middle; fill: var(--soft); }
svg .name { text-anchor: end; font-size: 13px; } svg .value { font-size: 12.5px; } svg .first { font-weight: 700; }
)";

}  // namespace

std::string to_html(const json& seen) {
  std::string out = fmt::format(
      "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
      "content='width=device-width'>\n"
      "<title>{0}</title><style>{1}</style></head><body>\n<h1>{0}</h1>\n",
      escape(word(seen, "title")), style);
  out += "<p>" + (seen.contains("about") ? escape(word(seen, "about")) : std::string(about_containers)) + "</p>\n";
  const std::vector<std::string> said = sentences(seen);
  if (!said.empty()) {
    out += "<ul class='summary'>\n";
    for (const std::string& s : said) out += "<li>" + escape(s) + "</li>\n";
    out += "</ul>\n";
  }
  if (const plain_table all = glance(seen); !all.rows.empty()) html_table(out, all.columns, all.rows);
  if (!list(seen, "cases").empty())
    out +=
        "<p class='soft'>How to read the plots: each dot is one sample, the bar holds the middle eight of ten, the "
        "upright mark is "
        "the median, written at the right with how many times the first line's it is. The scale is logarithmic. "
        "Shorter, so "
        "further left, is better.</p>\n";
  for (const json& c : list(seen, "cases")) {
    const std::vector<row> rows = rows_of(c);
    const unsigned at_once = c.value("at_once", 1U);
    out += fmt::format("<h2 id='{}'>{}</h2>\n<p>{}</p>\n", escape(word(c, "id")), escape(word(c, "title")),
                       escape(word(c, "explain")));
    out += strip_plot(rows);
    std::vector<std::vector<std::string>> lines;
    for (const row& r : rows) lines.push_back(cells(r, at_once, lines.empty()));
    html_table(out, header(rows, at_once > 1), lines);
    out += "<details><summary>What each of them does</summary><dl>\n";
    for (const row& r : rows) out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape(r.name), escape(r.what));
    out += "</dl></details>\n";
    for (const json& l : list(c, "left_out"))
      out += fmt::format("<p class='soft'>Left out: {}: {}</p>\n", escape(word(l, "name")), escape(word(l, "reason")));
  }
  for (const json& c : list(seen, "curves"))
    out +=
        fmt::format("<h2>{}</h2>\n<p>{}</p>\n{}", escape(word(c, "title")), escape(word(c, "explain")), curve_plot(c));
  for (const json& t : list(seen, "tables")) {
    out += fmt::format("<h2>{}</h2>\n<p>{}</p>\n", escape(word(t, "title")), escape(word(t, "explain")));
    const plain_table table = table_of(t);
    html_table(out, table.columns, table.rows);
  }
  out +=
      "<h2>Words</h2>\n<dl>"
      "<dt>p50, p90, p99, max</dt><dd>of 100 samples 50, 90 or 99 were at most this long; the longest. With fewer than "
      "100 "
      "samples p99 is the longest.</dd>"
      "<dt>/ NAME</dt><dd>the median of the ratios of two samples of one turn, so that whatever else the machine did "
      "at "
      "that moment "
      "falls on both; behind it the interval that holds it in 95 of 100 repetitions (bootstrap)</dd>"
      "<dt>all gone</dt><dd>until the last process that the command left behind had ended, too</dd></dl>\n";
  if (!list(seen, "left_out").empty()) {
    out += "<h2>Left out</h2>\n<dl>\n";
    for (const json& l : seen["left_out"])
      out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape(word(l, "name")), escape(word(l, "reason")));
    out += "</dl>\n";
  }
  if (!list(seen, "notes").empty()) {
    out += "<h2>What the figures leave out</h2>\n<ul>\n";
    for (const json& n : seen["notes"]) out += "<li>" + escape(n.get<std::string>()) + "</li>\n";
    out += "</ul>\n";
  }
  out += "<h2>The machine</h2>\n<dl>\n";
  if (seen.contains("machine"))
    for (const auto& [name, value] : seen["machine"].items())
      out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(cell_text(value)));
  out += fmt::format("<dt>load average</dt><dd>{} before, {} after</dd></dl>\n</body></html>\n",
                     escape(word(seen, "load_before")), escape(word(seen, "load_after")));
  return out;
}

void write_report(const json& seen, const std::string& base) {
  replace_file(base + ".json", seen.dump() + "\n");
  replace_file(base + ".md", to_markdown(seen));
  replace_file(base + ".html", to_html(seen));
}

int report_command(const command& words) {
  std::string plotted;
  std::vector<std::string> compared;
  const command files =
      parse(words,
            {"report FILE.json",
             "The summary and the page of a benchmark's JSON once more: FILE.md and FILE.html beside it."},
            {{"--plot", "CASE", "print the plot of this case alone, as SVG", text(plotted)},
             {"--table", "PEER,...", "print the table of ratios alone, with these peers", list(compared)}});
  if (files.size() != 1) fail(errc::invalid, "report takes one FILE.json");
  std::string base = files[0];
  const json seen = json::parse(read_file(base), nullptr, false);
  if (seen.is_discarded() || !seen.is_object() || !seen.contains("benchmark"))
    fail(errc::invalid, "report {}: it holds no benchmark's JSON", base);
  if (base.ends_with(".json")) base.resize(base.size() - 5);
  try {
    if (!compared.empty()) {
      const plain_table table = glance(seen, compared);
      std::string out;
      markdown_table(out, table.columns, table.rows);
      fmt::print("{}", out);
      return 0;
    }
    if (plotted.empty()) {
      replace_file(base + ".md", to_markdown(seen));
      replace_file(base + ".html", to_html(seen));
      return 0;
    }
    for (const json& c : list(seen, "cases"))
      if (word(c, "id") == plotted) {
        std::string svg = strip_plot(rows_of(c));
        svg.replace(0, 4, "<svg xmlns='http://www.w3.org/2000/svg'");
        // An image has no page to take its colours from: these are readable on light and dark.
        svg.insert(svg.find('>') + 1, plot_style);
        fmt::print("{}", svg);
        return 0;
      }
  } catch (const json::exception& e) {
    fail(errc::invalid, "report {}: {}", files[0], e.what());
  }
  fail(errc::not_found, "report {}: it has no case {}", files[0], plotted);
}

}  // namespace kit::bench
