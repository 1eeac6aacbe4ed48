// SPDX-License-Identifier: Apache-2.0
#include "drivers/network/detail/endpoint.hpp"

#include <net/if.h>

#include <algorithm>
#include <charconv>

#include "kit/system/error.hpp"

namespace kit::drivers::detail {

std::vector<address_range> ranges_of(const network& n) {
  std::vector<address_range> ranges;
  for (const subnet& s : n.subnets) {
    address_range r;
    r.prefix = ip_prefix::parse(s.prefix);
    if (r.prefix != r.prefix.network())
      fail(errc::invalid, "read the subnet {} of network {}: it has host bits; write {}", s.prefix, n.name,
           r.prefix.network().str());
    if (!s.gateway.empty()) {
      r.gateway = ip_address::parse(s.gateway);
      if (!r.prefix.contains(*r.gateway))
        fail(errc::invalid, "read the gateway {} of network {}: not in {}", s.gateway, n.name, s.prefix);
    }
    ranges.push_back(r);
  }
  return ranges;
}

bool has_ipv6(const std::vector<address_range>& ranges) noexcept {
  return std::any_of(ranges.begin(), ranges.end(), [](const address_range& r) { return r.prefix.address.v6; });
}

void check_words(const network& n, std::initializer_list<std::string_view> known) {
  auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  };
  if (n.link.empty() || n.link.size() >= IFNAMSIZ || !std::all_of(n.link.begin(), n.link.end(), plain))
    fail(errc::invalid, "read network {}: \"{}\" is no name for a link", n.name, n.link);
  if (n.owner.empty() || n.owner.size() > 120 ||
      !std::all_of(n.owner.begin(), n.owner.end(), [&](char c) { return plain(c) || c == ':'; }))
    fail(errc::invalid, "read network {}: \"{}\" is no mark of an owner", n.name, n.owner);
  for (const option& o : n.options)
    if (std::find(known.begin(), known.end(), o.key) == known.end()) {
      std::string list;
      for (auto word : known) list += fmt::format("{}{}", list.empty() ? "" : ", ", word);
      fail(errc::invalid, "read network {}: unknown option \"{}\"; there are {}", n.name, o.key, list);
    }
}

bool read_boolean(const network& n, std::string_view key, bool otherwise) {
  std::string_view text = option_or(n.options, key, otherwise ? "true" : "false");
  if (text == "true") return true;
  if (text == "false") return false;
  fail(errc::invalid, "read network {}: option {} is \"{}\"; write true or false", n.name, key, text);
}

std::uint32_t read_mtu(const network& n) {
  std::string_view text = option_or(n.options, "mtu", "");
  if (text.empty()) return 0;
  std::uint32_t mtu = 0;
  auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), mtu);
  const std::uint32_t least = has_ipv6(ranges_of(n)) ? 1280 : 68;
  if (wrong != std::errc{} || end != text.data() + text.size() || mtu < least || mtu > 65535)
    fail(errc::invalid, "read network {}: option mtu is \"{}\"; write a number from {} to 65535", n.name, text, least);
  return mtu;
}

std::vector<ip_prefix> addresses_of(const network& n, const std::vector<address_range>& ranges, const endpoint& e) {
  std::vector<ip_prefix> all;
  for (const std::string& text : e.addresses) {
    ip_prefix a = ip_prefix::parse(text);
    if (std::none_of(ranges.begin(), ranges.end(), [&](const auto& r) { return r.prefix.contains(a.address); }))
      fail(errc::invalid, "attach endpoint {} to network {}: the address {} is in none of its subnets", e.id.brief(),
           n.name, text);
    all.push_back(a);
  }
  return all;
}

std::string mark_of(const network& n, const endpoint& e) { return fmt::format("{}@{}", e.owner, n.id.text()); }

std::optional<endpoint_id> endpoint_of(const network& n, std::string_view alias) {
  const std::string_view root = std::string_view(n.owner).substr(0, n.owner.rfind(':') + 1);
  const auto at = alias.rfind('@');
  if (at == alias.npos || alias.substr(at + 1) != n.id.text() || alias.substr(0, root.size()) != root) return {};
  const std::string_view owner = alias.substr(0, at);
  const std::string_view id = owner.substr(owner.rfind(':') + 1);
  if (!endpoint_id::valid(id)) return {};
  return endpoint_id::from(id);
}

std::string mac_of(const endpoint& e, const std::vector<ip_prefix>& addresses) {
  if (!e.mac.empty()) return e.mac;
  for (const ip_prefix& a : addresses)
    if (!a.address.v6) {
      const auto& b = a.address.bytes;
      return fmt::format("02:42:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3]);
    }
  const std::string_view id = e.id.text();
  return fmt::format("02:43:{}:{}:{}:{}", id.substr(0, 2), id.substr(2, 2), id.substr(4, 2), id.substr(6, 2));
}

void set_up_inside(netlink& inside, const net_link& link, const std::vector<address_range>& ranges,
                   const std::vector<ip_prefix>& addresses, attachment& answer) {
  netlink_batch b;
  b.set_link("lo", {.up = true});
  b.set_link(link.name, {.up = true, .no_link_local = !has_ipv6(ranges)});
  const auto index = static_cast<std::uint32_t>(answer.interfaces.size());
  answer.interfaces.push_back({link.name, link.mac, link.mtu, true});
  bool routed[2] = {false, false};
  for (const ip_prefix& a : addresses) {
    b.add_address(link.index, a);
    const auto range = std::find_if(ranges.begin(), ranges.end(),
                                    [&](const address_range& r) { return r.prefix.contains(a.address); });
    if (range == ranges.end() || !range->gateway) {
      answer.ips.push_back({a.str(), "", index});
      continue;
    }
    answer.ips.push_back({a.str(), range->gateway->str(), index});
    if (std::exchange(routed[a.address.v6], true)) continue;
    ip_prefix everywhere;
    everywhere.address.v6 = a.address.v6;
    b.add_route({everywhere, range->gateway, link.index});
    answer.routes.push_back({everywhere.str(), range->gateway->str()});
  }
  inside.commit(b);
}

void check_inside(netlink& inside, const endpoint& e, const attachment& answer) {
  auto differs = [&](const std::string& what) {
    fail(errc::conflict, "check endpoint {}: {}; stop and start the container", e.id.brief(), what);
  };
  const auto lo = inside.find_link("lo");
  if (!lo || !lo->up) differs("lo is down");
  const auto link = inside.find_link(e.interface_name);
  if (!link) differs(fmt::format("the interface {} is gone", e.interface_name));
  if (!link->up) differs(fmt::format("the interface {} is down", e.interface_name));
  for (const auto& i : answer.interfaces) {
    if (!i.inside) continue;
    if (i.name != link->name) differs(fmt::format("the interface {} is gone", i.name));
    if (i.mac != link->mac) differs(fmt::format("{} has the hardware address {} and not {}", i.name, link->mac, i.mac));
    if (i.mtu != link->mtu) differs(fmt::format("{} has the mtu {} and not {}", i.name, link->mtu, i.mtu));
  }
  const auto addresses = inside.addresses(link->index);
  for (const auto& ip : answer.ips)
    if (std::find(addresses.begin(), addresses.end(), ip_prefix::parse(ip.address)) == addresses.end())
      differs(fmt::format("{} has lost the address {}", link->name, ip.address));
  const auto routes = inside.routes();
  for (const auto& r : answer.routes) {
    const auto destination = ip_prefix::parse(r.destination);
    const auto gateway = ip_address::parse(r.gateway);
    if (std::none_of(routes.begin(), routes.end(), [&](const net_route& is) {
          return is.destination == destination && is.gateway == gateway && is.link == link->index;
        }))
      differs(fmt::format("the route to {} by {} is gone", r.destination, r.gateway));
  }
}

void remove_others(netlink& host, const network& n, std::span<const endpoint_id> valid) {
  netlink_batch b;
  for (const net_link& l : host.links())
    if (auto id = endpoint_of(n, l.alias); id && std::find(valid.begin(), valid.end(), *id) == valid.end())
      b.remove_link(l.index);
  host.commit(b);
}

}  // namespace kit::drivers::detail
