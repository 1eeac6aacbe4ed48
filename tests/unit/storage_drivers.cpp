// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <map>
#include <random>

#include "drivers/storage/overlayfs.hpp"
#include "drivers/storage/vfs.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"

namespace {

namespace fs = std::filesystem;
using kit::access;
using kit::layer_id;
using kit::drivers::overlayfs;
using kit::drivers::vfs;

const bool root_only = [] {
  if (::geteuid() != 0) {
    std::puts("skipped: storage drivers need root");
    std::fflush(stdout);
    ::_exit(77);
  }
  return true;
}();

struct scratch {
  std::string path;
  scratch() {
    path = fs::temp_directory_path() / "kit-drivers.XXXXXX";
    REQUIRE(::mkdtemp(path.data()) != nullptr);
  }
  ~scratch() { kit::remove_tree(path); }
  [[nodiscard]] kit::driver_config config() const { return {path + "/driver", {}, {}, {}, {}}; }
};

/// A layer that owns its chain.
struct stack {
  layer_id id = kit::random_id<layer_id>();
  std::vector<layer_id> parents;
  operator kit::layer() const { return {id, parents}; }  // NOLINT(*-explicit-constructor): it is one
  [[nodiscard]] stack above() const {
    stack s;
    s.parents.push_back(id);
    s.parents.insert(s.parents.end(), parents.begin(), parents.end());
    return s;
  }
};

kit::unique_fd open_layer(auto& driver, const stack& l, access how) {
  return kit::make_detached(driver.mounts(l, how));
}

void put(int root, const std::string& name, const std::string& text = {}) {
  kit::write_all(kit::open_at(root, name, O_WRONLY | O_CREAT | O_TRUNC, 0644).get(), text, name);
}
std::string get(int root, const std::string& name) {
  return kit::read_all(kit::open_at(root, name, O_RDONLY).get(), name);
}

std::map<layer_id, kit::layer_state::state> states(auto& driver) {
  std::map<layer_id, kit::layer_state::state> all;
  driver.layers([&](const kit::layer_state& s) { all[s.id] = s.is; });
  return all;
}

kit::errc refusal(kit::function_ref<void()> call) {
  try {
    call();
  } catch (const kit::error& e) {
    INFO(e.what());
    return e.code();
  }
  FAIL("nothing was refused");
  return kit::errc::io;
}

using differences = std::vector<std::pair<kit::difference, std::string>>;

differences compared(int before, int after) {
  differences all;
  kit::compare_trees(before, after, [&](kit::difference d, const std::string& p) { all.emplace_back(d, p); });
  return all;
}

/// Everything a tree can hold that a copy could lose.
void furnish(int root) {
  put(root, "plain", "text");
  REQUIRE(::fchmodat(root, "plain", 04751, 0) == 0);
  REQUIRE(::mkdirat(root, "dir", 0700) == 0);
  REQUIRE(::fchownat(root, "dir", 12, 34, 0) == 0);
  REQUIRE(::fchmodat(root, "dir", 03571, 0) == 0);
  put(root, "dir/owned", std::string(100000, 'x'));
  REQUIRE(::fchownat(root, "dir/owned", 100000, 200000, 0) == 0);
  REQUIRE(::linkat(root, "dir/owned", root, "linked", 0) == 0);
  REQUIRE(::linkat(root, "dir/owned", root, "dir/linked-too", 0) == 0);
  REQUIRE(::symlinkat("../no/such", root, "dir/link") == 0);
  REQUIRE(::symlinkat(std::string(1000, 's').c_str(), root, "long-link") == 0);
  REQUIRE(::fchownat(root, "dir/link", 5, 6, AT_SYMLINK_NOFOLLOW) == 0);
  REQUIRE(::mknodat(root, "fifo", S_IFIFO | 0640, 0) == 0);
  REQUIRE(::mknodat(root, "socket", S_IFSOCK | 0755, 0) == 0);
  REQUIRE(::mknodat(root, "null", S_IFCHR | 0666, makedev(1, 3)) == 0);
  REQUIRE(::mknodat(root, "disk", S_IFBLK | 0660, makedev(7, 9)) == 0);
  put(root, "\xff\xfe not utf-8\n", "odd");
  put(root, "name \\ with : , odd", "odd");
  // cap_net_raw+ep, as setcap(8) writes it
  const unsigned char capability[] = {1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const auto plain = kit::open_at(root, "plain", O_RDONLY);
  REQUIRE(::fsetxattr(plain.get(), "security.capability", capability, sizeof capability, 0) == 0);
  REQUIRE(::fsetxattr(plain.get(), "trusted.kit", "v", 1, 0) == 0);
  const auto sparse = kit::open_at(root, "sparse", O_RDWR | O_CREAT, 0600);
  REQUIRE(::ftruncate(sparse.get(), 64 << 20) == 0);
  REQUIRE(::pwrite(sparse.get(), "middle", 6, 30 << 20) == 6);
  int i = 0;
  for (const char* name : {"plain", "dir/owned", "dir/link", "fifo", "null", "sparse", "dir"}) {
    const timespec times[2] = {{1000000000 + i, 123456789}, {900000000 + i, 987654321 - i}};
    REQUIRE(::utimensat(root, name, times, AT_SYMLINK_NOFOLLOW) == 0);
    ++i;
  }
}

struct patience : kit::call_context {
  explicit patience(int checks) : left(checks) {}
  [[nodiscard]] bool cancelled() const noexcept override { return left-- <= 0; }
  void progress(std::uint64_t done, std::uint64_t) noexcept override { last = done; }
  mutable int left;
  std::uint64_t last = 0;
};

}  // namespace

TEST_CASE("a copied tree has all that the original has") {
  scratch s;
  kit::make_directories(s.path + "/from");
  kit::make_directories(s.path + "/to");
  const auto from = kit::open_file(s.path + "/from", O_RDONLY | O_DIRECTORY);
  const auto to = kit::open_file(s.path + "/to", O_RDONLY | O_DIRECTORY);
  furnish(from.get());
  REQUIRE(::fchmod(from.get(), 0751) == 0);
  REQUIRE(::fchown(from.get(), 7, 8) == 0);
  patience counting(1 << 30);
  {
    kit::call_scope scope(counting);
    kit::copy_tree(from.get(), to.get());
  }
  CHECK(counting.last > 100000);
  CHECK(compared(from.get(), to.get()).empty());
  struct stat a {
  }, b{};
  for (const char* name : {"plain", "dir/owned", "dir/link", "fifo", "socket", "null", "disk", "sparse", "dir", "."}) {
    INFO(name);
    REQUIRE(::fstatat(from.get(), name, &a, AT_SYMLINK_NOFOLLOW) == 0);
    REQUIRE(::fstatat(to.get(), name, &b, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK(a.st_mode == b.st_mode);
    CHECK(a.st_uid == b.st_uid);
    CHECK(a.st_gid == b.st_gid);
    CHECK(a.st_rdev == b.st_rdev);
    CHECK(a.st_mtim.tv_sec == b.st_mtim.tv_sec);
    CHECK(a.st_mtim.tv_nsec == b.st_mtim.tv_nsec);
    CHECK(a.st_blocks == b.st_blocks);
    CHECK(a.st_nlink == b.st_nlink);
  }
  REQUIRE(::fstatat(to.get(), "linked", &a, 0) == 0);
  REQUIRE(::fstatat(to.get(), "dir/linked-too", &b, 0) == 0);
  CHECK(a.st_ino == b.st_ino);
  char value[64];
  CHECK(::getxattr((s.path + "/to/plain").c_str(), "security.capability", value, sizeof value) == 20);
  const auto left = kit::measure_tree(from.get()), right = kit::measure_tree(to.get());
  CHECK(left.inodes == right.inodes);
  CHECK(left.bytes == right.bytes);
}

TEST_CASE("a copy is cancelled between files and within a large one") {
  scratch s;
  kit::make_directories(s.path + "/from");
  const auto from = kit::open_file(s.path + "/from", O_RDONLY | O_DIRECTORY);
  kit::unique_fd big = kit::open_at(from.get(), "big", O_RDWR | O_CREAT, 0600);
  REQUIRE(::posix_fallocate(big.get(), 0, 40 << 20) == 0);
  for (int i = 0; i < 20; ++i) put(from.get(), std::to_string(i), "x");
  for (int checks : {0, 2, 4, 15}) {
    const std::string name = s.path + "/to-" + std::to_string(checks);
    kit::make_directories(name);
    patience impatient(checks);
    kit::call_scope scope(impatient);
    CHECK(refusal([&] { kit::copy_tree(from.get(), kit::open_file(name, O_RDONLY | O_DIRECTORY).get()); }) ==
          kit::errc::cancelled);
  }
}

TEST_CASE("a removal runs out of time and is taken up again") {
  scratch s;
  const std::string top = s.path + "/top";
  for (int i = 0; i < 50; ++i) kit::make_directories(top + "/" + std::to_string(i) + "/a/b");
  CHECK_FALSE(kit::remove_tree_until(top, std::chrono::steady_clock::now() - std::chrono::seconds(1)));
  CHECK(fs::exists(top));
  CHECK(kit::remove_tree_until(top, std::chrono::steady_clock::time_point::max()));
  CHECK_FALSE(fs::exists(top));
  CHECK(kit::remove_tree_until(top, std::chrono::steady_clock::time_point::max()));
}

TEMPLATE_TEST_CASE("a layer above shows all that its parent has", "", vfs, overlayfs) {
  scratch s;
  TestType driver(s.config());
  const stack low;
  driver.create(low, {});
  {
    const auto root = open_layer(driver, low, access::read_write);
    furnish(root.get());
    REQUIRE(::fchownat(root.get(), ".", 7, 8, 0) == 0);
    REQUIRE(::fchmodat(root.get(), ".", 01777, 0) == 0);
    REQUIRE(::fsetxattr(kit::open_at(root.get(), ".", O_RDONLY).get(), "trusted.kit", "v", 1, 0) == 0);
  }
  driver.freeze(low.id);
  const stack high = low.above(), higher = high.above();
  driver.create(high, {});
  driver.freeze(high.id);
  driver.create(higher, {});
  const auto expected = open_layer(driver, low, access::read_only);
  for (const auto* l : {&high, &higher}) {
    const auto seen = open_layer(driver, *l, access::live);
    CHECK(compared(expected.get(), seen.get()).empty());
    struct stat st {};
    REQUIRE(::fstat(seen.get(), &st) == 0);
    CHECK(st.st_mode == (S_IFDIR | 01777));
    CHECK(st.st_uid == 7);
    CHECK(st.st_gid == 8);
  }
}

TEMPLATE_TEST_CASE("what crashes leave is partial, and is made whole or taken away", "", vfs, overlayfs) {
  scratch s;
  TestType driver(s.config());
  const stack begun, good;
  driver.create(good, {});
  const std::string at = s.path + "/driver";
  // A crash within create; one within remove.
  kit::make_directories(at + "/new/" + begun.id.str() + "/diff/remains");
  kit::make_directories(at + "/trash/0123/diff/remains");
  using state = kit::layer_state::state;
  CHECK(states(driver) == std::map<layer_id, state>{{begun.id, state::partial}, {good.id, state::writable}});
  CHECK(fs::is_empty(at + "/trash"));
  CHECK(refusal([&] { driver.mounts(begun, access::live); }) == kit::errc::not_found);
  CHECK(refusal([&] { driver.freeze(begun.id); }) == kit::errc::not_found);
  CHECK(refusal([&] { driver.usage(begun); }) == kit::errc::not_found);
  CHECK(refusal([&] { driver.create(begun.above(), {}); }) == kit::errc::not_found);
  driver.create(begun, {});
  CHECK(fs::is_empty(at + "/new"));
  CHECK(states(driver) == std::map<layer_id, state>{{begun.id, state::writable}, {good.id, state::writable}});
  CHECK(compared(-1, open_layer(driver, begun, access::live).get()).empty());
  kit::make_directories(at + "/new/" + kit::random_id<layer_id>().str());
  for (const auto& [id, is] : states(driver)) driver.remove(id);
  CHECK(states(driver).empty());
  CHECK(fs::is_empty(at + "/new"));
}

TEMPLATE_TEST_CASE("options nobody knows are named", "", vfs, overlayfs) {
  scratch s;
  const std::vector<kit::option> odd{{"colour", "blue"}};
  TestType driver(s.config());
  const stack l;
  try {
    driver.create(l, odd);
    FAIL("accepted");
  } catch (const kit::error& e) {
    CHECK(e.code() == kit::errc::invalid);
    CHECK(std::string(e.what()).find("colour") != std::string::npos);
  }
  auto config = s.config();
  config.options = odd;
  CHECK(refusal([&] { TestType{config}; }) == kit::errc::invalid);
  CHECK_FALSE(fs::exists(s.path + "/driver"));
}

TEMPLATE_TEST_CASE("the probe leaves nothing and tells what it saw", "", vfs, overlayfs) {
  scratch s;
  const TestType driver(s.config());
  const auto report = driver.probe();
  INFO(report.reason << " / " << report.remedy);
  CHECK(report.usable);
  CHECK(report.reason.empty());
  CHECK_FALSE(kit::option_or(report.facts, "kernel", "").empty());
  CHECK_FALSE(kit::option_or(report.facts, "backing file system", "").empty());
  CHECK(fs::is_empty(s.path));
}

TEST_CASE("the probe tries what programs rely on, and tells how a union differs") {
  scratch s;
  const auto told = [](const kit::probe_report& report, std::string_view word) {
    return std::any_of(report.facts.begin(), report.facts.end(), [&](const kit::option& fact) {
      return fact.key == "differs" && fact.value.find(word) != std::string::npos;
    });
  };
  const auto report = overlayfs(s.config()).probe();
  for (const char* word : {"EXDEV", "hard links", "mapped (mmap)"}) CHECK(told(report, word));
  // The kernel keeps it, where upper and lower are on one file system.
  CHECK_FALSE(told(report, "inode number"));
  CHECK_FALSE(told(vfs(s.config()).probe(), ""));
  for (const char* fact : {"d_type", "reflink", "trusted xattrs", "user xattrs", "longest name", "free space"})
    CHECK_FALSE(kit::option_or(report.facts, fact, "").empty());
}

TEMPLATE_TEST_CASE("the probe answers on a file system that is read only or full, and says what helps", "", vfs,
                   overlayfs) {
  scratch s;
  const pid_t pid = ::fork();
  if (pid == 0) {  // in a mount namespace of its own
    int rc = 1;
    const auto usable = [&](std::string_view reason, std::string_view remedy) {
      auto config = s.config();
      config.directory = s.path + "/driver";
      const auto report = TestType(config).probe();
      return report.usable || report.reason.find(reason) == std::string::npos ||
             report.remedy.find(remedy) == std::string::npos;
    };
    const char* at = s.path.c_str();
    if (::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount("none", at, "tmpfs", 0, "nr_inodes=1") == 0)
      rc = usable("no space", "free space or inodes") ? 2
           : ::mount(nullptr, at, nullptr, MS_REMOUNT | MS_RDONLY, nullptr) != 0 ||
                   usable("read-only file system", "writable")
               ? 3
               : 0;
    ::_exit(rc);
  }
  int status = -1;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(status == 0);
}

TEMPLATE_TEST_CASE("the same id over a chain that differs far below conflicts", "", vfs, overlayfs) {
  scratch s;
  TestType driver(s.config());
  const stack one, two;
  const stack middle = one.above();
  for (const auto* l : {&one, &two, &middle}) {
    driver.create(*l, {});
    driver.freeze(l->id);
  }
  const stack top = middle.above();
  driver.create(top, {});
  driver.create(top, {});
  stack other = top;
  other.parents.back() = two.id;
  CHECK(refusal([&] { driver.create(other, {}); }) == kit::errc::conflict);
  other.parents.pop_back();
  CHECK(refusal([&] { driver.create(other, {}); }) == kit::errc::conflict);
}

TEST_CASE("a volatile layer is mounted so, again and again, and is another layer than one that is not") {
  scratch s;
  overlayfs driver(s.config());
  const stack low;
  driver.create(low, {});
  driver.freeze(low.id);
  const stack high = low.above();
  const std::vector<kit::option> yes{{"volatile", "true"}}, no{{"volatile", "false"}}, odd{{"volatile", "maybe"}};
  CHECK(refusal([&] { driver.create(high, odd); }) == kit::errc::invalid);
  driver.create(high, yes);
  driver.create(high, yes);
  CHECK(refusal([&] { driver.create(high, no); }) == kit::errc::conflict);
  CHECK(refusal([&] { driver.create(high, {}); }) == kit::errc::conflict);
  for (const char* name : {"first", "second"}) {
    const auto root = open_layer(driver, high, access::read_write);
    put(root.get(), name, name);
    CHECK(fs::exists(s.path + "/driver/layers/" + high.id.str() + "/work/work/incompat/volatile"));
  }
  CHECK(get(open_layer(driver, high, access::live).get(), "first") == "first");
  driver.freeze(high.id);
  CHECK(get(open_layer(driver, high, access::read_only).get(), "second") == "second");

  auto config = s.config();
  config.options = yes;
  overlayfs always(config);
  always.create(high, {});
  const stack other = low.above();
  always.create(other, no);
  driver.create(other, {});
}

TEST_CASE("overlayfs refuses to stand on an overlay, and says what to do") {
  scratch s;
  for (const char* name : {"/low", "/upper", "/work", "/merged"}) kit::make_directories(s.path + name);
  const pid_t pid = ::fork();
  if (pid == 0) {  // in a mount namespace of its own
    int rc = 1;
    if (::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) {
      kit::mount m;
      m.fstype = "overlay";
      m.options = {{"lowerdir", kit::mount_option::paths{{s.path + "/low"}}},
                   {"upperdir", kit::mount_option::path{s.path + "/upper"}},
                   {"workdir", kit::mount_option::path{s.path + "/work"}}};
      const auto tree = kit::make_detached({&m, 1});
      kit::driver_config config;
      config.directory = s.path + "/merged/driver";
      if (kit::attach_mount(tree.get(), kit::open_file(s.path + "/merged", O_PATH).get()) == 0) {
        const auto report = overlayfs(config).probe();
        rc = !report.usable && report.reason.find("overlay") != std::string::npos && !report.remedy.empty() &&
                     vfs(config).probe().usable
                 ? 0
                 : 2;
      }
    }
    ::_exit(rc);
  }
  int status = -1;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(status == 0);
}

TEST_CASE("overlayfs merges 128 layers and 499, and refuses more") {
  scratch s;
  overlayfs driver(s.config());
  stack top;
  for (int i = 0; i < 499; ++i) {
    driver.create(top, {});
    // Bottom and top hold something; what is between only has to be merged.
    const std::string diff = s.path + "/driver/layers/" + top.id.str() + "/diff";
    const auto directory = kit::open_file(diff, O_RDONLY | O_DIRECTORY);
    put(directory.get(), "layer-" + std::to_string(i));
    // The mark alone: 499 times syncfs would measure the disk.
    kit::replace_file(s.path + "/driver/layers/" + top.id.str() + "/frozen", "");
    if (i == 127 || i == 498) {
      const stack child = top.above();
      driver.create(child, {});
      const auto root = open_layer(driver, child, access::read_write);
      put(root.get(), "layer-0", "changed");
      put(root.get(), "new", "new");
      CHECK(get(root.get(), "layer-" + std::to_string(i)).empty());
      CHECK(get(root.get(), "layer-0") == "changed");
      CHECK(get(open_layer(driver, child, access::live).get(), "new") == "new");
      CHECK(get(open_layer(driver, top, access::read_only).get(), "layer-0").empty());
      std::vector<kit::change> seen;
      driver.changes(child, [&](const kit::change& c) { seen.push_back(c); });
      CHECK(seen ==
            std::vector<kit::change>{{kit::change::kind::modified, "layer-0"}, {kit::change::kind::added, "new"}});
      if (i == 498) {
        driver.freeze(child.id);
        CHECK(refusal([&] { driver.create(child.above(), {}); }) == kit::errc::unsupported);
      }
    }
    if (i < 498) top = top.above();
  }
}

TEST_CASE("the changes found in the upper directory are those that comparing everything finds") {
  scratch s;
  overlayfs driver(s.config());
  const auto seed = GENERATE(range(1U, 41U));
  INFO("seed " << seed);
  std::mt19937 random(seed);
  auto any = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  // Few names, so that steps meet: files, directories and links replace each other, deep and shallow.
  auto name = [&] {
    std::string p;
    for (int depth = 1 + any(3); depth > 0; --depth) p += (p.empty() ? "" : "/") + std::string(1, "abc-"[any(4)]);
    return p;
  };
  const auto step = [&](int root) {
    const std::string p = name(), q = name();
    const auto below = [&](const std::string& x) { return "/proc/self/fd/" + std::to_string(root) + "/" + x; };
    std::error_code ignored;
    switch (any(12)) {
      case 0:
      case 1: ::mkdirat(root, p.c_str(), 0755); break;
      case 2:
      case 3: {
        const kit::unique_fd f(::openat(root, p.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
        if (f) (void)!::pwrite(f.get(), "xyz", static_cast<std::size_t>(1 + any(3)), any(3));
        break;
      }
      case 4: {  // copied up and left alike
        struct stat st {};
        const kit::unique_fd f(::openat(root, p.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
        if (f && ::fstat(f.get(), &st) == 0 && S_ISREG(st.st_mode)) ::futimens(f.get(), &st.st_atim);
        if (f && S_ISREG(st.st_mode)) {
          const timespec times[2] = {st.st_atim, st.st_mtim};
          ::futimens(f.get(), times);
        }
        break;
      }
      case 5: ::unlinkat(root, p.c_str(), 0); break;
      case 6: fs::remove_all(below(p), ignored); break;
      case 7: ::symlinkat(any(2) == 0 ? "x" : "y", root, p.c_str()); break;
      case 8: ::linkat(root, p.c_str(), root, q.c_str(), 0); break;
      case 9: ::renameat(root, p.c_str(), root, q.c_str()); break;
      case 10: ::fchmodat(root, p.c_str(), any(2) == 0 ? 0755 : 0711, 0); break;
      case 11: ::lsetxattr(below(p).c_str(), "trusted.kit", any(2) == 0 ? "1" : "2", 1, 0); break;
    }
  };
  stack top;
  for (int layer = 0; layer < 4; ++layer) {
    driver.create(top, {});
    {
      const auto root = open_layer(driver, top, access::read_write);
      for (int i = 0; i < (layer == 0 ? 60 : 25); ++i) step(root.get());
      if (any(4) == 0) ::fchmodat(root.get(), ".", 0711, 0);
    }
    differences seen;
    driver.changes(top, [&](const kit::change& c) { seen.emplace_back(static_cast<kit::difference>(c.what), c.path); });
    driver.freeze(top.id);
    kit::unique_fd before;
    if (!top.parents.empty()) {
      stack parent;
      parent.id = top.parents.front();
      parent.parents.assign(top.parents.begin() + 1, top.parents.end());
      before = open_layer(driver, parent, access::read_only);
    }
    CHECK(seen == compared(before ? before.get() : -1, open_layer(driver, top, access::read_only).get()));
    CHECK((layer > 0 || !seen.empty()));
    top = top.above();
  }
}

TEST_CASE("a file copied up and left alike is no change; opaque and replaced directories are told exactly") {
  scratch s;
  overlayfs driver(s.config());
  const stack low;
  driver.create(low, {});
  {
    const auto root = open_layer(driver, low, access::read_write);
    for (const char* d : {"gone", "gone/deep", "again", "to-file"}) REQUIRE(::mkdirat(root.get(), d, 0755) == 0);
    for (const char* f : {"same", "touched", "gone/deep/f", "again/kept", "again/lost", "to-file/f", "to-dir", "a-b"})
      put(root.get(), f, "1");
    const timespec times[2] = {{1, 2}, {1000000000, 500}};
    for (const char* f : {"again/kept", "same"}) REQUIRE(::utimensat(root.get(), f, times, 0) == 0);
  }
  driver.freeze(low.id);
  const stack high = low.above();
  driver.create(high, {});
  {
    const auto root = open_layer(driver, high, access::read_write);
    const int r = root.get();
    const timespec times[2] = {{1, 2}, {1000000000, 500}};
    put(r, "same", "1");
    REQUIRE(::utimensat(r, "same", times, 0) == 0);
    REQUIRE(::utimensat(r, "touched", times, 0) == 0);
    const std::string base = "/proc/self/fd/" + std::to_string(r) + "/";
    for (const char* d : {"gone", "again", "to-file"}) fs::remove_all(base + d);
    REQUIRE(::mkdirat(r, "again", 0755) == 0);
    put(r, "again/kept", "1");
    REQUIRE(::utimensat(r, "again/kept", times, 0) == 0);
    put(r, "again/fresh", "1");
    put(r, "to-file", "1");
    REQUIRE(::unlinkat(r, "to-dir", 0) == 0);
    REQUIRE(::mkdirat(r, "to-dir", 0755) == 0);
    put(r, "to-dir/f", "1");
    REQUIRE(::mkdirat(r, "a", 0755) == 0);
    put(r, "a/x", "1");
    REQUIRE(::linkat(r, "a/x", r, "link", 0) == 0);
  }
  std::string seen;
  driver.changes(high, [&](const kit::change& c) { seen += "?AMD"[static_cast<int>(c.what)] + (" " + c.path) + "\n"; });
  CHECK(seen ==
        "A a\nA a/x\nA again/fresh\nD again/lost\nD gone\nA link\nM to-dir\nA to-dir/f\nM to-file\nM touched\n");
}

TEST_CASE("layers may be listed and removed by several processes at once") {
  scratch s;
  overlayfs driver(s.config());
  std::vector<stack> all(12);
  for (const auto& l : all) {
    driver.create(l, {});
    const auto root = open_layer(driver, l, access::read_write);
    for (int i = 0; i < 100; ++i) put(root.get(), std::to_string(i), "x");
  }
  std::vector<pid_t> children;
  for (int c = 0; c < 3; ++c) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      int rc = 0;
      try {
        overlayfs mine(s.config());
        for (std::size_t i = static_cast<std::size_t>(c); i < all.size(); i += 3) {
          mine.remove(all[i].id);
          mine.layers([](const kit::layer_state&) {});
        }
      } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
        rc = 1;
      }
      ::_exit(rc);
    }
    children.push_back(pid);
  }
  for (pid_t pid : children) {
    int status = -1;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(status == 0);
  }
  CHECK(states(driver).empty());
  CHECK(fs::is_empty(s.path + "/driver/trash"));
}
