// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// Which storage driver for what: a ranking by measured figures (kit bench storage) that a person can follow. It knows
/// figures and weights, and no driver.

namespace kit {

/// One figure that the benchmark tells of each driver.
struct figure {
  std::string_view key;    ///< in the benchmark's JSON: "first_write_1m_ms"
  std::string_view words;  ///< for people: "first write to a file of 1 MB"
  std::string_view unit;   ///< "ms", "KB", "MB/s"
  double least;            ///< below this nobody feels a difference: what is smaller counts as this
  bool more_is_better = false;
};
std::span<const figure> figures();

/// What a host is for: which figures count, and how much.
struct weight {
  std::string_view key;
  double weight;
};
struct purpose {
  std::string_view name;   ///< "build"
  std::string_view about;  ///< what it stands for, in half a sentence
  std::span<const weight> weights;
};
/// The first is what is meant if none is named.
std::span<const purpose> purposes();
/// Throws invalid, naming those there are.
const purpose& find_purpose(std::string_view name);

/// A driver's place. `score` is the weighted geometric mean of `times`: 1 is who is best in every figure that counts.
struct ranked_driver {
  struct part {
    const figure* what;
    double weight;
    double value;  ///< as measured; NaN: it was not
    double times;  ///< how many times as much as the best one's; not measured: as the worst one's
  };
  std::string name;
  double score = 1;
  std::vector<part> parts;  ///< in the order of the purpose's weights; figures that nobody has are left out
};
/// Best first; of two alike, by name. `measured`: figures by driver.
std::vector<ranked_driver> rank(const purpose& p, const std::map<std::string, std::map<std::string, double>>& measured);

/// Why the first stands before the second: its figures that weigh most for it, then those that speak against it. One
/// line; empty if there are not two.
std::string explain(const std::vector<ranked_driver>& ranking);

}  // namespace kit
