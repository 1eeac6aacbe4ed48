// SPDX-License-Identifier: Apache-2.0
#include "drivers/isolation/native/config.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "drivers/isolation/native/plan.hpp"
#include "kit/system/error.hpp"

using kit::errc;
using nlohmann::json;
using namespace kit::drivers::detail;

namespace {

json good() {
  return json::parse(R"({
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs", "readonly": true},
    "process": {"args": ["sh"], "cwd": "/"},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network", "path": "/run/net"}]}
  })");
}

bundle_config parse(const json& document) { return parse_bundle_config(document.dump(), "/bundle"); }

/// The good configuration with `value` at `pointer`.
json with(const char* pointer, const char* value) {
  json document = good();
  document[json::json_pointer(pointer)] = json::parse(value);
  return document;
}

}  // namespace

TEST_CASE("the least configuration has the specification's defaults") {
  const bundle_config c = parse(good());
  CHECK(c.root_path == "/bundle/rootfs");
  CHECK(c.root_readonly);
  CHECK(c.process.args == std::vector<std::string>{"sh"});
  CHECK(c.process.user.uid == 0);
  CHECK_FALSE(c.process.user.umask);
  CHECK_FALSE(c.process.capabilities);
  CHECK_FALSE(c.process.no_new_privileges);
  CHECK_FALSE(c.process.oom_score_adj);
  CHECK_FALSE(c.resources.memory);
  CHECK_FALSE(c.resources.devices);
  CHECK_FALSE(c.seccomp);
  CHECK(c.new_namespaces() == (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC));
  CHECK(c.has_namespace(CLONE_NEWNET));
  CHECK_FALSE(c.has_namespace(CLONE_NEWUSER));
}

TEST_CASE("a bad member is named by its path") {
  struct row {
    const char* pointer;
    const char* value;
    errc code;
    const char* path;
  };
  const row rows[] = {
      {"/ociVersion", "7", errc::invalid, "$.ociVersion: must be a string"},
      {"/ociVersion", "\"2.0.0\"", errc::unsupported, "$.ociVersion"},
      {"/root/path", "null", errc::invalid, "$.root.path: is missing"},
      {"/root", "\"rootfs\"", errc::invalid, "$.root: must be an object"},
      {"/process", "null", errc::invalid, "$.process: is missing"},
      {"/process/args", "[]", errc::invalid, "$.process.args"},
      {"/process/args", "[\"\"]", errc::invalid, "$.process.args[0]"},
      {"/process/args", "[\"a\", 1]", errc::invalid, "$.process.args[1]: must be a string"},
      {"/process/args", "[\"a\\u0000b\"]", errc::invalid, "$.process.args[0]"},
      {"/process/args", "{}", errc::invalid, "$.process.args: must be an array"},
      {"/process/cwd", "\"relative\"", errc::invalid, "$.process.cwd: must be an absolute path"},
      {"/process/env", "[\"A=1\", \"B\"]", errc::invalid, "$.process.env[1]"},
      {"/process/env", "[\"=1\"]", errc::invalid, "$.process.env[0]"},
      {"/process/terminal", "1", errc::invalid, "$.process.terminal: must be true or false"},
      {"/process/user", "{\"uid\": -1}", errc::invalid, "$.process.user.uid: must be between 0 and 4294967294"},
      {"/process/user", "{\"uid\": 4294967295}", errc::invalid, "$.process.user.uid"},
      {"/process/user", "{\"gid\": 1.5}", errc::invalid, "$.process.user.gid: must be an integer"},
      {"/process/user", "{\"umask\": 512}", errc::invalid, "$.process.user.umask"},
      {"/process/user", "{\"additionalGids\": [1, \"x\"]}", errc::invalid, "$.process.user.additionalGids[1]"},
      {"/process/consoleSize", "{\"height\": 70000, \"width\": 1}", errc::invalid, "$.process.consoleSize.height"},
      {"/process/capabilities", "{\"bounding\": [\"CAP_FLY\"]}", errc::invalid, "$.process.capabilities.bounding[0]"},
      {"/process/capabilities", "{\"effective\": [\"CAP_KILL\"]}", errc::invalid, "$.process.capabilities.effective"},
      {"/process/capabilities", "{\"permitted\": [\"CAP_KILL\"], \"ambient\": [\"CAP_KILL\"]}", errc::invalid,
       "$.process.capabilities.ambient"},
      {"/process/rlimits", "[{\"type\": \"RLIMIT_FUN\", \"soft\": 1, \"hard\": 1}]", errc::invalid,
       "$.process.rlimits[0].type"},
      {"/process/rlimits", "[{\"type\": \"RLIMIT_CORE\", \"soft\": 2, \"hard\": 1}]", errc::invalid,
       "$.process.rlimits[0].soft"},
      {"/process/rlimits", "[{\"type\": \"RLIMIT_CORE\", \"soft\": 1}]", errc::invalid,
       "$.process.rlimits[0].hard: is missing"},
      {"/process/rlimits",
       "[{\"type\": \"RLIMIT_CORE\", \"soft\": 1, \"hard\": 1}, {\"type\": \"RLIMIT_CORE\", \"soft\": 1, \"hard\": 1}]",
       errc::invalid, "$.process.rlimits[1].type"},
      {"/process/oomScoreAdj", "1001", errc::invalid, "$.process.oomScoreAdj"},
      {"/process/apparmorProfile", "\"docker-default\"", errc::unsupported, "$.process.apparmorProfile"},
      {"/process/selinuxLabel", "\"x\"", errc::unsupported, "$.process.selinuxLabel"},
      {"/process/scheduler", "{\"policy\": \"SCHED_FIFO\"}", errc::unsupported, "$.process.scheduler"},
      {"/hostname", "[]", errc::invalid, "$.hostname"},
      {"/mounts", "[{\"destination\": \"/\", \"type\": \"tmpfs\"}]", errc::invalid, "$.mounts[0].destination"},
      {"/mounts", "[{\"type\": \"tmpfs\"}]", errc::invalid, "$.mounts[0].destination: is missing"},
      {"/mounts", "[{\"destination\": \"/x\"}]", errc::invalid, "$.mounts[0].type"},
      {"/mounts", "[{\"destination\": \"/x\", \"type\": \"bind\"}]", errc::invalid, "$.mounts[0].source"},
      {"/mounts", "[{\"destination\": \"/x\", \"source\": \"/y\", \"options\": [\"bind\", \"size=1\"]}]", errc::invalid,
       "$.mounts[0].options[1]"},
      {"/mounts", "[{\"destination\": \"/x\", \"type\": \"tmpfs\", \"options\": [\"=1\"]}]", errc::invalid,
       "$.mounts[0].options[0]"},
      {"/mounts", "[{\"destination\": \"/x\", \"type\": \"tmpfs\", \"options\": [\"tmpcopyup\"]}]", errc::unsupported,
       "$.mounts[0].options[0]"},
      {"/hooks", "{\"prestart\": [{\"path\": \"/bin/true\"}]}", errc::unsupported, "$.hooks.prestart"},
      {"/linux", "null", errc::invalid, "$.linux: is missing"},
      {"/linux/namespaces", "[]", errc::invalid, "$.linux.namespaces"},
      {"/linux/namespaces/1/type", "\"moon\"", errc::invalid, "$.linux.namespaces[1].type"},
      {"/linux/namespaces/1/type", "\"mount\"", errc::invalid, "$.linux.namespaces[1].type: is given twice"},
      {"/linux/namespaces/1/type", "\"time\"", errc::unsupported, "$.linux.namespaces[1].type"},
      {"/linux/namespaces/3/path", "\"run/net\"", errc::invalid, "$.linux.namespaces[3].path"},
      {"/linux/namespaces/3", "{\"type\": \"user\"}", errc::invalid, "$.linux.uidMappings"},
      {"/linux/namespaces/3", "{\"type\": \"user\", \"path\": \"/x\"}", errc::unsupported,
       "$.linux.namespaces[3].path"},
      {"/linux/uidMappings", "[{\"containerID\": 0, \"hostID\": 1, \"size\": 1}]", errc::invalid,
       "$.linux.uidMappings"},
      {"/linux/devices", "[{\"path\": \"/dev/x\", \"type\": \"q\"}]", errc::invalid, "$.linux.devices[0].type"},
      {"/linux/devices", "[{\"path\": \"/dev/x\", \"type\": \"c\", \"major\": 1}]", errc::invalid,
       "$.linux.devices[0].minor"},
      {"/linux/sysctl", "{\"kernel.shmmax\": 1}", errc::invalid, "$.linux.sysctl.kernel.shmmax: must be a string"},
      {"/linux/sysctl", "{\"vm.overcommit_memory\": \"1\"}", errc::invalid, "belongs to the host"},
      {"/linux/sysctl", "{\"net/../vm/overcommit_memory\": \"1\"}", errc::invalid, "not the name of a sysctl"},
      {"/linux/cgroupsPath", "\"/a/../../b\"", errc::invalid, "$.linux.cgroupsPath"},
      {"/linux/cgroupsPath", "\"/\"", errc::invalid, "$.linux.cgroupsPath"},
      {"/linux/resources", "{\"memory\": {\"limit\": \"1g\"}}", errc::invalid, "$.linux.resources.memory.limit"},
      {"/linux/resources", "{\"memory\": {\"limit\": 9223372036854775808}}", errc::invalid,
       "$.linux.resources.memory.limit"},
      {"/linux/resources", "{\"cpu\": {\"period\": -1}}", errc::invalid, "$.linux.resources.cpu.period"},
      {"/linux/resources", "{\"pids\": {\"limit\": true}}", errc::invalid, "$.linux.resources.pids.limit"},
      {"/linux/resources", "{\"devices\": [{\"allow\": true, \"access\": \"x\"}]}", errc::invalid,
       "$.linux.resources.devices[0].access"},
      {"/linux/resources", "{\"blockIO\": {\"weight\": 5}}", errc::invalid, "$.linux.resources.blockIO.weight"},
      {"/linux/resources", "{\"unified\": {\"../x.y\": \"1\"}}", errc::invalid, "$.linux.resources.unified.../x.y"},
      {"/linux/resources", "{\"network\": {\"classID\": 1}}", errc::unsupported, "$.linux.resources.network"},
      {"/linux/rootfsPropagation", "\"both\"", errc::invalid, "$.linux.rootfsPropagation"},
      {"/linux/maskedPaths", "[\"proc/kcore\"]", errc::invalid, "$.linux.maskedPaths[0]"},
      {"/linux/seccomp", "{}", errc::invalid, "$.linux.seccomp.defaultAction"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_SHRUG\"}", errc::invalid, "$.linux.seccomp.defaultAction"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_NOTIFY\"}", errc::unsupported,
       "$.linux.seccomp.defaultAction"},
      {"/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"action\": \"SCMP_ACT_ERRNO\"}]}",
       errc::invalid, "$.linux.seccomp.syscalls[0].names"},
      {"/linux/intelRdt", "{\"closID\": \"x\"}", errc::unsupported, "$.linux.intelRdt"},
      {"/linux/personality", "{\"domain\": \"LINUX32\"}", errc::unsupported, "$.linux.personality.domain"},
  };
  for (const row& r : rows) {
    INFO(r.pointer << " = " << r.value);
    try {
      const bundle_config c = parse(with(r.pointer, r.value));
      if (c.seccomp) (void)parse_bundle_seccomp(*c.seccomp);
      FAIL("accepted");
    } catch (const kit::error& e) {
      INFO(e.what());
      CHECK(e.code() == r.code);
      CHECK(std::string(e.what()).find(r.path) != std::string::npos);
    }
  }
  for (const char* text : {"", "{", "[]", "nothing", "{\"ociVersion\": \"1.0.0\"} more"}) {
    INFO(text);
    CHECK_THROWS_AS(parse_bundle_config(text, "/bundle"), kit::error);
  }
}

TEST_CASE("the seccomp text is that of linux.seccomp, however the document is written") {
  const std::string plain = with("/linux/seccomp", "null").dump();
  const std::string member = "\"seccomp\":null";
  const auto seccomp_of = [&](const std::string& written) {
    std::string text = plain;
    text.replace(text.find(member), member.size(), written);
    return parse_bundle_config(text, "/bundle").seccomp;
  };
  const std::string profile = R"({ "defaultAction" : "}{\"],",  "a":[[{}],{"b":"\\\\"}] })";
  CHECK(seccomp_of("\"seccomp\":" + profile) == profile);
  CHECK(seccomp_of("\n \"seccomp\" \t: " + profile + " ") == profile);
  CHECK(seccomp_of("\"x\":[\"seccomp\",{\"seccomp\":{}}],\"y\":\"\\\"\",\"seccomp\":" + profile) == profile);
  CHECK_FALSE(seccomp_of("\"x\":{\"seccomp\":{}}"));
  CHECK_FALSE(seccomp_of(member));
  // What is read of one is what a JSON reader would read of it.
  CHECK(seccomp_of(R"("secc\u006fmp":{"a": 1})") == "{\"a\":1}");
  CHECK(seccomp_of(R"("seccomp":{"a":1},"seccomp":{"a":2})") == "{\"a\":2}");
  CHECK(seccomp_of("\"seccomp\":true") == "true");
  for (const char* broken : {"\"seccomp\":{", "\"seccomp\":{}}", "\"seccomp\"{}", "\"seccomp\":{}{}"})
    CHECK_THROWS_AS(seccomp_of(broken), kit::error);
}

TEST_CASE("what says nothing to this driver is passed over") {
  for (const auto& [pointer, value] :
       {std::pair("/process/apparmorProfile", "\"\""), std::pair("/hooks", "{\"poststop\": []}"),
        std::pair("/linux/personality", "{\"domain\": \"LINUX\"}"), std::pair("/vendor", "{\"any\": [1]}"),
        std::pair("/linux/intelRdt", "{}")}) {
    INFO(pointer);
    CHECK_NOTHROW(parse(with(pointer, value)));
  }
}

TEST_CASE("mount options become attributes, propagation and the file system's own") {
  const bundle_config c = parse(with("/mounts", R"([
    {"destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "ro", "size=64k", "mode=1777", "noswap"]},
    {"destination": "b", "source": "volume", "options": ["rbind", "rro", "nodev", "rslave"]},
    {"destination": "/c", "source": "/x", "type": "none", "options": ["bind", "ro", "rw", "noatime", "strictatime"]}
  ])"));
  CHECK(c.mounts[0].here.set == (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY));
  CHECK(c.mounts[0].options ==
        std::vector<std::pair<std::string, std::string>>{{"size", "64k"}, {"mode", "1777"}, {"noswap", ""}});
  CHECK(c.mounts[1].type == "bind");
  CHECK(c.mounts[1].destination == "/b");
  CHECK(c.mounts[1].source == "/bundle/volume");
  CHECK(c.mounts[1].recursive);
  CHECK(c.mounts[1].below.set == MOUNT_ATTR_RDONLY);
  CHECK(c.mounts[1].here.set == MOUNT_ATTR_NODEV);
  CHECK(c.mounts[1].propagation == MS_SLAVE);
  CHECK(c.mounts[1].propagation_below);
  CHECK_FALSE(c.mounts[2].recursive);
  CHECK(c.mounts[2].here.set == MOUNT_ATTR_STRICTATIME);
  CHECK(c.mounts[2].here.clear == (MOUNT_ATTR_RDONLY | MOUNT_ATTR__ATIME));
}

TEST_CASE("resources keep their units, and say nothing where nothing was said") {
  const kit::cgroup_limits r = parse_bundle_resources(R"({
    "memory": {"limit": 1048576, "swap": -1}, "cpu": {"quota": 50000, "period": 100000, "cpus": ""},
    "pids": {"limit": 0}, "unified": {"memory.high": "max"},
    "blockIO": {"throttleWriteBpsDevice": [{"major": 8, "minor": 1, "rate": 100}]},
    "devices": [{"allow": false}, {"allow": true, "type": "c", "major": 1, "minor": -1, "access": "rm"}]
  })");
  CHECK(r.memory == 1048576);
  CHECK(r.memory_swap == -1);
  CHECK_FALSE(r.memory_reservation);
  CHECK(r.cpu_quota == 50000);
  CHECK_FALSE(r.cpuset_cpus);
  CHECK(r.pids == -1);
  CHECK(r.io_throttles.at(0).what == kit::cgroup_io_throttle::kind::write_bytes);
  CHECK(r.unified.at(0).first == "memory.high");
  REQUIRE(r.devices);
  CHECK(r.devices->at(0).type == 'a');
  CHECK_FALSE(r.devices->at(0).major);
  CHECK(r.devices->at(1).major == 1u);
  CHECK_FALSE(r.devices->at(1).minor);
  CHECK_FALSE(r.devices->at(1).write);
}

TEST_CASE("devices, capabilities, rlimits and seccomp come out as the kernel takes them") {
  json document =
      with("/linux/devices", R"([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438}])");
  document["process"]["capabilities"] = {{"bounding", {"CAP_CHOWN", "CAP_SYS_ADMIN"}}};
  document["process"]["rlimits"] = {{{"type", "RLIMIT_NOFILE"}, {"soft", 1}, {"hard", 18446744073709551615ull}}};
  document["linux"]["seccomp"] = json::parse(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
    "syscalls": [{"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                  "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]}]})");
  const bundle_config c = parse(document);
  CHECK(c.devices.at(0).number == makedev(10, 229));
  CHECK(c.devices.at(0).mode == (S_IFCHR | 0666));
  CHECK(c.process.capabilities->bounding.bits() == ((1u << 0) | (1u << 21)));
  CHECK(c.process.rlimits.at(0).value.rlim_max == RLIM64_INFINITY);
  const auto profile = parse_bundle_seccomp(*c.seccomp);
  CHECK(profile.default_errno == 38u);
  CHECK(profile.rules.at(0).arguments.at(0).compare == kit::seccomp_compare::masked_equal);
}

TEST_CASE("the program is looked for as execvp would") {
  bundle_process p;
  const auto candidates = [&](std::vector<std::string> args, std::vector<std::string> env) {
    p.args = std::move(args);
    p.env = std::move(env);
    return program_candidates(p);
  };
  using list = std::vector<std::string>;
  CHECK(candidates({"/bin/x"}, {"PATH=/a"}) == list{"/bin/x"});
  CHECK(candidates({"./x"}, {"PATH=/a"}) == list{"./x"});
  CHECK(candidates({"x"}, {"PATH=/a::/b:"}) == list{"/a/x", "./x", "/b/x", "./x"});
  CHECK(candidates({"x"}, {}).front() == "/usr/local/sbin/x");
}
