// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "verbs.hpp"

namespace kit::cli {

/// RFC 3339 from "2024-01-02T03:04:05Z", a day, Unix time, or from a time ago: "10m", "1h30m", "90s".
/// Throws usage_error. Empty stays empty.
std::string moment(invocation&, const char* option, const std::string& text);

}  // namespace kit::cli
