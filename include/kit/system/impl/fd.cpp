// SPDX-License-Identifier: Apache-2.0
#include "kit/system/fd.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdio>
#include <memory>

#include "kit/system/error.hpp"
#include "kit/system/seam.hpp"

namespace kit {

unique_fd open_file(const std::string& path, int flags, unsigned mode) { return open_at(AT_FDCWD, path, flags, mode); }

unique_fd open_at(int dir, const std::string& path, int flags, unsigned mode) {
  for (;;) {
    const int fd = seam("openat", [&] { return ::openat(dir, path.c_str(), flags | O_CLOEXEC, mode); });
    if (fd >= 0) return unique_fd(fd);
    if (errno != EINTR) fail_errno(errno, "open {}", path);
  }
}

namespace {

int open_resolved(int root, const char* path, int flags, unsigned mode, std::uint64_t resolve) noexcept {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? mode : 0;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve;
  for (;;) {
    const int fd =
        seam("openat2", [&] { return static_cast<int>(::syscall(SYS_openat2, root, path, &how, sizeof how)); });
    // EAGAIN: a rename raced with "..", the kernel asks to try again (openat2(2)).
    if (fd >= 0 || (errno != EINTR && errno != EAGAIN)) return fd;
  }
}

}  // namespace

int try_open_in_root(int root, const char* path, int flags, unsigned mode) noexcept {
  return open_resolved(root, path, flags, mode, 0);
}

int try_open_without_links(int root, const char* path, int flags) noexcept {
  return open_resolved(root, path, flags, 0, RESOLVE_NO_SYMLINKS);
}

unique_fd open_in_root(int root, const std::string& path, int flags, unsigned mode) {
  int fd = try_open_in_root(root, path.c_str(), flags, mode);
  if (fd < 0) fail_errno(errno, "open {} in the root file system", path);
  return unique_fd(fd);
}

std::string read_all(int fd, std::string_view name) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t n = seam("read", [&] { return ::read(fd, buffer, sizeof buffer); });
    if (n == 0) return text;
    if (n > 0)
      text.append(buffer, static_cast<std::size_t>(n));
    else if (errno != EINTR)
      fail_errno(errno, "read {}", name);
  }
}

std::string read_file(const std::string& path) { return read_all(open_file(path, O_RDONLY).get(), path); }

void write_all(int fd, std::string_view data, std::string_view name) {
  while (!data.empty()) {
    const ssize_t n = seam("write", [&] { return ::write(fd, data.data(), data.size()); });
    if (n >= 0)
      data.remove_prefix(static_cast<std::size_t>(n));
    else if (errno != EINTR)
      fail_errno(errno, "write {}", name);
  }
}

void replace_file(const std::string& path, std::string_view data, unsigned mode, bool sync) {
  const auto slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash);
  const std::string name = path.substr(slash == std::string::npos ? 0 : slash + 1);
  const std::string temporary = fmt::format("{}/.{}.{}.tmp", directory, name, ::getpid());
  try {
    unique_fd fd = open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
    write_all(fd.get(), data, path);
    if (sync && seam("fsync", [&] { return ::fsync(fd.get()); }) != 0) fail_errno(errno, "fsync {}", path);
    if (seam("rename", [&] { return ::rename(temporary.c_str(), path.c_str()); }) != 0)
      fail_errno(errno, "rename {} to {}", temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  if (sync) sync_directory(directory);
}

void make_directories(const std::string& path, unsigned mode) {
  const auto make = [&] { return seam("mkdir", [&] { return ::mkdir(path.c_str(), mode); }); };
  if (make() == 0) return;
  if (errno == EEXIST) {
    struct stat st {};
    if (::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) return;
    fail_errno(ENOTDIR, "make directory {}", path);
  }
  const auto slash = path.rfind('/');
  if (errno != ENOENT || slash == std::string::npos || slash == 0) fail_errno(errno, "make directory {}", path);
  make_directories(path.substr(0, slash), mode);
  if (make() != 0 && errno != EEXIST) fail_errno(errno, "make directory {}", path);
}

void make_directory(const std::string& path, unsigned mode) {
  if (seam("mkdir", [&] { return ::mkdir(path.c_str(), mode); }) != 0 || ::chmod(path.c_str(), mode) != 0)
    fail_errno(errno, "make {}", path);
}

unique_fd open_directory(const std::string& path) { return open_file(path, O_RDONLY | O_DIRECTORY); }

void sync_directory(const std::string& path) {
  if (::fsync(open_directory(path).get()) != 0) fail_errno(errno, "fsync {}", path);
}

std::string read_link(const std::string& path) {
  for (std::string text(256, '\0');; text.resize(text.size() * 2)) {
    const ssize_t size = ::readlink(path.c_str(), text.data(), text.size());
    if (size < 0 && errno != ENOENT) fail_errno(errno, "read {}", path);
    if (size == static_cast<ssize_t>(text.size())) continue;  // there may be more
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
  }
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), ::closedir);
  if (!stream) {
    if (errno == ENOENT) return names;
    fail_errno(errno, "read directory {}", directory);
  }
  while (const dirent* entry = ::readdir(stream.get()))
    if (const std::string_view name = entry->d_name; name != "." && name != "..") names.emplace_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

namespace {

void empty_directory(unique_fd directory, const std::string& path) {
  struct stat top {};
  if (::fstat(directory.get(), &top) != 0) fail_errno(errno, "stat {}", path);
  DIR* stream = ::fdopendir(directory.get());
  if (stream == nullptr) fail_errno(errno, "read directory {}", path);
  (void)directory.release();
  struct closer {
    DIR* d;
    ~closer() { ::closedir(d); }
  } close_it{stream};
  const int fd = ::dirfd(stream);
  while (dirent* entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (::unlinkat(fd, name.c_str(), 0) == 0 || errno == ENOENT) continue;
    if (errno != EISDIR && errno != EPERM) fail_errno(errno, "remove {}/{}", path, name);
    unique_fd below = open_at(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    struct stat st {};
    if (::fstat(below.get(), &st) == 0 && st.st_dev != top.st_dev && ::unlinkat(fd, name.c_str(), AT_REMOVEDIR) != 0 &&
        errno == EBUSY)
      fail_errno(EBUSY, "remove {}/{}, a mount point", path, name);
    empty_directory(std::move(below), path + "/" + name);
    if (::unlinkat(fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
      fail_errno(errno, "remove {}/{}", path, name);
  }
}

}  // namespace

void remove_tree(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return;
  if (errno != EISDIR && errno != EPERM) fail_errno(errno, "remove {}", path);
  int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) fail_errno(errno, "remove {}", path);
  empty_directory(unique_fd(fd), path);
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT) fail_errno(errno, "remove {}", path);
}

std::pair<unique_fd, unique_fd> make_pipe() {
  int ends[2];
  if (seam("pipe2", [&] { return ::pipe2(ends, O_CLOEXEC); }) != 0) fail_errno(errno, "pipe2");
  return {unique_fd(ends[0]), unique_fd(ends[1])};
}

namespace {

int operation(file_lock::mode m) { return m == file_lock::mode::exclusive ? LOCK_EX : LOCK_SH; }

unique_fd lock_and_wait(unique_fd fd, int how, const std::string& path) {
  while (seam("flock", [&] { return ::flock(fd.get(), how); }) != 0)
    if (errno != EINTR) fail_errno(errno, "lock {}", path);
  return fd;
}

unique_fd lock_if_free(unique_fd fd, int how, const std::string& path) {
  if (seam("flock", [&] { return ::flock(fd.get(), how | LOCK_NB); }) == 0) return fd;
  if (errno != EWOULDBLOCK) fail_errno(errno, "lock {}", path);
  return {};
}

}  // namespace

file_lock file_lock::wait(const std::string& path, mode m) {
  return file_lock(lock_and_wait(open_file(path, O_RDWR | O_CREAT, 0600), operation(m), path));
}
file_lock file_lock::try_now(const std::string& path, mode m) {
  return file_lock(lock_if_free(open_file(path, O_RDWR | O_CREAT, 0600), operation(m), path));
}
file_lock file_lock::wait_directory(const std::string& path) {
  return file_lock(lock_and_wait(open_file(path, O_RDONLY | O_DIRECTORY), LOCK_EX, path));
}
file_lock file_lock::try_directory(const std::string& path) {
  return file_lock(lock_if_free(open_file(path, O_RDONLY | O_DIRECTORY), LOCK_EX, path));
}

}  // namespace kit
