// SPDX-License-Identifier: Apache-2.0
#include "labels.hpp"

#include <algorithm>

#include "environment.hpp"
#include "kit/system/error.hpp"

namespace kit::cli {

std::vector<option> parse_labels(const std::vector<std::string>& files, const std::vector<std::string>& given) {
  std::vector<option> labels;
  const auto add = [&](const std::string& text) {
    const std::size_t equals = text.find('=');
    option label{text.substr(0, equals), equals == text.npos ? "" : text.substr(equals + 1)};
    if (label.key.empty()) fail(errc::invalid, "invalid label '{}': empty name", text);
    std::erase_if(labels, [&](const option& o) { return o.key == label.key; });
    labels.push_back(std::move(label));
  };
  for (const std::string& file : files)
    for (const file_line& line : lines_of_file(file)) add(line.text);
  for (const std::string& text : given) add(text);
  return labels;
}

bool has_label(const std::vector<option>& labels, std::string_view wanted) {
  return std::any_of(labels.begin(), labels.end(),
                     [&](const option& l) { return l.key == wanted || l.key + "=" + l.value == wanted; });
}

std::string join_labels(const std::vector<option>& labels) {
  std::string text;
  for (const option& l : labels) text += fmt::format("{}{}={}", text.empty() ? "" : ",", l.key, l.value);
  return text;
}

}  // namespace kit::cli
