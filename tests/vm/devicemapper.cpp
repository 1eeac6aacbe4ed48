// SPDX-License-Identifier: Apache-2.0
// What the conformance suite cannot show of devicemapper: pools that are full, woken again, older than their directory.
#include "drivers/storage/devicemapper.hpp"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "drivers/storage/detail/thin_pool.hpp"
#include "kit/system/device_mapper.hpp"
#include "kit/system/error.hpp"
#include "kit/system/loop.hpp"
#include "kit/testing/tree.hpp"

namespace kit::testing {
namespace {

using drivers::devicemapper;

/// A root of the test's own: where it goes, nothing of it is left in the kernel.
class root_directory {
 public:
  root_directory() {
    const char* told = std::getenv("TMPDIR");
    std::string path = std::string(told != nullptr ? told : "/tmp") + "/kit-dm-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) fail_errno(errno, "make a directory");
    config.directory = path + "/driver";
    config.root_tag = path.substr(path.size() - 6);
    config.options = {{"data_size", "64m"}, {"base_size", "256m"}};
    if (const probe_report report = devicemapper(config).probe(); !report.usable) {
      remove_tree(path);
      fmt::print("skipped: {}\n", report.reason);
      std::exit(77);
    }
  }
  root_directory(const root_directory&) = delete;
  root_directory& operator=(const root_directory&) = delete;
  ~root_directory() {
    try {
      devicemapper d(config);
      std::vector<layer_id> all;
      d.layers([&](const layer_state& s) { all.push_back(s.id); });
      for (const layer_id& id : all) d.remove(id);
      d.layers([](const layer_state&) {});
      CHECK(!pool().look());
      remove_tree(config.directory.substr(0, config.directory.rfind('/')));
    } catch (const error& e) {
      FAIL_CHECK(e.what());
    }
  }
  mapped_device pool() const { return mapped_device("kit-" + config.root_tag + "-pool"); }
  /// What a reboot leaves: no device.
  void reboot() const {
    for (unsigned id = 0; id < 300; ++id)
      CHECK(mapped_device(fmt::format("kit-{}-thin-{}", config.root_tag, id)).remove());
    REQUIRE(pool().remove());
  }
  driver_config config;
};

unique_fd open_layer(devicemapper& d, const layer& l, access a) {
  d.activate(l, a);
  unique_fd tree = make_detached(d.mounts(l, a));
  d.release(l);
  return tree;
}

/// Writes until something fails: 0, or that errno.
int fill(int root, int mebibytes) {
  const unique_fd file = open_at(root, "fill", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const std::string data(1048576, 'x');
  for (int i = 0; i < mebibytes; ++i)
    if (::write(file.get(), data.data(), data.size()) < 0 || ::fsync(file.get()) != 0) return errno;
  return 0;
}

errc code_of(function_ref<void()> call) {
  try {
    call();
  } catch (const error& e) {
    INFO(e.what());
    return e.code();
  }
  return {};
}

TEST_CASE("after a reboot layers read as before, and can be written and built upon") {
  const root_directory root;
  const auto parent = random_id<layer_id>(), child = random_id<layer_id>();
  const std::vector<layer_id> chain{parent};
  {
    devicemapper d(root.config);
    d.create({parent, {}}, {});
    put_file(open_layer(d, {parent, {}}, access::read_write).get(), "low", "1");
    d.freeze(parent);
    d.create({child, chain}, {});
    put_file(open_layer(d, {child, chain}, access::read_write).get(), "high", "2");
  }
  root.reboot();
  devicemapper d(root.config);
  {
    const unique_fd tree = open_layer(d, {child, chain}, access::read_write);
    CHECK(get_file(tree.get(), "low") == "1");
    CHECK(get_file(tree.get(), "high") == "2");
    CHECK(names(tree.get()).size() == 2);
    put_file(tree.get(), "later", "3");
  }
  const auto third = random_id<layer_id>();
  d.create({third, chain}, {});
  CHECK(names(open_layer(d, {third, chain}, access::live).get()) == std::vector<std::string>{"low"});
}

TEST_CASE("a device whose note a power cut took is deleted at the next wake, and no other") {
  const root_directory root;
  const auto kept = random_id<layer_id>(), lost = random_id<layer_id>();
  {
    devicemapper d(root.config);
    d.create({kept, {}}, {});
    d.create({lost, {}}, {});
  }
  const std::string directory = root.config.directory + "/layers/" + lost.str();
  const unsigned id = static_cast<unsigned>(std::stoul(std::filesystem::read_symlink(directory + "/thin")));
  remove_tree(directory);
  root.reboot();
  devicemapper d(root.config);
  CHECK(names(open_layer(d, {kept, {}}, access::read_write).get()).empty());
  // The id is free: what is made under it now was not there.
  root.pool().message(fmt::format("create_thin {}", id));
  root.pool().message(fmt::format("delete {}", id));
}

TEST_CASE("a full pool answers no_space, and goes on when a layer is removed") {
  const root_directory root;
  const auto small = random_id<layer_id>(), big = random_id<layer_id>(), next = random_id<layer_id>();
  devicemapper d(root.config);
  d.create({small, {}}, {});
  put_file(open_layer(d, {small, {}}, access::read_write).get(), "a", "1");
  d.create({big, {}}, {});
  {
    const unique_fd tree = open_layer(d, {big, {}}, access::read_write);
    const int e = fill(tree.get(), 200);
    INFO(errno_text(e));
    CHECK((e == ENOSPC || e == EIO || e == EROFS));
  }
  CHECK(code_of([&] { d.create({next, {}}, {}); }) == errc::no_space);
  CHECK(code_of([&] { d.usage({next, {}}); }) == errc::not_found);
  d.remove(big);
  d.layers([](const layer_state&) {});
  d.create({next, {}}, {});
  CHECK(fill(open_layer(d, {next, {}}, access::read_write).get(), 8) == 0);
  CHECK(get_file(open_layer(d, {small, {}}, access::live).get(), "a") == "1");
}

TEST_CASE("a full pool goes on when it has grown") {
  root_directory root;
  const auto big = random_id<layer_id>(), next = random_id<layer_id>();
  {
    devicemapper d(root.config);
    d.create({big, {}}, {});
    CHECK(fill(open_layer(d, {big, {}}, access::read_write).get(), 200) != 0);
    CHECK(code_of([&] { d.create({next, {}}, {}); }) == errc::no_space);
  }
  root.config.options.push_back({"data_size", "160m"});
  devicemapper d(root.config);
  d.create({next, {}}, {});
  CHECK(fill(open_layer(d, {next, {}}, access::read_write).get(), 32) == 0);
}

TEST_CASE("removed layers give their space back to the file") {
  const root_directory root;
  const auto keep = random_id<layer_id>(), big = random_id<layer_id>();
  devicemapper d(root.config);
  d.create({keep, {}}, {});
  const auto taken = [&] {
    struct stat st {};
    ::stat((root.config.directory + "/pool/data").c_str(), &st);
    return st.st_blocks / 2048;
  };
  const auto before = taken();
  d.create({big, {}}, {});
  REQUIRE(fill(open_layer(d, {big, {}}, access::read_write).get(), 24) == 0);
  CHECK(taken() >= before + 24);
  d.remove(big);
  d.layers([](const layer_state&) {});
  CHECK(taken() <= before + 2);
}

TEST_CASE("a size given at create holds from the first mount on, for root as well") {
  const root_directory root;
  const auto id = random_id<layer_id>();
  devicemapper d(root.config);
  const option size{"size", "8m"}, too_large{"size", "1t"};
  d.create({id, {}}, {&size, 1});
  d.create({id, {}}, {&size, 1});
  CHECK(code_of([&] { d.create({id, {}}, {}); }) == errc::conflict);
  CHECK(fill(open_layer(d, {id, {}}, access::read_write).get(), 12) == ENOSPC);
  CHECK(code_of([&] { d.create({random_id<layer_id>(), {}}, {&too_large, 1}); }) == errc::invalid);
}

TEST_CASE("in a user namespace a layer's files have the owners its mapping says") {
  const root_directory root;
  const auto id = random_id<layer_id>();
  devicemapper d(root.config);
  d.create({id, {}}, {});
  auto [ready, tell] = make_pipe();
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::unshare(CLONE_NEWUSER) == 0) (void)!::write(tell.get(), "x", 1);
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  REQUIRE(::read(ready.get(), &byte, 1) == 1);
  for (const char* map : {"uid_map", "gid_map"})
    write_all(open_file(fmt::format("/proc/{}/{}", pid, map), O_WRONLY).get(), "0 100000 65536\n", map);
  const unique_fd userns = open_file(fmt::format("/proc/{}/ns/user", pid), O_RDONLY);
  {
    d.activate({id, {}}, access::read_write);
    const unique_fd tree = make_detached(d.mounts({id, {}}, access::read_write), userns.get());
    d.release({id, {}});
    struct stat st {};
    CHECK(::fstat(tree.get(), &st) == 0);
    CHECK(st.st_uid == 100000);
    CHECK(st.st_gid == 100000);
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

TEST_CASE("a mounted layer can be removed; its device goes with the mount") {
  const root_directory root;
  const auto keep = random_id<layer_id>(), id = random_id<layer_id>();
  devicemapper d(root.config);
  d.create({keep, {}}, {});
  d.create({id, {}}, {});
  {
    const unique_fd tree = open_layer(d, {id, {}}, access::read_write);
    put_file(tree.get(), "a", "1");
    d.remove(id);
    CHECK(get_file(tree.get(), "a") == "1");
    d.create({id, {}}, {});
    CHECK(names(open_layer(d, {id, {}}, access::read_write).get()).empty());
  }
  d.layers([](const layer_state&) {});
  CHECK(std::filesystem::is_empty(root.config.directory + "/trash"));
}

TEST_CASE("first use killed at any moment is made whole by the next") {
  const root_directory root;
  for (int i = 0; i < 12; ++i) {
    const auto id = random_id<layer_id>();
    const pid_t pid = ::fork();
    if (pid == 0) {
      try {
        devicemapper d(root.config);
        d.create({id, {}}, {});
      } catch (...) {}
      ::_exit(0);
    }
    ::usleep(static_cast<unsigned>(i) * 20'000);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    devicemapper d(root.config);
    d.create({id, {}}, {});
    CHECK(names(open_layer(d, {id, {}}, access::read_write).get()).empty());
    d.remove(id);
    CHECK(!root.pool().look());
    remove_tree(root.config.directory);
  }
}

TEST_CASE("a pool that was emptied is refused, not begun anew") {
  const root_directory root;
  const auto id = random_id<layer_id>();
  {
    devicemapper d(root.config);
    d.create({id, {}}, {});
  }
  root.reboot();
  const std::string metadata = root.config.directory + "/pool/metadata";
  std::filesystem::rename(metadata, metadata + ".away");
  devicemapper d(root.config);
  CHECK(code_of([&] { d.activate({id, {}}, access::live); }) == errc::conflict);
  std::filesystem::rename(metadata + ".away", metadata);
  CHECK(names(open_layer(d, {id, {}}, access::live).get()).empty());
}

std::string message_of(function_ref<void()> call) {
  try {
    call();
  } catch (const error& e) {
    return e.what();
  }
  return {};
}

TEST_CASE("a pool whose files are damaged, cut off or of another is refused with its name, and wakes when restored") {
  const root_directory root;
  const auto id = random_id<layer_id>();
  {
    devicemapper d(root.config);
    d.create({id, {}}, {});
    put_file(open_layer(d, {id, {}}, access::read_write).get(), "kept", "1");
  }
  root.reboot();
  const std::string pool = root.config.directory + "/pool/";
  const auto overwrite = [&](const char* file, off_t at, const std::string& bytes) {
    const unique_fd fd = open_file(pool + file, O_WRONLY);
    REQUIRE(::pwrite(fd.get(), bytes.data(), bytes.size(), at) == static_cast<ssize_t>(bytes.size()));
  };
  const auto cut = [&](const char* file, std::uintmax_t bytes) { std::filesystem::resize_file(pool + file, bytes); };
  struct {
    const char* what;
    const char* file;
    std::function<void()> harm;
    std::string said;
  } const cases[] = {
      {"a checksum is wrong", "metadata", [&] { overwrite("metadata", 100, "x"); }, "thin_check"},
      {"a tree is overwritten", "metadata", [&] { overwrite("metadata", 4096, std::string(200 * 4096, 'x')); }, "pool"},
      {"something else", "metadata", [&] { overwrite("metadata", 0, std::string(4096, 'x')); }, "no pool"},
      {"cut off", "metadata", [&] { cut("metadata", 16 * 4096); }, "cut off"},
      {"cut off within a block", "metadata", [&] { cut("metadata", 100); }, "cut off"},
      {"emptied", "metadata", [&] { cut("metadata", 0); }, "empty"},
      {"data cut off", "data", [&] { cut("data", 1 << 20); }, "cut off"},
      {"data emptied", "data", [&] { cut("data", 0); }, "emptied"},
  };
  for (const auto& c : cases) {
    INFO(c.what);
    std::filesystem::copy_file(pool + c.file, pool + "away");
    const auto size = std::filesystem::file_size(pool + c.file);
    c.harm();
    const auto harmed = std::filesystem::file_size(pool + c.file);
    devicemapper d(root.config);
    const std::string said = message_of([&] {
      open_layer(d, {id, {}}, access::read_write);
      d.create({random_id<layer_id>(), {}}, {});
    });
    INFO(said);
    CHECK(said.find(c.said) != std::string::npos);
    CHECK(said.find(root.config.directory) != std::string::npos);
    CHECK(said.find('\n') == std::string::npos);
    CHECK(std::filesystem::file_size(pool + c.file) == harmed);  // nothing is made of it that it was not
    CHECK(harmed <= size);
    root.reboot();
    std::filesystem::remove(pool + c.file);
    std::filesystem::rename(pool + "away", pool + c.file);
  }
  devicemapper d(root.config);
  CHECK(get_file(open_layer(d, {id, {}}, access::read_write).get(), "kept") == "1");
}

TEST_CASE("full metadata answers no_space, and goes on when layers go or its device has grown") {
  const root_directory root;
  driver_config config = root.config;
  const std::string files = config.directory + "-files";
  make_directory(files, 0700);
  std::vector<loop_device> loops;
  const auto device = [&](const char* name, off_t bytes) {
    const unique_fd file = open_file(files + "/" + name, O_RDWR | O_CREAT, 0600);
    REQUIRE(::ftruncate(file.get(), bytes) == 0);
    loops.push_back(loop_device::attach(file.get()));
    return fmt::format("/dev/loop{}", minor(loops.back().number()));
  };
  config.options = {{"base_size", "64m"},
                    {"data_device", device("data", 128 << 20)},
                    {"metadata_device", device("metadata", 192 << 10)}};
  const auto base = random_id<layer_id>();
  const std::vector<layer_id> chain{base};
  std::vector<layer_id> made;
  const auto make_until_refused = [&](int most) {
    devicemapper d(config);
    return message_of([&] {
      for (int i = 0; i < most; ++i) {
        const auto id = random_id<layer_id>();
        d.create({id, chain}, {});
        made.push_back(id);
        put_file(open_layer(d, {id, chain}, access::read_write).get(), "a", std::string(100'000, 'x'));
      }
    });
  };
  {
    devicemapper d(config);
    d.create({base, {}}, {});
    put_file(open_layer(d, {base, {}}, access::read_write).get(), "low", "1");
    d.freeze(base);
  }
  const std::string refused = make_until_refused(200);
  INFO(refused);
  CHECK(refused.find("metadata of the pool") != std::string::npos);
  CHECK(refused.find("metadata_device") != std::string::npos);
  REQUIRE(made.size() > 3);
  {
    devicemapper d(config);
    CHECK(get_file(open_layer(d, {made.back(), chain}, access::live).get(), "low") == "1");
    for (int i = 0; i < 3; ++i, made.pop_back()) d.remove(made.back());
    d.layers([](const layer_state&) {});
    made.push_back(random_id<layer_id>());
    d.create({made.back(), chain}, {});
  }
  root.reboot();
  REQUIRE(::truncate((files + "/metadata").c_str(), 2 << 20) == 0);
  loops.back().grow();
  CHECK(make_until_refused(10) == "");
  devicemapper d(config);
  for (const layer_id& id : made) d.remove(id);
  d.remove(base);
  d.layers([](const layer_state&) {});
  loops.clear();
  remove_tree(files);
}

}  // namespace
}  // namespace kit::testing
