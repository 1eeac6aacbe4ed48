// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fcntl.h>

#include <algorithm>
#include <map>

#include "kit/network/concept.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/netlink.hpp"

namespace kit::testing {

/// A second way to make a network, to judge the suite by: routed, IPv4 only. Each endpoint is a veth of its own with
/// a host route to it; the host answers ARP for all of them. The network's link only holds the gateway's address.
/// Written apart from the bridge driver: they share system/ and nothing else.
class reference_network {
 public:
  explicit reference_network(const driver_config&) {}
  static std::string_view name() { return "reference"; }
  static std::vector<option_schema> options() { return {}; }
  static network_traits traits() { return {}; }
  probe_report probe() const { return {true, {}, {}, {}}; }

  void create(const network& n) {
    const ip_prefix range = range_of(n);
    netlink host;
    const auto there = host.find_link(n.link);
    if (there && there->alias != n.owner) fail(errc::conflict, "create {}: the link {} is another's", n.name, n.link);
    set_sysctl("net/ipv4/ip_forward");
    netlink_batch b;
    if (!there)
      b.add_link(n.link, bridge_link{}, {.alias = n.owner, .mac = "02:52:00:00:00:01", .no_link_local = true});
    b.set_link(n.link, {.up = true});
    host.commit(b);
    netlink_batch address;
    address.add_address(host.find_link(n.link)->index, {gateway_of(n), range.length});
    host.commit(address);
  }

  void remove(const network& n) {
    netlink host;
    const auto there = host.find_link(n.link);
    if (!there || there->alias != n.owner) return;
    delete_link(host, *there);
  }

  attachment attach(const network& n, const endpoint& e) {
    netlink host;
    made(host, n);
    const ip_prefix range = range_of(n);
    std::vector<ip_prefix> addresses;
    for (const auto& text : e.addresses) {
      addresses.push_back(ip_prefix::parse(text));
      if (!range.contains(addresses.back().address)) fail(errc::invalid, "attach: {} is not in {}", text, range.str());
    }
    netlink inside(e.netns);
    auto outer = host.find_link(e.link);
    if (outer && outer->alias != mark(n, e)) fail(errc::conflict, "attach: the link {} is another's", e.link);
    if (!outer) {
      if (inside.find_link(e.interface_name))
        fail(errc::conflict, "attach: there is an interface {}", e.interface_name);
      netlink_batch b;
      b.add_link(e.link, veth_link{.peer = e.interface_name, .peer_mac = e.mac, .peer_netns = e.netns},
                 {.alias = mark(n, e), .up = true, .no_link_local = true});
      host.commit(b);
      outer = host.find_link(e.link);
    }
    set_sysctl("net/ipv4/conf/" + e.link + "/proxy_arp");
    set_sysctl("net/ipv4/neigh/" + e.link + "/proxy_delay", "0");
    const auto inner = inside.find_link(e.interface_name);

    attachment answer;
    answer.interfaces = {{outer->name, outer->mac, outer->mtu, false}, {inner->name, inner->mac, inner->mtu, true}};
    netlink_batch in, out;
    in.set_link("lo", {.up = true});
    in.set_link(inner->name, {.up = true, .no_link_local = true});
    out.set_link(outer->name, {.up = true});
    for (const auto& a : addresses) {
      in.add_address(inner->index, a);
      in.add_route({ip_prefix{}, gateway_of(n), inner->index});
      out.add_route({ip_prefix{a.address, 32}, {}, outer->index});
      answer.ips.push_back({a.str(), gateway_of(n).str(), 1});
      answer.routes.push_back({"0.0.0.0/0", gateway_of(n).str()});
    }
    inside.commit(in);
    host.commit(out);
    return answer;
  }

  void detach(const network& n, const endpoint& e, const attachment&) {
    netlink host;
    const auto outer = host.find_link(e.link);
    if (e.netns < 0 || !outer || outer->alias != mark(n, e)) return;
    delete_link(host, *outer);
  }

  void check(const network& n, const endpoint& e, const attachment& a) {
    netlink host;
    made(host, n);
    if (!host.find_link(e.link)) fail(errc::not_found, "check: no link {}", e.link);
    netlink inside(e.netns);
    const auto link = inside.find_link(e.interface_name);
    const auto lo = inside.find_link("lo");
    if (!link || !link->up || !lo->up) fail(errc::conflict, "check: an interface is down");
    if (link->mac != a.interfaces.at(1).mac) fail(errc::conflict, "check: the hardware address is {}", link->mac);
    const auto has = inside.addresses(link->index);
    for (const auto& ip : a.ips)
      if (std::find(has.begin(), has.end(), ip_prefix::parse(ip.address)) == has.end())
        fail(errc::conflict, "check: {} is gone", ip.address);
    const auto routes = inside.routes();
    for (const auto& r : a.routes)
      if (std::none_of(routes.begin(), routes.end(), [&](const net_route& is) {
            return is.destination.str() == r.destination && is.gateway && is.gateway->str() == r.gateway;
          }))
        fail(errc::conflict, "check: no route to {}", r.destination);
  }

  void collect(const network& n, std::span<const endpoint_id> valid) {
    netlink host;
    const std::string ours = " on " + n.owner;
    for (const auto& l : host.links()) {
      const auto cut = l.alias.size() - std::min(l.alias.size(), ours.size());
      if (l.alias.substr(cut) != ours) continue;
      const std::string owner = l.alias.substr(0, cut);
      if (std::none_of(valid.begin(), valid.end(), [&](const endpoint_id& id) {
            return owner.size() > id.size && owner.substr(owner.size() - id.size) == id.text();
          }))
        delete_link(host, l);
    }
  }

  void status(const network& n) {
    netlink host;
    made(host, n);
  }

  static std::string mark(const network& n, const endpoint& e) { return e.owner + " on " + n.owner; }

 private:
  static ip_prefix range_of(const network& n) {
    if (!n.options.empty()) fail(errc::invalid, "create {}: no option {}", n.name, n.options[0].key);
    if (n.subnets.size() != 1) fail(errc::invalid, "create {}: one subnet it must be", n.name);
    const ip_prefix range = ip_prefix::parse(n.subnets[0].prefix);
    if (range.address.v6 || !range.contains(ip_address::parse(n.subnets[0].gateway)))
      fail(errc::invalid, "create {}: an IPv4 subnet with a gateway it must be", n.name);
    return range;
  }
  static ip_address gateway_of(const network& n) { return ip_address::parse(n.subnets[0].gateway); }
  static net_link made(netlink& host, const network& n) {
    const auto link = host.find_link(n.link);
    if (!link) fail(errc::not_found, "there is no link {}", n.link);
    return *link;
  }
  static void delete_link(netlink& host, const net_link& l) {
    netlink_batch b;
    b.remove_link(l.index);
    host.commit(b);
  }
  static void set_sysctl(const std::string& key, std::string_view value = "1") {
    write_all(open_file("/proc/sys/" + key, O_WRONLY).get(), value, key);
  }
};

}  // namespace kit::testing
