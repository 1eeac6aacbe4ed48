// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

#include "kit/plugin/loader.hpp"
#include "kit/testing/suite.hpp"

namespace kit {

/// How many checks of a suite came out how.
struct check_counts {
  int passed = 0, skipped = 0, failed = 0;
};

/// Runs the conformance suite of p's family on p, or the check named `only`, and tells each outcome to `out`. What
/// `kit plugin check` does. Needs root; see kit/testing/ for what each suite needs besides. Throws not_found if no
/// check is named `only`. `libexec` is where kit's helper programs are (driver_config::libexec), for drivers that use them.
check_counts check_plugin(const plugin& p, testing::outcome_sink out, std::string_view only = {},
                          const std::string& libexec = {});

}  // namespace kit
