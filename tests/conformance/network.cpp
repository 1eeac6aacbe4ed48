// SPDX-License-Identifier: Apache-2.0
#include "kit/testing/network.hpp"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "drivers/network/bridge.hpp"
#include "drivers/network/host.hpp"
#include "drivers/network/macvlan.hpp"
#include "drivers/network/none.hpp"
#include "kit/network/any_network.hpp"
#include "kit/plugin/loader.hpp"
#include "kit/system/namespace.hpp"
#include "tests/conformance/faulty_network.hpp"

using namespace kit;
using namespace kit::testing;

namespace {

void need_root() {
  if (::geteuid() == 0) return;
  std::puts("skipped: the network suite makes network namespaces, and needs root");
  std::exit(77);
}

/// Shows the suite's outcomes to Catch2: one assertion per check that applies.
void report(const outcome& o) {
  if (o.is == verdict::skipped) {
    fmt::print("skipped: {}: {}\n", o.check, o.reason);
    return;
  }
  INFO(o.check << " (" << o.requirement << "): " << o.reason);
  CHECK(o.is == verdict::passed);
}

template <class Make>
void conforms(Make make, const std::vector<option>& network_options = {}) {
  need_root();
  check_network(
      make, [](const outcome& o) { report(o); }, {}, network_options);
}

template <class D>
constexpr auto direct = [](const driver_config& c) { return D(c); };
/// Through the C table that a plugin would export.
template <class D>
constexpr auto erased = [](const driver_config& c) { return any_network(std::make_unique<D>(c)); };
/// From the plugin's file, found in $KIT_PLUGIN_PATH.
auto plugged(std::string_view name) {
  return [name](const driver_config& c) { return open_network(name, c); };
}

/// Puts a wire into the host that is to be: one end of a veth is the plug on the host; the other, in a namespace of its
/// own, is the wire's router.
template <class Make>
auto wired(Make make) {
  return [make, routers = std::make_shared<std::vector<unique_fd>>()](const driver_config& config) {
    netlink host, router(routers->emplace_back(make_network_namespace()).get());
    netlink_batch plug, wire;
    plug.add_link("plug", veth_link{.peer = "wire", .peer_netns = routers->back().get()}, {.up = true});
    host.commit(plug);
    const auto index = router.find_link("wire")->index;
    for (const subnet& s : {ipv4_subnet, ipv6_subnet})
      wire.add_address(index, {ip_address::parse(s.gateway), ip_prefix::parse(s.prefix).length});
    wire.set_link("wire", {.up = true});
    router.commit(wire);
    return make(config);
  };
}
const std::vector<option> on_the_plug{{"parent", "plug"}};

struct seeded {
  network_fault fault;
  std::string_view caught_by;
};

constexpr seeded faults[] = {
    {network_fault::probe_leaves_a_link, "probe_answers"},
    {network_fault::create_ignores_conflict, "create_refuses_anothers_link"},
    {network_fault::create_twice_changes_address, "create_twice_changes_nothing"},
    {network_fault::create_takes_any_option, "create_refuses_an_unknown_option"},
    {network_fault::create_forgets_to_route, "attached_containers_reach_each_other"},
    {network_fault::create_marks_late, "create_killed_anywhere_is_made_whole"},
    {network_fault::remove_of_the_absent_throws, "remove_of_the_absent_succeeds"},
    {network_fault::remove_takes_anothers_link, "remove_leaves_anothers_link"},
    {network_fault::remove_forgets, "remove_leaves_nothing"},
    {network_fault::attach_leaks_on_failure, "attach_failing_leaves_nothing"},
    {network_fault::attach_twice_doubles, "attach_twice_answers_the_same"},
    {network_fault::attach_to_the_absent_is_io, "attach_to_the_absent_is_not_found"},
    {network_fault::attach_takes_any_address, "attach_refuses_an_address_outside"},
    {network_fault::attach_leaves_lo_down, "attach_sets_lo_up"},
    {network_fault::attach_forgets_the_route, "attach_sets_the_default_route"},
    {network_fault::attach_answers_another_mac, "attach_answers_what_it_did"},
    {network_fault::attach_ignores_the_mac, "attach_honours_the_hardware_address"},
    {network_fault::attach_stays_in_the_namespace, "attach_keeps_to_its_namespaces"},
    {network_fault::attach_forks, "attach_does_not_fork"},
    {network_fault::attach_leaks_a_descriptor, "calls_leak_no_descriptor"},
    {network_fault::attach_marks_late, "attach_killed_anywhere_is_collected"},
    {network_fault::detach_of_the_absent_throws, "detach_twice_succeeds"},
    {network_fault::detach_of_the_absent_throws, "detach_of_the_absent_succeeds"},
    {network_fault::detach_waits_for_the_namespace, "detach_without_namespace_does_not_wait"},
    {network_fault::detach_does_nothing, "detach_removes_the_interface"},
    {network_fault::detach_takes_anothers_link, "detach_leaves_anothers_link"},
    {network_fault::check_is_always_content, "check_tells_a_lost_address"},
    {network_fault::check_is_always_content, "check_tells_a_lost_route"},
    {network_fault::check_repairs, "check_tells_a_lost_address"},
    {network_fault::collect_takes_the_valid, "collect_spares_the_valid"},
    {network_fault::collect_forgets_the_dead, "collect_takes_the_dead"},
    {network_fault::collect_takes_other_networks, "collect_leaves_other_networks"},
    {network_fault::status_is_always_content, "status_tells_the_absent"},
};

}  // namespace

// One line per form of a driver.
TEST_CASE("reference") { conforms(direct<reference_network>); }
TEST_CASE("reference, erased") { conforms(erased<reference_network>); }
TEST_CASE("bridge") { conforms(direct<drivers::bridge>); }
TEST_CASE("bridge, erased") { conforms(erased<drivers::bridge>); }
TEST_CASE("bridge, as a plugin") { conforms(plugged("bridge")); }
TEST_CASE("macvlan") { conforms(wired(direct<drivers::macvlan>), on_the_plug); }
TEST_CASE("macvlan, erased") { conforms(wired(erased<drivers::macvlan>), on_the_plug); }
TEST_CASE("macvlan, as a plugin") { conforms(wired(plugged("macvlan")), on_the_plug); }
TEST_CASE("none") { conforms(direct<drivers::none>); }
TEST_CASE("none, erased") { conforms(erased<drivers::none>); }
TEST_CASE("none, as a plugin") { conforms(plugged("none")); }
TEST_CASE("host") { conforms(direct<drivers::host>); }
TEST_CASE("host, erased") { conforms(erased<drivers::host>); }
TEST_CASE("host, as a plugin") { conforms(plugged("host")); }
TEST_CASE("the faulty driver without a fault") {
  conforms([](const driver_config& config) { return faulty_network(config, network_fault::none); });
}

TEST_CASE("every seeded fault is caught by the check that names it") {
  need_root();
  for (const seeded& s : faults) {
    INFO("fault " << static_cast<int>(s.fault) << ", check " << s.caught_by);
    int seen = 0;
    const int failures = check_network([&](const driver_config& config) { return faulty_network(config, s.fault); },
                                       [&](const outcome& o) { seen += o.is == verdict::failed; }, s.caught_by);
    CHECK(failures == 1);
    CHECK(seen == 1);
  }
}
