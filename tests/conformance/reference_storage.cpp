// SPDX-License-Identifier: Apache-2.0
#include "reference_storage.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "kit/system/error.hpp"
#include "kit/system/tree.hpp"

namespace kit::testing {
namespace {

namespace fs = std::filesystem;

void must(bool good, const char* what, const fs::path& path) {
  if (!good) fail_errno(errno, "{} {}", what, path.string());
}

struct ::stat status_of(const fs::path& path) {
  struct ::stat st {};
  must(::lstat(path.c_str(), &st) == 0, "stat", path);
  return st;
}

class copy {
 public:
  void entry(const fs::path& from, const fs::path& to) {
    this_call().check();
    const struct ::stat st = status_of(from);
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
      const auto [twin, first] = links_.emplace(st.st_ino, to);
      if (!first) return must(::link(twin->second.c_str(), to.c_str()) == 0, "link", to);
    }
    if (S_ISDIR(st.st_mode)) {
      must(::mkdir(to.c_str(), 0700) == 0, "make directory", to);
      for (const auto& below : fs::directory_iterator(from)) entry(below.path(), to / below.path().filename());
    } else if (S_ISLNK(st.st_mode)) {
      fs::copy_symlink(from, to);
    } else if (S_ISREG(st.st_mode)) {
      content(from, to, st.st_size);
    } else {
      must(::mknod(to.c_str(), st.st_mode, st.st_rdev) == 0, "make node", to);
    }
    must(::lchown(to.c_str(), st.st_uid, st.st_gid) == 0, "change owner of", to);
    if (!S_ISLNK(st.st_mode)) must(::chmod(to.c_str(), st.st_mode & 07777) == 0, "change mode of", to);
    attributes(from, to);
    const timespec times[2] = {st.st_atim, st.st_mtim};
    must(::utimensat(AT_FDCWD, to.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0, "set time of", to);
  }

 private:
  static void content(const fs::path& from, const fs::path& to, off_t size) {
    const unique_fd in = open_file(from, O_RDONLY);
    const unique_fd out = open_file(to, O_WRONLY | O_CREAT | O_EXCL, 0600);
    must(::ftruncate(out.get(), size) == 0, "size", to);
    std::string buffer(65536, '\0');
    for (off_t at = 0; (at = ::lseek(in.get(), at, SEEK_DATA)) >= 0;) {
      const ssize_t n = ::pread(in.get(), buffer.data(), buffer.size(), at);
      must(n > 0, "read", from);
      must(::pwrite(out.get(), buffer.data(), static_cast<std::size_t>(n), at) == n, "write", to);
      at += n;
    }
  }

  static void attributes(const fs::path& from, const fs::path& to) {
    char list[65536];
    const ssize_t size = ::llistxattr(from.c_str(), list, sizeof list);
    for (const char* name = list; name < list + size; name += std::strlen(name) + 1) {
      char value[65536];
      const ssize_t length = ::lgetxattr(from.c_str(), name, value, sizeof value);
      must(length >= 0, "read attribute of", from);
      must(::lsetxattr(to.c_str(), name, value, static_cast<std::size_t>(length), 0) == 0, "set attribute of", to);
    }
  }

  std::map<ino_t, fs::path> links_;
};

void measure(const fs::path& path, std::set<ino_t>& seen, disk_usage& sum) {
  const struct ::stat st = status_of(path);
  if (!seen.insert(st.st_ino).second) return;
  sum.bytes += static_cast<std::uint64_t>(st.st_blocks) * 512;
  ++sum.inodes;
  if (S_ISDIR(st.st_mode))
    for (const auto& below : fs::directory_iterator(path)) measure(below.path(), seen, sum);
}

std::string lines(std::span<const layer_id> ids) {
  std::string text;
  for (const layer_id& id : ids) text += id.str() + "\n";
  return text;
}

}  // namespace

std::optional<reference_storage::record> reference_storage::find(const layer_id& id) const {
  try {
    const std::string text = read_file(path(id) + "/record");
    const auto end = text.find('\n');
    return record{text.substr(0, end) == "frozen", text.substr(end + 1)};
  } catch (const error& e) {
    if (e.code() == errc::not_found) return std::nullopt;
    throw;
  }
}

reference_storage::record reference_storage::get(const layer_id& id, const char* verb) const {
  auto r = find(id);
  if (!r) fail(errc::not_found, "{} layer {}: there is none", verb, id.brief());
  return *std::move(r);
}

void reference_storage::keep(const layer_id& id, const record& r) const {
  replace_file(path(id) + "/record", (r.frozen ? "frozen\n" : "writable\n") + r.parents, 0600, true);
}

void reference_storage::create(const layer& l, std::span<const option> options) {
  if (!options.empty()) fail(errc::invalid, "create layer {}: unknown option {}", l.id.brief(), options.front().key);
  const std::string parents = lines(l.parents);
  if (const auto there = find(l.id)) {
    if (there->parents != parents) fail(errc::conflict, "create layer {}: it has other parents", l.id.brief());
    return;
  }
  for (const layer_id& parent : l.parents)
    if (!get(parent, "create over").frozen) fail(errc::invalid, "create over layer {}: not frozen", parent.brief());
  make_directories(directory_, 0700);
  remove_tree(path(l.id));
  must(::mkdir(path(l.id).c_str(), 0700) == 0, "make directory", path(l.id));
  if (l.parents.empty()) {
    must(::mkdir(tree(l.id).c_str(), 0700) == 0, "make directory", tree(l.id));
    must(::chmod(tree(l.id).c_str(), 0755) == 0, "change mode of", tree(l.id));
  } else {
    copy().entry(tree(l.parents.front()), tree(l.id));
  }
  keep(l.id, {false, parents});
}

std::vector<mount> reference_storage::mounts(const layer& l, access a) {
  const bool frozen = get(l.id, "mount").frozen;
  if (frozen && a == access::read_write) fail(errc::invalid, "mount layer {} to write: frozen", l.id.brief());
  if (!frozen && a == access::read_only) fail(errc::invalid, "mount layer {} to read: not frozen", l.id.brief());
  return {mount::bind(tree(l.id), a != access::read_write)};
}

void reference_storage::freeze(const layer_id& id) {
  record r = get(id, "freeze");
  must(::syncfs(open_file(path(id), O_RDONLY).get()) == 0, "sync", path(id));
  r.frozen = true;
  keep(id, r);
}

void reference_storage::remove(const layer_id& id) {
  must(::unlink((path(id) + "/record").c_str()) == 0 || errno == ENOENT, "remove", path(id));
  remove_tree(path(id));
}

disk_usage reference_storage::usage(const layer& l) {
  get(l.id, "measure");
  disk_usage sum;
  std::set<ino_t> seen;
  measure(tree(l.id), seen, sum);
  return sum;
}

void reference_storage::layers(layer_sink out) {
  std::error_code absent;
  for (const auto& found : fs::directory_iterator(directory_, absent)) {
    const std::string name = found.path().filename();
    if (!layer_id::valid(name)) continue;
    const auto id = layer_id::from(name);
    const auto r = find(id);
    using state = layer_state::state;
    out({id, !r ? state::partial : r->frozen ? state::frozen : state::writable});
  }
}

void reference_storage::changes(const layer& l, change_sink out) {
  get(l.id, "compare");
  const unique_fd after = open_file(tree(l.id), O_RDONLY | O_DIRECTORY);
  unique_fd before;
  if (!l.parents.empty()) before = open_file(tree(l.parents.front()), O_RDONLY | O_DIRECTORY);
  compare_trees(before.get(), after.get(), [&](difference what, const std::string& path) {
    out({static_cast<change::kind>(what), path});
  });
}

}  // namespace kit::testing
