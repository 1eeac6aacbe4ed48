// SPDX-License-Identifier: Apache-2.0
#include "kit/system/capability.hpp"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace {

std::uint64_t status_line(const std::string& word) {
  const auto status = kit::read_file("/proc/self/status");
  const auto at = status.find(word + ":");
  return std::stoull(status.substr(at + word.size() + 1), nullptr, 16);
}

}  // namespace

TEST_CASE("names and numbers are each other's inverse, in every spelling") {
  for (unsigned n = 0; n <= CAP_LAST_CAP; ++n) {
    const auto name = kit::capability_name(n);
    INFO(n);
    REQUIRE(!name.empty());
    CHECK(kit::capability_number(name) == n);
    CHECK(kit::capability_number(name.substr(4)) == n);
  }
  CHECK(kit::capability_number("net_admin") == CAP_NET_ADMIN);
  CHECK(kit::capability_number("cap_bpf") == CAP_BPF);
  CHECK_FALSE(kit::capability_number("CAP_"));
  CHECK_FALSE(kit::capability_number("CAP_NET"));
  CHECK(kit::capability_name(63).empty());
}

TEST_CASE("a list of names is a set; a wrong name is named") {
  const auto set = kit::capabilities_from_names({"CAP_CHOWN", "kill", "CAP_CHOWN"});
  CHECK(set.bits() == (1u << CAP_CHOWN | 1u << CAP_KILL));
  CHECK(kit::capability_names(set) == std::vector<std::string>{"CAP_CHOWN", "CAP_KILL"});
  CHECK((set - kit::capabilities_from_names({"KILL"})).bits() == 1u << CAP_CHOWN);
  CHECK_THROWS_WITH(kit::capabilities_from_names({"CAP_FLY"}), Catch::Contains("CAP_FLY"));
}

TEST_CASE("own sets are what /proc says") {
  const auto own = kit::own_capabilities();
  CHECK(own.effective.bits() == status_line("CapEff"));
  CHECK(own.permitted.bits() == status_line("CapPrm"));
  CHECK(own.inheritable.bits() == status_line("CapInh"));
  CHECK(own.bounding.bits() == status_line("CapBnd"));
  CHECK(own.ambient.bits() == status_line("CapAmb"));
  CHECK(kit::kernel_capabilities().bits() ==
        (std::uint64_t{2} << std::stoul(kit::read_file("/proc/sys/kernel/cap_last_cap"))) - 1);
  CHECK(kit::kernel_capabilities().includes(own.bounding));
}

TEST_CASE("a child keeps what it was given through a change of user, and its children cannot regain more") {
  if (!kit::own_capabilities().effective.contains(CAP_SETPCAP)) {
    WARN("skipped: needs CAP_SETPCAP");
    return;
  }
  const auto wanted = kit::capabilities_from_names({"CAP_CHOWN", "CAP_NET_BIND_SERVICE"});
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (kit::limit_bounding_set(wanted) != 0) ::_exit(1);
    if (::setresgid(1234, 1234, 1234) != 0 || ::setresuid(1234, 1234, 1234) != 0) ::_exit(2);
    kit::process_capabilities sets;
    sets.bounding = sets.effective = sets.permitted = sets.inheritable = wanted;
    sets.ambient = kit::capabilities_from_names({"CAP_CHOWN"});
    if (kit::set_own_capabilities(sets) != 0) ::_exit(3);
    ::_exit(kit::own_capabilities() == sets ? 0 : 4);
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("ambient beyond inheritable is refused with the kernel's errno") {
  const pid_t pid = ::fork();
  if (pid == 0) {
    auto sets = kit::own_capabilities();
    sets.inheritable = {};
    sets.ambient = kit::capabilities_from_names({"CAP_CHOWN"});
    ::_exit(kit::set_own_capabilities(sets) == -EPERM ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(status == 0);
}
