// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <unordered_set>
#include <vector>

#include "kit/driver.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"
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
  /// The directory above `path`.
  static std::string above(const std::string& path) {
    const auto slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  }

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

using timestamps = std::array<timespec, 2>;  // access, modification, as utimensat(2) takes them

timestamps times_of(archive_entry* e) {
  const timespec modified{::archive_entry_mtime(e), ::archive_entry_mtime_nsec(e)};
  if (::archive_entry_atime_is_set(e) == 0) return {modified, modified};
  return {timespec{::archive_entry_atime(e), ::archive_entry_atime_nsec(e)}, modified};
}
timestamps only_modified(const timespec& time) { return {timespec{0, UTIME_OMIT}, time}; }

/// The tree that an archive is applied to, in sight of what it changes. Everything happens in a parent directory that
/// was resolved inside the root, to a last component that is never followed.
class target_tree {
 public:
  /// Anew: a mount's own descriptor is O_PATH, by which nothing can be changed.
  explicit target_tree(int root) : own_(open_at(root, ".", O_RDONLY | O_DIRECTORY)) {}
  virtual ~target_tree() = default;
  target_tree(const target_tree&) = delete;
  target_tree& operator=(const target_tree&) = delete;

  unpacked apply_all(int from, const unpack_limits& limits) {
    const detail::utf8_scope utf8;
    limits_ = limits;
    unpacked answer;
    blob_stream blob(from, limits);
    tar_reader tar(blob);
    while (archive_entry* e = tar.next()) {
      this_call().check();
      this_call().progress(blob.read(), blob.size());
      if (++answer.entries > limits.entries)
        fail(errc::no_space, "unpack archive: it has more than {} entries", limits.entries);
      try {
        apply(e, tar);
      } catch (const error& failed) {
        const char* name = ::archive_entry_pathname(e);
        throw error(failed.code(), fmt::format("entry \"{:.200}\": {}", name != nullptr ? name : "", failed.what()),
                    failed.sys_errno());
      }
    }
    answer.bytes_read = blob.read();
    blob.digests(answer);
    return answer;
  }

  /// What can be set only when nothing is put into directories any more.
  void set_directory_times() {
    for (const auto& [path, times] : times_) {
      const unique_fd directory(look_up(path, O_RDONLY | O_DIRECTORY));
      struct stat st {};
      if (!directory || ::fstat(directory.get(), &st) != 0) continue;
      // What is as it was in a lower layer need not be brought up.
      const bool same = st.st_mtim.tv_sec == times[1].tv_sec && st.st_mtim.tv_nsec == times[1].tv_nsec;
      if (!same || times[0].tv_nsec != UTIME_OMIT) ::futimens(directory.get(), times.data());
    }
  }

 protected:
  // ---- what one who does not see the layers below does otherwise ------------------------------------

  /// openat2(2) within the root: -1 and errno.
  virtual int look_up(const std::string& path, int flags) {
    return try_open_in_root(root_, path.empty() ? "." : path.c_str(), flags);
  }
  /// An entry is about to bear the name. Answers whether the archive had deleted it: a directory is then a new one.
  virtual bool revive(int /*parent*/, const entry_name&) { return false; }
  /// An entry that is a directory is there; `anew`: it has nothing from below.
  virtual void directory_named(int /*directory*/, const std::string& /*path*/, bool /*anew*/) {}
  /// A directory that is no entry was made.
  virtual void directory_made(int /*directory*/, const std::string& /*path*/, bool /*anew*/) {}
  /// An entry that was made at `time` is about to be put below the directory.
  virtual void directory_used(const std::string& /*path*/, const timespec& /*time*/) {}
  /// errno tells why there is no such directory and none can be made.
  [[noreturn]] virtual void refuse_way(const std::string& path) {
    fail_errno(errno == EEXIST ? ENOTDIR : errno, "unpack archive: directory {}", path);
  }
  /// The target of a hard link is no file of the tree.
  [[noreturn]] virtual void refuse_link(const entry_name& target) {
    fail(errc::invalid, "unpack archive: a hard link to \"{}\", which is no file of the tree", target.path());
  }
  virtual void delete_below(const entry_name& victim) {
    const unique_fd parent(look_up(victim.parent, O_RDONLY | O_DIRECTORY));
    if (!parent) return accept_absence(victim.parent);
    keep_times(parent.get(), victim.parent);
    remove(parent.get(), victim);
  }
  virtual void empty_below(const std::string& path) {
    const unique_fd directory(look_up(path, O_RDONLY | O_DIRECTORY));
    if (!directory) return accept_absence(path);
    empty(directory.get(), path);
  }

  static void accept_absence(const std::string& path) {
    if (errno != ENOENT && errno != ENOTDIR) fail_errno(errno, "open directory {}", path);
  }

  // ---- where --------------------------------------------------------------------------------------

  /// The directory that `path` names inside the root; what is missing is made. Borrowed until the next call.
  int directory(const std::string& path, const timespec& time) {
    if (path.empty()) {
      keep_times(root_, path);
      return root_;
    }
    if (std::exchange(stale_, false)) cached_.reset();
    if (cached_ && path == cached_path_) return cached_.get();
    int fd = look_up(path, O_PATH | O_DIRECTORY);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
      make_directories_to(path, time);
      fd = look_up(path, O_PATH | O_DIRECTORY);
    }
    if (fd < 0) refuse_way(path);
    cached_.reset(fd);
    cached_path_ = path;
    keep_times(fd, path);
    directory_used(path, time);
    for (std::string above = path; seen_.insert(above).second && above.find('/') != std::string::npos;)
      above.resize(above.rfind('/'));
    return fd;
  }

  void make_directories_to(const std::string& path, const timespec& time) {
    unique_fd above;
    for (std::size_t start = 0; start < path.size();) {
      const std::size_t end = std::min(path.find('/', start), path.size());
      const std::string so_far = path.substr(0, end);
      int fd = look_up(so_far, O_PATH | O_DIRECTORY);
      if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        fd = make_missing(above ? above.get() : root_, {entry_name::above(so_far), so_far.substr(start)}, errno, time);
      if (fd < 0) refuse_way(so_far);
      above.reset(fd);
      start = end + 1;
    }
  }

  int make_missing(int parent, const entry_name& name, int why, const timespec& time) {
    const bool anew = revive(parent, name);
    keep_times(parent, name.parent);
    errno = why;
    if ((why == ENOTDIR && !anew) || ::mkdirat(parent, name.last.c_str(), 0700) != 0) return -1;
    unique_fd made = open_at(parent, name.last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    clear_attributes(made.get());
    if (::fchown(made.get(), 0, 0) != 0 || ::fchmod(made.get(), 0755) != 0)
      fail_errno(errno, "set the owner and mode of {}", name.last);
    set_times(made.get(), name.path(), only_modified(time));
    directory_made(made.get(), name.path(), anew);
    return made.release();
  }

  /// The one name of a directory to which symlinks may have given others; `path` where that is too long to be asked.
  std::string without_links(int directory, const std::string& path) const {
    const std::string here = path_of(directory);
    const std::size_t base = root_path_.size() + (root_path_.ends_with('/') ? 0 : 1);
    return here == root_path_ ? "" : here.starts_with(root_path_) && here.size() > base ? here.substr(base) : path;
  }
  static std::string path_of(int directory) {
    std::string text(PATH_MAX, '\0');
    const ssize_t size = ::readlink(fmt::format("/proc/self/fd/{}", directory).c_str(), text.data(), text.size());
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
    return text;
  }

  /// In the end.
  void set_times(int directory, const std::string& path, const timestamps& times) {
    times_[without_links(directory, path)] = times;
  }

  /// To be set again in the end, unless an entry says otherwise.
  void keep_times(int directory, const std::string& path) {
    if (times_.count(path) != 0) return;
    struct stat st {};
    if (::fstat(directory, &st) != 0) fail_errno(errno, "stat directory {}", path);
    times_.emplace(without_links(directory, path), only_modified(st.st_mtim));
  }

  /// Frees the name, whatever bears it.
  void remove(int parent, const entry_name& name) {
    struct stat st {};
    if (::fstatat(parent, name.last.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) return;
      fail_errno(errno, "stat {}", name.last);
    }
    // A path through what goes away leads elsewhere from now on.
    if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode)) {
      stale_ = true;
      const std::string path = entry_name{without_links(parent, name.parent), name.last}.path();
      times_.erase(path);
      // What lies below "d" stands between "d/" and "d0".
      times_.erase(times_.lower_bound(path + '/'), times_.lower_bound(path + static_cast<char>('/' + 1)));
    }
    remove_tree(fmt::format("/proc/self/fd/{}/{}", parent, name.last));
  }

 private:
  void apply(archive_entry* e, tar_reader& tar) {
    const char* text = ::archive_entry_pathname(e);
    if (text == nullptr || *text == '\0') fail(errc::invalid, "unpack archive: an entry has no name");
    const entry_name name = entry_name::parse(text);
    if (is_whiteout(name)) return apply_whiteout(name);
    if (name.last.empty()) {
      if (::archive_entry_filetype(e) != AE_IFDIR || ::archive_entry_hardlink(e) != nullptr)
        fail(errc::invalid, "unpack archive: the root is no directory in it");
      set_directory_metadata(root_, e, "");
      return directory_named(root_, "", false);
    }
    const int parent = directory(name.parent, times_of(e)[1]);
    seen_.insert(name.path());
    const bool anew = revive(parent, name);
    if (const char* target = ::archive_entry_hardlink(e); target != nullptr)
      return link(parent, name, entry_name::parse(target));
    switch (::archive_entry_filetype(e)) {
      case AE_IFREG: return regular(parent, name, e, tar);
      case AE_IFDIR: return make_directory(parent, name, e, anew);
      case AE_IFLNK: return symlink(parent, name, e);
      case AE_IFCHR:
      case AE_IFBLK:
      case AE_IFIFO: return node(parent, name, e);
      default: fail(errc::invalid, "unpack archive: an entry of unknown type");
    }
  }

  /// Runs `make` (0, or -1 and errno); if the name is taken, frees it and runs it again.
  template <class Make>
  int replace(int parent, const entry_name& name, const char* what, Make make) {
    int answer = make();
    if (answer < 0 && errno == EEXIST) {
      remove(parent, name);
      answer = make();
    }
    if (answer < 0) fail_errno(errno, "{} {}", what, name.last);
    return answer;
  }

  // ---- what ---------------------------------------------------------------------------------------

  void regular(int parent, const entry_name& name, archive_entry* e, tar_reader& tar) {
    const std::string& last = name.last;
    const auto size = static_cast<std::uint64_t>(::archive_entry_size(e));
    bytes_ += size;
    if (size > limits_.bytes || bytes_ > limits_.bytes)
      fail(errc::no_space, "unpack archive: its files take more than {} bytes", limits_.bytes);
    const unique_fd file(replace(parent, name, "create file", [&] {
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
    if (::futimens(file.get(), times_of(e).data()) != 0) fail_errno(errno, "set the times of {}", last);
  }

  void make_directory(int parent, const entry_name& name, archive_entry* e, bool anew) {
    const auto make = [&] { return ::mkdirat(parent, name.last.c_str(), 0700); };
    if (make() != 0) {
      if (errno != EEXIST) fail_errno(errno, "make directory {}", name.last);
      struct stat st {};
      if (::fstatat(parent, name.last.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) fail_errno(errno, "stat {}", name.last);
      if (!S_ISDIR(st.st_mode)) {
        replace(parent, name, "make directory", make);
        anew = true;
      }
    }
    const unique_fd made = open_at(parent, name.last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    set_directory_metadata(made.get(), e, name.path());
    directory_named(made.get(), name.path(), anew);
  }

  void symlink(int parent, const entry_name& name, archive_entry* e) {
    const char* target = ::archive_entry_symlink(e);
    if (target == nullptr || *target == '\0') fail(errc::invalid, "unpack archive: a symlink has no target");
    replace(parent, name, "make symlink", [&] { return ::symlinkat(target, parent, name.last.c_str()); });
    set_node_metadata(parent, name.last, e);
  }

  void node(int parent, const entry_name& name, archive_entry* e) {
    const char* last = name.last.c_str();
    const mode_t type = ::archive_entry_filetype(e);
    const dev_t device = type == AE_IFIFO ? 0 : ::archive_entry_rdev(e);
    // The kernel's own mark for "deleted" on overlayfs.
    if (type == AE_IFCHR && device == 0) fail(errc::invalid, "unpack archive: a character device 0:0");
    replace(parent, name, "make node", [&] { return ::mknodat(parent, last, type | 0600, device); });
    if (::fchmodat(parent, last, 0600, 0) != 0) fail_errno(errno, "set the mode of {}", last);
    set_node_metadata(parent, name.last, e);
  }

  void link(int parent, const entry_name& name, const entry_name& target) {
    if (is_whiteout(target)) fail(errc::invalid, "unpack archive: a hard link to a whiteout");
    const unique_fd from(look_up(target.parent, O_PATH | O_DIRECTORY));
    struct stat st {};
    if (!from || target.last.empty() || ::fstatat(from.get(), target.last.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        S_ISDIR(st.st_mode) || is_deletion(st))
      refuse_link(target);
    struct stat here {};
    if (::fstatat(parent, name.last.c_str(), &here, AT_SYMLINK_NOFOLLOW) == 0 && here.st_dev == st.st_dev &&
        here.st_ino == st.st_ino)
      return;
    replace(parent, name, "make hard link",
            [&] { return ::linkat(from.get(), target.last.c_str(), parent, name.last.c_str(), 0); });
  }

  // ---- whiteouts ----------------------------------------------------------------------------------

  static bool is_whiteout(const entry_name& name) {
    if (starts_with(name.parent, whiteout_prefix) || name.parent.find("/.wh.") != std::string::npos)
      fail(errc::invalid, "unpack archive: a whiteout with something below it");
    return starts_with(name.last, whiteout_prefix);
  }

  void apply_whiteout(const entry_name& name) {
    if (name.last == whiteout_opaque) return empty_below(name.parent);
    const entry_name victim{name.parent, name.last.substr(whiteout_prefix.size())};
    if (victim.last.empty() || victim.last == "." || victim.last == ".." || starts_with(name.last, whiteout_meta))
      fail(errc::invalid, "unpack archive: a malformed whiteout");
    if (!brought(victim.path())) delete_below(victim);
  }

  /// Removes what this archive did not bring: an opaque mark hides the layers below only, wherever in the archive it
  /// stands.
  void empty(int directory, const std::string& path) {
    keep_times(directory, path);
    for (const std::string& last : names_in(fmt::format("/proc/self/fd/{}", directory))) {
      const entry_name name{path, last};
      if (!brought(name.path())) {
        remove(directory, name);
      } else if (const unique_fd child(
                     ::openat(directory, last.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
                 child) {
        empty(child.get(), name.path());
      }
    }
  }

  // ---- metadata -----------------------------------------------------------------------------------

  /// Owner before mode and attributes: chown(2) clears set-user-id bits and file capabilities.
  void set_metadata(int fd, archive_entry* e) {
    clear_attributes(fd);
    if (::fchown(fd, owner(e), group(e)) != 0) fail_errno(errno, "set the owner");
    if (::fchmod(fd, ::archive_entry_perm(e)) != 0) fail_errno(errno, "set the mode");
    set_attributes(e, [fd](const char* name, const void* value, std::size_t size) {
      return ::fsetxattr(fd, name, value, size, 0);
    });
  }

  void set_directory_metadata(int fd, archive_entry* e, const std::string& path) {
    set_metadata(fd, e);
    set_times(fd, path, times_of(e));
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
    if (::utimensat(parent, last.c_str(), times_of(e).data(), AT_SYMLINK_NOFOLLOW) != 0)
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

  static void clear_attributes(int fd) {
    clear_attributes([fd](char* names, std::size_t size) { return ::flistxattr(fd, names, size); },
                     [fd](const char* name) { return ::fremovexattr(fd, name); });
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

  const unique_fd own_;
  unpack_limits limits_;
  unique_fd cached_;
  std::string cached_path_;
  bool stale_ = false;  ///< what the cached path leads to may be another directory now
  std::uint64_t bytes_ = 0;
  std::unordered_set<std::string> seen_;

 protected:
  /// The archive has an entry of this name, or below it.
  [[nodiscard]] bool brought(const std::string& path) const { return seen_.count(path) != 0; }
  /// Overlayfs's whiteout: here, a deletion that the archive asked for.
  static bool is_deletion(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == 0; }

  const int root_ = own_.get();
  std::map<std::string, timestamps> times_;  ///< of directories, by their names without links

 private:
  const std::string root_path_ = path_of(root_);
};

}  // namespace

unpacked unpack_archive(int from, int root, const unpack_limits& limits) {
  target_tree tree(root);
  unpacked answer = tree.apply_all(from, limits);
  tree.set_directory_times();
  return answer;
}

// ---- alone -----------------------------------------------------------------------------------------

namespace {

/// Thrown where only the layers below could tell.
struct needs_below {};

}  // namespace

class archive_unpacked_alone::tree : public target_tree {
 public:
  tree(int root, whiteouts deletions) : target_tree(root), overlay_(deletions == whiteouts::overlay) {
    on_the_way_.emplace("", passed{true, false, false});
  }

  bool complete(int below) {
    // Whether the layers below show something under a path that this archive only went through.
    std::set<std::string> shown;
    const auto look_below = [&](const std::string& path) {
      return unique_fd(try_open_without_links(below, path.empty() ? "." : path.c_str(), O_PATH | O_NOFOLLOW));
    };
    for (const auto& [path, way] : on_the_way_) {
      const unique_fd found = look_below(path);
      struct stat st {};
      if (!found && errno == ELOOP) return false;
      if (found && (::fstat(found.get(), &st) != 0 || !S_ISDIR(st.st_mode))) return false;
      if (found && !way.anew && !hidden(path)) shown.insert(path);
    }
    forget_needless_deletions(below);
    for (auto at = on_the_way_.rbegin(); at != on_the_way_.rend(); ++at)
      if (const auto& [path, way] = *at; !way.used && !way.named)
        forget_needless_directory(path, shown.count(path) != 0);
    for (const std::string& path : shown)
      if (!on_the_way_.at(path).named)
        if (const unique_fd here(look_up_here(path, O_RDONLY | O_DIRECTORY)); here) {
          copy_status(look_below(path).get(), here.get());
          times_.erase(path);
        }
    set_directory_times();
    return true;
  }

 protected:
  int look_up(const std::string& path, int flags) override {
    const int fd = look_up_here(path, flags);
    if (fd < 0 && errno == ELOOP) throw needs_below();
    return fd;
  }

  bool revive(int parent, const entry_name& name) override {
    if (deleted_.erase(name.path()) == 0) return false;
    if (::unlinkat(parent, deletion_of(name.last).c_str(), 0) == 0) return true;
    if (errno != ENOENT) fail_errno(errno, "remove the whiteout of {}", name.last);
    return false;  // it went with its directory
  }

  void directory_named(int directory, const std::string& path, bool anew) override {
    if (anew) hide(directory, path);
    if (const auto way = on_the_way_.find(path); way != on_the_way_.end()) {
      way->second.named = true;
      way->second.anew |= anew;
    }
  }

  void directory_made(int directory, const std::string& path, bool anew) override {
    if (anew) hide(directory, path);
    passed& way = on_the_way_[path];
    way.used = way.named = false;
    way.anew |= anew;
  }

  void directory_used(const std::string& path, const timespec& time) override {
    for (std::string above = path; !above.empty(); above = entry_name::above(above))
      if (const auto way = on_the_way_.find(above); way != on_the_way_.end() && !std::exchange(way->second.used, true))
        if (!way->second.named) times_[above] = only_modified(time);
  }

  // What is in the way here, an entry to which a symlink below would have led elsewhere, may not be in the way there.
  [[noreturn]] void refuse_way(const std::string& path) override {
    if (errno == EEXIST || errno == ENOTDIR || errno == ENOENT) throw needs_below();
    target_tree::refuse_way(path);
  }
  [[noreturn]] void refuse_link(const entry_name&) override { throw needs_below(); }

  void delete_below(const entry_name& victim) override {
    const unique_fd parent = directory_to_delete_in(victim.parent);
    if (!parent) return;
    remove(parent.get(), victim);  // a directory made for other deletions
    keep_times(parent.get(), victim.parent);
    const std::string name = deletion_of(victim.last);
    const int made = overlay_ ? ::mknodat(parent.get(), name.c_str(), S_IFCHR, 0) : make_empty(parent.get(), name);
    if (made != 0 && errno != EEXIST) fail_errno(errno, "make a whiteout of {}", victim.last);
    deleted_.insert(victim.path());
  }

  void empty_below(const std::string& path) override {
    if (path.empty()) throw needs_below();
    const unique_fd directory = directory_to_delete_in(path);
    if (!directory) return;
    // What was made on the way into it may have had its status from below.
    const auto inside = on_the_way_.lower_bound(path + '/');
    if (inside != on_the_way_.end() && starts_with(inside->first, path + '/')) throw needs_below();
    hide(directory.get(), path);
  }

 private:
  /// A directory on the way to entries that is no entry itself.
  struct passed {
    bool used = false;   ///< there is an entry below, not only deletions
    bool named = false;  ///< it became an entry later
    bool anew = false;   ///< it stands where something else was
  };

  int look_up_here(const std::string& path, int flags) const {
    return try_open_without_links(root_, path.empty() ? "." : path.c_str(), flags);
  }

  [[nodiscard]] std::string deletion_of(const std::string& last) const {
    return overlay_ ? last : std::string(whiteout_prefix) + last;
  }

  static int make_empty(int directory, const std::string& name) {
    const unique_fd made(::openat(directory, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444));
    return made ? 0 : -1;
  }

  /// Marks a directory as showing nothing of the layers below.
  void hide(int directory, const std::string& path) {
    keep_times(directory, path);
    const int done = overlay_ ? ::fsetxattr(directory, "trusted.overlay.opaque", "y", 1, 0)
                              : make_empty(directory, std::string(whiteout_opaque));
    if (done != 0 && errno != EEXIST) fail_errno(errno, "make directory {} opaque", path);
    opaque_.insert(path);
  }

  /// Whether one of the directories above shows nothing of the layers below.
  [[nodiscard]] bool hidden(const std::string& path) const {
    for (std::string above = entry_name::above(path); !above.empty(); above = entry_name::above(above))
      if (opaque_.count(above) != 0) return true;
    return false;
  }

  /// None if it is known that there is nothing to delete.
  unique_fd directory_to_delete_in(const std::string& path) {
    unique_fd found(look_up(path, O_RDONLY | O_DIRECTORY));
    if (found) return found;
    const bool in_the_way = errno == ENOTDIR;
    accept_absence(path);
    for (std::string above = path; !above.empty(); above = entry_name::above(above))
      if (deleted_.count(above) != 0) return {};
    if (in_the_way) return {};
    make_directories_to(path, {});
    return unique_fd(look_up(path, O_RDONLY | O_DIRECTORY));
  }

  /// A whiteout of nothing would show where the kernel has nothing to merge.
  void forget_needless_deletions(int below) {
    for (const std::string& path : deleted_) {
      const unique_fd victim(try_open_without_links(below, path.c_str(), O_PATH | O_NOFOLLOW));
      if (victim && !hidden(path)) continue;
      const unique_fd parent(look_up_here(entry_name::above(path), O_RDONLY | O_DIRECTORY));
      if (!parent) continue;  // replaced by a later entry
      const std::string name = deletion_of(path.substr(entry_name::above(path).size() + (path.find('/') != path.npos)));
      struct stat st {};
      if (::fstatat(parent.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 || (overlay_ && !is_deletion(st)))
        continue;
      if (::unlinkat(parent.get(), name.c_str(), 0) != 0) fail_errno(errno, "remove the whiteout of {}", path);
    }
  }

  /// Made for deletions only.
  void forget_needless_directory(const std::string& path, bool shown) {
    const entry_name name{entry_name::above(path), path.substr(path.rfind('/') + 1)};
    const unique_fd parent(look_up_here(name.parent, O_RDONLY | O_DIRECTORY));
    struct stat st {};
    if (!parent || ::fstatat(parent.get(), name.last.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))
      return;  // replaced by a later entry
    if (!shown)
      remove(parent.get(), name);
    else if (opaque_.count(path) == 0)
      ::unlinkat(parent.get(), name.last.c_str(), AT_REMOVEDIR);  // stays if something in it was deleted
  }

  bool overlay_;
  std::map<std::string, passed> on_the_way_;
  std::set<std::string> deleted_, opaque_;
};

archive_unpacked_alone::archive_unpacked_alone(int root, whiteouts deletions)
    : tree_(std::make_unique<tree>(root, deletions)) {}
archive_unpacked_alone::~archive_unpacked_alone() = default;

std::optional<unpacked> archive_unpacked_alone::unpack(int from, const unpack_limits& limits) {
  try {
    return tree_->apply_all(from, limits);
  } catch (const needs_below&) {
    return std::nullopt;
  }
}

bool archive_unpacked_alone::complete(int below) {
  try {
    return tree_->complete(below);
  } catch (const needs_below&) {
    return false;
  }
}

}  // namespace kit
