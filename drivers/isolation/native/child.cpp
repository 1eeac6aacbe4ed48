// SPDX-License-Identifier: Apache-2.0
#include "drivers/isolation/native/child.hpp"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>

#include "kit/driver.hpp"
#include "kit/system/mount.hpp"
#include "kit/system/pty.hpp"
#include "kit/system/socket.hpp"

namespace kit::drivers::detail {

namespace {

using step = launch_step;

// ---- reporting -------------------------------------------------------------------------------------------------

int report_socket = -1;  // one child, one thread

[[noreturn]] void die(step s, int error, std::size_t item = 0, const char* text = "") noexcept {
  launch_report report;
  report.step = s;
  report.error = error;
  report.item = static_cast<std::uint32_t>(item);
  for (std::size_t i = 0; i + 1 < sizeof report.text && text[i] != '\0'; ++i) report.text[i] = text[i];
  (void)!::send(report_socket, &report, sizeof report, MSG_NOSIGNAL);
  ::_exit(126);
}

/// For system calls: -1 and errno.
int need(int result, step s, std::size_t item = 0) noexcept {
  if (result < 0) die(s, errno, item);
  return result;
}

/// For kit's own async-signal-safe functions: -errno.
int need_zero(int result, step s, std::size_t item = 0) noexcept {
  if (result < 0) die(s, -result, item);
  return result;
}

/// As KIT_STEP, where nothing throws.
template <class Work>
void in_child_step(std::string_view name, Work work) noexcept {
  const auto tell = [&](step_edge edge) {
    if (const int e = this_call().step(name, edge); e != 0) die(step::named, e, 0, name.data());
  };
  tell(step_edge::begin);
  work();
  tell(step_edge::end);
}
#define KIT_CHILD_STEP(call) in_child_step(step_name(#call), [&] { call; })

// ---- paths inside the root -------------------------------------------------------------------------------------

int open_inside(int root, const char* path, int flags, std::uint64_t more_resolve = 0) noexcept {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | more_resolve;
  for (;;) {
    const int fd = static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof how));
    if (fd >= 0 || errno != EAGAIN) return fd;
  }
}

/// A path cut before its last component: "/a/b/" is "/a/" and "b".
struct cut_path {
  char parent[PATH_MAX];
  char name[NAME_MAX + 1];

  /// 0, or -1 and errno.
  int cut(const char* path) noexcept {
    std::size_t end = std::strlen(path);
    while (end > 0 && path[end - 1] == '/') --end;
    std::size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/') --begin;
    if (begin >= sizeof parent - 1 || end - begin >= sizeof name) return errno = ENAMETOOLONG, -1;
    std::memcpy(parent, path, begin);
    std::strcpy(parent + begin, begin == 0 ? "/" : "");
    std::memcpy(name, path + begin, end - begin);
    name[end - begin] = '\0';
    return 0;
  }
};

/// `path` inside the root, O_PATH; what is missing is made: directories (0755), and at the end one more or an empty
/// file. A symlink that leads nowhere is made to lead there, still inside the root: images ship
/// etc/resolv.conf so. -1 and errno.
int open_or_make_inside(int root, const char* path, bool directory, std::uint64_t more_resolve = 0,
                        int depth = 0) noexcept {
  const int flags = O_PATH | (directory ? O_DIRECTORY : 0);
  const int found = open_inside(root, path, flags, more_resolve);
  if (found >= 0 || errno != ENOENT) return found;
  if (depth == 40) return errno = ELOOP, -1;
  cut_path at;
  if (at.cut(path) != 0) return -1;
  const int parent = open_or_make_inside(root, at.parent, true, more_resolve, depth + 1);
  if (parent < 0) return -1;
  int made = directory ? ::mkdirat(parent, at.name, 0755)
                       : ::openat(parent, at.name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  int error = errno;
  if (made > 0) ::close(made);
  if (made < 0 && error == EEXIST) {
    const std::size_t before = std::strlen(at.parent);
    char link[PATH_MAX];
    const ssize_t size = ::readlinkat(parent, at.name, link, sizeof link - 1);
    if (size > 0) {
      link[size] = '\0';
      ::close(parent);
      if (link[0] == '/') return open_or_make_inside(root, link, directory, more_resolve, depth + 1);
      if (before + static_cast<std::size_t>(size) >= sizeof at.parent) return errno = ENAMETOOLONG, -1;
      std::memcpy(at.parent + before, link, static_cast<std::size_t>(size) + 1);
      return open_or_make_inside(root, at.parent, directory, more_resolve, depth + 1);
    }
    made = 0;  // another process made it meanwhile
  }
  ::close(parent);
  if (made < 0) return errno = error, -1;
  return open_inside(root, path, flags, more_resolve);
}

int clone_of(int fd, unsigned more = 0) noexcept {
  return ::open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | more);
}

int set_attributes(int tree, std::uint64_t set, std::uint64_t clear, bool below) noexcept {
  mount_attr attributes{};
  attributes.attr_set = set;
  attributes.attr_clr = clear;
  return ::mount_setattr(tree, "", AT_EMPTY_PATH | (below ? AT_RECURSIVE : 0), &attributes, sizeof attributes);
}

/// The user that the user namespace calls root: any other loses its capabilities at the next execve(2).
void become_root_of_namespace() noexcept {
  need(::setresgid(0, 0, 0), step::become_root);
  need(::setgroups(0, nullptr), step::become_root);
  need(::setresuid(0, 0, 0), step::become_root);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of user clears it
}

// ---- the steps of create ---------------------------------------------------------------------------------------

class creator {
 public:
  explicit creator(create_child& plan) noexcept : plan_(plan), config_(*plan.config) {}

  void join_namespaces_in_child() noexcept {
    std::size_t i = 0;
    for (const auto& [kind, fd] : plan_.joined) need(::setns(fd, kind), step::join_namespace, i++);
  }

  void enter_cgroup_in_child() noexcept {
    need_zero(plan_.group->enter(plan_.cloned_into_group), step::enter_cgroup);
    // Only now: the namespace's root is the group its maker is in.
    if ((config_.new_namespaces() & CLONE_NEWCGROUP) != 0)
      need(::unshare(CLONE_NEWCGROUP), step::make_cgroup_namespace);
  }

  void keep_mounts_private_in_child() noexcept {
    need(::mount(nullptr, "/", nullptr, MS_SLAVE | MS_REC, nullptr), step::keep_mounts_private);
  }

  /// Waits for the parent: it has written the id maps and made the root.
  void receive_rootfs_in_child() noexcept { root_ = need_zero(receive_descriptor(plan_.report), step::receive_rootfs); }

  void attach_rootfs_in_child() noexcept {
    const int stage = need(::open(plan_.stage, O_PATH | O_DIRECTORY | O_CLOEXEC), step::attach_rootfs);
    need_zero(attach_mount(root_, stage), step::attach_rootfs);
    ::close(stage);
  }

  /// After the stage was reached: the way there may be closed to the user that root is outside.
  void become_root_in_child() noexcept {
    if ((config_.new_namespaces() & CLONE_NEWUSER) != 0) become_root_of_namespace();
  }

  void make_mounts_in_child() noexcept {
    for (std::size_t i = 0; i < plan_.mounts.size(); ++i) {
      prepared_mount& m = plan_.mounts[i];
      const int target = need(open_or_make_inside(root_, m.what->destination.c_str(), m.is_directory,
                                                  m.refuses_links ? RESOLVE_NO_SYMLINKS : 0),
                              step::make_mount, i);
      if (m.tree)
        need_zero(attach_mount(m.tree.get(), target), step::make_mount, i);
      else if (m.what->type == "cgroup" || m.what->type == "cgroup2")
        mount_cgroups(i, target);
      else
        mount_file_system(i, target);
      ::close(target);
    }
    for (std::size_t i = 0; i < plan_.mounts.size(); ++i)
      if (plan_.mounts[i].becomes_readonly)
        need(set_attributes(plan_.mounts[i].tree.get(), MOUNT_ATTR_RDONLY, 0, false), step::make_mount, i);
  }

  void make_devices_in_child() noexcept {
    if (!plan_.makes_devices) return;
    for (std::size_t i = 0; i < plan_.devices.size(); ++i) make_device(i);
    static constexpr const char* links[][2] = {{"/proc/self/fd", "fd"},
                                               {"/proc/self/fd/0", "stdin"},
                                               {"/proc/self/fd/1", "stdout"},
                                               {"/proc/self/fd/2", "stderr"},
                                               {"pts/ptmx", "ptmx"}};
    const int dev = need(open_or_make_inside(root_, "/dev", true), step::link_device);
    for (const auto& link : links)
      if (::symlinkat(link[0], dev, link[1]) != 0 && errno != EEXIST && errno != EROFS) die(step::link_device, errno);
    ::close(dev);
  }

  void mask_paths_in_child() noexcept {
    int null = -1, empty = -1;
    for (std::size_t i = 0; i < config_.masked_paths.size(); ++i) {
      const int target = open_inside(root_, config_.masked_paths[i].c_str(), O_PATH);
      if (target < 0 && (errno == ENOENT || errno == ENOTDIR)) continue;
      need(target, step::mask_path, i);
      struct stat st {};
      need(::fstat(target, &st), step::mask_path, i);
      int cover = -1;
      if (S_ISDIR(st.st_mode)) {
        // One empty file system serves all: clones of it cost a tenth of new ones.
        cover = empty < 0 ? make_empty_directory(i) : need(clone_of(empty), step::mask_path, i);
        if (empty < 0) empty = cover;
      } else {
        // The host's own, opened before its root is out of sight: an image's /dev/null may be anything.
        if (null < 0) null = need(::open("/dev/null", O_PATH | O_CLOEXEC), step::mask_path, i);
        cover = need(clone_of(null), step::mask_path, i);
      }
      need_zero(attach_mount(cover, target), step::mask_path, i);
      ::close(target);
      if (cover != empty) ::close(cover);
    }
    if (null >= 0) ::close(null);
    if (empty >= 0) ::close(empty);
  }

  void protect_paths_in_child() noexcept {
    for (std::size_t i = 0; i < config_.readonly_paths.size(); ++i) {
      const int target = open_inside(root_, config_.readonly_paths[i].c_str(), O_PATH);
      if (target < 0 && (errno == ENOENT || errno == ENOTDIR)) continue;
      need(target, step::protect_path, i);
      const int tree = need(clone_of(target, AT_RECURSIVE), step::protect_path, i);
      need(set_attributes(tree, MOUNT_ATTR_RDONLY, 0, true), step::protect_path, i);
      need_zero(attach_mount(tree, target), step::protect_path, i);
      ::close(tree);
      ::close(target);
    }
  }

  /// By the host's /proc, which no image can fake: a file there shows the namespaces of whoever opens it.
  void set_sysctls_in_child() noexcept {
    for (std::size_t i = 0; i < config_.sysctl.size(); ++i) {
      const auto& [key, value] = config_.sysctl[i];
      char path[PATH_MAX];
      if (key.size() + sizeof "/proc/sys/" > sizeof path) die(step::set_sysctl, ENAMETOOLONG, i);
      std::strcpy(path, "/proc/sys/");
      // sysctl(8): the first separator decides; with dots a slash stands for a dot ("net.ipv4.conf.eth0/1").
      const char first = key[std::min(key.find_first_of("./"), key.size() - 1)];
      char* out = path + std::strlen(path);
      for (char c : key) *out++ = first != '.' ? c : c == '.' ? '/' : c == '/' ? '.' : c;
      *out = '\0';
      const int fd = need(::open(path, O_WRONLY | O_CLOEXEC), step::set_sysctl, i);
      need(static_cast<int>(::write(fd, value.data(), value.size())), step::set_sysctl, i);
      ::close(fd);
    }
  }

  void set_names_in_child() noexcept {
    if (!config_.hostname.empty())
      need(::sethostname(config_.hostname.data(), config_.hostname.size()), step::set_hostname);
    if (!config_.domainname.empty())
      need(::setdomainname(config_.domainname.data(), config_.domainname.size()), step::set_domainname);
  }

  void enter_rootfs_in_child() noexcept {
    const int host = need(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), step::enter_rootfs);
    need(::fchdir(root_), step::enter_rootfs);
    // Both arguments may be one directory (pivot_root(2)): the old root comes to lie on top of the new one.
    need(static_cast<int>(::syscall(SYS_pivot_root, ".", ".")), step::enter_rootfs);
    need(::fchdir(host), step::enter_rootfs);
    need(::umount2(".", MNT_DETACH), step::enter_rootfs);
    need(::chdir("/"), step::enter_rootfs);
    ::close(host);
    if (config_.root_propagation != 0)
      need(::mount(nullptr, "/", nullptr, config_.root_propagation, nullptr), step::enter_rootfs);
  }

  void show_console_in_child(int terminal) noexcept {
    if (terminal < 0 || !plan_.makes_devices) return;
    const int file =
        need(::open("/dev/console", O_RDONLY | O_CREAT | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600), step::open_terminal);
    const int tree = need(clone_of(terminal), step::open_terminal);
    need_zero(attach_mount(tree, file), step::open_terminal);
    ::close(tree);
    ::close(file);
  }

  void protect_rootfs_in_child() noexcept {
    if (!config_.root_readonly) return;
    const int root = need(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), step::protect_rootfs);
    need(set_attributes(root, MOUNT_ATTR_RDONLY, 0, false), step::protect_rootfs);
    ::close(root);
  }

 private:
  /// The kernel's words about a file system context: the last line it logged.
  [[noreturn]] static void die_by_context(int context, std::size_t item) noexcept {
    const int error = errno;
    char line[sizeof launch_report::text] = {};
    const ssize_t size = ::read(context, line, sizeof line - 1);
    // "e message": the letter is a level.
    die(step::make_mount, error, item, size > 2 ? line + 2 : "");
  }

  /// A detached mount of a file system that is made here, in the namespaces it is to show.
  static int make_file_system(const char* type, std::size_t item, std::uint64_t attributes, auto configure) noexcept {
    const int context = need(::fsopen(type, FSOPEN_CLOEXEC), step::make_mount, item);
    if (!configure(context) || ::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
      die_by_context(context, item);
    const int tree = ::fsmount(context, FSMOUNT_CLOEXEC, static_cast<unsigned>(attributes));
    if (tree < 0) die_by_context(context, item);
    ::close(context);
    return tree;
  }

  void mount_file_system(std::size_t item, int target) noexcept {
    prepared_mount& m = plan_.mounts[item];
    const bundle_mount& what = *m.what;
    const std::uint64_t attributes =
        m.becomes_readonly ? what.here.set & ~std::uint64_t{MOUNT_ATTR_RDONLY} : what.here.set;
    const int tree = make_file_system(what.type.c_str(), item, attributes, [&](int context) {
      if (!what.source.empty() && ::fsconfig(context, FSCONFIG_SET_STRING, "source", what.source.c_str(), 0) != 0)
        return false;
      for (const auto& [key, value] : what.options)
        if (::fsconfig(context, value.empty() ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING, key.c_str(),
                       value.empty() ? nullptr : value.c_str(), 0) != 0)
          return false;
      return true;
    });
    need_zero(attach_mount(tree, target), step::make_mount, item);
    if (m.becomes_readonly)
      m.tree = unique_fd(tree);
    else
      ::close(tree);
  }

  void mount_cgroups(std::size_t item, int target) noexcept {
    const bundle_mount& what = *plan_.mounts[item].what;
    const std::uint64_t attributes = what.here.set;
    const bool several = plan_.cgroups.size() != 1 || !plan_.cgroups[0].name.empty();
    int base = target;
    if (several) {
      const int tree = make_file_system("tmpfs", item, attributes & ~std::uint64_t{MOUNT_ATTR_RDONLY}, [](int context) {
        return ::fsconfig(context, FSCONFIG_SET_STRING, "mode", "755", 0) == 0;
      });
      need_zero(attach_mount(tree, target), step::make_mount, item);
      base = tree;
    }
    for (const cgroup_view& view : plan_.cgroups) {
      int tree = view.tree.get();
      if (tree < 0)
        tree = make_file_system(view.v2 ? "cgroup2" : "cgroup", item, attributes, [&](int context) {
          for (const std::string& flag : view.flags)
            if (::fsconfig(context, FSCONFIG_SET_FLAG, flag.c_str(), nullptr, 0) != 0) return false;
          for (const auto& [key, value] : view.values)
            if (::fsconfig(context, FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0) != 0) return false;
          return true;
        });
      else
        need(set_attributes(tree, attributes, what.here.clear, false), step::make_mount, item);
      int place = base;
      if (several) {
        need(::mkdirat(base, view.name.c_str(), 0755), step::make_mount, item);
        place = need(::openat(base, view.name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), step::make_mount,
                     item);
        link_controllers(base, view.name.c_str(), item);
      }
      need_zero(attach_mount(tree, place), step::make_mount, item);
      if (several) ::close(place);
      if (!view.tree) ::close(tree);
    }
    if (several) {
      need(set_attributes(base, attributes, what.here.clear, false), step::make_mount, item);
      ::close(base);
    }
  }

  /// "cpu" and "cpuacct" for a hierarchy named "cpu,cpuacct", as programs expect.
  static void link_controllers(int base, const char* name, std::size_t item) noexcept {
    if (std::strchr(name, ',') == nullptr) return;
    char controller[NAME_MAX + 1];
    for (const char* begin = name;;) {
      const char* comma = std::strchr(begin, ',');
      const std::size_t size = comma != nullptr ? static_cast<std::size_t>(comma - begin) : std::strlen(begin);
      std::memcpy(controller, begin, size);
      controller[size] = '\0';
      need(::symlinkat(name, base, controller), step::make_mount, item);
      if (comma == nullptr) return;
      begin = comma + 1;
    }
  }

  void make_device(std::size_t item) noexcept {
    const bundle_device& d = plan_.devices[item];
    cut_path at;
    need(at.cut(d.path.c_str()), step::make_device, item);
    const int parent = need(open_or_make_inside(root_, at.parent, true), step::make_device, item);
    if (::mknodat(parent, at.name, d.mode, d.number) != 0) {
      struct stat st {};
      if (errno == EEXIST && ::fstatat(parent, at.name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
          (st.st_mode & S_IFMT) == (d.mode & S_IFMT) && st.st_rdev == d.number) {
        ::close(parent);
        return;
      }
      // EPERM: a user namespace makes no devices; the host's own is shown instead.
      if (errno != EPERM) die(step::make_device, errno, item);
      show_host_device(item);
    } else {
      need(::fchownat(parent, at.name, d.uid, d.gid, AT_SYMLINK_NOFOLLOW), step::make_device, item);
    }
    ::close(parent);
  }

  void show_host_device(std::size_t item) noexcept {
    const bundle_device& d = plan_.devices[item];
    const int host = need(::open(d.path.c_str(), O_PATH | O_CLOEXEC), step::make_device, item);
    struct stat st {};
    if (::fstat(host, &st) != 0 || (st.st_mode & S_IFMT) != (d.mode & S_IFMT) || st.st_rdev != d.number)
      die(step::make_device, EPERM, item);
    const int tree = need(clone_of(host), step::make_device, item);
    const int target = need(open_or_make_inside(root_, d.path.c_str(), false), step::make_device, item);
    need_zero(attach_mount(tree, target), step::make_device, item);
    ::close(target);
    ::close(tree);
    ::close(host);
  }

  static int make_empty_directory(std::size_t item) noexcept {
    const int context = need(::fsopen("tmpfs", FSOPEN_CLOEXEC), step::mask_path, item);
    need(::fsconfig(context, FSCONFIG_SET_STRING, "nr_inodes", "1", 0), step::mask_path, item);
    need(::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), step::mask_path, item);
    const int tree = need(::fsmount(context, FSMOUNT_CLOEXEC,
                                    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC),
                          step::mask_path, item);
    ::close(context);
    return tree;
  }

  create_child& plan_;
  const bundle_config& config_;
  int root_ = -1;
};

// ---- the steps common to create and exec -----------------------------------------------------------------------

void begin_in_child(const child_base& plan) noexcept {
  report_socket = plan.report;
  // Until kit-init waits for start: a child of a concurrent create may hold our parent's end of the socket,
  // so its closing alone would not tell that the parent is gone.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::close(plan.parent_end);
  ::umask(0);
}

/// While the host's /proc is in view: the container's may be anything by now.
void set_oom_score_in_child(const char* score) noexcept {
  if (score[0] == '\0') return;
  const int fd = need(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC), step::set_oom_score);
  need(static_cast<int>(::write(fd, score, std::strlen(score))), step::set_oom_score);
  ::close(fd);
}

void enter_cgroup_in_child(const exec_child& plan) noexcept {
  if (!plan.moved_by_parent) {
    need_zero(plan.group->enter(plan.cloned_into_group), step::enter_cgroup);
    return;
  }
  char word = 0;
  if (::recv(plan.report, &word, 1, 0) != 1) ::_exit(126);
}

/// The terminal's slave, with the master sent to whoever asked; -1: none is wanted.
int open_terminal_in_child(const child_base& plan) noexcept {
  if (!plan.terminal) return -1;
  pty_pair pty;
  need_zero(open_pty("/dev/pts/ptmx", pty), step::open_terminal);
  need_zero(set_terminal_size(pty.slave, plan.rows, plan.columns), step::open_terminal);
  need_zero(send_descriptor(plan.console_socket, pty.master), step::send_terminal);
  ::close(pty.master);
  return pty.slave;
}

void take_stdio_in_child(const child_base& plan, int terminal) noexcept {
  need(::dup2(terminal >= 0 ? terminal : plan.in, STDIN_FILENO), step::take_stdio);
  need(::dup2(terminal >= 0 ? terminal : plan.out, STDOUT_FILENO), step::take_stdio);
  need(::dup2(terminal >= 0 ? terminal : plan.err, STDERR_FILENO), step::take_stdio);
}

[[noreturn]] void become_init_in_child(const child_base& plan) noexcept {
  need(static_cast<int>(::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC)), step::run_init);
  for (int fd : plan.kept)
    if (fd >= 0) need(::fcntl(fd, F_SETFD, 0), step::run_init);
  char* const no_environment[] = {nullptr};
  ::syscall(SYS_execveat, plan.init, "", plan.init_args, no_environment, AT_EMPTY_PATH);
  die(step::run_init, errno);
}

}  // namespace

void run_create_child(create_child& plan) noexcept {
  begin_in_child(plan);
  creator child(plan);
  KIT_CHILD_STEP(child.join_namespaces_in_child());
  KIT_CHILD_STEP(child.enter_cgroup_in_child());
  KIT_CHILD_STEP(child.keep_mounts_private_in_child());
  KIT_CHILD_STEP(child.receive_rootfs_in_child());
  KIT_CHILD_STEP(child.attach_rootfs_in_child());
  KIT_CHILD_STEP(child.become_root_in_child());
  KIT_CHILD_STEP(child.make_mounts_in_child());
  KIT_CHILD_STEP(child.make_devices_in_child());
  KIT_CHILD_STEP(child.mask_paths_in_child());
  KIT_CHILD_STEP(child.protect_paths_in_child());
  KIT_CHILD_STEP(child.set_sysctls_in_child());
  KIT_CHILD_STEP(child.set_names_in_child());
  KIT_CHILD_STEP(child.enter_rootfs_in_child());
  const int terminal = open_terminal_in_child(plan);
  KIT_CHILD_STEP(child.show_console_in_child(terminal));
  KIT_CHILD_STEP(child.protect_rootfs_in_child());
  KIT_CHILD_STEP(take_stdio_in_child(plan, terminal));
  become_init_in_child(plan);
}

void run_exec_child(exec_child& plan) noexcept {
  begin_in_child(plan);
  KIT_CHILD_STEP(set_oom_score_in_child(plan.oom_score));
  KIT_CHILD_STEP(enter_cgroup_in_child(plan));
  need(::setns(plan.target, plan.namespaces), step::join_namespace);
  if ((plan.namespaces & CLONE_NEWUSER) != 0) become_root_of_namespace();
  const int terminal = open_terminal_in_child(plan);
  KIT_CHILD_STEP(take_stdio_in_child(plan, terminal));
  become_init_in_child(plan);
}

}  // namespace kit::drivers::detail
