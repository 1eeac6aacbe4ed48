// SPDX-License-Identifier: Apache-2.0
#include "kit/system/mount.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kit/system/error.hpp"
#include "kit/system/seam.hpp"

namespace kit {

mount mount::bind(std::string directory, bool read_only) {
  mount m;
  m.fstype = "bind";
  m.source = std::move(directory);
  if (read_only) m.attributes = MOUNT_ATTR_RDONLY;
  return m;
}

namespace {

constexpr std::size_t longest_value = 255;  // fsconfig(2): a string of 256 bytes with its NUL
constexpr std::size_t page = 4096;          // mount(2): all options together, with the NUL

// ---- what an entry's options come to, before it is decided how the kernel is told -------------------------

/// A place the kernel is to find: a host path, or `leaf` ("" or "/name") below a tree held open.
struct place {
  std::string path;
  int tree = -1;
  std::string leaf;
};

/// One option: a flag (no text, no places), a text, or places (a colon list if there are several).
struct setting {
  std::string key;
  bool flag = false;
  std::string text;
  std::vector<place> places;
};

/// Whom a mapping makes of root; -1: nobody else.
struct file_owner {
  uid_t uid = static_cast<uid_t>(-1);
  gid_t gid = static_cast<gid_t>(-1);
};

struct entry_settings {
  std::vector<setting> list;
  file_owner writer;                  ///< who creates files in an idmapped upper directory
  std::vector<unique_fd> trees;       ///< idmapped clones, kept until the entry is made
  bool needs_attached_trees = false;  ///< names detached trees, which overlayfs of older kernels refuses
};

std::string by_descriptor(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

/// Whether a path survives the parsers on the way (a comma ends an option, overlayfs splits at colons
/// and drops backslashes).
bool plain(const std::string& path) { return path.find_first_of(",:\\") == std::string::npos; }

void set_attributes(int tree, std::uint64_t attributes, int userns, const std::string& what) {
  if (attributes == 0 && userns < 0) return;
  mount_attr a{};
  a.attr_set = attributes;
  if ((attributes & MOUNT_ATTR__ATIME) != 0) a.attr_clr = MOUNT_ATTR__ATIME;
  if (userns >= 0) {
    a.attr_set |= MOUNT_ATTR_IDMAP;
    a.userns_fd = static_cast<std::uint64_t>(userns);
  }
  if (::mount_setattr(tree, "", AT_EMPTY_PATH, &a, sizeof a) != 0) {
    if (userns >= 0 && errno == EINVAL)
      fail(errc::unsupported,
           "idmap {}: its file system cannot be idmapped on this kernel; use one that can, or no user namespace", what);
    fail_errno(errno, "set attributes {:#x} of the mount of {}", attributes, what);
  }
}

unique_fd clone_tree(const std::string& path, std::uint64_t attributes, int userns) {
  unique_fd tree(
      seam("open_tree", [&] { return ::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC); }));
  if (!tree) fail_errno(errno, "clone the mount of {}", path);
  set_attributes(tree.get(), attributes, userns, path);
  return tree;
}

/// Overlayfs creates files in its upper directory as whoever made the mount, and in an idmapped one
/// root is nobody: the mount is to be made as the mapping's root, with all capabilities. 0 or -errno;
/// async-signal-safe, of the calling thread only.
int become(file_owner who) noexcept {
  if (who.uid == static_cast<uid_t>(-1)) return 0;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, caps) != 0) return -errno;
  ::setfsgid(who.gid);
  ::setfsuid(who.uid);  // takes the capabilities over files out of the effective set
  return ::syscall(SYS_capset, &header, caps) == 0 ? 0 : -errno;
}

class acting_as {
 public:
  explicit acting_as(file_owner who) : changed_(who.uid != static_cast<uid_t>(-1)) {
    if (const int rc = become(who); rc != 0) fail_errno(-rc, "act as user {} of the host", who.uid);
  }
  acting_as(const acting_as&) = delete;
  acting_as& operator=(const acting_as&) = delete;
  ~acting_as() {
    if (changed_) become({::geteuid(), ::getegid()});
  }

 private:
  bool changed_;
};

/// The owner under `tree`, an idmapped clone of `path`, of what root owns on disk.
file_owner mapped_root(const std::string& path, int tree) {
  struct stat plain_stat {
  }, mapped{};
  if (::stat(path.c_str(), &plain_stat) != 0 || ::fstat(tree, &mapped) != 0) fail_errno(errno, "stat {}", path);
  if (plain_stat.st_uid != 0 || plain_stat.st_gid != 0)
    fail(errc::invalid, "idmap {}: it must belong to root, and belongs to {}:{}", path, plain_stat.st_uid,
         plain_stat.st_gid);
  return {mapped.st_uid, mapped.st_gid};
}

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

entry_settings settings_of(const mount& m, std::span<const unique_fd> made, int userns) {
  entry_settings out;
  // Overlayfs wants upperdir and workdir under one mount: siblings share an idmapped clone of their parent.
  std::vector<std::pair<std::string, int>> parents;
  auto place_of = [&](const std::string& path, bool may_share) -> place {
    if (path.empty() || path.front() != '/')
      fail(errc::invalid, "mount {}: the path \"{}\" is not absolute", m.fstype, path);
    if (userns < 0) return {path, -1, {}};
    out.needs_attached_trees = true;
    if (!may_share) {
      out.trees.push_back(clone_tree(path, 0, userns));
      return {path, out.trees.back().get(), {}};
    }
    const std::string parent = parent_of(path);
    auto known = std::find_if(parents.begin(), parents.end(), [&](const auto& p) { return p.first == parent; });
    if (known == parents.end()) {
      out.trees.push_back(clone_tree(parent.empty() ? "/" : parent, 0, userns));
      known = parents.insert(parents.end(), {parent, out.trees.back().get()});
      out.writer = mapped_root(parent.empty() ? "/" : parent, known->second);
    }
    return {path, known->second, path.substr(parent.size())};
  };
  auto has_sibling = [&](const mount_option& one) {
    const std::string parent = parent_of(std::get<mount_option::path>(one.value).value);
    return std::any_of(m.options.begin(), m.options.end(), [&](const mount_option& other) {
      auto* p = std::get_if<mount_option::path>(&other.value);
      return &other != &one && p != nullptr && parent_of(p->value) == parent;
    });
  };
  for (const mount_option& o : m.options) {
    setting s;
    s.key = o.key;
    if (std::holds_alternative<mount_option::flag>(o.value)) {
      s.flag = true;
    } else if (auto* text = std::get_if<std::string>(&o.value)) {
      s.text = *text;
    } else if (auto* one = std::get_if<mount_option::path>(&o.value)) {
      s.places.push_back(place_of(one->value, has_sibling(o)));
    } else if (auto* many = std::get_if<mount_option::paths>(&o.value)) {
      if (many->values.empty()) fail(errc::invalid, "mount {}: option {} lists no path", m.fstype, o.key);
      for (const std::string& p : many->values) s.places.push_back(place_of(p, false));
    } else {
      const std::size_t entry = std::get<mount_option::result>(o.value).entry;
      if (entry >= made.size() || !made[entry])
        fail(errc::invalid, "mount {}: option {} asks for the result of entry {}, which made none before it", m.fstype,
             o.key, entry);
      out.needs_attached_trees = true;
      s.places.push_back({{}, made[entry].get(), {}});
    }
    out.list.push_back(std::move(s));
  }
  return out;
}

// ---- the usual way: a file system context -----------------------------------------------------------------

/// What the file system had to say, and then errno's text.
[[noreturn]] void fail_context(int context, int e, const std::string& what) {
  std::string said;
  std::array<char, 1024> line;
  for (ssize_t n; (n = ::read(context, line.data(), line.size())) > 0;) {
    std::string_view message(line.data(), static_cast<std::size_t>(n));
    while (!message.empty() && message.back() == '\n') message.remove_suffix(1);
    // "e ", "w " or "i " stands before each message.
    if (message.size() > 2 && message[1] == ' ') message.remove_prefix(2);
    said += said.empty() ? ": " : "; ";
    said += message;
  }
  throw_errno(e, what + said);
}

bool fits_context(const entry_settings& settings) {
  return std::all_of(settings.list.begin(), settings.list.end(), [](const setting& s) {
    if (s.places.size() <= 1) return s.text.size() <= longest_value;
    std::size_t size = 0;
    for (const place& p : s.places) {
      if (p.tree >= 0 || !plain(p.path)) return false;
      size += p.path.size() + 1;
    }
    return size - 1 <= longest_value;
  });
}

void configure(int context, const entry_settings& settings, const std::string& what, std::vector<unique_fd>& keep) {
  for (const setting& s : settings.list) {
    std::string value = s.text;
    for (const place& p : s.places) {
      if (!value.empty()) value += ':';
      if (p.tree >= 0) {
        value += by_descriptor(p.tree) + p.leaf;
      } else if (s.places.size() == 1 && (p.path.size() > longest_value || !plain(p.path))) {
        keep.push_back(open_file(p.path, O_PATH));
        value += by_descriptor(keep.back().get());
      } else {
        value += p.path;
      }
    }
    const int rc = s.flag ? ::fsconfig(context, FSCONFIG_SET_FLAG, s.key.c_str(), nullptr, 0)
                          : ::fsconfig(context, FSCONFIG_SET_STRING, s.key.c_str(), value.c_str(), 0);
    if (rc != 0) fail_context(context, errno, fmt::format("{}: option {}{}{}", what, s.key, s.flag ? "" : "=", value));
  }
}

unique_fd make_by_context(const mount& m, const entry_settings& settings) {
  const std::string what = fmt::format("mount {}{}{}", m.fstype, m.source.empty() ? "" : " of ", m.source);
  unique_fd context(seam("fsopen", [&] { return ::fsopen(m.fstype.c_str(), FSOPEN_CLOEXEC); }));
  if (!context) {
    if (errno == ENODEV) fail(errc::unsupported, "{}: this kernel has no such file system; load its module", what);
    fail_errno(errno, "{}", what);
  }
  std::vector<unique_fd> keep;
  if (!m.source.empty()) {
    std::string source = m.source;
    if (source.size() > longest_value) {
      keep.push_back(open_file(source, O_PATH));
      source = by_descriptor(keep.back().get());
    }
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "source", source.c_str(), 0) != 0)
      fail_context(context.get(), errno, what);
  }
  configure(context.get(), settings, what, keep);
  {
    acting_as writer(settings.writer);
    if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
      fail_context(context.get(), errno, what);
  }
  unique_fd tree(
      seam("fsmount", [&] { return ::fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(m.attributes)); }));
  if (!tree) fail_context(context.get(), errno, what);
  return tree;
}

// ---- the helper: a process in a mount namespace of its own ------------------------------------------------

/// Everything the helper does, spelled out before the fork: in it nothing allocates. In a tmpfs that
/// only the helper sees it makes `links` and attaches `trees` under short names; then it either mounts
/// `fstype` on ./m with names relative to that tmpfs, or attaches `root` on ./m and `inner` at `target`
/// inside; the clone of ./m is the result.
struct helper_job {
  struct link {
    std::string name, target;
  };
  struct tree {
    std::string name;
    int fd;
  };
  std::vector<link> links;
  std::vector<tree> trees;
  std::string source, fstype, data;
  unsigned long flags = 0;
  file_owner writer;
  int root = -1;
  int inner = -1;
  std::string target;
};

enum class helper_step : int { done, unshare, make_private, scratch, link, attach, become, mount, target, clone };

constexpr const char* step_text(helper_step s) {
  switch (s) {
    case helper_step::done: return "hand the result over";
    case helper_step::unshare: return "enter a mount namespace of its own";
    case helper_step::make_private: return "make that namespace private";
    case helper_step::scratch: return "mount its scratch tmpfs";
    case helper_step::link: return "link a layer";
    case helper_step::attach: return "attach a tree";
    case helper_step::become: return "act as the mapping's root";
    case helper_step::mount: return "mount (the kernel log may say more)";
    case helper_step::target: return "open the target inside the root";
    case helper_step::clone: return "clone the result";
  }
  return "";
}

struct helper_answer {
  helper_step step = helper_step::done;
  int sys_errno = 0;
};

/// Sends `answer`, with `fd` if it is not -1. 0 or -errno.
int send_answer(int socket, helper_answer answer, int fd) noexcept {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec io{&answer, sizeof answer};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  while (::sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
    if (errno != EINTR) return -errno;
  return 0;
}

[[noreturn]] void helper_in_child(const helper_job& job, int socket) noexcept {
  auto need = [socket](bool good, helper_step step) {
    if (good) return;
    send_answer(socket, {step, errno}, -1);
    ::_exit(1);
  };
  need(::unshare(CLONE_NEWNS) == 0, helper_step::unshare);
  need(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, helper_step::make_private);
  // The tmpfs lies over "/" and hides nothing: lookups of this process start at the root below it.
  const int context = ::fsopen("tmpfs", FSOPEN_CLOEXEC);
  need(context >= 0 && ::fsconfig(context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == 0, helper_step::scratch);
  const int scratch = ::fsmount(context, FSMOUNT_CLOEXEC, 0);
  need(scratch >= 0 && ::move_mount(scratch, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) == 0 &&
           ::fchdir(scratch) == 0 && ::mkdir("m", 0700) == 0,
       helper_step::scratch);
  for (const auto& l : job.links) need(::symlink(l.target.c_str(), l.name.c_str()) == 0, helper_step::link);
  for (const auto& t : job.trees)
    need(::mkdir(t.name.c_str(), 0700) == 0 &&
             ::move_mount(t.fd, "", AT_FDCWD, t.name.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0,
         helper_step::attach);
  if (job.root < 0) {
    const int rc = become(job.writer);
    if (rc != 0) errno = -rc;
    need(rc == 0, helper_step::become);
    need(::mount(job.source.c_str(), "m", job.fstype.c_str(), job.flags, job.data.c_str()) == 0, helper_step::mount);
  } else {
    need(::move_mount(job.root, "", AT_FDCWD, "m", MOVE_MOUNT_F_EMPTY_PATH) == 0, helper_step::attach);
    const int target = try_open_in_root(job.root, job.target.c_str(), O_PATH);
    need(target >= 0, helper_step::target);
    need(::move_mount(job.inner, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0,
         helper_step::attach);
  }
  const int result = ::open_tree(AT_FDCWD, "m", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
  need(result >= 0, helper_step::clone);
  ::_exit(send_answer(socket, {}, result) == 0 ? 0 : 1);
}

std::pair<helper_answer, unique_fd> receive_answer(int socket) {
  helper_answer answer{helper_step::done, EPIPE};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec io{&answer, sizeof answer};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  while (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) < 0)
    if (errno != EINTR) fail_errno(errno, "hear from the mount helper");
  unique_fd fd;
  if (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr && c->cmsg_type == SCM_RIGHTS) {
    int raw = -1;
    std::memcpy(&raw, CMSG_DATA(c), sizeof raw);
    fd.reset(raw);
  }
  return {answer, std::move(fd)};
}

unique_fd run_helper(const helper_job& job, const std::string& what) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) fail_errno(errno, "{}: socketpair", what);
  unique_fd here(ends[0]), there(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) fail_errno(errno, "{}: fork the mount helper", what);
  if (pid == 0) helper_in_child(job, there.get());
  there.reset();
  auto reap = [pid] {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {}
  };
  std::pair<helper_answer, unique_fd> got;
  try {
    got = receive_answer(here.get());
  } catch (...) {
    reap();
    throw;
  }
  reap();
  if (!got.second)
    fail_errno(got.first.sys_errno, "{}: the mount helper could not {}", what, step_text(got.first.step));
  return std::move(got.second);
}

/// mount(2) with every place under a short name: 500 layers fit one page, and trees are attached.
unique_fd make_by_helper(const mount& m, const entry_settings& settings) {
  const std::string what = fmt::format("mount {}", m.fstype);
  helper_job job;
  job.fstype = m.fstype;
  job.writer = settings.writer;
  job.source = m.source.empty() ? m.fstype : m.source;
  std::vector<std::pair<int, std::string>> known;
  std::size_t next = 0;
  auto short_name = [&](const place& p) {
    if (p.tree < 0) {
      job.links.push_back({std::to_string(next++), p.path});
      return job.links.back().name;
    }
    auto it = std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.first == p.tree; });
    if (it == known.end()) {
      job.trees.push_back({std::to_string(next++), p.tree});
      it = known.insert(known.end(), {p.tree, job.trees.back().name});
    }
    return it->second + p.leaf;
  };
  for (const setting& s : settings.list) {
    if (s.flag && s.key == "ro") {  // of the VFS, not of the file system: mount(2) has a bit for it
      job.flags |= MS_RDONLY;
      continue;
    }
    if (s.text.find(',') != std::string::npos)
      fail(errc::invalid, "{}: option {}={} has a comma, which mount(2) cannot carry", what, s.key, s.text);
    if (!job.data.empty()) job.data += ',';
    job.data += s.key;
    if (s.flag) continue;
    job.data += '=';
    job.data += s.text;
    for (std::size_t i = 0; i < s.places.size(); ++i) job.data += (i == 0 ? "" : ":") + short_name(s.places[i]);
  }
  if (job.data.size() >= page)
    fail(errc::invalid, "{}: its options take {} bytes, and mount(2) carries {}; use fewer layers", what,
         job.data.size(), page - 1);
  unique_fd tree = run_helper(job, what);
  set_attributes(tree.get(), m.attributes, -1, m.fstype);
  return tree;
}

// ---- one entry --------------------------------------------------------------------------------------------

unique_fd make_entry(const mount& m, std::span<const unique_fd> made, int userns) {
  if (m.fstype.empty()) fail(errc::invalid, "mount entry {}: no file system type", made.size());
  if (m.fstype == "bind") {
    if (!m.options.empty()) fail(errc::invalid, "bind {}: a bind takes no options", m.source);
    if (m.source.empty() || m.source.front() != '/') fail(errc::invalid, "bind \"{}\": not an absolute path", m.source);
    return clone_tree(m.source, m.attributes, userns);
  }
  const entry_settings settings = settings_of(m, made, userns);
  if (!fits_context(settings)) return make_by_helper(m, settings);
  try {
    unique_fd tree = make_by_context(m, settings);
    if (userns >= 0 && m.source.starts_with('/')) set_attributes(tree.get(), 0, userns, m.source);
    return tree;
  } catch (const error& e) {
    // Before Linux 6.15 overlayfs takes only layers that are attached in the caller's namespace.
    if (!settings.needs_attached_trees || e.sys_errno() != EINVAL) throw;
  }
  return make_by_helper(m, settings);
}

void reconfigure(const mount& m, int tree, std::span<const unique_fd> made, int userns) {
  const std::string what = fmt::format("reconfigure {}", m.fstype);
  if (m.attributes != 0 || !m.target.empty())
    fail(errc::invalid, "{}: it takes options only, no attributes and no target", what);
  unique_fd context(::fspick(tree, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC));
  if (!context) fail_errno(errno, "{}", what);
  const entry_settings settings = settings_of(m, made, userns);
  if (!fits_context(settings)) fail(errc::invalid, "{}: an option is longer than {} bytes", what, longest_value);
  std::vector<unique_fd> keep;
  configure(context.get(), settings, what, keep);
  if (::fsconfig(context.get(), FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0) != 0)
    fail_context(context.get(), errno, what);
}

/// Puts `inner` on `target` inside the detached `root`; answers the root that now has it.
unique_fd nest(unique_fd root, unique_fd inner, const std::string& target) {
  const unique_fd place = open_in_root(root.get(), target, O_PATH);
  const int rc = attach_mount(inner.get(), place.get());
  if (rc == 0) return root;
  // Before Linux 6.15 a detached tree is no place to attach to.
  if (rc != -EINVAL) fail_errno(-rc, "attach a mount at {} in the root file system", target);
  helper_job job;
  job.root = root.get();
  job.inner = inner.get();
  job.target = target;
  return run_helper(job, fmt::format("attach a mount at {} in the root file system", target));
}

}  // namespace

unique_fd make_detached(std::span<const mount> list, int userns) {
  std::vector<unique_fd> made;  // one per entry; empty where an entry left none of its own
  made.reserve(list.size());
  std::size_t root = list.size(), last = list.size();
  for (const mount& m : list) {
    const std::size_t here = made.size();
    if (m.what == mount::action::reconfigure) {
      if (last == list.size() || !made[last])
        fail(errc::invalid, "mount entry {} reconfigures, but nothing was made before it", here);
      reconfigure(m, made[last].get(), made, userns);
      made.emplace_back();
      continue;
    }
    if (m.what != mount::action::make)
      fail(errc::unsupported, "mount entry {}: unknown action {}", here, static_cast<std::uint32_t>(m.what));
    unique_fd tree = make_entry(m, made, userns);
    last = here;
    if (m.target.empty()) {
      made.push_back(std::move(tree));
      root = here;
      continue;
    }
    if (root == list.size())
      fail(errc::invalid, "mount entry {} has the target {}, but no root was made before it", here, m.target);
    // What a later entry reconfigures is the superblock, which this descriptor names as well.
    unique_fd same(::fcntl(tree.get(), F_DUPFD_CLOEXEC, 0));
    if (!same) fail_errno(errno, "duplicate a descriptor");
    made[root] = nest(std::move(made[root]), std::move(tree), m.target);
    made.push_back(std::move(same));
  }
  if (root == list.size()) fail(errc::invalid, "the list of mounts makes no root");
  return std::move(made[root]);
}

bool overlay_appends_lowers() {
  // By version: a kernel asked by trial says on its console that it did not find the layer, which takes a millisecond.
  static const bool answer = [] {
    utsname kernel{};
    unsigned major = 0, minor = 0;
    return ::uname(&kernel) == 0 && std::sscanf(kernel.release, "%u.%u", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 7));
  }();
  return answer;
}

int attach_mount(int tree, int target_directory) noexcept {
  const auto move = [&] {
    return ::move_mount(tree, "", target_directory, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  };
  return seam("move_mount", move) == 0 ? 0 : -errno;
}

}  // namespace kit
