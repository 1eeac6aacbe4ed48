// SPDX-License-Identifier: Apache-2.0
#include "drivers/isolation/native.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "conformance/bundle.hpp"
#include "kit/system/cgroup.hpp"
#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/system/process.hpp"
#include "kit/system/pty.hpp"
#include "kit/system/socket.hpp"

using namespace std::chrono_literals;
using kit::errc;
using kit::reach;

namespace {

bool runs_here() {
  const std::string why = kit::testing::why_no_bundle();
  if (!why.empty()) WARN("skipped: " << why);
  return why.empty();
}

kit::driver_config driver_config(const std::string& directory) {
  kit::driver_config c;
  c.directory = directory + "/driver";
  c.run_dir = directory + "/run";
  const char* bin = std::getenv("KIT_TEST_BIN");
  c.libexec = bin != nullptr ? bin : "bin";
  c.root_tag = "test";
  return c;
}

/// One container in its bundle: what it wrote comes back as text, and it is removed at the end.
struct native_box : kit::testing::busybox_bundle {
  kit::drivers::native driver{driver_config(directory)};
  kit::unique_fd output;
  kit::started running;

  ~native_box() {
    try {
      driver.remove(box);
      if (running.waiter) kit::reap(running.waiter.get());
    } catch (const kit::error&) {}
  }

  void command(const std::string& script) { config["process"]["args"] = {"sh", "-c", script}; }
  void create(std::span<const kit::mount> mounts = {}) {
    write();
    auto [read_end, write_end] = kit::make_pipe();
    output = std::move(read_end);
    kit::stdio io;
    io.out = io.err = write_end.get();
    running = driver.create(box, mounts, io);
    box.pid = running.pid;
    box.start_time = running.start_time;
  }
  int wait() {
    const int ended = kit::reap(running.waiter.get());
    running.waiter.reset();
    return ended;
  }
  std::string text() { return kit::read_all(output.get(), "output"); }

  /// From nothing to the end of `script`: what it wrote; its status in `status`.
  std::string run(const std::string& script) {
    command(script);
    create();
    driver.start(box);
    std::string out = text();
    status = wait();
    return out;
  }
  int status = -1;
};

template <class F>
kit::error error_of(F f) {
  try {
    f();
  } catch (const kit::error& e) {
    return e;
  }
  throw std::runtime_error("no error was thrown");
}

}  // namespace

TEST_CASE("a program runs as process 1 of its own root") {
  if (!runs_here()) return;
  native_box b;
  const std::string mounts = kit::read_file("/proc/self/mountinfo");
  CHECK(b.run("echo $$; hostname; ls /; ls /proc/self/fd | wc -l; exit 7") ==
        "1\nbox\nbin\ndev\netc\nproc\nsys\ntmp\n4\n");
  CHECK(b.status == 7);
  CHECK(kit::read_file("/proc/self/mountinfo") == mounts);
}

TEST_CASE("the identity is what the configuration says") {
  if (!runs_here()) return;
  native_box b;
  auto& process = b.config["process"];
  process["user"] = {{"uid", 1000}, {"gid", 1001}, {"umask", 077}, {"additionalGids", {5, 6}}};
  process["cwd"] = "/made/for/it";
  process["rlimits"] = {{{"type", "RLIMIT_NOFILE"}, {"soft", 100}, {"hard", 200}}};
  process["oomScoreAdj"] = 500;
  process["env"].push_back("GREETING=hello");
  const std::string out = b.run(
      "id -u; id -g; id -G; umask; pwd; ulimit -Sn; ulimit -Hn; echo $GREETING; cat /proc/self/oom_score_adj;"
      "grep -e Cap -e NoNewPrivs -e Sig[BI] /proc/self/status; echo to-stdout > /dev/stdout");
  CHECK(out ==
        "1000\n1001\n1001 5 6\n0077\n/made/for/it\n100\n200\nhello\n500\n"
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
        "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
        "CapBnd:\t0000000000000021\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nto-stdout\n");
  CHECK(b.status == 0);
}

TEST_CASE("ambient capabilities reach a user without privilege") {
  if (!runs_here()) return;
  native_box b;
  b.config["process"]["user"] = {{"uid", 1000}, {"gid", 1000}};
  auto& sets = b.config["process"]["capabilities"];
  for (const char* set : {"bounding", "effective", "permitted", "inheritable", "ambient"}) sets[set] = {"CAP_KILL"};
  CHECK(b.run("grep Cap /proc/self/status | cut -f2") ==
        "0000000000000020\n0000000000000020\n0000000000000020\n"
        "0000000000000020\n0000000000000020\n");
}

TEST_CASE("masked paths are empty, read-only ones refuse") {
  if (!runs_here()) return;
  native_box b;
  b.config["root"]["readonly"] = true;
  b.config["mounts"].push_back({{"destination", "/tmp"}, {"type", "tmpfs"}, {"source", "tmpfs"}});
  b.config["linux"]["readonlyPaths"].push_back("/etc");
  CHECK(b.run("wc -c < /proc/timer_list; ls -a /sys/firmware | wc -l;"
              "echo 1 > /proc/sys/kernel/domainname; touch /x /etc/x /tmp/x; ls /tmp") ==
        "0\n2\nsh: can't create /proc/sys/kernel/domainname: Read-only file system\n"
        "touch: /x: Read-only file system\ntouch: /etc/x: Read-only file system\nx\n");
}

TEST_CASE("bind mounts land inside the root, wherever the image's links point") {
  if (!runs_here()) return;
  native_box b;
  const std::string volume = b.directory + "/volume";
  kit::make_directories(volume);
  kit::replace_file(volume + "/file", "of the host\n");
  std::filesystem::create_symlink(b.directory, b.rootfs() + "/escape");
  auto& mounts = b.config["mounts"];
  mounts.push_back({{"destination", "/escape/volume"}, {"source", volume}, {"options", {"rbind", "ro"}}});
  mounts.push_back({{"destination", "/deep/er/file"}, {"source", volume + "/file"}, {"options", {"bind", "rw"}}});
  mounts.push_back({{"destination", "/../../up"}, {"type", "tmpfs"}, {"options", {"size=64k", "ro"}}});
  const std::string before = kit::read_file("/proc/self/mountinfo");
  CHECK(b.run("cat /escape/volume/file; touch /escape/volume/x; echo changed > /deep/er/file; touch /up/x; ls -d " +
              b.directory) ==
        "of the host\ntouch: /escape/volume/x: Read-only file system\n"
        "touch: /up/x: Read-only file system\n" +
            b.directory + "\n");
  CHECK(kit::read_file(volume + "/file") == "changed\n");
  CHECK(std::filesystem::exists(b.rootfs() + b.directory + "/volume"));
  CHECK(kit::read_file("/proc/self/mountinfo") == before);
}

TEST_CASE("an image cannot redirect /proc") {
  if (!runs_here()) return;
  native_box b;
  std::filesystem::create_symlink("/tmp", b.rootfs() + "/proc");
  b.write();
  CHECK(error_of([&] { b.create(); }).code() == errc::invalid);
}

TEST_CASE("devices, links and limits are there; the host's devices are not") {
  if (!runs_here()) return;
  native_box b;
  b.config["linux"]["devices"] = {
      {{"path", "/dev/kit/fuse"}, {"type", "c"}, {"major", 10}, {"minor", 229}, {"fileMode", 0666}, {"uid", 7}}};
  CHECK(b.run("head -c 3 /dev/zero | wc -c; echo x > /dev/null; stat -c '%t:%T %a %u' /dev/kit/fuse;"
              "readlink /dev/fd; readlink /dev/ptmx; ls /dev; head -c 1 /dev/kit/fuse") ==
        "3\na:e5 666 7\n/proc/self/fd\npts/ptmx\nfd\nfull\nkit\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\n"
        "stdout\ntty\nurandom\nzero\nhead: /dev/kit/fuse: Operation not permitted\n");
}

TEST_CASE("the cgroup mount shows the container's own group as its root, read-only") {
  if (!runs_here()) return;
  native_box b;
  CHECK(b.run("grep -v ':/$' /proc/self/cgroup; cd /sys/fs/cgroup; cat cgroup.procs pids/cgroup.procs 2>/dev/null | "
              "grep -x 1;"
              "find . -maxdepth 1 -type d -exec mkdir '{}/x' ';' 2>&1 | grep -v 'Read-only file system'") == "1\n");
}

TEST_CASE("sysctls of the container's own namespaces are set, the host's refused") {
  if (!runs_here()) return;
  native_box b;
  b.config["linux"]["sysctl"] = {{"net.ipv4.ip_forward", "1"}, {"kernel.shmmni", "128"}};
  CHECK(b.run("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni") == "1\n128\n");
  native_box bad;
  bad.config["linux"]["sysctl"] = {{"vm.swappiness", "1"}};
  const kit::error e = error_of([&] { bad.create(); });
  CHECK(e.code() == errc::invalid);
  CHECK(std::string(e.what()).find("$.linux.sysctl.vm.swappiness") != std::string::npos);
}

TEST_CASE("a user namespace maps root to nobody of the host") {
  if (!runs_here()) return;
  native_box b;
  b.config["linux"]["namespaces"].push_back({{"type", "user"}});
  b.config["linux"]["uidMappings"] = {{{"containerID", 0}, {"hostID", 200000}, {"size", 65536}}};
  b.config["linux"]["gidMappings"] = b.config["linux"]["uidMappings"];
  for (const char* place : {"/proc", "/dev", "/sys"}) kit::make_directories(b.rootfs() + place);
  CHECK(
      b.run(
          "id -u; cat /proc/self/uid_map; echo x > /dev/null && head -c 1 /dev/zero | wc -c; hostname new && hostname;"
          "stat -c %u /bin/busybox") ==
      "0\n         0     200000      65536\n1\nhostname: sethostname: Operation not permitted\n65534\n");
  CHECK(b.status == 0);
}

TEST_CASE("a root made of mounts is idmapped for the user namespace, and exec joins it") {
  if (!runs_here()) return;
  native_box b;
  b.config["root"]["path"] = "/nowhere";
  b.config["linux"]["namespaces"].push_back({{"type", "user"}});
  b.config["linux"]["uidMappings"] = {{{"containerID", 0}, {"hostID", 200000}, {"size", 65536}}};
  b.config["linux"]["gidMappings"] = b.config["linux"]["uidMappings"];
  b.command("stat -c %u /bin/busybox; touch /tmp/mine; exec sleep 30");
  const kit::mount root = kit::mount::bind(b.rootfs(), false);
  const std::string before = kit::read_file("/proc/self/mountinfo");
  try {
    b.create({&root, 1});
  } catch (const kit::error& e) {
    if (e.code() != errc::unsupported) throw;
    WARN("skipped: " << e.what());
    return;
  }
  b.driver.start(b.box);
  char word[3] = {};
  REQUIRE(::read(b.output.get(), word, 2) == 2);
  CHECK(word == std::string("0\n"));
  auto [read_end, write_end] = kit::make_pipe();
  kit::stdio io;
  io.out = io.err = write_end.get();
  const kit::started s = b.driver.exec(
      b.box, R"({"args": ["sh", "-c", "id -u; cat /proc/self/oom_score_adj; stat -c %u /tmp/mine"], "cwd": "/",
                 "env": ["PATH=/bin"], "oomScoreAdj": 300})",
      io);
  write_end.reset();
  CHECK(kit::read_all(read_end.get(), "output") == "0\n300\n0\n");
  CHECK(kit::reap(s.waiter.get()) == 0);
  struct stat st {};
  REQUIRE(::stat((b.rootfs() + "/tmp/mine").c_str(), &st) == 0);
  CHECK(st.st_uid == 0);
  CHECK(kit::read_file("/proc/self/mountinfo") == before);
}

TEST_CASE("what fails says what and why, and leaves nothing") {
  if (!runs_here()) return;
  struct row {
    const char* pointer;
    nlohmann::json value;
    errc code;
    const char* words;
  };
  const row rows[] = {
      {"/process/args", {"nowhere"}, errc::not_found, "find the program nowhere"},
      {"/process/args", {"/etc"}, errc::permission, "find the program /etc"},
      {"/process/args", {"./etc/plain"}, errc::permission, "./etc/plain"},
      {"/process/cwd", "/etc/plain", errc::invalid, "working directory"},
      {"/mounts/0/type", "nofs", errc::unsupported, "nofs on /proc ($.mounts[0])"},
      {"/mounts/1/options", {"size=much"}, errc::invalid, "tmpfs on /dev ($.mounts[1])"},
      {"/mounts/1", {{"destination", "/x"}, {"source", "/nowhere"}, {"type", "bind"}}, errc::not_found, "/nowhere"},
      {"/root/path", "/nowhere", errc::not_found, "/nowhere"},
      {"/linux/namespaces/1", {{"type", "network"}, {"path", "/nowhere"}}, errc::not_found, "/nowhere"},
      {"/linux/resources/memory", {{"limit", 1}}, errc::io, "out of memory"},
  };
  for (const row& r : rows) {
    INFO(r.pointer << " " << r.value);
    native_box b;
    kit::replace_file(b.rootfs() + "/etc/plain", "not a program");
    b.config[nlohmann::json::json_pointer(r.pointer)] = r.value;
    try {
      b.create();
      FAIL("created");
    } catch (const kit::error& e) {
      INFO(e.what());
      CHECK(e.code() == r.code);
      CHECK(std::string(e.what()).find(r.words) != std::string::npos);
    }
    CHECK(std::filesystem::is_empty(b.box.state_dir));
    CHECK_FALSE(kit::cgroup(b.config["linux"]["cgroupsPath"]).exists());
  }
}

TEST_CASE("what only execve can find out, start says") {
  if (!runs_here()) return;
  for (const auto& [content, code] :
       {std::pair("no interpreter line", errc::invalid), std::pair("#!/nowhere\n", errc::not_found)}) {
    const errc expected = code;
    native_box b;
    kit::replace_file(b.rootfs() + "/bin/program", content, 0755);
    b.config["process"]["args"] = {"program"};
    b.create();
    const kit::error e = error_of([&] { b.driver.start(b.box); });
    INFO(e.what());
    CHECK(e.code() == expected);
    CHECK(std::string(e.what()).find("/bin/program") != std::string::npos);
    CHECK(b.wait() >= 126);
  }
}

TEST_CASE("start: from another process, once") {
  if (!runs_here()) return;
  native_box b;
  b.command("echo ran; exec sleep 30");
  b.create();
  CHECK(error_of([&] { b.driver.create(b.box, {}, {}); }).code() == errc::exists);
  CHECK(error_of([&] { b.driver.exec(b.box, "{\"args\": [\"true\"], \"cwd\": \"/\"}", {}); }).code() ==
        errc::not_found);
  const pid_t other = ::fork();
  if (other == 0) {
    try {
      kit::drivers::native again(driver_config(b.directory));
      again.start(b.box);
      ::_exit(0);
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = -1;
  ::waitpid(other, &status, 0);
  CHECK(status == 0);
  CHECK(error_of([&] { b.driver.start(b.box); }).code() == errc::conflict);
  char word[5] = {};
  REQUIRE(::read(b.output.get(), word, 4) == 4);
  CHECK(word == std::string("ran\n"));
  b.driver.remove(b.box);
  CHECK(error_of([&] { b.driver.start(b.box); }).code() == errc::not_found);
  b.driver.remove(b.box);
}

TEST_CASE("a created container dies with its launcher, a started one does not") {
  if (!runs_here()) return;
  for (const bool started : {false, true}) {
    native_box b;
    b.command("sleep 30");
    b.write();
    auto [read_end, write_end] = kit::make_pipe();
    const int told = write_end.get();
    const pid_t launcher = ::fork();
    if (launcher == 0) {
      try {
        kit::started s = b.driver.create(b.box, {}, {});
        b.box.pid = s.pid;
        b.box.start_time = s.start_time;
        if (started) b.driver.start(b.box);
        const std::pair<pid_t, std::uint64_t> name{s.pid, s.start_time};
        (void)!::write(told, &name, sizeof name);
      } catch (...) {}
      ::_exit(0);
    }
    write_end.reset();
    std::pair<pid_t, std::uint64_t> name{};
    REQUIRE(::read(read_end.get(), &name, sizeof name) == sizeof name);
    const kit::unique_fd init = kit::open_process(name.first, name.second);
    ::waitpid(launcher, nullptr, 0);
    // Its parent is gone: it may be reaped by another, which also is an end.
    CHECK((!init || kit::has_ended(init.get(), started ? 200ms : 5000ms)) == !started);
    b.box.pid = name.first;
    b.box.start_time = name.second;
    b.driver.remove(b.box);
    CHECK((!init || kit::has_ended(init.get(), 5000ms)));
  }
}

TEST_CASE("exec: the same view, an identity of its own") {
  if (!runs_here()) return;
  native_box b;
  b.command("touch /tmp/ready; exec sleep 30");
  b.create();
  b.driver.start(b.box);
  while (!std::filesystem::exists(b.rootfs() + "/tmp/ready")) std::this_thread::sleep_for(1ms);
  const auto exec = [&](nlohmann::json process, std::string& out) {
    auto [read_end, write_end] = kit::make_pipe();
    kit::stdio io;
    io.out = io.err = write_end.get();
    kit::started s = b.driver.exec(b.box, process.dump(), io);
    write_end.reset();
    out = kit::read_all(read_end.get(), "output");
    return kit::reap(s.waiter.get());
  };
  std::string out;
  CHECK(
      exec({{"args",
             {"sh", "-c",
              "id -u; hostname; pwd; ps | grep -c '[s]leep 30'; ls /proc/self/fd | wc -l;"
              "ls -l /proc/1/ns | grep -o '[a-z]*:.*' > /tmp/1; ls -l /proc/self/ns | grep -o '[a-z]*:.*' > /tmp/2; "
              "cmp /tmp/1 /tmp/2;"
              "cat /proc/1/cgroup > /tmp/1; cat /proc/self/cgroup > /tmp/2; cmp /tmp/1 /tmp/2; exit 9"}},
            {"cwd", "/tmp"},
            {"env", {"PATH=/bin"}},
            {"user", {{"uid", 0}, {"gid", 0}}},
            {"capabilities",
             {{"bounding", {"CAP_SYS_PTRACE"}}, {"effective", {"CAP_SYS_PTRACE"}}, {"permitted", {"CAP_SYS_PTRACE"}}}}},
           out) == 9);
  CHECK(out == "0\nbox\n/tmp\n1\n4\n");
  CHECK(exec({{"args", {"id", "-u"}}, {"cwd", "/"}, {"env", {"PATH=/bin"}}, {"user", {{"uid", 1234}, {"gid", 1}}}},
             out) == 0);
  CHECK(out == "1234\n");
  CHECK(error_of([&] { exec({{"args", {"nowhere"}}, {"cwd", "/"}}, out); }).code() == errc::not_found);
  CHECK(error_of([&] { exec({{"args", {"/etc"}}, {"cwd", "/"}}, out); }).code() == errc::permission);
  CHECK(error_of([&] { exec({{"args", {"x"}}, {"cwd", "here"}}, out); }).code() == errc::invalid);
  b.driver.pause(b.box);
  b.driver.pause(b.box);
  CHECK(error_of([&] { exec({{"args", {"true"}}, {"cwd", "/"}}, out); }).code() == errc::busy);
  b.driver.signal(b.box, SIGKILL, reach::init);
  CHECK(b.wait() == 128 + SIGKILL);
  CHECK(error_of([&] { exec({{"args", {"true"}}, {"cwd", "/"}}, out); }).code() == errc::not_found);
  CHECK(error_of([&] { b.driver.signal(b.box, SIGTERM, reach::init); }).code() == errc::not_found);
}

TEST_CASE("a terminal of the container's own is handed out") {
  if (!runs_here()) return;
  native_box b;
  b.config["process"]["terminal"] = true;
  b.config["process"]["consoleSize"] = {{"height", 33}, {"width", 101}};
  b.config["process"]["user"] = {{"uid", 1000}, {"gid", 1000}};
  b.command(
      "tty; stty size; stat -c %u /dev/pts/0; echo seen > /dev/console; echo seen > /dev/tty; read line; echo got "
      "$line");
  b.write();
  auto [ours, theirs] = kit::make_socket_pair();
  kit::stdio io;
  io.console_socket = theirs.get();
  b.running = b.driver.create(b.box, {}, io);
  b.box.pid = b.running.pid;
  b.box.start_time = b.running.start_time;
  const kit::unique_fd terminal(kit::receive_descriptor(ours.get()));
  REQUIRE(terminal);
  b.driver.start(b.box);
  REQUIRE(::write(terminal.get(), "line\n", 5) == 5);
  std::string out;
  char buffer[256];
  for (ssize_t n; (n = ::read(terminal.get(), buffer, sizeof buffer)) > 0;)
    out.append(buffer, static_cast<std::size_t>(n));
  CHECK(b.wait() == 0);
  out.erase(std::remove(out.begin(), out.end(), '\r'), out.end());
  out.erase(out.find("line\n"), 5);
  CHECK(out == "/dev/pts/0\n33 101\n1000\nseen\nseen\ngot line\n");
}

TEST_CASE("kit-init as process 1 passes signals on, reaps, and ends as the program does") {
  if (!runs_here()) return;
  native_box b;
  b.config["annotations"] = {{"kit.init", "true"}};
  b.command("trap 'echo term; exit 5' TERM; (sleep 0.01 &); touch /tmp/ready; echo $$; while :; do sleep 0.02; done");
  b.create();
  b.driver.start(b.box);
  while (!std::filesystem::exists(b.rootfs() + "/tmp/ready")) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(50ms);
  for (const auto& entry : kit::cgroup(b.config["linux"]["cgroupsPath"]).processes()) {
    std::string status;  // stays empty if the process ended meanwhile, and was reaped
    std::getline(std::ifstream(fmt::format("/proc/{}/stat", entry)), status);
    CHECK(status.find(") Z ") == std::string::npos);
  }
  b.driver.signal(b.box, SIGTERM, reach::init);
  CHECK(b.wait() == 5);
  CHECK(b.text() == "2\nterm\n");
  native_box killed;
  killed.config["annotations"] = {{"kit.init", "true"}};
  CHECK(killed.run("kill -9 $$").empty());
  CHECK(killed.status == 128 + SIGKILL);
}

TEST_CASE("the helper's file cannot be written through /proc") {
  if (!runs_here()) return;
  native_box b;
  b.config["annotations"] = {{"kit.init", "true"}};
  b.config["process"]["noNewPrivileges"] = false;
  const std::vector<std::string> all{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"};
  for (const char* set : {"bounding", "effective", "permitted"}) b.config["process"]["capabilities"][set] = all;
  const std::string out = b.run("echo x 2>&1 > /proc/1/exe; mount -o remount,rw /proc/1/exe 2>&1; echo done");
  INFO(out);
  CHECK(out.find("Read-only file system") != std::string::npos);
  CHECK(out.find("done") != std::string::npos);
}

TEST_CASE("seccomp answers as the profile says, with and without no_new_privs") {
  if (!runs_here()) return;
  for (const bool no_new_privileges : {true, false}) {
    native_box b;
    b.config["process"]["noNewPrivileges"] = no_new_privileges;
    b.config["linux"]["seccomp"] = {
        {"defaultAction", "SCMP_ACT_ALLOW"},
        {"syscalls", {{{"names", {"mkdir", "mkdirat"}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", 95}}}}};
    CHECK(b.run("mkdir /tmp/x; grep Seccomp: /proc/self/status") ==
          "mkdir: can't create directory '/tmp/x': Operation not supported\nSeccomp:\t2\n");
  }
}

TEST_CASE("limits are in force, changed by update, and read by stats") {
  if (!runs_here()) return;
  native_box b;
  b.config["linux"]["resources"]["memory"] = {{"limit", 64 << 20}};
  b.config["linux"]["resources"]["pids"] = {{"limit", 20}};
  b.command("sleep 30");
  b.create();
  b.driver.start(b.box);
  kit::container_stats s = b.driver.stats(b.box);
  CHECK(s.memory_limit_bytes == 64 << 20);
  CHECK(s.pids_limit == 20);
  CHECK(s.pids == 1);
  b.driver.update(b.box, R"({"memory": {"limit": 33554432}})");
  s = b.driver.stats(b.box);
  CHECK(s.memory_limit_bytes == 32 << 20);
  CHECK(s.pids_limit == 20);
  CHECK(error_of([&] { b.driver.update(b.box, R"({"pids": {"limit": "many"}})"); }).code() == errc::invalid);
}

TEST_CASE("exec enters a container whose init made control groups of its own") {
  if (!runs_here()) return;
  if (kit::cgroup_layout::here().kind() != "v2") {
    WARN("skipped: only version 2 alone keeps processes out of inner groups");
    return;
  }
  native_box b;
  for (auto& m : b.config["mounts"])
    if (m["type"] == "cgroup") m["options"] = {"nosuid"};
  b.command(
      "cd /sys/fs/cgroup && mkdir in && echo 1 > in/cgroup.procs && echo +pids > cgroup.subtree_control && echo done;"
      "exec sleep 30");
  b.create();
  b.driver.start(b.box);
  char word[6] = {};
  REQUIRE(::read(b.output.get(), word, 5) == 5);
  CHECK(word == std::string("done\n"));
  const kit::started s = b.driver.exec(
      b.box, R"({"args": ["grep", "-qx", "0::/in", "/proc/self/cgroup"], "cwd": "/", "env": ["PATH=/bin"]})", {});
  CHECK(kit::reap(s.waiter.get()) == 0);
}

TEST_CASE("a create that was killed at any moment is made whole by the next") {
  if (!runs_here()) return;
  native_box b;
  b.config["process"]["args"] = {"true"};
  b.write();
  for (int delay = 0; delay < 40; ++delay) {
    const pid_t launcher = ::fork();
    if (launcher == 0) {
      try {
        kit::drivers::native(driver_config(b.directory)).create(b.box, {}, {});
      } catch (...) {}
      ::_exit(0);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(delay * 150));
    ::kill(launcher, SIGKILL);
    ::waitpid(launcher, nullptr, 0);
    try {
      b.create();
    } catch (const kit::error& e) {
      if (e.code() != errc::exists) throw;
      b.driver.remove(b.box);
      b.create();
    }
    b.driver.start(b.box);
    CHECK(b.wait() == 0);
    b.driver.remove(b.box);
    CHECK(std::filesystem::is_empty(b.box.state_dir));
    CHECK_FALSE(kit::cgroup(b.config["linux"]["cgroupsPath"]).exists());
  }
}
