// SPDX-License-Identifier: Apache-2.0
#include "drivers/network/macvlan.hpp"

#include <algorithm>

#include "drivers/network/detail/endpoint.hpp"
#include "kit/system/error.hpp"
#include "kit/system/netlink.hpp"

namespace kit::drivers {
namespace {

/// A network, read.
struct plan {
  std::vector<detail::address_range> ranges;
  std::string parent;
  macvlan_link::mode mode = macvlan_link::mode::bridge;
  std::uint32_t mtu = 0;
};

plan read(const network& n) {
  detail::check_words(n, {"parent", "mode", "mtu"});
  plan p;
  p.ranges = detail::ranges_of(n);
  p.mtu = detail::read_mtu(n);
  p.parent = option_or(n.options, "parent", "");
  if (p.parent.empty())
    fail(errc::invalid, "read network {}: a macvlan network needs the host link it is on; give --opt parent=LINK",
         n.name);
  const std::string_view mode = option_or(n.options, "mode", "bridge");
  using how = macvlan_link::mode;
  if (mode == "bridge")
    p.mode = how::bridge;
  else if (mode == "private")
    p.mode = how::private_;
  else if (mode == "vepa")
    p.mode = how::vepa;
  else if (mode == "passthru")
    p.mode = how::passthru;
  else
    fail(errc::invalid, "read network {}: option mode is \"{}\"; write bridge, private, vepa or passthru", n.name,
         mode);
  return p;
}

net_link parent_of(netlink& host, const network& n, const plan& p) {
  auto parent = host.find_link(p.parent);
  if (!parent)
    fail(errc::not_found, "look for the parent {} of network {}: the host has no such link", p.parent, n.name);
  return *parent;
}

}  // namespace

std::vector<option_schema> macvlan::options() {
  using type = option_schema::type;
  return {{"parent", type::text, "", "the host link whose wire the containers are on"},
          {"mode", type::text, "bridge", "bridge, private, vepa or passthru"},
          {"mtu", type::integer, "", "largest packet; empty: the parent's"}};
}

probe_report macvlan::probe() const {
  try {
    if (netlink().can_make("macvlan")) return {true, {}, {}, {}};
    return {false, "the kernel cannot make links of the kind macvlan", "modprobe macvlan, or a kernel with it", {}};
  } catch (const error& e) {
    return {false, e.what(), "run as root, with CAP_NET_ADMIN", {}};
  }
}

void macvlan::create(const network& n) {
  const plan p = read(n);
  netlink host;
  parent_of(host, n, p);
}

attachment macvlan::attach(const network& n, const endpoint& e) {
  const plan p = read(n);
  const auto addresses = detail::addresses_of(n, p.ranges, e);
  const std::string mark = detail::mark_of(n, e);
  netlink host;
  netlink inside(e.netns);
  const net_link parent = parent_of(host, n, p);

  const auto half_made = host.find_link(e.link);
  if (half_made && half_made->alias != mark)
    fail(errc::conflict, "attach endpoint {}: the host has a link {} that is not ours; remove or rename it",
         e.id.brief(), e.link);
  auto inner = inside.find_link(e.interface_name);
  if (inner && inner->alias != mark)
    fail(errc::conflict, "attach endpoint {}: the namespace has an interface {} already; give another name",
         e.id.brief(), e.interface_name);
  try {
    if (!inner) {
      netlink_batch born;
      if (!half_made)
        born.add_link(e.link, macvlan_link{parent.index, p.mode},
                      {.alias = mark, .mac = detail::mac_of(e, addresses), .mtu = p.mtu});
      born.number_namespace(e.netns);
      in_step("make_link", [&] { host.commit(born); });
      const auto made = host.find_link(e.link);
      if (!made) fail(errc::conflict, "attach endpoint {}: its link {} went away", e.id.brief(), e.link);
      netlink_batch moved;
      moved.move_link(made->index, e.netns, e.interface_name);
      in_step("move_link", [&] { host.commit(moved); });
      inner = inside.find_link(e.interface_name);
      if (!inner) fail(errc::conflict, "attach endpoint {}: its interface went away", e.id.brief());
    }
    attachment answer;
    KIT_STEP(detail::set_up_inside(inside, *inner, p.ranges, addresses, answer));
    return answer;
  } catch (const error&) {
    detach(n, e, {});
    throw;
  }
}

void macvlan::detach(const network& n, const endpoint& e, const attachment&) {
  const std::string mark = detail::mark_of(n, e);
  netlink host;
  netlink_batch b;
  if (const auto half_made = host.find_link(e.link); half_made && half_made->alias == mark)
    b.remove_link(half_made->index);
  host.commit(b);
  if (e.netns < 0) return;  // the death of the namespace takes the rest
  netlink inside(e.netns);
  netlink_batch in;
  if (const auto link = inside.find_link(e.interface_name); link && link->alias == mark) in.remove_link(link->index);
  inside.commit(in);
}

void macvlan::check(const network& n, const endpoint& e, const attachment& a) {
  const plan p = read(n);
  netlink host;
  const net_link parent = parent_of(host, n, p);
  netlink inside(e.netns);
  const auto link = inside.find_link(e.interface_name);
  if (!link || link->alias != detail::mark_of(n, e))
    fail(errc::not_found, "check endpoint {}: it has no interface {}", e.id.brief(), e.interface_name);
  if (link->lower != parent.index)
    fail(errc::conflict, "check endpoint {}: {} is not on {}; stop and start the container", e.id.brief(),
         e.interface_name, p.parent);
  detail::check_inside(inside, e, a);
}

void macvlan::collect(const network& n, std::span<const endpoint_id> valid) {
  netlink host;
  detail::remove_others(host, n, valid);
  netlink_batch b;
  for (const std::int32_t number : host.numbers())
    for (const net_link& l : host.links_there(number))
      if (auto id = detail::endpoint_of(n, l.alias); id && std::find(valid.begin(), valid.end(), *id) == valid.end())
        b.remove_link_there(l.index, number);
  host.commit(b);
}

void macvlan::status(const network& n) {
  const plan p = read(n);
  netlink host;
  if (!parent_of(host, n, p).up)
    fail(errc::conflict, "use network {}: its parent {} is down; ip link set {} up", n.name, p.parent, p.parent);
}

}  // namespace kit::drivers
