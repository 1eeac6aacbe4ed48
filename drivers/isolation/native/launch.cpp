// SPDX-License-Identifier: Apache-2.0
#include "drivers/isolation/native/launch.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <algorithm>

#include "drivers/isolation/native/child.hpp"
#include "drivers/isolation/native/plan.hpp"
#include "kit/system/error.hpp"
#include "kit/system/namespace.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/system/process.hpp"
#include "kit/system/socket.hpp"

namespace kit::drivers::detail {

namespace {

// ---- what went wrong, in words -----------------------------------------------------------------------------------

std::string step_words(const launch_report& r, const bundle_config* config) {
  const auto item = [&](const auto& list, auto&& words) {
    return config != nullptr && r.item < list.size() ? words(list[r.item]) : std::string("?");
  };
  static const bundle_config none;
  const bundle_config& c = config != nullptr ? *config : none;
  const auto itself = [](const std::string& s) { return s; };
  switch (r.step) {
    case launch_step::ready: return "wait";
    case launch_step::named: return fmt::format("begin or end {}", step_name(r.text));
    case launch_step::join_namespace:
      return "join namespace " + item(c.namespaces, [](const bundle_namespace& n) { return n.path; });
    case launch_step::set_oom_score: return "set oom_score_adj";
    case launch_step::enter_cgroup: return "enter the control group";
    case launch_step::make_cgroup_namespace: return "make the cgroup namespace";
    case launch_step::keep_mounts_private: return "keep mounts private";
    case launch_step::receive_rootfs: return "receive the root file system";
    case launch_step::become_root: return "become root of the user namespace";
    case launch_step::attach_rootfs: return "attach the root file system";
    case launch_step::make_mount:
      return item(c.mounts, [&](const bundle_mount& m) {
        return fmt::format("mount {} on {} ($.mounts[{}]){}{}", m.type == "bind" ? m.source : m.type, m.destination,
                           r.item, r.text[0] != '\0' ? ": " : "", r.text);
      });
    case launch_step::make_device: return fmt::format("make device {}", r.item);
    case launch_step::link_device: return "make the links in /dev";
    case launch_step::mask_path: return "mask " + item(c.masked_paths, itself);
    case launch_step::protect_path: return "make read-only " + item(c.readonly_paths, itself);
    case launch_step::set_sysctl: return "set sysctl " + item(c.sysctl, [](const auto& s) { return s.first; });
    case launch_step::set_hostname: return "set the host name";
    case launch_step::set_domainname: return "set the domain name";
    case launch_step::enter_rootfs: return "enter the root file system";
    case launch_step::open_terminal: return "open a terminal at /dev/pts (it needs a devpts mount)";
    case launch_step::send_terminal: return "send the terminal over the console socket";
    case launch_step::protect_rootfs: return "make the root read-only";
    case launch_step::take_stdio: return "take standard input and output";
    case launch_step::run_init: return "run kit-init";
    case launch_step::read_plan: return "read the plan";
    case launch_step::make_keyring: return "make a session keyring (see /proc/sys/kernel/keys)";
    case launch_step::take_terminal: return "take the controlling terminal";
    case launch_step::enter_directory: return "enter the working directory";
    case launch_step::find_program: return fmt::format("find the program {}", r.text);
    case launch_step::wait_for_start: return "wait for start";
    case launch_step::set_rlimit:
      return "set " + item(c.process.rlimits, [](const bundle_rlimit& l) { return l.name; });
    case launch_step::own_stdio: return "give standard input and output to the user";
    case launch_step::limit_bounding_set: return "limit the bounding set of capabilities";
    case launch_step::set_groups: return "set the groups";
    case launch_step::set_user: return "set the user";
    case launch_step::set_capabilities: return "set the capabilities";
    case launch_step::forbid_privileges: return "set no_new_privs";
    case launch_step::install_seccomp: return "install the seccomp filter";
    case launch_step::start_program: return "make a process for the program";
    case launch_step::execute_program: return fmt::format("execute {}", r.text);
  }
  return "?";
}

/// What a failure of this step means: a missing file system type is not a missing file.
errc code_of(const launch_report& r) {
  switch (r.step) {
    case launch_step::make_mount:
      if (r.error == ENODEV) return errc::unsupported;
      break;
    case launch_step::execute_program:
      if (r.error == ENOEXEC || r.error == E2BIG || r.error == ELIBBAD) return errc::invalid;
      if (r.error == EISDIR) return errc::permission;
      break;
    case launch_step::find_program:
      if (r.error != ENOENT && r.error != EACCES) return errc::permission;
      break;
    default: break;
  }
  return errc_of(r.error);
}

// ---- what create and exec share ----------------------------------------------------------------------------------

/// kit-init in a read-only mount of its own: there is no way from it to a file that could be written.
unique_fd open_init(const std::string& libexec) {
  const std::string path = libexec + "/kit-init";
  const int tree = ::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  // Not as not_found: that is the container's program.
  if (tree < 0) fail(errc::io, "open kit's helper program {}: {}; is kit installed whole?", path, errno_text(errno));
  unique_fd fd = above_stdio(unique_fd(tree), "kit-init");
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (::mount_setattr(fd.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
    fail_errno(errno, "make the helper program {} read-only", path);
  return fd;
}

/// One to three descriptors above 2, of the caller's or of /dev/null.
struct child_stdio {
  unique_fd in, out, err, console;

  child_stdio(const stdio& io, bool terminal) {
    if (terminal) {
      if (io.console_socket < 0) fail(errc::invalid, "process.terminal is set and no console socket was given");
      console = above_stdio(io.console_socket, "the console socket");
      return;
    }
    in = copy(io.in, "standard input");
    out = copy(io.out, "standard output");
    err = copy(io.err, "standard error");
  }

 private:
  static unique_fd copy(int fd, const char* what) {
    return fd >= 0 ? above_stdio(fd, what) : above_stdio(open_file("/dev/null", O_RDWR | O_NOCTTY), what);
  }
};

/// What only the host can refuse, found before anything is made.
void check_process(const bundle_process& p, const std::string& where) {
  const process_capabilities own = own_capabilities();
  for (const bundle_rlimit& r : p.rlimits) {
    rlimit64 now{};
    if (::getrlimit64(static_cast<__rlimit_resource>(r.resource), &now) != 0)
      fail_errno(errno, "config {}: read {}", where, r.name);
    if (r.value.rlim_max > now.rlim_max && !own.effective.contains(CAP_SYS_RESOURCE))
      fail(errc::unsupported, "config {}.rlimits: raise {} from {} to {}: this host gives root no CAP_SYS_RESOURCE",
           where, r.name, now.rlim_max, r.value.rlim_max);
  }
  if (p.capabilities && !own.bounding.includes(p.capabilities->bounding | p.capabilities->permitted)) {
    const auto missing = capability_names((p.capabilities->bounding | p.capabilities->permitted) - own.bounding);
    fail(errc::permission, "config {}.capabilities: this host does not give {}", where, missing.front());
  }
}

std::optional<seccomp_filter> filter_of(const driver_config& driver, const bundle_config& config) {
  if (!config.seccomp) return {};
  const auto profile = [&] { return parse_bundle_seccomp(*config.seccomp); };
  if (driver.run_dir.empty()) return compile_seccomp(profile());
  return cached_seccomp(*config.seccomp, driver.run_dir + "/seccomp", profile);
}

/// Kills and reaps a child unless it was released.
class child_guard {
 public:
  child_guard() = default;
  explicit child_guard(cloned_process p) : process_(std::move(p)) {}
  child_guard(child_guard&&) = default;
  child_guard& operator=(child_guard&&) = default;
  ~child_guard() {
    if (!process_.pidfd) return;
    ::kill(process_.pid, SIGKILL);
    siginfo_t info{};
    while (::waitid(P_PIDFD, static_cast<id_t>(process_.pidfd.get()), &info, WEXITED) != 0 && errno == EINTR) continue;
  }
  [[nodiscard]] pid_t pid() const noexcept { return process_.pid; }
  [[nodiscard]] int pidfd() const noexcept { return process_.pidfd.get(); }
  unique_fd release() noexcept { return std::move(process_.pidfd); }

 private:
  cloned_process process_;
};

/// The next report, or one made up if the child was killed: size 0 is an end without a word.
std::optional<launch_report> next_report(int socket) {
  launch_report report;
  for (;;) {
    const ssize_t size = ::recv(socket, &report, sizeof report, 0);
    if (size == sizeof report) return report;
    // ECONNRESET: it ended without reading all we sent, and is told before what it said last.
    if (size < 0 && (errno == EINTR || errno == ECONNRESET)) continue;
    if (size == 0) return {};
    fail_errno(size < 0 ? errno : EPROTO, "read the child's report");
  }
}

started answer(child_guard& child) {
  started out;
  out.pid = out.waiter_pid = child.pid();
  out.start_time = process_start_time(child.pid());
  out.waiter = child.release();
  const int copy = ::fcntl(out.waiter.get(), F_DUPFD_CLOEXEC, 3);
  if (copy < 0) {
    child = child_guard({out.pid, std::move(out.waiter)});
    fail_errno(errno, "duplicate a pidfd");
  }
  out.init = unique_fd(copy);
  return out;
}

void write_file(const std::string& path, std::string_view text) {
  write_all(open_file(path, O_WRONLY).get(), text, path);
}

// ---- create ------------------------------------------------------------------------------------------------------

class container_launch {
 public:
  container_launch(const driver_config& driver, const container& c, std::span<const mount> mounts, const stdio& io)
      : driver_(driver), container_(c), root_mounts_(mounts), io_(io) {}
  container_launch(const container_launch&) = delete;
  container_launch& operator=(const container_launch&) = delete;

  void read_config_in_parent() {
    const std::string path = container_.bundle + "/config.json";
    config_ = parse_bundle_config(read_file(path), container_.bundle);
    check_process(config_.process, "$.process");
    filter_ = filter_of(driver_, config_);
  }

  void open_host_files_in_parent() {
    init_ = open_init(driver_.libexec);
    stdio_.emplace(io_, config_.process.terminal);
    for (const bundle_namespace& n : config_.namespaces)
      if (!n.path.empty()) {
        namespaces_.push_back(above_stdio(open_file(n.path, O_RDONLY), "a namespace"));
        joined_.emplace_back(n.kind, namespaces_.back().get());
      }
    for (std::size_t i = 0; i < config_.mounts.size(); ++i) mounts_.push_back(prepare_mount(i));
    list_devices();
  }

  void make_cgroup_in_parent() {
    const std::string& given = config_.cgroups_path;
    group_.emplace(!given.empty() ? given
                                  : fmt::format("kit{}{}/{}", driver_.root_tag.empty() ? "" : "-", driver_.root_tag,
                                                container_.id.text()));
    const std::string intent = container_.state_dir + "/" + group_file;
    write_all(open_file(intent, O_WRONLY | O_CREAT | O_TRUNC, 0600).get(), group_->path(), intent);
    group_->make();
    allow_devices();
    group_->apply(config_.resources);
    group_entry_ = group_->prepare();
    view_cgroups();
  }

  void open_rendezvous_in_parent() {
    listener_ = above_stdio(listen_at(container_.state_dir, start_socket), "the start socket");
    launcher_ = above_stdio(open_pidfd(::getpid()), "a pidfd");
    auto [here, there] = make_socket_pair();
    here_ = above_stdio(std::move(here), "a socket");
    there_ = above_stdio(std::move(there), "a socket");
  }

  void write_plan_in_parent() {
    init_plan plan;
    plan.flags = init_waits;
    if (const auto found = config_.annotations.find("kit.init");
        found != config_.annotations.end() && found->second == "true")
      plan.flags |= init_reaps;
    plan.report = there_.get();
    plan.listener = listener_.get();
    plan.launcher = launcher_.get();
    plan_ = make_init_plan(plan, config_.process, filter_);
    plan_number_ = std::to_string(plan_.get());
  }

  void clone_child_in_parent() {
    char name[] = "kit-init";
    char* const args[] = {name, plan_number_.data(), nullptr};
    create_child child;
    child.in = stdio_->in.get();
    child.out = stdio_->out.get();
    child.err = stdio_->err.get();
    child.console_socket = stdio_->console.get();
    child.terminal = config_.process.terminal;
    child.rows = config_.process.console_rows;
    child.columns = config_.process.console_columns;
    child.report = there_.get();
    child.parent_end = here_.get();
    child.kept = {plan_.get(), there_.get(), listener_.get(), launcher_.get()};
    child.group = &group_entry_;
    child.cloned_into_group = group_entry_.into() >= 0;
    child.init = init_.get();
    child.init_args = args;
    child.config = &config_;
    child.joined = joined_;
    child.mounts = mounts_;
    child.cgroups = cgroups_;
    child.devices = devices_;
    child.makes_devices = makes_devices_;
    child.stage = container_.bundle.c_str();

    // The cgroup namespace is made by the child, once it is in its group.
    const auto flags = static_cast<std::uint64_t>(config_.new_namespaces() & ~CLONE_NEWCGROUP);
    std::optional<child_pid_namespace> elsewhere;
    for (const auto& [kind, fd] : joined_)
      if (kind == CLONE_NEWPID) elsewhere.emplace(fd);
    cloned_process made = clone_process(flags, group_entry_.into());
    if (made.pid == 0) run_create_child(child);
    child_ = child_guard(std::move(made));
    there_.reset();
  }

  void map_users_in_parent() {
    if ((config_.new_namespaces() & CLONE_NEWUSER) == 0) return;
    const auto lines = [](const std::vector<bundle_id_mapping>& list) {
      std::string text;
      for (const bundle_id_mapping& m : list) text += fmt::format("{} {} {}\n", m.inside, m.outside, m.count);
      return text;
    };
    write_file(fmt::format("/proc/{}/uid_map", child_.pid()), lines(config_.uid_mappings));
    write_file(fmt::format("/proc/{}/gid_map", child_.pid()), lines(config_.gid_mappings));
  }

  void set_oom_score_in_parent() {
    if (const auto& score = config_.process.oom_score_adj)
      write_file(fmt::format("/proc/{}/oom_score_adj", child_.pid()), std::to_string(*score));
  }

  void make_rootfs_in_parent() {
    unique_fd tree;
    if (root_mounts_.empty()) {
      const int fd =
          ::open_tree(AT_FDCWD, config_.root_path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
      if (fd < 0) fail_errno(errno, "config $.root.path: open {}", config_.root_path);
      tree = unique_fd(fd);
    } else {
      unique_fd users;
      if ((config_.new_namespaces() & CLONE_NEWUSER) != 0 && !(users = namespace_of_child(namespace_kind::user)))
        return;
      tree = make_detached(root_mounts_, users.get());
    }
    mount_attr attributes{};
    attributes.propagation = MS_PRIVATE;
    if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0)
      fail_errno(errno, "make the root file system private");
    // A child that failed meanwhile is heard in the next step.
    if (const int e = send_descriptor(here_.get(), tree.get()); e != 0 && e != -EPIPE && e != -ECONNRESET)
      fail_errno(-e, "hand the root file system to the child");
  }

  /// A namespace to be joined is the child's only later.
  void lend_netns_in_parent() {
    if ((config_.new_namespaces() & CLONE_NEWNET) == 0) return;
    if (!(netns_ = namespace_of_child(namespace_kind::net))) return;
    if (io_.on_netns != nullptr) (*io_.on_netns)(netns_.get());
  }

  void wait_until_ready_in_parent() {
    const auto report = next_report(here_.get());
    if (!report) {
      const int status = reap(child_.release().get());
      fail(errc::io, "create container {}: its first process ended with status {}; was it killed, or out of memory?",
           container_.id.brief(), status);
    }
    if (report->step != launch_step::ready)
      throw_report(*report, fmt::format("create container {}", container_.id.brief()), &config_);
  }

  started answer_in_parent() {
    if (!netns_) netns_ = open_namespace(child_.pid(), namespace_kind::net);
    open_file(container_.state_dir + "/" + created_file, O_WRONLY | O_CREAT, 0600);
    started out = answer(child_);
    out.netns = std::move(netns_);
    return out;
  }

  /// After a failure: nothing is left.
  void undo() noexcept {
    { const child_guard ended = std::move(child_); }
    try {
      if (group_) group_->kill();
      if (group_) group_->remove();
    } catch (const std::exception& e) {
      this_call().log(log_level::warning, e.what());
    }
    for (const char* name : {start_socket, created_file, group_file})
      ::unlink((container_.state_dir + "/" + name).c_str());
  }

 private:
  /// Empty if the child has ended: why, the next step hears.
  unique_fd namespace_of_child(namespace_kind kind) const {
    try {
      return open_namespace(child_.pid(), kind);
    } catch (const error&) {
      if (!has_ended(child_.pidfd(), std::chrono::seconds(1))) throw;  // its namespaces go a little before it
    }
    return {};
  }

  prepared_mount prepare_mount(std::size_t index) {
    const bundle_mount& m = config_.mounts[index];
    prepared_mount out;
    out.what = &m;
    if (m.type != "bind") {
      out.refuses_links = m.type == "proc" || m.type == "sysfs";
      out.becomes_readonly = m.type == "tmpfs" && (m.here.set & MOUNT_ATTR_RDONLY) != 0;
      return out;
    }
    const int fd = ::open_tree(AT_FDCWD, m.source.c_str(),
                               OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (m.recursive ? AT_RECURSIVE : 0U));
    if (fd < 0) fail_errno(errno, "config $.mounts[{}].source: open {}", index, m.source);
    out.tree = unique_fd(fd);
    struct stat st {};
    if (::fstat(fd, &st) != 0) fail_errno(errno, "config $.mounts[{}].source: stat {}", index, m.source);
    out.is_directory = S_ISDIR(st.st_mode);
    const auto set = [&](const bundle_mount_attributes& a, std::uint64_t propagation, bool below) {
      mount_attr attributes{};
      attributes.attr_set = a.set;
      attributes.attr_clr = a.clear;
      attributes.propagation = propagation;
      if (a.set == 0 && a.clear == 0 && propagation == 0) return;
      if (::mount_setattr(fd, "", AT_EMPTY_PATH | (below ? AT_RECURSIVE : 0), &attributes, sizeof attributes) != 0)
        fail_errno(errno, "config $.mounts[{}].options: set on {}", index, m.source);
    };
    // Private unless asked otherwise: what is mounted inside must not come out, nor the reverse.
    if (m.propagation == 0 || !m.propagation_below) set({}, m.propagation == 0 ? std::uint64_t{MS_PRIVATE} : 0, true);
    set({}, m.propagation, m.propagation_below);
    set(m.below, 0, true);
    set(m.here, 0, false);
    return out;
  }

  /// config-linux.md, "Default Devices", then the configuration's own; one given twice is the configuration's.
  void list_devices() {
    constexpr mode_t all = S_IFCHR | 0666;
    devices_ = config_.devices;
    const std::pair<const char*, dev_t> defaults[] = {
        {"/dev/null", makedev(1, 3)},   {"/dev/zero", makedev(1, 5)},    {"/dev/full", makedev(1, 7)},
        {"/dev/random", makedev(1, 8)}, {"/dev/urandom", makedev(1, 9)}, {"/dev/tty", makedev(5, 0)},
    };
    for (const auto& [path, number] : defaults) {
      const std::string name = path;
      if (std::none_of(config_.devices.begin(), config_.devices.end(),
                       [&](const bundle_device& d) { return d.path == name; }))
        devices_.push_back({name, all, number, 0, 0});
    }
    makes_devices_ = std::none_of(config_.mounts.begin(), config_.mounts.end(), [](const bundle_mount& m) {
      return m.type == "bind" && (m.destination == "/dev" || m.destination == "/dev/");
    });
  }

  /// What a container needs whatever its list says: to make nodes (opening them is another right), the default
  /// devices and its terminals.
  void allow_devices() {
    auto& rules = config_.resources.devices;
    if (!rules) return;
    for (char type : {'c', 'b'}) rules->push_back({true, type, {}, {}, false, false, true});
    const std::pair<std::uint32_t, std::optional<std::uint32_t>> devices[] = {
        {1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, std::nullopt}};
    for (const auto& d : devices) rules->push_back({true, 'c', d.first, d.second, true, true, true});
  }

  void view_cgroups() {
    if (std::none_of(config_.mounts.begin(), config_.mounts.end(),
                     [](const bundle_mount& m) { return m.type == "cgroup" || m.type == "cgroup2"; }))
      return;
    const auto& all = cgroup_layout::here().hierarchies();
    for (const cgroup_hierarchy& h : all) {
      cgroup_view view;
      view.v2 = h.v2;
      for (const std::string& controller : h.controllers) {
        if (h.v2) break;
        view.name +=
            (view.name.empty() ? "" : ",") + (controller.starts_with("name=") ? controller.substr(5) : controller);
        if (controller.starts_with("name=")) {
          view.flags.emplace_back("none");
          view.values.emplace_back("name", controller.substr(5));
        } else {
          view.flags.push_back(controller);
        }
      }
      if (h.v2 && all.size() > 1) view.name = "unified";
      if ((config_.new_namespaces() & CLONE_NEWCGROUP) == 0) {
        const std::string directory = h.mount_point + "/" + group_->path();
        const int fd = ::open_tree(AT_FDCWD, directory.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
        if (fd < 0) fail_errno(errno, "open the control group {}", directory);
        view.tree = unique_fd(fd);
      }
      cgroups_.push_back(std::move(view));
    }
  }

  const driver_config& driver_;
  const container& container_;
  std::span<const mount> root_mounts_;
  const stdio& io_;

  bundle_config config_;
  std::optional<seccomp_filter> filter_;
  unique_fd init_, listener_, launcher_, here_, there_, plan_, netns_;
  std::string plan_number_;
  std::optional<child_stdio> stdio_;
  std::vector<unique_fd> namespaces_;
  std::vector<std::pair<int, int>> joined_;
  std::vector<prepared_mount> mounts_;
  std::vector<bundle_device> devices_;
  bool makes_devices_ = true;
  std::optional<cgroup> group_;
  cgroup_entry group_entry_;
  std::vector<cgroup_view> cgroups_;
  child_guard child_;
};

}  // namespace

void throw_report(const launch_report& r, std::string_view what, const bundle_config* config) {
  const std::string words = step_words(r, config);
  std::string why =
      r.error == EXDEV && r.step == launch_step::enter_directory ? "it lies outside the root" : errno_text(r.error);
  if (r.step == launch_step::execute_program && r.error == ENOENT)
    why += "; the file is there: its interpreter or loader is missing";
  throw error(code_of(r), fmt::format("{}: {}: {}", what, words, why), r.error);
}

started launch_container(const driver_config& driver, const container& c, std::span<const mount> mounts,
                         const stdio& io) {
  container_launch launch(driver, c, mounts, io);
  KIT_STEP(launch.read_config_in_parent());
  KIT_STEP(launch.open_host_files_in_parent());
  try {
    KIT_STEP(launch.make_cgroup_in_parent());
    KIT_STEP(launch.open_rendezvous_in_parent());
    KIT_STEP(launch.write_plan_in_parent());
    KIT_STEP(launch.clone_child_in_parent());  // run_create_child, in child.cpp, is its other side
    KIT_STEP(launch.map_users_in_parent());
    KIT_STEP(launch.set_oom_score_in_parent());
    KIT_STEP(launch.make_rootfs_in_parent());
    KIT_STEP(launch.lend_netns_in_parent());  // beside the child, which makes the mounts
    KIT_STEP(launch.wait_until_ready_in_parent());
    return KIT_STEP(launch.answer_in_parent());
  } catch (...) {
    launch.undo();
    throw;
  }
}

started launch_process(const driver_config& driver, const container& c, std::string_view process_json,
                       const stdio& io) {
  const bundle_process process = parse_bundle_process(process_json);
  check_process(process, "$");
  const bundle_config config = parse_bundle_config(read_file(c.bundle + "/config.json"), c.bundle);
  const unique_fd target = open_process(c.pid, c.start_time);
  if (!target || has_ended(target.get()))
    fail(errc::not_found, "exec in container {}: it is not running", c.id.brief());

  const unique_fd init = open_init(driver.libexec);
  const child_stdio files(io, process.terminal);
  const cgroup group(read_file(c.state_dir + "/" + group_file));
  const cgroup_entry entry = group.prepare();
  auto [here, given] = make_socket_pair();
  unique_fd there = above_stdio(std::move(given), "a socket");
  init_plan plan;
  plan.report = there.get();
  const unique_fd memory = make_init_plan(plan, process, filter_of(driver, config));
  std::string number = std::to_string(memory.get());
  char name[] = "kit-init";
  char* const args[] = {name, number.data(), nullptr};

  exec_child child;
  child.in = files.in.get();
  child.out = files.out.get();
  child.err = files.err.get();
  child.console_socket = files.console.get();
  child.terminal = process.terminal;
  child.rows = process.console_rows;
  child.columns = process.console_columns;
  child.report = there.get();
  child.parent_end = here.get();
  child.kept = {memory.get(), there.get(), -1, -1};
  child.group = &entry;
  child.cloned_into_group = entry.into() >= 0;
  child.init = init.get();
  child.init_args = args;
  child.target = target.get();
  const std::string score = process.oom_score_adj ? std::to_string(*process.oom_score_adj) : "";
  child.oom_score = score.c_str();
  bool other_pids = false;
  for (const namespace_kind kind : {namespace_kind::user, namespace_kind::mnt, namespace_kind::uts, namespace_kind::ipc,
                                    namespace_kind::net, namespace_kind::cgroup, namespace_kind::pid}) {
    if (same_namespace(open_namespace(0, kind).get(), open_namespace(c.pid, kind).get())) continue;
    if (kind == namespace_kind::pid)
      other_pids = true;
    else
      child.namespaces |= static_cast<int>(kind);
  }

  child_guard guard;
  {
    std::optional<child_pid_namespace> elsewhere;
    if (other_pids) elsewhere.emplace(target.get());
    cloned_process made;
    try {
      made = clone_process(0, entry.into());
    } catch (const error& e) {
      // An init inside made groups of its own: version 2 keeps processes out of inner ones.
      if (entry.into() < 0 || (e.sys_errno() != EBUSY && e.sys_errno() != EOPNOTSUPP)) throw;
      child.moved_by_parent = true;
      made = clone_process(0);
    }
    if (made.pid == 0) run_exec_child(child);
    guard = child_guard(std::move(made));
  }
  if (child.moved_by_parent) {
    group.enter(guard.pid());
    (void)!::send(here.get(), &start_go, 1, MSG_NOSIGNAL);
  }
  there.reset();
  // Silence means that the program runs: execve(2) closed the other end.
  if (const auto report = next_report(here.get()))
    throw_report(*report, fmt::format("exec in container {}", c.id.brief()));
  return answer(guard);
}

}  // namespace kit::drivers::detail
