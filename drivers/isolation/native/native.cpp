// SPDX-License-Identifier: Apache-2.0
#include "drivers/isolation/native.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <filesystem>

#include "drivers/isolation/native/config.hpp"
#include "drivers/isolation/native/launch.hpp"
#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/system/socket.hpp"

namespace kit::drivers {

static_assert(isolation_driver<native> && configurable_driver<native>);

namespace {

using namespace detail;

bool is_there(const container& c, const char* name) { return ::access((c.state_dir + "/" + name).c_str(), F_OK) == 0; }

void forget(const container& c, const char* name) {
  const std::string path = c.state_dir + "/" + name;
  if (::unlink(path.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) fail_errno(errno, "remove {}", path);
}

/// The group of a container that create answered for. Throws not_found.
cgroup group_of(const container& c, std::string_view what) {
  if (!is_there(c, created_file)) fail(errc::not_found, "{} container {}: it does not exist", what, c.id.brief());
  return cgroup(read_file(c.state_dir + "/" + group_file));
}

/// The container's init, verified and alive. Throws not_found.
unique_fd running(const container& c, std::string_view what) {
  unique_fd process = open_process(c.pid, c.start_time);
  if (!process || has_ended(process.get()))
    fail(errc::not_found, "{} container {}: it is not running", what, c.id.brief());
  return process;
}

/// Whether its init still waits for start.
bool waits_for_start(const container& c) {
  return is_there(c, start_socket) && static_cast<bool>(connect_at(c.state_dir, start_socket));
}

template <class T>
ssize_t receive(int socket, T& out) {
  ssize_t size = 0;
  while ((size = ::recv(socket, &out, sizeof out, 0)) < 0 && errno == EINTR) continue;
  return size;
}

}  // namespace

probe_report native::probe() const {
  probe_report out;
  const auto no = [&](std::string reason, std::string remedy) {
    out.reason = std::move(reason);
    out.remedy = std::move(remedy);
    return out;
  };
  utsname kernel{};
  ::uname(&kernel);
  out.facts.push_back({"kernel", kernel.release});
  out.facts.push_back({"cgroups", std::string(cgroup_layout::here().kind())});
  std::string namespaces;
  for (const char* kind : {"mnt", "pid", "net", "ipc", "uts", "user", "cgroup"})
    if (::access((std::string("/proc/self/ns/") + kind).c_str(), F_OK) == 0)
      namespaces += (namespaces.empty() ? "" : " ") + std::string(kind);
  out.facts.push_back({"namespaces", namespaces});
  out.facts.push_back({"seccomp", ::access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0 ? "yes" : "no"});

  if (!own_capabilities().effective.contains(CAP_SYS_ADMIN))
    return no("containers are made with CAP_SYS_ADMIN, which this process lacks", "run as root");
  for (const char* kind : {"mnt", "pid", "net", "ipc", "uts"})
    if (namespaces.find(kind) == namespaces.npos)
      return no(fmt::format("this kernel has no {} namespaces", kind), "use a kernel built with CONFIG_NAMESPACES");
  // An impossible descriptor: EBADF from a kernel that knows the call.
  if (::syscall(SYS_mount_setattr, -1, "", 0, nullptr, 0) != 0 && errno == ENOSYS)
    return no("this kernel has no mount_setattr(2)", "use Linux 5.14 or newer");
  if (cgroup_layout::here().hierarchies().empty())
    return no("no control group hierarchy is mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup");
  const std::string init = config_.libexec + "/kit-init";
  if (::access(init.c_str(), X_OK) != 0)
    return no("the helper program " + init + " is missing", "install kit's helper programs");
  out.usable = true;
  return out;
}

started native::create(const container& c, std::span<const mount> mounts, const stdio& io) {
  if (is_there(c, created_file)) fail(errc::exists, "create container {}: it exists already", c.id.brief());
  // What a create that was killed left behind.
  if (is_there(c, group_file)) remove(c);
  return launch_container(config_, c, mounts, io);
}

void native::start(const container& c) {
  const auto absent_or_started = [&] {
    running(c, "start");
    fail(errc::conflict, "start container {}: it was started already", c.id.brief());
  };
  const unique_fd init = connect_at(c.state_dir, start_socket);
  if (!init) absent_or_started();
  char word = start_go;
  if (::send(init.get(), &word, 1, MSG_NOSIGNAL) != 1 || receive(init.get(), word) != 1) absent_or_started();
  forget(c, start_socket);
  launch_report report;
  if (receive(init.get(), report) == sizeof report)
    throw_report(report, fmt::format("start container {}", c.id.brief()));
}

void native::signal(const container& c, int signal, reach whom) {
  const unique_fd init = running(c, "signal");
  const cgroup group = group_of(c, "signal");
  if (whom == reach::all) return group.signal(signal);
  if (!send_signal(init.get(), signal)) fail(errc::not_found, "signal container {}: it is not running", c.id.brief());
  // Version 1's freezer holds even the dying.
  if (signal == SIGKILL && cgroup_layout::here().unified() == nullptr && group.frozen()) group.thaw();
}

void native::remove(const container& c) {
  // Its end takes a whole pid namespace with it, faster than one signal to each.
  if (const unique_fd init = open_process(c.pid, c.start_time)) send_signal(init.get(), SIGKILL);
  if (is_there(c, group_file)) {
    // An empty file: the create that wrote it was killed before it made anything.
    if (const std::string path = read_file(c.state_dir + "/" + group_file); !path.empty()) {
      const cgroup group(path);
      if (!group.remove_if_empty()) {
        group.kill();
        group.remove();
      }
    }
  }
  // All there is, for a create that was killed may have left a file under a temporary name; the group's last.
  std::error_code absent;
  for (const auto& entry : std::filesystem::directory_iterator(c.state_dir, absent))
    if (const std::string name = entry.path().filename(); name != group_file) forget(c, name.c_str());
  forget(c, group_file);
}

started native::exec(const container& c, std::string_view process_json, const stdio& io) {
  running(c, "exec in");
  if (waits_for_start(c)) fail(errc::not_found, "exec in container {}: it was not started yet", c.id.brief());
  if (group_of(c, "exec in").frozen()) fail(errc::busy, "exec in container {}: it is paused", c.id.brief());
  return launch_process(config_, c, process_json, io);
}

void native::pause(const container& c) {
  running(c, "pause");
  group_of(c, "pause").freeze();
}

void native::resume(const container& c) {
  running(c, "resume");
  group_of(c, "resume").thaw();
}

void native::update(const container& c, std::string_view resources_json) {
  const cgroup_limits limits = parse_bundle_resources(resources_json);
  running(c, "update");
  group_of(c, "update").apply(limits);
}

container_stats native::stats(const container& c) {
  const cgroup_stats s = group_of(c, "read figures of").stats();
  container_stats out;
  out.cpu_ns = s.cpu_ns;
  out.cpu_user_ns = s.cpu_user_ns;
  out.cpu_system_ns = s.cpu_system_ns;
  out.memory_bytes = s.memory_bytes;
  out.memory_peak_bytes = s.memory_peak_bytes;
  out.memory_limit_bytes = s.memory_limit_bytes;
  out.pids = s.pids;
  out.pids_limit = s.pids_limit;
  out.read_bytes = s.read_bytes;
  out.write_bytes = s.write_bytes;
  out.oom_kills = s.oom_kills;
  return out;
}

}  // namespace kit::drivers
