// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "host.hpp"

namespace kit::bench {

/// `kit-bench storage`. Its JSON holds, beside what a report is made of (report.hpp), what `kit driver recommend` reads:
///
///     figures    {DRIVER: {FIGURE: number ...}}: medians; times in milliseconds, memory and disk in KB per clone,
///                throughput in MB/s. kit/engine/recommend.hpp names them.
int storage_command(const command& words);

}  // namespace kit::bench
