// SPDX-License-Identifier: Apache-2.0
#include "kit/system/cgroup.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <thread>

#include "kit/id.hpp"
#include "kit/system/error.hpp"

using namespace std::chrono_literals;

namespace {

bool groups_can_be_made() {
  if (::geteuid() == 0 && kit::cgroup_layout::here().kind() != "none") return true;
  WARN("skipped: needs root and a mounted cgroup hierarchy");
  return false;
}

/// This host's layouts: its own, and what would be left without version 2, for the freezer controller's sake.
std::vector<const kit::cgroup_layout*> layouts() {
  static const kit::cgroup_layout v1_only = [] {
    std::string kept;
    const std::string mountinfo = kit::read_file("/proc/self/mountinfo");
    for (std::size_t at = 0; at < mountinfo.size();) {
      const auto end = mountinfo.find('\n', at) + 1;
      const auto row = mountinfo.substr(at, end - at);
      if (row.find(" - cgroup2 ") == std::string::npos) kept += row;
      at = end;
    }
    return kit::cgroup_layout(kept);
  }();
  std::vector<const kit::cgroup_layout*> list = {&kit::cgroup_layout::here()};
  if (list[0]->kind() == "hybrid") list.push_back(&v1_only);
  return list;
}

/// A group of this test alone, and its parent; both gone at the end, with whatever runs in it.
struct scratch_group {
  kit::cgroup group;
  explicit scratch_group(const kit::cgroup_layout& layout = kit::cgroup_layout::here())
      : group("kit-test-" + kit::hex(kit::random_bits().data(), 6) + "/one", layout) {}
  scratch_group(const scratch_group&) = delete;
  scratch_group& operator=(const scratch_group&) = delete;
  ~scratch_group() {
    try {
      group.kill();
      group.remove();
    } catch (const kit::error& e) {
      WARN(e.what());
    }
    group.remove_parents();
  }
  [[nodiscard]] std::string file(std::string_view controller, std::string_view name) const {
    const auto* h = kit::cgroup_layout::here().with(controller);
    return h == nullptr ? "" : fmt::format("{}/{}/{}", h->mount_point, group.path(), name);
  }
};

/// A child that enters by the prepared descriptors and then does `work`, which never returns to the test.
template <class Work>
pid_t spawn(const kit::cgroup_entry& entry, Work work) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::signal(SIGTERM, SIG_DFL);  // not Catch's report
    if (entry.enter() != 0) ::_exit(120);
    work();
    ::_exit(0);
  }
  return pid;
}

/// A process in the group that counts in shared memory as fast as it can.
struct counter {
  int pipe_[2]{};
  pid_t pid = 0;
  explicit counter(const kit::cgroup& group) {
    const auto entry = group.prepare();
    REQUIRE(::pipe2(pipe_, O_CLOEXEC | O_NONBLOCK) == 0);
    pid = spawn(entry, [this] {
      for (;;) {
        (void)!::write(pipe_[1], "x", 1);
        ::usleep(1000);
      }
    });
  }
  [[nodiscard]] bool progresses() const {
    char drop[65536];
    while (::read(pipe_[0], drop, sizeof drop) > 0) continue;
    for (int i = 0; i < 60; ++i) {
      if (::read(pipe_[0], drop, 1) == 1) return true;
      std::this_thread::sleep_for(5ms);
    }
    return false;
  }
  ~counter() {
    (void)::kill(pid, SIGKILL);
    (void)::waitpid(pid, nullptr, 0);
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
};

kit::errc code_of(const std::function<void()>& f, std::string* message = nullptr) {
  try {
    f();
  } catch (const kit::error& e) {
    if (message != nullptr) *message = e.what();
    return e.code();
  }
  FAIL("no error was thrown");
  return kit::errc::io;
}

std::string line(const std::string& path) {
  auto text = kit::read_file(path);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

TEST_CASE("the layout is read from mountinfo, version 2 first, escapes undone, repeats passed over") {
  const kit::cgroup_layout hybrid(
      "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
      "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct\n"
      "33 31 0:29 / /elsewhere rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
      "34 31 0:30 / /sys/fs/my\\040cgroup rw - cgroup cgroup rw,xattr,name=systemd,release_agent=/bin/x\n"
      "35 31 0:31 / /no/such/unified rw - cgroup2 cgroup2 rw,nsdelegate\n");
  CHECK(hybrid.kind() == "hybrid");
  REQUIRE(hybrid.hierarchies().size() == 3);
  CHECK(hybrid.hierarchies()[0].v2);
  CHECK(hybrid.with("cpuacct")->mount_point == "/sys/fs/cgroup/cpu,cpuacct");
  CHECK(hybrid.with("name=systemd")->mount_point == "/sys/fs/my cgroup");
  CHECK(hybrid.with("rw") == nullptr);
  CHECK(hybrid.with("memory") == nullptr);
  CHECK(kit::cgroup_layout("").kind() == "none");
  CHECK(kit::cgroup_layout("35 31 0:31 / /x rw - cgroup2 none rw\n").kind() == "v2");
  CHECK(kit::cgroup_layout("35 31 0:31 / /x rw - cgroup none rw,pids\n").kind() == "v1");
}

TEST_CASE("a path that could lead elsewhere is refused") {
  for (const char* path : {"", "/a", "a/", "a/../b", "./a", "a//b", ".."})
    CHECK(code_of([&] { kit::cgroup group(path); }) == kit::errc::invalid);
}

TEST_CASE("a group is made on every hierarchy, again with success, and removed with all below it") {
  if (!groups_can_be_made()) return;
  scratch_group s;
  CHECK_FALSE(s.group.exists());
  CHECK(s.group.make());
  CHECK_FALSE(s.group.make());
  CHECK(s.group.exists());
  for (const auto& h : kit::cgroup_layout::here().hierarchies()) {
    const auto below = fmt::format("{}/{}/below", h.mount_point, s.group.path());
    CHECK(::mkdir(below.c_str(), 0755) == 0);
  }
  CHECK_FALSE(s.group.remove_if_empty());
  s.group.remove();
  CHECK_FALSE(s.group.exists());
  s.group.remove();
  s.group.remove_parents();
  const auto parent = s.group.path().substr(0, s.group.path().find('/'));
  CHECK_FALSE(kit::cgroup(parent).exists());
}

TEST_CASE("a child enters by prepared descriptors and is listed; so is one moved by pid") {
  if (!groups_can_be_made()) return;
  scratch_group s;
  s.group.make();
  const auto entry = s.group.prepare();
  const pid_t in = spawn(entry, [] { ::pause(); });
  const pid_t moved = ::fork();
  if (moved == 0) {
    ::pause();
    ::_exit(0);
  }
  s.group.enter(moved);
  std::vector<pid_t> both = {in, moved};
  std::sort(both.begin(), both.end());
  for (int i = 0; i < 200 && s.group.processes() != both; ++i) std::this_thread::sleep_for(5ms);
  CHECK(s.group.processes() == both);
  for (const auto& h : kit::cgroup_layout::here().hierarchies()) {
    INFO(h.mount_point);
    CHECK(kit::read_file(fmt::format("/proc/{}/cgroup", in)).find(s.group.path() + "\n") != std::string::npos);
  }
  CHECK_FALSE(s.group.wait_empty(20ms));
  CHECK_FALSE(s.group.remove_if_empty());
  CHECK(s.group.processes() == both);

  std::string message;
  CHECK(code_of([&] { s.group.remove(50ms); }, &message) == kit::errc::busy);
  CHECK(message.find("process " + std::to_string(both.front())) != std::string::npos);

  s.group.kill();
  CHECK(s.group.processes().empty());
  CHECK(s.group.wait_empty(0ms));
  int status = 0;
  CHECK(::waitpid(in, &status, 0) == in);
  CHECK(WTERMSIG(status) == SIGKILL);
  CHECK(::waitpid(moved, &status, 0) == moved);
  CHECK(s.group.remove_if_empty());
  CHECK_FALSE(s.group.exists());
  CHECK(s.group.remove_if_empty());
}

TEST_CASE("kill leaves nothing of a group that forks all the time") {
  if (!groups_can_be_made()) return;
  const auto* layout = GENERATE(from_range(layouts()));
  INFO(layout->kind());
  scratch_group s(*layout);
  s.group.make();
  kit::cgroup_limits few;
  few.pids = 32;
  s.group.apply(few);
  const auto entry = s.group.prepare();
  const pid_t root = spawn(entry, [] {
    ::signal(SIGCHLD, SIG_IGN);
    for (;;)
      if (::fork() == 0 && ::fork() > 0) ::_exit(0);
  });
  std::this_thread::sleep_for(50ms);
  s.group.kill();
  CHECK(s.group.processes().empty());
  CHECK(::waitpid(root, nullptr, 0) == root);
}

TEST_CASE("frozen means no progress, thawed means progress, and SIGKILL works on the frozen") {
  if (!groups_can_be_made()) return;
  const auto* layout = GENERATE(from_range(layouts()));
  INFO(layout->kind());
  scratch_group s(*layout);
  s.group.make();
  counter c(s.group);
  CHECK(c.progresses());
  s.group.freeze();
  CHECK(s.group.frozen());
  CHECK_FALSE(c.progresses());
  s.group.freeze();
  s.group.thaw();
  s.group.thaw();
  CHECK_FALSE(s.group.frozen());
  CHECK(c.progresses());
  s.group.freeze();
  s.group.signal(SIGKILL);
  CHECK(s.group.wait_empty(2s));
}

TEST_CASE("a signal reaches every process and leaves a frozen group frozen") {
  if (!groups_can_be_made()) return;
  const auto* layout = GENERATE(from_range(layouts()));
  INFO(layout->kind());
  scratch_group s(*layout);
  s.group.make();
  counter a(s.group), b(s.group);
  for (int i = 0; i < 200 && s.group.processes().size() < 2; ++i) std::this_thread::sleep_for(5ms);
  s.group.freeze();
  s.group.signal(SIGTERM);
  CHECK(s.group.frozen());  // who dies of it does so now on version 2, after the thaw on version 1
  s.group.thaw();
  CHECK(s.group.wait_empty(2s));
}

TEST_CASE("limits arrive in the kernel, in its units") {
  if (!groups_can_be_made()) return;
  scratch_group s;
  s.group.make();
  kit::cgroup_limits l;
  l.memory = 64 << 20;
  l.memory_reservation = 32 << 20;
  l.pids = 17;
  l.cpu_shares = 512;
  l.cpu_quota = 50000;
  l.cpu_period = 100000;
  s.group.apply(l);
  const bool v2 = kit::cgroup_layout::here().with("memory")->v2;
  CHECK(line(s.file("memory", v2 ? "memory.max" : "memory.limit_in_bytes")) == "67108864");
  CHECK(line(s.file("memory", v2 ? "memory.low" : "memory.soft_limit_in_bytes")) == "33554432");
  CHECK(line(s.file("pids", "pids.max")) == "17");
  if (v2) {
    CHECK(line(s.file("cpu", "cpu.max")) == "50000 100000");
    CHECK(line(s.file("cpu", "cpu.weight")) == "59");
  } else {
    CHECK(line(s.file("cpu", "cpu.cfs_quota_us")) == "50000");
    CHECK(line(s.file("cpu", "cpu.shares")) == "512");
  }
  const auto stats = s.group.stats();
  CHECK(stats.memory_limit_bytes == 64 << 20);
  CHECK(stats.pids_limit == 17);

  SECTION("what is not given stays, what is -1 is lifted") {
    kit::cgroup_limits more;
    more.pids = -1;
    more.cpu_period = 50000;
    s.group.apply(more);
    CHECK(line(s.file("pids", "pids.max")) == "max");
    CHECK(s.group.stats().memory_limit_bytes == 64 << 20);
    if (v2) CHECK(line(s.file("cpu", "cpu.max")) == "50000 50000");
  }
  SECTION("a value the kernel refuses changes nothing") {
    kit::cgroup_limits bad;
    bad.pids = 99;
    bad.memory = 128 << 20;
    bad.cpuset_cpus = "4000-4001";
    if (kit::cgroup_layout::here().with("cpuset") == nullptr) {
      CHECK(code_of([&] { s.group.apply(bad); }) == kit::errc::unsupported);
    } else {
      std::string message;
      (void)code_of([&] { s.group.apply(bad); }, &message);
      CHECK(message.find("cpu.cpus") != std::string::npos);
    }
    CHECK(s.group.stats().memory_limit_bytes == 64 << 20);
    CHECK(s.group.stats().pids_limit == 17);
  }
}

TEST_CASE("a limit this host lacks is unsupported, names the member, and nothing is changed") {
  if (!groups_can_be_made()) return;
  scratch_group s;
  s.group.make();
  kit::cgroup_limits l;
  l.pids = 5;
  std::string message;
  if (kit::cgroup_layout::here().with("memory")->v2) {
    l.memory_swappiness = 10;
    CHECK(code_of([&] { s.group.apply(l); }, &message) == kit::errc::unsupported);
    CHECK(message.find("memory.swappiness") != std::string::npos);
  } else {
    l.unified = {{"memory.high", "1000000"}};
    CHECK(code_of([&] { s.group.apply(l); }, &message) == kit::errc::unsupported);
    CHECK(message.find("unified") != std::string::npos);
  }
  CHECK(line(s.file("pids", "pids.max")) == "max");
  l = {};
  l.unified = {{"../cgroup.procs", "1"}};
  CHECK(code_of([&] { s.group.apply(l); }) == kit::errc::invalid);
  kit::cgroup_limits pages;
  pages.hugepages = {{"3kB", 0}};
  CHECK(code_of([&] { s.group.apply(pages); }) == kit::errc::unsupported);
}

TEST_CASE("a process beyond the pids limit is not made; one beyond the memory limit is killed and counted") {
  if (!groups_can_be_made()) return;
  scratch_group s;
  s.group.make();
  kit::cgroup_limits l;
  l.pids = 2;
  l.memory = 16 << 20;
  s.group.apply(l);
  const auto entry = s.group.prepare();
  int status = 0;
  pid_t pid = spawn(entry, [] {
    const pid_t first = ::fork();
    if (first == 0) ::pause();
    const pid_t second = ::fork();
    const bool refused = second < 0 && errno == EAGAIN;
    ::kill(first, SIGKILL);
    ::_exit(first > 0 && refused ? 7 : 1);
  });
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(WEXITSTATUS(status) == 7);
#if !defined(__SANITIZE_ADDRESS__)
  pid = spawn(entry, [] {
    constexpr std::size_t size = 256 << 20;
    auto* p = static_cast<volatile char*>(std::malloc(size));
    for (std::size_t i = 0; i < size; i += 4096) p[i] = 1;
  });
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGKILL);
  CHECK(s.group.stats().oom_kills == 1);
#endif
}

TEST_CASE("devices: deny all, allow some, and the list is replaced as a whole") {
  if (!groups_can_be_made()) return;
  scratch_group s;
  s.group.make();
  const auto may_open = [&](const char* path, int flags) {
    const auto entry = s.group.prepare();
    const pid_t pid = spawn(entry, [&] { ::_exit(::open(path, flags | O_CLOEXEC) >= 0 ? 1 : errno == EPERM ? 2 : 3); });
    int status = 0;
    ::waitpid(pid, &status, 0);
    REQUIRE((WEXITSTATUS(status) == 1 || WEXITSTATUS(status) == 2));
    return WEXITSTATUS(status) == 1;
  };
  const auto rule = [](bool allow, char type, std::optional<std::uint32_t> major, std::optional<std::uint32_t> minor,
                       bool write = true) {
    kit::cgroup_device_rule r;
    r.allow = allow;
    r.type = type;
    r.major = major;
    r.minor = minor;
    r.write = write;
    return r;
  };
  CHECK(may_open("/dev/null", O_RDWR));
  kit::cgroup_limits l;
  l.devices = {{rule(false, 'a', {}, {}), rule(true, 'c', 1, 3), rule(true, 'c', 1, 5, false)}};
  s.group.apply(l);
  CHECK(may_open("/dev/null", O_RDWR));
  CHECK(may_open("/dev/zero", O_RDONLY));
  CHECK_FALSE(may_open("/dev/zero", O_RDWR));
  CHECK_FALSE(may_open("/dev/full", O_RDONLY));
  l.devices = {{rule(false, 'a', {}, {}), rule(true, 'c', 1, 7)}};
  s.group.apply(l);
  CHECK_FALSE(may_open("/dev/null", O_RDWR));
  CHECK(may_open("/dev/full", O_RDONLY));
}

TEST_CASE("figures count what the group did, and an absent group has none") {
  if (!groups_can_be_made()) return;
  scratch_group s;
  CHECK(code_of([&] { (void)s.group.stats(); }) == kit::errc::not_found);
  s.group.make();
  const auto entry = s.group.prepare();
  const pid_t pid = spawn(entry, [] {
    const auto until = std::chrono::steady_clock::now() + 60ms;
    while (std::chrono::steady_clock::now() < until) continue;
    ::pause();
  });
  std::this_thread::sleep_for(150ms);
  auto stats = s.group.stats();
  CHECK(stats.pids == 1);
  CHECK(stats.cpu_ns > 1'000'000);
  CHECK(stats.cpu_ns < 60'000'000'000);
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  CHECK(s.group.wait_empty(1s));
  CHECK(s.group.stats().pids == 0);
}
