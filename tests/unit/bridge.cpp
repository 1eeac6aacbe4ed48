// SPDX-License-Identifier: Apache-2.0
// What the bridge driver promises beyond the contract that kit/testing/network.hpp checks.
#include "drivers/network/bridge.hpp"

#include <fcntl.h>

#include <catch2/catch.hpp>

#include "kit/system/error.hpp"
#include "kit/system/netlink.hpp"
#include "kit/system/nftables.hpp"
#include "kit/testing/network_lab.hpp"
#include "kit/testing/suite.hpp"

using namespace kit;
using kit::testing::network_lab;

namespace {

const ip_address outside_v4 = ip_address::parse("198.51.100.2");
const ip_address outside_v6 = ip_address::parse("2001:db8::2");
const ip_address uplink_v4 = ip_address::parse("198.51.100.1");
const ip_address uplink_v6 = ip_address::parse("2001:db8::1");

/// A lab with a driver, and a world outside that knows no way back to the containers.
struct site {
  site() : outside(make_network_namespace()) {
    netlink_batch b;
    b.add_link("uplink", veth_link{.peer = "world", .peer_netns = outside.get()}, {.up = true});
    netlink host, world(outside.get());
    host.commit(b);
    netlink_batch here, there;
    here.add_address(host.find_link("uplink")->index, {uplink_v4, 24});
    here.add_address(host.find_link("uplink")->index, {uplink_v6, 64});
    there.set_link("world", {.up = true});
    there.add_address(world.find_link("world")->index, {outside_v4, 24});
    there.add_address(world.find_link("world")->index, {outside_v6, 64});
    host.commit(here);
    world.commit(there);
  }

  network make(const std::string& name, int number, std::vector<option> options = {}) {
    network n;
    n.id = random_id<network_id>();
    n.name = name;
    n.link = "br-" + name;
    n.owner = fmt::format("kit:{}:{}", config.root_tag, n.id.text());
    n.subnets = {{fmt::format("10.{}.0.0/20", number), fmt::format("10.{}.0.1", number)},
                 {fmt::format("fd00:{}::/64", number), fmt::format("fd00:{}::1", number)}};
    n.options = std::move(options);
    driver.create(n);
    return n;
  }

  endpoint join(const network& n, int number) {
    endpoint e;
    e.id = random_id<endpoint_id>();
    e.owner = fmt::format("kit:{}:{}", config.root_tag, e.id.text());
    e.netns = containers.emplace_back(make_network_namespace()).get();
    e.interface_name = "eth0";
    e.link = "ke" + e.id.str().substr(0, 8);
    for (const subnet& s : n.subnets) {
      ip_prefix a = ip_prefix::parse(s.prefix);
      a.address.bytes[a.address.v6 ? 15 : 3] = static_cast<std::uint8_t>(number);
      e.addresses.push_back(a.str());
    }
    driver.attach(n, e);
    return e;
  }

  static ip_address address(const endpoint& e, int which) {
    return ip_prefix::parse(e.addresses.at(static_cast<std::size_t>(which))).address;
  }
  static bool reaches(const endpoint& e, const ip_address& a) {
    return network_lab::reaches(e.netns, a, std::chrono::milliseconds(300));
  }

  network_lab lab;
  unique_fd outside;
  std::vector<unique_fd> containers;
  driver_config config{{}, lab.directory() + "/run", {}, "site", {}};
  drivers::bridge driver{config};
};

}  // namespace

TEST_CASE("the outside sees the host's address") {
  site s;
  const endpoint e = s.join(s.make("one", 101), 5);
  CHECK(network_lab::talk_tcp(e.netns, s.outside.get(), outside_v4) == uplink_v4);
  CHECK(network_lab::talk_udp(e.netns, s.outside.get(), outside_v4) == uplink_v4);
  CHECK(network_lab::talk_tcp(e.netns, s.outside.get(), outside_v6) == uplink_v6);
}

TEST_CASE("without masquerade the outside sees the container's address, if it knows the way back") {
  site s;
  const endpoint e = s.join(s.make("one", 101, {{"masquerade", "false"}}), 5);
  CHECK_FALSE(s.reaches(e, outside_v4));
  netlink world(s.outside.get());
  netlink_batch b;
  b.add_route({ip_prefix::parse("10.101.0.0/20"), uplink_v4, world.find_link("world")->index});
  world.commit(b);
  CHECK(network_lab::talk_tcp(e.netns, s.outside.get(), outside_v4) == s.address(e, 0));
}

TEST_CASE("an internal network has no way out and none in") {
  site s;
  const network inner = s.make("inner", 101, {{"internal", "true"}}), open = s.make("open", 102);
  const endpoint a = s.join(inner, 5), b = s.join(inner, 6), c = s.join(open, 5);
  CHECK(network_lab::talk_tcp(a.netns, b.netns, s.address(b, 0)) == s.address(a, 0));
  CHECK(network_lab::talk_tcp(a.netns, b.netns, s.address(b, 1)) == s.address(a, 1));
  CHECK_FALSE(s.reaches(a, outside_v4));
  CHECK_FALSE(s.reaches(c, s.address(a, 0)));
  CHECK(s.reaches(c, outside_v4));
}

TEST_CASE("two networks do not reach each other") {
  site s;
  const endpoint a = s.join(s.make("one", 101), 5), b = s.join(s.make("two", 102), 5);
  CHECK_FALSE(s.reaches(a, s.address(b, 0)));
  CHECK_FALSE(s.reaches(b, s.address(a, 1)));
}

TEST_CASE("rules do not grow with the networks, and the last network takes the table along") {
  site s;
  nftables nft;
  nft.run("add table ip others\nadd chain ip others input { type filter hook input priority 0; }");
  const std::string others = nft.run("list ruleset");
  auto rules = [&] {
    const std::string table =
        nft.run("list chain inet kit_site forward") + nft.run("list chain inet kit_site postrouting");
    return std::count(table.begin(), table.end(), '\n');
  };
  std::vector<network> all{s.make("n0", 100)};
  const auto lines = rules();
  for (int i = 1; i < 10; ++i) all.push_back(s.make("n" + std::to_string(i), 100 + i));
  CHECK(rules() == lines);
  for (const network& n : all) s.driver.remove(n);
  CHECK(nft.run("list ruleset") == others);
}

TEST_CASE("a flushed ruleset is made whole by create") {
  site s;
  const network n = s.make("one", 101);
  const endpoint e = s.join(n, 5);
  nftables().run("flush ruleset");
  CHECK_FALSE(s.reaches(e, outside_v4));
  s.driver.create(n);
  CHECK(s.reaches(e, outside_v4));
}

TEST_CASE("two roots on one host keep to themselves") {
  site s;
  const network n = s.make("one", 101);
  const endpoint e = s.join(n, 5);
  driver_config config = s.config;
  config.root_tag = "other";
  config.run_dir = s.lab.directory() + "/other";
  drivers::bridge other(config);
  network theirs = n;
  theirs.owner = "kit:other:" + n.id.str();
  CHECK_THROWS_AS(other.create(theirs), error);
  theirs.link = "br-other";
  theirs.subnets = {{"10.109.0.0/20", "10.109.0.1"}};
  other.create(theirs);
  other.collect(theirs, {});
  other.remove(theirs);
  CHECK(network_lab::talk_tcp(e.netns, s.outside.get(), outside_v4) == uplink_v4);
}

TEST_CASE("a subnet that the host has on another link is refused") {
  site s;
  const network n = s.make("one", 101);
  network second = n;
  second.id = random_id<network_id>();
  second.owner = fmt::format("kit:{}:{}", s.config.root_tag, second.id.text());
  second.link = "br-second";
  for (const char* subnet : {"10.101.0.0/20", "10.101.8.0/24", "10.0.0.0/8"}) {
    second.subnets = {{subnet, ""}};
    try {
      s.driver.create(second);
      FAIL("created");
    } catch (const error& e) {
      CHECK(e.code() == errc::conflict);
      CHECK(std::string(e.what()).find("br-one") != std::string::npos);
    }
    CHECK_FALSE(netlink().find_link("br-second"));
  }
  s.driver.create(n);  // its own is none of another's
}

TEST_CASE("endpoints are collected though their bridge was deleted") {
  site s;
  const network n = s.make("one", 101);
  const endpoint e = s.join(n, 5);
  netlink host;
  netlink_batch b;
  b.remove_link(n.link);
  host.commit(b);
  REQUIRE(host.find_link(e.link));
  s.driver.collect(n, {});
  CHECK_FALSE(host.find_link(e.link));
}

TEST_CASE("forwarding that was off is turned on and recorded") {
  site s;
  CHECK(read_file("/proc/sys/net/ipv4/ip_forward") == "0\n");
  const network inner = s.make("inner", 101, {{"internal", "true"}});
  CHECK(read_file("/proc/sys/net/ipv4/ip_forward") == "0\n");
  s.make("one", 102);
  s.make("two", 103);
  CHECK(read_file("/proc/sys/net/ipv4/ip_forward") == "1\n");
  CHECK(read_file(s.config.run_dir + "/forwarding") == "net/ipv4/ip_forward\nnet/ipv6/conf/all/forwarding\n");
}

TEST_CASE("somebody's drop policy is found and told") {
  site s;
  const network n = s.make("one", 101);
  CHECK(s.driver.probe().usable);
  CHECK(s.driver.probe().reason.empty());
  nftables().run(
      "add table ip strict\nadd chain ip strict FORWARD { type filter hook forward priority 0; policy drop; }");
  const probe_report report = s.driver.probe();
  CHECK(report.usable);
  CHECK(report.reason.find("ip strict") != std::string::npos);
  CHECK_FALSE(report.remedy.empty());

  struct : call_context {
    void log(log_level level, std::string_view line) noexcept override {
      if (level == log_level::warning) warned += line;
    }
    std::string warned;
  } context;
  call_scope scope(context);
  s.driver.status(n);
  CHECK(context.warned.find("ip strict") != std::string::npos);
}

TEST_CASE("the mtu holds on both ends, and a wrong one is refused") {
  site s;
  const network n = s.make("one", 101, {{"mtu", "1400"}});
  const endpoint e = s.join(n, 5);
  CHECK(netlink().find_link(e.link)->mtu == 1400);
  CHECK(netlink(e.netns).find_link("eth0")->mtu == 1400);
  for (const char* wrong : {"12", "many", "70000", "1400x", "1000"})
    CHECK_THROWS_AS(s.make("two", 102, {{"mtu", wrong}}), error);
  CHECK_FALSE(netlink().find_link("br-two"));
}

TEST_CASE("names that could be read as something else are refused") {
  site s;
  network n = s.make("one", 101);
  for (const char* link : {"", "a\"; flush ruleset; \"", "../etc", "a b", "sixteen-bytes-xx"}) {
    network bad = n;
    bad.link = link;
    CHECK_THROWS_AS(s.driver.create(bad), error);
  }
  n.owner = "kit:x\" }";
  CHECK_THROWS_AS(s.driver.create(n), error);
}

TEST_CASE("the host's end of an endpoint has no address of its own, and the gateway keeps its hardware address") {
  site s;
  const network n = s.make("one", 101);
  const std::string mac = netlink().find_link(n.link)->mac;
  const endpoint e = s.join(n, 5);
  netlink host;
  CHECK(host.addresses(host.find_link(e.link)->index).empty());
  CHECK(host.find_link(n.link)->mac == mac);
}

TEST_CASE("a bridge whose ports are all taken says so, and leaves nothing") {
  site s;
  const network n = s.make("one", 101);
  netlink host;
  const std::uint32_t bridge = host.find_link(n.link)->index;
  netlink_batch b;
  for (int i = 0; i < 512; ++i)
    b.add_link(fmt::format("a{}", i), veth_link{.peer = fmt::format("b{}", i)}, {.master = bridge});
  for (int i = 0; i < 511; ++i) b.set_link(fmt::format("b{}", i), {.master = bridge});
  host.commit(b);
  const std::size_t links = host.links().size();
  try {
    s.join(n, 5);
    FAIL("there was a port");
  } catch (const error& e) {
    CHECK(e.code() == errc::no_space);
    CHECK(std::string(e.what()).find("1023 ports") != std::string::npos);
  }
  CHECK(host.links().size() == links);
  CHECK_THROWS_WITH(s.driver.status(n), Catch::Contains("1023 ports"));
}
