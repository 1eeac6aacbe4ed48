// SPDX-License-Identifier: Apache-2.0
#include "host.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>

#include "kit/system/cgroup.hpp"
#include "kit/system/error.hpp"
#include "kit/system/namespace.hpp"
#include "kit/system/netlink.hpp"

namespace kit::bench {

namespace {

volatile sig_atomic_t interrupted = 0;

std::string field(const std::string& file, const std::string& key) {
  const std::string text = read_file(file);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    if (line.starts_with(key)) {
      const std::size_t colon = line.find(':');
      const std::size_t begin = line.find_first_not_of(" \t", colon + 1);
      return begin == line.npos ? "" : line.substr(begin);
    }
    at = end + 1;
  }
  return "";
}

}  // namespace

void catch_interrupts() {
  struct sigaction mark {};
  mark.sa_handler = [](int) { interrupted = 1; };
  for (int n : {SIGHUP, SIGINT, SIGTERM}) ::sigaction(n, &mark, nullptr);
}

void stop_if_interrupted() {
  if (interrupted != 0) fail(errc::cancelled, "benchmark: interrupted; what it made is removed");
}

double now_ms() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

std::string own_directory() { return std::filesystem::read_symlink("/proc/self/exe").parent_path(); }

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  // The sbin directories are not in everybody's PATH.
  const std::string all = own_directory() + ":" + (path != nullptr ? path : "") + ":/usr/bin:/usr/sbin:/bin:/sbin";
  for (std::size_t at = 0; at <= all.size();) {
    const std::size_t end = std::min(all.find(':', at), all.size());
    const std::string file = all.substr(at, end - at) + "/" + name;
    if (::access(file.c_str(), X_OK) == 0) return file;
    at = end + 1;
  }
  return "";
}

outcome run(const command& c, const std::string& directory) {
  std::vector<char*> args;
  for (const std::string& word : c) args.push_back(const_cast<char*>(word.c_str()));
  args.push_back(nullptr);
  auto [out, out_end] = make_pipe();
  auto [err, err_end] = make_pipe();
  const pid_t pid = ::fork();
  if (pid < 0) fail_errno(errno, "fork");
  if (pid == 0) {
    const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    ::dup2(null, STDIN_FILENO);
    ::dup2(out_end.get(), STDOUT_FILENO);
    ::dup2(err_end.get(), STDERR_FILENO);
    if (!directory.empty() && ::chdir(directory.c_str()) != 0) ::_exit(126);
    ::execvp(args[0], args.data());
    ::_exit(127);
  }
  out_end.reset();
  err_end.reset();
  outcome o;
  int status = 0;
  // Until it ends, not until its pipes do: a daemon it left behind may hold them.
  for (bool ended = false;;) {
    pollfd ready[2] = {{out.get(), POLLIN, 0}, {err.get(), POLLIN, 0}};
    bool read_some = false;
    if (::poll(ready, 2, ended ? 0 : 5) > 0)
      for (int i = 0; i < 2; ++i)
        if ((ready[i].revents & POLLIN) != 0) {
          char buffer[4096];
          const ssize_t size = ::read(ready[i].fd, buffer, sizeof buffer);
          if (size > 0) (i == 0 ? o.out : o.err).append(buffer, static_cast<std::size_t>(size)), read_some = true;
        }
    if (ended && !read_some) break;
    if (!ended) ended = ::waitpid(pid, &status, WNOHANG) == pid;
  }
  o.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return o;
}

std::string why(const outcome& o) {
  std::string text = o.err.empty() ? o.out : o.err;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.size() > 300) text = "... " + text.substr(text.size() - 300);
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.empty() ? fmt::format("it ended with {} and said nothing", o.status) : text;
}

std::string must_run(const command& c, const std::string& directory) {
  outcome o = run(c, directory);
  if (o.status != 0) {
    std::string words;
    for (const std::string& word : c) words += (words.empty() ? "" : " ") + word;
    fail(errc::io, "run {}: {}", words, why(o));
  }
  while (!o.out.empty() && o.out.back() == '\n') o.out.pop_back();
  return o.out;
}

scratch::scratch(const std::string& base) {
  const auto make = [](std::string pattern) {
    if (::mkdtemp(pattern.data()) == nullptr) fail_errno(errno, "make a directory {}", pattern);
    return pattern;
  };
  const char* usual = std::getenv("TMPDIR");
  // Short: a Unix socket's path may have 107 bytes.
  disk_ = make((!base.empty() ? base : usual != nullptr ? usual : "/tmp") + "/kit-bench.XXXXXX");
  run_ = make("/dev/shm/kit-bench.XXXXXX");
  for (const std::string& directory : {disk_, run_})
    std::filesystem::permissions(directory, std::filesystem::perms(0711));
}

scratch::~scratch() {
  for (const std::string& directory : {run_, disk_}) try {
      const std::string mounts = read_file("/proc/self/mountinfo");
      std::vector<std::string> inside;
      for (std::size_t at = 0; (at = mounts.find(" " + directory + "/", at)) != mounts.npos;) {
        const std::size_t begin = ++at;
        inside.push_back(mounts.substr(begin, mounts.find(' ', begin) - begin));
      }
      std::sort(inside.rbegin(), inside.rend());
      for (const std::string& point : inside) ::umount2(point.c_str(), MNT_DETACH);
      // Whoever ends last may still be writing.
      for (int tries = 0;; ++tries) try {
          remove_tree(directory);
          break;
        } catch (const std::exception&) {
          if (tries == 50) throw;
          ::usleep(100000);
        }
    } catch (const std::exception& e) {
      std::fprintf(stderr, "kit-bench: warning: %s\n", e.what());
    }
}

void make_rootfs(const std::string& directory) {
  namespace fs = std::filesystem;
  const std::string busybox = find_program("busybox");
  if (busybox.empty()) fail(errc::not_found, "make a root file system: there is no busybox; install busybox-static");
  for (const char* name : {"bin", "etc", "proc", "sys", "dev", "tmp", "root", "usr/lib", "var"})
    fs::create_directories(directory + "/" + name);
  fs::copy_file(busybox, directory + "/bin/busybox");
  for (const char* name : {"true", "sh", "cat", "ls", "sleep", "touch", "env"})
    fs::create_symlink("busybox", directory + "/bin/" + name);
  for (const char* name : {"hosts", "hostname", "resolv.conf"}) replace_file(directory + "/etc/" + name, "");
  replace_file(directory + "/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
  replace_file(directory + "/etc/group", "root:x:0:\n");
  replace_file(directory + "/usr/lib/os-release", "ID=busybox\n");  // systemd-nspawn asks for one
  if (run({directory + "/bin/true"}).status != 0)
    fail(errc::unsupported, "make a root file system: {} does not run; install busybox-static", busybox);
}

void leave_network() {
  if (::unshare(CLONE_NEWNET) != 0) fail_errno(errno, "make a network namespace");
  netlink_batch b;
  b.set_link("lo", {.up = true});
  netlink().commit(b);
}

unique_fd other_network() {
  unique_fd made = make_network_namespace();
  netlink_batch b;
  b.set_link("lo", {.up = true});
  netlink(made.get()).commit(b);
  return made;
}

bool is_root() { return ::geteuid() == 0; }

std::string load_average() {
  const std::string text = read_file("/proc/loadavg");
  std::size_t end = 0;
  for (int i = 0; i < 3; ++i) end = text.find(' ', end + 1);
  return text.substr(0, end);
}

std::string file_system_of(const std::string& path) {
  // statfs(2)'s magic numbers, of those a root is usually on.
  static constexpr std::array<std::pair<unsigned long, const char*>, 6> known{{{0xEF53, "ext4"},
                                                                               {0x01021994, "tmpfs"},
                                                                               {0x9123683E, "btrfs"},
                                                                               {0x58465342, "xfs"},
                                                                               {0x794c7630, "overlay"},
                                                                               {0x2fc12fc1, "zfs"}}};
  struct statfs s {};
  if (::statfs(path.c_str(), &s) != 0) return "?";
  for (const auto& [magic, name] : known)
    if (static_cast<unsigned long>(s.f_type) == magic) return name;
  return fmt::format("{:#x}", static_cast<unsigned long>(s.f_type));
}

json describe_machine(const scratch& where) {
  utsname kernel{};
  ::uname(&kernel);
  const std::string memory = field("/proc/meminfo", "MemTotal");
  return {{"processors", ::sysconf(_SC_NPROCESSORS_ONLN)},
          {"model", field("/proc/cpuinfo", "model name")},
          {"memory", fmt::format("{:.1f} GiB", std::strtod(memory.c_str(), nullptr) / 1024 / 1024)},
          {"kernel", fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine)},
          {"control groups", cgroup_layout::here().kind()},
          {"images and layers on", file_system_of(where.disk())},
          {"run directory on", file_system_of(where.run())}};
}

}  // namespace kit::bench
