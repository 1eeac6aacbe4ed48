// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <type_traits>

#include "host.hpp"
#include "kit/system/error.hpp"

/// \file
/// The options of a benchmark's verb: few words, no library.

namespace kit::bench {

/// Thrown after --help was answered.
struct helped {};

struct option {
  std::string name;   ///< "--layers"
  std::string value;  ///< "N", or empty: it takes none
  std::string help;
  std::function<void(const std::string& name, const std::string& value)> take;
};
struct help_text {
  std::string usage, about;
};

inline auto flag(bool& to) {
  return [&to](const std::string&, const std::string&) { to = true; };
}
inline auto text(std::string& to) {
  return [&to](const std::string&, const std::string& value) { to = value; };
}
template <class Number>
auto number(Number& to, std::type_identity_t<Number> least, std::type_identity_t<Number> most) {
  return [&to, least, most](const std::string& name, const std::string& value) {
    const auto [end, wrong] = std::from_chars(value.data(), value.data() + value.size(), to);
    if (wrong != std::errc{} || end != value.data() + value.size() || to < least || to > most)
      fail(errc::invalid, "option {}: \"{}\" is no number from {} to {}", name, value, least, most);
  };
}
inline auto one_of(std::string& to, std::vector<std::string> all) {
  return [&to, all = std::move(all)](const std::string& name, const std::string& value) {
    if (std::find(all.begin(), all.end(), value) == all.end()) {
      std::string list;
      for (const std::string& word : all) list += (list.empty() ? "" : ", ") + word;
      fail(errc::invalid, "option {}: \"{}\" is none of {}", name, value, list);
    }
    to = value;
  };
}
/// "a,b,c".
inline auto list(std::vector<std::string>& to) {
  return [&to](const std::string&, const std::string& value) {
    to.clear();
    for (std::size_t at = 0; at <= value.size();) {
      const std::size_t end = std::min(value.find(',', at), value.size());
      if (end > at) to.push_back(value.substr(at, end - at));
      at = end + 1;
    }
  };
}

/// Takes the options; answers what is left: words that are none, and all behind "--". Throws invalid, and helped.
inline command parse(const command& words, const help_text& help, const std::vector<option>& options) {
  command rest;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--help" || word == "-h") {
      fmt::print("Usage:  kit bench {}\n\n{}\n\nOptions:\n", help.usage, help.about);
      for (const option& o : options)
        fmt::print("  {:<26} {}\n", o.name + (o.value.empty() ? "" : " " + o.value), o.help);
      throw helped{};
    }
    if (word == "--") {
      rest.insert(rest.end(), words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      break;
    }
    if (word.size() < 2 || word[0] != '-') {
      rest.push_back(word);
      continue;
    }
    const std::size_t equals = word.starts_with("--") ? word.find('=') : word.npos;
    const std::string name = word.substr(0, equals);
    const auto found = std::find_if(options.begin(), options.end(), [&](const option& o) { return o.name == name; });
    if (found == options.end())
      fail(errc::invalid, "unknown option {}; see kit bench {} --help", name,
           help.usage.substr(0, help.usage.find(' ')));
    if (found->value.empty())
      found->take(name, "");
    else if (equals != word.npos)
      found->take(name, word.substr(equals + 1));
    else if (++i < words.size())
      found->take(name, words[i]);
    else
      fail(errc::invalid, "option {} needs a value", name);
  }
  return rest;
}

}  // namespace kit::bench
