// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "kit/driver.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/fd.hpp"
#include "tar_reader.hpp"

namespace kit {
namespace {

using detail::blob_stream;
using detail::tar_reader;

std::array<timespec, 2> times_of(archive_entry* e) {
  const timespec changed{::archive_entry_mtime(e), ::archive_entry_mtime_nsec(e)};
  return {changed, changed};
}

/// Puts entries below a directory. Each name's parent is resolved anew, within bounds; its last component is never
/// followed.
class entry_writer {
 public:
  explicit entry_writer(const entry_target& to) : to_(to) {}

  void put(archive_entry* e, tar_reader& tar) {
    const std::string path = plain(::archive_entry_pathname(e));
    const auto type = ::archive_entry_hardlink(e) != nullptr ? 0 : ::archive_entry_filetype(e);
    if (path.empty()) {
      if (type != AE_IFDIR) fail(errc::invalid, "the archive's root is no directory");
      return;  // the directory is there, and stays as it is
    }
    const auto slash = path.rfind('/');
    const std::string above = slash == path.npos ? "" : path.substr(0, slash);
    const std::string last = slash == path.npos ? path : path.substr(slash + 1);
    const unique_fd parent = directory(above, true);
    const bool there = is_replaceable(parent.get(), last, type == AE_IFDIR);
    switch (type) {
      case AE_IFREG: return regular(parent.get(), last, e, tar);
      case AE_IFDIR:
        if (!there && ::mkdirat(parent.get(), last.c_str(), 0700) != 0) fail_errno(errno, "make directory {}", path);
        set_metadata(parent.get(), last, e);
        directories_.emplace_back(path, times_of(e));
        return;
      default: break;
    }
    if (there && ::unlinkat(parent.get(), last.c_str(), 0) != 0 && errno != ENOENT)
      fail_errno(errno, "replace {}", path);
    if (const char* target = ::archive_entry_hardlink(e)) return link(parent.get(), last, plain(target));
    if (type == AE_IFLNK) {
      if (::symlinkat(::archive_entry_symlink(e), parent.get(), last.c_str()) != 0)
        fail_errno(errno, "make symlink {}", path);
    } else if (type == AE_IFCHR || type == AE_IFBLK || type == AE_IFIFO) {
      if (::mknodat(parent.get(), last.c_str(), type | 0600, ::archive_entry_rdev(e)) != 0)
        fail_errno(errno, "make node {}", path);
    } else {
      fail(errc::invalid, "it is of a type that is not known");
    }
    set_metadata(parent.get(), last, e);
    ::utimensat(parent.get(), last.c_str(), times_of(e).data(), AT_SYMLINK_NOFOLLOW);
  }

  /// What can be set only when nothing is put into directories any more.
  void finish() {
    for (auto d = directories_.rbegin(); d != directories_.rend(); ++d)
      if (const unique_fd fd = directory(d->first, false))
        ::utimensat(fd.get(), ".", d->second.data(), AT_SYMLINK_NOFOLLOW);
  }

 private:
  /// "./a//b/" is "a/b".
  static std::string plain(const char* text) {
    if (text == nullptr || *text == '\0') fail(errc::invalid, "it has no name");
    std::string path;
    for (std::string_view rest = text; !rest.empty();) {
      const auto slash = std::min(rest.find('/'), rest.size());
      const std::string_view part = rest.substr(0, slash);
      rest.remove_prefix(std::min(slash + 1, rest.size()));
      if (part.empty() || part == ".") continue;
      if (part == "..") fail(errc::invalid, "its name leads upwards");
      path.append(path.empty() ? "" : "/").append(part);
    }
    return path;
  }

  [[nodiscard]] int try_directory(const std::string& path) const {
    open_how how{};
    how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (to_.follows_links ? 0 : RESOLVE_NO_SYMLINKS);
    const std::string whole = path.empty() ? to_.directory : to_.directory + "/" + path;
    for (;;) {
      const int fd = static_cast<int>(::syscall(SYS_openat2, to_.root, whole.c_str(), &how, sizeof how));
      if (fd >= 0 || errno != EAGAIN) return fd;
    }
  }

  /// What is missing of `path` is made, if `make`; else the answer may be empty.
  unique_fd directory(const std::string& path, bool make) {
    unique_fd fd(try_directory(path));
    if (fd || !make) return fd;
    if (errno == ENOENT && !path.empty()) {
      const auto slash = path.rfind('/');
      const unique_fd parent = directory(slash == path.npos ? "" : path.substr(0, slash), true);
      const std::string last = slash == path.npos ? path : path.substr(slash + 1);
      if (::mkdirat(parent.get(), last.c_str(), 0755) != 0 && errno != EEXIST)
        fail_errno(errno, "make directory {}", path);
      fd.reset(try_directory(path));
    }
    if (!fd) fail_errno(errno, "open directory {}", path.empty() ? to_.directory : path);
    return fd;
  }

  /// Whether something is there. Throws conflict where a directory would take the place of something else, or the
  /// reverse.
  static bool is_replaceable(int parent, const std::string& last, bool by_directory) {
    struct stat st {};
    if (::fstatat(parent, last.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT) fail_errno(errno, "stat {}", last);
      return false;
    }
    if (S_ISDIR(st.st_mode) && !by_directory)
      fail(errc::conflict, "cannot overwrite directory \"{}\" with non-directory", last);
    if (!S_ISDIR(st.st_mode) && by_directory)
      fail(errc::conflict, "cannot overwrite non-directory \"{}\" with directory", last);
    return true;
  }

  /// The file appears, in place of what is there, once it is whole.
  void regular(int parent, const std::string& last, archive_entry* e, tar_reader& tar) {
    unique_fd file(::openat(parent, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600));
    const bool named = !file && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL);
    if (named) {
      ::unlinkat(parent, last.c_str(), 0);
      file.reset(::openat(parent, last.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    }
    if (!file) fail_errno(errno, "make {}", last);
    try {
      std::string_view bytes;
      for (std::int64_t offset = 0; tar.data(bytes, offset);) {
        this_call().check();
        while (!bytes.empty()) {
          const ssize_t n = ::pwrite(file.get(), bytes.data(), bytes.size(), offset);
          if (n < 0 && errno == EINTR) continue;
          if (n < 0) fail_errno(errno, "write {}", last);
          bytes.remove_prefix(static_cast<std::size_t>(n));
          offset += n;
        }
      }
      if (::ftruncate(file.get(), ::archive_entry_size(e)) != 0) fail_errno(errno, "write {}", last);
      const std::string path = fmt::format("/proc/self/fd/{}", file.get());
      if (to_.owners && ::fchown(file.get(), owner(e), group(e)) != 0) fail_errno(errno, "set the owner of {}", last);
      if (::fchmod(file.get(), mode(e)) != 0) fail_errno(errno, "set the mode of {}", last);
      set_attributes(path, true, e);
      ::futimens(file.get(), times_of(e).data());
      while (!named && ::linkat(AT_FDCWD, path.c_str(), parent, last.c_str(), AT_SYMLINK_FOLLOW) != 0)
        if (errno != EEXIST || ::unlinkat(parent, last.c_str(), 0) != 0) fail_errno(errno, "replace {}", last);
    } catch (...) {
      if (named) ::unlinkat(parent, last.c_str(), 0);
      throw;
    }
  }

  void link(int parent, const std::string& last, const std::string& target) {
    const auto slash = target.rfind('/');
    const unique_fd from = directory(slash == target.npos ? "" : target.substr(0, slash), false);
    if (!from ||
        ::linkat(from.get(), target.substr(slash == target.npos ? 0 : slash + 1).c_str(), parent, last.c_str(), 0) != 0)
      fail_errno(errno, "link {} to {}", last, target);
  }

  /// Owner before mode and attributes: chown(2) clears set-user-id bits and file capabilities.
  void set_metadata(int parent, const std::string& last, archive_entry* e) {
    if (to_.owners && ::fchownat(parent, last.c_str(), owner(e), group(e), AT_SYMLINK_NOFOLLOW) != 0)
      fail_errno(errno, "set the owner of {}", last);
    if (::archive_entry_filetype(e) == AE_IFLNK) return;
    // Not by name, which may be a link by now.
    const unique_fd fd(::openat(parent, last.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    const std::string path = fmt::format("/proc/self/fd/{}", fd.get());
    if (!fd || ::chmod(path.c_str(), mode(e)) != 0) fail_errno(errno, "set the mode of {}", last);
    set_attributes(path, false, e);
  }

  void set_attributes(const std::string& path, bool file, archive_entry* e) {
    if (::archive_entry_xattr_reset(e) == 0) return;
    const char* name = nullptr;
    const void* value = nullptr;
    std::size_t size = 0;
    while (::archive_entry_xattr_next(e, &name, &value, &size) == ARCHIVE_OK) {
      const bool wanted = std::strncmp(name, "user.", 5) == 0 || std::strncmp(name, "system.posix_acl_", 17) == 0 ||
                          (file && to_.owners && std::strcmp(name, "security.capability") == 0);
      if (wanted && ::setxattr(path.c_str(), name, value, size, 0) != 0 && errno != EOPNOTSUPP)
        fail_errno(errno, "set extended attribute {}", name);
    }
  }

  /// Whoever owns a file that was not theirs has no say in what it may do as them; and a device that a container could
  /// name but not open would be open to all on the host.
  [[nodiscard]] mode_t mode(archive_entry* e) const {
    const auto type = ::archive_entry_filetype(e);
    const bool device = type == AE_IFCHR || type == AE_IFBLK;
    return ::archive_entry_perm(e) & (to_.owners ? 07777 : device ? 0600 : 01777);
  }

  static uid_t owner(archive_entry* e) { return number(::archive_entry_uid(e)); }
  static gid_t group(archive_entry* e) { return number(::archive_entry_gid(e)); }
  static unsigned number(la_int64_t id) {
    // -1 would mean "leave it" to chown(2).
    if (id < 0 || id >= 0xffffffff) fail(errc::invalid, "user or group {} is out of range", id);
    return static_cast<unsigned>(id);
  }

  const entry_target& to_;
  std::vector<std::pair<std::string, std::array<timespec, 2>>> directories_;
};

}  // namespace

void unpack_entries(int from, const entry_target& to) {
  const detail::utf8_scope utf8;
  unpack_limits none;
  none.ratio = std::numeric_limits<std::uint64_t>::max();
  blob_stream stream(from, none, blob_stream::digested::no);
  tar_reader tar(stream);
  entry_writer writer(to);
  while (archive_entry* e = tar.next()) {
    this_call().check();
    try {
      writer.put(e, tar);
    } catch (const error& failed) {
      const char* name = ::archive_entry_pathname(e);
      throw error(failed.code(), fmt::format("copy \"{:.200}\": {}", name != nullptr ? name : "", failed.what()),
                  failed.sys_errno());
    }
  }
  writer.finish();
}

}  // namespace kit
