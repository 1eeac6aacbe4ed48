// SPDX-License-Identifier: Apache-2.0
#include "kit/testing/isolation.hpp"

#include <unistd.h>

#include <cstdlib>

#include "drivers/isolation/native.hpp"
#include "kit/isolation/any_isolation.hpp"
#include "kit/plugin/loader.hpp"
#include "reference_isolation.hpp"
#include "show.hpp"

namespace {

using namespace kit;
using namespace kit::testing;

void need_root() {
  if (::geteuid() == 0) return;
  fmt::print("skipped: containers need root\n");
  std::exit(77);
}

template <class Make>
void conforms(Make make) {
  need_root();
  show(isolation_checks(),
       [&](std::string_view name, outcome_sink out) { CHECK(check_isolation(make, out, name) == 0); });
}

/// kit-init and the plugins of this build.
driver_config built_here(driver_config config) {
  const char* bin = std::getenv("KIT_TEST_BIN");
  config.libexec = bin != nullptr ? bin : "bin";
  return config;
}

template <class D>
constexpr auto direct = [](const driver_config& c) { return D(built_here(c)); };
/// Through the C table that a plugin would export.
template <class D>
constexpr auto erased = [](const driver_config& c) { return any_isolation(std::make_unique<D>(built_here(c))); };
/// From the plugin's file, found in $KIT_PLUGIN_PATH.
auto plugged(std::string_view name) {
  return [name](const driver_config& c) { return open_isolation(name, built_here(c)); };
}

using fault = isolation_fault;

constexpr struct {
  fault seeded;
  std::string_view caught_by;
} faults[] = {
    {fault::exit_code_lost, "exit_code_is_the_waiters"},
    {fault::descriptor_leaked, "descriptors_are_0_1_2"},
    {fault::start_by_the_creator_only, "start_from_another_process"},
    {fault::remove_of_unknown_throws, "remove_of_the_absent_succeeds"},
    {fault::remove_kills_nobody, "remove_ends_everything"},
    {fault::remove_keeps_its_files, "removed_may_be_created_again"},
    {fault::signal_for_all_goes_to_the_init, "signal_reaches_all"},
    {fault::signal_trusts_the_pid, "signal_spares_a_stranger"},
    {fault::exec_stays_in_the_hosts_pid_namespace, "exec_runs_inside"},
    {fault::exec_stays_in_the_hosts_cgroup, "exec_is_in_the_cgroup"},
    {fault::capabilities_kept, "capabilities_are_as_asked"},
    {fault::failed_create_leaves_a_cgroup, "failed_create_leaves_nothing"},
    {fault::environment_leaked, "environment_is_exact"},
    {fault::pause_does_nothing, "pause_stops_and_resume_goes_on"},
    {fault::stdio_swapped, "stdio_is_in_place"},
    {fault::keyring_kept, "session_keyring_is_empty"},
    {fault::signals_kept, "signals_are_as_by_default"},
    {fault::init_outlives_the_caller, "init_dies_with_the_caller_before_start"},
    {fault::limits_ignored, "limits_are_set"},
    {fault::update_stops_halfway, "update_is_all_or_an_error"},
    {fault::links_lead_mounts_out, "mounts_stay_inside_the_root"},
    {fault::program_runs_in_create, "create_blocks_before_the_program"},
    {fault::masks_ignored, "paths_are_masked_and_read_only"},
    {fault::own_binary_offered, "hosts_binary_is_out_of_reach"},
    {fault::start_does_not_wait_for_execve, "start_says_what_execve_said"},
};

}  // namespace

// One line per form of a driver.
TEST_CASE("reference") { conforms(direct<reference_isolation>); }
TEST_CASE("native") { conforms(direct<drivers::native>); }
TEST_CASE("native, erased") { conforms(erased<drivers::native>); }
TEST_CASE("native, as a plugin") { conforms(plugged("native")); }

TEST_CASE("every seeded fault is caught by the check that names it") {
  need_root();
  for (const auto& f : faults) {
    DYNAMIC_SECTION("fault " << static_cast<unsigned>(f.seeded) << ", " << f.caught_by) {
      int seen = 0;
      const int failures = check_isolation([&](const driver_config& c) { return reference_isolation(c, f.seeded); },
                                           [&](const outcome& o) { seen += o.is == verdict::failed; }, f.caught_by);
      CHECK(failures == 1);
      CHECK(seen == 1);
    }
  }
}
