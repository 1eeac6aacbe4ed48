// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/networks.hpp"

#include <nlohmann/json.hpp>

#include <charconv>

#include "kit/engine/clock.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

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

/// A /20 of 10.0.0.0/8 that no route of the host overlaps. Where the search begins follows from the root's
/// tag, so that two roots of one host seldom meet and never silently: the second finds the first one's route.
std::pair<std::string, std::string> draw_subnet(std::string_view root_tag) {
  std::uint32_t tag = 0;
  std::from_chars(root_tag.data(), root_tag.data() + root_tag.size(), tag, 16);
  const auto routes = host_routes();
  constexpr std::uint32_t mask = 0xfffff000, blocks = 4096;
  for (std::uint32_t i = 0; i < blocks; ++i) {
    const std::uint32_t prefix = 10u << 24 | ((tag + i) % blocks) << 12;
    bool taken = false;
    for (auto [destination, route_mask] : routes)
      taken = taken || (destination & mask & route_mask) == (prefix & mask & route_mask);
    if (!taken) return {dotted(prefix) + "/20", dotted(prefix + 1)};
  }
  fail(errc::no_space,
       "choose a subnet for the network 'bridge': the host has routes for all of 10.0.0.0/8; set "
       "\"subnet\" in the configuration file");
}

/// The first address of an IPv4 prefix: "10.1.0.0/20" -> "10.1.0.1".
std::string first_address(const std::string& prefix) {
  unsigned a = 0, b = 0, c = 0, d = 0, bits = 0;
  char rest = 0;
  if (std::sscanf(prefix.c_str(), "%u.%u.%u.%u/%u%c", &a, &b, &c, &d, &bits, &rest) != 5 || a > 255 || b > 255 ||
      c > 255 || d > 255 || bits < 8 || bits > 30)
    fail(errc::invalid, "subnet '{}' of the configuration: write it as 10.89.0.0/20", prefix);
  return dotted(((a << 24 | b << 16 | c << 8 | d) & ~0u << (32 - bits)) + 1);
}

}  // namespace

void ensure_default_networks(engine& e) {
  records& records = e.records();
  if (records.find_network("none")) return;
  const std::string tag = e.root_tag();
  const std::string configured = e.config().default_subnet;
  const std::pair<std::string, std::string> range =
      configured.empty() ? draw_subnet(tag) : std::pair(configured, first_address(configured));
  records.transaction([&] {
    if (records.find_network("none")) return;
    for (const char* name : {"bridge", "host", "none"}) {
      network_record n;
      n.id = random_id<network_id>();
      n.name = n.driver = name;
      n.created_ns = now_ns();
      if (n.name == "bridge") {
        n.prefixes = {range.first};
        n.gateways = {range.second};
        n.link = "kit" + tag;
      }
      records.insert(n);
    }
  });
}

network_record find_network(engine& e, std::string_view name_or_id) {
  ensure_default_networks(e);
  return e.records().network(name_or_id);
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
