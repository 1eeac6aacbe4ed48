// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string_view>

#include "drivers/isolation/native/config.hpp"
#include "drivers/isolation/native/init.hpp"
#include "kit/isolation/types.hpp"

namespace kit::drivers::detail {

/// Names under container.state_dir. The first is written before any kernel object is made and says where to look
/// for them: the path of the container's group. The second is there from a create that answered until remove.
inline constexpr const char* group_file = "cgroup";
inline constexpr const char* created_file = "created";
/// Where kit-init listens until start.
inline constexpr const char* start_socket = "start";

/// isolation_driver's create and exec.
started launch_container(const driver_config& driver, const container& c, std::span<const mount> mounts,
                         const stdio& io);
started launch_process(const driver_config& driver, const container& c, std::string_view process_json, const stdio& io);

/// Throws what a report says; `what` begins the message ("create container 0123"). Items are named by `config` if
/// it is at hand.
[[noreturn]] void throw_report(const launch_report& report, std::string_view what,
                               const bundle_config* config = nullptr);

}  // namespace kit::drivers::detail
