// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/networks.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "kit/engine/clock.hpp"
#include "kit/engine/spec.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/ip.hpp"

namespace kit {
namespace {

/// Destinations of the host's IPv4 routes as {address, mask}, host byte order (proc_net_route in the kernel: hexadecimal,
/// little endian on every machine kit builds for).
std::vector<std::pair<std::uint32_t, std::uint32_t>> host_routes() {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> routes;
  const std::string table = read_file("/proc/net/route");
  for (std::size_t line = table.find('\n'); line != std::string::npos && line + 1 < table.size();
       line = table.find('\n', line + 1)) {
    unsigned destination = 0, gateway = 0, flags = 0, mask = 0;
    char name[32];
    if (std::sscanf(table.c_str() + line + 1, "%31s %x %x %x %*d %*d %*d %x", name, &destination, &gateway, &flags,
                    &mask) == 5 &&
        mask != 0)
      routes.emplace_back(__builtin_bswap32(destination), __builtin_bswap32(mask));
  }
  return routes;
}

std::string dotted(std::uint32_t a) {
  return fmt::format("{}.{}.{}.{}", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

bool overlap(const ip_prefix& a, const ip_prefix& b) { return a.contains(b.address) || b.contains(a.address); }

/// The network, recorded already, whose subnet has a part of `wanted`.
std::optional<network_record> find_overlap(engine& e, const ip_prefix& wanted) {
  for (network_record& n : e.records().networks())
    for (const std::string& prefix : n.prefixes)
      if (overlap(ip_prefix::parse(prefix), wanted)) return std::move(n);
  return std::nullopt;
}

/// A /20 of 10.0.0.0/8 that no route of the host and no network overlaps. Where the search begins follows from the root's
/// tag, so that two roots of one host seldom meet and never silently: the second finds the first one's route.
std::string draw_subnet(engine& e) {
  const std::string& root_tag = e.root_tag();
  std::uint32_t tag = 0;
  std::from_chars(root_tag.data(), root_tag.data() + root_tag.size(), tag, 16);
  const auto routes = host_routes();
  std::vector<ip_prefix> others;
  for (const network_record& n : e.records().networks())
    for (const std::string& prefix : n.prefixes) others.push_back(ip_prefix::parse(prefix));
  constexpr std::uint32_t mask = 0xfffff000, blocks = 4096;
  for (std::uint32_t i = 0; i < blocks; ++i) {
    const std::uint32_t bits = 10u << 24 | ((tag + i) % blocks) << 12;
    const auto prefix = ip_prefix::parse(dotted(bits) + "/20");
    bool taken = std::any_of(others.begin(), others.end(), [&](const ip_prefix& o) { return overlap(o, prefix); });
    for (auto [destination, route_mask] : routes)
      taken = taken || (destination & mask & route_mask) == (bits & mask & route_mask);
    if (!taken) return prefix.str();
  }
  fail(errc::no_space,
       "choose a subnet: the host has routes for all of 10.0.0.0/8; give one (--subnet, or \"subnet\" in the "
       "configuration file for the network 'bridge')");
}

/// fdRR:RRRR:RRRR:RRRR::/64: 56 random bits.
std::string draw_ipv6_subnet() {
  const auto bits = random_bits();
  ip_prefix p{{true, {0xfd}}, 64};
  std::copy_n(bits.begin(), 7, p.address.bytes.begin() + 1);
  return p.str();
}

ip_prefix parse_subnet(const std::string& text) {
  const ip_prefix p = ip_prefix::parse(text);
  if (p != p.network()) fail(errc::invalid, "subnet {}: it has host bits; write {}", text, p.network().str());
  if (p.length < 8 || p.length > (p.address.v6 ? 126 : 30))
    fail(errc::invalid, "subnet {}: its length must be from 8 to {}", text, p.address.v6 ? 126 : 30);
  return p;
}

/// "10.1.0.0/20" -> "10.1.0.1".
std::string first_address(const ip_prefix& p) {
  ip_address a = p.address;
  ++a.bytes[a.v6 ? 15 : 3];
  return a.str();
}

constexpr std::string_view default_networks[] = {"bridge", "host", "none"};

bool is_default(std::string_view name) {
  return std::find(std::begin(default_networks), std::end(default_networks), name) != std::end(default_networks);
}

/// A network's subnets and their gateways, as the request gives them and drawn.
void settle_subnets(engine& e, const network_request& wanted, network_record& n) {
  std::vector<ip_prefix> prefixes;
  const auto has = [&](bool v6) {
    return std::any_of(prefixes.begin(), prefixes.end(), [&](const ip_prefix& p) { return p.address.v6 == v6; });
  };
  for (const std::string& text : wanted.subnets) {
    const ip_prefix p = parse_subnet(text);
    if (has(p.address.v6))
      fail(errc::invalid, "network {}: it has an {} subnet already", n.name, p.address.v6 ? "IPv6" : "IPv4");
    if (const auto other = find_overlap(e, p))
      fail(errc::conflict, "subnet {}: it overlaps that of network {}; choose another", text, other->name);
    prefixes.push_back(p);
  }
  if (!has(false)) prefixes.insert(prefixes.begin(), ip_prefix::parse(draw_subnet(e)));
  if (wanted.ipv6 && !has(true)) prefixes.push_back(ip_prefix::parse(draw_ipv6_subnet()));
  for (const ip_prefix& p : prefixes) {
    n.prefixes.push_back(p.str());
    n.gateways.push_back(first_address(p));
  }
  for (const std::string& text : wanted.gateways) {
    const ip_address gateway = ip_address::parse(text);
    const auto in =
        std::find_if(prefixes.begin(), prefixes.end(), [&](const ip_prefix& p) { return p.contains(gateway); });
    if (in == prefixes.end()) fail(errc::invalid, "gateway {}: it is in no subnet of network {}", text, n.name);
    n.gateways[static_cast<std::size_t>(in - prefixes.begin())] = gateway.str();
  }
}

}  // namespace

void ensure_default_networks(engine& e) {
  records& records = e.records();
  if (records.find_network("none")) return;
  const std::string configured = e.config().default_subnet;
  const ip_prefix range = parse_subnet(configured.empty() ? draw_subnet(e) : configured);
  records.transaction([&] {
    if (records.find_network("none")) return;
    for (const std::string_view name : default_networks) {
      network_record n;
      n.id = random_id<network_id>();
      n.name = n.driver = name;
      n.created_ns = now_ns();
      if (n.name == "bridge") {
        n.prefixes = {range.str()};
        n.gateways = {first_address(range)};
        n.link = "kit" + e.root_tag();
      }
      records.insert(n);
    }
  });
}

network_record find_network(engine& e, std::string_view name_or_id) {
  ensure_default_networks(e);
  network_record n = e.records().network(name_or_id);
  if (n.removing) fail(errc::not_found, "no such network: {}: it is being removed", name_or_id);
  return n;
}

namespace {
void forget(engine& e, const network_record& n) {
  e.records().releasing([&] {
    e.records().remove_network(n.id);
    e.records().add({now_ns(), "network", "destroy", n.id.str(), {{"name", n.name}, {"type", n.driver}}});
  });
}
}  // namespace

network_record create_network(engine& e, const network_request& wanted) {
  ensure_default_networks(e);
  check_name("network", wanted.name);
  any_network& driver = e.network(wanted.driver);
  const network_traits traits = driver.traits();
  if (traits.network_namespace == netns::host)
    fail(errc::invalid, "network {}: one network of the driver {} is all there can be", wanted.name, wanted.driver);
  network_record n;
  n.id = random_id<network_id>();
  n.name = wanted.name;
  n.driver = wanted.driver;
  n.options = wanted.options;
  n.labels = wanted.labels;
  n.created_ns = now_ns();
  n.link = fmt::format("kitn{}", n.id.text().substr(0, 8));
  e.records().transaction([&] {
    n.prefixes.clear();
    n.gateways.clear();
    if (!traits.assigns_addresses) settle_subnets(e, wanted, n);
    e.records().insert(n);
    e.records().add({now_ns(), "network", "create", n.id.str(), {{"name", n.name}, {"type", n.driver}}});
  });
  try {
    in_step("make_network", [&] { driver.create(as_network(e, n)); });
  } catch (const error& x) {
    // What the driver cannot read, it did not make, and cannot remove.
    if (x.code() != errc::invalid) driver.remove(as_network(e, n));
    forget(e, n);
    throw;
  }
  return n;
}

void remove_network(engine& e, const network_record& n) {
  if (is_default(n.name)) fail(errc::invalid, "{} is a pre-defined network and cannot be removed", n.name);
  e.records().begin_removal(n.id);
  in_step("remove_network", [&] { e.network(n.driver).remove(as_network(e, n)); });
  forget(e, n);
}

std::vector<network_record> unused_networks(engine& e) {
  std::set<std::string> wanted;
  for (const container_record& c : e.records().containers()) wanted.insert(spec_from_json(c.spec).network);
  std::vector<network_record> list = e.records().networks();
  std::erase_if(list, [&](const network_record& n) {
    return is_default(n.name) || wanted.contains(n.name) || wanted.contains(n.id.str()) ||
           !e.records().endpoints(n.id).empty();
  });
  return list;
}

network as_network(engine& e, const network_record& r) {
  network n{r.id, r.name, r.link, e.owner(r.id.text()), {}, r.options};
  for (std::size_t i = 0; i < r.prefixes.size(); ++i)
    n.subnets.push_back({r.prefixes[i], i < r.gateways.size() ? r.gateways[i] : ""});
  return n;
}

endpoint as_endpoint(engine& e, const endpoint_record& r, int netns) {
  return {r.id, e.owner(r.id.text()), netns, r.interface_name, r.link, r.mac, r.addresses, {}};
}

std::string to_json(const attachment& a) {
  nlohmann::json j = {{"dns", {{"nameservers", a.nameservers}, {"search", a.search}}}, {"driver_data", a.driver_data}};
  for (const auto& i : a.interfaces)
    j["interfaces"].push_back({{"name", i.name}, {"mac", i.mac}, {"mtu", i.mtu}, {"inside", i.inside}});
  for (const auto& i : a.ips)
    j["ips"].push_back({{"address", i.address}, {"gateway", i.gateway}, {"interface", i.interface_index}});
  for (const auto& r : a.routes) j["routes"].push_back({{"dst", r.destination}, {"gw", r.gateway}});
  return j.dump();
}

attachment attachment_from_json(std::string_view json) {
  attachment a;
  if (json.empty()) return a;
  try {
    const auto j = nlohmann::json::parse(json);
    for (const auto& i : j.value("interfaces", nlohmann::json::array()))
      a.interfaces.push_back({i.at("name"), i.at("mac"), i.at("mtu"), i.at("inside")});
    for (const auto& i : j.value("ips", nlohmann::json::array()))
      a.ips.push_back({i.at("address"), i.at("gateway"), i.at("interface")});
    for (const auto& r : j.value("routes", nlohmann::json::array())) a.routes.push_back({r.at("dst"), r.at("gw")});
    j.at("dns").at("nameservers").get_to(a.nameservers);
    j.at("dns").at("search").get_to(a.search);
    j.at("driver_data").get_to(a.driver_data);
  } catch (const nlohmann::json::exception& e) {
    fail(errc::invalid, "read an attachment in the records: {}", e.what());
  }
  return a;
}

}  // namespace kit
