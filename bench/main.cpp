// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include <cstdio>

#include "density.hpp"
#include "floor.hpp"
#include "options.hpp"
#include "report.hpp"
#include "startup.hpp"
#include "storage.hpp"

namespace kit::bench {
namespace {

struct verb {
  const char* name;
  const char* summary;
  int (*run)(const command&);
};

constexpr verb verbs[] = {
    {"startup", "How long a container takes, beside every other runtime here", startup_command},
    {"floor", "What the kernel alone needs for a full start", floor_command},
    {"density", "What a container costs while it runs, by how many run", density_command},
    {"storage", "What each storage driver costs on this disk, beside the kernel's own part", storage_command},
    {"times", "Any commands against each other, in turns", times_command},
    {"report", "The summary and the page of an earlier run", report_command},
};

int usage(std::FILE* to) {
  fmt::print(to, "Usage:  kit bench BENCHMARK\n\n");
  for (const verb& v : verbs) fmt::print(to, "  {:<10} {}\n", v.name, v.summary);
  fmt::print(to, "\nRun 'kit bench BENCHMARK --help' for more on one.\n");
  return to == stdout ? 0 : 2;
}

}  // namespace
}  // namespace kit::bench

int main(int argc, char** argv) try {
  using namespace kit::bench;
  const command words(argv + 1, argv + argc);
  if (words.empty() || words[0] == "--help" || words[0] == "-h") return usage(words.empty() ? stderr : stdout);
  for (const verb& v : verbs)
    if (words[0] == v.name) return v.run({words.begin() + 1, words.end()});
  fmt::print(stderr, "kit-bench: '{}' is no benchmark\n", words[0]);
  return usage(stderr);
} catch (const kit::bench::helped&) {
  return 0;
} catch (const std::exception& e) {
  fmt::print(stderr, "kit-bench: {}\n", e.what());
  return 1;
}
