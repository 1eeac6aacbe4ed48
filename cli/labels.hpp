// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kit/driver.hpp"

namespace kit::cli {

/// Those of `--label-file` files, a line each, then those of `--label`: "KEY=VALUE" or "KEY". The last of a key counts.
/// Throws invalid.
std::vector<option> parse_labels(const std::vector<std::string>& files, const std::vector<std::string>& given);
/// Whether a filter's "KEY" or "KEY=VALUE" is among them.
bool has_label(const std::vector<option>& labels, std::string_view wanted);
/// "a=1,b=2"
std::string join_labels(const std::vector<option>& labels);

}  // namespace kit::cli
