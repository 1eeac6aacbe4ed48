// SPDX-License-Identifier: Apache-2.0
#include "kit/plugin/check.hpp"

#include "kit/testing/isolation.hpp"
#include "kit/testing/network.hpp"
#include "kit/testing/storage.hpp"

namespace kit {

check_counts check_plugin(const plugin& p, testing::outcome_sink out, std::string_view only,
                          const std::string& libexec) {
  check_counts counts;
  const auto count = [&](const testing::outcome& o) {
    switch (o.is) {
      case testing::verdict::passed: ++counts.passed; break;
      case testing::verdict::skipped: ++counts.skipped; break;
      case testing::verdict::failed: ++counts.failed; break;
    }
    out(o);
  };
  const auto completed = [&](driver_config c) {
    if (c.libexec.empty()) c.libexec = libexec;
    return c;
  };
  switch (p.kind()) {
    case family::storage:
      testing::check_storage([&](const driver_config& c) { return p.open_storage(completed(c)); }, count, only);
      break;
    case family::network:
      testing::check_network([&](const driver_config& c) { return p.open_network(completed(c)); }, count, only);
      break;
    case family::isolation:
      testing::check_isolation([&](const driver_config& c) { return p.open_isolation(completed(c)); }, count, only);
      break;
  }
  if (!only.empty() && counts.passed + counts.skipped + counts.failed == 0)
    fail(errc::not_found, "the {} suite has no check named {}", to_string(p.kind()), only);
  return counts;
}

}  // namespace kit
