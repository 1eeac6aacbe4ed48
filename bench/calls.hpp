// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "host.hpp"

namespace kit::bench {

/// What a call of a storage driver costs as a class, behind type erasure, and loaded from its plugin, as a table of a
/// report (report.hpp). `directory` takes the driver's layers.
json calls_of_drivers(const std::string& directory);

}  // namespace kit::bench
