// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/network/concept.hpp"
#include "kit/system/error.hpp"
#include "kit/system/netlink.hpp"

namespace kit::drivers {

/// A namespace of the container's own with nothing in it but lo.
class none {
 public:
  explicit none(const driver_config&) {}
  static constexpr std::string_view name() { return "none"; }
  static std::vector<option_schema> options() { return {}; }
  static network_traits traits() { return {}; }
  probe_report probe() const { return {.usable = true, .reason = {}, .remedy = {}, .facts = {}}; }

  void create(const network& n) {
    if (!n.subnets.empty() || !n.options.empty())
      fail(errc::invalid, "create network {}: the driver none takes no subnet and no option", n.name);
  }
  void remove(const network&) {}
  attachment attach(const network&, const endpoint& e) {
    if (!e.addresses.empty()) fail(errc::invalid, "attach endpoint {}: the driver none takes no address", e.id.brief());
    netlink_batch b;
    b.set_link("lo", {.up = true});
    netlink(e.netns).commit(b);
    return {};
  }
  void detach(const network&, const endpoint&, const attachment&) {}
  void check(const network&, const endpoint& e, const attachment&) {
    const auto lo = netlink(e.netns).find_link("lo");
    if (!lo || !lo->up)
      fail(errc::conflict, "check endpoint {}: lo is down; stop and start the container", e.id.brief());
  }
  void collect(const network&, std::span<const endpoint_id>) {}
  void status(const network&) {}
};

}  // namespace kit::drivers
