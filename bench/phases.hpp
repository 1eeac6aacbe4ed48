// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "host.hpp"

namespace kit::bench {

/// Where the time of a start goes, as a table of a report (report.hpp): the steps of `kit run --trace`, medians of
/// `starts` of them. `run` is the whole command, `directory` where the traces are written.
json phases_of(const command& run, const std::string& directory, unsigned starts);

}  // namespace kit::bench
