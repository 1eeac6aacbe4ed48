// SPDX-License-Identifier: Apache-2.0
#include "environment.hpp"

#include <cstdlib>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit::cli {
namespace {

void add(std::vector<std::string>& into, const std::string& variable, const std::string& where) {
  const std::size_t equals = variable.find('=');
  if (equals == 0 || variable.empty() || variable.find('\0') != variable.npos)
    fail(errc::invalid, "{} \"{}\": KEY=VALUE or KEY is expected", where, variable);
  if (equals != variable.npos)
    into.push_back(variable);
  else if (const char* own = std::getenv(variable.c_str()))
    into.push_back(variable + "=" + own);
}

}  // namespace

std::vector<file_line> lines_of_file(const std::string& path) {
  std::vector<file_line> lines;
  const std::string content = read_file(path);
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < content.size();) {
    const std::size_t end = std::min(content.find('\n', begin), content.size());
    std::string line = content.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    line.erase(0, std::min(line.find_first_not_of(" \t"), line.size()));
    if (!line.empty() && line.front() != '#') lines.push_back({std::move(line), number});
  }
  return lines;
}

std::vector<std::string> environment(const std::vector<std::string>& files, const std::vector<std::string>& given) {
  std::vector<std::string> all;
  for (const std::string& file : files)
    for (const file_line& line : lines_of_file(file))
      add(all, line.text, fmt::format("environment file {}, line {}:", file, line.number));
  for (const std::string& variable : given) add(all, variable, "environment variable");
  return all;
}

}  // namespace kit::cli
