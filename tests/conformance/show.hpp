// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <catch2/catch.hpp>
#include <map>
#include <string>
#include <string_view>

#include "kit/testing/suite.hpp"

namespace kit::testing {

/// What came of the checks of each test case, told on standard output when the program ends: a line for each, which
/// tests/summary.awk puts in one table.
class tally {
 public:
  static void add(const outcome& o) {
    row& r = mine().rows_[Catch::getResultCapture().getCurrentTestName()];
    ++r.count[static_cast<int>(o.is)];
    if (o.is == verdict::skipped) ++r.reasons[without_scratch(o.reason)];
  }
  ~tally() {
    for (const auto& [name, r] : rows_) {
      fmt::print("checked: {}: {} passed, {} skipped, {} failed", name, r.count[0], r.count[1], r.count[2]);
      for (const auto& [reason, times] : r.reasons) fmt::print("; {}x {}", times, reason);
      fmt::print("\n");
    }
  }

 private:
  struct row {
    int count[3] = {};  ///< by verdict
    std::map<std::string, int> reasons;
  };
  /// The same for all checks, each of which has a directory of its own.
  static std::string without_scratch(std::string reason) {
    constexpr std::string_view name = "/kit-storage-";
    if (const auto at = reason.find(name); at != std::string::npos) reason.erase(at, name.size() + 6);
    return reason;
  }
  static tally& mine() {
    static tally t;
    return t;
  }
  std::map<std::string, row> rows_;
};

/// Hands a conformance suite to Catch2: each check a section of the running test case. `run_one(name, sink)` runs the
/// check of that name. A check that does not apply says why on standard output.
template <class Checks, class RunOne>
void show(const Checks& checks, RunOne run_one) {
  for (const auto& c : checks) {
    DYNAMIC_SECTION(c.name) {
      run_one(c.name, [&](const outcome& o) {
        INFO(o.requirement);
        tally::add(o);
        if (o.is == verdict::failed) FAIL_CHECK(o.reason);
        if (o.is == verdict::skipped) fmt::print("skipped: {}: {}\n", o.check, o.reason);
        if (o.is == verdict::passed) SUCCEED();
      });
    }
  }
}

}  // namespace kit::testing
