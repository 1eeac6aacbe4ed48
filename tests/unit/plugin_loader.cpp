// SPDX-License-Identifier: Apache-2.0
#include "kit/plugin/loader.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace fs = std::filesystem;
using kit::errc;

namespace {

/// A directory that only root can write, removed with all in it.
class scratch_directory {
 public:
  scratch_directory() {
    char name[] = "/tmp/kit-loader-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~scratch_directory() { fs::remove_all(path_); }
  scratch_directory(const scratch_directory&) = delete;
  fs::path operator/(const std::string& name) const { return fs::path(path_) / name; }
  const std::string& str() const { return path_; }

 private:
  std::string path_;
};

std::string built(const std::string& file) { return KIT_TEST_PLUGINS "/" + file; }

/// How `act` fails: its code and message; "" if it does not.
struct failure {
  errc code{};
  std::string message;
};
template <class Act>
failure failure_of(Act act) {
  try {
    act();
  } catch (const kit::error& e) {
    return {e.code(), e.what()};
  }
  return {};
}
failure refusal(const std::string& path) {
  return failure_of([&] { kit::load_plugin_file(path); });
}

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("a plugin wrong from one row of the refusal table on is refused for that row") {
  struct {
    int row;
    errc code;
    const char* words;
  } rows[] = {
      {1, errc::invalid, "magic"},
      {2, errc::unsupported, "major version 99"},
      {3, errc::unsupported, "descriptor"},
      {4, errc::unsupported, "table of 16 bytes"},
      {5, errc::unsupported, "is NULL"},
      {6, errc::invalid, "family is network, not storage"},
      {7, errc::invalid, "\"another\", not refused"},
  };
  for (const auto& r : rows) {
    INFO("row " << r.row);
    const std::string path = built("refused/" + std::to_string(r.row) + "/kit-storage-refused.so");
    const failure f = refusal(path);
    CHECK(f.code == r.code);
    CHECK_THAT(f.message, Contains(r.words) && Contains(path));
  }
}

TEST_CASE("the plugin's own veto comes last and keeps its status and words") {
  const auto p = kit::load_plugin_file(built("refused/8/kit-storage-refused.so"));
  const failure f = failure_of([&] { (void)p.open_storage({}); });
  CHECK(f.code == errc::busy);
  CHECK(f.message == "the plugin's own veto");
  CHECK_NOTHROW((void)kit::load_plugin_file(built("refused/9/kit-storage-refused.so")).open_storage({}));
}

TEST_CASE("what is no plugin is invalid") {
  scratch_directory dir;
  std::ofstream(dir / "kit-storage-text.so")
      << "not an ELF file, but long enough to be read as a header of one: " << std::string(200, 'x');
  CHECK(refusal(dir / "kit-storage-text.so").code == errc::invalid);
  CHECK_THAT(refusal(dir / "kit-storage-text.so").message, Contains("invalid ELF header"));

  CHECK(refusal(built("kit-storage-empty.so")).code == errc::invalid);
  CHECK_THAT(refusal(built("kit-storage-empty.so")).message, Contains("no symbol kit_plugin_descriptor"));

  fs::copy_file(built("kit-storage-frozen.so"), dir / "frozen.so");
  CHECK(refusal(dir / "frozen.so").code == errc::invalid);
  CHECK_THAT(refusal(dir / "frozen.so").message, Contains("kit-FAMILY-NAME.so"));

  CHECK(refusal(dir / "kit-storage-absent.so").code == errc::not_found);
  CHECK(refusal("/nonexistent/kit-storage-absent.so").code == errc::not_found);
}

TEST_CASE("a file or directory that others can change is refused before it is loaded") {
  if (::geteuid() != 0) return;  // needs files of another owner
  scratch_directory dir;
  const fs::path file = dir / "kit-storage-frozen.so";
  const auto put = [&] {
    fs::remove(file);
    fs::copy_file(built("kit-storage-frozen.so"), file);
    REQUIRE(::chmod(file.c_str(), 0755) == 0);
  };
  put();
  CHECK_NOTHROW(kit::load_plugin_file(file));  // although /tmp is writable by all: it is sticky

  SECTION("world-writable file") {
    REQUIRE(::chmod(file.c_str(), 0757) == 0);
    CHECK_THAT(refusal(file).message, Contains("writable by others"));
  }
  SECTION("group-writable file") {
    REQUIRE(::chown(file.c_str(), 0, 65534) == 0);
    REQUIRE(::chmod(file.c_str(), 0775) == 0);
    CHECK_THAT(refusal(file).message, Contains("writable by group 65534"));
  }
  SECTION("another user's file") {
    REQUIRE(::chown(file.c_str(), 65534, 0) == 0);
    CHECK_THAT(refusal(file).message, Contains("belongs to user 65534"));
  }
  SECTION("world-writable directory") {
    REQUIRE(::chmod(dir.str().c_str(), 0777) == 0);
    CHECK_THAT(refusal(file).message, Contains(dir.str() + " is writable by others"));
  }
  SECTION("another user's directory above") {
    fs::create_directory(dir / "below");
    fs::copy_file(file, dir / "below" / file.filename());
    REQUIRE(::chown(dir.str().c_str(), 65534, 0) == 0);
    CHECK_THAT(refusal(dir / "below" / file.filename()).message, Contains(dir.str() + " belongs to user 65534"));
  }
  SECTION("symbolic link") {
    fs::create_directory(dir / "links");
    fs::create_symlink(file, dir / "links" / file.filename());
    CHECK_THAT(refusal(dir / "links" / file.filename()).message, Contains("not a regular file"));
  }
  SECTION("fifo") {
    fs::remove(file);
    REQUIRE(::mkfifo(file.c_str(), 0600) == 0);
    CHECK_THAT(refusal(file).message, Contains("not a regular file"));
  }
  const failure f = refusal(dir / "links" / file.filename());
  CHECK((f.code == errc::permission || f.code == errc::not_found));
}

TEST_CASE("a symbolic link to a directory is followed, and the real path is what is checked") {
  if (::geteuid() != 0) return;
  scratch_directory dir;
  fs::create_directory(dir / "real");
  fs::create_directory_symlink(dir / "real", dir / "link");
  const std::string name = "kit-storage-frozen.so";
  fs::copy_file(built(name), dir / "real" / name);
  CHECK(kit::load_plugin_file(dir / "link" / name).path() == (dir / "real" / name).string());
  REQUIRE(::chmod((dir / "real").c_str(), 0777) == 0);
  CHECK(refusal(dir / "link" / name).code == errc::permission);
}

TEST_CASE("a plugin tells who it is and what options it takes") {
  const auto p = kit::load_plugin_file(built("kit-storage-talker.so"));
  CHECK(p.kind() == kit::family::storage);
  CHECK(p.name() == "talker");
  CHECK(p.version() == "2.5");
  CHECK(p.licence() == "Apache-2.0");
  CHECK_FALSE(p.compiler().empty());
  CHECK(p.path() == fs::canonical(built("kit-storage-talker.so")));
  const auto options = p.options();
  REQUIRE(options.size() == 1);
  CHECK(options[0].key == "depth");
  CHECK(options[0].kind == kit::option_schema::type::integer);
  CHECK(options[0].default_value == "3");
  CHECK(options[0].help == "how deep");

  kit::driver_config config;
  config.options = {{"depth", "4"}};
  CHECK_NOTHROW((void)p.open_storage(config));
  config.options = {{"dept", "4"}};
  const failure unknown = failure_of([&] { (void)p.open_storage(config); });
  CHECK(unknown.code == errc::invalid);
  CHECK(unknown.message == "storage driver talker has no option \"dept\": it has depth");
  CHECK(failure_of([&] { (void)p.open_network({}); }).code == errc::invalid);
}

TEST_CASE("the first directory that has the file decides") {
  scratch_directory dir;
  fs::create_directory(dir / "first");
  fs::create_directory(dir / "second");
  fs::copy_file(built("kit-storage-frozen.so"), dir / "second" / "kit-storage-frozen.so");
  fs::copy_file(built("kit-storage-talker.so"), dir / "second" / "kit-storage-talker.so");
  const std::string path = (dir / "absent").string() + ":" + (dir / "first").string() + ":" + (dir / "second").string();
  REQUIRE(::setenv("KIT_PLUGIN_PATH", path.c_str(), 1) == 0);

  CHECK(kit::load_plugin(kit::family::storage, "frozen").path() == (dir / "second" / "kit-storage-frozen.so").string());
  CHECK(kit::open_storage("frozen", {}).name() == "frozen");

  const failure absent = failure_of([] { kit::load_plugin(kit::family::storage, "nowhere"); });
  CHECK(absent.code == errc::not_found);
  CHECK_THAT(absent.message, Contains("frozen, talker") && Contains((dir / "second").string()));
  CHECK(failure_of([] { kit::load_plugin(kit::family::storage, "../../tmp/x"); }).code == errc::not_found);
  CHECK(failure_of([] { kit::load_plugin(kit::family::network, "frozen"); }).code == errc::not_found);

  std::ofstream(dir / "first/kit-storage-frozen.so") << "broken";
  CHECK(failure_of([] { kit::load_plugin(kit::family::storage, "frozen"); }).code == errc::invalid);

  const auto list = kit::list_plugins();
  const auto find = [&](std::string_view name) {
    return std::find_if(list.begin(), list.end(), [&](const auto& p) { return p.name == name; });
  };
  REQUIRE(find("frozen") != list.end());
  CHECK_FALSE(find("frozen")->refused.empty());
  CHECK(find("frozen")->path == (dir / "first/kit-storage-frozen.so").string());
  REQUIRE(find("talker") != list.end());
  CHECK(find("talker")->refused.empty());
  CHECK(find("talker")->version == "2.5");
  REQUIRE(::unsetenv("KIT_PLUGIN_PATH") == 0);
}

TEST_CASE("two plugins whose classes have one name do not disturb each other") {
  auto a = kit::load_plugin_file(built("kit-storage-twin-a.so")).open_storage({});
  auto b = kit::load_plugin_file(built("kit-storage-twin-b.so")).open_storage({});
  const kit::layer_id id;
  CHECK(a.name() == "twin-a");
  CHECK(b.name() == "twin-b");
  CHECK(a.usage({id, {}}).bytes == 1);
  CHECK(b.usage({id, {}}).bytes == 2);
}

TEST_CASE("a later minor version is understood as far as this one goes") {
  auto d = kit::load_plugin_file(built("kit-storage-newer.so")).open_storage({});
  const kit::layer_id id;
  const kit::layer l{id, {}};
  CHECK(failure_of([&] { d.create(l, {}); }).code == errc::io);
  CHECK_THAT(failure_of([&] { d.create(l, {}); }).message, Contains("newer create") && Contains("12345"));
  const auto mounts = d.mounts(l, kit::access::read_only);
  REQUIRE(mounts.size() == 1);
  CHECK(mounts[0].fstype == "bind");
  CHECK(mounts[0].what == kit::mount::action::make);
  CHECK(failure_of([&] { (void)d.mounts(l, kit::access::live); }).code == errc::unsupported);
  CHECK(d.usage(l).bytes == sizeof(kit_usage));
  CHECK(failure_of([&] { d.layers([](const auto&) {}); }).code == errc::invalid);
  for (auto a : kit::storage_abilities) CHECK_FALSE(can(d, a));
  const auto probe = d.probe();
  CHECK_FALSE(probe.usable);
  CHECK_THAT(probe.reason, Contains("newer probe"));
}
