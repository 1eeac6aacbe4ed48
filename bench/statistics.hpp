// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <vector>

namespace kit::bench {

struct summary {
  double min = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;
};
/// The value at a rank, of those there are: with fewer than 100 samples p99 is the greatest.
double percentile(const std::vector<double>& sorted, double part);
/// All zero for no samples.
summary summarize(std::vector<double> values);

/// A figure with the interval that holds it in 95 of 100 repetitions.
struct estimate {
  double value = 0, low = 0, high = 0;
};
/// The median of the ratios a[i] / b[i] of samples taken in the same turn, whatever fell on both: a bootstrap of 2,000
/// resamples of the pairs (Efron and Tibshirani, percentile method), with a fixed seed. Pairs without a partner (NaN)
/// are left out.
estimate ratio(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace kit::bench
