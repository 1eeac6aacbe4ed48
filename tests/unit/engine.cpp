// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <catch2/catch.hpp>
#include <csignal>
#include <nlohmann/json.hpp>

#include "kit/engine/attach.hpp"
#include "kit/engine/bundle.hpp"
#include "kit/engine/clock.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/networks.hpp"
#include "kit/engine/terminal.hpp"
#include "kit/system/capability.hpp"
#include "kit/system/error.hpp"
#include "scratch.hpp"

using namespace kit;

namespace {

errc code_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const error& e) {
    return e.code();
  }
  FAIL("no error was thrown");
  return errc::io;
}

void write(const std::string& path, std::string_view text) {
  write_all(open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644).get(), text, path);
}

}  // namespace

TEST_CASE("sizes are Docker's: binary units, fractions, nothing else") {
  CHECK(parse_size("4096") == 4096);
  CHECK(parse_size("64m") == 64ull << 20);
  CHECK(parse_size("64MB") == 64ull << 20);
  CHECK(parse_size("64MiB") == 64ull << 20);
  CHECK(parse_size("1.5g") == 3ull << 29);
  CHECK(parse_size("10k") == 10240);
  CHECK(parse_size("7b") == 7);
  for (const char* bad : {"", "m", "-1", "1x", "1 m", "1.2.3", "9999999999g", "0x10", ".", "1mm"})
    CHECK(code_of([&] { parse_size(bad); }) == errc::invalid);
}

TEST_CASE("volumes, tmpfs, signals, names") {
  const mount_request v = parse_volume("/srv:/data/:ro,rslave");
  CHECK(v.source == "/srv");
  CHECK(v.target == "/data");
  CHECK(v.options == std::vector<std::string>{"ro", "rslave"});
  CHECK(parse_volume("name:/data:nocopy").what == mount_request::kind::volume);
  CHECK(parse_volume("/data").source.empty());
  for (const char* bad : {"a:/b", "a/b:/c", "/a:b", "/a:/", "/a:/.", "/", "/a:/b:wrong", "/a:/b:nocopy", "ab:/b:rslave",
                          "/a:/b:ro:x", ":/b", ""})
    CHECK(code_of([&] { parse_volume(bad); }) == errc::invalid);

  CHECK(parse_tmpfs("/tmp:size=1m") == option{"/tmp", "size=1m"});
  CHECK(parse_tmpfs("/tmp") == option{"/tmp", ""});
  CHECK(code_of([] { parse_tmpfs("tmp"); }) == errc::invalid);
  CHECK(code_of([] { parse_tmpfs("/tmp:colour=blue"); }) == errc::invalid);

  container_spec spec;
  parse_mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave", spec);
  parse_mount("source=data,target=/c,volume-nocopy", spec);
  parse_mount("target=/d", spec);
  parse_mount("type=tmpfs,target=/e,tmpfs-size=1m,tmpfs-mode=1770", spec);
  CHECK(spec.mounts ==
        std::vector<mount_request>{{mount_request::kind::bind, "/a", "/b", {"ro", "rslave"}, false, true},
                                   {mount_request::kind::volume, "data", "/c", {"nocopy"}, false, false},
                                   {mount_request::kind::volume, "", "/d", {}, false, false}});
  CHECK(spec.tmpfs == std::vector<option>{{"/e", "size=1048576,mode=1770"}});
  for (const char* bad : {"", "foo", "type=bind,target=/x", "type=bind,source=a,target=/x", "type=odd,target=/x",
                          "source=a", "target=x", "target=/x,foo=1", "type=tmpfs,source=/a,target=/b",
                          "type=volume,target=/x,bind-propagation=rslave", "target=/x,tmpfs-size=1m", "target=/x,ro=x"})
    CHECK(code_of([&] { parse_mount(bad, spec); }) == errc::invalid);

  for (const char* term : {"TERM", "SIGTERM", "sigterm", "15"}) CHECK(parse_signal(term) == SIGTERM);
  CHECK(parse_signal("RTMIN+3") == SIGRTMIN + 3);
  for (const char* bad : {"", "0", "NOPE", "999", "-9", "SIG"})
    CHECK(code_of([&] { parse_signal(bad); }) == errc::invalid);

  for (const char* good : {"web", "a1", "x-y_z.0"}) CHECK_NOTHROW(check_name("container", good));
  for (const char* bad : {"", "a", "-a", "a b", "a/b", "\xc3\xa9t"})
    CHECK(code_of([&] { check_name("container", bad); }) == errc::invalid);
  for (unsigned attempt = 0; attempt < 8; ++attempt) CHECK_NOTHROW(check_name("container", draw_name(attempt)));
}

TEST_CASE("a specification survives the records") {
  container_spec spec;
  spec.image = "debian:12";
  spec.command = {"sh", "-c", "echo \"x\""};
  spec.entrypoint = std::vector<std::string>{""};
  spec.env = {"A=b"};
  spec.labels = {{"k", "v"}};
  spec.mounts = {{mount_request::kind::bind, "/a", "/b", {"ro"}, false, true},
                 {mount_request::kind::volume, "data", "/c", {}, true, false}};
  spec.tmpfs = {{"/t", "size=1m"}};
  spec.memory = 1 << 20;
  spec.cpus = 0.5;
  spec.pids_limit = 7;
  spec.tty = spec.init = true;
  const container_spec again = spec_from_json(to_json(spec));
  CHECK(to_json(again) == to_json(spec));
  CHECK(again.entrypoint == spec.entrypoint);
  CHECK(again.mounts == spec.mounts);
  CHECK(again.cpus == 0.5);
  CHECK_FALSE(spec_from_json("{}").entrypoint);
  CHECK(code_of([] { spec_from_json("[1]"); }) == errc::invalid);
}

TEST_CASE("the program is the entrypoint's and the command's, as with Docker") {
  image_config image;
  container_spec spec;
  CHECK(code_of([&] { program_of(spec, image); }) == errc::invalid);
  image.cmd = {"sh"};
  CHECK(program_of(spec, image) == std::vector<std::string>{"sh"});
  image.entrypoint = {"/entry", "-x"};
  CHECK(program_of(spec, image) == std::vector<std::string>{"/entry", "-x", "sh"});
  spec.command = {"ls"};
  CHECK(program_of(spec, image) == std::vector<std::string>{"/entry", "-x", "ls"});
  spec.command.clear();
  spec.entrypoint = std::vector<std::string>{"/mine"};
  CHECK(program_of(spec, image) == std::vector<std::string>{"/mine"});
  spec.entrypoint = std::vector<std::string>{""};
  spec.command = {"true"};
  CHECK(program_of(spec, image) == std::vector<std::string>{"true"});
}

TEST_CASE("later variables win over earlier ones") {
  image_config image;
  image.env = {"PATH=/image", "A=image"};
  container_spec spec;
  spec.env = {"A=spec", "B="};
  const auto env = environment_of(spec, image, "host", "/home");
  CHECK(env == std::vector<std::string>{"PATH=/image", "HOSTNAME=host", "A=spec", "B=", "HOME=/home"});
}

TEST_CASE("capabilities are Docker's fourteen, more and fewer by name") {
  container_spec spec;
  const auto has = [&](const char* name) {
    const auto set = capabilities_of(spec);
    return std::find(set.begin(), set.end(), name) != set.end();
  };
  CHECK(capabilities_of(spec).size() == 14);
  CHECK(has("CAP_CHOWN"));
  CHECK_FALSE(has("CAP_SYS_ADMIN"));
  spec.cap_add = {"sys_admin"};
  spec.cap_drop = {"CAP_CHOWN"};
  CHECK(has("CAP_SYS_ADMIN"));
  CHECK_FALSE(has("CAP_CHOWN"));
  spec.cap_add = {"NET_ADMIN"};
  spec.cap_drop = {"ALL"};
  CHECK(capabilities_of(spec) == std::vector<std::string>{"CAP_NET_ADMIN"});
  spec.cap_add = {"ALL"};
  spec.cap_drop = {"CHOWN"};
  CHECK_FALSE(has("CAP_CHOWN"));
  CHECK(has("CAP_KILL"));
  spec.cap_add = {"NO_SUCH"};
  CHECK(code_of([&] { capabilities_of(spec); }) == errc::invalid);
}

TEST_CASE("users are looked up in the image, and nowhere else") {
  const testing::scratch root;
  make_directories(root / "etc");
  write(root / "etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\nbroken\n");
  write(root / "etc/group", "root:x:0:\nwww:x:44:\nextra:x:100:other,web\n");
  const unique_fd fd = open_file(root.path(), O_PATH | O_DIRECTORY);

  const image_user web = resolve_user("web", fd.get());
  CHECK(web.uid == 33);
  CHECK(web.gid == 44);
  CHECK(web.home == "/srv");
  CHECK(web.additional_gids == std::vector<unsigned>{100});
  CHECK(resolve_user("web:extra", fd.get()).gid == 100);
  CHECK(resolve_user("33", fd.get()).gid == 44);
  CHECK(resolve_user("1234", fd.get()).uid == 1234);
  CHECK(resolve_user("1234:5", fd.get()).gid == 5);
  CHECK(resolve_user("", fd.get()).uid == 0);
  CHECK(code_of([&] { resolve_user("nobody-here", fd.get()); }) == errc::invalid);
  CHECK(code_of([&] { resolve_user("web:nogroup-here", fd.get()); }) == errc::invalid);
  CHECK_FALSE(user_needs_root("1:2"));
  CHECK(user_needs_root("1:www"));

  SECTION("a passwd that leads out of the image is the image's own path") {
    remove_tree(root / "etc/passwd");
    REQUIRE(::symlink("/../../../../etc/passwd", (root / "etc/passwd").c_str()) == 0);
    CHECK(code_of([&] { resolve_user("daemon", fd.get()); }) == errc::invalid);
  }
  SECTION("a fifo in its place blocks nobody") {
    remove_tree(root / "etc/passwd");
    REQUIRE(::mkfifo((root / "etc/passwd").c_str(), 0600) == 0);
    CHECK(resolve_user("7", fd.get()).uid == 7);
  }
}

TEST_CASE("config.json says what was asked") {
  bundle_plan plan;
  plan.directory = "/bundle";
  plan.id = std::string(64, 'a');
  plan.cgroups_path = "/kit-x/a";
  plan.spec.command = {"true"};
  plan.spec.memory = 64 << 20;
  plan.spec.cpus = 1.5;
  plan.spec.pids_limit = 9;
  plan.spec.read_only = true;
  plan.spec.init = true;
  plan.spec.mounts = {{mount_request::kind::bind, "/h", "/c", {"ro"}, false, false}};
  const auto j = nlohmann::json::parse(config_json(plan, {}));
  CHECK(j["ociVersion"] == "1.0.2");
  CHECK(j["root"]["readonly"] == true);
  CHECK(j["hostname"] == "aaaaaaaaaaaa");
  CHECK(j["linux"]["cgroupsPath"] == "/kit-x/a");
  CHECK(j["linux"]["resources"]["memory"]["limit"] == 64 << 20);
  CHECK(j["linux"]["resources"]["cpu"]["quota"] == 150000);
  CHECK(j["linux"]["resources"]["pids"]["limit"] == 9);
  CHECK(j["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO");
  CHECK(j["annotations"]["kit.init"] == "true");
  const auto& mounts = j["mounts"];
  CHECK(mounts.back()["destination"] == "/c");
  CHECK(mounts.back()["options"] == nlohmann::json({"rbind", "ro", "rprivate"}));

  const auto points = mount_points(plan.spec);
  for (const char* point : {"proc", "dev/pts", "etc/hosts", "c"})
    CHECK(std::count(points.begin(), points.end(), point) == 1);

  plan.spec.privileged = true;
  const auto free = nlohmann::json::parse(config_json(plan, {}));
  CHECK_FALSE(free["linux"].contains("seccomp"));
  CHECK_FALSE(free["linux"].contains("maskedPaths"));
  for (const auto& m : free["mounts"])
    if (m["type"] == "sysfs") CHECK(m["options"] == nlohmann::json({"nosuid", "noexec", "nodev"}));

  plan.network_namespace = netns::host;
  const auto shared = nlohmann::json::parse(config_json(plan, {}));
  for (const auto& n : shared["linux"]["namespaces"]) CHECK(n["type"] != "network");

  plan.spec.workdir = "relative";
  CHECK(code_of([&] { config_json(plan, {}); }) == errc::invalid);
}

TEST_CASE("detach keys are found among what is typed, and nothing else is lost") {
  CHECK(parse_detach_keys("ctrl-p,ctrl-q") == "\x10\x11");
  CHECK(parse_detach_keys("a,ctrl-@") == std::string("a\0", 2));
  for (const char* bad : {"", "ctrl-", "ctrl-1", "ab", "a,"})
    CHECK(code_of([&] { parse_detach_keys(bad); }) == errc::invalid);

  const auto typed = [](std::vector<std::string> chunks) {
    detach_matcher m("\x10\x11");
    std::string through;
    bool detached = false;
    for (const auto& c : chunks) detached = m.feed(c, through);
    return std::pair(detached, through);
  };
  CHECK(typed({"ls\n"}) == std::pair(false, std::string("ls\n")));
  CHECK(typed({"x\x10\x11"}) == std::pair(true, std::string("x")));
  CHECK(typed({"x\x10", "\x11"}) == std::pair(true, std::string("x")));
  CHECK(typed({"\x10z"}) == std::pair(false, std::string("\x10z")));
  CHECK(typed({"\x10\x10\x11"}) == std::pair(true, std::string("\x10")));
}

TEST_CASE("times go to text and back to the nanosecond") {
  CHECK(rfc3339(0) == "0001-01-01T00:00:00Z");
  const std::int64_t t = 1'769'860'800'123'456'789;
  CHECK(parse_rfc3339(rfc3339(t)) == t);
  CHECK(parse_rfc3339("1970-01-01T01:00:00+01:00") == 0);
  CHECK(parse_rfc3339("1970-01-01T00:00:01.5Z") == 1'500'000'000);
  for (const char* bad : {"", "yesterday", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00:00Zx"})
    CHECK(code_of([&] { parse_rfc3339(bad); }) == errc::invalid);
}

TEST_CASE("an attachment survives the records") {
  attachment a;
  a.interfaces = {{"eth0", "02:00:00:00:00:01", 1500, true}};
  a.ips = {{"10.1.0.2/20", "10.1.0.1", 0}};
  a.routes = {{"0.0.0.0/0", "10.1.0.1"}};
  a.nameservers = {"10.0.0.1"};
  a.driver_data = "opaque \"bytes\"";
  CHECK(attachment_from_json(to_json(a)) == a);
  CHECK(attachment_from_json("") == attachment{});
  CHECK(code_of([] { attachment_from_json("{}"); }) == errc::invalid);
}

TEST_CASE("Dockerfile lines change an image's configuration") {
  image_config c;
  apply_change(c, "CMD [\"a\", \"b c\"]");
  CHECK(c.cmd == std::vector<std::string>{"a", "b c"});
  apply_change(c, "cmd echo hi");
  CHECK(c.cmd == std::vector<std::string>{"/bin/sh", "-c", "echo hi"});
  apply_change(c, "ENV A=1 B=\"x y\"");
  apply_change(c, "ENV A 2");
  CHECK(c.env == std::vector<std::string>{"B=x y", "A=2"});
  apply_change(c, "LABEL k='v w'");
  CHECK(c.labels == std::vector<option>{{"k", "v w"}});
  apply_change(c, "EXPOSE 80 53/udp");
  CHECK(c.exposed_ports == std::vector<std::string>{"80/tcp", "53/udp"});
  apply_change(c, "WORKDIR /srv");
  apply_change(c, "USER web");
  apply_change(c, "STOPSIGNAL SIGINT");
  CHECK(c.working_dir == "/srv");
  CHECK(c.user == "web");
  CHECK(c.stop_signal == "SIGINT");
  for (const char* bad :
       {"", "CMD", "FROM x", "CMD [1]", "CMD [\"a\"", "WORKDIR rel", "STOPSIGNAL NOPE", "ENV A", "LABEL =x"})
    CHECK(code_of([&] { apply_change(c, bad); }) == errc::invalid);
}
