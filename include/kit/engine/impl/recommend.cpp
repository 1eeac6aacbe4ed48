// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/recommend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kit/system/error.hpp"

namespace kit {
namespace {

constexpr figure all_figures[] = {
    {"provision_ms", "a root file system made, mounted, removed", "ms", 0.2},
    {"provision_layers_ms", "the same over many layers", "ms", 0.2},
    {"parallel_8_ms", "eight of them at once", "ms", 1},
    {"first_write_1m_ms", "first write to a file of 1 MB", "ms", 0.05},
    {"update_write_ms", "four bytes in each of ten files of 1 MB", "ms", 0.1},
    {"update_commit_ms", "these brought to the disk as a layer", "ms", 0.5},
    {"untar_ms", "hundreds of files made", "ms", 1},
    {"find_ms", "all files looked at", "ms", 0.5},
    {"rm_ms", "all files removed", "ms", 1},
    {"diff_ms", "what ten changes made of an image", "ms", 0.5},
    {"read_mb_s", "a file read by twenty containers", "MB/s", 50, true},
    {"random_read_mb_s", "the same at random", "MB/s", 50, true},
    {"page_cache_times", "page cache for it, in times of the file", "x", 1},
    {"clone_memory_kb", "memory of an idle clone", "KB", 64},
    {"clone_disk_kb", "disk of an idle clone", "KB", 16},
};

// The weights: 3 is what the purpose is about, 1 is what it also feels.
constexpr weight of_everything[] = {{"provision_ms", 2},
                                    {"provision_layers_ms", 1},
                                    {"first_write_1m_ms", 1},
                                    {"update_write_ms", 1},
                                    {"untar_ms", 1},
                                    {"find_ms", 1},
                                    {"rm_ms", 1},
                                    {"diff_ms", 1},
                                    {"read_mb_s", 1},
                                    {"page_cache_times", 1},
                                    {"clone_disk_kb", 1}};
constexpr weight of_builds[] = {{"untar_ms", 3},         {"rm_ms", 2},
                                {"find_ms", 2},          {"diff_ms", 3},
                                {"update_commit_ms", 2}, {"provision_layers_ms", 1},
                                {"first_write_1m_ms", 1}};
constexpr weight of_databases[] = {
    {"update_write_ms", 3}, {"first_write_1m_ms", 3}, {"random_read_mb_s", 2}, {"read_mb_s", 1}};
constexpr weight of_functions[] = {{"provision_ms", 3},
                                   {"provision_layers_ms", 2},
                                   {"parallel_8_ms", 3},
                                   {"page_cache_times", 2},
                                   {"clone_disk_kb", 1}};
constexpr weight of_desktops[] = {{"provision_ms", 1},      {"untar_ms", 2},      {"find_ms", 2},  {"rm_ms", 1},
                                  {"first_write_1m_ms", 1}, {"clone_disk_kb", 2}, {"read_mb_s", 1}};
constexpr weight of_density[] = {
    {"clone_memory_kb", 2}, {"clone_disk_kb", 3}, {"page_cache_times", 3}, {"parallel_8_ms", 1}, {"provision_ms", 1}};

constexpr purpose all_purposes[] = {
    {"anything", "a bit of everything", of_everything},
    {"build", "many small files made, found, removed; diffs and commits", of_builds},
    {"database", "small writes in the middle of large files, random reads", of_databases},
    {"serverless", "roots made and removed all the time, many at once, of few images", of_functions},
    {"desktop", "a few containers, used by hand, on a disk that has other uses", of_desktops},
    {"density", "as many idle containers as the host can hold", of_density},
};

const figure* find_figure(std::string_view key) {
  const auto* const at =
      std::find_if(std::begin(all_figures), std::end(all_figures), [&](const figure& f) { return f.key == key; });
  return at == std::end(all_figures) ? nullptr : at;
}

/// Less is better, and never less than the least that counts.
double cost(const figure& f, double value) {
  return f.more_is_better ? 1 / std::max(value, f.least) : std::max(value, f.least);
}

std::string amount(const figure& f, double value) {
  return fmt::format("{:.{}f} {}", value, value >= 100 ? 0 : value >= 10 ? 1 : 2, f.unit);
}

}  // namespace

std::span<const figure> figures() { return all_figures; }
std::span<const purpose> purposes() { return all_purposes; }

const purpose& find_purpose(std::string_view name) {
  std::string known;
  for (const purpose& p : all_purposes) {
    if (p.name == name) return p;
    known += (known.empty() ? "" : ", ") + std::string(p.name);
  }
  fail(errc::invalid, "no such purpose: {}; there is {}", name, known);
}

std::vector<ranked_driver> rank(const purpose& p,
                                const std::map<std::string, std::map<std::string, double>>& measured) {
  std::vector<ranked_driver> all;
  for (const auto& [name, values] : measured) all.push_back({name, 1, {}});
  double whole = 0;
  std::vector<double> sums(all.size());
  for (const weight& w : p.weights) {
    const figure& f = *find_figure(w.key);
    double best = std::numeric_limits<double>::infinity(), worst = 0;
    for (const auto& [name, values] : measured)
      if (const auto v = values.find(std::string(w.key)); v != values.end()) {
        best = std::min(best, cost(f, v->second));
        worst = std::max(worst, cost(f, v->second));
      }
    if (worst == 0) continue;
    whole += w.weight;
    std::size_t i = 0;
    for (const auto& [name, values] : measured) {
      const auto v = values.find(std::string(w.key));
      const bool known = v != values.end();
      const double times = (known ? cost(f, v->second) : worst) / best;
      all[i].parts.push_back({&f, w.weight, known ? v->second : std::numeric_limits<double>::quiet_NaN(), times});
      sums[i++] += w.weight * std::log(times);
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i)
    if (whole > 0) all[i].score = std::exp(sums[i] / whole);
  std::stable_sort(all.begin(), all.end(),
                   [](const ranked_driver& a, const ranked_driver& b) { return a.score < b.score; });
  return all;
}

std::string explain(const std::vector<ranked_driver>& ranking) {
  if (ranking.size() < 2) return {};
  const ranked_driver &first = ranking[0], &second = ranking[1];
  struct reason {
    double strength;
    std::string words;
  };
  std::vector<reason> fors, againsts;
  for (std::size_t i = 0; i < first.parts.size(); ++i) {
    const auto &a = first.parts[i], &b = second.parts[i];
    if (std::isnan(a.value) || std::isnan(b.value)) continue;
    const double strength = a.weight * std::log(b.times / a.times);
    // A tenth is noise.
    if (std::abs(std::log(b.times / a.times)) < 0.1) continue;
    (strength > 0 ? fors : againsts)
        .push_back({std::abs(strength), fmt::format("{}: {} against {} (weight {})", a.what->words,
                                                    amount(*a.what, a.value), amount(*b.what, b.value), a.weight)});
  }
  const auto tell = [](std::vector<reason>& reasons) {
    std::stable_sort(reasons.begin(), reasons.end(),
                     [](const reason& a, const reason& b) { return a.strength > b.strength; });
    std::string text;
    for (std::size_t i = 0; i < std::min<std::size_t>(reasons.size(), 3); ++i)
      text += (i == 0 ? "" : "; ") + reasons[i].words;
    return text;
  };
  const std::string good = tell(fors), bad = tell(againsts);
  std::string text = fmt::format("{} before {}", first.name, second.name);
  text += good.empty() ? ", by figures that differ by less than a tenth" : ", for " + good;
  return bad.empty() ? text : text + "; though " + bad;
}

}  // namespace kit
