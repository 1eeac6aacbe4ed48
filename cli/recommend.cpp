// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/recommend.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "kit/engine/clock.hpp"
#include "kit/plugin/loader.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

using json = nlohmann::ordered_json;

struct candidate {
  plugin_info plugin;
  probe_report report;
};

std::vector<candidate> storage_candidates(kit::engine& engine) {
  std::vector<candidate> all;
  for (const plugin_info& info : list_plugins()) {
    if (info.kind != family::storage) continue;
    candidate c{info, {}};
    try {
      if (!info.refused.empty()) fail(errc::unsupported, "{}", info.refused);
      c.report = engine.storage(info.name).probe();
    } catch (const error& e) {
      c.report.reason = e.what();
    }
    all.push_back(std::move(c));
  }
  return all;
}

/// What the measured figures hold for: this kernel, this file system, these drivers.
json fingerprint(const kit::engine& engine, const std::vector<candidate>& candidates) {
  utsname kernel{};
  ::uname(&kernel);
  const std::string& root = engine.config().root;
  struct stat st {};
  struct statfs fs {};
  if (::stat(root.c_str(), &st) != 0 || ::statfs(root.c_str(), &fs) != 0) fail_errno(errno, "look at {}", root);
  json drivers = json::object();
  for (const candidate& c : candidates)
    if (c.report.usable) drivers[c.plugin.name] = c.plugin.version;
  return {{"Kit", KIT_VERSION},
          {"Kernel", fmt::format("{} {}", kernel.release, kernel.version)},
          {"Machine", kernel.machine},
          {"Processors", ::sysconf(_SC_NPROCESSORS_ONLN)},
          {"FileSystem", fmt::format("{:#x}", static_cast<unsigned long>(fs.f_type))},
          {"Device", fmt::format("{:x}", st.st_dev)},
          {"Drivers", std::move(drivers)}};
}

/// What kit-bench prints for these words. Its progress is on this stderr.
std::string output_of_bench(const engine_config& config, const arguments& words) {
  arguments all{config.libexec + "/kit-bench"};
  all.insert(all.end(), words.begin(), words.end());
  if (::access(all[0].c_str(), X_OK) != 0)
    fail(errc::not_found, "measure the drivers: {} is missing; build kit with KIT_BUILD_BENCH=ON", all[0]);
  std::vector<char*> argv;
  for (std::string& word : all) argv.push_back(word.data());
  argv.push_back(nullptr);
  auto [from, to] = make_pipe();
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, to.get(), STDOUT_FILENO);
  pid_t pid = 0;
  const int failed = ::posix_spawn(&pid, argv[0], &files, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  if (failed != 0) fail_errno(failed, "execute {}", all[0]);
  to.reset();
  std::string out = read_all(from.get(), all[0]);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) fail_errno(errno, "wait for {}", all[0]);
  if (status != 0) fail(errc::io, "measure the drivers: see the message above");
  return out;
}

/// Measures the drivers named in `print` on the root's own file system, and keeps what was seen.
json measure(kit::engine& engine, const json& print, const std::string& kept) {
  const std::string place = engine.config().root + "/measure";
  const file_lock alone = file_lock::try_now(engine.config().root + "/measure.lock");
  if (!alone) fail(errc::busy, "measure the drivers in {}: another kit is at it", engine.config().root);
  remove_tree(place);  // of one that was killed
  make_directories(place, 0700);
  std::string drivers;
  for (const auto& [name, version] : print["Drivers"].items()) drivers += (drivers.empty() ? "" : ",") + name;
  fmt::print(stderr, "Measuring {} on {}, in about half a minute.\n", drivers, engine.config().root);
  const std::int64_t begin = now_ns();
  std::string out;
  try {
    out = output_of_bench(engine.config(),
                          {"storage", "--quick", "--json", "-o", "-", "--directory", place, "--drivers", drivers});
  } catch (...) {
    remove_tree(place);
    throw;
  }
  remove_tree(place);
  const json seen = json::parse(out, nullptr, false);
  if (!seen.is_object() || !seen.contains("figures")) fail(errc::io, "measure the drivers: no figures came of it");
  json result{{"Fingerprint", print},
              {"MeasuredNs", begin},
              {"Seconds", static_cast<double>(now_ns() - begin) / 1e9},
              {"LoadBefore", seen.value("load_before", "")},
              {"LoadAfter", seen.value("load_after", "")},
              {"Figures", seen["figures"]},
              {"LeftOut", seen.value("left_out", json::array())}};
  replace_file(kept, result.dump(1) + "\n", 0600);
  return result;
}

json measured(kit::engine& engine, const json& print, bool anew) {
  const std::string kept = engine.config().root + "/measured.json";
  if (!anew && ::access(kept.c_str(), F_OK) == 0) {
    json before = json::parse(read_file(kept), nullptr, false);
    if (before.is_object() && before.contains("Fingerprint") && before["Fingerprint"] == print) return before;
  }
  return measure(engine, print, kept);
}

std::string amount(double value) {
  return std::isnan(value) ? "-" : fmt::format("{:.{}f}", value, value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

/// The table of weights and figures, a column for each driver.
void print_figures(const std::vector<ranked_driver>& ranking) {
  std::vector<std::vector<std::string>> rows{{"", "weight"}};
  for (const ranked_driver& r : ranking) rows[0].push_back(r.name);
  for (std::size_t i = 0; i < ranking[0].parts.size(); ++i) {
    const auto& part = ranking[0].parts[i];
    rows.push_back({fmt::format("{} ({})", part.what->words, part.what->unit), fmt::format("{}", part.weight)});
    for (const ranked_driver& r : ranking)
      rows.back().push_back(fmt::format("{}{:>8}", amount(r.parts[i].value), fmt::format("{:.1f}x", r.parts[i].times)));
  }
  std::vector<std::size_t> width(rows[0].size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  for (const auto& row : rows) {
    std::string line = fmt::format("  {:<{}}", row[0], width[0]);
    for (std::size_t i = 1; i < row.size(); ++i) line += fmt::format("  {:>{}}", row[i], width[i]);
    fmt::print("{}\n", line);
  }
}

}  // namespace

int driver_recommend(invocation& call) {
  std::string wanted(purposes().front().name), about;
  bool as_json = false, anew = false;
  for (const purpose& p : purposes()) about += fmt::format("\n  {:<11} {}", p.name, p.about);
  options(
      call.command(), "",
      "Rank the storage drivers that work here for a purpose, by what each costs on the disk of kit's root: a quick\n"
      "benchmark, run once and kept as long as kernel, file system and drivers stay the same. The figures and their\n"
      "weights are shown. Purposes:" +
          about)
      .value("--for", wanted, "PURPOSE", "What this host is for (anything)")
      .flag("--measure", anew, "Measure again")
      .flag("--json", as_json, "As JSON")
      .example("kit driver recommend --for build")
      .example("kit config set storage $(kit driver recommend --json | jq -r '.Ranking[0].Name')")
      .parse(call.words);
  const purpose& p = find_purpose(wanted);
  kit::engine& engine = call.engine();
  const std::vector<candidate> candidates = storage_candidates(engine);
  const json print = fingerprint(engine, candidates);
  if (print["Drivers"].empty())
    fail(errc::unsupported, "no storage driver works in {}; `kit driver probe` tells why, and what helps",
         engine.config().root);
  const json seen = measured(engine, print, anew);
  const auto ranking = rank(p, seen["Figures"].get<std::map<std::string, std::map<std::string, double>>>());
  if (ranking.empty()) fail(errc::io, "rank the drivers: none was measured; try --measure");
  const std::string why = explain(ranking);

  json out{{"Purpose", p.name},
           {"About", p.about},
           {"Default", engine.config().storage},
           {"Why", why},
           {"Ranking", json::array()},
           {"NotRanked", json::array()},
           {"MeasuredNs", seen["MeasuredNs"]},
           {"Seconds", seen["Seconds"]},
           {"LoadBefore", seen["LoadBefore"]},
           {"LoadAfter", seen["LoadAfter"]},
           {"Fingerprint", print}};
  const auto report_of = [&](const std::string& name) -> const probe_report& {
    for (const candidate& c : candidates)
      if (c.plugin.name == name) return c.report;
    fail(errc::not_found, "no such driver: {}", name);
  };
  for (const ranked_driver& r : ranking) {
    json parts = json::array(), differences = json::array();
    for (const auto& part : r.parts)
      parts.push_back({{"Figure", part.what->key},
                       {"Words", part.what->words},
                       {"Unit", part.what->unit},
                       {"Weight", part.weight},
                       {"Value", part.value},
                       {"Times", part.times}});
    const probe_report& report = report_of(r.name);
    for (const option& fact : report.facts)
      if (fact.key == "differs") differences.push_back(fact.value);
    out["Ranking"].push_back({{"Name", r.name},
                              {"Score", r.score},
                              {"Reserve", report.reason},
                              {"Differences", std::move(differences)},
                              {"Figures", std::move(parts)}});
  }
  for (const candidate& c : candidates)
    if (std::none_of(ranking.begin(), ranking.end(), [&](const auto& r) { return r.name == c.plugin.name; })) {
      std::string reason = c.report.reason;
      for (const json& l : seen["LeftOut"])
        if (reason.empty() && l.value("name", "") == c.plugin.name) reason = l.value("reason", "");
      out["NotRanked"].push_back({{"Name", c.plugin.name}, {"Reason", reason}, {"Remedy", c.report.remedy}});
    }
  if (as_json) {
    fmt::print("{}\n", out.dump(2));
    return 0;
  }

  fmt::print("For {}: {}.\n\n", p.name, p.about);
  for (std::size_t i = 0; i < ranking.size(); ++i) {
    const std::string& reserve = report_of(ranking[i].name).reason;
    fmt::print("{}. {:<14} {:.2f}{}\n", i + 1, ranking[i].name, ranking[i].score,
               reserve.empty() ? "" : "   (" + reserve + ")");
  }
  fmt::print(
      "\n1 would be the best of them in every figure; the number is the mean of how many times as much a driver\n"
      "takes as the best one, by weight (geometric).\n\n");
  print_figures(ranking);
  if (!why.empty()) fmt::print("\n{}.\n", why);
  for (const json& d : out["Ranking"][0]["Differences"])
    fmt::print("Mind, with {}: {}.\n", ranking[0].name, d.get<std::string>());
  for (const json& n : out["NotRanked"])
    fmt::print("Not ranked: {}: {}{}\n", n["Name"].get<std::string>(), n["Reason"].get<std::string>(),
               n["Remedy"].get<std::string>().empty() ? "" : "; " + n["Remedy"].get<std::string>());
  fmt::print("\nMeasured {} in {:.0f} s, load average {} before and {} after; --measure does so again.\n",
             local_time(seen["MeasuredNs"].get<std::int64_t>()), seen["Seconds"].get<double>(),
             seen["LoadBefore"].get<std::string>(), seen["LoadAfter"].get<std::string>());
  for (const json& l : seen["LeftOut"])
    if (std::none_of(candidates.begin(), candidates.end(),
                     [&](const candidate& c) { return c.plugin.name == l.value("name", ""); }))
      fmt::print("Not measured: {}: {}\n", l.value("name", ""), l.value("reason", ""));
  if (std::strtod(seen["LoadBefore"].get<std::string>().c_str(), nullptr) > print["Processors"].get<double>())
    fmt::print("The machine was busy then: measure again when it is not.\n");
  if (ranking[0].name != engine.config().storage)
    fmt::print("The default is {}. To change it: kit config set storage {}\n", engine.config().storage,
               ranking[0].name);
  else
    fmt::print("It is the default already.\n");
  return 0;
}

}  // namespace kit::cli
