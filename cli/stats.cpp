// SPDX-License-Identifier: Apache-2.0
// What the processes of containers do: stats, top.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <thread>

#include "kit/engine/lifecycle.hpp"
#include "kit/system/cgroup.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/process.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

using clock = std::chrono::steady_clock;

struct traffic {
  std::uint64_t received = 0, sent = 0;
};

/// Of all interfaces but lo, as the container's first process sees them; nothing for a container of the host's network.
traffic traffic_of(const container_record& c, kit::engine& engine) {
  traffic sum;
  if (engine.records().endpoints(c.id).empty()) return sum;
  std::string text;
  try {
    text = read_file(fmt::format("/proc/{}/net/dev", c.init.pid));
  } catch (const error&) {
    return sum;  // it has ended
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t colon = line.find(':');
    if (colon == line.npos) continue;
    std::istringstream numbers(line.substr(colon + 1));
    std::uint64_t value[9] = {};
    for (std::uint64_t& v : value) numbers >> v;
    if (line.substr(line.find_first_not_of(' '), colon - line.find_first_not_of(' ')) == "lo") continue;
    sum.received += value[0];
    sum.sent += value[8];
  }
  return sum;
}

struct sample {
  container_stats figures;
  clock::time_point at;
};

std::optional<sample> look(kit::engine& engine, const container_record& c) {
  try {
    if (is_live(c)) return sample{kit::stats(engine, c.id), clock::now()};
  } catch (const error& e) {
    if (e.code() != errc::not_found) throw;  // it has ended
  }
  return std::nullopt;
}

std::uint64_t host_memory() {
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::string bytes_of(std::uint64_t a, std::uint64_t b) { return human_size(a) + " / " + human_size(b); }

std::vector<std::string> row_of(const listing& list, kit::engine& engine, const container_record& c,
                                const std::string& named, const std::optional<sample>& before,
                                const std::optional<sample>& now) {
  const std::string id(list.full_ids() ? c.id.text() : c.id.brief());
  if (!now) return {id, c.name, "0.00%", "0B / 0B", "0.00%", "0B / 0B", "0B / 0B", "0", named};
  const container_stats& s = now->figures;
  double cpu = 0;
  if (before) {
    const double passed = std::chrono::duration<double, std::nano>(now->at - before->at).count();
    cpu = static_cast<double>(s.cpu_ns - before->figures.cpu_ns) / passed * 100;
  }
  const std::uint64_t host = host_memory();
  const std::uint64_t limit = s.memory_limit_bytes && s.memory_limit_bytes < host ? s.memory_limit_bytes : host;
  const traffic t = traffic_of(c, engine);
  return {id,
          c.name,
          fmt::format("{:.2f}%", cpu),
          human_memory(s.memory_bytes) + " / " + human_memory(limit),
          fmt::format("{:.2f}%", 100.0 * static_cast<double>(s.memory_bytes) / static_cast<double>(limit)),
          bytes_of(t.received, t.sent),
          bytes_of(s.read_bytes, s.write_bytes),
          fmt::format("{}", s.pids),
          named};
}

}  // namespace

int stats(invocation& call) {
  listing list({{"ID", "CONTAINER ID"},
                {"Name", "NAME"},
                {"CPUPerc", "CPU %"},
                {"MemUsage", "MEM USAGE / LIMIT"},
                {"MemPerc", "MEM %"},
                {"NetIO", "NET I/O"},
                {"BlockIO", "BLOCK I/O"},
                {"PIDs", "PIDS"},
                {"Container", nullptr}});
  bool no_stream = false, all = false;
  options o(call.command(), "[CONTAINER...]", "Show what running containers use, each second anew.");
  list.bind(o);
  o.flag("-a,--all", all, "Also containers that do not run")
      .flag("--no-stream", no_stream, "Look once; the processor's share is taken over half a second")
      .takes(0, SIZE_MAX)
      .example("kit stats")
      .example("kit stats --no-stream --format json web");
  const arguments words = o.parse(call.words);
  kit::engine& engine = call.engine();
  std::vector<std::pair<container_record, std::string>> shown;
  std::map<container_id, std::optional<sample>> before;
  const auto find_all = [&] {
    shown.clear();
    for (const std::string& word : words) shown.emplace_back(current(engine, engine.records().container(word)), word);
    if (words.empty())
      for (const container_record& c : all ? engine.records().containers() : engine.records().live_containers())
        if (all || is_live(c)) shown.emplace_back(c, std::string(c.id.brief()));
  };
  find_all();
  for (const auto& [c, named] : shown) before[c.id] = look(engine, c);
  for (;;) {
    // Without anything to look at there is nothing to wait for.
    if (!shown.empty() || !no_stream) std::this_thread::sleep_for(std::chrono::milliseconds(no_stream ? 500 : 1000));
    if (!no_stream) find_all();
    list.clear();
    for (const auto& [c, named] : shown) {
      const std::optional<sample> now = look(engine, c);
      list.add(row_of(list, engine, c, named, before[c.id], now));
      before[c.id] = now;
    }
    // As Docker: to the top left, and nothing stays below.
    if (!no_stream) fmt::print("\033[2J\033[H");
    list.print();
    if (no_stream) return 0;
    if (std::fflush(stdout) != 0) return 0;
  }
}

namespace {

/// What `ps` of the host prints. No shell, no name but the host's own path.
std::string run_ps(const std::vector<std::string>& arguments_of_ps) {
  auto [read_end, write_end] = make_pipe();
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, write_end.get(), STDOUT_FILENO);
  std::vector<std::string> words = {"ps"};
  words.insert(words.end(), arguments_of_ps.begin(), arguments_of_ps.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& w : words) argv.push_back(w.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int failed = ::posix_spawnp(&pid, "ps", &files, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  if (failed != 0) fail_errno(failed, "execute ps (of the package procps)");
  write_end.reset();
  std::string text = read_all(read_end.get(), "what ps prints");
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (status != 0) fail(errc::invalid, "ps refused its options");
  return text;
}

/// Its words, the last one with all that follows.
std::vector<std::string> columns_of(const std::string& line, std::size_t most) {
  std::vector<std::string> cells;
  std::size_t at = line.find_first_not_of(' ');
  while (at != line.npos && cells.size() + 1 < most) {
    const std::size_t end = std::min(line.find(' ', at), line.size());
    cells.push_back(line.substr(at, end - at));
    at = line.find_first_not_of(' ', end);
  }
  if (at != line.npos) cells.push_back(line.substr(at));
  return cells;
}

}  // namespace

int top(invocation& call) {
  arguments words = options(call.command(), "CONTAINER [OPTIONS OF PS]",
                            "List the processes of a container as the host's ps does; its options may follow (-ef).")
                        .takes(1)
                        .then_verbatim()
                        .example("kit top web")
                        .example("kit top web -o pid,rss,comm")
                        .parse(call.words);
  kit::engine& engine = call.engine();
  const container_record c = current(engine, engine.records().container(words.front()));
  if (!is_live(c)) fail(errc::conflict, "container {} is not running", c.name);
  words.erase(words.begin());
  if (words.empty()) words = {"-ef"};
  const std::vector<pid_t> listed = cgroup(fmt::format("kit-{}/{}", engine.root_tag(), c.id.text())).processes();
  const std::set<std::string> pids = [&] {
    std::set<std::string> all;
    for (pid_t p : listed) all.insert(std::to_string(p));
    return all;
  }();
  std::istringstream lines(run_ps(words));
  std::string line;
  std::getline(lines, line);
  const std::vector<std::string> header = columns_of(line, SIZE_MAX);
  std::size_t column = 0;
  while (column < header.size() && header[column] != "PID") ++column;
  if (column == header.size()) fail(errc::invalid, "top {}: ps prints no column PID with these options", c.name);
  const auto print = [](const std::vector<std::string>& cells) {
    std::string text;
    for (std::size_t i = 0; i < cells.size(); ++i)
      text += i + 1 == cells.size() ? cells[i]
                                    : fmt::format("{:<{}}", cells[i], std::max<std::size_t>(cells[i].size() + 3, 20));
    fmt::print("{}\n", text);
  };
  print(header);
  while (std::getline(lines, line)) {
    const std::vector<std::string> cells = columns_of(line, header.size());
    if (column < cells.size() && pids.contains(cells[column])) print(cells);
  }
  return 0;
}

}  // namespace kit::cli
