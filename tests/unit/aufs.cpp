// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/aufs.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "../scratch.hpp"
#include "kit/system/tree.hpp"

namespace {

using namespace kit;

std::string text_of(const mount& m, std::string_view key) {
  for (const mount_option& o : m.options)
    if (o.key == key) return std::get<std::string>(o.value);
  return {};
}

/// The branches that a kernel would have after `list`.
std::string told(const std::vector<mount>& list) {
  std::string all = text_of(list.front(), "br");
  for (std::size_t i = 1; i < list.size(); ++i) all += ":" + text_of(list[i], "append");
  return all;
}

errc refusal(function_ref<void()> call, std::string_view naming) {
  try {
    call();
  } catch (const error& e) {
    INFO(e.what());
    CHECK(std::string_view(e.what()).find(naming) != std::string_view::npos);
    return e.code();
  }
  FAIL("nothing was refused");
  return errc::io;
}

void put(const std::string& path) { open_file(path, O_WRONLY | O_CREAT, 0644).reset(); }

}  // namespace

TEST_CASE("1 to 200 branches: all told in order, in pieces that the kernel takes, or refused by number") {
  const std::string base = GENERATE(as<std::string>(), "/b", "/var/lib/kit/storage/aufs/layers/0123456789abcdef");
  const bool writable = GENERATE(true, false);
  std::vector<std::string> branches;
  std::string expected;
  for (int n = 1; n <= 200; ++n) {
    branches.push_back(base + std::to_string(n));
    expected += (n == 1 ? "" : ":") + branches.back() + (n == 1 && writable ? "=rw" : "=ro+wh");
    if (n > 127) {
      CHECK(refusal([&] { drivers::detail::aufs_mounts(branches, writable, "/run/x"); }, "127") == errc::unsupported);
      continue;
    }
    const auto list = drivers::detail::aufs_mounts(branches, writable, "/run/x");
    REQUIRE(told(list) == expected);
    const std::string first = text_of(list.front(), "br");
    REQUIRE(first.size() <= 255);
    REQUIRE(std::count(first.begin(), first.end(), '=') <= 40);
    REQUIRE(list.front().what == mount::action::make);
    REQUIRE((list.front().attributes == 0) == writable);
    REQUIRE(text_of(list.front(), "xino") == "/run/x");
    REQUIRE(std::holds_alternative<mount_option::flag>(list.front().options.back().value));
    REQUIRE(list.front().options.back().key == "dirperm1");
    for (std::size_t i = 1; i < list.size(); ++i) {
      REQUIRE(list[i].what == mount::action::reconfigure);
      REQUIRE(list[i].options.size() == 1);
      REQUIRE(text_of(list[i], "append").find(':') == std::string::npos);
    }
  }
}

TEST_CASE("paths that aufs cannot be told are refused") {
  for (const char* odd : {"/a:b", "/a,b", "/a=b"}) {
    const std::vector<std::string> bad{"/good", odd}, good{"/good"};
    CHECK(refusal([&] { drivers::detail::aufs_mounts(bad, true, "/run/x"); }, odd) == errc::invalid);
    CHECK(refusal([&] { drivers::detail::aufs_mounts(good, true, odd); }, odd) == errc::invalid);
  }
  const std::vector<std::string> fits{"/" + std::string(247, 'a')}, longer{"/" + std::string(249, 'a')};
  CHECK(drivers::detail::aufs_mounts(fits, true, "/run/x").size() == 1);
  CHECK(refusal([&] { drivers::detail::aufs_mounts(longer, true, "/run/x"); }, "longer") == errc::invalid);
}

TEST_CASE("an aufs branch tells deletions by OCI's words, and its own books are no changes") {
  testing::scratch s;
  for (const char* d : {"before", "before/dir", "before/opaque", "after", "after/dir", "after/opaque", "diff",
                        "diff/dir", "diff/opaque", "diff/.wh..wh.plnk", "diff/.wh..wh.orph"})
    make_directories(s / d);
  for (const char* f : {"before/gone", "diff/.wh.gone", "before/dir/inner", "diff/dir/.wh.inner", "before/opaque/old",
                        "after/opaque/new", "diff/opaque/new", "diff/opaque/.wh..wh..opq", "diff/.wh..wh.aufs",
                        "diff/.wh..wh.plnk/1.2", "after/.hidden", "diff/.hidden", "before/untouched"})
    put(s / f);
  std::string seen;
  compare_union(open_file(s / "before", O_RDONLY).get(), open_file(s / "after", O_RDONLY).get(),
                open_file(s / "diff", O_RDONLY).get(), whiteouts::aufs, [&](difference d, const std::string& path) {
                  seen += "?AMD"[static_cast<int>(d)] + (" " + path) + "\n";
                });
  // before/untouched is in no branch of the layer: not looked at.
  CHECK(seen == "A .hidden\nD dir/inner\nD gone\nA opaque/new\nD opaque/old\n");
}

TEST_CASE("a layer keeps its root's mode, its usage leaves aufs's books out, and each mount has its own xino") {
  testing::scratch s;
  drivers::aufs driver({s / "driver", s / "run", {}, {}, {}});
  const auto low = random_id<layer_id>(), high = random_id<layer_id>();
  driver.create({low, {}}, {});
  const std::string diff = s / ("driver/layers/" + low.str() + "/diff");
  REQUIRE(::chmod(diff.c_str(), 01777) == 0);
  const auto before = driver.usage({low, {}});
  make_directories(diff + "/.wh..wh.plnk");
  make_directories(diff + "/.wh..wh.orph");
  put(diff + "/.wh..wh.aufs");
  CHECK(driver.usage({low, {}}).inodes == before.inodes);
  put(diff + "/file");
  CHECK(driver.usage({low, {}}).inodes == before.inodes + 1);

  driver.freeze(low);
  const std::vector<layer_id> parents{low};
  driver.create({high, parents}, {});
  struct stat st {};
  REQUIRE(::stat((s / ("driver/layers/" + high.str() + "/diff")).c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 01777);
  const auto one = driver.mounts({high, parents}, access::read_write);
  const auto two = driver.mounts({high, parents}, access::live);
  CHECK(told(one) == s / ("driver/layers/" + high.str() + "/diff=rw:") + diff + "=ro+wh");
  CHECK(text_of(one.front(), "xino").rfind(s / "run/", 0) == 0);
  CHECK(text_of(one.front(), "xino") != text_of(two.front(), "xino"));
  CHECK(refusal([&] { driver.mounts({low, {}}, access::read_write); }, "frozen") == errc::invalid);

  const std::vector<layer_id> long_chain(127, low);
  CHECK(refusal([&] { driver.create({random_id<layer_id>(), long_chain}, {}); }, "127") == errc::unsupported);
}

TEST_CASE("settling touches every name of a pseudo-linked file, changes nothing else of it, and empties the list") {
  testing::scratch s;
  drivers::aufs driver({s / "driver", s / "run", {}, {}, {}});
  const auto id = random_id<layer_id>();
  driver.create({id, {}}, {});
  make_directories(s / "root/dir");
  for (const char* f : {"root/one", "root/other"}) put(s / f);
  REQUIRE(::chmod((s / "root/one").c_str(), 04755) == 0);
  REQUIRE(::link((s / "root/one").c_str(), (s / "root/dir/two").c_str()) == 0);
  struct stat one {
  }, other{}, after{};
  REQUIRE(::stat((s / "root/one").c_str(), &one) == 0);
  REQUIRE(::stat((s / "root/other").c_str(), &other) == 0);
  const auto root = open_file(s / "root", O_RDONLY | O_DIRECTORY);
  driver.settle(id, root.get());
  const std::string links = s / ("driver/layers/" + id.str() + "/diff/.wh..wh.plnk");
  make_directories(links);
  put(links + "/" + std::to_string(one.st_ino) + ".7");
  ::usleep(20000);
  driver.settle(id, root.get());
  driver.settle(id, root.get());
  REQUIRE(::stat((s / "root/dir/two").c_str(), &after) == 0);
  CHECK((after.st_ctim.tv_sec != one.st_ctim.tv_sec || after.st_ctim.tv_nsec != one.st_ctim.tv_nsec));
  CHECK(after.st_mode == one.st_mode);
  CHECK(after.st_atim.tv_nsec == one.st_atim.tv_nsec);
  CHECK(after.st_mtim.tv_nsec == one.st_mtim.tv_nsec);
  REQUIRE(::stat((s / "root/other").c_str(), &after) == 0);
  CHECK(after.st_ctim.tv_nsec == other.st_ctim.tv_nsec);
  CHECK(::rmdir(links.c_str()) == 0);
}

TEST_CASE("where the kernel has no aufs the probe says how to get it, and leaves nothing") {
  testing::scratch s;
  const auto report = drivers::aufs({s / "driver", s / "run", {}, {}, {}}).probe();
  INFO(report.reason << " / " << report.remedy);
  CHECK(report.usable == report.reason.empty());
  CHECK(report.usable == report.remedy.empty());
  CHECK_FALSE(option_or(report.facts, "kernel", "").empty());
  CHECK(::rmdir(s.path().c_str()) == 0);
  make_directories(s.path());
}
