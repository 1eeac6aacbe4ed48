// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

namespace kit::cli {

/// The lines of a file, less empty ones, comments (#) and the white space they begin with.
struct file_line {
  std::string text;
  std::size_t number = 0;
};
std::vector<file_line> lines_of_file(const std::string& path);

/// The variables of `--env-file` files, then those of `-e`: "KEY=value"; a bare KEY takes this process's value, and is
/// left out if it has none. Throws invalid, naming file
/// and line.
std::vector<std::string> environment(const std::vector<std::string>& files, const std::vector<std::string>& given);

}  // namespace kit::cli
