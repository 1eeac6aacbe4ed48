// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <optional>

#include "host.hpp"

/// \file
/// The measuring loop: commands against each other, one sample of each in a turn, so that whatever else the machine does
/// falls on all of them.

namespace kit::bench {

using commands = std::vector<command>;

/// Who takes part.
struct contender {
  std::string name;
  std::string what;  ///< what it does, and what it does not, in half a sentence
  /// The commands of one sample, one after the other; `serial` is another number each time, for names.
  std::function<commands(unsigned serial)> timed;
  /// Untimed, before and after each sample of one.
  std::function<void(unsigned serial)> before, after;
  int mounts = -1, network = -1;    ///< namespaces the commands run in; -1: this process's
  std::vector<pid_t> daemons = {};  ///< whose CPU time counts, too, with their children's
  bool leaves_processes = false;    ///< which go on: a sample does not wait for them
};

struct measuring {
  unsigned samples = 50;
  unsigned least = 5;  ///< of a slow contender
  unsigned warmup = 2;
  unsigned at_once = 1;      ///< starts of one sample
  bool cold = false;         ///< the page cache is dropped before each sample
  double budget_ms = 30000;  ///< a slow contender gets fewer samples, so that all of its own take about this long
  double rest_ms = 20;       ///< between samples: what the kernel puts off must not fall on the next
};

/// What was seen, a figure each turn; NaN where it had none. Milliseconds.
struct samples {
  std::vector<double> wall;  ///< from fork to waited for; with several at once, until the last
  std::vector<double> gone;  ///< until every process of the command's was gone (monitors, shims it left behind)
  std::vector<double> cpu;   ///< user and system time of all of them
  std::vector<double> each;  ///< with several at once: each start's own time
  long peak_kb = 0;          ///< the largest resident set of one process
  std::string failure;       ///< why it was left out from some turn on
};

/// Tells how far a benchmark is: a bar on a terminal, nothing elsewhere.
class progress {
 public:
  explicit progress(double whole);
  ~progress();
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;
  void step(const std::string& what, double by);

 private:
  void clear() const;
  bool on_terminal_;
  double whole_, done_ = 0, begun_;
};

/// The loop of all measurements: calls `take(i, counts)` for each of `names` in turns, in another random order each turn
/// (with a fixed seed), as often as its cost (ms, what take answers) allows; `pass(i)` where i has none in a turn. One
/// of which `out(i)` is true is left out from then on. `warmup` calls of each do not count.
void in_turns(const std::vector<std::string>& names, const measuring& how, progress& bar, const std::string& title,
              const std::function<double(std::size_t i, bool counts)>& take,
              const std::function<void(std::size_t i)>& pass, const std::function<bool(std::size_t i)>& out);

/// Measures all of `contenders` by in_turns. One that fails is left out from then on. Throws cancelled after an interrupt,
/// with nothing of its own still running.
std::vector<samples> measure(const std::vector<contender>& contenders, const measuring& how, progress& bar,
                             const std::string& title);

/// One sample of one contender, outside of any turn: its wall time. Throws io with its words if it fails.
double time_one(const contender& c, unsigned serial);

/// The samples of one contender as a report reads them.
json to_json(const contender& c, const samples& s);

}  // namespace kit::bench
