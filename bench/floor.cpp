// SPDX-License-Identifier: Apache-2.0
#include "floor.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "kit/isolation/default_seccomp.hpp"
#include "kit/system/cgroup.hpp"
#include "kit/system/error.hpp"
#include "kit/system/netlink.hpp"
#include "options.hpp"
#include "statistics.hpp"

namespace kit::bench {

namespace {

constexpr const char* bridge_name = "kit-floor";
constexpr const char* gateway = "10.99.0.1";
constexpr std::uint8_t subnet_length = 20;
constexpr std::uint64_t default_capabilities = 0xa80425fb;  // as in floor_start.c

std::string hierarchy_word(const cgroup_hierarchy& h, std::size_t count) {
  std::string name, options;
  for (const std::string& controller : h.controllers) {
    if (h.v2) break;
    const bool named = controller.starts_with("name=");
    name += (name.empty() ? "" : ",") + (named ? controller.substr(5) : controller);
    options += std::string(options.empty() ? "" : ",") + (named ? "none," : "") + controller;
  }
  if (h.v2 && count > 1) name = "unified";
  return fmt::format("{}:{}:{}:{}", h.mount_point, h.v2 ? 2 : 1, name, options);
}

struct step {
  bool child = false;
  std::vector<double> ms = {};
};

/// One start, timed from fork to waited for; its steps are added to `steps`, in the order of the first sample.
struct timed_start {
  double wall_ms = 0, gone_ms = 0;
};
timed_start run_timed(const floor_scene& scene, const command& program, std::vector<std::string>& order,
                      std::map<std::string, step>& steps) {
  auto [times, times_end] = make_pipe();
  const int inherited = 9;
  const command words = scene.start(program, inherited);
  std::vector<char*> args;
  for (const std::string& word : words) args.push_back(const_cast<char*>(word.c_str()));
  args.push_back(nullptr);
  const double begin = now_ms();
  const pid_t pid = ::fork();
  if (pid < 0) fail_errno(errno, "fork");
  if (pid == 0) {
    ::dup2(times_end.get(), inherited);
    ::execv(args[0], args.data());
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  const double end = now_ms();
  // The process that holds the mount namespace is handed to this one, and ends when it is gone.
  while (::wait(nullptr) > 0 || errno == EINTR) continue;
  const double gone = now_ms();
  times_end.reset();
  if (status != 0) fail(errc::io, "kit-bench-floor-start ended with status {:#x}", status);

  const auto add = [&](const std::string& name, bool child, double ms) {
    if (!steps.contains(name)) order.push_back(name);
    step& s = steps[name];
    s.child = child;
    s.ms.push_back(ms);
  };
  const std::string text = read_all(times.get(), "the times of the floor");
  double first = 0, last = 0;
  for (int pass = 0; pass < 2; ++pass)
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t stop = text.find('\n', at);
      const std::string line = text.substr(at, stop - at);
      at = stop + 1;
      const bool child = line.starts_with("child");
      const std::size_t a = line.find('\t'), b = line.find('\t', a + 1), c = line.find('\t', b + 1);
      const double from = std::strtod(line.c_str() + a, nullptr) / 1e6,
                   to = std::strtod(line.c_str() + b, nullptr) / 1e6;
      if (pass == 0 && !child) {
        if (first == 0) first = from;
        last = to;
      }
      if (pass == 1) {
        if (!child && from == first) add("start the program kit-bench-floor-start", false, first - begin);
        add(line.substr(c + 1), child, to - from);
      }
    }
  add("its exit", false, end - last);
  return {end - begin, gone - begin};
}

const std::string deferred[] = {
    {"the mount namespace is taken apart after the answer, by whoever holds it last: here a process that stays a "
     "moment (\"all gone\" is when it ended), in kit the monitor"},
    "the veth pair and the network namespace are removed by the kernel's clean-up thread, some milliseconds later",
    "control groups disappear at rmdir(2), their memory a grace period later",
};

}  // namespace

floor_scene::floor_scene(const scratch& place, const std::string& rootfs, unsigned layers, bool network)
    : group_(fmt::format("kit-bench-floor-{}", place.run().substr(place.run().rfind('.') + 1))) {
  const std::string base = fmt::format("{}/floor-{}-{}", place.disk(), layers, network ? "bridge" : "none");
  group_ += fmt::format("-{}-{}", layers, network ? "bridge" : "none");
  words_ = {own_directory() + "/kit-bench-floor-start"};
  make_directories(base + "/layers", 0711);
  // Nearest first.
  for (unsigned i = layers; i-- > 1;) {
    const std::string layer = fmt::format("{}/lower/{}", base, i);
    make_directories(layer);
    replace_file(fmt::format("{}/layer-{}", layer, i), "");
    words_.insert(words_.end(), {"-l", layer});
  }
  words_.insert(words_.end(), {"-l", rootfs, "-d", base + "/layers", "-r", place.run(), "-g", group_});

  const seccomp_filter filter = compile_seccomp(default_seccomp(capability_set(default_capabilities)));
  replace_file(base + "/filter", {reinterpret_cast<const char*>(filter.program.data()),
                                  filter.program.size() * sizeof filter.program[0]});
  words_.insert(words_.end(), {"-f", base + "/filter"});

  const auto& hierarchies = cgroup_layout::here().hierarchies();
  for (const cgroup_hierarchy& h : hierarchies)
    words_.insert(words_.end(), {"-c", hierarchy_word(h, hierarchies.size())});
  // So that the parent hands its controllers down.
  const cgroup prepared(group_ + "/prepared");
  prepared.make();
  prepared.remove();

  if (!network) return;
  netlink host;
  if (!host.find_link(bridge_name)) {
    netlink_batch made;
    made.add_link(bridge_name, bridge_link{}, {.mac = "02:44:00:00:00:01", .up = true, .no_link_local = true});
    host.commit(made);
    netlink_batch addressed;
    addressed.add_address(host.find_link(bridge_name)->index, {ip_address::parse(gateway), subnet_length});
    host.commit(addressed);
  }
  words_.insert(words_.end(), {"-b", bridge_name, "-v", gateway, "-s", std::to_string(subnet_length)});
}

floor_scene::~floor_scene() {
  try {
    const cgroup group(group_);
    // Of a start that was killed.
    group.kill();
    group.remove();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "kit-bench: warning: %s\n", e.what());
  }
}

command floor_scene::start(const command& program, int times) const {
  command all = words_;
  if (times >= 0) all.insert(all.end(), {"-t", std::to_string(times)});
  all.insert(all.end(), program.begin(), program.end());
  return all;
}

std::string floor_scene::leaves_out() const {
  const cgroup_layout& here = cgroup_layout::here();
  return here.with("devices") == nullptr && here.unified() != nullptr
             ? "the program that limits devices on version 2 of control groups"
             : "";
}

int floor_command(const command& words) {
  unsigned samples = 50, layers = 1;
  bool as_json = false;
  std::string network = "bridge";
  const command program =
      parse(words,
            {"floor [-- PROGRAM [ARG...]]",
             "The system calls of a full container start and its end, with no tool around them: what no\n"
             "runtime that does the same can be faster than. Each sample is a fresh process; each step is\n"
             "timed. With a PROGRAM, that is run once, and nothing is timed."},
            {{"-n", "SAMPLES", "how many starts (50)", number(samples, 1, 100000)},
             {"--network", "bridge|none", "with a veth pair, an address and a route, or lo alone (bridge)",
              one_of(network, {"bridge", "none"})},
             {"--layers", "N", "layers of the root file system (1)", number(layers, 1, 500)},
             {"--json", "", "one JSON object with every sample", flag(as_json)}});
  if (!is_root()) fail(errc::permission, "kit-bench floor: only root can make these system calls");
  catch_interrupts();
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  leave_network();
  const scratch place;
  const std::string rootfs = place.disk() + "/rootfs";
  make_rootfs(rootfs);
  const floor_scene scene(place, rootfs, layers, network == "bridge");
  if (!program.empty()) {
    const outcome o = run(scene.start(program));
    std::fwrite(o.out.data(), 1, o.out.size(), stdout);
    std::fwrite(o.err.data(), 1, o.err.size(), stderr);
    while (::wait(nullptr) > 0) continue;
    return o.status;
  }

  std::vector<std::string> order;
  std::map<std::string, step> steps;
  std::vector<double> wall, gone;
  const std::string load_before = load_average();
  for (unsigned i = 0; i < 3; ++i) run_timed(scene, {"/bin/true"}, order, steps);
  order.clear();
  steps.clear();
  for (unsigned i = 0; i < samples; ++i) {
    stop_if_interrupted();
    const timed_start t = run_timed(scene, {"/bin/true"}, order, steps);
    wall.push_back(t.wall_ms);
    gone.push_back(t.gone_ms);
  }
  if (as_json) {
    json out{{"benchmark", "floor"},
             {"machine", describe_machine(place)},
             {"load_before", load_before},
             {"load_after", load_average()},
             {"network", network},
             {"layers", layers},
             {"wall_ms", wall},
             {"gone_ms", gone}};
    for (const std::string& name : order)
      out["steps"].push_back(
          {{"side", steps[name].child ? "child" : "parent"}, {"name", name}, {"ms", steps[name].ms}});
    for (const std::string& text : deferred) out["deferred"].push_back(text);
    out["leaves_out"] = scene.leaves_out();
    fmt::print("{}\n", out.dump());
    return 0;
  }
  fmt::print("One container with {}, {} layer{}: {} starts; load average {} before, {} after\n\n",
             network == "bridge" ? "a veth pair on a bridge" : "no network but lo", layers, layers == 1 ? "" : "s",
             samples, load_before, load_average());
  fmt::print("  {:<50} {:>8} {:>8} {:>8}\n", "milliseconds", "min", "p50", "p90");
  const auto line = [](const std::string& name, const std::vector<double>& ms) {
    const summary s = summarize(ms);
    fmt::print("  {:<50} {:8.3f} {:8.3f} {:8.3f}\n", name, s.min, s.p50, s.p90);
  };
  for (const std::string& name : order)
    if (!steps[name].child) line(name, steps[name].ms);
  line("TOTAL, fork to waited for", wall);
  line("all gone", gone);
  fmt::print("\n  in the child, at the same time\n");
  for (const std::string& name : order)
    if (steps[name].child) line(name, steps[name].ms);
  fmt::print("\nNot in the total, for the kernel does it later:\n");
  for (const std::string& text : deferred) fmt::print("  - {}\n", text);
  if (const std::string missing = scene.leaves_out(); !missing.empty()) fmt::print("Left out: {}\n", missing);
  return 0;
}

}  // namespace kit::bench
