// SPDX-License-Identifier: Apache-2.0
#include "kit/network/detail/table.hpp"

namespace kit::detail {

kit_network to_abi(const network& n, scratch& memory) {
  kit_network raw{};
  raw.size = sizeof raw;
  raw.id = to_abi(n.id);
  raw.name = to_abi(n.name);
  raw.link = to_abi(n.link);
  raw.owner = to_abi(n.owner);
  raw.subnets = memory.pointers<kit_subnet>(n.subnets, [](const subnet& s) {
    return kit_subnet{sizeof(kit_subnet), to_abi(s.prefix), to_abi(s.gateway)};
  });
  raw.subnet_count = n.subnets.size();
  raw.options = to_abi(std::span(n.options), memory);
  raw.option_count = n.options.size();
  return raw;
}

network from_abi(const kit_network* raw) {
  const kit_network r = known(raw);
  network n;
  n.id = from_abi<network_id>(r.id);
  n.name = text(r.name);
  n.link = text(r.link);
  n.owner = text(r.owner);
  for (std::size_t i = 0; i < r.subnet_count; ++i) {
    const kit_subnet s = known(r.subnets[i]);
    n.subnets.push_back({text(s.prefix), text(s.gateway)});
  }
  n.options = from_abi(r.options, r.option_count);
  return n;
}

kit_endpoint to_abi(const endpoint& e, scratch& memory) {
  kit_endpoint raw{};
  raw.size = sizeof raw;
  raw.id = to_abi(e.id);
  raw.owner = to_abi(e.owner);
  raw.netns = e.netns;
  raw.interface_name = to_abi(e.interface_name);
  raw.link = to_abi(e.link);
  raw.mac = to_abi(e.mac);
  raw.addresses = to_abi(e.addresses, memory);
  raw.address_count = e.addresses.size();
  raw.options = to_abi(std::span(e.options), memory);
  raw.option_count = e.options.size();
  return raw;
}

endpoint from_abi(const kit_endpoint* raw) {
  kit_endpoint absent{};
  absent.netns = -1;
  const kit_endpoint r = known(raw, absent);
  endpoint e;
  e.id = from_abi<endpoint_id>(r.id);
  e.owner = text(r.owner);
  e.netns = r.netns;
  e.interface_name = text(r.interface_name);
  e.link = text(r.link);
  e.mac = text(r.mac);
  e.addresses = from_abi(r.addresses, r.address_count);
  e.options = from_abi(r.options, r.option_count);
  return e;
}

kit_attachment to_abi(const attachment& a, scratch& memory) {
  kit_attachment raw{};
  raw.size = sizeof raw;
  raw.interfaces = memory.pointers<kit_interface>(a.interfaces, [](const attachment::interface& i) {
    return kit_interface{sizeof(kit_interface), to_abi(i.name), to_abi(i.mac), i.mtu, i.inside ? 1u : 0u};
  });
  raw.interface_count = a.interfaces.size();
  raw.ips = memory.pointers<kit_ip>(a.ips, [](const attachment::ip& i) {
    return kit_ip{sizeof(kit_ip), to_abi(i.address), to_abi(i.gateway), i.interface_index, 0};
  });
  raw.ip_count = a.ips.size();
  raw.routes = memory.pointers<kit_route>(a.routes, [](const attachment::route& r) {
    return kit_route{sizeof(kit_route), to_abi(r.destination), to_abi(r.gateway)};
  });
  raw.route_count = a.routes.size();
  raw.nameservers = to_abi(a.nameservers, memory);
  raw.nameserver_count = a.nameservers.size();
  raw.search = to_abi(a.search, memory);
  raw.search_count = a.search.size();
  raw.driver_data = to_abi(a.driver_data);
  return raw;
}

attachment from_abi(const kit_attachment* raw) {
  const kit_attachment r = known(raw);
  attachment a;
  for (std::size_t i = 0; i < r.interface_count; ++i) {
    const kit_interface x = known(r.interfaces[i]);
    a.interfaces.push_back({text(x.name), text(x.mac), x.mtu, x.inside != 0});
  }
  for (std::size_t i = 0; i < r.ip_count; ++i) {
    const kit_ip x = known(r.ips[i]);
    a.ips.push_back({text(x.address), text(x.gateway), x.interface_index});
  }
  for (std::size_t i = 0; i < r.route_count; ++i) {
    const kit_route x = known(r.routes[i]);
    a.routes.push_back({text(x.destination), text(x.gateway)});
  }
  a.nameservers = from_abi(r.nameservers, r.nameserver_count);
  a.search = from_abi(r.search, r.search_count);
  a.driver_data = text(r.driver_data);
  return a;
}

kit_network_traits to_abi(const network_traits& t) noexcept {
  return {sizeof(kit_network_traits), static_cast<std::uint32_t>(t.network_namespace), t.assigns_addresses ? 1u : 0u,
          t.publishes_ports ? 1u : 0u, 0};
}

network_traits from_abi(const kit_network_traits& raw) {
  network_traits t;
  if (raw.network_namespace != 0)
    t.network_namespace = known_enum(raw.network_namespace, netns::host, "a network's namespace");
  t.assigns_addresses = raw.assigns_addresses != 0;
  t.publishes_ports = raw.publishes_ports != 0;
  return t;
}

void emit_attachment(const kit_sink& sink, const attachment& a) {
  scratch memory;
  emit(sink, to_abi(a, memory));
}

}  // namespace kit::detail
