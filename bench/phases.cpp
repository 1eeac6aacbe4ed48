// SPDX-License-Identifier: Apache-2.0
#include "phases.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <map>

#include "kit/system/fd.hpp"
#include "statistics.hpp"

namespace kit::bench {

json phases_of(const command& run, const std::string& directory, unsigned starts) {
  struct step {
    std::string process, name;
    std::vector<double> begin, took;
  };
  std::vector<step> steps;
  command traced = run;
  const std::string file = directory + "/trace.json";
  traced.insert(std::find(traced.begin(), traced.end(), "run") + 1, {"--trace", file});
  for (unsigned i = 0; i < starts; ++i) {
    stop_if_interrupted();
    must_run(traced);
    const json seen = json::parse(read_file(file)).at("traceEvents");
    std::map<int, std::string> processes;
    for (const json& e : seen)
      if (e.at("ph") == "M") processes[e.at("pid")] = e.at("args").at("name");
    for (const json& e : seen) {
      if (e.at("ph") != "X") continue;
      const std::string process = processes[e.at("pid")], name = e.at("name");
      auto at = std::find_if(steps.begin(), steps.end(),
                             [&](const step& s) { return s.process == process && s.name == name; });
      if (at == steps.end()) at = steps.insert(at, {process, name, {}, {}});
      at->begin.push_back(e.at("ts").get<double>() / 1000);
      at->took.push_back(e.at("dur").get<double>() / 1000);
    }
  }
  const auto median = [](const std::vector<double>& ms) { return summarize(ms).p50; };
  std::stable_sort(steps.begin(), steps.end(),
                   [&](const step& a, const step& b) { return median(a.begin) < median(b.begin); });
  json table{
      {"title", "Where kit's time goes"},
      {"explain",
       fmt::format("The steps of one start and end with a network, as `kit run --trace` tells them: medians of {} "
                   "starts, in milliseconds from the first step. The kernel's execution of kit before its first "
                   "step, and its end, are not in it. Steps of several processes run side by side, a step may "
                   "stand within another; `wait` steps are where kit waits for the launcher. `kit bench floor` "
                   "tells the same of the floor.",
                   starts)},
      {"columns", {"process", "step", "begins", "takes"}},
      {"rows", json::array()}};
  for (const step& s : steps)
    if (s.took.size() * 2 > starts) table["rows"].push_back({s.process, s.name, median(s.begin), median(s.took)});
  return table;
}

}  // namespace kit::bench
