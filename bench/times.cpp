// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include "kit/system/error.hpp"
#include "measure.hpp"
#include "options.hpp"
#include "report.hpp"
#include "startup.hpp"

namespace kit::bench {

int times_command(const command& words) {
  measuring how;
  bool as_json = false;
  unsigned rest = 0;
  command given = words, options;
  const auto end = std::find(given.begin(), given.end(), "--");
  options.assign(given.begin(), end);
  parse(options,
        {"times [OPTIONS] -- NAME COMMAND [ARG...] [-- NAME COMMAND [ARG...]]...",
         "Any commands against each other, one sample of each in turn, in a random order."},
        {{"-n", "SAMPLES", "of each (50)", number(how.samples, 1, 1000000)},
         {"-p", "COUNT", "so many at once (1)", number(how.at_once, 1, 1000)},
         {"--rest", "MS", "between samples (0)", number(rest, 0, 60000)},
         {"--cold", "", "drop the page cache before each sample", flag(how.cold)},
         {"--json", "", "one JSON object with every sample", flag(as_json)}});
  how.rest_ms = rest;
  how.budget_ms = 1e12;
  std::vector<contender> all;
  for (auto at = end; at != given.end();) {
    const auto next = std::find(at + 1, given.end(), "--");
    if (next - at < 3) fail(errc::invalid, "times: a name and a command are expected after --");
    all.push_back({*(at + 1), "", [c = command(at + 2, next)](unsigned) { return commands{c}; }, {}, {}});
    at = next;
  }
  if (all.empty()) fail(errc::invalid, "times: there is no command; see kit bench times --help");
  catch_interrupts();
  const scratch place;
  json out{{"benchmark", "times"},
           {"title", "Commands, in turns"},
           {"machine", describe_machine(place)},
           {"load_before", load_average()}};
  json one{{"id", "times"}, {"title", "Wall time"}, {"explain", "From fork to waited for."}, {"at_once", how.at_once}};
  one["contenders"] = json::array();
  progress bar(1);
  const std::vector<samples> seen = measure(all, how, bar, "times");
  for (std::size_t i = 0; i < all.size(); ++i)
    if (seen[i].failure.empty())
      one["contenders"].push_back(to_json(all[i], seen[i]));
    else
      one["left_out"].push_back({{"name", all[i].name}, {"reason", seen[i].failure}});
  out["cases"].push_back(std::move(one));
  out["load_after"] = load_average();
  fmt::print("{}\n", as_json ? out.dump() : to_markdown(out));
  return 0;
}

}  // namespace kit::bench
