// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <nlohmann/json.hpp>

#include "kit/plugin/loader.hpp"
#include "kit/testing/isolation.hpp"
#include "kit/testing/network.hpp"
#include "kit/testing/storage.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

plugin find_plugin(const std::string& word) {
  if (word.find('/') != word.npos || word.ends_with(".so")) return load_plugin_file(word);
  for (const plugin_info& info : list_plugins())
    if (info.name == word) return load_plugin_file(info.path);
  fail(errc::not_found, "no such plugin: {}; give a file, or a name that `kit plugin ls` lists", word);
}

int check(const plugin& p, testing::outcome_sink out, std::string_view only) {
  switch (p.kind()) {
    case family::storage:
      return testing::check_storage([&](const driver_config& c) { return p.open_storage(c); }, out, only);
    case family::network:
      return testing::check_network([&](const driver_config& c) { return p.open_network(c); }, out, only);
    case family::isolation: break;
  }
  return testing::check_isolation([&](const driver_config& c) { return p.open_isolation(c); }, out, only);
}

std::string_view word(testing::verdict v) {
  switch (v) {
    case testing::verdict::passed: return "passed";
    case testing::verdict::skipped: return "skipped";
    case testing::verdict::failed: return "failed";
  }
  return "failed";
}

}  // namespace

int plugin_check(invocation& call) {
  std::string only, format;
  bool quiet = false;
  const arguments words =
      options(call.command(), "FILE|NAME",
              "Run the conformance suite of its family on a plugin: one line for each check, with the sentence of the\n"
              "contract a failure broke. Exits 0 only if all checks that apply passed.")
          .value("--only", only, "CHECK", "Run this check alone")
          .flag("-q,--quiet", quiet, "Print only failures and the summary")
          .value("--format", format, "FORMAT", "json")
          .takes(1, 1)
          .example("kit plugin check ./kit-storage-mine.so")
          .example("kit plugin check overlayfs --only create_twice_keeps_contents")
          .parse(call.words);
  if (!format.empty() && format != "json") throw usage_error(call.command(), "--format: json is expected");
  const plugin p = find_plugin(words.front());
  std::map<testing::verdict, int> counts;
  check(
      p,
      [&](const testing::outcome& o) {
        ++counts[o.is];
        if (format == "json") {
          const nlohmann::ordered_json line = {
              {"Check", o.check}, {"Verdict", word(o.is)}, {"Requirement", o.requirement}, {"Reason", o.reason}};
          fmt::print("{}\n", line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
        } else if (!quiet || o.is == testing::verdict::failed) {
          fmt::print("{:<8} {}{}{}\n", word(o.is), o.check, o.reason.empty() ? "" : ": ", o.reason);
          if (o.is == testing::verdict::failed) fmt::print("         {}\n", o.requirement);
        }
        std::fflush(stdout);
      },
      only);
  const int failures = counts[testing::verdict::failed], passes = counts[testing::verdict::passed];
  if (!only.empty() && failures + passes + counts[testing::verdict::skipped] == 0)
    fail(errc::not_found, "no such check: {}", only);
  if (format.empty())
    fmt::print("{} {} {}: {} passed, {} failed, {} skipped\n", to_string(p.kind()), p.name(), p.version(), passes,
               failures, counts[testing::verdict::skipped]);
  return failures == 0 && (passes > 0 || !only.empty()) ? 0 : 1;
}

}  // namespace kit::cli
