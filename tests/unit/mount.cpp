// SPDX-License-Identifier: Apache-2.0
#include "kit/system/mount.hpp"

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace {

namespace fs = std::filesystem;
using kit::mount_option;

const bool root_only = [] {
  if (::geteuid() != 0) {
    std::puts("skipped: mounts need root");
    std::fflush(stdout);
    ::_exit(77);
  }
  return true;
}();

struct scratch {
  std::string path;
  scratch() {
    std::string name = fs::temp_directory_path() / "kit-mount.XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~scratch() { kit::remove_tree(path); }
  std::string directory(const std::string& name) const {
    kit::make_directories(path + "/" + name);
    return path + "/" + name;
  }
  void file(const std::string& name, const std::string& text) const {
    kit::make_directories(fs::path(path + "/" + name).parent_path());
    kit::replace_file(path + "/" + name, text);
  }
};

std::string mountinfo() { return kit::read_file("/proc/self/mountinfo"); }

std::size_t descriptors() {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& e : fs::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

/// Fails if the block left a mount on the host or a descriptor open.
struct leaves_nothing {
  std::string mounts = mountinfo();
  std::size_t fds = descriptors();
  ~leaves_nothing() {
    CHECK(mountinfo() == mounts);
    CHECK(descriptors() == fds);
  }
};

std::string text_in(const kit::unique_fd& tree, const std::string& name) {
  return kit::read_all(kit::open_at(tree.get(), name, O_RDONLY).get(), name);
}
kit::unique_fd made(const std::vector<kit::mount>& list, int userns = -1) { return kit::make_detached(list, userns); }

enum class way { appended, listed };

/// An overlay over `lowers` (top first), writable if `upper` is not empty.
kit::mount overlay(const std::vector<std::string>& lowers, way w, const std::string& upper = {},
                   const std::string& work = {}) {
  kit::mount m;
  m.fstype = "overlay";
  if (w == way::listed)
    m.options.push_back({"lowerdir", mount_option::paths{lowers}});
  else
    for (const auto& l : lowers) m.options.push_back({"lowerdir+", mount_option::path{l}});
  if (!upper.empty()) {
    m.options.push_back({"upperdir", mount_option::path{upper}});
    m.options.push_back({"workdir", mount_option::path{work}});
  }
  return m;
}

/// The error make_detached answers, or one that says it answered none.
kit::error refusal(const std::vector<kit::mount>& list) {
  try {
    made(list);
  } catch (const kit::error& e) {
    return e;
  }
  return {kit::errc::io, "nothing was refused"};
}

/// A descriptor of a user namespace that maps 0..65535 to `first` and onward, or an empty one.
kit::unique_fd user_namespace(unsigned first) {
  auto [ready_out, ready_in] = kit::make_pipe();
  auto [go_out, go_in] = kit::make_pipe();
  const pid_t pid = ::fork();
  if (pid == 0) {
    char c = ::unshare(CLONE_NEWUSER) == 0 ? 'y' : 'n';
    if (::write(ready_in.get(), &c, 1) != 1) ::_exit(1);
    go_in.reset();
    (void)!::read(go_out.get(), &c, 1);
    ::_exit(0);
  }
  char c = 'n';
  (void)!::read(ready_out.get(), &c, 1);
  kit::unique_fd ns;
  if (c == 'y') {
    const std::string proc = "/proc/" + std::to_string(pid);
    const std::string map = "0 " + std::to_string(first) + " 65536\n";
    for (const char* file : {"/uid_map", "/gid_map"})
      kit::write_all(kit::open_file(proc + file, O_WRONLY).get(), map, file);
    ns = kit::open_file(proc + "/ns/user", O_RDONLY);
  }
  go_in.reset();
  ::waitpid(pid, nullptr, 0);
  return ns;
}

}  // namespace

TEST_CASE("a bind shows the directory, and read only refuses writes") {
  scratch s;
  s.file("d/a", "hello");
  leaves_nothing guard;
  const auto tree = made({kit::mount::bind(s.path + "/d", true)});
  CHECK(text_in(tree, "a") == "hello");
  CHECK(::openat(tree.get(), "b", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) == -1);
  CHECK(errno == EROFS);
  const auto writable = made({kit::mount::bind(s.path + "/d", false)});
  kit::write_all(kit::open_at(writable.get(), "b", O_WRONLY | O_CREAT, 0600).get(), "x", "b");
  CHECK(kit::read_file(s.path + "/d/b") == "x");
}

TEST_CASE("an overlay of three and of 300 layers, appended or listed") {
  const way w = GENERATE(way::appended, way::listed);
  const int count = GENERATE(3, 300);
  if (w == way::appended && !kit::overlay_appends_lowers()) return;
  scratch s;
  std::vector<std::string> lowers;
  for (int i = 0; i < count; ++i) {
    const std::string name = "layer-with-a-name-as-long-as-drivers-give-it-" + std::to_string(i);
    s.file(name + "/only-" + std::to_string(i), std::to_string(i));
    s.file(name + "/top", std::to_string(i));
    lowers.push_back(s.path + "/" + name);
  }
  leaves_nothing guard;
  const auto tree = made({overlay(lowers, w)});
  CHECK(text_in(tree, "top") == "0");
  for (int i : {0, count / 2, count - 1}) CHECK(text_in(tree, "only-" + std::to_string(i)) == std::to_string(i));
}

TEST_CASE("a writable overlay keeps what is written in its upper directory, through the helper too") {
  const way w = GENERATE(way::appended, way::listed);
  if (w == way::appended && !kit::overlay_appends_lowers()) return;
  scratch s;
  s.file("low/a", "low");
  // Many names of one long path: more than one fsconfig string holds.
  std::vector<std::string> lowers{s.path + "/low"};
  for (int i = 0; i < 20; ++i) lowers.push_back(s.directory("filler-" + std::to_string(i)));
  const std::string upper = s.directory("upper"), work = s.directory("work");
  leaves_nothing guard;
  {
    const auto tree = made({overlay(lowers, w, upper, work)});
    kit::write_all(kit::open_at(tree.get(), "a", O_WRONLY | O_TRUNC).get(), "new", "a");
    CHECK(text_in(tree, "a") == "new");
  }
  CHECK(kit::read_file(upper + "/a") == "new");
  CHECK(kit::read_file(s.path + "/low/a") == "low");
}

TEST_CASE("read only holds through the helper: as attribute and as flag") {
  scratch s;
  std::vector<std::string> lowers;
  for (int i = 0; i < 20; ++i) lowers.push_back(s.directory("filler-" + std::to_string(i)));
  auto m = overlay(lowers, way::listed, s.directory("upper"), s.directory("work"));
  if (GENERATE(true, false))
    m.attributes = MOUNT_ATTR_RDONLY;
  else
    m.options.push_back({"ro", mount_option::flag{}});
  const auto tree = made({m});
  CHECK(::openat(tree.get(), "b", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) == -1);
  CHECK(errno == EROFS);
}

TEST_CASE("paths with commas, colons and backslashes, and paths longer than an fsconfig string") {
  const way w = GENERATE(way::appended, way::listed);
  if (w == way::appended && !kit::overlay_appends_lowers()) return;
  scratch s;
  const std::string odd = "a,b:c\\d e";
  std::string deep;
  for (int i = 0; i < 4; ++i) deep += std::string(100, 'd') + "/";
  s.file(odd + "/one", "1");
  s.file(deep + "two", "2");
  const auto tree = made({overlay({s.path + "/" + odd, s.path + "/" + deep}, w)});
  CHECK(text_in(tree, "one") == "1");
  CHECK(text_in(tree, "two") == "2");
}

TEST_CASE("the result of an earlier entry is a layer of a later one") {
  scratch s;
  s.file("low/a", "low");
  s.file("high/b", "high");
  leaves_nothing guard;
  kit::mount m;
  m.fstype = "overlay";
  if (kit::overlay_appends_lowers()) {
    m.options.push_back({"lowerdir+", mount_option::path{s.path + "/high"}});
    m.options.push_back({"lowerdir+", mount_option::result{0}});
  } else {
    m.options.push_back({"lowerdir", mount_option::result{0}});
    m.options.push_back({"upperdir", mount_option::path{s.path + "/high"}});
    m.options.push_back({"workdir", mount_option::path{s.directory("work")}});
  }
  const auto tree = made({kit::mount::bind(s.path + "/low", true), m});
  CHECK(text_in(tree, "a") == "low");
  CHECK(text_in(tree, "b") == "high");
}

TEST_CASE("a target is resolved inside the root") {
  scratch s;
  s.directory("root/inside");
  s.directory("elsewhere");
  REQUIRE(::symlink((s.path + "/elsewhere").c_str(), (s.path + "/root/absolute").c_str()) == 0);
  REQUIRE(::symlink("../../../../elsewhere", (s.path + "/root/relative").c_str()) == 0);
  REQUIRE(::symlink("/inside", (s.path + "/root/fine").c_str()) == 0);
  s.file("volume/v", "volume");
  auto volume = kit::mount::bind(s.path + "/volume", false);
  const auto root = kit::mount::bind(s.path + "/root", false);
  leaves_nothing guard;

  volume.target = "fine";
  CHECK(text_in(made({root, volume}), "inside/v") == "volume");
  for (const char* escape : {"absolute", "relative"}) {
    volume.target = escape;
    const auto e = refusal({root, volume});
    CHECK(e.code() == kit::errc::not_found);
    CHECK(std::string(e.what()).find(escape) != std::string::npos);
  }
  volume.target = "../../elsewhere";
  CHECK(refusal({root, volume}).code() == kit::errc::not_found);
  CHECK(fs::is_empty(s.path + "/elsewhere"));
}

TEST_CASE("a reconfigure entry changes the last one made") {
  kit::mount tmpfs, remount;
  tmpfs.fstype = remount.fstype = "tmpfs";
  tmpfs.options = {{"size", std::string("64k")}, {"mode", std::string("0750")}};
  remount.what = kit::mount::action::reconfigure;
  remount.options = {{"size", std::string("128k")}};
  leaves_nothing guard;
  const auto tree = made({tmpfs, remount});
  const auto file = kit::open_at(tree.get(), "f", O_RDWR | O_CREAT, 0600);
  CHECK(::posix_fallocate(file.get(), 0, 100 << 10) == 0);
  CHECK(::posix_fallocate(file.get(), 0, 200 << 10) == ENOSPC);
  struct stat st {};
  REQUIRE(::fstat(tree.get(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0750);
}

TEST_CASE("a user namespace's mapping is applied to binds and to every path of an overlay") {
  const auto ns = user_namespace(300000);
  if (!ns) {
    WARN("skipped: this kernel makes no user namespaces");
    return;
  }
  scratch s;
  s.file("low/a", "low");
  std::vector<std::string> lowers{s.path + "/low"};
  if (GENERATE(false, true))
    for (int i = 0; i < 20; ++i) lowers.push_back(s.directory("filler-" + std::to_string(i)));
  const std::string upper = s.directory("top/diff"), work = s.directory("top/work");
  leaves_nothing guard;
  struct stat st {};
  auto owner = [&](const kit::unique_fd& tree, const char* name) {
    REQUIRE(::fstatat(tree.get(), name, &st, AT_SYMLINK_NOFOLLOW) == 0);
    return st.st_uid;
  };
  try {
    const auto bound = made({kit::mount::bind(s.path + "/low", false)}, ns.get());
    CHECK(owner(bound, "a") == 300000);
  } catch (const kit::error& e) {
    if (e.code() != kit::errc::unsupported) throw;
    WARN("skipped: " << e.what());
    return;
  }
  const way w = lowers.size() == 1 && kit::overlay_appends_lowers() ? way::appended : way::listed;
  const auto tree = made({overlay(lowers, w, upper, work)}, ns.get());
  CHECK(owner(tree, "a") == 300000);
  ::setfsgid(300000);
  ::setfsuid(300000);
  const int b = ::openat(tree.get(), "b", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ::setfsuid(0);
  ::setfsgid(0);
  REQUIRE(b >= 0);
  ::close(b);
  REQUIRE(::fchownat(tree.get(), "b", 300007, 300007, 0) == 0);
  // On disk the upper directory has the unshifted owner, so that a diff needs no arithmetic.
  REQUIRE(::stat((upper + "/b").c_str(), &st) == 0);
  CHECK(st.st_uid == 7);
  // A copy-up is made by whoever mounted, who must be somebody in the mapping.
  REQUIRE(::fchownat(tree.get(), "a", 300007, 300007, 0) == 0);
  REQUIRE(::stat((upper + "/a").c_str(), &st) == 0);
  CHECK(st.st_uid == 7);
}

TEST_CASE("attach_mount puts a detached tree on an open directory") {
  scratch s;
  s.file("d/a", "hello");
  s.directory("at");
  leaves_nothing guard;
  const pid_t pid = ::fork();
  if (pid == 0) {  // in a namespace of its own: the host sees nothing
    int rc = 1;
    if (::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) {
      const auto tree = made({kit::mount::bind(s.path + "/d", true)});
      rc = kit::attach_mount(tree.get(), kit::open_file(s.path + "/at", O_PATH).get()) == 0 &&
                   ::access((s.path + "/at/a").c_str(), F_OK) == 0
               ? 0
               : 2;
    }
    ::_exit(rc);
  }
  int status = -1;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(status == 0);
  CHECK(kit::attach_mount(-1, -1) == -EBADF);
}

TEST_CASE("what cannot be mounted is refused with the object, the option and the kernel's own words") {
  scratch s;
  const std::string low = s.directory("low");
  leaves_nothing guard;
  auto says = [](const kit::error& e, std::initializer_list<std::string> words) {
    const std::string text = e.what();
    INFO(text);
    for (const std::string& w : words) CHECK(text.find(w) != std::string::npos);
    return e.code();
  };
  kit::mount m;
  CHECK(says(refusal({}), {"no root"}) == kit::errc::invalid);
  CHECK(says(refusal({m}), {"no file system type"}) == kit::errc::invalid);
  m.fstype = "no-such-fs";
  CHECK(says(refusal({m}), {"no-such-fs", "this kernel has no such"}) == kit::errc::unsupported);
  CHECK(says(refusal({kit::mount::bind(s.path + "/absent", true)}), {s.path + "/absent"}) == kit::errc::not_found);
  CHECK(says(refusal({kit::mount::bind("relative", true)}), {"relative"}) == kit::errc::invalid);
  m.fstype = "tmpfs";
  m.options = {{"no-such-option", std::string("7")}};
  CHECK(says(refusal({m}), {"tmpfs", "no-such-option=7", "Unknown parameter"}) == kit::errc::invalid);
  m.options = {{"mode", mount_option::result{0}}};
  CHECK(says(refusal({m}), {"mode", "entry 0"}) == kit::errc::invalid);
  m.options.clear();
  m.target = "somewhere";
  CHECK(says(refusal({m}), {"somewhere", "no root"}) == kit::errc::invalid);
  m.target.clear();
  m.what = kit::mount::action::reconfigure;
  CHECK(says(refusal({m}), {"nothing was made"}) == kit::errc::invalid);
  if (kit::overlay_appends_lowers())
    CHECK(says(refusal({overlay({low, s.path + "/absent"}, way::appended)}), {"absent"}) == kit::errc::not_found);
  CHECK(says(refusal({overlay({low, "relative"}, way::listed)}), {"relative"}) == kit::errc::invalid);
  CHECK(says(refusal({overlay(std::vector<std::string>(2000, low), way::listed)}), {"fewer layers"}) ==
        kit::errc::invalid);
  // Through the helper: more text than one fsconfig string.
  std::vector<std::string> many(20, s.path + "/absent");
  CHECK(says(refusal({overlay(many, way::listed)}), {"overlay", "mount helper"}) == kit::errc::not_found);
}
