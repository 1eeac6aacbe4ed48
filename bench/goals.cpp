// SPDX-License-Identifier: Apache-2.0
#include "goals.hpp"

#include <fmt/core.h>

#include <cmath>
#include <limits>

#include "statistics.hpp"

namespace kit::bench {
namespace {

/// The ratio `over` / `under` of two contenders of one case.
struct goal {
  const char *study, *over, *under;
  double bound;
  bool at_least;
};
constexpr goal goals[] = {
    {"run-network", "kit", "floor", 1.5, false},
    {"run", "kit", "floor", 1.5, false},
    {"run", "crun", "kit", 2, true},
    {"run", "runc", "kit", 4, true},
    {"run-network", "podman", "kit", 35, true},
    {"run-network", "docker", "kit", 40, true},
    {"exec", "runc", "kit", 5, true},
    {"at-once-64", "crun", "kit", 1.5, true},
    {"size", "50,000 files", "10 files", 1.05, false},
    {"layers", "kit, 60 layers", "floor, 60 layers", 1.5, false},
    {"plugins", "plugins", "linked in", 1.05, false},
};

std::vector<double> walls(const json& study, const std::string& name) {
  std::vector<double> all;
  for (const json& c : study.at("contenders"))
    if (c.at("name") == name)
      for (const json& ms : c.at("wall_ms"))
        all.push_back(ms.is_number() ? ms.get<double>() : std::numeric_limits<double>::quiet_NaN());
  return all;
}

}  // namespace

json goals_met(const json& cases) {
  json table{{"title", "What kit aims at"},
             {"explain",
              "Medians of the ratios of samples of one turn, with the interval that holds them in 95 of 100 "
              "repetitions. Where a goal is missed, the table of steps below shows what holds the time."},
             {"columns", {"", "ratio", "goal", "here", "from", "to", ""}},
             {"rows", json::array()}};
  for (const goal& g : goals)
    for (const json& study : cases) {
      if (study.at("id") != g.study) continue;
      const std::vector<double> over = walls(study, g.over), under = walls(study, g.under);
      if (over.empty() || under.empty()) continue;
      const estimate e = ratio(over, under);
      const double missed = g.at_least ? g.bound / e.value : e.value / g.bound;
      table["rows"].push_back({study.at("title"), fmt::format("{} / {}", g.over, g.under),
                               fmt::format("{} {}", g.at_least ? "\u2265" : "\u2264", g.bound), e.value, e.low, e.high,
                               missed <= 1 ? "reached" : fmt::format("missed by {:.2f}x", missed)});
    }
  return table;
}

}  // namespace kit::bench
