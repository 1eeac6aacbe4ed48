// SPDX-License-Identifier: Apache-2.0
#include "density.hpp"

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <limits>

#include "kit/system/error.hpp"
#include "options.hpp"
#include "peers.hpp"
#include "report.hpp"
#include "statistics.hpp"

namespace kit::bench {

namespace {

/// The number behind `key` in a file of lines "Key:   123 kB". 0: it is not there.
double kilobytes(const std::string& file, const std::string& key) {
  std::string text;
  try {
    text = "\n" + read_file(file);
  } catch (const error&) {
    return 0;
  }
  const std::size_t at = text.find("\n" + key + ":");
  return at == text.npos ? 0 : std::strtod(text.c_str() + at + key.size() + 2, nullptr);
}

/// Proportional set size: pages shared by several processes are divided among them.
double pss_kb(pid_t pid) { return kilobytes(fmt::format("/proc/{}/smaps_rollup", pid), "Pss"); }

/// What the files below `directory` occupy.
double disk_kb(const std::string& directory) {
  double blocks = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           directory, std::filesystem::directory_options::skip_permission_denied, ignored)) {
    struct stat st {};
    if (::lstat(entry.path().c_str(), &st) == 0) blocks += static_cast<double>(st.st_blocks);
  }
  return blocks / 2;
}

constexpr double least_memory_kb = 256 * 1024;

struct seen {
  std::string name;
  std::vector<double> ms;  ///< of each start, in order
  std::string stopped;     ///< why before the number asked for; empty: it was reached
  double keepers_kb = 0, keepers = 0, memory_kb = 0, disk_kb = 0, daemons_kb = 0;  ///< per container, but the last
};

seen fill(const runtime& r, unsigned wanted, bool network, const std::string& prefix, progress& bar) {
  const command idle{"/bin/sleep", "100000"};
  seen s;
  s.name = r.name();
  const auto name = [&](unsigned n) { return fmt::format("{}-{}", prefix, n); };
  contender c{r.name(),   "", [&](unsigned n) { return commands{r.run_detached(name(n), network, idle)}; },
              {},         {}, r.mounts(),
              r.network()};
  c.leaves_processes = true;
  // The first makes what is made once: a network, an unpacked image.
  time_one(c, 0);
  r.must(r.remove(name(0)));
  ::sync();
  const double memory_before = kilobytes("/proc/meminfo", "MemAvailable"), disk_before = disk_kb(r.disk());
  for (unsigned n = 1; n <= wanted && s.stopped.empty(); ++n) {
    stop_if_interrupted();
    bar.step(fmt::format("{}: {} of {}", r.name(), n, wanted), 1);
    if (kilobytes("/proc/meminfo", "MemAvailable") < least_memory_kb) {
      s.stopped = "memory: less than 256 MB are left";
      break;
    }
    try {
      s.ms.push_back(time_one(c, n));
    } catch (const error& e) {
      stop_if_interrupted();
      s.stopped = e.what();
    }
  }
  const double running = static_cast<double>(s.ms.size());
  if (running == 0) return s;
  ::sync();
  // What else the machine does moves it as much as a few containers do.
  s.memory_kb = running < 50 ? std::numeric_limits<double>::quiet_NaN()
                             : (memory_before - kilobytes("/proc/meminfo", "MemAvailable")) / running;
  s.disk_kb = (disk_kb(r.disk()) - disk_before) / running;
  for (unsigned n = 1; n <= s.ms.size(); ++n) {
    stop_if_interrupted();
    for (const pid_t pid : r.keepers(name(n))) s.keepers_kb += pss_kb(pid), s.keepers += 1;
  }
  s.keepers_kb /= running;
  s.keepers /= running;
  for (const pid_t pid : r.daemons()) s.daemons_kb += pss_kb(pid);
  return s;
}

/// The median start among the last tenth, divided by that among the first.
double growth(const std::vector<double>& ms) {
  const std::size_t part = std::max<std::size_t>(ms.size() / 10, 1);
  return summarize({ms.end() - static_cast<std::ptrdiff_t>(part), ms.end()}).p50 /
         summarize({ms.begin(), ms.begin() + static_cast<std::ptrdiff_t>(part)}).p50;
}

}  // namespace

int density_command(const command& words) {
  unsigned wanted = 0, peers = 20;
  bool as_json = false;
  std::string network = "bridge", output = "kit-bench-density";
  std::vector<std::string> only{"podman", "docker"};
  const command rest =
      parse(words,
            {"density N",
             "Starts N containers that do nothing, one after the other: how long each takes with so many\n"
             "running already, and what each costs while it runs, in memory and on disk. Beside it podman\n"
             "and docker with fewer. If memory, addresses or process ids end before N, it tells what was reached."},
            {{"--peers", "N", "containers of each peer (20)", number(peers, 0U, 100000U)},
             {"--only", "PEER,...", "these peers (podman,docker), or none", list(only)},
             {"--network", "bridge|none", "with a network or none (bridge)", one_of(network, {"bridge", "none"})},
             {"-o", "FILE", "write FILE.json, FILE.md, FILE.html (kit-bench-density); - writes none", text(output)},
             {"--json", "", "print the JSON in place of the summary", flag(as_json)}});
  if (rest.size() != 1) fail(errc::invalid, "density takes one number; see kit bench density --help");
  number(wanted, 1, 1000000)("N", rest[0]);
  if (!is_root()) fail(errc::permission, "kit-bench density: only root can start containers");
  catch_interrupts();
  leave_network();
  const scratch place;
  const std::string rootfs = place.disk() + "/rootfs";
  make_rootfs(rootfs);
  json out{{"benchmark", "density"},
           {"title", "What does a container cost while it runs?"},
           {"machine", describe_machine(place)},
           {"load_before", load_average()}};
  if (peers == 0 || only.empty()) only = {"none"};
  found_runtimes found = find_runtimes(place, rootfs, only);
  std::vector<seen> all;
  {
    progress bar(wanted + static_cast<double>(peers * (found.all.size() - 1)));
    for (const auto& r : found.all) {
      if (r->run_detached("x", false, {"true"}).empty()) continue;
      try {
        all.push_back(fill(*r, r->name() == "kit" ? wanted : peers, network == "bridge", run_name(place), bar));
        if (!all.back().stopped.empty())
          out["left_out"].push_back(
              {{"name", r->name()},
               {"reason", fmt::format("stopped with {} running: {}", all.back().ms.size(), all.back().stopped)}});
      } catch (const error& e) {
        if (e.code() == errc::cancelled) throw;
        out["left_out"].push_back({{"name", r->name()}, {"reason", e.what()}});
      }
    }
  }
  for (const auto& m : found.missing) out["left_out"].push_back({{"name", m.name}, {"reason", m.reason}});
  out["load_after"] = load_average();

  json curve{{"title", "Does a start slow down with many containers running?"},
             {"explain",
              "Each dot is one start of a container in the background, by how many were running already; the line "
              "is the median of each twentieth. It should be flat."},
             {"x", "containers running"},
             {"y", "milliseconds of a start"},
             {"series", json::array()}};
  json table{{"title", "Per container, while it runs"},
             {"explain",
              "Keepers are the processes that the runtime keeps alive for each container: a monitor or shim. Their "
              "memory is proportional (PSS): what several share is divided among them. \"All memory\" is by how much "
              "the machine's available memory fell, with the kernel's own part, the program's and what the page cache "
              "made of it. Daemons are there once, however many containers run."},
             {"columns",
              {"", "containers", "start p50 ms", "p99 ms", "last tenth / first", "keepers", "their PSS KB",
               "all memory KB", "disk KB", "daemons' PSS KB"}},
             {"rows", json::array()}};
  for (const seen& s : all) {
    if (s.ms.empty()) continue;
    json points = json::array();
    for (std::size_t i = 0; i < s.ms.size(); ++i) points.push_back({i, s.ms[i]});
    curve["series"].push_back({{"name", s.name}, {"points", points}});
    const summary ms = summarize(s.ms);
    table["rows"].push_back({s.name, s.ms.size(), ms.p50, ms.p99, growth(s.ms), s.keepers, s.keepers_kb, s.memory_kb,
                             s.disk_kb, s.daemons_kb});
  }
  out["curves"].push_back(std::move(curve));
  out["tables"].push_back(std::move(table));
  out["notes"] = {
      "A start in the background is timed from fork until the command has answered that the program runs.",
      "The containers' own program, one idle busybox, is not among the keepers.",
      "Everything else that the machine does moves \"all memory\", too; with few containers it says little."};
  if (output != "-") write_report(out, output);
  fmt::print("{}\n", as_json ? out.dump() : to_markdown(out));
  if (output != "-") fmt::print(stderr, "written: {0}.json {0}.md {0}.html\n", output);
  return 0;
}

}  // namespace kit::bench
