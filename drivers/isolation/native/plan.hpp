// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "drivers/isolation/native/config.hpp"
#include "drivers/isolation/native/init.hpp"
#include "kit/system/fd.hpp"

namespace kit::drivers::detail {

/// The sealed memfd kit-init works by: `process` and `filter` written behind `plan`, whose flags and descriptors
/// the caller chose. Throws invalid if it outgrows what execve(2) would take.
unique_fd make_init_plan(init_plan plan, const bundle_process& process, const std::optional<seccomp_filter>& filter);

/// The files execvp(3) would try for args[0], by the PATH of the process's own environment.
std::vector<std::string> program_candidates(const bundle_process& process);

}  // namespace kit::drivers::detail
