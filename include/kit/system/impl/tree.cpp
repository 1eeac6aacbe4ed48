// SPDX-License-Identifier: Apache-2.0
#include "kit/system/tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "kit/driver.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit {
namespace {

/// A name for what an O_PATH descriptor refers to, usable where a call takes none: the last step
/// through /proc reaches the object itself, a symlink included (proc_pid_fd(5)).
std::string by_descriptor(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

struct ::stat status_of(int fd) {
  struct ::stat st {};
  if (::fstat(fd, &st) != 0) fail_errno(errno, "stat an entry of a tree");
  return st;
}

std::map<std::string, std::string> attributes_of(int fd) {
  const std::string path = by_descriptor(fd);
  std::map<std::string, std::string> all;
  std::string names;
  for (;;) {
    ssize_t size = ::listxattr(path.c_str(), nullptr, 0);
    if (size < 0 && errno == EOPNOTSUPP) return all;
    if (size < 0) fail_errno(errno, "list extended attributes");
    names.resize(static_cast<std::size_t>(size));
    size = ::listxattr(path.c_str(), names.data(), names.size());
    if (size < 0 && errno == ERANGE) continue;
    if (size < 0) fail_errno(errno, "list extended attributes");
    names.resize(static_cast<std::size_t>(size));
    break;
  }
  for (std::size_t at = 0; at < names.size();) {
    const char* name = names.c_str() + at;
    at += std::strlen(name) + 1;
    std::string value(65536, '\0');  // XATTR_SIZE_MAX
    ssize_t size = ::getxattr(path.c_str(), name, value.data(), value.size());
    if (size < 0 && errno == ENODATA) continue;
    if (size < 0) fail_errno(errno, "read extended attribute {}", name);
    value.resize(static_cast<std::size_t>(size));
    all.emplace(name, std::move(value));
  }
  return all;
}

std::string target_of(int link) {
  std::string text(4096, '\0');
  ssize_t size = ::readlinkat(link, "", text.data(), text.size());
  if (size < 0) fail_errno(errno, "read a symlink");
  text.resize(static_cast<std::size_t>(size));
  return text;
}

off_t next_data(int fd, off_t from, off_t end) {
  off_t at = ::lseek(fd, from, SEEK_DATA);
  if (at < 0 && errno == ENXIO) return end;
  if (at < 0) return from;  // a file system that knows no holes
  return std::min(at, end);
}

std::size_t read_at(int fd, char* to, std::size_t count, off_t from) {
  std::size_t done = 0;
  while (done < count) {
    ssize_t n = ::pread(fd, to + done, count - done, from + static_cast<off_t>(done));
    if (n > 0)
      done += static_cast<std::size_t>(n);
    else if (n == 0)
      break;
    else if (errno != EINTR)
      fail_errno(errno, "read a file of a tree");
  }
  return done;
}

bool same_content(int a, int b, off_t size) {
  if (size == 0) return true;
  const unique_fd left = open_file(by_descriptor(a), O_RDONLY | O_NOCTTY);
  const unique_fd right = open_file(by_descriptor(b), O_RDONLY | O_NOCTTY);
  constexpr std::size_t block = std::size_t{128} * 1024;
  const auto buffers = std::make_unique<char[]>(2 * block);
  for (off_t at = 0; at < size;) {
    at = std::min(next_data(left.get(), at, size), next_data(right.get(), at, size));
    const std::size_t count = std::min(block, static_cast<std::size_t>(size - at));
    const std::size_t n = read_at(left.get(), buffers.get(), count, at);
    const std::size_t m = read_at(right.get(), buffers.get() + block, count, at);
    if (n != m || std::memcmp(buffers.get(), buffers.get() + block, n) != 0) return false;
    at += static_cast<off_t>(count);
    this_call().check();
  }
  return true;
}

std::vector<std::string> names_in(int directory) {
  unique_fd fd = open_at(directory, ".", O_RDONLY | O_DIRECTORY);
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd.get()), ::closedir);
  if (!stream) fail_errno(errno, "read a directory of a tree");
  (void)fd.release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) fail_errno(errno, "read a directory of a tree");
  return names;
}

unique_fd entry_of(int directory, const std::string& name) {
  if (directory < 0) return unique_fd();
  int fd = ::openat(directory, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT) fail_errno(errno, "open {} of a tree", name);
  return unique_fd(fd);
}

bool is_directory(int fd) { return fd >= 0 && S_ISDIR(status_of(fd).st_mode); }

class comparison {
 public:
  explicit comparison(function_ref<void(difference, const std::string&)> out) : out_(out) {}

  void directories(int before, int after) {
    // Bytewise order of whole paths is not the order of a walk: "a-b" stands before "a/b". So a
    // directory is two steps of its parent's list: itself under "a", its contents under "a/".
    std::vector<std::string> steps;
    auto take = [&](int directory) {
      if (directory < 0) return;
      for (std::string& name : names_in(directory)) {
        steps.push_back(name + '/');
        steps.push_back(std::move(name));
      }
    };
    take(before);
    take(after);
    std::sort(steps.begin(), steps.end());
    steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
    for (std::string& step : steps) {
      const bool contents = step.back() == '/';
      if (contents) step.pop_back();
      const unique_fd left = entry_of(before, step);
      const unique_fd right = entry_of(after, step);
      const std::size_t base = path_.size();
      path_ += step;
      if (!contents)
        entries(left.get(), right.get());
      else if (is_directory(right.get())) {
        path_ += '/';
        directories(is_directory(left.get()) ? left.get() : -1, right.get());
      }
      path_.resize(base);
      this_call().check();
    }
  }

 private:
  void entries(int before, int after) {
    if (before < 0 && after < 0) return;
    if (before < 0)
      out_(difference::added, path_);
    else if (after < 0)
      out_(difference::deleted, path_);
    else if (!same_entry(before, after))
      out_(difference::modified, path_);
  }

  function_ref<void(difference, const std::string&)> out_;
  std::string path_;
};

bool same_as_empty_root(int root) {
  const auto st = status_of(root);
  return (st.st_mode & 07777) == 0755 && st.st_uid == 0 && st.st_gid == 0 && attributes_of(root).empty();
}

}  // namespace

bool same_entry(int a, int b) {
  const auto left = status_of(a);
  const auto right = status_of(b);
  if (left.st_dev == right.st_dev && left.st_ino == right.st_ino) return true;
  if (left.st_mode != right.st_mode || left.st_uid != right.st_uid || left.st_gid != right.st_gid) return false;
  if (!S_ISDIR(left.st_mode)) {
    if (left.st_size != right.st_size || left.st_mtim.tv_sec != right.st_mtim.tv_sec ||
        left.st_mtim.tv_nsec != right.st_mtim.tv_nsec)
      return false;
    if ((S_ISCHR(left.st_mode) || S_ISBLK(left.st_mode)) && left.st_rdev != right.st_rdev) return false;
    if (S_ISLNK(left.st_mode) && target_of(a) != target_of(b)) return false;
  }
  return attributes_of(a) == attributes_of(b) && (!S_ISREG(left.st_mode) || same_content(a, b, left.st_size));
}

void compare_trees(int before, int after, function_ref<void(difference, const std::string&)> out) {
  if (before < 0 ? !same_as_empty_root(after) : !same_entry(before, after)) out(difference::modified, "");
  comparison(out).directories(before, after);
}

}  // namespace kit
