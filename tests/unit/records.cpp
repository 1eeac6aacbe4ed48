// SPDX-License-Identifier: Apache-2.0
#include "kit/records/records.hpp"

#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>

#include "kit/records/impl/schema.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "scratch.hpp"

using namespace kit;
using testing::scratch;

namespace {

container_record some_container(const std::string& name) {
  container_record c;
  c.id = random_id<container_id>();
  c.name = name;
  return c;
}

errc code_of(function_ref<void()> work) {
  try {
    work();
  } catch (const error& e) {
    return e.code();
  }
  return errc{};
}

std::string message_of(function_ref<void()> work) {
  try {
    work();
  } catch (const error& e) {
    return e.what();
  }
  return {};
}

const std::string digest_1 = "sha256:" + std::string(64, '1');
const std::string digest_2 = "sha256:1" + std::string(63, '2');

manifest_record some_manifest(const std::string& digest) {
  manifest_record m;
  m.digest = digest;
  m.config_digest = "sha256:" + std::string(64, 'c');
  m.config = R"({"os":"linux"})";
  m.layers = {{"sha256:" + std::string(64, 'a'), "sha256:" + std::string(64, 'b'), "sha256:" + std::string(64, 'c'),
               "tar", 1ull << 40}};
  m.size = 77;
  m.created_ns = 5;
  return m;
}

}  // namespace

TEST_CASE("a container comes back as it was written") {
  scratch root;
  container_record c = some_container("web");
  c.image = "debian:12";
  c.image_digest = digest_1;
  c.storage = "overlayfs";
  c.isolation = "native";
  c.chain = {random_id<layer_id>(), random_id<layer_id>()};
  c.command = "sh -c 'a b'";
  c.spec = std::string("{\"x\":\"\0\"}", 9);
  c.labels = {{"empty", ""}, {"3:a,", "1:b,"}, {"bytes", "\xff\n"}};
  c.auto_remove = true;
  c.state = container_state::paused;
  c.init = {42, 1ull << 63, "boot"};
  c.exit_code = -1;
  c.oom_killed = true;
  c.error = "lost";
  c.created_ns = 1;
  c.started_ns = 2;
  c.finished_ns = 3;
  c.restarts = 4;
  c.restart_delay_ms = 5;
  c.stopped = true;
  c.health = "healthy";
  c.log_bytes_lost = 1ull << 40;
  const auto same = [](const container_record& a, const container_record& b) {
    CHECK(a.id == b.id);
    CHECK(a.name == b.name);
    CHECK(a.image == b.image);
    CHECK(a.image_digest == b.image_digest);
    CHECK(a.storage == b.storage);
    CHECK(a.isolation == b.isolation);
    CHECK(a.chain == b.chain);
    CHECK(a.command == b.command);
    CHECK(a.spec == b.spec);
    CHECK(a.labels == b.labels);
    CHECK(a.auto_remove == b.auto_remove);
    CHECK(a.state == b.state);
    CHECK(a.init.pid == b.init.pid);
    CHECK(a.init.start_time == b.init.start_time);
    CHECK(a.init.boot_id == b.init.boot_id);
    CHECK(a.exit_code == b.exit_code);
    CHECK(a.oom_killed == b.oom_killed);
    CHECK(a.error == b.error);
    CHECK(a.created_ns == b.created_ns);
    CHECK(a.started_ns == b.started_ns);
    CHECK(a.finished_ns == b.finished_ns);
    CHECK(a.restarts == b.restarts);
    CHECK(a.restart_delay_ms == b.restart_delay_ms);
    CHECK(a.stopped == b.stopped);
    CHECK(a.health == b.health);
    CHECK(a.log_bytes_lost == b.log_bytes_lost);
  };
  records(root.path()).insert(c);
  same(records(root.path()).container("web"), c);

  container_record changed = some_container("other");
  changed.id = c.id;
  records(root.path()).update(changed);
  same(records(root.path()).container(c.id.text()), changed);
  CHECK_FALSE(records(root.path()).find_container("web"));
}

TEST_CASE("names are unique, and a refusal names the holder") {
  scratch root;
  records r(root.path());
  const container_record a = some_container("a"), b = some_container("b");
  r.insert(a);
  r.insert(b);
  container_record c = some_container("a");
  CHECK(code_of([&] { r.insert(c); }) == errc::conflict);
  CHECK(message_of([&] { r.insert(c); }).find(a.id.brief()) != std::string::npos);
  CHECK(code_of([&] { r.insert(a); }) == errc::exists);
  CHECK(code_of([&] { r.rename(b.id, "a"); }) == errc::conflict);
  CHECK(r.container("b").id == b.id);
  r.rename(b.id, "b");
  r.rename(b.id, "c");
  CHECK(r.container("c").id == b.id);
  CHECK(code_of([&] { r.rename(c.id, "d"); }) == errc::not_found);
  CHECK(code_of([&] { r.update(c); }) == errc::not_found);
  c.id = b.id;
  CHECK(code_of([&] { r.update(c); }) == errc::conflict);
  CHECK(r.containers().size() == 2);
}

TEST_CASE("a container is found by id, name, and unambiguous prefix, in this order") {
  scratch root;
  records r(root.path());
  container_record a = some_container("first"), b = some_container("second"), c = some_container("abc");
  a.id = container_id::from("abc1" + std::string(60, '0'));
  b.id = container_id::from("abc2" + std::string(60, '0'));
  c.id = container_id::from("f" + std::string(63, '0'));
  for (const auto& x : {a, b, c}) r.insert(x);
  CHECK(r.container("abc").id == c.id);
  CHECK(r.container("abc1").id == a.id);
  CHECK(r.container(b.id.text()).id == b.id);
  CHECK(r.container("f").id == c.id);
  CHECK(code_of([&] { r.container("ab"); }) == errc::invalid);
  CHECK(message_of([&] { r.container("nobody"); }) == "no such container: nobody");
  for (const char* none : {"", "ABC1", "abc3", "abc1%", "_bc1"}) CHECK_FALSE(r.find_container(none));
  CHECK_FALSE(r.find_container(a.id.str() + "0"));
  CHECK_FALSE(r.find_container(std::string(64, '0')));
}

TEST_CASE("a transaction happens as a whole or not at all") {
  scratch root;
  records r(root.path());
  CHECK_THROWS_AS(r.transaction([&] {
    r.insert(some_container("a"));
    r.set("key", "value");
    throw std::runtime_error("changed my mind");
  }),
                  std::runtime_error);
  CHECK(r.containers().empty());
  CHECK_FALSE(r.setting("key"));
  r.transaction([&] {
    r.insert(some_container("a"));
    CHECK(code_of([&] {
            r.transaction([&] {
              r.insert(some_container("undone"));
              fail(errc::io, "within");
            });
          }) == errc::io);
    r.insert(some_container("c"));
  });
  CHECK(r.containers().size() == 2);
  CHECK_FALSE(r.find_container("undone"));  // no prefix of an id
}

TEST_CASE("a process killed within a transaction leaves nothing of it, and no lock") {
  scratch root;
  records(root.path()).insert(some_container("before"));
  std::pair<unique_fd, unique_fd> pipe = make_pipe();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    records r(root.path());
    r.insert(some_container("whole"));
    r.transaction([&] {
      // Enough to spill into the log before the commit.
      for (int i = 0; i < 500; ++i) {
        container_record c = some_container("torn" + std::to_string(i));
        c.spec.assign(10'000, 'x');
        r.insert(c);
      }
      write_all(pipe.second.get(), "x", "pipe");
      for (;;) ::pause();
    });
  }
  pipe.second.reset();
  char ready = 0;
  REQUIRE(::read(pipe.first.get(), &ready, 1) == 1);
  ::kill(child, SIGKILL);
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  records r(root.path());
  CHECK(r.containers().size() == 2);
  r.insert(some_container("after"));
  CHECK(records(root.path()).containers().size() == 3);
}

TEST_CASE("many processes that open a new root at once agree on one database") {
  scratch root;
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        records(root / "new").insert(some_container("c" + std::to_string(i)));
        ::_exit(0);
      } catch (const std::exception& e) {
        ::fprintf(stderr, "%s\n", e.what());
        ::_exit(1);
      }
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  CHECK(records(root / "new").containers().size() == 8);
}

TEST_CASE("the database is readable by its owner only, and a checkpoint empties the log") {
  scratch root;
  records r(root.path());
  r.insert(some_container("a"));
  struct stat st {};
  for (const char* name : {"kit.db", "kit.db-wal", "kit.db-shm"}) {
    REQUIRE(::stat((root / name).c_str(), &st) == 0);
    CHECK((st.st_mode & 07777) == 0600);
  }
  REQUIRE(::stat((root / "kit.db-wal").c_str(), &st) == 0);
  CHECK(st.st_size > 0);
  r.checkpoint();
  REQUIRE(::stat((root / "kit.db-wal").c_str(), &st) == 0);
  CHECK(st.st_size == 0);
  CHECK(records(root.path()).containers().size() == 1);
}

TEST_CASE("closing leaves the log alone") {
  scratch root;
  struct stat before {
  }, after{};
  {
    records r(root.path());
    r.insert(some_container("a"));
    REQUIRE(::stat((root / "kit.db").c_str(), &before) == 0);
  }
  REQUIRE(::stat((root / "kit.db").c_str(), &after) == 0);
  CHECK(after.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
  REQUIRE(::stat((root / "kit.db-wal").c_str(), &after) == 0);
  CHECK(after.st_size > 0);
}

TEST_CASE("layers are counted by who uses them") {
  scratch root;
  records r(root.path());
  const layer_id base = random_id<layer_id>();
  container_record a = some_container("a"), b = some_container("b");
  a.chain = {random_id<layer_id>(), base};
  r.insert(a);
  r.insert(b);
  CHECK(r.containers_using_layer(base) == std::vector{a.id});
  CHECK(r.containers_using_layer(layer_id::from(b.id.text())) == std::vector{b.id});
  CHECK(r.containers_using_layer(random_id<layer_id>()).empty());
}

TEST_CASE("images: names move, manifests stay, prefixes must be clear") {
  scratch root;
  records r(root.path());
  r.insert(some_manifest(digest_1));
  r.insert(some_manifest(digest_1));
  r.insert(some_manifest(digest_2));
  const manifest_record m = r.manifest(digest_1).value();
  CHECK(m.config == R"({"os":"linux"})");
  REQUIRE(m.layers.size() == 1);
  CHECK(m.layers[0].diff_id == "sha256:" + std::string(64, 'b'));
  CHECK(m.layers[0].chain_id == "sha256:" + std::string(64, 'c'));
  CHECK(m.layers[0].size == 1ull << 40);
  CHECK(m.size == 77);
  CHECK_FALSE(r.manifest("sha256:nothing"));

  CHECK(code_of([&] { r.tag("a:1", "sha256:" + std::string(64, '9')); }) == errc::not_found);
  r.tag("a:1", digest_1);
  r.tag("b:1", digest_1);
  CHECK(r.image("a:1").digest == digest_1);
  r.tag("a:1", digest_2);
  CHECK(r.image("a:1").digest == digest_2);
  CHECK(r.image(digest_2).reference == "a:1");
  CHECK(r.image("12").digest == digest_2);
  CHECK(code_of([&] { r.image("1"); }) == errc::invalid);
  CHECK(message_of([&] { r.image("c"); }) == "no such image: c");
  CHECK(r.images().size() == 2);
  r.untag("b:1");
  r.untag("b:1");
  CHECK(r.images().size() == 2);
  CHECK(r.image(digest_1).reference.empty());
  CHECK(r.image("11").created_ns == 5);

  container_record c = some_container("c");
  c.image_digest = digest_2;
  r.insert(c);
  CHECK(r.containers_using_image(digest_2) == std::vector{c.id});
  r.remove_manifest(digest_2);
  r.remove_manifest(digest_2);
  CHECK_FALSE(r.find_image("a:1"));
}

TEST_CASE("who publishes an unpacked layer first holds the place") {
  scratch root;
  records r(root.path());
  const layer_id mine = random_id<layer_id>(), yours = random_id<layer_id>();
  CHECK_FALSE(r.unpacked("vfs", digest_1));
  CHECK(r.publish_unpacked({"vfs", digest_1, mine}) == mine);
  CHECK(r.publish_unpacked({"vfs", digest_1, yours}) == mine);
  CHECK(r.publish_unpacked({"btrfs", digest_1, yours}) == yours);
  CHECK(r.unpacked_layers().size() == 2);
  r.remove_unpacked("vfs", digest_1);
  CHECK_FALSE(r.unpacked("vfs", digest_1));
}

TEST_CASE("events come in the order of time, and only the newest are kept") {
  scratch root;
  records r(root.path());
  r.transaction([&] {
    for (int i = 1; i <= 10'010; ++i) r.add({i, "container", "start", "x", {{"n", std::to_string(i)}}});
  });
  const auto some = r.events(3, 5);
  REQUIRE(some.size() == 3);
  CHECK(some[0].attributes == std::vector<option>{{"n", "3"}});
  r.checkpoint();
  const auto all = r.events(0, 20'000);
  REQUIRE(all.size() == 10'000);
  CHECK(all[0].time_ns == 11);
}

TEST_CASE("settings are kept") {
  scratch root;
  CHECK_FALSE(records(root.path()).setting("a"));
  records(root.path()).set("a", "1");
  records(root.path()).set("a", "2");
  CHECK(records(root.path()).setting("a") == "2");
}

// ---- the schema ----------------------------------------------------------------------------------

namespace {

std::string fixture() { return read_file(KIT_FIXTURES "/records-v1.sql"); }

void make_version_1(const std::string& root) {
  detail::database db(root + "/kit.db");
  db.run(fixture().c_str());
}

std::string schema_of(const std::string& path) {
  detail::database db(path);
  std::string all;
  detail::query q(db, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name");
  while (q.next()) all += q.text(0) + '\n';
  return all;
}

}  // namespace

TEST_CASE("records of version 1 are read") {
  scratch root;
  make_version_1(root.path());
  records r(root.path());
  const container_record c = r.container("web");
  CHECK(c.exit_code == 3);
  CHECK(c.restarts == 0);
  CHECK(!c.stopped);
  CHECK(c.health.empty());
  CHECK(c.labels == std::vector<option>{{"tier", "front"}});
  CHECK(r.endpoints(c.id).at(0).addresses == std::vector<std::string>{"10.89.0.2/20", "fd00::2/64"});
  CHECK(r.network("bridge").options == std::vector<option>{{"mtu", "1400"}});
  CHECK(r.image("debian:12").digest == c.image_digest);
  CHECK(r.setting("root_tag") == "k1");
  CHECK(r.events(0, 10).size() == 1);
  CHECK(r.unpacked_layers().size() == 1);
  CHECK(r.volumes().empty());
}

TEST_CASE("a volume is recorded once, and read back") {
  scratch root;
  records r(root.path());
  r.insert(volume_record{"data", {{"tier", "db"}}, false, 5});
  r.insert(volume_record{"data", {}, true, 6});
  r.insert(volume_record{"cache", {}, true, 7});
  CHECK(r.volumes().size() == 2);
  CHECK(r.volumes().front().name == "cache");
  const auto data = r.find_volume("data");
  REQUIRE(data);
  CHECK(data->labels == std::vector<option>{{"tier", "db"}});
  CHECK(!data->anonymous);
  CHECK(data->created_ns == 5);
  CHECK(!r.find_volume("dat"));
  r.remove_volume("data");
  r.remove_volume("data");
  CHECK(!r.find_volume("data"));
}

TEST_CASE("the step to version 1 never changes") {
  scratch released, now;
  make_version_1(released.path());
  {
    detail::database db(now / "kit.db");
    detail::bring_up_to_date(db, detail::schema_steps().first(1));
  }
  CHECK(schema_of(now / "kit.db") == schema_of(released / "kit.db"));
}

TEST_CASE("an older schema is brought up to date, after a copy") {
  scratch root;
  make_version_1(root.path());
  const char* steps[] = {"the first step is not repeated",
                         "CREATE TABLE two (x); INSERT INTO two SELECT name FROM containers;",
                         "ALTER TABLE two RENAME TO three;", ""};
  {
    detail::database db(root / "kit.db");
    detail::bring_up_to_date(db, steps);
    CHECK(db.value("PRAGMA user_version") == "4");
    CHECK(db.value("SELECT x FROM three") == "web");
    detail::bring_up_to_date(db, steps);
  }
  detail::database copy(root / "kit.db.v1");
  CHECK(copy.value("PRAGMA user_version") == "1");
  CHECK(copy.value("SELECT name FROM containers") == "web");
  CHECK(copy.value("SELECT count(*) FROM sqlite_schema WHERE name = 'three'") == "0");

  const std::string refusal = message_of([&] { records r(root.path()); });
  CHECK(refusal.find("version 4") != std::string::npos);
  CHECK(refusal.find(fmt::format("up to {}", detail::schema_steps().size())) != std::string::npos);
  CHECK(code_of([&] { records r(root.path()); }) == errc::unsupported);
}

TEST_CASE("a step that fails leaves the older schema whole") {
  scratch root;
  make_version_1(root.path());
  const char* steps[] = {"", "CREATE TABLE two (x); nonsense;"};
  {
    detail::database db(root / "kit.db");
    CHECK_THROWS_AS(detail::bring_up_to_date(db, steps), error);
    CHECK(db.value("PRAGMA user_version") == "1");
    CHECK(db.value("SELECT count(*) FROM sqlite_schema WHERE name = 'two'") == "0");
  }
  CHECK(records(root.path()).containers().size() == 1);
}

TEST_CASE("a file that is no database is refused") {
  scratch root;
  replace_file(root / "kit.db", std::string(8192, 'x'));
  CHECK(code_of([&] { records r(root.path()); }) == errc::io);
}

TEST_CASE("list columns hold any bytes and refuse what was not written by us") {
  const std::vector<std::string> list = {"", "a", ",", "1:a,", std::string(1, '\0')};
  CHECK(detail::split(detail::join(list)) == list);
  for (const char* bad : {"1", "1:", "1:a", "2:a,", "x:a,", ":a,", "1:ab", "99999999999999999999:a,"})
    CHECK(code_of([&] { detail::split(bad); }) == errc::io);
}
