// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "kit/driver.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"
#include "tar_writer.hpp"

namespace kit {
namespace {

using detail::tar_writer;

class tree_packer {
 public:
  tree_packer(int root, int to) : root_(root), tar_(to) {}

  void everything() {
    const unique_fd top = open_at(root_, ".", O_PATH | O_DIRECTORY);
    entry(top.get(), "./");
    directory(open_at(root_, ".", O_RDONLY | O_DIRECTORY), "");
  }

  void alone(int fd, const std::string& as) {
    if (entry(fd, as == "." ? "./" : as)) directory(open_at(fd, ".", O_RDONLY | O_DIRECTORY), as + '/');
  }

  /// With the directories above it, each once: who unpacks a layer alone has their modes and owners from nowhere else.
  void changed(const std::string& path) {
    once("./");
    for (std::size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1))
      once(path.substr(0, slash));
    if (!path.empty()) once(path);
  }

  void deleted(const std::string& path) {
    const auto slash = path.rfind('/');
    const std::size_t last = slash == std::string::npos ? 0 : slash + 1;
    changed(last > 0 ? path.substr(0, slash) : std::string());
    const detail::archive_entry_ptr e = detail::new_entry(path.substr(0, last) + ".wh." + path.substr(last));
    ::archive_entry_set_filetype(e.get(), AE_IFREG);
    ::archive_entry_set_perm(e.get(), 0600);
    ::archive_entry_set_size(e.get(), 0);
    ::archive_entry_set_mtime(e.get(), 0, 0);
    tar_.header(e.get());
  }

  packed finish() { return tar_.finish(); }

 private:
  void once(const std::string& path) {
    if (!written_.insert(path).second) return;
    const auto slash = path.rfind('/');
    // What vanished since is no part of the archive.
    const unique_fd parent(slash == std::string::npos || path == "./"
                               ? ::openat(root_, ".", O_PATH | O_DIRECTORY | O_CLOEXEC)
                               : try_open_in_root(root_, path.substr(0, slash).c_str(), O_PATH | O_DIRECTORY));
    if (!parent) return;
    const std::string last = path == "./" ? "." : path.substr(slash == std::string::npos ? 0 : slash + 1);
    const unique_fd fd(::openat(parent.get(), last.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (fd) entry(fd.get(), path);
  }

  void directory(unique_fd open, const std::string& path) {
    const int fd = open.get();
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd), ::closedir);
    if (stream == nullptr) fail_errno(errno, "read directory {}", path);
    (void)open.release();
    std::vector<std::string> names;
    while (const dirent* d = ::readdir(stream.get())) names.emplace_back(d->d_name);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      if (name == "." || name == "..") continue;
      const unique_fd child(::openat(fd, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
      if (!child) {
        if (errno == ENOENT) continue;
        fail_errno(errno, "open {}{}", path, name);
      }
      if (!entry(child.get(), path + name)) continue;
      unique_fd below(::openat(child.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!below && errno == ENOENT) continue;  // removed meanwhile
      if (!below) fail_errno(errno, "open {}{}", path, name);
      directory(std::move(below), path + name + '/');
    }
  }

  /// Writes what `fd` (O_PATH) refers to; answers whether it is a directory.
  bool entry(int fd, const std::string& path) {
    this_call().check();
    struct stat st {};
    if (::fstat(fd, &st) != 0) fail_errno(errno, "stat {}", path);
    if (S_ISSOCK(st.st_mode)) return false;  // no archive holds one
    const detail::archive_entry_ptr e = detail::new_entry(path);
    ::archive_entry_set_filetype(e.get(), st.st_mode & S_IFMT);
    ::archive_entry_set_perm(e.get(), st.st_mode & 07777);
    ::archive_entry_set_uid(e.get(), st.st_uid);
    ::archive_entry_set_gid(e.get(), st.st_gid);
    ::archive_entry_set_mtime(e.get(), st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
      const auto [first, is_first] = links_.try_emplace({st.st_dev, st.st_ino}, path);
      if (!is_first) {
        ::archive_entry_copy_hardlink(e.get(), first->second.c_str());
        ::archive_entry_set_size(e.get(), 0);
        tar_.header(e.get());
        return false;
      }
    }
    for (const auto& [name, value] : extended_attributes(fd))
      ::archive_entry_xattr_add_entry(e.get(), name.c_str(), value.data(), value.size());
    if (S_ISREG(st.st_mode)) {
      content(fd, path, e.get(), st.st_size);
      return false;
    }
    ::archive_entry_set_size(e.get(), 0);
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) ::archive_entry_set_rdev(e.get(), st.st_rdev);
    if (S_ISLNK(st.st_mode)) {
      std::array<char, 4096> target{};
      const ssize_t size = ::readlinkat(fd, "", target.data(), target.size() - 1);
      if (size < 0) fail_errno(errno, "read symlink {}", path);
      ::archive_entry_copy_symlink(e.get(), target.data());
    }
    tar_.header(e.get());
    return S_ISDIR(st.st_mode);
  }

  void content(int fd, const std::string& path, archive_entry* e, off_t size) {
    const unique_fd file = open_file(fmt::format("/proc/self/fd/{}", fd), O_RDONLY);
    ::archive_entry_set_size(e, size);
    const auto regions = without_small_holes(data_regions(file.get(), size), size);
    const bool sparse = regions.size() != 1 || regions[0] != std::pair<off_t, off_t>(0, size);
    if (size > 0 && sparse) {
      for (const auto& [start, end] : regions) ::archive_entry_sparse_add_entry(e, start, end - start);
      if (regions.empty()) ::archive_entry_sparse_add_entry(e, size, 0);
    }
    tar_.header(e);
    // libarchive takes the whole file, holes included, and drops what the map says is none.
    off_t at = 0;
    for (const auto& [start, end] : regions) {
      zeros(start - at);
      for (at = start; at < end;) {
        const auto want = static_cast<std::size_t>(std::min<off_t>(end - at, static_cast<off_t>(buffer_.size())));
        const ssize_t n = ::pread(file.get(), buffer_.data(), want, at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail_errno(errno, "read {}", path);
        if (n == 0) {  // cut while we read it: the announced size stands
          zeros(end - at);
          at = end;
          break;
        }
        tar_.data(buffer_.data(), static_cast<std::size_t>(n));
        at += n;
      }
    }
    zeros(size - at);
  }

  void zeros(off_t count) {
    static constexpr std::array<char, 65536> none{};
    for (; count > 0; count -= static_cast<off_t>(none.size()))
      tar_.data(none.data(), static_cast<std::size_t>(std::min<off_t>(count, static_cast<off_t>(none.size()))));
  }

  using region_list = std::vector<std::pair<off_t, off_t>>;

  /// Many programs leave a hole here and there; those are written as zeros. Docker and podman load and run an image with
  /// sparse files, but cannot save or push it: what they keep to rebuild its layers (tar-split) has no room for the map.
  static region_list without_small_holes(const region_list& regions, off_t size) {
    constexpr off_t worth_a_map = 1 << 20;
    region_list kept;
    off_t end = 0;
    const auto keep = [&](off_t start, off_t stop) {
      if (start - end < worth_a_map) start = end;
      if (!kept.empty() && kept.back().second == start)
        kept.back().second = stop;
      else
        kept.emplace_back(start, stop);
      end = stop;
    };
    for (const auto& [start, stop] : regions) keep(start, stop);
    if (size > end && size - end < worth_a_map) keep(end, size);
    return kept;
  }

  static region_list data_regions(int fd, off_t size) {
    region_list regions;
    for (off_t at = 0; at < size;) {
      const off_t start = ::lseek(fd, at, SEEK_DATA);
      if (start < 0 && errno == ENXIO) return regions;
      if (start < 0) return {{0, size}};  // a file system that knows no holes
      const off_t end = ::lseek(fd, start, SEEK_HOLE);
      if (start >= size) return regions;
      at = end < 0 ? size : std::min(end, size);
      regions.emplace_back(start, at);
    }
    return regions;
  }

  int root_;
  tar_writer tar_;
  std::vector<char> buffer_ = std::vector<char>(std::size_t{256} * 1024);
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
  std::set<std::string> written_;
};

}  // namespace

packed pack_archive(int root, int to) {
  const detail::utf8_scope utf8;
  tree_packer tree(root, to);
  tree.everything();
  return tree.finish();
}

void pack_entry(int fd, const std::string& as, int to) {
  const detail::utf8_scope utf8;
  tree_packer tree(fd, to);
  tree.alone(fd, as);
  tree.finish();
}

packed pack_changes(int root, const std::vector<change>& changes, int to) {
  const detail::utf8_scope utf8;
  std::vector<change> sorted = changes;
  std::sort(sorted.begin(), sorted.end(), [](const change& a, const change& b) { return a.path < b.path; });
  tree_packer tree(root, to);
  for (const change& c : sorted) c.what == change::kind::deleted ? tree.deleted(c.path) : tree.changed(c.path);
  return tree.finish();
}

}  // namespace kit
