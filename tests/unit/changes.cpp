// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/changes.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "drivers/storage/overlayfs.hpp"
#include "drivers/storage/vfs.hpp"
#include "kit/storage/any_storage.hpp"
#include "kit/system/error.hpp"
#include "kit/testing/tree.hpp"

using namespace kit;
using namespace kit::testing;

namespace {

class directory {
 public:
  directory() {
    if (::mkdtemp(path_.data()) == nullptr) fail_errno(errno, "make a directory");
  }
  ~directory() { remove_tree(path_); }
  directory(const directory&) = delete;
  directory& operator=(const directory&) = delete;
  unique_fd below(const std::string& name) const {
    make_directories(path_ + "/" + name);
    return open_file(path_ + "/" + name, O_RDONLY | O_DIRECTORY);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/kit-changes-XXXXXX";
};

void need_root() {
  if (::geteuid() == 0) return;
  std::puts("skipped: owners, devices and mounts need root");
  std::exit(77);
}

std::vector<change> compared(int before, int after) {
  std::vector<change> list;
  compare_trees(before, after, [&](difference what, const std::string& path) {
    list.push_back({static_cast<change::kind>(what), path});
  });
  return list;
}

using list = std::vector<change>;
constexpr auto added = change::kind::added;
constexpr auto modified = change::kind::modified;
constexpr auto deleted = change::kind::deleted;

/// Makes one random change to a tree whose paths are few, so that changes meet.
void change_something(int root, std::mt19937& dice) {
  auto any = [&](auto... choices) {
    const std::string all[] = {choices...};
    return all[dice() % sizeof...(choices)];
  };
  const std::string top = any("a", "a-b", "b", "c");
  const std::string path = dice() % 3 == 0 ? top : top + "/" + any("a", "x", "y.z", "\xff");
  try {
    switch (dice() % 8) {
      case 0: put_directory(root, path); break;
      case 1:
      case 2: put_file(root, path, any("", "1", "2", "longer")); break;
      case 3: erase(root, path); break;
      case 4: set_mode(root, path, dice() % 2 == 0 ? 0640 : 0755); break;
      case 5: set_time(root, path, 1'000'000'000 + dice() % 2); break;
      case 6: put_symlink(root, path, any("a", "b")); break;
      case 7: put_attribute(root, path, "user.kit", any("1", "2")); break;
      default: break;
    }
  } catch (const error&) {
    // What the tree does not allow (a file below a file) is no change.
  }
}

}  // namespace

TEST_CASE("equal trees have no changes, an empty one is plain") {
  need_root();
  const directory scratch;
  const unique_fd a = scratch.below("a");
  CHECK(compared(a.get(), a.get()).empty());
  CHECK(compared(-1, a.get()).empty());
  CHECK(compared(a.get(), scratch.below("b").get()).empty());
  set_mode(a.get(), ".", 0700);
  CHECK(compared(-1, a.get()) == list{{modified, ""}});
}

TEST_CASE("paths come in bytewise order, not in that of a walk") {
  need_root();
  const directory scratch;
  const unique_fd a = scratch.below("a");
  const unique_fd b = scratch.below("b");
  put_directory(b.get(), "d");
  for (const char* path : {"d/x", "d-", "d0", "d!", "D"}) put_file(b.get(), path, "1");
  CHECK(compared(a.get(), b.get()) ==
        list{{added, "D"}, {added, "d"}, {added, "d!"}, {added, "d-"}, {added, "d/x"}, {added, "d0"}});
  CHECK(compared(b.get(), a.get()) ==
        list{{deleted, "D"}, {deleted, "d"}, {deleted, "d!"}, {deleted, "d-"}, {deleted, "d0"}});
}

TEST_CASE("a symlink that leads out of the tree is compared, not followed") {
  need_root();
  const directory scratch;
  const unique_fd a = scratch.below("a");
  const unique_fd b = scratch.below("b");
  for (const unique_fd* root : {&a, &b}) {
    put_symlink(root->get(), "link", "/etc");
    set_time(root->get(), "link", 1);
  }
  CHECK(compared(a.get(), b.get()).empty());
  erase(b.get(), "link");
  put_directory(b.get(), "link");
  put_file(b.get(), "link/inside", "1");
  CHECK(compared(a.get(), b.get()) == list{{modified, "link"}, {added, "link/inside"}});
  CHECK(compared(b.get(), a.get()) == list{{modified, "link"}});
}

TEST_CASE("a difference behind a large hole is found without reading the hole") {
  need_root();
  const directory scratch;
  const unique_fd a = scratch.below("a");
  const unique_fd b = scratch.below("b");
  constexpr off_t terabyte = off_t{1} << 40;
  for (const unique_fd* root : {&a, &b}) {
    put_file(root->get(), "sparse", "");
    const unique_fd file = open_at(root->get(), "sparse", O_WRONLY);
    REQUIRE(::ftruncate(file.get(), terabyte) == 0);
    REQUIRE(::pwrite(file.get(), root == &a ? "1" : "2", 1, terabyte - 10) == 1);
    set_time(root->get(), "sparse", 1);
  }
  CHECK(compared(a.get(), b.get()) == list{{modified, "sparse"}});
  REQUIRE(::pwrite(open_at(b.get(), "sparse", O_WRONLY).get(), "1", 1, terabyte - 10) == 1);
  set_time(b.get(), "sparse", 1);
  CHECK(compared(a.get(), b.get()).empty());
}

TEST_CASE("a hole equals the zeros it stands for") {
  need_root();
  const directory scratch;
  const unique_fd a = scratch.below("a");
  put_file(a.get(), "file", std::string(400000, '\0'));
  const unique_fd b = scratch.below("b");
  put_file(b.get(), "file", "");
  REQUIRE(::ftruncate(open_at(b.get(), "file", O_WRONLY).get(), 400000) == 0);
  for (const unique_fd* root : {&a, &b}) set_time(root->get(), "file", 1);
  CHECK(compared(a.get(), b.get()).empty());
}

TEST_CASE("a caller that no longer wants the answer is obeyed") {
  need_root();
  const directory scratch;
  const unique_fd a = scratch.below("a");
  put_file(a.get(), "file", "1");
  struct impatient : call_context {
    bool cancelled() const noexcept override { return true; }
  } context;
  const call_scope scope(context);
  CHECK_THROWS_AS(compared(-1, a.get()), error);
}

TEST_CASE("random changes are found as two readings find them") {
  need_root();
  const directory scratch;
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 dice(seed);
    const unique_fd a = scratch.below(fmt::format("a{}", seed));
    const unique_fd b = scratch.below(fmt::format("b{}", seed));
    for (int i = 0; i < 40; ++i) change_something(a.get(), dice);
    std::mt19937 again(seed);
    for (int i = 0; i < 40; ++i) change_something(b.get(), again);
    for (int i = 0; i < 20; ++i) change_something(b.get(), dice);
    const auto expected = changes_between(read_tree(a.get()), read_tree(b.get()));
    INFO("seed " << seed << ": " << to_text(expected) << " / " << to_text(compared(a.get(), b.get())));
    CHECK(compared(a.get(), b.get()) == expected);
  }
}

TEMPLATE_TEST_CASE("changes() asks the driver or compares the views, to one answer", "", drivers::vfs,
                   drivers::overlayfs, any_storage) {
  need_root();
  const directory scratch;
  const driver_config config{scratch.path() + "/driver", scratch.path() + "/run", {}, "test", {}};
  auto make = [&] {
    if constexpr (std::same_as<TestType, any_storage>)
      return any_storage(drivers::overlayfs(config));
    else
      return TestType(config);
  };
  auto d = make();
  const layer_id ids[] = {random_id<layer_id>(), random_id<layer_id>()};
  const layer low{ids[0], {}};
  const layer high{ids[1], {ids, 1}};
  auto got = [&](const layer& l) {
    list all;
    changes(d, l, [&](const change& c) { all.push_back(c); });
    return all;
  };
  d.create(low, {});
  CHECK(got(low).empty());
  {
    const unique_fd root = open_layer(d, low, access::read_write);
    put_directory(root.get(), "d");
    put_file(root.get(), "d/file", "1");
    put_file(root.get(), "kept", "1");
    put_file(root.get(), "touched", "1");
  }
  CHECK(got(low) == list{{added, "d"}, {added, "d/file"}, {added, "kept"}, {added, "touched"}});
  d.freeze(low.id);
  d.create(high, {});
  CHECK(got(high).empty());
  {
    const unique_fd root = open_layer(d, high, access::read_write);
    open_at(root.get(), "touched", O_RDWR);
    erase(root.get(), "d");
    put_file(root.get(), "new", "1");
  }
  const list expected{{deleted, "d"}, {added, "new"}};
  CHECK(got(high) == expected);
  d.freeze(high.id);
  CHECK(got(high) == expected);
  CHECK(got(low).size() == 4);
  CHECK_THROWS_AS(got(layer{random_id<layer_id>(), {}}), error);
  d.remove(high.id);
  d.remove(low.id);
}

namespace {

/// Which names are links to one file: each file's names, those with one left out.
std::set<std::set<std::string>> links_of(int root) {
  std::map<ino_t, std::set<std::string>> names;
  for (const auto& [path, entry] : read_tree(root))
    if (!S_ISDIR(entry.mode) && !path.empty()) names[status(root, path).st_ino].insert(path);
  std::set<std::set<std::string>> groups;
  for (const auto& [inode, group] : names)
    if (group.size() > 1) groups.insert(group);
  return groups;
}

/// What an image holds, and every way of changing it.
void put_image(int root) {
  for (const char* name : {"dir", "dir/deep", "gone", "becomes-file", "touched", "attributes"})
    put_directory(root, name);
  for (const char* name : {"file", "dir/deep/file", "gone/file", "becomes-file/x", "becomes-directory", "one", "pair",
                           "parted", "joined", "mode", "time"})
    put_file(root, name, name);
  put_link(root, "dir/two", "one");
  put_link(root, "dir/pair", "pair");
  put_link(root, "dir/parted", "parted");
  put_symlink(root, "symlink", "file");
  put_attribute(root, "attributes", "user.old", "v");
  for (const char* name : {"dir", "dir/deep", "touched"}) set_time(root, name, 1'000'000'007);
}
void change_all(int root) {
  put_file(root, "file", "changed");
  erase(root, "gone");
  erase(root, "becomes-file");
  put_file(root, "becomes-file", "file");
  erase(root, "becomes-directory");
  put_directory(root, "becomes-directory");
  put_file(root, "becomes-directory/below", "below");
  put_link(root, "three", "one");  // a new name of what the image has
  append_file(root, "pair", " written by one of two names");
  erase(root, "dir/parted");
  put_file(root, "dir/parted", "parted");
  erase(root, "joined");
  put_link(root, "joined", "mode");
  set_mode(root, "mode", 04711);
  set_owner(root, "mode", 1000, 2000);
  set_time(root, "time", 1'234'567'890'123'456'789);
  set_time(root, "touched", 2'000'000'001);  // no change, and yet carried
  ::fremovexattr(open_at(root, "attributes", O_RDONLY).get(), "user.old");
  put_attribute(root, "attributes", "user.new", "v");
  erase(root, "symlink");
  put_symlink(root, "symlink", "elsewhere");
  put_node(root, "fifo", S_IFIFO | 0600);
  put_node(root, "device", S_IFCHR | 0600, 0x0105);
  put_file(root, "odd\nname", "odd");
  set_mode(root, ".", 0751);
}

}  // namespace

TEMPLATE_TEST_CASE("changes carried to another driver make its view alike, to the last link", "",
                   (std::pair<drivers::overlayfs, drivers::vfs>), (std::pair<drivers::vfs, drivers::overlayfs>),
                   (std::pair<drivers::overlayfs, drivers::overlayfs>), (std::pair<drivers::vfs, drivers::vfs>)) {
  need_root();
  directory here;
  const auto config = [&](const char* name) { return driver_config{here.path() + "/" + name, {}, {}, {}, {}}; };
  typename TestType::first_type from(config("from"));
  typename TestType::second_type to(config("to"));
  const auto image = random_id<layer_id>(), own = random_id<layer_id>();
  const std::vector<layer_id> chain{image};
  const auto make = [&](auto& d, auto fill) {
    d.create({image, {}}, {});
    fill(open_layer(d, layer{image, {}}, access::read_write).get());
    d.freeze(image);
    d.create({own, chain}, {});
  };
  make(from, put_image);
  make(to, [&](int root) {
    copy_tree(open_layer(from, layer{image, {}}, access::read_only).get(), open_at(root, ".", O_RDONLY).get());
  });
  const layer l{own, chain};
  {
    const unique_fd root = open_layer(from, l, access::read_write);
    change_all(root.get());
  }
  std::vector<std::string> paths;
  changes(from, l, [&](const change& c) { paths.push_back(c.path); });
  const unique_fd before = open_layer(from, l, access::live);
  for (int twice = 0; twice < 2; ++twice) {
    const unique_fd after = open_layer(to, l, access::read_write);
    carry_changes(before.get(), after.get(), paths);
    CHECK(first_difference(read_tree(before.get()), read_tree(after.get()), true) == "");
    CHECK(links_of(before.get()) == links_of(after.get()));
  }
  std::vector<change> here_too, there_too;
  changes(from, l, [&](const change& c) { here_too.push_back(c); });
  changes(to, l, [&](const change& c) { there_too.push_back(c); });
  CHECK(to_text(here_too) == to_text(there_too));
}
