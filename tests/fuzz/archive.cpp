// SPDX-License-Identifier: Apache-2.0
#include "kit/image/archive.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstdlib>
#include <memory>

#include "fuzz/repair.hpp"
#include "kit/system/error.hpp"
#include "scratch.hpp"

namespace {

int entries_of(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(path.c_str()), ::closedir);
  int count = 0;
  while (stream != nullptr && ::readdir(stream.get()) != nullptr) ++count;
  return count;
}

}  // namespace

/// Whatever the bytes are: no crash, only errors of the kinds that the contract names, and nothing outside the root.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const kit::testing::scratch directory;
  static const bool prepared = [] {
    kit::make_directories(directory / "outside");
    kit::replace_file(directory / "outside/victim", "whole");
    // What a layer that is unpacked alone may come to stand over.
    kit::make_directories(directory / "below/d/e");
    kit::replace_file(directory / "below/a", "1");
    kit::replace_file(directory / "below/d/f", "1");
    if (::symlink("../outside", (directory / "below/l").c_str()) != 0) std::abort();
    return true;
  }();
  (void)prepared;
  std::string tar(reinterpret_cast<const char*>(bytes), size);
  kit::testing::repair(tar);
  const kit::unique_fd blob(::memfd_create("blob", MFD_CLOEXEC));
  kit::write_all(blob.get(), tar, "blob");
  kit::unpack_limits limits;
  limits.entries = 64;
  limits.bytes = 1 << 20;
  limits.ratio = 10;
  const auto in_a_root = [&](auto work) {
    kit::make_directories(directory / "root");
    ::lseek(blob.get(), 0, SEEK_SET);
    try {
      work(kit::open_directory(directory / "root").get());
    } catch (const kit::error&) {}
    kit::remove_tree(directory / "root");
  };
  in_a_root([&](int root) { kit::unpack_archive(blob.get(), root, limits); });
  for (const kit::whiteouts deletions : {kit::whiteouts::overlay, kit::whiteouts::aufs})
    in_a_root([&](int root) {
      kit::archive_unpacked_alone alone(root, deletions);
      if (alone.unpack(blob.get(), limits)) (void)alone.complete(kit::open_directory(directory / "below").get());
    });
  if (kit::read_file(directory / "outside/victim") != "whole" || entries_of(directory / "outside") != 3 ||
      entries_of(directory.path()) != 4 || entries_of(directory / "below") != 5)
    std::abort();
  return 0;
}
