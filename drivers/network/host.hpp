// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/network/concept.hpp"
#include "kit/system/error.hpp"

namespace kit::drivers {

/// The host's own network: nothing is made, nothing is taken away.
class host {
 public:
  explicit host(const driver_config&) {}
  static constexpr std::string_view name() { return "host"; }
  static std::vector<option_schema> options() { return {}; }
  static network_traits traits() { return {.network_namespace = netns::host}; }
  probe_report probe() const { return {.usable = true, .reason = {}, .remedy = {}, .facts = {}}; }

  void create(const network& n) {
    if (!n.subnets.empty() || !n.options.empty())
      fail(errc::invalid, "create network {}: the host's own network takes no subnet and no option", n.name);
  }
  void remove(const network&) {}
  attachment attach(const network&, const endpoint& e) {
    if (!e.addresses.empty())
      fail(errc::invalid, "attach endpoint {}: the host's own network takes no address", e.id.brief());
    return {};
  }
  void detach(const network&, const endpoint&, const attachment&) {}
  void check(const network&, const endpoint&, const attachment&) {}
  void collect(const network&, std::span<const endpoint_id>) {}
  void status(const network&) {}
};

}  // namespace kit::drivers
