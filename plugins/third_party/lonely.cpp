// SPDX-License-Identifier: Apache-2.0
// A network driver of somebody else's, whole: a namespace of the container's own, with nothing in it but lo.
#include "kit/network/concept.hpp"
#include "kit/plugin/export.hpp"
#include "kit/system/error.hpp"
#include "kit/system/netlink.hpp"

namespace {

class lonely {
 public:
  explicit lonely(const kit::driver_config&) {}
  static constexpr std::string_view name() { return "lonely"; }
  static std::vector<kit::option_schema> options() { return {}; }
  static kit::network_traits traits() { return {}; }
  kit::probe_report probe() const { return {true, {}, {}, {}}; }

  void create(const kit::network& n) {
    if (!n.subnets.empty() || !n.options.empty())
      kit::fail(kit::errc::invalid, "create network {}: lonely takes no subnet and no option", n.name);
  }
  void remove(const kit::network&) {}
  kit::attachment attach(const kit::network&, const kit::endpoint& e) {
    if (!e.addresses.empty())
      kit::fail(kit::errc::invalid, "attach endpoint {}: lonely takes no address", e.id.brief());
    kit::netlink_batch changes;
    changes.set_link("lo", {.up = true});
    kit::netlink(e.netns).commit(changes);
    return {};
  }
  void detach(const kit::network&, const kit::endpoint&, const kit::attachment&) {}
  void check(const kit::network&, const kit::endpoint& e, const kit::attachment&) {
    const auto lo = kit::netlink(e.netns).find_link("lo");
    if (!lo || !lo->up) kit::fail(kit::errc::conflict, "check endpoint {}: lo is down", e.id.brief());
  }
  void collect(const kit::network&, std::span<const kit::endpoint_id>) {}
  void status(const kit::network&) {}
};

}  // namespace

KIT_PLUGIN(lonely, "0.1", "Apache-2.0")
