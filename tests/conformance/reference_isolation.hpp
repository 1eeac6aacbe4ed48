// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

#include "kit/isolation/concept.hpp"

namespace kit::testing {

/// What reference_isolation can be made to do wrong, one at a time.
enum class isolation_fault : std::uint32_t {
  none,
  exit_code_lost,
  descriptor_leaked,
  start_by_the_creator_only,
  remove_of_unknown_throws,
  remove_kills_nobody,
  remove_keeps_its_files,
  signal_for_all_goes_to_the_init,
  signal_trusts_the_pid,
  exec_stays_in_the_hosts_pid_namespace,
  exec_stays_in_the_hosts_cgroup,
  capabilities_kept,
  failed_create_leaves_a_cgroup,
  environment_leaked,
  pause_does_nothing,
  stdio_swapped,
  keyring_kept,
  signals_kept,
  init_outlives_the_caller,
  limits_ignored,
  update_stops_halfway,
  links_lead_mounts_out,
  program_runs_in_create,
  masks_ignored,
  own_binary_offered,
  start_does_not_wait_for_execve,
};

/// The contract of isolation drivers in its plainest form: fork(2), unshare(2), mount(2), pivot_root(2), a shim that
/// waits for the init and ends with its status. Slow, and of the specification it knows what the suite writes. It
/// shares no code with drivers/isolation/native, so that what both do is the contract and not one reading of it.
class reference_isolation {
 public:
  explicit reference_isolation(const driver_config&, isolation_fault fault = isolation_fault::none) : fault_(fault) {}

  static std::string_view name() noexcept { return "reference"; }
  static probe_report probe() {
    probe_report report;
    report.usable = true;
    return report;
  }
  static isolation_traits traits() noexcept { return {}; }

  started create(const container& c, std::span<const mount> mounts, const stdio& io);
  void start(const container& c);
  void signal(const container& c, int signal, reach whom);
  void remove(const container& c);
  started exec(const container& c, std::string_view process_json, const stdio& io);
  void pause(const container& c);
  void resume(const container& c);
  void update(const container& c, std::string_view resources_json);
  container_stats stats(const container& c);

 private:
  [[nodiscard]] bool has(isolation_fault f) const noexcept { return fault_ == f; }
  isolation_fault fault_;
};

}  // namespace kit::testing
