// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/detail/probing.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit::drivers::detail {
namespace {

constexpr const char* old_words = "as the image has it";
constexpr const char* new_words = "as it was written..";

std::string yes_no(bool yes) { return yes ? "yes" : "no"; }

/// Whether readdir(3) tells the type of an entry.
bool tells_types(const std::string& directory) {
  bool all = true;
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), ::closedir);
  if (!stream) fail_errno(errno, "read directory {}", directory);
  while (const dirent* entry = ::readdir(stream.get()))
    if (entry->d_name[0] != '.') all = all && entry->d_type != DT_UNKNOWN;
  return all;
}

bool shares_extents(int directory) {
  const unique_fd from = open_at(directory, "extent", O_RDWR | O_CREAT, 0600);
  write_all(from.get(), std::string(8192, 'k'), "a file to try reflink with");
  return ::ioctl(open_at(directory, "shared", O_WRONLY | O_CREAT, 0600).get(), FICLONE, from.get()) == 0;
}

bool takes_attribute(int file, const char* name) { return ::fsetxattr(file, name, "n", 1, 0) == 0; }

std::string first_of(int file) {
  std::string text(std::char_traits<char>::length(old_words), '\0');
  const ssize_t size = ::pread(file, text.data(), text.size(), 0);
  text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  return text;
}

ino_t inode_of(int directory, const char* name) {
  struct stat st {};
  return ::fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

}  // namespace

void tell_backing(const std::string& scratch, probe_report& report) {
  const std::string place = scratch + "/backing";
  make_directory(place, 0700);
  const unique_fd directory = open_directory(place);
  const unique_fd file = open_at(directory.get(), "file", O_RDWR | O_CREAT, 0600);
  const auto fact = [&](const char* name, std::string value) { report.facts.push_back({name, std::move(value)}); };
  fact("d_type", yes_no(tells_types(place)));
  fact("reflink", yes_no(shares_extents(directory.get())));
  fact("trusted xattrs", yes_no(takes_attribute(file.get(), "trusted.kit.probe")));
  fact("user xattrs", yes_no(takes_attribute(file.get(), "user.kit.probe")));
  struct statvfs st {};
  if (::fstatvfs(directory.get(), &st) != 0) fail_errno(errno, "statvfs {}", scratch);
  fact("longest name", fmt::format("{} bytes", st.f_namemax));
  fact("free space", fmt::format("{} MiB", st.f_bavail * st.f_frsize >> 20));
  remove_tree(place);
}

std::string remedy_of(const error& e, std::string otherwise) {
  return e.code() == errc::no_space
             ? "free space or inodes on that file system, or choose a root elsewhere (kit --root)"
             : std::move(otherwise);
}

void put_samples(const std::string& parent) {
  const unique_fd root = open_directory(parent);
  for (const char* name : {"read", "linked"})
    write_all(open_at(root.get(), name, O_WRONLY | O_CREAT, 0600).get(), old_words, name);
  if (::linkat(root.get(), "linked", root.get(), "link", 0) != 0) fail_errno(errno, "link a file in {}", parent);
  make_directory(parent + "/directory", 0700);
}

void tell_differences(int root, probe_report& report) {
  const auto differs = [&](const char* how) { report.facts.push_back({"differs", how}); };
  if (::renameat(root, "directory", root, "renamed") != 0 && errno == EXDEV)
    differs("renaming a directory of the image fails with EXDEV: mv copies it then, some programs give up");

  const ino_t inode = inode_of(root, "read");
  const unique_fd reader = open_at(root, "read", O_RDONLY);
  const std::size_t size = std::char_traits<char>::length(old_words);
  void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, reader.get(), 0);
  if (mapped == MAP_FAILED) fail_errno(errno, "map a file of the view");
  const std::string_view shown(static_cast<const char*>(mapped), size);
  (void)shown.front();  // a page that nobody touched is not there yet
  write_all(open_at(root, "read", O_WRONLY).get(), new_words, "a file to try with");
  const bool stale = shown == old_words;
  ::munmap(mapped, size);
  if (first_of(reader.get()) == old_words)
    differs("a file of the image that was opened read only before its first write keeps its old content");
  else if (stale)
    differs("a file of the image that was mapped (mmap) before its first write keeps its old content there");
  if (inode_of(root, "read") != inode) differs("the inode number of a file of the image changes with its first write");

  write_all(open_at(root, "linked", O_WRONLY).get(), new_words, "a file to try with");
  if (first_of(open_at(root, "link", O_RDONLY).get()) == old_words)
    differs("hard links between files of the image part when one of them is written");
}

}  // namespace kit::drivers::detail
