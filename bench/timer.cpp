// SPDX-License-Identifier: Apache-2.0
// Times commands against each other: one sample of each in turn, so that whatever else the machine does
// falls on all of them. A sample is wall time from fork(2) until the command was waited for.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace {

constexpr const char* usage =
    "Usage: kit-bench-timer [-n SAMPLES] [-w WARMUP] [-u MOUNT]... [-j] -- NAME COMMAND [ARG...] [-- NAME COMMAND...]\n"
    "Prints min, median and 90th percentile in milliseconds, and each median and minimum relative to the first\n"
    "command's. -j: as JSON, with all samples. -u: a NAME ending in '~' runs where MOUNT is unmounted.\n";

struct contender {
  std::string name;
  std::vector<char*> argv;
  bool unmounted = false;
  std::vector<double> samples{};  // milliseconds
};

double now_ms() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

/// A mount namespace without `points`; the caller stays where it was.
kit::unique_fd namespace_without(const std::vector<const char*>& points) {
  const kit::unique_fd own = kit::open_file("/proc/self/ns/mnt", O_RDONLY);
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    kit::fail_errno(errno, "make a mount namespace");
  for (const char* point : points)
    if (::umount2(point, MNT_DETACH) != 0) kit::fail_errno(errno, "unmount {}", point);
  kit::unique_fd made = kit::open_file("/proc/self/ns/mnt", O_RDONLY);
  if (::setns(own.get(), CLONE_NEWNS) != 0) kit::fail_errno(errno, "go back to the own mount namespace");
  return made;
}

double sample(const contender& c, int null, int other_mounts) {
  const double begin = now_ms();
  const pid_t pid = ::fork();
  if (pid < 0) kit::fail_errno(errno, "fork");
  if (pid == 0) {
    if (c.unmounted && ::setns(other_mounts, CLONE_NEWNS) != 0) ::_exit(125);
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    ::execvp(c.argv[0], c.argv.data());
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (status != 0) kit::fail(kit::errc::io, "{} ended with status {:#x}", c.name, status);
  return now_ms() - begin;
}

double percentile(const std::vector<double>& sorted, double part) {
  return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1) + 0.5)];
}

int run(int argc, char** argv) {
  int samples = 50, warmup = 5, option = 0;
  bool as_json = false;
  std::vector<const char*> unmount;
  while ((option = ::getopt(argc, argv, "+n:w:u:jh")) != -1) switch (option) {
      case 'n': samples = std::atoi(optarg); break;
      case 'w': warmup = std::atoi(optarg); break;
      case 'u': unmount.push_back(optarg); break;
      case 'j': as_json = true; break;
      default: std::fputs(usage, option == 'h' ? stdout : stderr); return option == 'h' ? 0 : 2;
    }
  std::vector<contender> all;
  for (int i = optind; i < argc;) {
    const int end = static_cast<int>(std::find(argv + i, argv + argc, std::string_view("--")) - argv);
    if (end - i < 2) break;
    contender c{argv[i], std::vector<char*>(argv + i + 1, argv + end)};
    c.argv.push_back(nullptr);
    if (c.name.back() == '~') c.name.pop_back(), c.unmounted = !unmount.empty();
    all.push_back(std::move(c));
    i = end + 1;
  }
  if (all.empty() || samples < 1) return std::fputs(usage, stderr), 2;

  const kit::unique_fd null = kit::open_file("/dev/null", O_RDWR);
  const kit::unique_fd other = unmount.empty() ? kit::unique_fd() : namespace_without(unmount);
  for (int round = -warmup; round < samples; ++round)
    // Each goes first as often as the others: what one leaves for the kernel to clean up meets all of them.
    for (std::size_t i = 0; i < all.size(); ++i) {
      contender& c = all[(i + static_cast<std::size_t>(round + warmup)) % all.size()];
      const double ms = sample(c, null.get(), other.get());
      if (round >= 0) c.samples.push_back(ms);
    }

  nlohmann::ordered_json json;
  if (!as_json) std::printf("  %-28s %8s %8s %8s %11s %11s\n", "", "min ms", "p50", "p90", "min ratio", "p50 ratio");
  double first_min = 0, first_median = 0;
  for (contender& c : all) {
    std::vector<double> sorted = c.samples;
    std::sort(sorted.begin(), sorted.end());
    const double min = sorted.front(), median = percentile(sorted, 0.5), p90 = percentile(sorted, 0.9);
    if (&c == &all.front()) first_min = min, first_median = median;
    if (as_json)
      json[c.name] = {{"min_ms", min},
                      {"p50_ms", median},
                      {"p90_ms", p90},
                      {"min_ratio", min / first_min},
                      {"p50_ratio", median / first_median},
                      {"samples_ms", c.samples}};
    else
      std::printf("  %-28s %8.2f %8.2f %8.2f %11.2f %11.2f\n", c.name.c_str(), min, median, p90, min / first_min,
                  median / first_median);
  }
  if (as_json) std::printf("%s\n", json.dump().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) try { return run(argc, argv); } catch (const std::exception& e) {
  std::fprintf(stderr, "kit-bench-timer: %s\n", e.what());
  return 1;
}
