// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "kit/system/namespace.hpp"
#include "tests/conformance/reference_network.hpp"

namespace kit::testing {

/// What a driver may do wrong. Each is caught by one check of the suite at least.
enum class network_fault {
  none,
  probe_leaves_a_link,
  create_ignores_conflict,
  create_twice_changes_address,
  create_takes_any_option,
  create_forgets_to_route,
  create_marks_late,
  remove_of_the_absent_throws,
  remove_takes_anothers_link,
  remove_forgets,
  attach_leaks_on_failure,
  attach_twice_doubles,
  attach_to_the_absent_is_io,
  attach_takes_any_address,
  attach_leaves_lo_down,
  attach_forgets_the_route,
  attach_answers_another_mac,
  attach_ignores_the_mac,
  attach_stays_in_the_namespace,
  attach_forks,
  attach_leaks_a_descriptor,
  attach_marks_late,
  detach_of_the_absent_throws,
  detach_waits_for_the_namespace,
  detach_does_nothing,
  detach_takes_anothers_link,
  check_is_always_content,
  check_repairs,
  collect_takes_the_valid,
  collect_forgets_the_dead,
  collect_takes_other_networks,
  status_is_always_content,
};

/// The reference driver with one fault, chosen at run time.
class faulty_network {
 public:
  faulty_network(const driver_config& config, network_fault fault) : good_(config), fault_(fault) {}
  static std::string_view name() { return "faulty"; }
  static network_traits traits() { return {}; }
  probe_report probe() const {
    if (is(network_fault::probe_leaves_a_link)) make_link("probed", "");
    return good_.probe();
  }

  void create(network n) {
    if (is(network_fault::create_takes_any_option)) n.options.clear();
    if (is(network_fault::create_ignores_conflict)) give_alias(n.link, n.owner);
    const bool there = netlink().find_link(n.link).has_value();
    if (!there && is(network_fault::create_marks_late)) {
      good_.create(with_owner(n, "nobody"));
      for (int i = 0; i < 5; ++i) (void)netlink().links();  // a driver with much to do in between
      give_alias(n.link, n.owner);
      return;
    }
    good_.create(n);
    if (there && is(network_fault::create_twice_changes_address)) {
      netlink host;
      netlink_batch b;
      b.remove_address(host.find_link(n.link)->index, gateway(n));
      host.commit(b);
    }
    if (is(network_fault::create_forgets_to_route))
      write_all(open_file("/proc/sys/net/ipv4/ip_forward", O_WRONLY).get(), "0", "ip_forward");
  }

  void remove(const network& n) {
    const auto link = netlink().find_link(n.link);
    if (!link && is(network_fault::remove_of_the_absent_throws)) fail(errc::not_found, "no link {}", n.link);
    if (is(network_fault::remove_takes_anothers_link)) give_alias(n.link, n.owner);
    if (is(network_fault::remove_forgets)) return;
    good_.remove(n);
  }

  attachment attach(const network& n, const endpoint& asked) {
    endpoint e = asked;
    netlink inside(e.netns);
    const auto before = inside.find_link(e.interface_name);
    if (is(network_fault::attach_leaks_on_failure) && before && before->kind != "veth") make_link(e.link, e.owner);
    if (is(network_fault::attach_to_the_absent_is_io) && !netlink().find_link(n.link)) fail(errc::io, "no luck");
    network taking = n;
    if (is(network_fault::attach_takes_any_address) && !e.addresses.empty() &&
        !ip_prefix::parse(n.subnets[0].prefix)
             .contains(ip_address::parse(e.addresses[0].substr(0, e.addresses[0].find('/')))))
      e.addresses.clear();
    if (is(network_fault::attach_ignores_the_mac)) e.mac.clear();
    if (is(network_fault::attach_marks_late) && !netlink().find_link(e.link)) {
      netlink_batch b;
      b.add_link(e.link, veth_link{.peer = e.interface_name, .peer_mac = e.mac, .peer_netns = e.netns}, {});
      netlink().commit(b);
      give_alias(e.link, reference_network::mark(n, e));
    }
    attachment a = good_.attach(taking, e);
    const net_link link = *inside.find_link(e.interface_name);
    netlink_batch spoil;
    if (is(network_fault::attach_twice_doubles) && before) {
      ip_prefix second = ip_prefix::parse(e.addresses.at(0));
      second.address.bytes[3] = 200;
      spoil.add_address(link.index, second);
    }
    if (is(network_fault::attach_leaves_lo_down)) spoil.set_link("lo", {.up = false});
    if (is(network_fault::attach_forgets_the_route)) {
      spoil.set_link(e.interface_name, {.up = false});
      spoil.set_link(e.interface_name, {.up = true});
    }
    inside.commit(spoil);
    if (is(network_fault::attach_answers_another_mac)) a.interfaces.at(1).mac = "02:00:00:00:00:01";
    if (is(network_fault::attach_stays_in_the_namespace)) (void)::setns(e.netns, CLONE_NEWNET);
    if (is(network_fault::attach_forks)) {
      const pid_t child = ::fork();
      if (child == 0) ::_exit(0);
      ::waitpid(child, nullptr, 0);
    }
    if (is(network_fault::attach_leaks_a_descriptor)) (void)open_namespace(0, namespace_kind::net).release();
    return a;
  }

  void detach(const network& n, const endpoint& e, const attachment& a) {
    if (is(network_fault::detach_does_nothing)) return;
    if (is(network_fault::detach_of_the_absent_throws) && !netlink().find_link(e.link))
      fail(errc::not_found, "no {}", e.link);
    if (is(network_fault::detach_takes_anothers_link)) give_alias(e.link, reference_network::mark(n, e));
    if (is(network_fault::detach_waits_for_the_namespace) && e.netns < 0)
      for (int tenths = 0; tenths < 15 && netlink().find_link(e.link); ++tenths)
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    good_.detach(n, e, a);
  }

  void check(const network& n, const endpoint& e, const attachment& a) {
    if (is(network_fault::check_is_always_content)) return;
    if (is(network_fault::check_repairs)) attach(n, e);
    good_.check(n, e, a);
  }

  void collect(const network& n, std::span<const endpoint_id> valid) {
    if (is(network_fault::collect_forgets_the_dead)) return;
    if (is(network_fault::collect_takes_the_valid)) valid = {};
    if (is(network_fault::collect_takes_other_networks)) {
      netlink host;
      netlink_batch b;
      for (const auto& l : host.links())
        if (l.kind == "veth" && valid.empty()) b.remove_link(l.index);
      host.commit(b);
    }
    good_.collect(n, valid);
  }

  void status(const network& n) {
    if (is(network_fault::status_is_always_content)) return;
    good_.status(n);
  }

 private:
  bool is(network_fault f) const { return fault_ == f; }
  static ip_prefix gateway(const network& n) {
    return {ip_address::parse(n.subnets[0].gateway), ip_prefix::parse(n.subnets[0].prefix).length};
  }
  static network with_owner(network n, std::string owner) {
    n.owner = std::move(owner);
    return n;
  }
  static void make_link(const std::string& name, const std::string& alias) {
    netlink_batch b;
    b.add_link(name, bridge_link{}, {.alias = alias});
    netlink().commit(b);
  }
  static void give_alias(const std::string& name, const std::string& alias) {
    netlink host;
    if (!host.find_link(name)) return;
    netlink_batch b;
    b.set_link(name, {.alias = alias});
    host.commit(b);
  }

  reference_network good_;
  network_fault fault_;
};

}  // namespace kit::testing
