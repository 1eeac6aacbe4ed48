// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "kit/network/concept.hpp"
#include "kit/testing/suite.hpp"

/// \file
/// The conformance suite of network drivers: one check per sentence of kit/network/concept.hpp, each in a host of its
/// own made of network namespaces (kit/testing/network_lab.hpp), with real packets. Needs root.
///
///     int failures = kit::testing::check_network(
///         [](const kit::driver_config& config) { return my_driver(config); },
///         [](const kit::testing::outcome& o) { std::puts(...); });

namespace kit::testing {

/// The subnets the suite asks for; a driver that refuses the second, or both, as invalid is tested without.
inline const subnet ipv4_subnet{"10.231.0.0/20", "10.231.0.1"};
inline const subnet ipv6_subnet{"fd00:231::/64", "fd00:231::1"};

namespace detail {

/// A driver as the checks see it, so that they are compiled once.
class network_subject {
 public:
  virtual ~network_subject() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual probe_report probe() const = 0;
  virtual network_traits traits() = 0;
  virtual void create(const network&) = 0;
  virtual void remove(const network&) = 0;
  virtual attachment attach(const network&, const endpoint&) = 0;
  virtual void detach(const network&, const endpoint&, const attachment&) = 0;
  virtual void check(const network&, const endpoint&, const attachment&) = 0;
  virtual void collect(const network&, std::span<const endpoint_id>) = 0;
  virtual void status(const network&) = 0;
};

template <network_driver D>
class network_subject_of final : public network_subject {
 public:
  template <class MakeDriver>
  network_subject_of(MakeDriver& make, const driver_config& config) : d_(make(config)) {}
  [[nodiscard]] std::string name() const override { return std::string(std::string_view(d_.name())); }
  [[nodiscard]] probe_report probe() const override { return d_.probe(); }
  network_traits traits() override { return d_.traits(); }
  void create(const network& n) override { d_.create(n); }
  void remove(const network& n) override { d_.remove(n); }
  attachment attach(const network& n, const endpoint& e) override { return d_.attach(n, e); }
  void detach(const network& n, const endpoint& e, const attachment& a) override { d_.detach(n, e, a); }
  void check(const network& n, const endpoint& e, const attachment& a) override { d_.check(n, e, a); }
  void collect(const network& n, std::span<const endpoint_id> valid) override { d_.collect(n, valid); }
  void status(const network& n) override { d_.status(n); }

 private:
  D d_;
};

using make_network_subject = function_ref<std::unique_ptr<network_subject>(const driver_config&)>;
int check_network(make_network_subject make, outcome_sink out, std::string_view only,
                  const std::vector<option>& network_options);

}  // namespace detail

/// Runs the suite, or the check named `only`, and answers how many checks failed. `make(config)` makes a driver; it
/// runs in the network namespace that is the host of the check to come, and may furnish that (a parent link).
/// `network_options` are the options of every network asked for.
template <class MakeDriver>
int check_network(MakeDriver make, outcome_sink out, std::string_view only = {},
                  const std::vector<option>& network_options = {}) {
  using subject = detail::network_subject_of<decltype(make(std::declval<const driver_config&>()))>;
  auto make_subject = [&](const driver_config& config) -> std::unique_ptr<detail::network_subject> {
    return std::make_unique<subject>(make, config);
  };
  return detail::check_network(make_subject, out, only, network_options);
}

}  // namespace kit::testing
