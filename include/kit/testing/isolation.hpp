// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "kit/isolation/concept.hpp"
#include "kit/testing/suite.hpp"

/// \file
/// The conformance suite of isolation drivers: one check per sentence of kit/isolation/concept.hpp.
///
///     int failures = kit::testing::check_isolation(
///         [](const kit::driver_config& c) { return runs(c); },
///         [](const kit::testing::outcome& o) { fmt::print("{}: {}\n", o.check, o.reason); });
///
/// It runs real containers of a root file system made from the host's static busybox, so it needs root and
/// Debian's busybox-static; without them every check is skipped. It forks, waits for all its children and becomes
/// a subreaper meanwhile, so it is called while the process has one thread and no children.

namespace kit::testing {

/// An isolation driver behind virtual functions, so that the checks are compiled once. It adds nothing and
/// catches nothing: what a check sees is what the driver did.
class isolation_subject {
 public:
  virtual ~isolation_subject() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual probe_report probe() const = 0;
  [[nodiscard]] virtual isolation_traits traits() const = 0;
  virtual started create(const container&, std::span<const mount>, const stdio&) = 0;
  virtual void start(const container&) = 0;
  virtual void signal(const container&, int, reach) = 0;
  virtual void remove(const container&) = 0;
  virtual started exec(const container&, std::string_view process, const stdio&) = 0;
  virtual void pause(const container&) = 0;
  virtual void resume(const container&) = 0;
  virtual void update(const container&, std::string_view resources) = 0;
  virtual container_stats stats(const container&) = 0;
};

/// Makes a new driver object; called several times with one configuration, also in forked children.
using make_isolation = function_ref<std::unique_ptr<isolation_subject>(const driver_config&)>;

class isolation_fixture;  // impl/isolation_fixture.hpp: of no interest but to the checks

/// The checks, in the order of the contract.
std::span<const check<isolation_fixture>> isolation_checks();

int run_isolation_checks(make_isolation make, outcome_sink out, std::string_view only);

namespace detail {

template <class Made>
auto& isolation_driver_in(Made& made) {
  if constexpr (isolation_driver<std::remove_const_t<Made>>)
    return made;
  else
    return *made;
}

template <class Made>
class isolation_subject_of final : public isolation_subject {
 public:
  template <class Make>
  isolation_subject_of(Make& make, const driver_config& config) : made_(make(config)) {}

  [[nodiscard]] std::string name() const override { return std::string(isolation_driver_in(made_).name()); }
  [[nodiscard]] probe_report probe() const override { return isolation_driver_in(made_).probe(); }
  [[nodiscard]] isolation_traits traits() const override { return isolation_driver_in(made_).traits(); }
  started create(const container& c, std::span<const mount> m, const stdio& io) override {
    return d().create(c, m, io);
  }
  void start(const container& c) override { d().start(c); }
  void signal(const container& c, int signal, reach r) override { d().signal(c, signal, r); }
  void remove(const container& c) override { d().remove(c); }
  started exec(const container& c, std::string_view p, const stdio& io) override { return d().exec(c, p, io); }
  void pause(const container& c) override { d().pause(c); }
  void resume(const container& c) override { d().resume(c); }
  void update(const container& c, std::string_view resources) override { d().update(c, resources); }
  container_stats stats(const container& c) override { return d().stats(c); }

 private:
  using driver_type = std::remove_cvref_t<decltype(isolation_driver_in(std::declval<Made&>()))>;
  static_assert(isolation_driver<driver_type>, "make(config) answers an isolation driver or a pointer to one");
  driver_type& d() { return isolation_driver_in(made_); }
  Made made_;
};

}  // namespace detail

/// Runs the suite, or the one check named `only`, each against a fresh `make(const driver_config&)`: a driver or a
/// pointer that owns one, movable or not. `make` may complete its copy of the configuration (libexec). Answers how
/// many checks failed.
template <class MakeDriver>
int check_isolation(MakeDriver make, outcome_sink out, std::string_view only = {}) {
  auto made = [&](const driver_config& config) -> std::unique_ptr<isolation_subject> {
    return std::make_unique<detail::isolation_subject_of<decltype(make(config))>>(make, config);
  };
  return run_isolation_checks(made, out, only);
}

}  // namespace kit::testing
