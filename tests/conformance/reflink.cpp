// SPDX-License-Identifier: Apache-2.0
// What the conformance suite cannot ask of reflink: that its layers share what they have in common.
#include "drivers/storage/reflink.hpp"

#include <fcntl.h>
#include <sys/mount.h>

#include <catch2/catch.hpp>

#include "kit/system/error.hpp"
#include "kit/system/extent.hpp"
#include "kit/system/tree.hpp"
#include "kit/testing/storage.hpp"

namespace kit::testing {
namespace {

constexpr std::size_t mebibyte = 1 << 20;

struct layers {
  layers() {
    std::string path = default_scratch() + "/kit-reflink-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) fail_errno(errno, "make a directory");
    config.directory = path;
    if (const probe_report report = drivers::reflink(config).probe(); !report.usable) {
      remove_tree(path);
      fmt::print("skipped: {}\n", report.reason);
      std::exit(77);
    }
    drivers::reflink d(config);
    d.create(parent, {});
    const unique_fd root = make_detached(d.mounts(parent, access::read_write));
    for (int i = 0; i < 300; ++i) {
      const std::string in = fmt::format("d{}", i / 30);
      if (i % 30 == 0) put_directory(root.get(), in);
      put_file(root.get(), fmt::format("{}/{}", in, i), std::string(10'000, static_cast<char>('a' + i % 26)));
    }
    put_file(root.get(), "big", std::string(8 * mebibyte, 'x'));
    put_link(root.get(), "d1/link", "big");
    d.freeze(low);
    d.create(child, {});
  }
  ~layers() { remove_tree(config.directory); }
  layers(const layers&) = delete;
  layers& operator=(const layers&) = delete;

  driver_config config;
  const layer_id low = random_id<layer_id>(), high = random_id<layer_id>();
  const std::vector<layer_id> chain{low};
  const layer parent{low, {}}, child{high, chain};
};

TEST_CASE("a layer takes of the disk what was written to it") {
  const layers given;
  drivers::reflink d(given.config);
  const disk_usage all = d.usage(given.parent);
  CHECK(all.bytes >= 8 * mebibyte + 3'000'000);
  CHECK(all.bytes < 16 * mebibyte);
  const disk_usage untouched = d.usage(given.child);
  CHECK(untouched.bytes < 65536);
  CHECK(untouched.inodes == all.inodes);
  {
    const unique_fd root = make_detached(d.mounts(given.child, access::read_write));
    const unique_fd big = open_at(root.get(), "big", O_WRONLY);
    REQUIRE(::pwrite(big.get(), "1234", 4, 4 * mebibyte) == 4);
    put_file(root.get(), "new", std::string(mebibyte, 'y'));
    REQUIRE(::syncfs(open_at(root.get(), ".", O_RDONLY).get()) == 0);
  }
  const disk_usage written = d.usage(given.child);
  CHECK(written.bytes >= mebibyte + 4096);
  CHECK(written.bytes < 2 * mebibyte);
  CHECK(written.inodes == all.inodes + 1);
  CHECK(d.usage(given.parent).bytes == all.bytes);
}

TEST_CASE("what was cloned and left alike is told without reading it") {
  const layers given;
  drivers::reflink d(given.config);
  const unique_fd before = make_detached(d.mounts(given.parent, access::read_only));
  const unique_fd after = make_detached(d.mounts(given.child, access::read_write));
  const unique_fd one = open_at(before.get(), "big", O_RDONLY), two = open_at(after.get(), "big", O_RDWR);
  CHECK(share_all_extents(one.get(), two.get()));
  // The same size and time, another content.
  const auto time = status(after.get(), "big").st_mtim;
  REQUIRE(::pwrite(two.get(), "1234", 4, 4 * mebibyte) == 4);
  set_time(after.get(), "big", time.tv_sec * 1'000'000'000 + time.tv_nsec);
  CHECK_FALSE(share_all_extents(one.get(), two.get()));
  std::vector<std::string> differ;
  compare_trees(before.get(), after.get(), [&](difference, const std::string& path) { differ.push_back(path); });
  CHECK(differ == std::vector<std::string>{"big", "d1/link"});
}

}  // namespace
}  // namespace kit::testing
