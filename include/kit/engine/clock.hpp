// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace kit {

/// CLOCK_REALTIME in nanoseconds, as the records keep times.
std::int64_t now_ns() noexcept;
/// RFC 3339 in UTC with nanoseconds: "2026-01-31T12:00:00.000000001Z". 0 gives Docker's "never".
std::string rfc3339(std::int64_t ns);
/// Back; also without fraction, or with "+01:00". Throws invalid, quoting it, also for years that the records cannot keep.
std::int64_t parse_rfc3339(std::string_view text);
/// /proc/sys/kernel/random/boot_id: names this boot of this kernel.
const std::string& boot_id();
/// Whether that process (field 22 of /proc/PID/stat) of that boot still runs; a zombie does not.
bool process_lives(pid_t pid, std::uint64_t start_time, std::string_view boot);

}  // namespace kit
