// SPDX-License-Identifier: Apache-2.0
#include "peers.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "kit/system/cgroup.hpp"
#include "kit/system/error.hpp"
#include "kit/system/mount.hpp"
#include "kit/system/namespace.hpp"
#include "kit/system/netlink.hpp"
#include "kit/system/pidfd.hpp"

namespace kit::bench {

namespace {

namespace fs = std::filesystem;

command operator+(command a, const command& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// A mount namespace as peers want it: /sys shows `network`'s links; on a hybrid host cgroup2 is not mounted beside the
/// version 1 hierarchies (crun refuses that, podman with it); no mount comes out.
unique_fd mounts_for_peers(int network) {
  const unique_fd own = open_file("/proc/self/ns/mnt", O_RDONLY), home = open_file("/proc/self/ns/net", O_RDONLY);
  const unique_fd here = open_directory(".");  // setns(2) leads to the root directory
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    fail_errno(errno, "make a mount namespace");
  const cgroup_layout& groups = cgroup_layout::here();
  if (groups.kind() == "hybrid") ::umount2(groups.unified()->mount_point.c_str(), MNT_DETACH);
  const unique_fd tree(::open_tree(AT_FDCWD, "/sys/fs/cgroup", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
  if (network >= 0 && ::setns(network, CLONE_NEWNET) != 0) fail_errno(errno, "enter a network namespace");
  if (tree && ::mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0)
    if (const int e = attach_mount(tree.get(), open_directory("/sys/fs/cgroup").get()); e != 0)
      fail_errno(-e, "mount control groups");
  unique_fd made = open_file("/proc/self/ns/mnt", O_RDONLY);
  if (::setns(own.get(), CLONE_NEWNS) != 0 || ::fchdir(here.get()) != 0 || ::setns(home.get(), CLONE_NEWNET) != 0)
    fail_errno(errno, "go back to the own namespaces");
  return made;
}

std::string installed(const char* program) {
  std::string file = find_program(program);
  if (file.empty()) fail(errc::not_found, "it is not installed (bench/peers-install)");
  return file;
}

std::string copy_of(const std::string& rootfs, const std::string& to) {
  fs::copy(rootfs, to, fs::copy_options::recursive | fs::copy_options::copy_symlinks);
  return to;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> all;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    all.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return all;
}

pid_t parent_of(pid_t pid) {
  const std::string text = read_file(fmt::format("/proc/{}/stat", pid));
  int parent = 0;
  (void)std::sscanf(text.c_str() + text.rfind(')') + 2, "%*c %d", &parent);
  return parent;
}

void remove_groups(const std::string& name) noexcept {
  try {
    const cgroup group(name);
    if (!group.exists()) return;
    group.kill();
    group.remove();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "kit-bench: warning: %s\n", e.what());
  }
}

/// Groups named after this run that a runtime could not remove in time.
void sweep_groups(const scratch& place) noexcept {
  try {
    for (const cgroup_hierarchy& h : cgroup_layout::here().hierarchies())
      for (const std::string& name : names_in(h.mount_point))
        if (name.find(run_name(place)) != name.npos) remove_groups(name);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "kit-bench: warning: %s\n", e.what());
  }
}

// ---- kit -----------------------------------------------------------------------------------------------------------

class kit_itself : public runtime {
 public:
  kit_itself(const scratch& place, std::string rootfs) : place_(place), rootfs_(std::move(rootfs)) {}
  ~kit_itself() override {
    try {
      if (tag_.empty()) return;
      if (const std::string ids = bench::run({kit_, "ps", "-aq", "--no-trunc"}).out; !ids.empty()) {
        command all{kit_, "rm", "-f"};
        for (std::string& id : lines_of(ids)) all.push_back(std::move(id));
        bench::run(all);
      }
      // A monitor ends a little after its container.
      for (int i = 0; i < 200 && bench::run({"pgrep", "-f", place_.disk()}).status == 0; ++i) ::usleep(50000);
      remove_groups("kit-" + tag_);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "kit-bench: warning: %s\n", e.what());
    }
  }
  [[nodiscard]] std::string name() const override { return "kit"; }
  [[nodiscard]] std::string what(bool network) const override {
    return std::string("everything: copy-on-write root, ") +
           (network ? "bridge, address and route" : "a network namespace of its own") +
           ", control groups, seccomp, a log, records that survive a crash";
  }
  void set_up() override {
    ::setenv("KIT_ROOT", (place_.disk() + "/kit").c_str(), 1);
    ::setenv("KIT_RUN_DIR", (place_.run() + "/kit").c_str(), 1);
    kit_ = find_program("kit");
    if (kit_.empty()) fail(errc::not_found, "there is no kit beside this program");
    tag_ = must_run({kit_, "system", "info", "--format", "{{.RootTag}}"});
    const std::string archive = place_.disk() + "/rootfs.tar";
    must_run({"tar", "-C", rootfs_, "-cf", archive, "."});
    must_run({kit_, "import", archive, "small"});
  }
  [[nodiscard]] command run(const std::string&, bool network, const command& program) const override {
    return command{kit_, "run", "--rm"} + (network ? command{} : command{"--network", "none"}) + command{"small"} +
           program;
  }
  [[nodiscard]] command create(const std::string& id, const command& program) const override {
    return command{kit_, "create", "--network", "none", "--name", id, "small"} + program;
  }
  [[nodiscard]] command start(const std::string& id) const override { return {kit_, "start", id}; }
  [[nodiscard]] command exec(const std::string& id, const command& program) const override {
    return command{kit_, "exec", id} + program;
  }
  [[nodiscard]] command stop(const std::string& id) const override { return {kit_, "stop", id}; }
  [[nodiscard]] command remove(const std::string& id) const override { return {kit_, "rm", "-f", id}; }
  [[nodiscard]] bool has_network() const override { return true; }
  [[nodiscard]] command run_detached(const std::string& id, bool network, const command& program) const override {
    return command{kit_, "run", "-d", "--name", id} + (network ? command{} : command{"--network", "none"}) +
           command{"small"} + program;
  }
  [[nodiscard]] std::vector<pid_t> keepers(const std::string& id) const override {
    return {parent_of(std::stoi(must_run({kit_, "inspect", "-f", "{{.State.Pid}}", id})))};
  }
  [[nodiscard]] std::string disk() const override { return place_.disk() + "/kit"; }

 private:
  const scratch& place_;
  std::string rootfs_, kit_, tag_;
};

// ---- programs that run a directory ---------------------------------------------------------------------------------

class util_linux : public runtime {
 public:
  explicit util_linux(std::string rootfs) : rootfs_(std::move(rootfs)) {}
  [[nodiscard]] std::string name() const override { return "unshare"; }
  [[nodiscard]] std::string what(bool) const override {
    return "namespaces, /proc and chroot in a plain directory: no control groups, devices, limits or filter";
  }
  void set_up() override { program_ = installed("unshare"); }
  [[nodiscard]] command run(const std::string&, bool, const command& program) const override {
    return command{program_} + (is_root() ? command{} : command{"--user", "--map-root-user"}) +
           command{"--mount",          "--uts", "--ipc", "--net", "--pid", "--cgroup", "--fork", "--mount-proc",
                   "--root=" + rootfs_} +
           program;
  }

 private:
  std::string rootfs_, program_;
};

class bubblewrap : public runtime {
 public:
  explicit bubblewrap(std::string rootfs) : rootfs_(std::move(rootfs)) {}
  [[nodiscard]] std::string name() const override { return "bubblewrap"; }
  [[nodiscard]] std::string what(bool) const override {
    return "namespaces, /proc and /dev over a plain directory: no control groups or filter of its own";
  }
  void set_up() override { program_ = installed("bwrap"); }
  [[nodiscard]] command run(const std::string&, bool, const command& program) const override {
    return command{program_, "--bind", rootfs_, "/", "--proc", "/proc", "--dev", "/dev", "--unshare-all"} + program;
  }

 private:
  std::string rootfs_, program_;
};

constexpr const char* lxc_bridge = "kit-bench";

class nspawn : public runtime {
 public:
  nspawn(const scratch& place, std::string rootfs, int mounts) : mounts_(mounts) {
    rootfs_ = place.disk() + "/nspawn";
    from_ = std::move(rootfs);
  }
  [[nodiscard]] std::string name() const override { return "systemd-nspawn"; }
  [[nodiscard]] std::string what(bool) const override {
    return "namespaces, devices and filter over a plain directory, not registered with systemd";
  }
  void set_up() override {
    program_ = installed("systemd-nspawn");
    copy_of(from_, rootfs_);
  }
  [[nodiscard]] command run(const std::string& id, bool, const command& program) const override {
    return command{program_,        "-q",          "-D",    rootfs_, "-M", id, "--private-network",
                   "--register=no", "--keep-unit", "--pipe"} +
           program;
  }
  [[nodiscard]] int mounts() const override { return mounts_; }

 private:
  std::string rootfs_, from_, program_;
  int mounts_;
};

class lxc : public runtime {
 public:
  lxc(const scratch& place, const std::string& rootfs, int mounts) : place_(place), from_(rootfs), mounts_(mounts) {}
  ~lxc() override { sweep_groups(place_); }
  [[nodiscard]] std::string name() const override { return "lxc-execute"; }
  [[nodiscard]] std::string what(bool network) const override {
    return std::string("a plain directory, control groups and ") +
           (network ? "a veth pair on a bridge with an address" : "an empty network namespace") +
           ": no copy-on-write, no log, no filter as configured here";
  }
  void set_up() override {
    program_ = installed("lxc-execute");
    directory_ = place_.disk() + "/lxc";
    fs::create_directories(directory_);
    const std::string rootfs = copy_of(from_, directory_ + "/rootfs");
    const std::string common = "lxc.rootfs.path = dir:" + rootfs + "\nlxc.mount.auto = proc sys:ro\n";
    replace_file(directory_ + "/none", common + "lxc.net.0.type = empty\n");
    replace_file(directory_ + "/bridge", common + "lxc.net.0.type = veth\nlxc.net.0.flags = up\nlxc.net.0.link = " +
                                             lxc_bridge + "\nlxc.net.0.ipv4.gateway = 10.98.0.1\n");
    netlink host;
    netlink_batch made;
    made.add_link(lxc_bridge, bridge_link{}, {.mac = "02:44:00:00:00:02", .up = true, .no_link_local = true});
    host.commit(made);
    netlink_batch addressed;
    addressed.add_address(host.find_link(lxc_bridge)->index, {ip_address::parse("10.98.0.1"), 20});
    host.commit(addressed);
  }
  [[nodiscard]] command run(const std::string& id, bool network, const command& program) const override {
    command c{program_, "-P", place_.run(), "-n", id, "-f", directory_ + (network ? "/bridge" : "/none")};
    if (network) {
      static unsigned last = 1;
      last = last % 4000 + 1;
      c = c + command{"-s", fmt::format("lxc.net.0.ipv4.address=10.98.{}.{}/20", (last + 1) / 256, (last + 1) % 256)};
    }
    return c + command{"--"} + program;
  }
  [[nodiscard]] bool has_network() const override { return true; }
  [[nodiscard]] int mounts() const override { return mounts_; }

 private:
  const scratch& place_;
  std::string from_, directory_, program_;
  int mounts_;
};

/// crun, runc: they run a bundle of the OCI runtime specification as it is.
class oci : public runtime {
 public:
  oci(std::string name, const scratch& place, std::string rootfs, int mounts)
      : name_(std::move(name)), place_(place), rootfs_(std::move(rootfs)), mounts_(mounts) {}
  ~oci() override { sweep_groups(place_); }
  [[nodiscard]] std::string name() const override { return name_; }
  [[nodiscard]] std::string what(bool) const override {
    return "a bare bundle: namespaces, control groups and capabilities over a plain directory; no copy-on-write, "
           "network, filter, log or records";
  }
  void set_up() override {
    program_ = installed(name_.c_str());
    directory_ = place_.disk() + "/" + name_;
    fs::create_directories(directory_ + "/spec");
    copy_of(rootfs_, directory_ + "/rootfs");
    must_run({program_, "spec"}, directory_ + "/spec");
  }
  [[nodiscard]] command run(const std::string& id, bool, const command& program) const override {
    return words() + command{"run", "-b", bundle(program), id};
  }
  [[nodiscard]] command create(const std::string& id, const command& program) const override {
    return words() + command{"create", "-b", bundle(program), id};
  }
  [[nodiscard]] command start(const std::string& id) const override { return words() + command{"start", id}; }
  [[nodiscard]] command exec(const std::string& id, const command& program) const override {
    return words() + command{"exec", id} + program;
  }
  [[nodiscard]] command remove(const std::string& id) const override { return words() + command{"delete", "-f", id}; }
  [[nodiscard]] int mounts() const override { return mounts_; }

 private:
  [[nodiscard]] command words() const { return {program_, "--root", place_.run() + "/" + name_}; }
  [[nodiscard]] std::string bundle(const command& program) const {
    const auto [found, added] = bundles_.try_emplace(program, fmt::format("{}/{}", directory_, bundles_.size()));
    if (added) {
      fs::create_directories(found->second);
      json config = json::parse(read_file(directory_ + "/spec/config.json"));
      config["ociVersion"] = "1.0.2";  // the newest that Debian's crun knows
      config["process"]["terminal"] = false;
      config["process"]["args"] = program;
      config["process"].erase("rlimits");  // not every root may raise one
      config["root"] = {{"path", directory_ + "/rootfs"}, {"readonly", true}};
      config["linux"].erase("cgroupsPath");  // then it is the container's name
      replace_file(found->second + "/config.json", config.dump());
    }
    return found->second;
  }

  std::string name_;
  const scratch& place_;
  std::string rootfs_, directory_, program_;
  int mounts_;
  mutable std::map<command, std::string> bundles_;
};

// ---- engines -------------------------------------------------------------------------------------------------------

/// podman and docker: the same words.
class engine : public runtime {
 public:
  engine(const scratch& place, std::string rootfs) : place_(place), rootfs_(std::move(rootfs)) {}
  [[nodiscard]] std::string what(bool network) const override {
    return std::string("copy-on-write root, ") + (network ? "bridge and address" : "an empty network namespace") +
           ", control groups, seccomp, a log and records, as its defaults are";
  }
  [[nodiscard]] command run(const std::string&, bool network, const command& program) const override {
    return words_ + command{"run", "--rm"} + options_ + (network ? command{} : command{"--network", "none"}) +
           command{"small"} + program;
  }
  [[nodiscard]] command create(const std::string& id, const command& program) const override {
    return words_ + command{"create", "--network", "none", "--name", id} + options_ + command{"small"} + program;
  }
  [[nodiscard]] command start(const std::string& id) const override { return words_ + command{"start", id}; }
  [[nodiscard]] command exec(const std::string& id, const command& program) const override {
    return words_ + command{"exec", id} + program;
  }
  [[nodiscard]] command stop(const std::string& id) const override { return words_ + command{"stop", id}; }
  [[nodiscard]] command remove(const std::string& id) const override { return words_ + command{"rm", "-f", id}; }
  [[nodiscard]] bool has_network() const override { return true; }
  [[nodiscard]] command run_detached(const std::string& id, bool network, const command& program) const override {
    return words_ + command{"run", "-d", "--name", id} + options_ +
           (network ? command{} : command{"--network", "none"}) + command{"small"} + program;
  }
  [[nodiscard]] int mounts() const override { return mounts_.get(); }
  [[nodiscard]] int network() const override { return network_.get(); }
  [[nodiscard]] std::vector<pid_t> keepers(const std::string& id) const override {
    return {parent_of(std::stoi(must(words_ + command{"inspect", "-f", "{{.State.Pid}}", id})))};
  }

 protected:
  [[nodiscard]] std::string group() const { return run_name(place_) + "-" + name(); }
  void make_namespaces() {
    network_ = other_network();
    mounts_ = mounts_for_peers(network_.get());
  }
  void import_image() {
    const std::string archive = place_.disk() + "/rootfs.tar";
    must({"tar", "-C", rootfs_, "-cf", archive, "."});
    must(words_ + command{"import", archive, "small"});
  }

  const scratch& place_;
  std::string rootfs_;
  command words_, options_;
  unique_fd network_, mounts_;
};

class podman : public engine {
 public:
  using engine::engine;
  ~podman() override {
    if (words_.empty()) return;
    try {
      must(words_ + command{"rm", "-af", "-t", "0"});
    } catch (const std::exception& e) {
      std::fprintf(stderr, "kit-bench: warning: %s\n", e.what());
    }
    remove_groups(group());
    if (!had_lock_) ::unlink(lock);
    if (!had_parent_) remove_groups("libpod_parent");
  }
  [[nodiscard]] std::string name() const override { return "podman"; }
  /// Without the ten seconds that podman alone gives a program to end by itself.
  [[nodiscard]] command remove(const std::string& id) const override {
    return words_ + command{"rm", "-f", "-t", "0", id};
  }
  void set_up() override {
    const std::string program = installed("podman");
    had_lock_ = fs::exists(lock);
    had_parent_ = cgroup("libpod_parent").exists();
    make_namespaces();
    const std::string run_dir = place_.run() + "/podman";
    fs::create_directories(run_dir);
    words_ = {program,
              "--root",
              place_.disk() + "/podman",
              "--runroot",
              run_dir,
              "--tmpdir",
              run_dir + "/tmp",
              "--cgroup-manager=cgroupfs",
              "--events-backend=none",
              "--log-level=error"};
    // Without limits above this process's own: not every root may raise one.
    options_ = {"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--cgroup-parent", "/" + group()};
    import_image();
  }
  [[nodiscard]] std::string disk() const override { return place_.disk() + "/podman"; }

 private:
  static constexpr const char* lock = "/dev/shm/libpod_lock";
  bool had_lock_ = true, had_parent_ = true;
};

/// With a daemon and a containerd of its own, in a network namespace of its own: its rules would tax everybody's packets.
class docker : public engine {
 public:
  using engine::engine;
  ~docker() override {
    if (daemon_ <= 0) return;
    if (const std::string ids = bench::run(words_ + command{"ps", "-aq"}).out; !ids.empty()) {
      command all = words_ + command{"rm", "-f"};
      for (std::string& id : lines_of(ids)) all.push_back(std::move(id));
      bench::run(all);
    }
    ::kill(daemon_, SIGTERM);
    int status = 0;
    for (int i = 0; i < 300 && ::waitpid(daemon_, &status, WNOHANG) == 0; ++i) {
      if (i == 200) ::kill(daemon_, SIGKILL);
      ::usleep(50000);
    }
    remove_groups(group());
  }
  [[nodiscard]] std::string name() const override { return "docker"; }
  void set_up() override {
    const std::string client = installed("docker"), daemon = installed("dockerd");
    installed("containerd");
    make_namespaces();
    const std::string run_dir = place_.run() + "/docker", log = place_.disk() + "/docker.log";
    fs::create_directories(run_dir);
    words_ = {client, "-H", "unix://" + run_dir + "/socket"};
    const command server{daemon,        "--data-root",    disk(), "--exec-root", run_dir + "/exec",
                         "--pidfile",   run_dir + "/pid", "-H",   words_[2],     "--cgroup-parent",
                         "/" + group(), "--log-level",    "warn"};
    std::vector<char*> args;
    for (const std::string& word : server) args.push_back(const_cast<char*>(word.c_str()));
    args.push_back(nullptr);
    daemon_ = ::fork();
    if (daemon_ == 0) {
      const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644), null = ::open("/dev/null", O_RDONLY);
      ::dup2(null, 0), ::dup2(out, 1), ::dup2(out, 2);
      // A terminal's interrupt is for the benchmark, which stops it in order.
      ::setpgid(0, 0);
      if (::setns(network_.get(), CLONE_NEWNET) != 0 || ::setns(mounts_.get(), CLONE_NEWNS) != 0) ::_exit(126);
      ::execv(args[0], args.data());
      ::_exit(127);
    }
    for (int i = 0; bench::run(words_ + command{"version"}).status != 0; ++i) {
      stop_if_interrupted();
      int status = 0;
      if (::waitpid(daemon_, &status, WNOHANG) == daemon_) {
        daemon_ = -1;
        fail(errc::io, "its daemon does not start: {}", why({1, read_file(log), ""}));
      }
      if (i == 200) fail(errc::io, "its daemon does not answer");
      ::usleep(100000);
    }
    const std::string children = read_file(fmt::format("/proc/{0}/task/{0}/children", daemon_));
    if (!children.empty()) containerd_ = std::atoi(children.c_str());
    import_image();
  }
  [[nodiscard]] std::vector<pid_t> daemons() const override {
    return containerd_ > 0 ? std::vector<pid_t>{daemon_, containerd_} : std::vector<pid_t>{daemon_};
  }
  [[nodiscard]] std::string disk() const override { return place_.disk() + "/docker"; }

 private:
  pid_t daemon_ = -1, containerd_ = -1;
};

}  // namespace

std::string runtime::must(const command& c) const {
  // In a child of its own: this process stays in its namespaces.
  auto [from, to] = make_pipe();
  const pid_t pid = ::fork();
  if (pid < 0) fail_errno(errno, "fork");
  if (pid == 0) {
    outcome o{126, "", "cannot enter its namespaces"};
    if ((network() < 0 || ::setns(network(), CLONE_NEWNET) == 0) &&
        (mounts() < 0 || ::setns(mounts(), CLONE_NEWNS) == 0))
      o = bench::run(c);
    const std::string text = o.status == 0 ? o.out : why(o);
    (void)!::write(to.get(), text.data(), text.size());
    ::_exit(o.status == 0 ? 0 : 1);
  }
  to.reset();
  std::string text = read_all(from.get(), "a command's output");
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (status != 0) fail(errc::io, "{} {}: {}", name(), c.size() > 1 ? c[1] : "", text);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

const runtime* found_runtimes::get(const std::string& name) const {
  for (const auto& r : all)
    if (r->name() == name) return r.get();
  return nullptr;
}

std::string run_name(const scratch& place) { return "kit-bench-" + place.run().substr(place.run().rfind('.') + 1); }

std::unique_ptr<runtime> make_kit(const scratch& place, const std::string& rootfs) {
  return std::make_unique<kit_itself>(place, rootfs);
}

found_runtimes find_runtimes(const scratch& place, const std::string& rootfs, std::vector<std::string> only_these) {
  static const unique_fd mounts = is_root() ? mounts_for_peers(-1) : unique_fd();
  found_runtimes found;
  std::vector<std::unique_ptr<runtime>> candidates;
  if (is_root()) {
    found.all.push_back(make_kit(place, rootfs));
    found.all.back()->set_up();
  } else {
    for (const char* name : {"kit", "the floor", "systemd-nspawn", "lxc-execute", "crun", "runc", "podman", "docker"})
      found.missing.push_back({name, "only root can run it as it is run here"});
  }
  candidates.push_back(std::make_unique<util_linux>(rootfs));
  candidates.push_back(std::make_unique<bubblewrap>(rootfs));
  candidates.push_back(std::make_unique<nspawn>(place, rootfs, mounts.get()));
  candidates.push_back(std::make_unique<lxc>(place, rootfs, mounts.get()));
  candidates.push_back(std::make_unique<oci>("crun", place, rootfs, mounts.get()));
  candidates.push_back(std::make_unique<oci>("runc", place, rootfs, mounts.get()));
  candidates.push_back(std::make_unique<podman>(place, rootfs));
  candidates.push_back(std::make_unique<docker>(place, rootfs));
  for (const std::string& name : only_these)
    if (name != "none" &&
        std::none_of(candidates.begin(), candidates.end(), [&](const auto& r) { return r->name() == name; })) {
      std::string list;
      for (const auto& r : candidates) list += (list.empty() ? "" : ", ") + r->name();
      fail(errc::invalid, "option --only: \"{}\" is none of {}, none", name, list);
    }
  if (!is_root() && only_these.empty()) only_these = {"unshare", "bubblewrap"};
  for (auto& r : candidates) {
    stop_if_interrupted();
    const bool wanted =
        only_these.empty() || std::find(only_these.begin(), only_these.end(), r->name()) != only_these.end();
    if (!wanted) continue;
    try {
      r->set_up();
      r->must(r->run(run_name(place) + "-try", false, {"/bin/true"}));
      found.all.push_back(std::move(r));
    } catch (const error& e) {
      if (e.code() == errc::cancelled) throw;
      found.missing.push_back({r->name(), e.what()});
    } catch (const std::exception& e) {
      found.missing.push_back({r->name(), e.what()});
    }
  }
  return found;
}

}  // namespace kit::bench
