// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "host.hpp"

namespace kit::bench {

/// What kit wants of its start, as a table of a report (report.hpp): each goal that `cases` can tell of, what was
/// reached, and by how much it was missed.
json goals_met(const json& cases);

}  // namespace kit::bench
