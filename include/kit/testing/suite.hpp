// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fmt/core.h>

#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "kit/detail/function_ref.hpp"

/// \file
/// The shape of a conformance suite: a table of checks, each one sentence of a contract, run one by
/// one against fresh drivers, free of any test framework. `kit plugin check` prints the outcomes;
/// the project's own tests hand each to Catch2.

namespace kit::testing {

enum class verdict { passed, skipped, failed };

/// What came of one check.
struct outcome {
  std::string_view check;        ///< the check's name, unique in its suite: "create_twice_keeps_contents"
  std::string_view requirement;  ///< the sentence of the contract, with its number in concept.hpp
  verdict is = verdict::passed;
  std::string reason;  ///< why it failed or was skipped
};

using outcome_sink = function_ref<void(const outcome&)>;

/// Thrown by a check that does not apply here (an ability the driver lacks, a feature the host lacks).
struct skipped : std::runtime_error {
  using runtime_error::runtime_error;
};
/// Thrown by a check that found the contract broken.
struct failed : std::runtime_error {
  using runtime_error::runtime_error;
};

/// Fails the check unless `condition`.
template <class... Args>
void expect(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw failed(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
[[noreturn]] void skip(fmt::format_string<Args...> format, Args&&... args) {
  throw skipped(fmt::format(format, std::forward<Args>(args)...));
}

/// One check: a sentence and the function that tries it in a fixture made for it alone.
template <class Fixture>
struct check {
  std::string_view name;
  std::string_view requirement;
  void (*run)(Fixture&);
};

/// Runs every check (or the one named `only`), each in its own Fixture made by `make_fixture()`, and tells `out`.
/// Answers how many failed. An exception of any other kind is a failure with its text.
template <class Fixture, class MakeFixture>
int run_checks(std::span<const check<Fixture>> checks, MakeFixture&& make_fixture, outcome_sink out,
               std::string_view only = {}) {
  int failures = 0;
  for (const auto& c : checks) {
    if (!only.empty() && c.name != only) continue;
    outcome o{c.name, c.requirement, verdict::passed, {}};
    try {
      Fixture fixture = make_fixture();
      c.run(fixture);
    } catch (const skipped& e) {
      o.is = verdict::skipped;
      o.reason = e.what();
    } catch (const std::exception& e) {
      o.is = verdict::failed;
      o.reason = e.what();
      ++failures;
    }
    out(o);
  }
  return failures;
}

}  // namespace kit::testing
