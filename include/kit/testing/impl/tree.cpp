// SPDX-License-Identifier: Apache-2.0
#include "kit/testing/tree.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

#include "kit/system/error.hpp"

namespace kit::testing {
namespace {

void must(int result, const char* what, const std::string& path) {
  if (result != 0) fail_errno(errno, "{} {}", what, path);
}

std::string through_proc(int root, const std::string& path) {
  return fmt::format("/proc/self/fd/{}/{}", root, path.empty() ? "." : path);
}

constexpr std::int64_t second = 1'000'000'000;

std::map<std::string, std::string> read_attributes(const std::string& path) {
  std::map<std::string, std::string> all;
  char list[65536];
  const ssize_t size = ::llistxattr(path.c_str(), list, sizeof list);
  if (size < 0 && errno == EOPNOTSUPP) return all;
  if (size < 0) fail_errno(errno, "list attributes of {}", path);
  for (const char* name = list; name < list + size; name += std::strlen(name) + 1) {
    char value[65536];
    const ssize_t length = ::lgetxattr(path.c_str(), name, value, sizeof value);
    if (length < 0) fail_errno(errno, "read attribute {} of {}", name, path);
    all.emplace(name, std::string(value, static_cast<std::size_t>(length)));
  }
  return all;
}

tree_entry entry_at(int root, const std::string& path) {
  const struct ::stat st = status(root, path);
  tree_entry e;
  e.mode = st.st_mode;
  e.uid = st.st_uid;
  e.gid = st.st_gid;
  e.mtime_ns = st.st_mtim.tv_sec * second + st.st_mtim.tv_nsec;
  if (!S_ISDIR(st.st_mode)) e.size = st.st_size;
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) e.device = st.st_rdev;
  if (S_ISREG(st.st_mode)) {
    e.content = get_file(root, path);
    if (e.content.size() > 65536) e.content = fmt::format("{:016x}", std::hash<std::string>{}(e.content));
  }
  if (S_ISLNK(st.st_mode)) {
    char target[4096];
    const ssize_t size = ::readlinkat(root, path.c_str(), target, sizeof target);
    if (size < 0) fail_errno(errno, "read link {}", path);
    e.content.assign(target, static_cast<std::size_t>(size));
  }
  e.attributes = read_attributes(through_proc(root, path));
  return e;
}

void read_below(int root, const std::string& path, tree_snapshot& into) {
  for (const std::string& name : names(root, path.empty() ? "." : path)) {
    const std::string below = path.empty() ? name : path + '/' + name;
    const tree_entry& e = into.emplace(below, entry_at(root, below)).first->second;
    if (S_ISDIR(e.mode)) read_below(root, below, into);
  }
}

bool differ(const tree_entry& a, const tree_entry& b, bool directory_times) {
  if (!S_ISDIR(a.mode) || !S_ISDIR(b.mode) || directory_times) return !(a == b);
  tree_entry same_time = b;
  same_time.mtime_ns = a.mtime_ns;
  return !(a == same_time);
}

std::string describe(const tree_entry& e) {
  std::string text = fmt::format("mode {:o}, owner {}:{}, {} bytes, time {}", e.mode, e.uid, e.gid, e.size, e.mtime_ns);
  if (e.device != 0) text += fmt::format(", device {}:{}", major(e.device), minor(e.device));
  for (const auto& [name, value] : e.attributes) text += fmt::format(", {} ({} bytes)", name, value.size());
  return text;
}

}  // namespace

tree_snapshot read_tree(int root) {
  tree_snapshot tree;
  tree.emplace("", entry_at(root, ""));
  read_below(root, "", tree);
  return tree;
}

std::string first_difference(const tree_snapshot& expected, const tree_snapshot& seen, bool directory_times) {
  for (const auto& [path, entry] : expected) {
    const auto found = seen.find(path);
    if (found == seen.end()) return fmt::format("{:?} is missing", path);
    if (!differ(entry, found->second, directory_times)) continue;
    const std::string want = describe(entry);
    const std::string have = describe(found->second);
    return want == have ? fmt::format("{:?} has another content", path)
                        : fmt::format("{:?} is {{{}}}, not {{{}}}", path, have, want);
  }
  for (const auto& [path, entry] : seen)
    if (!expected.contains(path)) return fmt::format("{:?} should not be there", path);
  return {};
}

std::vector<change> changes_between(const tree_snapshot& before, const tree_snapshot& after) {
  std::vector<change> list;
  std::set<std::string> paths;
  for (const auto& [path, entry] : before) paths.insert(path);
  for (const auto& [path, entry] : after) paths.insert(path);
  auto parent_kept = [&](const std::string& path) {
    const auto slash = path.rfind('/');
    const auto parent = after.find(slash == std::string::npos ? std::string() : path.substr(0, slash));
    return parent != after.end() && S_ISDIR(parent->second.mode);
  };
  for (const std::string& path : paths) {
    const auto old = before.find(path);
    const auto now = after.find(path);
    if (old == before.end())
      list.push_back({change::kind::added, path});
    else if (now == after.end()) {
      if (parent_kept(path)) list.push_back({change::kind::deleted, path});
    } else if (differ(old->second, now->second, false))
      list.push_back({change::kind::modified, path});
  }
  return list;
}

std::string to_text(const std::vector<change>& list) {
  std::string text;
  for (const change& c : list) {
    if (!text.empty()) text += ", ";
    text += fmt::format("{} {:?}", " AMD"[static_cast<std::size_t>(c.what)], c.path);
  }
  return text.empty() ? "none" : text;
}

void put_file(int root, const std::string& path, std::string_view content, mode_t mode) {
  const unique_fd fd = open_at(root, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
  must(::fchmod(fd.get(), mode), "change mode of", path);
  write_all(fd.get(), content, path);
}

void append_file(int root, const std::string& path, std::string_view content) {
  write_all(open_at(root, path, O_WRONLY | O_APPEND | O_NOFOLLOW).get(), content, path);
}

std::string get_file(int root, const std::string& path) {
  return read_all(open_at(root, path, O_RDONLY | O_NOFOLLOW).get(), path);
}

void put_directory(int root, const std::string& path, mode_t mode) {
  must(::mkdirat(root, path.c_str(), 0700), "make directory", path);
  set_mode(root, path, mode);
}

void put_symlink(int root, const std::string& path, const std::string& target) {
  must(::symlinkat(target.c_str(), root, path.c_str()), "make symlink", path);
}

void put_node(int root, const std::string& path, mode_t mode, dev_t device) {
  must(::mknodat(root, path.c_str(), mode, device), "make node", path);
  set_mode(root, path, mode & 07777);
}

void put_link(int root, const std::string& path, const std::string& existing) {
  must(::linkat(root, existing.c_str(), root, path.c_str(), 0), "make link", path);
}

void put_attribute(int root, const std::string& path, const char* name, std::string_view value) {
  must(::lsetxattr(through_proc(root, path).c_str(), name, value.data(), value.size(), 0), "set attribute of", path);
}

std::string get_attribute(int root, const std::string& path, const char* name) {
  char value[65536];
  const ssize_t size = ::lgetxattr(through_proc(root, path).c_str(), name, value, sizeof value);
  if (size < 0 && errno == ENODATA) return {};
  if (size < 0) fail_errno(errno, "read attribute {} of {}", name, path);
  return {value, static_cast<std::size_t>(size)};
}

void set_mode(int root, const std::string& path, mode_t mode) {
  must(::fchmodat(root, path.c_str(), mode, 0), "change mode of", path);
}

void set_owner(int root, const std::string& path, uid_t uid, gid_t gid) {
  must(::fchownat(root, path.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW), "change owner of", path);
}

void set_time(int root, const std::string& path, std::int64_t mtime_ns) {
  const timespec at{mtime_ns / second, mtime_ns % second};
  const timespec both[2] = {at, at};
  must(::utimensat(root, path.c_str(), both, AT_SYMLINK_NOFOLLOW), "set time of", path);
}

void move(int root, const std::string& from, const std::string& to) {
  must(::renameat(root, from.c_str(), root, to.c_str()), "rename", from);
}

void erase(int root, const std::string& path) {
  if (::unlinkat(root, path.c_str(), 0) == 0) return;
  if (errno != EISDIR) fail_errno(errno, "remove {}", path);
  for (const std::string& name : names(root, path)) erase(root, path + '/' + name);
  must(::unlinkat(root, path.c_str(), AT_REMOVEDIR), "remove", path);
}

struct ::stat status(int root, const std::string& path) {
  struct ::stat st {};
  must(::fstatat(root, path.c_str(), &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH), "stat", path);
  return st;
}

bool exists(int root, const std::string& path) {
  struct ::stat st {};
  if (::fstatat(root, path.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) return true;
  if (errno != ENOENT && errno != ENOTDIR) fail_errno(errno, "stat {}", path);
  return false;
}

std::vector<std::string> names(int root, const std::string& path) {
  unique_fd fd = open_at(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  DIR* stream = ::fdopendir(fd.get());
  if (stream == nullptr) fail_errno(errno, "read directory {}", path);
  (void)fd.release();
  std::vector<std::string> list;
  while (const dirent* entry = ::readdir(stream))
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) list.emplace_back(entry->d_name);
  ::closedir(stream);
  std::sort(list.begin(), list.end());
  return list;
}

}  // namespace kit::testing
