// SPDX-License-Identifier: Apache-2.0
#include "reference_isolation.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kit/system/capability.hpp"
#include "kit/system/cgroup.hpp"
#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/system/pty.hpp"
#include "kit/system/seccomp.hpp"
#include "kit/system/socket.hpp"

namespace kit::testing {

using json = nlohmann::json;

namespace {

// ---- config.json --------------------------------------------------------------------------------

/// The member `name` of `object`, whose own path is `path`; throws invalid, naming it, if it is not a T.
template <class T>
T member(const json& object, const std::string& path, const std::string& name) {
  const std::string whole = path.empty() ? name : path + "." + name;
  if (!object.is_object() || !object.contains(name)) fail(errc::invalid, "config: $.{} is missing", whole);
  const json& value = object.at(name);
  const bool fits = std::is_same_v<T, json> || (std::is_same_v<T, std::string> && value.is_string()) ||
                    (std::is_same_v<T, bool> && value.is_boolean()) ||
                    (std::is_integral_v<T> && !std::is_same_v<T, bool> && value.is_number_integer());
  if (!fits) fail(errc::invalid, "config: $.{} is of a wrong type", whole);
  return value.get<T>();
}

template <class T>
T member_or(const json& object, const std::string& path, const std::string& name, T otherwise) {
  return object.is_object() && object.contains(name) ? member<T>(object, path, name) : otherwise;
}

json parsed(std::string_view text) {
  try {
    return json::parse(text);
  } catch (const json::exception& e) {
    fail(errc::invalid, "config: {}", e.what());
  }
}

std::vector<std::string> texts(const json& object, const std::string& path, const std::string& name) {
  const json list = member_or<json>(object, path, name, json::array());
  if (!list.is_array()) fail(errc::invalid, "config: $.{}.{} is no array", path, name);
  std::vector<std::string> out;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (!list[i].is_string()) fail(errc::invalid, "config: $.{}.{}[{}] is no text", path, name, i);
    out.push_back(list[i]);
  }
  return out;
}

struct process_plan {
  std::vector<std::string> args, env;
  std::string cwd;
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t umask = 022;
  std::vector<gid_t> groups;
  bool terminal = false, no_new_privileges = false;
  std::uint16_t rows = 0, columns = 0;
  process_capabilities capabilities;
  std::vector<std::pair<int, rlimit>> rlimits;
};

process_plan plan_of(const json& p, const std::string& path) {
  process_plan plan;
  plan.args = texts(p, path, "args");
  if (plan.args.empty()) fail(errc::invalid, "config: $.{}.args is empty", path);
  plan.env = texts(p, path, "env");
  plan.cwd = member<std::string>(p, path, "cwd");
  if (plan.cwd.empty() || plan.cwd[0] != '/') fail(errc::invalid, "config: $.{}.cwd is not absolute", path);
  const json user = member_or<json>(p, path, "user", json::object());
  plan.uid = member_or<unsigned>(user, path + ".user", "uid", 0);
  plan.gid = member_or<unsigned>(user, path + ".user", "gid", 0);
  plan.umask = member_or<unsigned>(user, path + ".user", "umask", 022);
  for (const auto& g : member_or<json>(user, path, "additionalGids", json::array())) plan.groups.push_back(g);
  plan.terminal = member_or<bool>(p, path, "terminal", false);
  plan.no_new_privileges = member_or<bool>(p, path, "noNewPrivileges", false);
  if (p.contains("consoleSize")) {
    plan.rows = p["consoleSize"]["height"];
    plan.columns = p["consoleSize"]["width"];
  }
  const json caps = member_or<json>(p, path, "capabilities", json::object());
  auto set = [&](const char* name) { return capabilities_from_names(texts(caps, path + ".capabilities", name)); };
  plan.capabilities = {set("bounding"), set("effective"), set("permitted"), set("inheritable"), set("ambient")};
  for (const auto& r : member_or<json>(p, path, "rlimits", json::array()))
    plan.rlimits.emplace_back(r["type"] == "RLIMIT_CORE" ? RLIMIT_CORE : RLIMIT_NOFILE, rlimit{r["soft"], r["hard"]});
  return plan;
}

cgroup_limits limits_of(const json& resources, const std::string& path) {
  cgroup_limits l;
  if (resources.contains("memory")) l.memory = member<std::int64_t>(resources["memory"], path + "memory", "limit");
  if (resources.contains("pids")) l.pids = member<std::int64_t>(resources["pids"], path + "pids", "limit");
  for (const auto& h : member_or<json>(resources, path, "hugepageLimits", json::array()))
    l.hugepages.emplace_back(h["pageSize"], h["limit"]);
  return l;
}

std::optional<seccomp_filter> filter_of(const json& linux_part) {
  if (!linux_part.contains("seccomp")) return std::nullopt;
  const json& s = linux_part["seccomp"];
  seccomp_profile profile;
  profile.default_action = seccomp_action_of(s["defaultAction"].get<std::string>());
  for (const auto& r : s["syscalls"])
    profile.rules.push_back(
        {r["names"], seccomp_action_of(r["action"].get<std::string>()), r["errnoRet"].get<unsigned>(), {}});
  return compile_seccomp(profile);
}

constexpr struct {
  const char* name;
  int flag;
} namespace_types[] = {{"pid", CLONE_NEWPID}, {"network", CLONE_NEWNET}, {"ipc", CLONE_NEWIPC},
                       {"uts", CLONE_NEWUTS}, {"mount", CLONE_NEWNS},    {"cgroup", CLONE_NEWCGROUP}};

// ---- reports ------------------------------------------------------------------------------------

/// From a child to whoever waits for it, on a SOCK_SEQPACKET.
struct report {
  enum kind : std::uint32_t { pid, ready, failed } what = ready;
  pid_t process = 0;
  std::int32_t code = 0;
  char text[300] = {};
};

void tell(int socket, report::kind what, pid_t process = 0, errc code = errc::io, std::string_view text = {}) {
  report r;
  r.what = what;
  r.process = process;
  r.code = static_cast<std::int32_t>(code);
  text.copy(r.text, sizeof r.text - 1);
  (void)::send(socket, &r, sizeof r, MSG_NOSIGNAL);
}

std::optional<report> hear(int socket) {
  report r;
  return ::recv(socket, &r, sizeof r, 0) == static_cast<ssize_t>(sizeof r) ? std::optional(r) : std::nullopt;
}

/// The shim names its child, and returns when the caller holds it: who is reaped earlier has no pidfd.
void hand_over(int socket, pid_t child) {
  tell(socket, report::pid, child);
  (void)hear(socket);
}

/// The caller's side of hand_over.
void take(started& s, pid_t child, int socket) {
  s.pid = child;
  s.init = open_pidfd(child);
  s.start_time = process_start_time(child);
  tell(socket, report::ready);
}

void close_all_but(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned first = 3;
  for (int fd : keep) {
    if (fd < static_cast<int>(first)) continue;
    if (fd > static_cast<int>(first)) ::syscall(SYS_close_range, first, static_cast<unsigned>(fd) - 1, 0);
    first = static_cast<unsigned>(fd) + 1;
  }
  ::syscall(SYS_close_range, first, ~0u, 0);
}

void must(long result, std::string_view what) {
  if (result < 0) throw_errno(errno, what);
}

// ---- the root file system, in the child -----------------------------------------------------------

std::string by_descriptor(const unique_fd& fd) { return fmt::format("/proc/self/fd/{}", fd.get()); }

/// The directory `path` inside `root`, made if it is absent, with its parents.
unique_fd directory_in(int root, const std::string& path) {
  std::string done;
  for (const auto& part : std::filesystem::path(path).relative_path()) {
    const unique_fd parent = open_in_root(root, done.empty() ? "/" : done, O_PATH | O_DIRECTORY);
    if (::mkdirat(parent.get(), part.c_str(), 0755) != 0 && errno != EEXIST) throw_errno(errno, "make " + path);
    done += "/" + part.string();
  }
  return open_in_root(root, done.empty() ? "/" : done, O_PATH);
}

void remount_read_only(const std::string& where) {
  mount_attr attr{};
  attr.attr_set = MOUNT_ATTR_RDONLY;
  must(::syscall(SYS_mount_setattr, AT_FDCWD, where.c_str(), 0, &attr, sizeof attr), "make " + where + " read-only");
}

void make_mounts(const std::string& root_path, const json& config, isolation_fault fault) {
  const unique_fd root = open_file(root_path, O_PATH | O_DIRECTORY);
  const json mounts = config.value("mounts", json::array());
  for (const auto& m : mounts) {
    const std::string destination = m["destination"];
    if (fault == isolation_fault::links_lead_mounts_out) std::filesystem::create_directories(root_path + destination);
    const unique_fd target = fault == isolation_fault::links_lead_mounts_out
                                 ? open_file(root_path + destination, O_PATH)
                                 : directory_in(root.get(), destination);
    unsigned long flags = 0;
    std::string data;
    for (const std::string option : m.value("options", json::array())) {
      if (option == "ro")
        flags |= MS_RDONLY;
      else if (option == "nosuid")
        flags |= MS_NOSUID;
      else if (option == "nodev")
        flags |= MS_NODEV;
      else if (option == "noexec")
        flags |= MS_NOEXEC;
      else if (option == "rbind" || option == "bind")
        flags |= MS_BIND | MS_REC;
      else
        data += (data.empty() ? "" : ",") + option;
    }
    const std::string source = m.value("source", "none"), type = m["type"];
    must(::mount(source.c_str(), by_descriptor(target).c_str(), (flags & MS_BIND) != 0 ? nullptr : type.c_str(), flags,
                 (flags & MS_BIND) != 0 ? nullptr : data.c_str()),
         "mount " + destination);
    // The old descriptor is of what lies beneath.
    if ((flags & MS_BIND) != 0 && (flags & MS_RDONLY) != 0)
      remount_read_only(by_descriptor(open_in_root(root.get(), destination, O_PATH)));
  }
  const unique_fd dev = directory_in(root.get(), "/dev");
  constexpr struct {
    const char* name;
    unsigned major, minor;
  } devices[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
  const mode_t mask = ::umask(0);
  for (const auto& d : devices)
    if (::mknodat(dev.get(), d.name, S_IFCHR | 0666, makedev(d.major, d.minor)) != 0 && errno != EEXIST)
      throw_errno(errno, std::string("make /dev/") + d.name);
  ::umask(mask);
  (void)::symlinkat("pts/ptmx", dev.get(), "ptmx");

  if (fault == isolation_fault::masks_ignored) return;
  const json& part = config["linux"];
  for (const std::string path : part.value("readonlyPaths", json::array())) {
    const int fd = try_open_in_root(root.get(), path.c_str(), O_PATH);
    if (fd < 0) continue;
    const std::string where = by_descriptor(unique_fd(::dup(fd)));
    const unique_fd below(fd);
    must(::mount(by_descriptor(below).c_str(), by_descriptor(below).c_str(), nullptr, MS_BIND | MS_REC, nullptr),
         "bind " + path);
    remount_read_only(by_descriptor(open_in_root(root.get(), path, O_PATH)));
  }
  for (const std::string path : part.value("maskedPaths", json::array())) {
    const unique_fd below(try_open_in_root(root.get(), path.c_str(), O_PATH));
    struct stat st {};
    if (!below || ::fstat(below.get(), &st) != 0) continue;
    if (S_ISDIR(st.st_mode))
      must(::mount("tmpfs", by_descriptor(below).c_str(), "tmpfs", MS_RDONLY, "size=0"), "mask " + path);
    else
      must(::mount("/dev/null", by_descriptor(below).c_str(), nullptr, MS_BIND, nullptr), "mask " + path);
  }
}

void enter_root(const std::string& root) {
  must(::chdir(root.c_str()), "enter the root");
  must(::syscall(SYS_pivot_root, ".", "."), "pivot_root");
  must(::umount2(".", MNT_DETACH), "leave the host's root");
  must(::chdir("/"), "enter the root");
}

// ---- what comes before the program, in the child ----------------------------------------------------

void take_stdio(const process_plan& p, const stdio& io, isolation_fault fault) {
  if (p.terminal) {
    pty_pair pty;
    if (int e = open_pty("/dev/pts/ptmx", pty); e < 0) throw_errno(-e, "open a terminal");
    (void)set_terminal_size(pty.slave, p.rows, p.columns);
    if (int e = send_descriptor(io.console_socket, pty.master); e < 0) throw_errno(-e, "send the terminal");
    for (int n = 0; n < 3; ++n) must(::dup2(pty.slave, n), "take the terminal");
    (void)::setsid();
    (void)take_controlling_terminal(0);
    return;
  }
  int given[3] = {io.in, io.out, io.err};
  if (fault == isolation_fault::stdio_swapped) std::swap(given[1], given[2]);
  int safe[3];
  for (int n = 0; n < 3; ++n) {
    if (given[n] < 0) given[n] = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    must(safe[n] = ::fcntl(given[n], F_DUPFD_CLOEXEC, 3), "take stdio");
  }
  for (int n = 0; n < 3; ++n) must(::dup2(safe[n], n), "take stdio");
}

/// The program's path inside; throws not_found or permission, naming it.
std::string find_program(const process_plan& p, isolation_fault fault) {
  std::vector<std::string> candidates = {p.args[0]};
  if (p.args[0].find('/') == std::string::npos) {
    candidates.clear();
    for (const auto& variable : p.env) {
      if (variable.substr(0, 5) != "PATH=") continue;
      for (std::size_t at = 5; at <= variable.size();) {
        const auto end = std::min(variable.find(':', at), variable.size());
        candidates.push_back(variable.substr(at, end - at) + "/" + p.args[0]);
        at = end + 1;
      }
    }
  }
  struct stat own {};
  (void)::stat("/proc/self/exe", &own);
  for (const auto& path : candidates) {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) continue;
    // An image must not have this very program run inside, under its control.
    const bool is_own = st.st_dev == own.st_dev && st.st_ino == own.st_ino;
    if (!S_ISREG(st.st_mode) || (st.st_mode & 0111) == 0 || (is_own && fault != isolation_fault::own_binary_offered))
      fail(errc::permission, "program {}: it is no executable file", p.args[0]);
    return path;
  }
  fail(errc::not_found, "program {}: it is not there", p.args[0]);
}

/// Becomes the program; answers only by an exception.
[[noreturn]] void become(const process_plan& p, const std::string& program, const std::optional<seccomp_filter>& filter,
                         isolation_fault fault) {
  for (const auto& [resource, limit] : p.rlimits)
    must(::setrlimit(static_cast<__rlimit_resource>(resource), &limit), "set a limit");
  if (fault != isolation_fault::signals_kept) {
    for (int n = 1; n < NSIG; ++n) (void)::signal(n, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
  }
  ::umask(p.umask);
  must(::chdir(p.cwd.c_str()), "enter " + p.cwd);
  const bool drop = fault != isolation_fault::capabilities_kept;
  if (int e = drop ? limit_bounding_set(p.capabilities.bounding) : 0; e < 0) throw_errno(-e, "drop capabilities");
  must(::setgroups(p.groups.size(), p.groups.data()), "set groups");
  must(::setresgid(p.gid, p.gid, p.gid), "set group");
  must(::setresuid(p.uid, p.uid, p.uid), "set user");
  if (int e = drop ? set_own_capabilities(p.capabilities) : 0; e < 0) throw_errno(-e, "set capabilities");
  if (p.no_new_privileges) must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  std::vector<char*> args, env;
  for (const auto& a : p.args) args.push_back(const_cast<char*>(a.c_str()));
  for (const auto& e : p.env) env.push_back(const_cast<char*>(e.c_str()));
  if (fault == isolation_fault::environment_leaked)
    for (char** e = environ; *e != nullptr; ++e) env.push_back(*e);
  args.push_back(nullptr);
  env.push_back(nullptr);
  if (fault != isolation_fault::descriptor_leaked) ::syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
  if (int e = filter ? install_seccomp(*filter) : 0; e < 0) throw_errno(-e, "install the filter");
  ::execve(program.c_str(), args.data(), env.data());
  throw error(errno == ENOEXEC ? errc::invalid : errc_of(errno),
              fmt::format("execute {}: {}", program, errno_text(errno)));
}

/// The shim: ends as `init` does, in the shell's convention.
[[noreturn]] void wait_and_end(pid_t init, isolation_fault fault) {
  close_all_but({});
  int status = 0;
  while (::waitpid(init, &status, 0) < 0 && errno == EINTR) continue;
  if (fault == isolation_fault::exit_code_lost) ::_exit(0);
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

// ---- the driver's side ---------------------------------------------------------------------------

/// For start_by_the_creator_only. Atomic: containers may be created by several threads.
std::atomic<pid_t> creator;

std::string group_path(const container& c) {
  try {
    return read_file(c.state_dir + "/group");
  } catch (const error&) {
    return {};
  }
}

cgroup group_of(const container& c, std::string_view verb) {
  const auto path = group_path(c);
  if (path.empty()) fail(errc::not_found, "{} container {}: there is none", verb, c.id.brief());
  return cgroup(path);
}

unique_fd running(const container& c, std::string_view verb) {
  unique_fd init;
  if (c.pid > 0) init = open_process(c.pid, c.start_time);
  if (!init || has_ended(init.get())) fail(errc::not_found, "{} container {}: it is not running", verb, c.id.brief());
  return init;
}

void forget_files(const container& c) {
  for (const char* name : {"/start", "/group"}) ::unlink((c.state_dir + name).c_str());
}

/// What a shim of ours says until the process inside is ready, or failed; then the shim is reaped.
started answer(int socket, pid_t shim) {
  started s;
  s.waiter_pid = shim;
  s.waiter = open_pidfd(shim);
  // The shim tells the pid, the init the rest; either may come first.
  std::optional<report> init_said;
  while (s.pid == 0 || !init_said) {
    const auto r = hear(socket);
    if (!r) break;
    if (r->what == report::pid)
      take(s, r->process, socket);
    else
      init_said = r;
  }
  if (s.pid > 0 && init_said && init_said->what == report::ready) return s;
  ::kill(shim, SIGKILL);
  if (s.pid > 0) ::kill(s.pid, SIGKILL);
  (void)reap(s.waiter.get());
  // The init was the shim's child; it comes to this process if that is a subreaper.
  if (s.pid > 0) (void)::waitpid(s.pid, nullptr, 0);
  if (init_said) throw error(static_cast<errc>(init_said->code), init_said->text);
  fail(errc::io, "the container's first process ended before it was ready");
}

}  // namespace

started reference_isolation::create(const container& c, std::span<const mount> mounts, const stdio& io) {
  creator = ::getpid();
  const json config = parsed(read_file(c.bundle + "/config.json"));
  const process_plan plan = plan_of(member<json>(config, "", "process"), "process");
  const json root = member<json>(config, "", "root");
  std::string root_path = member<std::string>(root, "root", "path");
  if (root_path[0] != '/') root_path = c.bundle + "/" + root_path;
  const json mount_list = config.value("mounts", json::array());
  for (std::size_t i = 0; i < mount_list.size(); ++i)
    (void)member<std::string>(mount_list[i], fmt::format("mounts[{}]", i), "destination");
  const json linux_part = member<json>(config, "", "linux");
  int flags = 0;
  std::vector<std::pair<int, unique_fd>> joined;
  for (std::size_t i = 0; i < linux_part["namespaces"].size(); ++i) {
    const json& n = linux_part["namespaces"][i];
    const auto* found = std::find_if(std::begin(namespace_types), std::end(namespace_types),
                                     [&](const auto& t) { return n["type"] == t.name; });
    if (found == std::end(namespace_types)) fail(errc::invalid, "config: $.linux.namespaces[{}].type is none", i);
    if (n.contains("path"))
      joined.emplace_back(found->flag, open_file(n["path"], O_RDONLY));
    else
      flags |= found->flag;
  }
  const cgroup_limits limits = limits_of(linux_part.value("resources", json::object()), "linux.resources.");
  const auto filter = filter_of(linux_part);
  const cgroup group(linux_part["cgroupsPath"].get<std::string>().substr(1));

  const unique_fd mark(::open((c.state_dir + "/group").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!mark && errno == EEXIST) fail(errc::exists, "create container {}: it exists", c.id.brief());
  if (!mark) fail_errno(errno, "create container {}", c.id.brief());
  try {
    write_all(mark.get(), group.path(), "group");
    group.make();
    if (!has(isolation_fault::limits_ignored)) group.apply(limits);
    const cgroup_entry entry = group.prepare();
    const unique_fd tree = mounts.empty() ? unique_fd() : make_detached(mounts);
    const unique_fd listener = listen_at(c.state_dir, "start");
    const unique_fd launcher = open_pidfd(::getpid());
    auto [ours, theirs] = make_socket_pair();

    const pid_t shim = ::fork();
    if (shim == 0) {
      ours.reset();
      try {
        must(::unshare(flags & ~CLONE_NEWCGROUP), "unshare");
        for (const auto& [kind, fd] : joined) must(::setns(fd.get(), kind), "join a namespace");
        const pid_t init = ::fork();
        must(init, "fork");
        if (init > 0) {
          hand_over(theirs.get(), init);
          wait_and_end(init, fault_);
        }
        if (int e = entry.enter(); e < 0) throw_errno(-e, "enter the cgroup");
        if ((flags & CLONE_NEWCGROUP) != 0) must(::unshare(CLONE_NEWCGROUP), "unshare cgroup");
        must(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "keep mounts private");
        if (tree) {
          const unique_fd where = open_file(root_path, O_PATH | O_DIRECTORY);
          if (int e = attach_mount(tree.get(), where.get()); e < 0) throw_errno(-e, "attach the root");
        } else {
          must(::mount(root_path.c_str(), root_path.c_str(), nullptr, MS_BIND | MS_REC, nullptr), "bind the root");
        }
        make_mounts(root_path, config, fault_);
        enter_root(root_path);
        if (root.value("readonly", false)) remount_read_only("/");
        const std::string hostname = config.value("hostname", "");
        if (!hostname.empty()) must(::sethostname(hostname.data(), hostname.size()), "set the host name");
        if (!has(isolation_fault::keyring_kept)) ::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
        take_stdio(plan, io, fault_);
        if (!has(isolation_fault::descriptor_leaked)) close_all_but({theirs.get(), listener.get(), launcher.get()});
        const std::string program = find_program(plan, fault_);
        tell(theirs.get(), report::ready);
        if (has(isolation_fault::program_runs_in_create)) become(plan, program, filter, fault_);
        pollfd either[] = {{listener.get(), POLLIN, 0}, {launcher.get(), POLLIN, 0}};
        if (has(isolation_fault::init_outlives_the_caller)) either[1].fd = -1;
        while (::poll(either, 2, -1) < 0 && errno == EINTR) continue;
        if (either[1].revents != 0) ::_exit(1);
        const unique_fd starter(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        char go = 0;
        if (::recv(starter.get(), &go, 1, 0) != 1) ::_exit(1);
        tell(starter.get(), report::ready);
        try {
          become(plan, program, filter, fault_);
        } catch (const error& e) {
          tell(starter.get(), report::failed, 0, e.code(), e.what());
        }
        ::_exit(127);
      } catch (const error& e) {
        tell(theirs.get(), report::failed, 0, e.code(), e.what());
      } catch (const std::exception& e) {
        tell(theirs.get(), report::failed, 0, errc::io, e.what());
      }
      ::_exit(127);
    }
    if (shim < 0) fail_errno(errno, "fork");
    theirs.reset();
    started s = answer(ours.get(), shim);
    s.netns = open_file(fmt::format("/proc/{}/ns/net", s.pid), O_RDONLY);
    return s;
  } catch (...) {
    if (!has(isolation_fault::failed_create_leaves_a_cgroup)) {
      group.kill();
      group.remove();
    }
    forget_files(c);
    throw;
  }
}

void reference_isolation::start(const container& c) {
  if (has(isolation_fault::start_by_the_creator_only) && ::getpid() != creator)
    fail(errc::not_found, "start container {}: it is another process's", c.id.brief());
  const unique_fd init = connect_at(c.state_dir, "start");
  if (!init) {
    running(c, "start");
    fail(errc::conflict, "start container {}: it was started already", c.id.brief());
  }
  ::unlink((c.state_dir + "/start").c_str());
  if (::send(init.get(), "g", 1, MSG_NOSIGNAL) != 1 || !hear(init.get()))
    fail(errc::conflict, "start container {}: it does not answer", c.id.brief());
  if (has(isolation_fault::start_does_not_wait_for_execve)) return;
  if (const auto r = hear(init.get())) throw error(static_cast<errc>(r->code), r->text);
}

void reference_isolation::signal(const container& c, int signal, reach whom) {
  if (has(isolation_fault::signal_trusts_the_pid) && c.pid > 0) {
    ::kill(c.pid, signal);
    return;
  }
  const unique_fd init = running(c, "signal");
  const cgroup group = group_of(c, "signal");
  if (whom == reach::all && !has(isolation_fault::signal_for_all_goes_to_the_init)) return group.signal(signal);
  send_signal(init.get(), signal);
  if (signal == SIGKILL) group.thaw();
}

void reference_isolation::remove(const container& c) {
  const auto path = group_path(c);
  if (path.empty() && has(isolation_fault::remove_of_unknown_throws))
    fail(errc::not_found, "remove container {}: there is none", c.id.brief());
  if (!path.empty() && !has(isolation_fault::remove_kills_nobody)) {
    const cgroup group(path);
    group.kill();
    group.remove();
  }
  if (!has(isolation_fault::remove_keeps_its_files)) forget_files(c);
}

started reference_isolation::exec(const container& c, std::string_view process_json, const stdio& io) {
  const process_plan plan = plan_of(parsed(process_json), "process");
  const unique_fd init = running(c, "exec in");
  const cgroup group = group_of(c, "exec in");
  if (group.frozen()) fail(errc::busy, "exec in container {}: it is paused", c.id.brief());
  const cgroup_entry entry = group.prepare();
  auto [ours, theirs] = make_socket_pair();
  const pid_t shim = ::fork();
  if (shim == 0) {
    ours.reset();
    try {
      int kinds = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWCGROUP;
      if (has(isolation_fault::exec_stays_in_the_hosts_pid_namespace)) kinds &= ~CLONE_NEWPID;
      must(::setns(init.get(), kinds), "join the container");
      const pid_t process = ::fork();
      must(process, "fork");
      if (process > 0) {
        hand_over(theirs.get(), process);
        wait_and_end(process, fault_);
      }
      if (!has(isolation_fault::exec_stays_in_the_hosts_cgroup))
        if (int e = entry.enter(); e < 0) throw_errno(-e, "enter the cgroup");
      ::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
      take_stdio(plan, io, isolation_fault::none);
      close_all_but({theirs.get()});
      become(plan, find_program(plan, fault_), std::nullopt, fault_);
    } catch (const error& e) {
      tell(theirs.get(), report::failed, 0, e.code(), e.what());
    } catch (const std::exception& e) {
      tell(theirs.get(), report::failed, 0, errc::io, e.what());
    }
    ::_exit(127);
  }
  if (shim < 0) fail_errno(errno, "fork");
  theirs.reset();
  // The shim closes its end when the pid is taken, the process when execve succeeds: the end is what says "ready".
  started s;
  s.waiter_pid = shim;
  s.waiter = open_pidfd(shim);
  std::optional<report> failed;
  while (const auto r = hear(ours.get())) {
    if (r->what == report::pid)
      take(s, r->process, ours.get());
    else
      failed = r;
  }
  if (!failed) return s;
  ::kill(shim, SIGKILL);
  (void)reap(s.waiter.get());
  if (s.pid > 0) (void)::waitpid(s.pid, nullptr, 0);
  throw error(static_cast<errc>(failed->code), failed->text);
}

void reference_isolation::pause(const container& c) {
  running(c, "pause");
  if (!has(isolation_fault::pause_does_nothing)) group_of(c, "pause").freeze();
}

void reference_isolation::resume(const container& c) {
  running(c, "resume");
  group_of(c, "resume").thaw();
}

void reference_isolation::update(const container& c, std::string_view resources_json) {
  const cgroup_limits limits = limits_of(parsed(resources_json), "");
  running(c, "update");
  const cgroup group = group_of(c, "update");
  if (has(isolation_fault::update_stops_halfway)) {
    cgroup_limits half;
    half.pids = limits.pids;
    group.apply(half);
  }
  group.apply(limits);
}

container_stats reference_isolation::stats(const container& c) {
  const cgroup_stats s = group_of(c, "read figures of").stats();
  container_stats out;
  out.cpu_ns = s.cpu_ns;
  out.memory_bytes = s.memory_bytes;
  out.memory_limit_bytes = s.memory_limit_bytes;
  out.pids = s.pids;
  out.pids_limit = s.pids_limit;
  return out;
}

}  // namespace kit::testing
