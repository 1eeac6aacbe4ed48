// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <unordered_set>
#include <vector>

#include "kit/driver.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/fd.hpp"
#include "tar_reader.hpp"

namespace kit {
namespace {

using detail::blob_stream;
using detail::tar_reader;

constexpr std::string_view whiteout_prefix = ".wh.";
constexpr std::string_view whiteout_meta = ".wh..wh.";
constexpr std::string_view whiteout_opaque = ".wh..wh..opq";

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

/// A name in the archive, made plain: "./a//b/" is {"a", "b"}. The root itself is {"", ""}.
struct entry_name {
  std::string parent;
  std::string last;

  [[nodiscard]] std::string path() const { return parent.empty() ? last : parent + '/' + last; }

  static entry_name parse(std::string_view text) {
    entry_name name;
    while (!text.empty()) {
      const auto slash = std::min(text.find('/'), text.size());
      const std::string_view part = text.substr(0, slash);
      text.remove_prefix(std::min(slash + 1, text.size()));
      if (part.empty() || part == ".") continue;
      if (part == "..") fail(errc::invalid, "unpack archive: a name leads upwards");
      if (!name.last.empty()) {
        if (!name.parent.empty()) name.parent += '/';
        name.parent += name.last;
      }
      name.last = part;
    }
    return name;
  }
};

struct timestamps {
  std::array<timespec, 2> times;  // access, modification, as utimensat(2) takes them
  explicit timestamps(archive_entry* e) {
    times[1] = {::archive_entry_mtime(e), ::archive_entry_mtime_nsec(e)};
    times[0] = ::archive_entry_atime_is_set(e) != 0 ? timespec{::archive_entry_atime(e), ::archive_entry_atime_nsec(e)}
                                                    : times[1];
  }
};

/// The tree that an archive is applied to. Everything happens in a parent directory that was resolved inside the root,
/// to a last component that is never followed.
class target_tree {
 public:
  target_tree(int root, const unpack_limits& limits) : root_(root), limits_(limits) {}

  void apply(archive_entry* e, tar_reader& tar) {
    const char* text = ::archive_entry_pathname(e);
    if (text == nullptr || *text == '\0') fail(errc::invalid, "unpack archive: an entry has no name");
    const entry_name name = entry_name::parse(text);
    if (is_whiteout(name)) return apply_whiteout(name);
    if (name.last.empty()) {
      if (::archive_entry_filetype(e) != AE_IFDIR || ::archive_entry_hardlink(e) != nullptr)
        fail(errc::invalid, "unpack archive: the root is no directory in it");
      set_directory_metadata(root_, e, "");
      return;
    }
    const int parent = directory(name.parent);
    seen_.insert(name.path());
    if (const char* target = ::archive_entry_hardlink(e); target != nullptr)
      return link(parent, name.last, entry_name::parse(target));
    switch (::archive_entry_filetype(e)) {
      case AE_IFREG: return regular(parent, name.last, e, tar);
      case AE_IFDIR: return make_directory(parent, name, e);
      case AE_IFLNK: return symlink(parent, name.last, e);
      case AE_IFCHR:
      case AE_IFBLK:
      case AE_IFIFO: return node(parent, name.last, e);
      default: fail(errc::invalid, "unpack archive: an entry of unknown type");
    }
  }

  /// What can be set only when nothing is put into directories any more.
  void finish() {
    for (auto d = directories_.rbegin(); d != directories_.rend(); ++d) {
      const int fd =
          try_open_in_root(root_, d->first.empty() ? "." : d->first.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (fd < 0) continue;  // replaced by a later entry
      const unique_fd open(fd);
      ::futimens(fd, d->second.times.data());
    }
  }

 private:
  // ---- where --------------------------------------------------------------------------------------

  /// The directory that `path` names inside the root; what is missing is made. Borrowed until the next call.
  int directory(const std::string& path) {
    if (path.empty()) return root_;
    if (std::exchange(stale_, false)) cached_.reset();
    if (cached_ && path == cached_path_) return cached_.get();
    int fd = try_open_in_root(root_, path.c_str(), O_PATH | O_DIRECTORY);
    if (fd < 0 && errno == ENOENT) {
      make_parents(path);
      fd = try_open_in_root(root_, path.c_str(), O_PATH | O_DIRECTORY);
    }
    if (fd < 0) fail_errno(errno, "unpack archive: open directory {}", path);
    cached_.reset(fd);
    cached_path_ = path;
    for (std::string above = path; seen_.insert(above).second && above.find('/') != std::string::npos;)
      above.resize(above.rfind('/'));
    return fd;
  }

  void make_parents(const std::string& path) {
    unique_fd above;
    for (std::size_t start = 0; start < path.size();) {
      const std::size_t end = std::min(path.find('/', start), path.size());
      const std::string so_far = path.substr(0, end);
      const std::string part = path.substr(start, end - start);
      int fd = try_open_in_root(root_, so_far.c_str(), O_PATH | O_DIRECTORY);
      if (fd < 0 && errno == ENOENT && ::mkdirat(above ? above.get() : root_, part.c_str(), 0755) == 0)
        fd = try_open_in_root(root_, so_far.c_str(), O_PATH | O_DIRECTORY);
      if (fd < 0) fail_errno(errno == EEXIST ? ENOTDIR : errno, "unpack archive: make directory {}", so_far);
      above.reset(fd);
      start = end + 1;
    }
  }

  /// Frees the name, whatever bears it.
  void remove(int parent, const std::string& last) {
    struct stat st {};
    if (::fstatat(parent, last.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return;
      fail_errno(errno, "stat {}", last);
    }
    // A path through what goes away leads elsewhere from now on.
    if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)) stale_ = true;
    remove_tree(fmt::format("/proc/self/fd/{}/{}", parent, last));
  }

  /// Runs `make` (0, or -1 and errno); if the name is taken, frees it and runs it again.
  template <class Make>
  int replace(int parent, const std::string& last, const char* what, Make make) {
    int answer = make();
    if (answer < 0 && errno == EEXIST) {
      remove(parent, last);
      answer = make();
    }
    if (answer < 0) fail_errno(errno, "{} {}", what, last);
    return answer;
  }

  // ---- what ---------------------------------------------------------------------------------------

  void regular(int parent, const std::string& last, archive_entry* e, tar_reader& tar) {
    const auto size = static_cast<std::uint64_t>(::archive_entry_size(e));
    bytes_ += size;
    if (size > limits_.bytes || bytes_ > limits_.bytes)
      fail(errc::no_space, "unpack archive: its files take more than {} bytes", limits_.bytes);
    const unique_fd file(replace(parent, last, "create file", [&] {
      return ::openat(parent, last.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    }));
    std::string_view bytes;
    std::int64_t offset = 0;
    std::int64_t written = 0;
    while (tar.data(bytes, offset)) {
      if (offset < 0 || static_cast<std::uint64_t>(offset) + bytes.size() > size)
        fail(errc::invalid, "unpack archive: more content than it announces");
      while (!bytes.empty()) {
        const ssize_t n = ::pwrite(file.get(), bytes.data(), bytes.size(), offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_errno(errno, "write {}", last);
        bytes.remove_prefix(static_cast<std::size_t>(n));
        offset += n;
      }
      written = std::max(written, offset);
    }
    if (static_cast<std::uint64_t>(written) < size && ::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
      fail_errno(errno, "extend {}", last);
    set_metadata(file.get(), e);
    if (::futimens(file.get(), timestamps(e).times.data()) != 0) fail_errno(errno, "set the times of {}", last);
  }

  void make_directory(int parent, const entry_name& name, archive_entry* e) {
    if (::mkdirat(parent, name.last.c_str(), 0700) != 0) {
      if (errno != EEXIST) fail_errno(errno, "make directory {}", name.last);
      struct stat st {};
      if (::fstatat(parent, name.last.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) fail_errno(errno, "stat {}", name.last);
      if (!S_ISDIR(st.st_mode))
        replace(parent, name.last, "make directory", [&] { return ::mkdirat(parent, name.last.c_str(), 0700); });
    }
    const unique_fd made = open_at(parent, name.last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    set_directory_metadata(made.get(), e, name.path());
  }

  void symlink(int parent, const std::string& last, archive_entry* e) {
    const char* target = ::archive_entry_symlink(e);
    if (target == nullptr || *target == '\0') fail(errc::invalid, "unpack archive: a symlink has no target");
    replace(parent, last, "make symlink", [&] { return ::symlinkat(target, parent, last.c_str()); });
    set_node_metadata(parent, last, e);
  }

  void node(int parent, const std::string& last, archive_entry* e) {
    const mode_t type = ::archive_entry_filetype(e);
    const dev_t device = type == AE_IFIFO ? 0 : ::archive_entry_rdev(e);
    // The kernel's own mark for "deleted" on overlayfs.
    if (type == AE_IFCHR && device == 0) fail(errc::invalid, "unpack archive: a character device 0:0");
    replace(parent, last, "make node", [&] { return ::mknodat(parent, last.c_str(), type | 0600, device); });
    if (::fchmodat(parent, last.c_str(), 0600, 0) != 0) fail_errno(errno, "set the mode of {}", last);
    set_node_metadata(parent, last, e);
  }

  void link(int parent, const std::string& last, const entry_name& target) {
    const unique_fd from(
        try_open_in_root(root_, target.parent.empty() ? "." : target.parent.c_str(), O_PATH | O_DIRECTORY));
    struct stat st {};
    if (!from || target.last.empty() || ::fstatat(from.get(), target.last.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        S_ISDIR(st.st_mode))
      fail(errc::invalid, "unpack archive: a hard link to \"{}\", which is no file of the tree", target.path());
    struct stat here {};
    if (::fstatat(parent, last.c_str(), &here, AT_SYMLINK_NOFOLLOW) == 0 && here.st_dev == st.st_dev &&
        here.st_ino == st.st_ino)
      return;
    replace(parent, last, "make hard link",
            [&] { return ::linkat(from.get(), target.last.c_str(), parent, last.c_str(), 0); });
  }

  // ---- whiteouts ----------------------------------------------------------------------------------

  static bool is_whiteout(const entry_name& name) {
    if (starts_with(name.parent, whiteout_prefix) || name.parent.find("/.wh.") != std::string::npos)
      fail(errc::invalid, "unpack archive: a whiteout with something below it");
    return starts_with(name.last, whiteout_prefix);
  }

  void apply_whiteout(const entry_name& name) {
    const bool opaque = name.last == whiteout_opaque;
    const std::string victim = name.last.substr(whiteout_prefix.size());
    if (!opaque && (victim.empty() || victim == "." || victim == ".." || starts_with(name.last, whiteout_meta)))
      fail(errc::invalid, "unpack archive: a malformed whiteout");
    const unique_fd parent(
        try_open_in_root(root_, name.parent.empty() ? "." : name.parent.c_str(), O_RDONLY | O_DIRECTORY));
    if (!parent) {
      if (errno == ENOENT || errno == ENOTDIR) return;
      fail_errno(errno, "open directory {}", name.parent);
    }
    if (opaque)
      empty(parent.get(), name.parent);
    else if (seen_.count(entry_name{name.parent, victim}.path()) == 0)
      remove(parent.get(), victim);
  }

  /// Removes what this archive did not bring: an opaque mark hides the layers below only, wherever in the archive it
  /// stands.
  void empty(int parent, const std::string& path) {
    std::vector<std::string> names;
    {
      DIR* stream = ::fdopendir(open_at(parent, ".", O_RDONLY | O_DIRECTORY).release());
      if (stream == nullptr) fail_errno(errno, "read directory {}", path);
      const std::unique_ptr<DIR, int (*)(DIR*)> close_it(stream, ::closedir);
      while (const dirent* entry = ::readdir(stream)) names.emplace_back(entry->d_name);
    }
    for (const std::string& name : names) {
      if (name == "." || name == "..") continue;
      const std::string below = path.empty() ? name : path + '/' + name;
      if (seen_.count(below) == 0) {
        remove(parent, name);
      } else if (const unique_fd child(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
                 child) {
        empty(child.get(), below);
      }
    }
  }

  // ---- metadata -----------------------------------------------------------------------------------

  /// Owner before mode and attributes: chown(2) clears set-user-id bits and file capabilities.
  void set_metadata(int fd, archive_entry* e) {
    clear_attributes([fd](char* names, std::size_t size) { return ::flistxattr(fd, names, size); },
                     [fd](const char* name) { return ::fremovexattr(fd, name); });
    if (::fchown(fd, owner(e), group(e)) != 0) fail_errno(errno, "set the owner");
    if (::fchmod(fd, ::archive_entry_perm(e)) != 0) fail_errno(errno, "set the mode");
    set_attributes(e, [fd](const char* name, const void* value, std::size_t size) {
      return ::fsetxattr(fd, name, value, size, 0);
    });
  }

  void set_directory_metadata(int fd, archive_entry* e, const std::string& path) {
    set_metadata(fd, e);
    directories_.emplace_back(path, timestamps(e));
  }

  void set_node_metadata(int parent, const std::string& last, archive_entry* e) {
    if (::fchownat(parent, last.c_str(), owner(e), group(e), AT_SYMLINK_NOFOLLOW) != 0)
      fail_errno(errno, "set the owner of {}", last);
    if (::archive_entry_filetype(e) != AE_IFLNK && ::fchmodat(parent, last.c_str(), ::archive_entry_perm(e), 0) != 0)
      fail_errno(errno, "set the mode of {}", last);
    const std::string path = fmt::format("/proc/self/fd/{}/{}", parent, last);
    clear_attributes([&path](char* names, std::size_t size) { return ::llistxattr(path.c_str(), names, size); },
                     [&path](const char* name) { return ::lremovexattr(path.c_str(), name); });
    set_attributes(e, [&path](const char* name, const void* value, std::size_t size) {
      return ::lsetxattr(path.c_str(), name, value, size, 0);
    });
    if (::utimensat(parent, last.c_str(), timestamps(e).times.data(), AT_SYMLINK_NOFOLLOW) != 0)
      fail_errno(errno, "set the times of {}", last);
  }

  /// Overlayfs's notes to itself: content to nobody, commands to the next mount.
  static bool is_overlay_note(std::string_view name) {
    return starts_with(name, "trusted.overlay.") || starts_with(name, "user.overlay.");
  }

  /// An entry says all there is: a directory keeps nothing of its lower layer's attributes, and nothing keeps what it
  /// inherited from the default ACL of its directory. What security modules set is theirs.
  template <class List, class Remove>
  static void clear_attributes(List list, Remove remove) {
    ssize_t size = list(nullptr, 0);
    if (size <= 0) return;
    std::string names(static_cast<std::size_t>(size), '\0');
    size = list(names.data(), names.size());
    if (size < 0) fail_errno(errno, "list extended attributes");
    for (const char *name = names.data(), *end = name + size; name < end; name += std::strlen(name) + 1)
      if (!starts_with(name, "security.") && !is_overlay_note(name) && remove(name) != 0 && errno != ENODATA)
        fail_errno(errno, "remove extended attribute {}", name);
  }

  template <class Set>
  static void set_attributes(archive_entry* e, Set set) {
    if (::archive_entry_xattr_reset(e) == 0) return;
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    while (::archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
      if (is_overlay_note(name)) continue;
      if (set(name, value, size) == 0) continue;
      if (errno != EOPNOTSUPP) fail_errno(errno, "set extended attribute {}", name);
      this_call().log(log_level::warning, fmt::format("the file system does not keep extended attribute {}", name));
    }
  }

  static uid_t owner(archive_entry* e) { return number(::archive_entry_uid(e)); }
  static gid_t group(archive_entry* e) { return number(::archive_entry_gid(e)); }
  static unsigned number(la_int64_t id) {
    // -1 would mean "leave it" to chown(2).
    if (id < 0 || id >= 0xffffffff) fail(errc::invalid, "unpack archive: user or group {} is out of range", id);
    return static_cast<unsigned>(id);
  }

  int root_;
  unpack_limits limits_;
  unique_fd cached_;
  std::string cached_path_;
  bool stale_ = false;  ///< what the cached path leads to may be another directory now
  std::uint64_t bytes_ = 0;
  std::unordered_set<std::string> seen_;
  std::vector<std::pair<std::string, timestamps>> directories_;
};

}  // namespace

unpacked unpack_archive(int from, int root, const unpack_limits& limits) {
  const detail::utf8_scope utf8;
  unpacked answer;
  blob_stream blob(from, limits);
  tar_reader tar(blob);
  // Anew: a mount's own descriptor is O_PATH, by which nothing can be changed.
  const unique_fd top = open_at(root, ".", O_RDONLY | O_DIRECTORY);
  target_tree tree(top.get(), limits);
  while (archive_entry* e = tar.next()) {
    this_call().check();
    this_call().progress(blob.read(), blob.size());
    if (++answer.entries > limits.entries)
      fail(errc::no_space, "unpack archive: it has more than {} entries", limits.entries);
    try {
      tree.apply(e, tar);
    } catch (const error& failed) {
      const char* name = ::archive_entry_pathname(e);
      throw error(failed.code(), fmt::format("entry \"{:.200}\": {}", name != nullptr ? name : "", failed.what()),
                  failed.sys_errno());
    }
  }
  tree.finish();
  answer.bytes_read = blob.read();
  blob.digests(answer);
  return answer;
}

}  // namespace kit
