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
#include <set>
#include <vector>

#include "kit/driver.hpp"
#include "kit/system/error.hpp"
#include "kit/system/extent.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/impl/tree_entry.hpp"

namespace kit {
namespace detail {

std::string by_descriptor(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

struct ::stat status_of(int fd) {
  struct ::stat st {};
  if (::fstat(fd, &st) != 0) fail_errno(errno, "stat an entry of a tree");
  return st;
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

}  // namespace detail

namespace {

using namespace detail;  // NOLINT(google-build-using-namespace)

bool same_content(int a, int b, off_t size) {
  if (size == 0) return true;
  const unique_fd left = open_file(by_descriptor(a), O_RDONLY | O_NOCTTY);
  const unique_fd right = open_file(by_descriptor(b), O_RDONLY | O_NOCTTY);
  // A clone is told from its extents; of little it is cheaper to read the bytes.
  if (size > 65536 && status_of(a).st_dev == status_of(b).st_dev && share_all_extents(left.get(), right.get()))
    return true;
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

unique_fd entry_of(int directory, const std::string& name) {
  if (directory < 0) return unique_fd();
  int fd = ::openat(directory, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno != ENOENT) fail_errno(errno, "open {} of a tree", name);
  return unique_fd(fd);
}

bool is_directory(int fd) { return fd >= 0 && S_ISDIR(status_of(fd).st_mode); }

class comparison {
 public:
  explicit comparison(function_ref<void(difference, const std::string&)> out, whiteouts how = whiteouts::overlay)
      : out_(out), how_(how) {}
  comparison(const names_to_look_at& names, function_ref<void(difference, const std::string&)> out)
      : out_(out), names_(&names) {}

  /// `guide`: a union's upper directory of `after`, whose names are all that can differ. `ask`: whether who knows where
  /// to look knows it here. Otherwise all names are looked at.
  void directories(int before, int after, int guide = -1, bool ask = true) {
    // Bytewise order of whole paths is not the order of a walk: "a-b" stands before "a/b". So a
    // directory is two steps of its parent's list: itself under "a", its contents under "a/".
    std::vector<std::string> steps;
    auto take = [&](std::vector<std::string> names, bool marks = false) {
      for (std::string& name : names) {
        if (marks) name = visible(std::move(name));
        if (name.empty()) continue;
        steps.push_back(name + '/');
        steps.push_back(std::move(name));
      }
    };
    std::optional<std::vector<std::string>> told;
    if (ask && names_ != nullptr && before >= 0) told = (*names_)(path_.substr(0, path_.rfind('/')), before, after);
    if (guide >= 0) {
      take(names_in(guide), how_ == whiteouts::aufs);
    } else if (told) {
      take(*std::move(told));
    } else {
      if (before >= 0) take(names_in(before));
      take(names_in(after));
    }
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
        const unique_fd below = guided(guide, step);
        directories(is_directory(left.get()) ? left.get() : -1, right.get(), below.get(), told.has_value());
      }
      path_.resize(base);
      this_call().check();
    }
  }

 private:
  /// The upper directory of an entry, unless it is opaque: then it hides all that was, and is no guide.
  [[nodiscard]] unique_fd guided(int guide, const std::string& name) const {
    unique_fd below = entry_of(guide, name);
    if (!below) return below;
    if (how_ == whiteouts::aufs)
      return is_directory(below.get()) && !entry_of(below.get(), ".wh..wh..opq") ? std::move(below) : unique_fd();
    char value = 'n';
    const ssize_t size = ::getxattr(by_descriptor(below.get()).c_str(), "trusted.overlay.opaque", &value, 1);
    return size == 1 && value == 'y' ? unique_fd() : std::move(below);
  }

  /// The name that an entry of an aufs branch speaks of; empty if it is a mark of the directory, or aufs's own.
  static std::string visible(std::string name) {
    constexpr std::string_view deleted = ".wh.";
    if (name.rfind(".wh..wh.", 0) == 0) return {};
    return name.rfind(deleted, 0) == 0 ? name.substr(deleted.size()) : name;
  }

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
  whiteouts how_ = whiteouts::overlay;
  const names_to_look_at* names_ = nullptr;
  std::string path_;
};

bool same_as_empty_root(int root) {
  const auto st = status_of(root);
  return (st.st_mode & 07777) == 0755 && st.st_uid == 0 && st.st_gid == 0 && extended_attributes(root).empty();
}

// ---- measuring and removing -------------------------------------------------------------------------------

/// Shows each entry below a directory, each file once however many links it has. What vanishes meanwhile is left out.
class each_below {
 public:
  explicit each_below(function_ref<void(int directory, const std::string& name, const struct ::stat&)> show)
      : show_(show) {}

  void walk(int directory, std::span<const std::string_view> without = {}) {
    for (const std::string& name : names_in(directory)) {
      if (std::find(without.begin(), without.end(), name) != without.end()) continue;
      struct ::stat st {};
      if (::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        fail_errno(errno, "stat {}", name);
      }
      if (S_ISDIR(st.st_mode) || st.st_nlink <= 1 || seen_.emplace(st.st_dev, st.st_ino).second)
        show_(directory, name, st);
      if (!S_ISDIR(st.st_mode)) continue;
      const int fd = ::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (fd < 0 && errno == ENOENT) continue;
      if (fd < 0) fail_errno(errno, "open {}", name);
      const unique_fd inner(fd);
      walk(fd);
      this_call().check();
    }
  }

 private:
  function_ref<void(int, const std::string&, const struct ::stat&)> show_;
  std::set<std::pair<dev_t, ino_t>> seen_;
};

/// Shows the extents of each file below a directory that have a place of their own.
void show_extents(int directory, function_ref<void(const extent&)> show) {
  const auto of_file = [&](int parent, const std::string& name, const struct ::stat& st) {
    if (!S_ISREG(st.st_mode) || st.st_blocks == 0) return;
    const int fd = ::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return;
    if (fd < 0) fail_errno(errno, "open {}", name);
    const unique_fd file(fd);
    if (const auto extents = extents_of(fd))
      for (const extent& e : *extents)
        if (e.place != 0) show(e);
  };
  each_below(of_file).walk(directory);
}

/// Removes `name` from `directory`. False if time ran out before.
bool remove_until(int directory, const std::string& name, std::chrono::steady_clock::time_point until) {
  if (std::chrono::steady_clock::now() > until) return false;
  if (::unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return true;
  if (errno != EISDIR && errno != EPERM) fail_errno(errno, "remove {}", name);
  if (::unlinkat(directory, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return true;
  if (errno != ENOTEMPTY && errno != EEXIST) fail_errno(errno, "remove {}", name);
  this_call().check();
  const int fd = ::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return true;
  if (fd < 0) fail_errno(errno, "remove {}", name);
  const unique_fd inner(fd);
  for (const std::string& below : names_in(fd))
    if (!remove_until(fd, below, until)) return false;
  if (::unlinkat(directory, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) fail_errno(errno, "remove {}", name);
  return true;
}

}  // namespace

std::map<std::string, std::string> extended_attributes(int fd) {
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
  return extended_attributes(a) == extended_attributes(b) &&
         (!S_ISREG(left.st_mode) || same_content(a, b, left.st_size));
}

void compare_trees(int before, int after, function_ref<void(difference, const std::string&)> out) {
  if (before < 0 ? !same_as_empty_root(after) : !same_entry(before, after)) out(difference::modified, "");
  comparison(out).directories(before, after);
}

void compare_trees(int before, int after, names_to_look_at names,
                   function_ref<void(difference, const std::string&)> out) {
  if (!same_entry(before, after)) out(difference::modified, "");
  comparison(names, out).directories(before, after);
}

void compare_union(int before, int after, int upper, whiteouts how,
                   function_ref<void(difference, const std::string&)> out) {
  if (!same_entry(before, after)) out(difference::modified, "");
  comparison(out, how).directories(before, after, upper);
}

tree_size measure_tree(int directory, std::span<const std::string_view> without) {
  tree_size size;
  const auto add = [&](const struct ::stat& st) {
    size.bytes += static_cast<std::uint64_t>(st.st_blocks) * 512;
    ++size.inodes;
  };
  add(status_of(directory));
  each_below([&](int, const std::string&, const struct ::stat& st) { add(st); }).walk(directory, without);
  return size;
}

std::uint64_t shared_bytes(int directory, int other) {
  std::map<std::uint64_t, std::uint64_t> places;  // begin to end
  show_extents(other, [&](const extent& e) {
    auto& end = places[e.place];
    end = std::max(end, e.place + e.size);
  });
  std::uint64_t bytes = 0;
  show_extents(directory, [&](const extent& e) {
    std::uint64_t at = e.place;
    const std::uint64_t end = e.place + e.size;
    auto next = places.upper_bound(at);
    if (next != places.begin()) --next;
    for (; at < end && next != places.end() && next->first < end; ++next) {
      const std::uint64_t from = std::max(at, next->first), to = std::min(end, next->second);
      if (from >= to) continue;
      bytes += to - from;
      at = to;
    }
  });
  return bytes;
}

bool remove_tree_until(const std::string& path, std::chrono::steady_clock::time_point until) {
  return remove_until(AT_FDCWD, path, until);
}

}  // namespace kit
