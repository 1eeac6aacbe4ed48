// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

namespace kit::cli {

/// The variables of `--env-file` files, then those of `-e`: "KEY=value"; a bare KEY takes this process's value, and is
/// left out if it has none. In a file, empty lines and lines that begin with # are skipped. Throws invalid, naming file
/// and line.
std::vector<std::string> environment(const std::vector<std::string>& files, const std::vector<std::string>& given);

}  // namespace kit::cli
