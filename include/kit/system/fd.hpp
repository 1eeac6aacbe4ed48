// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kit {

/// Owns one file descriptor; -1 is none. Everything kit opens is O_CLOEXEC.
class unique_fd {
 public:
  constexpr unique_fd() noexcept = default;
  constexpr explicit unique_fd(int fd) noexcept : fd_(fd) {}
  unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  unique_fd(const unique_fd&) = delete;
  unique_fd& operator=(const unique_fd&) = delete;
  ~unique_fd() { reset(); }

  [[nodiscard]] constexpr int get() const noexcept { return fd_; }
  [[nodiscard]] constexpr explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept {
    if (int old = std::exchange(fd_, fd); old >= 0) ::close(old);
  }

 private:
  int fd_ = -1;
};

/// open(2) with O_CLOEXEC added, retried on EINTR. Throws, naming `path`.
unique_fd open_file(const std::string& path, int flags, unsigned mode = 0);
/// openat(2), likewise; `path` is relative to `dir`. For host paths: not for names inside a rootfs.
unique_fd open_at(int dir, const std::string& path, int flags, unsigned mode = 0);

/// Opens `path` as a process whose root is `root` would: openat2(2) with RESOLVE_IN_ROOT and
/// RESOLVE_NO_MAGICLINKS, so no symlink, "..", or /proc link leads out of `root`. The only way kit
/// opens a name that an image or a container chose. Throws, naming `path`.
unique_fd open_in_root(int root, const std::string& path, int flags, unsigned mode = 0);
/// The same without throwing: -1 and errno. For use between clone and exec.
int try_open_in_root(int root, const char* path, int flags, unsigned mode = 0) noexcept;
/// Likewise, following no symlink on the way: ELOOP. A symlink at the end is opened by O_PATH | O_NOFOLLOW.
int try_open_without_links(int root, const char* path, int flags) noexcept;

/// The whole of a small file, "" at its end; throws naming `path`. Not for names inside a rootfs.
std::string read_file(const std::string& path);
std::string read_all(int fd, std::string_view name);
/// Writes every byte of `data`, retrying short writes and EINTR. Throws, naming `name`.
void write_all(int fd, std::string_view data, std::string_view name);
/// Replaces `path` by `data` so that a reader or a crash sees the old or the new content, never a
/// part: a temporary name in the same directory, then rename(2). `sync` adds fsync of file and
/// directory, for what must survive a power cut.
void replace_file(const std::string& path, std::string_view data, unsigned mode = 0644, bool sync = false);

/// mkdir -p: makes what is missing with `mode`, accepts what is there. Throws, naming the component.
void make_directories(const std::string& path, unsigned mode = 0755);
/// mkdir(2) with exactly `mode`, whatever the umask. Throws if it exists.
void make_directory(const std::string& path, unsigned mode);
/// A directory of the host, for openat and the like. Throws, naming it.
unique_fd open_directory(const std::string& path);
/// fsync(2) of a directory: what was made, renamed or removed in it is on the disk. Throws, naming it.
void sync_directory(const std::string& path);
/// readlink(2): what the symlink says; "" if it is absent. Throws, naming it.
std::string read_link(const std::string& path);
/// The names in a directory, sorted, without "." and ".."; none if it is absent.
std::vector<std::string> names_in(const std::string& directory);
/// Removes a tree and its root without following symlinks or crossing a mount; absent is success.
/// A mount point inside is an error (busy), not something to empty.
void remove_tree(const std::string& path);

/// A pipe, both ends O_CLOEXEC: {read, write}.
std::pair<unique_fd, unique_fd> make_pipe();

/// flock(2) on a file made if it is absent; released by the destructor, and by the kernel when the
/// process dies. Forked children must not keep it: the descriptor is O_CLOEXEC, and a fork that does
/// not exec closes it (see system/process.hpp).
class file_lock {
 public:
  enum class mode { shared, exclusive };
  file_lock() = default;  ///< holds nothing
  /// Waits for the lock. Throws, naming `path`.
  static file_lock wait(const std::string& path, mode m = mode::exclusive);
  /// Takes it if it is free, else answers an empty lock.
  static file_lock try_now(const std::string& path, mode m = mode::exclusive);
  /// Likewise, of a directory that is there.
  static file_lock wait_directory(const std::string& path);
  static file_lock try_directory(const std::string& path);
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  [[nodiscard]] int get() const noexcept { return fd_.get(); }
  /// The descriptor whose last copy, in whatever process, keeps the lock.
  [[nodiscard]] unique_fd release() noexcept { return std::move(fd_); }

 private:
  explicit file_lock(unique_fd fd) noexcept : fd_(std::move(fd)) {}
  unique_fd fd_;
};

}  // namespace kit
