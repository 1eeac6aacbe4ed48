// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/network/concept.hpp"

namespace kit::drivers {

/// Containers on the wire of a host link, each with a hardware address of its own there: no bridge, no NAT, the gateway
/// is the wire's. For a network nothing is made: it is there if its parent is.
///
/// The kernel lets host and containers not speak to each other over one wire. An endpoint's link is born on the host
/// under e.link, marked, and moved; it bears its mark inside, where collect finds it through the numbers by which the
/// host's namespace knows others.
class macvlan {
 public:
  explicit macvlan(const driver_config&) {}
  static constexpr std::string_view name() { return "macvlan"; }
  /// parent, mode (bridge, private, vepa, passthru), mtu: options of a network.
  static std::vector<option_schema> options();
  static network_traits traits() { return {}; }
  probe_report probe() const;

  void create(const network& n);
  void remove(const network&) {}
  attachment attach(const network& n, const endpoint& e);
  void detach(const network& n, const endpoint& e, const attachment& a);
  void check(const network& n, const endpoint& e, const attachment& a);
  void collect(const network& n, std::span<const endpoint_id> valid);
  void status(const network& n);
};

}  // namespace kit::drivers
