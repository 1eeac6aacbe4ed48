// SPDX-License-Identifier: Apache-2.0
#include "kit/system/netlink.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

#include "kit/system/error.hpp"
#include "kit/system/namespace.hpp"

using namespace kit;

namespace {

/// The thread's own network namespace, so that no link of a test is seen by the host or by another test.
struct private_network {
  unique_fd ns = make_network_namespace();
  namespace_scope inside{ns.get(), namespace_kind::net};
};

template <class F>
errc code_of(F f) {
  try {
    f();
  } catch (const error& e) {
    return e.code();
  }
  return errc{};
}

}  // namespace

TEST_CASE("addresses and prefixes are read, written and compared") {
  CHECK(ip_prefix::parse("10.89.3.5/20").str() == "10.89.3.5/20");
  CHECK(ip_prefix::parse("10.89.19.5/20").network().str() == "10.89.16.0/20");
  CHECK(ip_prefix::parse("fd00:1::5/64").network().str() == "fd00:1::/64");
  CHECK(ip_prefix::parse("10.89.0.0/20").contains(ip_address::parse("10.89.15.255")));
  CHECK_FALSE(ip_prefix::parse("10.89.0.0/20").contains(ip_address::parse("10.89.16.0")));
  CHECK_FALSE(ip_prefix::parse("0.0.0.0/0").contains(ip_address::parse("::1")));
  for (const char* wrong :
       {"", "10.89.0.1", "10.89.0.1/", "10.89.0.1/33", "10.89.0.1/8x", "10.89.0/8", "fd00::/129", "1.2.3.4/-1", "/8"})
    CHECK(code_of([&] { ip_prefix::parse(wrong); }) == errc::invalid);
}

TEST_CASE("a batch makes a bridge and a veth across namespaces") {
  private_network here;
  unique_fd there = make_network_namespace();
  netlink host;
  netlink inside(there.get());

  netlink_batch bridge;
  bridge.add_link("br", bridge_link{}, {.alias = "kit:test:1", .mac = "02:42:00:00:00:01", .mtu = 1400, .up = true});
  host.commit(bridge);
  auto br = host.find_link("br");
  REQUIRE(br);
  CHECK(br->kind == "bridge");
  CHECK(br->alias == "kit:test:1");
  CHECK(br->mac == "02:42:00:00:00:01");
  CHECK(br->mtu == 1400);
  CHECK(br->up);

  netlink_batch veth;
  veth.add_link("outer", veth_link{.peer = "eth0", .peer_mac = "02:42:0a:59:00:05", .peer_netns = there.get()},
                {.alias = "kit:test:2", .master = br->index, .up = true, .no_link_local = true});
  host.commit(veth);
  auto outer = host.find_link("outer");
  auto eth0 = inside.find_link("eth0");
  REQUIRE(outer);
  REQUIRE(eth0);
  CHECK(outer->master == br->index);
  CHECK(outer->lower == eth0->index);
  CHECK(eth0->mac == "02:42:0a:59:00:05");
  CHECK(host.find_link(outer->index)->name == "outer");
  CHECK_FALSE(host.find_link("eth0"));

  netlink_batch address;
  address.set_link("lo", {.up = true});
  address.set_link("eth0", {.up = true});
  address.add_address(eth0->index, ip_prefix::parse("10.89.0.5/20"));
  address.add_address(eth0->index, ip_prefix::parse("fd00:1::5/64"));
  address.add_route({ip_prefix::parse("0.0.0.0/0"), ip_address::parse("10.89.0.1"), eth0->index});
  inside.commit(address);
  inside.commit(address);  // present: success
  auto addresses = inside.addresses(eth0->index);
  CHECK(std::count(addresses.begin(), addresses.end(), ip_prefix::parse("10.89.0.5/20")) == 1);
  CHECK(std::count(addresses.begin(), addresses.end(), ip_prefix::parse("fd00:1::5/64")) == 1);
  auto routes = inside.routes();
  CHECK(std::count(routes.begin(), routes.end(),
                   net_route{ip_prefix::parse("0.0.0.0/0"), ip_address::parse("10.89.0.1"), eth0->index}) == 1);

  netlink_batch away;
  away.remove_address(eth0->index, ip_prefix::parse("10.89.0.5/20"));
  inside.commit(away);
  inside.commit(away);  // absent: success
  netlink_batch gone;
  gone.remove_link("outer");
  gone.remove_link("outer");
  host.commit(gone);
  CHECK_FALSE(inside.find_link("eth0"));
}

TEST_CASE("the first change that fails is told, with the kernel's words and errno") {
  private_network here;
  netlink host;
  netlink_batch twice;
  twice.add_link("br", bridge_link{});
  twice.add_link("br", bridge_link{});
  twice.set_link("absent", {.up = true});
  try {
    host.commit(twice);
    FAIL("a second link of one name was made");
  } catch (const error& e) {
    CHECK(e.code() == errc::exists);
    CHECK(e.sys_errno() == EEXIST);
    CHECK(std::string(e.what()).find("make the link br") == 0);
  }
  CHECK(host.find_link("br"));

  netlink_batch bad;
  CHECK(code_of([&] { bad.set_link("br", {.mac = "02:42:00"}); }) == errc::invalid);
}

TEST_CASE("a link is renamed and moved to another namespace") {
  private_network here;
  unique_fd there = make_network_namespace();
  netlink host;
  netlink inside(there.get());
  netlink_batch b;
  b.add_link("a", veth_link{"b"});
  host.commit(b);
  netlink_batch away;
  away.rename_link(host.find_link("b")->index, "c");
  away.set_link("c", {.netns = there.get()});
  host.commit(away);
  CHECK(host.find_link("a"));
  CHECK_FALSE(host.find_link("c"));
  CHECK(inside.find_link("c"));
}

TEST_CASE("many changes fit in one batch, and a long list in several answers") {
  private_network here;
  netlink host;
  netlink_batch many;
  for (int i = 0; i < 100; ++i) many.add_link("br" + std::to_string(i), bridge_link{}, {.alias = "kit:test:many"});
  host.commit(many);
  CHECK(host.links().size() == 101);
}

TEST_CASE("kinds of links the kernel can make are known without making one") {
  private_network here;
  netlink host;
  CHECK(host.can_make("bridge"));
  CHECK(host.can_make("veth"));
  CHECK_FALSE(host.can_make("no-such-kind"));
  CHECK(host.links().size() == 1);
}
