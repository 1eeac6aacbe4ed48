// SPDX-License-Identifier: Apache-2.0
// What the macvlan driver promises beyond the contract that kit/testing/network.hpp checks.
#include "drivers/network/macvlan.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

#include "kit/system/error.hpp"
#include "kit/system/netlink.hpp"
#include "kit/testing/network_lab.hpp"

using namespace kit;
using kit::testing::network_lab;

namespace {

struct wire {
  wire() {
    netlink_batch b;
    b.add_link("plug", veth_link{.peer = "wire"}, {.up = true});
    b.set_link("wire", {.up = true});
    netlink().commit(b);
  }
  static network make(const std::string& mode) {
    network n;
    n.id = random_id<network_id>();
    n.name = mode;
    n.link = "unused";
    n.owner = "kit:wire:" + n.id.str();
    n.subnets = {{"10.101.0.0/20", ""}};
    n.options = {{"parent", "plug"}, {"mode", mode}};
    return n;
  }
  endpoint join(const network& n, const std::string& address) {
    endpoint e;
    e.id = random_id<endpoint_id>();
    e.owner = "kit:wire:" + e.id.str();
    e.netns = containers.emplace_back(make_network_namespace()).get();
    e.interface_name = "eth0";
    e.link = "ke" + e.id.str().substr(0, 8);
    e.addresses = {address + "/20"};
    driver.attach(n, e);
    return e;
  }

  network_lab lab;
  std::vector<unique_fd> containers;
  drivers::macvlan driver{driver_config{}};
};

}  // namespace

TEST_CASE("the mode decides whether containers on one wire reach each other") {
  for (const char* mode : {"bridge", "private", "vepa"}) {
    INFO(mode);
    wire w;
    const network n = wire::make(mode);
    w.driver.create(n);
    const endpoint a = w.join(n, "10.101.0.5"), b = w.join(n, "10.101.0.6");
    CHECK(network_lab::reaches(a.netns, ip_address::parse("10.101.0.6"), std::chrono::milliseconds(500)) ==
          (std::string_view(mode) == "bridge"));
    const auto routes = netlink(a.netns).routes();  // no gateway: no default route
    CHECK(std::none_of(routes.begin(), routes.end(), [](const net_route& r) { return r.gateway.has_value(); }));
  }
}

TEST_CASE("passthru gives the wire to one container") {
  wire w;
  const network n = wire::make("passthru");
  w.driver.create(n);
  w.join(n, "10.101.0.5");
  CHECK_THROWS_AS(w.join(n, "10.101.0.6"), error);
  CHECK(netlink().links().size() == 3);
}

TEST_CASE("a wrong mode and an absent parent are told apart") {
  wire w;
  auto code = [&](network n) {
    try {
      w.driver.create(n);
    } catch (const error& e) {
      return e.code();
    }
    return errc{};
  };
  network n = wire::make("sideways");
  CHECK(code(n) == errc::invalid);
  n.options = {};
  CHECK(code(n) == errc::invalid);
  n.options = {{"parent", "absent"}};
  CHECK(code(n) == errc::not_found);
}
