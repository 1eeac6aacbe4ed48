// SPDX-License-Identifier: Apache-2.0
// What the conformance suite cannot ask of btrfs: subvolumes inside layers, and that it does not read what is shared.
#include "drivers/storage/btrfs.hpp"

#include <fcntl.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "kit/system/btrfs.hpp"
#include "kit/system/error.hpp"
#include "kit/testing/storage.hpp"

namespace kit::testing {
namespace {

void with_fixture(function_ref<void(storage_fixture&)> test) {
  auto make = [](const driver_config& c) -> std::unique_ptr<storage_subject> {
    auto direct = [](const driver_config& config) { return drivers::btrfs(config); };
    return std::make_unique<detail::storage_subject_of<decltype(direct(c))>>(direct, c);
  };
  try {
    storage_fixture f(make, default_scratch());
    test(f);
  } catch (const skipped& why) {
    fmt::print("skipped: {}\n", why.what());
    std::exit(77);
  }
}

std::vector<change> changes_of(storage_fixture& f, const stacked_layer& l) {
  std::vector<change> list;
  f.driver().changes(l, [&](const change& c) { list.push_back(c); });
  return list;
}

std::size_t subvolumes_below(const std::string& directory) {
  return subvolume(open_file(directory, O_RDONLY | O_DIRECTORY)).inner_subvolumes().size();
}

unique_fd readable(int root, const std::string& path = ".") { return open_at(root, path, O_RDONLY | O_DIRECTORY); }

TEST_CASE("subvolumes made inside a layer belong to it") {
  with_fixture([](storage_fixture& f) {
    const std::size_t before = subvolumes_below(default_scratch());
    const stacked_layer low = f.frozen_base([](int root) {
      put_directory(root, "d");
      subvolume::create(readable(root, "d").get(), "inner");
      put_file(root, "d/inner/a", "1");
      subvolume::create(readable(root, "d/inner").get(), "innermost");
      put_file(root, "d/inner/innermost/b", "2");
      subvolume(readable(root, "d/inner")).set_read_only();
    });
    const stacked_layer l = f.above(low);
    CHECK(first_difference(f.read(low), f.read(l)).empty());
    CHECK(changes_of(f, l).empty());
    f.write(l, [](int root) { put_file(root, "d/inner/innermost/b", "22"); });
    CHECK(to_text(changes_of(f, l)) == "M \"d/inner/innermost/b\"");
    CHECK(f.driver().usage(l).inodes >= 1);
    CHECK(f.read(low).at("d/inner/innermost/b").content == "2");
    f.driver().freeze(l.id);
    const stacked_layer top = f.above(l);
    CHECK(f.read(top).at("d/inner/innermost/b").content == "22");
    for (const stacked_layer* each : {&top, &l, &low}) f.driver().remove(each->id);
    CHECK(f.layers().empty());
    CHECK(subvolumes_below(default_scratch()) == before);
  });
}

TEST_CASE("changes name hard links, and what was moved with all below it") {
  with_fixture([](storage_fixture& f) {
    const stacked_layer low = f.frozen_base([](int root) {
      for (const char* d : {"a", "b", "a/in"}) put_directory(root, d);
      put_file(root, "a/in/file", "1");
      put_file(root, "b/file", "1");
      for (int i = 0; i < 400; ++i)
        put_link(root, fmt::format("b/{}", std::string(200, 'x') + std::to_string(i)), "b/file");
    });
    const stacked_layer l = f.above(low);
    f.write(l, [](int root) {
      move(root, "a", "c");
      move(root, "b", "a");
      move(root, "c", "b");
      append_file(root, "a/file", "2");
      put_directory(root, "c");
      move(root, "b/in", "c/in");
    });
    CHECK(changes_of(f, l) == changes_between(f.read(low), f.read(l)));
    const stacked_layer again = f.above(low);
    f.write(again, [](int root) { append_file(root, "b/file", "2"); });
    CHECK(changes_of(f, again).size() == 401);
  });
}

TEST_CASE("a mounted layer can be removed, and its id be used again") {
  with_fixture([](storage_fixture& f) {
    const stacked_layer l = f.base();
    const unique_fd root = f.open(l, access::read_write);
    put_file(root.get(), "a", "1");
    const unique_fd file = open_at(root.get(), "a", O_RDONLY);
    f.driver().remove(l.id);
    CHECK(f.layers().empty());
    CHECK(read_all(file.get(), "a") == "1");
    f.driver().create(l);
    CHECK(f.read(l).size() == 1);
  });
}

TEST_CASE("a limited layer goes on when something is deleted") {
  with_fixture([](storage_fixture& f) {
    const stacked_layer l = f.base();
    turn_on_quotas(readable(f.open(l, access::read_write).get()).get());
    REQUIRE(f.driver().can(storage_ability::limits_size));
    f.driver().limit(l.id, 8 << 20);
    const unique_fd root = f.open(l, access::read_write);
    const std::string data(std::size_t{12} << 20, 'x');
    CHECK_THROWS_AS(put_file(root.get(), "big", data), error);
    erase(root.get(), "big");
    REQUIRE(::syncfs(readable(root.get()).get()) == 0);
    put_file(root.get(), "small", data.substr(0, 1 << 20));
  });
}

}  // namespace
}  // namespace kit::testing
