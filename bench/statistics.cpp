// SPDX-License-Identifier: Apache-2.0
#include "statistics.hpp"

#include <algorithm>
#include <cmath>
#include <random>

namespace kit::bench {

double percentile(const std::vector<double>& sorted, double part) {
  if (sorted.empty()) return 0;
  const auto rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(sorted.size())));
  return sorted[std::clamp<std::size_t>(rank, 1, sorted.size()) - 1];
}

summary summarize(std::vector<double> values) {
  values.erase(std::remove_if(values.begin(), values.end(), [](double v) { return std::isnan(v); }), values.end());
  std::sort(values.begin(), values.end());
  if (values.empty()) return {};
  return {values.front(), percentile(values, 0.5), percentile(values, 0.9), percentile(values, 0.99), values.back()};
}

estimate ratio(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    if (!std::isnan(a[i]) && !std::isnan(b[i]) && b[i] > 0) ratios.push_back(a[i] / b[i]);
  if (ratios.empty()) return {};
  const auto median = [](std::vector<double>& v) {
    const auto middle = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2);
    std::nth_element(v.begin(), middle, v.end());
    return *middle;
  };
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same samples give the same interval
  std::uniform_int_distribution<std::size_t> any(0, ratios.size() - 1);
  std::vector<double> medians, resample(ratios.size());
  for (int round = 0; round < 2000; ++round) {
    for (double& r : resample) r = ratios[any(random)];
    medians.push_back(median(resample));
  }
  std::sort(medians.begin(), medians.end());
  return {median(ratios), percentile(medians, 0.025), percentile(medians, 0.975)};
}

}  // namespace kit::bench
