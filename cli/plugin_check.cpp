// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "kit/plugin/check.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

plugin find_plugin(const std::string& word) {
  if (word.find('/') != word.npos || word.ends_with(".so")) return load_plugin_file(word);
  for (const plugin_info& info : list_plugins())
    if (info.name == word) return load_plugin_file(info.path);
  fail(errc::not_found, "no such plugin: {}; give a file, or a name that `kit plugin ls` lists", word);
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
  const check_counts counts = check_plugin(
      p,
      [&](const testing::outcome& o) {
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
      only, call.engine().config().libexec);
  if (format.empty())
    fmt::print("{} {} {}: {} passed, {} failed, {} skipped\n", to_string(p.kind()), p.name(), p.version(),
               counts.passed, counts.failed, counts.skipped);
  return counts.failed == 0 && (counts.passed > 0 || !only.empty()) ? 0 : 1;
}

}  // namespace kit::cli
