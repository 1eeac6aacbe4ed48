// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "kit/driver.hpp"
#include "kit/engine/launcher.hpp"
#include "kit/isolation/concept.hpp"
#include "kit/network/concept.hpp"
#include "kit/storage/concept.hpp"
#include "kit/system/error.hpp"
#include "kit/system/socket.hpp"

/// \file
/// # The launch path
///
/// From a container's record to its running program. Two processes take part, and each step's name
/// says which one runs it: *kit*, the command the user called, and the *launcher*, its child, which makes the
/// container and then becomes its monitor in the same pid.
///
///     kit                           launcher
///     ---                           --------
///     fork_launcher_in_kit  ----->  leave_the_terminal_in_launcher
///                                   open_streams_in_launcher           pipes, or a terminal's socket
///                                   describe_root_in_launcher          storage: activate, mounts, release
///                                   create_in_launcher                 isolation: namespaces, cgroups, root
///                                   attach_network_in_launcher         network: interface, address, route; within
///                                                                      create, if the driver lends its namespace early
///     record what was made  <-----  report_created_in_launcher
///                                   start_in_launcher                  isolation: execve succeeded
///     return the session    <-----  report_started_in_launcher
///                                   become_monitor_in_launcher         exec kit-monitor
///
/// A step that fails takes back what the ones before it made; kit then throws what the launcher met.

namespace kit {

/// The drivers one container is made with.
template <storage_driver S, network_driver N, isolation_driver I>
struct models {
  S& storage;
  N& network;
  I& isolation;
};

/// Everything a launch needs to know; nothing in it is asked of the records.
struct launch_plan {
  container what;
  layer_id layer;
  std::vector<layer_id> chain;
  kit::network network;
  std::optional<kit::endpoint> endpoint;  ///< netns is filled in on the way
  bool tty = false;
  bool stdin_open = false;  ///< the program reads stdin (from the session); else it reads /dev/null
  bool session = false;     ///< kit stays connected
  bool log = true;          ///< what the program writes is kept
  std::string container_dir, run_dir;
  unique_fd presence;                ///< the monitor's share of the root's presence lock
  std::vector<std::string> monitor;  ///< kit-monitor and its arguments
};

/// What a launch answers in kit.
struct launched {
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  std::optional<attachment> attached;
  unique_fd session;
};

namespace detail {

/// The mounts of the container's root, as the isolation driver wants them.
template <storage_driver S>
std::vector<mount> describe_root_in_launcher(S& storage, const launch_plan& plan) {
  const layer l{plan.layer, plan.chain};
  if constexpr (activates<S>)
    if (can(storage, storage_ability::activates)) storage.activate(l, access::read_write);
  return storage.mounts(l, access::read_write);
}

/// After the mounts were made: the kernel keeps the device as long as something is mounted from it.
template <storage_driver S>
void release_root_in_launcher(S& storage, const launch_plan& plan) {
  if constexpr (activates<S>)
    if (can(storage, storage_ability::activates)) storage.release({plan.layer, plan.chain});
}

/// Makes the container. A driver that cannot take mount descriptions gets BUNDLE/rootfs mounted, in a mount
/// namespace of the launcher's own: the host never sees it, and it ends with the monitor.
template <isolation_driver I>
started create_in_launcher(I& isolation, const launch_plan& plan, std::span<const mount> mounts, const stdio& io) {
  if (!isolation.traits().needs_rootfs_path) return isolation.create(plan.what, mounts, io);
  mount_root_in_own_namespace(mounts, plan.what.bundle + "/rootfs");
  return isolation.create(plan.what, {}, io);
}

/// A network that is not there (after a reboot, or somebody removed its link) is made again.
template <network_driver N>
attachment attach_network_in_launcher(N& network, const launch_plan& plan) {
  try {
    return network.attach(plan.network, *plan.endpoint);
  } catch (const error& e) {
    if (e.code() != errc::not_found) throw;
  }
  network.create(plan.network);
  return network.attach(plan.network, *plan.endpoint);
}

inline void report_created_in_launcher(report_channel& report, const started& made,
                                       const std::optional<attachment>& attached) {
  report.created(made.pid, made.start_time, attached);
}

template <isolation_driver I>
void start_in_launcher(I& isolation, const launch_plan& plan) {
  isolation.start(plan.what);
}

inline void report_started_in_launcher(report_channel& report) { report.started(); }

template <storage_driver S, network_driver N, isolation_driver I>
void launch_in_launcher(const models<S, N, I>& m, launch_plan& plan, report_channel& report, unique_fd session) {
  KIT_STEP(leave_the_terminal_in_launcher());
  streams_of_launch streams = KIT_STEP(open_streams_in_launcher(plan.tty, plan.stdin_open));
  const std::vector<mount> mounts = KIT_STEP(describe_root_in_launcher(m.storage, plan));
  started made;
  std::optional<attachment> attached;
  try {
    const auto attach = [&](int netns) {
      plan.endpoint->netns = netns;
      attached = KIT_STEP(attach_network_in_launcher(m.network, plan));
    };
    const function_ref<void(int)> on_netns = attach;
    stdio io = streams.for_program();
    if (plan.endpoint) io.on_netns = &on_netns;
    made = KIT_STEP(create_in_launcher(m.isolation, plan, mounts, io));
    KIT_STEP(release_root_in_launcher(m.storage, plan));
    plan.what.pid = made.pid;
    plan.what.start_time = made.start_time;
    KIT_STEP(save_state_in_launcher(plan.run_dir, made));
    if (plan.endpoint && !attached) attach(made.netns.get());
    KIT_STEP(report_created_in_launcher(report, made, attached));
    monitor_descriptors descriptors(plan, made, streams, std::move(session));
    KIT_STEP(start_in_launcher(m.isolation, plan));
    KIT_STEP(report_started_in_launcher(report));
    tell_step("become_monitor_in_launcher", step_edge::begin);
    descriptors.become_monitor_in_launcher(plan.monitor);
  } catch (...) {
    // What was made so far goes again. An error on the way back would hide the one that matters.
    try {
      m.isolation.remove(plan.what);
      if (plan.endpoint) {
        plan.endpoint->netns = -1;
        m.network.detach(plan.network, *plan.endpoint, attached.value_or(attachment{}));
      }
    } catch (const std::exception& e) {
      this_call().log(log_level::warning, e.what());
    }
    throw;
  }
}

}  // namespace detail

/// Launches the container `plan` describes and returns once its program runs. Throws what went wrong in the
/// launcher; then nothing of the container is left but its record, layer and directory. `on_created` runs in kit, beside
/// the start of the program, as soon as the container exists. The caller holds the container's lock.
template <storage_driver S, network_driver N, isolation_driver I>
launched launch(const models<S, N, I>& m, launch_plan plan, function_ref<void(const launched&)> on_created) {
  unique_fd session, monitors_end;
  if (plan.session) std::tie(session, monitors_end) = make_socket_pair(SOCK_STREAM);
  report_channel report;
  if (KIT_STEP(fork_launcher_in_kit(report))) {
    session.reset();
    run_launcher(report, [&] { detail::launch_in_launcher(m, plan, report, std::move(monitors_end)); });
  }
  monitors_end.reset();
  launched result = KIT_STEP(report.wait_created_in_kit());
  result.session = std::move(session);
  in_step("record_start", [&] { on_created(result); });
  KIT_STEP(report.wait_started_in_kit());
  return result;
}

}  // namespace kit
