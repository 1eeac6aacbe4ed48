// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <catch2/catch.hpp>
#include <string>
#include <string_view>

#include "kit/testing/suite.hpp"

namespace kit::testing {

/// Hands a conformance suite to Catch2: each check a section of the running test case. `run_one(name, sink)` runs the
/// check of that name. A check that does not apply says why on standard output.
template <class Checks, class RunOne>
void show(const Checks& checks, RunOne run_one) {
  for (const auto& c : checks) {
    DYNAMIC_SECTION(c.name) {
      run_one(c.name, [&](const outcome& o) {
        INFO(o.requirement);
        if (o.is == verdict::failed) FAIL_CHECK(o.reason);
        if (o.is == verdict::skipped) fmt::print("skipped: {}: {}\n", o.check, o.reason);
        if (o.is == verdict::passed) SUCCEED();
      });
    }
  }
}

}  // namespace kit::testing
