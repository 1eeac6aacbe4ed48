// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include <exception>

#include "kit/plugin/check.hpp"

int main(int argc, char** argv) try {
  if (argc < 2 || argc > 3) {
    fmt::print(stderr, "usage: check PLUGIN.so [LIBEXEC]\n");
    return 2;
  }
  const auto show = [](const kit::testing::outcome& o) {
    constexpr const char* words[] = {"passed", "skipped", "FAILED"};
    fmt::print("{:<8} {} {}\n", words[static_cast<int>(o.is)], o.check, o.reason);
  };
  const auto counts = kit::check_plugin(kit::load_plugin_file(argv[1]), show, {}, argc == 3 ? argv[2] : "");
  fmt::print("{} passed, {} skipped, {} failed\n", counts.passed, counts.skipped, counts.failed);
  return counts.failed != 0 || counts.passed == 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "check: {}\n", e.what());
  return 1;
}
