// SPDX-License-Identifier: Apache-2.0
#include "drivers/network/bridge.hpp"

#include <fcntl.h>

#include <algorithm>

#include "drivers/network/detail/endpoint.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/namespace.hpp"
#include "kit/system/netlink.hpp"
#include "kit/system/nftables.hpp"

namespace kit::drivers {
namespace {

constexpr std::size_t most_ports = 1023;  // BR_MAX_PORTS, less the bridge's own number

/// A network, read.
struct plan {
  std::vector<detail::address_range> ranges;
  std::uint32_t mtu = 0;
  bool masquerade = true;
  bool internal = false;
};

plan read(const network& n) {
  detail::check_words(n, {"mtu", "masquerade", "internal"});
  plan p;
  p.ranges = detail::ranges_of(n);
  p.mtu = detail::read_mtu(n);
  p.masquerade = detail::read_boolean(n, "masquerade", true);
  p.internal = detail::read_boolean(n, "internal", false);
  return p;
}

/// The bridge of `n`. Throws not_found without it, conflict if it is another's; `unmarked` if nobody's.
net_link bridge_of(netlink& host, const network& n, errc unmarked = errc::conflict) {
  auto link = host.find_link(n.link);
  if (!link) fail(errc::not_found, "look for the bridge {} of network {}: there is none", n.link, n.name);
  if (link->alias != n.owner)
    fail(link->alias.empty() ? unmarked : errc::conflict,
         "use the bridge {} of network {}: its alias says \"{}\", not {}; rename that link", n.link, n.name,
         link->alias, n.owner);
  return *link;
}

/// A bridge takes the lowest address of its ports unless it has been given one: neighbours would forget their gateway.
std::string bridge_mac(const network& n) {
  const std::string_view id = n.id.text();
  return fmt::format("02:44:{}:{}:{}:{}", id.substr(0, 2), id.substr(2, 2), id.substr(4, 2), id.substr(6, 2));
}

std::string read_sysctl(const std::string& key) {
  std::string value = read_file("/proc/sys/" + key);
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

void write_sysctl(const std::string& key, const std::string& value) {
  write_all(open_file("/proc/sys/" + key, O_WRONLY).get(), value, key);
}

constexpr const char* forward4 = "net/ipv4/ip_forward";
constexpr const char* forward6 = "net/ipv6/conf/all/forwarding";

/// Two links with one subnet: the host would reach the containers of one only.
void check_overlap(netlink& host, const network& n, const plan& p, std::uint32_t own) {
  for (const net_route& r : host.routes()) {
    if (r.link == own || r.gateway || r.destination.length == 0) continue;
    for (const auto& range : p.ranges)
      if (range.prefix.contains(r.destination.address) || r.destination.contains(range.prefix.address)) {
        const auto link = host.find_link(r.link);
        fail(errc::conflict,
             "create network {}: its subnet {} overlaps {}, which the host reaches over {}; choose another", n.name,
             range.prefix.str(), r.destination.str(), link ? link->name : "another link");
      }
  }
}

/// A host that forwards IPv6 no longer listens to routers unless accept_ra is 2.
void check_router_adverts(netlink& host, const network& n) {
  for (const net_route& r : host.routes()) {
    if (!r.by_router_advert) continue;
    const auto link = host.find_link(r.link);
    const std::string key = link ? fmt::format("net/ipv6/conf/{}/accept_ra", link->name) : "";
    if (link && read_sysctl(key) == "1")
      fail(errc::unsupported,
           "create network {}: forwarding IPv6 would cost this host the routes it learns on {}; sysctl -w {}=2 first",
           n.name, link->name, key);
  }
}

}  // namespace

/// The table. One process at a time changes it, for the last network to go takes it along.
class bridge::rules {
 public:
  rules(const std::string& root_tag, const std::string& run_dir) {
    for (char c : root_tag)
      table_ += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
    if (run_dir.empty()) return;
    make_directories(run_dir);
    lock_.emplace(file_lock::wait(run_dir + "/nftables.lock"));
  }

  void add(const network& n, const plan& p) {
    std::string text = fmt::format(R"(
add table inet {0}
add set inet {0} bridges {{ type ifname; }}
add set inet {0} internal {{ type ifname; }}
add set inet {0} within {{ type ifname . ifname; }}
add set inet {0} masquerade4 {{ type ipv4_addr; flags interval; }}
add set inet {0} masquerade6 {{ type ipv6_addr; flags interval; }}
add chain inet {0} forward {{ type filter hook forward priority filter; policy accept; }}
flush chain inet {0} forward
add rule inet {0} forward iifname . oifname @within accept
add rule inet {0} forward iifname @bridges oifname @bridges drop
add rule inet {0} forward iifname @internal drop
add rule inet {0} forward oifname @internal drop
add chain inet {0} postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
flush chain inet {0} postrouting
add rule inet {0} postrouting ip saddr @masquerade4 oifname != @bridges masquerade
add rule inet {0} postrouting ip6 saddr @masquerade6 oifname != @bridges masquerade
)",
                                   table_);
    for (const std::string& e : elements(n, p)) text += fmt::format("add element inet {} {}\n", table_, e);
    nft_.run(text);
  }

  void remove(const network& n, const plan& p) {
    std::string there = list();
    if (mentions(there, n.owner)) {
      // nft has no "delete if there": added first, it is.
      std::string text;
      for (const std::string& e : elements(n, p))
        text += fmt::format("add element inet {0} {1}\ndelete element inet {0} {1}\n", table_, e);
      nft_.run(text);
      there = list();
    }
    if (lock_ && !there.empty() && !mentions(there, "kit:")) nft_.run(fmt::format("delete table inet {}", table_));
  }

  /// The table of somebody else that drops by policy what is forwarded, if there is one.
  static std::optional<std::string> drops_forwarded(nftables& nft) {
    std::string all = nft.run("list chains");
    std::string table;
    for (std::string_view rest = all; !rest.empty();) {
      std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
      if (line.substr(0, 6) == "table ") table = line.substr(6, line.rfind(' ') - 6);
      if (line.find("hook forward") != line.npos && line.find("policy drop") != line.npos) return table;
    }
    return {};
  }

 private:
  std::string list() {
    try {
      return nft_.run(fmt::format("list table inet {}", table_));
    } catch (const error& e) {
      if (e.code() != errc::not_found) throw;
      return "";
    }
  }
  static bool mentions(const std::string& listing, std::string_view owner) {
    return listing.find(fmt::format("comment \"{}", owner)) != listing.npos;
  }
  static std::vector<std::string> elements(const network& n, const plan& p) {
    std::vector<std::string> all{fmt::format(R"(bridges {{ "{}" comment "{}" }})", n.link, n.owner),
                                 fmt::format(R"(within {{ "{0}" . "{0}" comment "{1}" }})", n.link, n.owner)};
    if (p.internal) all.push_back(fmt::format(R"(internal {{ "{}" comment "{}" }})", n.link, n.owner));
    if (p.masquerade && !p.internal)
      for (const auto& r : p.ranges)
        all.push_back(
            fmt::format(R"(masquerade{} {{ {} comment "{}" }})", r.prefix.address.v6 ? 6 : 4, r.prefix.str(), n.owner));
    return all;
  }

  std::string table_ = "kit_";
  std::optional<file_lock> lock_;
  nftables nft_;
};

bridge::bridge(const driver_config& config) : run_dir_(config.run_dir), root_tag_(config.root_tag) {}

std::vector<option_schema> bridge::options() {
  using type = option_schema::type;
  return {{"mtu", type::integer, "", "largest packet on the network; empty: the kernel's choice"},
          {"masquerade", type::boolean, "true", "the outside sees the host's address in place of a container's"},
          {"internal", type::boolean, "false", "no way out and none in"}};
}

probe_report bridge::probe() const {
  probe_report report;
  try {
    netlink host;
    for (const char* kind : {"bridge", "veth"})
      if (!host.can_make(kind))
        return {false,
                fmt::format("the kernel cannot make links of the kind {}", kind),
                fmt::format("modprobe {}, or a kernel with it", kind),
                {}};
    nftables nft;
    if (!nft.accepts("add table inet kit_probe\n"
                     "add chain inet kit_probe nat { type nat hook postrouting priority srcnat; }\n"
                     "add rule inet kit_probe nat masquerade\n"))
      return {false,
              "the kernel has no address translation by nftables",
              "modprobe nft_chain_nat nft_masq, or a kernel with them",
              {}};
    auto other = rules::drops_forwarded(nft);
    report.usable = true;
    report.facts = {{"ip_forward", read_sysctl(forward4)}};
    if (other) {
      report.facts.push_back({"drops forwarded packets", *other});
      report.reason =
          fmt::format("the table {} drops forwarded packets by policy: containers reach the host only", *other);
      report.remedy = "accept packets from and to the bridges there (with Docker: in the chain DOCKER-USER)";
    }
  } catch (const error& e) {
    report = {false,
              e.what(),
              e.code() == errc::permission ? "run as root, with CAP_NET_ADMIN" : "see the message of the kernel",
              {}};
  }
  return report;
}

void bridge::turn_on_forwarding(const std::string& key) {
  if (read_sysctl(key) != "0") return;
  if (!run_dir_.empty()) {
    make_directories(run_dir_);
    const std::string record = run_dir_ + "/forwarding";
    file_lock alone = file_lock::wait(record + ".lock");
    unique_fd file = open_file(record, O_RDWR | O_CREAT | O_APPEND, 0644);
    if (read_all(file.get(), record).find(key) == std::string::npos) write_all(file.get(), key + "\n", record);
  }
  write_sysctl(key, "1");
}

void bridge::create(const network& n) {
  const plan p = read(n);
  const bool ipv6 = detail::has_ipv6(p.ranges);
  netlink host;
  std::optional<file_lock> alone;  // of many first containers one makes the bridge
  if (!run_dir_.empty()) {
    make_directories(run_dir_);
    alone.emplace(file_lock::wait(run_dir_ + "/create.lock"));
  }
  auto link = host.find_link(n.link);
  const bool fresh = !link;
  if (fresh)
    check_overlap(host, n, p, 0);
  else
    bridge_of(host, n);
  if (!p.internal) {
    if (ipv6 && read_sysctl(forward6) == "0") check_router_adverts(host, n);
    turn_on_forwarding(forward4);
    if (ipv6) turn_on_forwarding(forward6);
  }

  netlink_batch made;
  if (fresh)
    made.add_link(n.link, bridge_link{},
                  {.alias = n.owner, .mac = bridge_mac(n), .mtu = p.mtu, .no_link_local = !ipv6});
  made.set_link(n.link, {.up = true});
  in_step("make_bridge", [&] { host.commit(made); });
  link = bridge_of(host, n);
  netlink_batch addressed;
  for (const auto& r : p.ranges)
    if (r.gateway) addressed.add_address(link->index, {*r.gateway, r.prefix.length});
  in_step("address_bridge", [&] { host.commit(addressed); });
  if (fresh) try {
      check_overlap(host, n, p, link->index);  // again: now each of two that came at once sees the other
    } catch (const error&) {
      netlink_batch back;
      back.remove_link(link->index);
      host.commit(back);
      throw;
    }
  if (ipv6) write_sysctl(fmt::format("net/ipv6/conf/{}/accept_ra", n.link), "0");  // a container is no router of ours
  in_step("add_rules", [&] { rules(root_tag_, run_dir_).add(n, p); });
}

void bridge::remove(const network& n) {
  const plan p = read(n);
  netlink host;
  if (auto link = host.find_link(n.link)) {
    if (link->alias != n.owner) return;
    netlink_batch b;
    b.remove_link(link->index);
    host.commit(b);
  }
  rules(root_tag_, run_dir_).remove(n, p);
}

attachment bridge::attach(const network& n, const endpoint& e) {
  const plan p = read(n);
  const auto addresses = detail::addresses_of(n, p.ranges, e);
  const std::string mark = detail::mark_of(n, e);
  netlink host;
  netlink inside(e.netns);
  // For a moment it has no alias yet: then who creates it again waits until it is made.
  const net_link on = bridge_of(host, n, errc::not_found);

  auto outer = host.find_link(e.link);
  if (outer && outer->alias != mark)
    fail(errc::conflict, "attach endpoint {}: the host has a link {} that is not ours; remove or rename it",
         e.id.brief(), e.link);
  if (outer) {
    const auto inner = inside.find_link(e.interface_name);
    if (!inner || outer->lower != inner->index || inner->lower != outer->index) {
      netlink_batch stale;  // its other end went with another namespace
      stale.remove_link(outer->index);
      host.commit(stale);
      outer.reset();
    }
  }
  try {
    netlink_batch b;
    if (outer) {
      b.set_link(e.link, {.master = on.index, .up = true});
    } else {
      b.add_link(e.link, veth_link{e.interface_name, detail::mac_of(e, addresses), p.mtu, e.netns},
                 {.alias = mark, .mtu = p.mtu, .master = on.index, .up = true, .no_link_local = true});
    }
    in_step("make_links", [&] { host.commit(b); });
    outer = host.find_link(e.link);
    const auto inner = inside.find_link(e.interface_name);
    if (!outer || !inner) fail(errc::conflict, "attach endpoint {}: its link {} went away", e.id.brief(), e.link);
    attachment answer;
    answer.interfaces.push_back({outer->name, outer->mac, outer->mtu, false});
    KIT_STEP(detail::set_up_inside(inside, *inner, p.ranges, addresses, answer));
    return answer;
  } catch (const error& why) {
    if (auto left = host.find_link(e.link); left && left->alias == mark) {
      netlink_batch b;
      b.remove_link(left->index);
      host.commit(b);
    }
    if (why.sys_errno() == EXFULL)
      fail(errc::no_space,
           "attach endpoint {} to network {}: its bridge has {} ports, all there can be; make another "
           "network",
           e.id.brief(), n.name, most_ports);
    if (why.sys_errno() == EEXIST)
      fail(errc::conflict, "attach endpoint {}: the namespace has an interface {} already; give another name",
           e.id.brief(), e.interface_name);
    throw;
  }
}

void bridge::detach(const network& n, const endpoint& e, const attachment&) {
  if (e.netns < 0) return;  // the death of the namespace takes both ends of the veth
  netlink host;
  const auto outer = host.find_link(e.link);
  if (!outer || outer->alias != detail::mark_of(n, e)) return;
  netlink_batch b;
  b.remove_link(outer->index);
  in_step("remove_links", [&] { host.commit(b); });
}

void bridge::check(const network& n, const endpoint& e, const attachment& a) {
  netlink host;
  const net_link on = bridge_of(host, n);
  const auto outer = host.find_link(e.link);
  if (!outer || outer->alias != detail::mark_of(n, e))
    fail(errc::not_found, "check endpoint {}: it has no link {} on the host", e.id.brief(), e.link);
  if (outer->master != on.index)
    fail(errc::conflict, "check endpoint {}: {} is no port of {}; stop and start the container", e.id.brief(), e.link,
         n.link);
  if (!outer->up)
    fail(errc::conflict, "check endpoint {}: {} is down; ip link set {} up", e.id.brief(), e.link, e.link);
  netlink inside(e.netns);
  detail::check_inside(inside, e, a);
}

void bridge::collect(const network& n, std::span<const endpoint_id> valid) {
  netlink host;
  detail::remove_others(host, n, valid);
}

void bridge::status(const network& n) {
  const plan p = read(n);
  netlink host;
  const net_link on = bridge_of(host, n);
  if (!on.up) fail(errc::conflict, "use network {}: {} is down; ip link set {} up", n.name, n.link, n.link);
  const auto addresses = host.addresses(on.index);
  for (const auto& r : p.ranges)
    if (r.gateway &&
        std::find(addresses.begin(), addresses.end(), ip_prefix{*r.gateway, r.prefix.length}) == addresses.end())
      fail(errc::conflict, "use network {}: {} has lost the address {}; create the network again", n.name, n.link,
           r.gateway->str());
  const auto links = host.links();
  if (static_cast<std::size_t>(std::count_if(links.begin(), links.end(),
                                             [&](const net_link& l) { return l.master == on.index; })) >= most_ports)
    fail(errc::no_space, "use network {}: its bridge has {} ports, all there can be; make another network", n.name,
         most_ports);
  nftables nft;
  if (auto other = rules::drops_forwarded(nft); other && !p.internal)
    this_call().log(log_level::warning, fmt::format("the table {} drops forwarded packets by policy: containers of "
                                                    "network {} reach the host only; accept them there",
                                                    *other, n.name));
}

}  // namespace kit::drivers
