// SPDX-License-Identifier: Apache-2.0
#include "kit/testing/network.hpp"

#include <dirent.h>

#include <algorithm>
#include <optional>
#include <thread>

#include "kit/system/error.hpp"
#include "kit/system/netlink.hpp"
#include "kit/testing/network_lab.hpp"

namespace kit::testing::detail {
namespace {

constexpr unsigned most_kills = 24;  // points of a call at which it is killed, spread evenly over all there are

/// A lab, a driver in it, a network to be created, and endpoints as they are asked for.
class fixture {
 public:
  fixture(make_network_subject make, const std::vector<option>& network_options) {
    config_.directory = lab.directory() + "/driver";
    config_.run_dir = lab.directory() + "/run";
    config_.root_tag = "suite";
    d = make(config_);
    empty = lab.host_inventory();
    n = another_network(network_options);
    fit_subnets();
  }

  /// The first of: both subnets, IPv4 alone, none, that the driver does not refuse. Leaves nothing made.
  void fit_subnets() {
    for (auto subnets : {std::vector{ipv4_subnet, ipv6_subnet}, std::vector{ipv4_subnet}, std::vector<subnet>{}}) {
      n.subnets = std::move(subnets);
      try {
        d->create(n);
        makes_something = lab.host_inventory() != empty;
        d->remove(n);
        return;
      } catch (const error& e) {
        if (e.code() != errc::invalid || n.subnets.empty()) throw;
      }
    }
  }

  network another_network(const std::vector<option>& options) {
    network other;
    other.id = random_id<network_id>();
    other.name = fmt::format("net{}", ++networks_);
    other.link = fmt::format("kn{}", other.id.text().substr(0, 8));
    other.owner = fmt::format("kit:suite:{}", other.id.text());
    other.options = options;
    return other;
  }

  /// A new endpoint of `n`, with a namespace of its own.
  endpoint another_endpoint() {
    endpoint e;
    e.id = random_id<endpoint_id>();
    e.owner = fmt::format("kit:suite:{}", e.id.text());
    e.netns = namespaces_.emplace_back(make_network_namespace()).get();
    e.interface_name = "eth0";
    e.link = fmt::format("ke{}", e.id.text().substr(0, 8));
    ++endpoints_;
    for (const subnet& s : n.subnets) {
      ip_prefix a = ip_prefix::parse(s.prefix);
      a.address.bytes[a.address.v6 ? 15 : 3] = static_cast<std::uint8_t>(endpoints_ + 1);
      e.addresses.push_back(a.str());
    }
    return e;
  }

  /// Closes the lab's descriptor of e's namespace, which dies of it.
  void end_namespace(endpoint& e) {
    for (auto& ns : namespaces_)
      if (ns.get() == e.netns) ns.reset();
    e.netns = -1;
  }

  void needs_own_namespace() {
    if (d->traits().network_namespace == netns::host) skip("the driver's containers share the host's network");
  }
  void needs_interface() {
    needs_own_namespace();
    if (n.subnets.empty() && !d->traits().assigns_addresses) skip("the driver serves no subnet");
  }
  void needs_subnets() {
    needs_own_namespace();
    if (n.subnets.empty()) skip("the driver serves no subnet");
  }
  void needs_something_made() {
    if (!makes_something) skip("the driver makes nothing for a network");
  }

  network_lab lab;
  std::unique_ptr<network_subject> d;
  std::vector<std::string> empty;  ///< the host before anything was made
  network n;
  bool makes_something = false;

 private:
  driver_config config_;
  std::vector<unique_fd> namespaces_;
  unsigned networks_ = 0;
  unsigned endpoints_ = 0;
};

template <class F>
std::optional<errc> code_of(F&& f) {
  try {
    f();
  } catch (const error& e) {
    return e.code();
  }
  return {};
}

template <class F>
void expect_code(std::initializer_list<errc> wanted, std::string_view what, F&& f) {
  const auto got = code_of(f);
  expect(got && std::find(wanted.begin(), wanted.end(), *got) != wanted.end(), "{}: answered {} and not {}", what,
         got ? to_string(*got) : "success", to_string(*wanted.begin()));
}

std::string difference(const std::vector<std::string>& before, const std::vector<std::string>& after) {
  for (const auto& line : after)
    if (std::find(before.begin(), before.end(), line) == before.end()) return fmt::format("there is now: {}", line);
  for (const auto& line : before)
    if (std::find(after.begin(), after.end(), line) == after.end()) return fmt::format("gone is: {}", line);
  return "another order or count";
}

void expect_same(const std::vector<std::string>& before, const std::vector<std::string>& after, std::string_view what) {
  expect(before == after, "{}: {}", what, difference(before, after));
}
void expect_becomes(const fixture& f, const std::vector<std::string>& wanted, std::string_view what) {
  expect(f.lab.becomes(wanted), "{}: {}", what, difference(wanted, f.lab.host_inventory()));
}

net_link inside(const endpoint& e) {
  auto link = netlink(e.netns).find_link(e.interface_name);
  expect(link.has_value(), "the namespace has no interface {}", e.interface_name);
  return *link;
}

// --- what every driver is

void name_is_a_word(fixture& f) {
  const std::string name = f.d->name();
  expect(!name.empty() && name.size() <= 32 && name[0] >= 'a' && name[0] <= 'z', "the name is \"{}\"", name);
  for (char c : name) expect((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-', "the name is \"{}\"", name);
}

void probe_answers(fixture& f) {
  const probe_report r = f.d->probe();
  expect(r.usable || !r.reason.empty(), "probe says no without a reason");
  expect_same(f.empty, f.lab.host_inventory(), "probe left a trace");
}

void traits_are_constant(fixture& f) {
  auto before = f.d->traits();
  f.d->create(f.n);
  auto after = f.d->traits();
  expect(before.network_namespace == after.network_namespace && before.assigns_addresses == after.assigns_addresses &&
             before.publishes_ports == after.publishes_ports,
         "traits changed after create");
}

// --- create

void create_makes_it_attachable(fixture& f) {
  f.d->create(f.n);
  f.d->status(f.n);
  f.d->attach(f.n, f.another_endpoint());
}

void create_twice_changes_nothing(fixture& f) {
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  const attachment a = f.d->attach(f.n, e);
  const auto before = f.lab.host_inventory();
  f.d->create(f.n);
  expect_same(before, f.lab.host_inventory(), "a second create changed the host");
  f.d->check(f.n, e, a);
}

void create_refuses_anothers_link(fixture& f) {
  f.d->create(f.n);
  const bool has_link = netlink(f.lab.host()).find_link(f.n.link).has_value();
  f.d->remove(f.n);
  if (!has_link) skip("the driver makes no link of the network's name");
  network_lab::make_link(f.lab.host(), f.n.link, "");
  const auto before = f.lab.host_inventory();
  expect_code({errc::conflict}, "create over a link without owner", [&] { f.d->create(f.n); });
  expect_same(before, f.lab.host_inventory(), "somebody else's link was touched");
  netlink_batch b;
  b.set_link(f.n.link, {.alias = "kit:other:" + f.n.id.str()});
  netlink(f.lab.host()).commit(b);
  expect_code({errc::conflict}, "create over the link of another root", [&] { f.d->create(f.n); });
}

void create_refuses_a_wrong_subnet(fixture& f) {
  for (const subnet& wrong :
       {subnet{"10.231.0.0/99", ""}, subnet{"nonsense", ""}, subnet{"10.231.0.0/20", "10.99.0.1"}}) {
    network n = f.n;
    n.subnets = {wrong};
    expect_code({errc::invalid}, fmt::format("create with subnet {} and gateway \"{}\"", wrong.prefix, wrong.gateway),
                [&] { f.d->create(n); });
    expect_same(f.empty, f.lab.host_inventory(), "a refused network left a trace");
  }
}

void create_refuses_an_unknown_option(fixture& f) {
  network n = f.n;
  n.options.push_back({"no-such-option", "1"});
  expect_code({errc::invalid}, "create with an unknown option", [&] { f.d->create(n); });
  expect_same(f.empty, f.lab.host_inventory(), "a refused network left a trace");
}

/// The points at which a call that makes `stops` stops is killed.
std::vector<unsigned> kill_points(unsigned stops) {
  std::vector<unsigned> all;
  const unsigned step = std::max(1U, stops / most_kills);
  for (unsigned at = 1; at < stops; at += step) all.push_back(at);
  return all;
}

void create_killed_anywhere_is_made_whole(fixture& f) {
  f.needs_something_made();
  const unsigned stops = run_until(~0U, [&] { f.d->create(f.n); }).stops;
  const auto whole = f.lab.host_inventory();
  for (unsigned at : kill_points(stops)) {
    f.d->remove(f.n);
    run_until(at, [&] { f.d->create(f.n); });
    f.d->create(f.n);
    f.d->status(f.n);
    const auto now = f.lab.host_inventory();
    expect(now.size() == whole.size(), "create killed at stop {} of {} and repeated: {}", at, stops,
           difference(whole, now));
  }
}

// --- remove

void remove_leaves_nothing(fixture& f) {
  f.d->create(f.n);
  f.d->remove(f.n);
  expect_becomes(f, f.empty, "remove left something");
}

void remove_of_the_absent_succeeds(fixture& f) {
  f.d->remove(f.n);
  expect_same(f.empty, f.lab.host_inventory(), "remove of the absent left a trace");
  f.d->create(f.n);
  f.d->remove(f.n);
  f.d->remove(f.n);
}

void remove_leaves_anothers_link(fixture& f) {
  network_lab::make_link(f.lab.host(), f.n.link, "kit:other:" + f.n.id.str());
  const auto before = f.lab.host_inventory();
  f.d->remove(f.n);
  expect_same(before, f.lab.host_inventory(), "somebody else's link was touched");
}

void remove_leaves_other_networks(fixture& f) {
  f.needs_subnets();
  network other = f.another_network(f.n.options);
  other.subnets = {{"10.232.0.0/20", "10.232.0.1"}};
  f.d->create(f.n);
  const auto before = f.lab.host_inventory();
  f.d->create(other);
  f.d->remove(other);
  f.d->status(f.n);
  // Links and addresses; the order of rules' elements is nobody's promise.
  auto after = f.lab.host_inventory();
  expect(after.size() == before.size() && std::equal(after.begin(), after.end() - 1, before.begin()),
         "removing one network changed another: {}", difference(before, after));
}

void remove_killed_anywhere_completes(fixture& f) {
  f.needs_something_made();
  f.d->create(f.n);
  const unsigned stops = run_until(~0U, [&] { f.d->remove(f.n); }).stops;
  for (unsigned at : kill_points(stops)) {
    f.d->create(f.n);
    run_until(at, [&] { f.d->remove(f.n); });
    f.d->remove(f.n);
    expect_becomes(f, f.empty, fmt::format("remove killed at stop {} of {} and repeated", at, stops));
  }
}

// --- attach

void attach_brings_the_interface_up(fixture& f) {
  f.needs_interface();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  f.d->attach(f.n, e);
  const net_link link = inside(e);
  expect(link.up, "{} is down", e.interface_name);
}

void attach_gives_the_addresses(fixture& f) {
  f.needs_subnets();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  f.d->attach(f.n, e);
  const auto has = netlink(e.netns).addresses(inside(e).index);
  for (const auto& a : e.addresses)
    expect(std::count(has.begin(), has.end(), ip_prefix::parse(a)) == 1, "{} does not bear {}", e.interface_name, a);
}

void attach_sets_lo_up(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  f.d->attach(f.n, e);
  const auto lo = netlink(e.netns).find_link("lo");
  expect(lo && lo->up, "lo is down");
}

void attach_sets_the_default_route(fixture& f) {
  f.needs_subnets();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  f.d->attach(f.n, e);
  const auto routes = netlink(e.netns).routes();
  for (const subnet& s : f.n.subnets)
    expect(std::any_of(routes.begin(), routes.end(),
                       [&](const net_route& r) {
                         return r.destination.length == 0 && r.gateway && r.gateway->str() == s.gateway;
                       }),
           "there is no default route by {}", s.gateway);
}

void attach_answers_what_it_did(fixture& f) {
  f.needs_interface();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  const attachment a = f.d->attach(f.n, e);
  const net_link link = inside(e);
  const auto in = std::find_if(a.interfaces.begin(), a.interfaces.end(),
                               [&](const auto& i) { return i.inside && i.name == e.interface_name; });
  expect(in != a.interfaces.end(), "the answer has no interface {}", e.interface_name);
  expect(in->mac == link.mac, "the answer says {} for the hardware address {}", in->mac, link.mac);
  expect(in->mtu == link.mtu, "the answer says {} for the mtu {}", in->mtu, link.mtu);
  for (const auto& i : a.interfaces)
    if (!i.inside) {
      const auto out = netlink(f.lab.host()).find_link(i.name);
      expect(out && out->mac == i.mac, "the answer names {} on the host, and that is not so", i.name);
    }
  if (!f.d->traits().assigns_addresses) {
    expect(a.ips.size() == e.addresses.size(), "the answer has {} addresses of {}", a.ips.size(), e.addresses.size());
    for (std::size_t i = 0; i < a.ips.size(); ++i) {
      expect(a.ips[i].address == e.addresses[i], "the answer says {} and not {}", a.ips[i].address, e.addresses[i]);
      expect(a.ips[i].gateway == f.n.subnets[i].gateway, "the answer says gateway \"{}\"", a.ips[i].gateway);
      expect(a.ips[i].interface_index < a.interfaces.size() && a.interfaces[a.ips[i].interface_index].inside,
             "the address {} belongs to no interface inside", a.ips[i].address);
    }
    expect(a.routes.size() == f.n.subnets.size(), "the answer has {} routes", a.routes.size());
  }
}

void attach_honours_the_hardware_address(fixture& f) {
  f.needs_interface();
  f.d->create(f.n);
  endpoint e = f.another_endpoint();
  e.mac = "02:ab:cd:00:11:22";
  f.d->attach(f.n, e);
  expect(inside(e).mac == e.mac, "{} has {} and not {}", e.interface_name, inside(e).mac, e.mac);
}

void attach_honours_the_interface_name(fixture& f) {
  f.needs_subnets();
  f.d->create(f.n);
  endpoint e = f.another_endpoint();
  e.interface_name = "internet0";
  const attachment a = f.d->attach(f.n, e);
  expect(inside(e).up, "{} is down", e.interface_name);
  f.d->check(f.n, e, a);
}

void attached_container_reaches_the_gateway(fixture& f) {
  f.needs_subnets();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  f.d->attach(f.n, e);
  for (const subnet& s : f.n.subnets)
    expect(network_lab::reaches(e.netns, ip_address::parse(s.gateway), std::chrono::seconds(3)),
           "the gateway {} does not answer", s.gateway);
}

void attached_containers_reach_each_other(fixture& f) {
  f.needs_subnets();
  f.d->create(f.n);
  const endpoint a = f.another_endpoint(), b = f.another_endpoint();
  f.d->attach(f.n, a);
  f.d->attach(f.n, b);
  for (std::size_t i = 0; i < f.n.subnets.size(); ++i) {
    const auto there = ip_prefix::parse(b.addresses[i]).address, here = ip_prefix::parse(a.addresses[i]).address;
    for (const auto& seen :
         {network_lab::talk_tcp(a.netns, b.netns, there), network_lab::talk_udp(a.netns, b.netns, there)})
      expect(seen == here, "{} sees {} come as {}", b.addresses[i], here.str(), seen.str());
  }
}

void attach_twice_answers_the_same(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  const attachment first = f.d->attach(f.n, e);
  const auto outside_before = f.lab.host_inventory(), inside_before = network_lab::inventory(e.netns);
  expect(f.d->attach(f.n, e) == first, "the second answer differs");
  expect_same(inside_before, network_lab::inventory(e.netns), "attached twice, the namespace changed");
  expect_same(outside_before, f.lab.host_inventory(), "attached twice, the host changed");
}

void attach_to_the_absent_is_not_found(fixture& f) {
  f.needs_own_namespace();
  f.needs_something_made();
  const endpoint e = f.another_endpoint();
  const auto before = network_lab::inventory(e.netns);
  expect_code({errc::not_found}, "attach to a network that was not made", [&] { f.d->attach(f.n, e); });
  expect_same(f.empty, f.lab.host_inventory(), "a failed attach left a trace on the host");
  expect_same(before, network_lab::inventory(e.netns), "a failed attach left a trace in the namespace");
}

void attach_refuses_an_address_outside(fixture& f) {
  f.needs_subnets();
  f.d->create(f.n);
  const auto before = f.lab.host_inventory();
  for (const char* wrong : {"10.77.0.5/20", "fd00:77::5/64", "10.231.0.5", "nonsense/20"}) {
    endpoint e = f.another_endpoint();
    e.addresses = {wrong};
    expect_code({errc::invalid}, fmt::format("attach with the address {}", wrong), [&] { f.d->attach(f.n, e); });
    expect_same(before, f.lab.host_inventory(), "a refused attach left a trace");
  }
}

void attach_failing_leaves_nothing(fixture& f) {
  f.needs_subnets();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  network_lab::make_link(e.netns, e.interface_name, "the image brought it");
  const auto outside_before = f.lab.host_inventory(), inside_before = network_lab::inventory(e.netns);
  expect(code_of([&] { f.d->attach(f.n, e); }).has_value(), "attach over an interface of that name succeeded");
  expect_same(outside_before, f.lab.host_inventory(), "a failed attach left a trace on the host");
  auto inside_after = network_lab::inventory(e.netns);
  for (auto& line : inside_after)  // lo may be up already
    if (line.find("link lo") == 0 || line.find("127.0.0.1") != line.npos || line.find("::1/128") != line.npos)
      line.clear();
  for (const auto& line : inside_after)
    expect(line.empty() || std::find(inside_before.begin(), inside_before.end(), line) != inside_before.end(),
           "a failed attach left in the namespace: {}", line);
}

void attach_refuses_anothers_link(fixture& f) {
  f.needs_subnets();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  f.d->attach(f.n, e);
  const bool has_link = netlink(f.lab.host()).find_link(e.link).has_value();
  if (!has_link) skip("the driver makes no link on the host for an endpoint");
  const endpoint other = f.another_endpoint();
  network_lab::make_link(f.lab.host(), other.link, "somebody's");
  const auto before = f.lab.host_inventory();
  expect(code_of([&] { f.d->attach(f.n, other); }).has_value(), "attach took somebody else's link");
  expect_same(before, f.lab.host_inventory(), "somebody else's link was touched");
}

void attach_keeps_to_its_namespaces(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint(), other = f.another_endpoint();
  const auto before = network_lab::inventory(other.netns);
  f.d->attach(f.n, e);
  expect(same_namespace(open_namespace(0, namespace_kind::net).get(), f.lab.host()),
         "the caller finds itself in another network namespace");
  expect_same(before, network_lab::inventory(other.netns), "another namespace was touched");
}

void attach_does_not_fork(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  const traced_run run = run_until(~0U, [&] { f.d->attach(f.n, e); });
  expect(!run.forked, "attach made a process or a thread");
  expect(run.finished && !run.failed, "attach failed in a child process");
}

unsigned open_descriptors() {
  unsigned count = 0;
  if (DIR* d = ::opendir("/proc/self/fd")) {
    while (::readdir(d)) ++count;
    ::closedir(d);
  }
  return count;
}

void calls_leak_no_descriptor(fixture& f) {
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  unsigned before = 0;
  for (int round = 0; round < 3; ++round) {
    if (round == 1) before = open_descriptors();  // the first round may open what stays, once
    f.d->create(f.n);
    const attachment a = f.d->attach(f.n, e);
    f.d->check(f.n, e, a);
    f.d->status(f.n);
    f.d->detach(f.n, e, a);
    f.d->collect(f.n, {});
  }
  expect(open_descriptors() == before, "{} descriptors were open, {} are now", before, open_descriptors());
}

void attach_runs_in_many_threads(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  constexpr std::size_t count = 8;
  std::vector<endpoint> endpoints;
  for (std::size_t i = 0; i < count; ++i) endpoints.push_back(f.another_endpoint());
  std::vector<std::string> wrong(count);
  {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < count; ++i)
      threads.emplace_back([&f, &wrong, &endpoints, i] {
        try {
          const attachment a = f.d->attach(f.n, endpoints[i]);
          f.d->check(f.n, endpoints[i], a);
        } catch (const std::exception& e) {
          wrong[i] = e.what();
        }
      });
    for (auto& t : threads) t.join();
  }
  for (const auto& w : wrong) expect(w.empty(), "{} endpoints at once: {}", count, w);
}

void attach_killed_anywhere_completes(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const auto before = f.lab.host_inventory();
  endpoint e = f.another_endpoint();
  const unsigned stops = run_until(~0U, [&] { f.d->attach(f.n, e); }).stops;
  f.d->detach(f.n, e, {});
  for (unsigned at : kill_points(stops)) {
    f.end_namespace(e);
    e = f.another_endpoint();
    run_until(at, [&] { f.d->attach(f.n, e); });
    const attachment a = f.d->attach(f.n, e);
    f.d->check(f.n, e, a);
    f.d->detach(f.n, e, a);
    expect_becomes(f, before, fmt::format("attach killed at stop {} of {}, repeated, detached", at, stops));
  }
}

void attach_killed_anywhere_is_collected(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const auto before = f.lab.host_inventory();
  endpoint e = f.another_endpoint();
  const unsigned stops = run_until(~0U, [&] { f.d->attach(f.n, e); }).stops;
  f.d->detach(f.n, e, {});
  for (unsigned at : kill_points(stops)) {
    e = f.another_endpoint();
    run_until(at, [&] { f.d->attach(f.n, e); });
    f.d->collect(f.n, {});
    expect_becomes(f, before, fmt::format("attach killed at stop {} of {}, collected", at, stops));
    f.end_namespace(e);
  }
}

// --- detach

void detach_removes_the_interface(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const auto before = f.lab.host_inventory();
  const endpoint e = f.another_endpoint();
  const attachment a = f.d->attach(f.n, e);
  f.d->detach(f.n, e, a);
  expect(!netlink(e.netns).find_link(e.interface_name), "{} is still in the namespace", e.interface_name);
  expect_becomes(f, before, "detach left something on the host");
}

void detach_twice_succeeds(fixture& f) {
  f.d->create(f.n);
  endpoint e = f.another_endpoint();
  const attachment a = f.d->attach(f.n, e);
  f.d->detach(f.n, e, a);
  f.d->detach(f.n, e, a);
  f.end_namespace(e);
  f.d->detach(f.n, e, a);
}

void detach_of_the_absent_succeeds(fixture& f) {
  f.d->create(f.n);
  endpoint e = f.another_endpoint();
  f.d->detach(f.n, e, {});
  f.end_namespace(e);
  f.d->detach(f.n, e, {});
}

void detach_after_the_namespace_leaves_nothing(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const auto before = f.lab.host_inventory();
  endpoint e = f.another_endpoint();
  const attachment a = f.d->attach(f.n, e);
  f.end_namespace(e);
  f.d->detach(f.n, e, a);
  expect_becomes(f, before, "the namespace died, the endpoint was detached");
}

void detach_without_namespace_does_not_wait(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  const attachment a = f.d->attach(f.n, e);
  endpoint gone = e;
  gone.netns = -1;  // the caller's word; that the lab still holds it makes the kernel keep the link
  const auto start = std::chrono::steady_clock::now();
  f.d->detach(f.n, gone, a);
  const auto took = std::chrono::steady_clock::now() - start;
  expect(took < std::chrono::seconds(1), "detach waited for what the kernel defers");
}

void detach_after_the_network_succeeds(fixture& f) {
  f.d->create(f.n);
  endpoint e = f.another_endpoint();
  const attachment a = f.d->attach(f.n, e);
  f.end_namespace(e);
  f.d->detach(f.n, e, a);
  f.d->remove(f.n);
  f.d->detach(f.n, e, a);
  endpoint alive = f.another_endpoint();
  f.d->detach(f.n, alive, a);
}

void detach_leaves_the_others(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const endpoint one = f.another_endpoint(), other = f.another_endpoint();
  const attachment a = f.d->attach(f.n, one), b = f.d->attach(f.n, other);
  f.d->detach(f.n, one, a);
  f.d->check(f.n, other, b);
}

void detach_leaves_anothers_link(fixture& f) {
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  network_lab::make_link(f.lab.host(), e.link, "somebody's");
  const auto before = f.lab.host_inventory();
  f.d->detach(f.n, e, {});
  expect_same(before, f.lab.host_inventory(), "somebody else's link was touched");
}

// --- check

void check_accepts_what_attach_made(fixture& f) {
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  const attachment a = f.d->attach(f.n, e);
  const auto outside_before = f.lab.host_inventory(), inside_before = network_lab::inventory(e.netns);
  f.d->check(f.n, e, a);
  expect_same(outside_before, f.lab.host_inventory(), "check changed the host");
  expect_same(inside_before, network_lab::inventory(e.netns), "check changed the namespace");
}

/// Spoils an attached endpoint by `spoil`, and expects check to see it.
void expect_seen(fixture& f, std::initializer_list<errc> codes, std::string_view what,
                 function_ref<void(netlink&, const endpoint&)> spoil) {
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  const attachment a = f.d->attach(f.n, e);
  netlink in(e.netns);
  spoil(in, e);
  expect_code(codes, what, [&] { f.d->check(f.n, e, a); });
}

void check_tells_a_lost_address(fixture& f) {
  f.needs_subnets();
  expect_seen(f, {errc::conflict}, "check without the address", [](netlink& in, const endpoint& e) {
    netlink_batch b;
    b.remove_address(in.find_link(e.interface_name)->index, ip_prefix::parse(e.addresses[0]));
    in.commit(b);
  });
}

void check_tells_a_lost_route(fixture& f) {
  f.needs_subnets();
  expect_seen(f, {errc::conflict}, "check without the route", [](netlink& in, const endpoint& e) {
    netlink_batch b;  // down and up again: addresses stay, routes by a gateway go
    b.set_link(e.interface_name, {.up = false});
    b.set_link(e.interface_name, {.up = true});
    in.commit(b);
  });
}

void check_tells_an_interface_that_is_down(fixture& f) {
  f.needs_interface();
  expect_seen(f, {errc::conflict}, "check of an interface that is down", [](netlink& in, const endpoint& e) {
    netlink_batch b;
    b.set_link(e.interface_name, {.up = false});
    in.commit(b);
  });
}

void check_tells_another_hardware_address(fixture& f) {
  f.needs_interface();
  expect_seen(f, {errc::conflict}, "check with another hardware address", [](netlink& in, const endpoint& e) {
    netlink_batch b;
    b.set_link(e.interface_name, {.mac = "02:00:00:00:00:99"});
    in.commit(b);
  });
}

void check_tells_a_lost_interface(fixture& f) {
  f.needs_interface();
  expect_seen(f, {errc::not_found, errc::conflict}, "check without the interface", [](netlink& in, const endpoint& e) {
    netlink_batch b;
    b.remove_link(e.interface_name);
    in.commit(b);
  });
}

void check_tells_the_absent(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const endpoint e = f.another_endpoint();
  expect_code({errc::not_found, errc::conflict}, "check of what was never attached", [&] { f.d->check(f.n, e, {}); });
}

// --- collect

void collect_spares_the_valid(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const endpoint one = f.another_endpoint(), other = f.another_endpoint();
  const attachment a = f.d->attach(f.n, one), b = f.d->attach(f.n, other);
  std::optional<network_connection> between;
  if (!one.addresses.empty()) between.emplace(one.netns, other.netns, ip_prefix::parse(other.addresses[0]).address);
  const endpoint dead = f.another_endpoint();
  f.d->attach(f.n, dead);
  const endpoint_id valid[] = {one.id, other.id};
  f.d->collect(f.n, valid);
  f.d->check(f.n, one, a);
  f.d->check(f.n, other, b);
  if (between) between->use();
}

void collect_takes_the_dead(fixture& f) {
  f.needs_own_namespace();
  f.d->create(f.n);
  const endpoint valid = f.another_endpoint();
  f.d->attach(f.n, valid);
  const auto before = f.lab.host_inventory();
  const endpoint dead = f.another_endpoint();
  f.d->attach(f.n, dead);
  f.d->collect(f.n, {&valid.id, 1});
  expect(!netlink(dead.netns).find_link(dead.interface_name), "an endpoint that is not valid was not detached");
  expect_becomes(f, before, "collect left something");
  f.d->collect(f.n, {&valid.id, 1});
  expect_same(before, f.lab.host_inventory(), "a second collect changed something");
}

void collect_leaves_other_networks(fixture& f) {
  f.needs_subnets();
  network other = f.another_network(f.n.options);
  other.subnets = {{"10.232.0.0/20", "10.232.0.1"}};
  f.d->create(f.n);
  f.d->create(other);
  endpoint e = f.another_endpoint();
  e.addresses = {"10.232.0.9/20"};
  const attachment a = f.d->attach(other, e);
  f.d->collect(f.n, {});
  f.d->check(other, e, a);
}

void collect_leaves_anothers_links(fixture& f) {
  f.d->create(f.n);
  network_lab::make_link(f.lab.host(), "somebodys", "kit:other:1");
  network_lab::make_link(f.lab.host(), "nobodys", "");
  const auto before = f.lab.host_inventory();
  f.d->collect(f.n, {});
  expect_same(before, f.lab.host_inventory(), "somebody else's link was touched");
}

// --- status

void status_accepts_what_create_made(fixture& f) {
  f.d->create(f.n);
  const auto before = f.lab.host_inventory();
  f.d->status(f.n);
  expect_same(before, f.lab.host_inventory(), "status changed something");
}

void status_tells_the_absent(fixture& f) {
  f.needs_something_made();
  expect(code_of([&] { f.d->status(f.n); }).has_value(), "status accepts a network that cannot be attached to");
  expect_same(f.empty, f.lab.host_inventory(), "status changed something");
}

constexpr check<fixture> checks[] = {
    {"name_is_a_word", "driver 1: a name is [a-z][a-z0-9-]{0,31}", name_is_a_word},
    {"probe_answers", "driver 2: probe answers, and changes nothing that outlives the call", probe_answers},
    {"traits_are_constant", "1: traits are constants of the driver", traits_are_constant},
    {"create_makes_it_attachable", "2: after create the network can be attached to", create_makes_it_attachable},
    {"create_twice_changes_nothing", "2: present as asked: success, nothing changed", create_twice_changes_nothing},
    {"create_refuses_anothers_link", "2: a link that does not bear the owner: conflict, untouched",
     create_refuses_anothers_link},
    {"create_refuses_a_wrong_subnet", "2: a subnet that cannot be served: invalid, nothing made",
     create_refuses_a_wrong_subnet},
    {"create_refuses_an_unknown_option", "2: an unknown option: invalid, nothing made",
     create_refuses_an_unknown_option},
    {"create_killed_anywhere_is_made_whole", "2: half made: made whole", create_killed_anywhere_is_made_whole},
    {"remove_leaves_nothing", "3: every object that bears the network's owner is gone", remove_leaves_nothing},
    {"remove_of_the_absent_succeeds", "3: absent: success", remove_of_the_absent_succeeds},
    {"remove_leaves_anothers_link", "3: an object of another owner is left alone", remove_leaves_anothers_link},
    {"remove_leaves_other_networks", "3: an object of another owner is left alone", remove_leaves_other_networks},
    {"remove_killed_anywhere_completes", "all: killed at any instruction, repeating completes",
     remove_killed_anywhere_completes},
    {"attach_brings_the_interface_up", "4: the namespace has an interface of that name that is up",
     attach_brings_the_interface_up},
    {"attach_gives_the_addresses", "4: the interface bears the endpoint's addresses", attach_gives_the_addresses},
    {"attach_sets_lo_up", "4: attach sets lo up", attach_sets_lo_up},
    {"attach_sets_the_default_route", "4: the default route is set if there is a gateway",
     attach_sets_the_default_route},
    {"attach_answers_what_it_did", "4: the answer says all that was done", attach_answers_what_it_did},
    {"attach_honours_the_hardware_address", "4: the interface has the hardware address asked for",
     attach_honours_the_hardware_address},
    {"attach_honours_the_interface_name", "4: the interface has the name asked for", attach_honours_the_interface_name},
    {"attached_container_reaches_the_gateway", "4: the endpoint reaches the network (gateway)",
     attached_container_reaches_the_gateway},
    {"attached_containers_reach_each_other", "4: the endpoint reaches the network (TCP and UDP)",
     attached_containers_reach_each_other},
    {"attach_twice_answers_the_same", "4: repeated: the same answer, nothing doubled", attach_twice_answers_the_same},
    {"attach_to_the_absent_is_not_found", "4: network not made: not_found", attach_to_the_absent_is_not_found},
    {"attach_refuses_an_address_outside", "4: an address in no subnet: invalid", attach_refuses_an_address_outside},
    {"attach_failing_leaves_nothing", "4: on failure nothing of the endpoint is left", attach_failing_leaves_nothing},
    {"attach_refuses_anothers_link", "4: the host's link is the endpoint's own", attach_refuses_anothers_link},
    {"attach_keeps_to_its_namespaces", "4: touches no namespace but the host's and the endpoint's",
     attach_keeps_to_its_namespaces},
    {"attach_does_not_fork", "4: attach never forks", attach_does_not_fork},
    {"calls_leak_no_descriptor", "driver: calls leave no descriptor open", calls_leak_no_descriptor},
    {"attach_runs_in_many_threads", "all: different endpoints may be attached at once", attach_runs_in_many_threads},
    {"attach_killed_anywhere_completes", "all: killed at any instruction, repeating completes",
     attach_killed_anywhere_completes},
    {"attach_killed_anywhere_is_collected", "7: what a crash left is found by the owner's mark",
     attach_killed_anywhere_is_collected},
    {"detach_removes_the_interface", "5: inside a namespace still alive the interface is removed",
     detach_removes_the_interface},
    {"detach_twice_succeeds", "5: absent: success", detach_twice_succeeds},
    {"detach_of_the_absent_succeeds", "5: absent: success", detach_of_the_absent_succeeds},
    {"detach_after_the_namespace_leaves_nothing", "5: namespace gone: everything is gone or going",
     detach_after_the_namespace_leaves_nothing},
    {"detach_without_namespace_does_not_wait", "5: what the kernel defers is not waited for",
     detach_without_namespace_does_not_wait},
    {"detach_after_the_network_succeeds", "5: network removed: success", detach_after_the_network_succeeds},
    {"detach_leaves_the_others", "5: only what bears the endpoint's owner", detach_leaves_the_others},
    {"detach_leaves_anothers_link", "5: only what bears the endpoint's owner", detach_leaves_anothers_link},
    {"check_accepts_what_attach_made", "6: returns if the endpoint is as said; changes nothing",
     check_accepts_what_attach_made},
    {"check_tells_a_lost_address", "6: conflict for a difference", check_tells_a_lost_address},
    {"check_tells_a_lost_route", "6: conflict for a difference", check_tells_a_lost_route},
    {"check_tells_an_interface_that_is_down", "6: conflict for a difference", check_tells_an_interface_that_is_down},
    {"check_tells_another_hardware_address", "6: conflict for a difference", check_tells_another_hardware_address},
    {"check_tells_a_lost_interface", "6: conflict or not_found", check_tells_a_lost_interface},
    {"check_tells_the_absent", "6: conflict or not_found", check_tells_the_absent},
    {"collect_spares_the_valid", "7: the valid ones never notice", collect_spares_the_valid},
    {"collect_takes_the_dead", "7: every endpoint that is not valid is detached", collect_takes_the_dead},
    {"collect_leaves_other_networks", "7: endpoints of this network alone", collect_leaves_other_networks},
    {"collect_leaves_anothers_links", "7: found by the owner's mark", collect_leaves_anothers_links},
    {"status_accepts_what_create_made", "8: returns if an endpoint could be attached; changes nothing",
     status_accepts_what_create_made},
    {"status_tells_the_absent", "8: throws if an endpoint could not be attached", status_tells_the_absent},
};

}  // namespace

int check_network(make_network_subject make, outcome_sink out, std::string_view only,
                  const std::vector<option>& network_options) {
  return run_checks<fixture>(
      checks, [&] { return fixture(make, network_options); }, out, only);
}

}  // namespace kit::testing::detail
