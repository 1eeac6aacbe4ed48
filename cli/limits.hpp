// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <charconv>
#include <string>

#include "kit/engine/spec.hpp"
#include "kit/system/error.hpp"
#include "options.hpp"

namespace kit::cli {

/// A number of at least `least`. Throws invalid, naming the option.
template <class Number>
Number parse_number(const std::string& text, const char* option, Number least) {
  Number value{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size() || !(value >= least))
    fail(errc::invalid, "{} \"{}\": a number of at least {} is expected", option, text, least);
  return value;
}

/// The limits that run, create and update take.
struct limit_options {
  std::string memory, memory_swap, memory_reservation, cpus, cpu_shares, cpu_period, cpu_quota, cpuset_cpus,
      cpuset_mems, pids_limit, blkio_weight;

  void bind(options&);
  /// Writes those that were given into the specification; the others keep their values.
  void apply(container_spec&) const;
};

}  // namespace kit::cli
