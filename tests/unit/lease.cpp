// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <set>

#include "kit/records/records.hpp"
#include "kit/system/error.hpp"
#include "scratch.hpp"

using namespace kit;
using testing::scratch;

namespace {

network_record some_network(std::vector<std::string> prefixes, std::vector<std::string> gateways) {
  network_record n;
  n.id = random_id<network_id>();
  n.name = "net-" + std::string(n.id.brief());
  n.driver = "bridge";
  n.prefixes = std::move(prefixes);
  n.gateways = std::move(gateways);
  return n;
}

endpoint_record lease(records& r, const network_record& n, const std::vector<std::string>& wanted = {}) {
  return r.lease_endpoint(n, random_id<container_id>(), "eth0", wanted);
}

errc code_of(function_ref<void()> work) {
  try {
    work();
  } catch (const error& e) {
    return e.code();
  }
  return errc{};
}

}  // namespace

TEST_CASE("a prefix is used up without network, broadcast and gateway, then refused") {
  scratch root;
  records r(root.path());
  const network_record n = some_network({"10.1.2.0/29"}, {"10.1.2.3"});
  r.insert(n);
  std::vector<std::string> given;
  for (int i = 0; i < 5; ++i) given.push_back(lease(r, n).addresses.at(0));
  CHECK(given == std::vector<std::string>{"10.1.2.1/29", "10.1.2.2/29", "10.1.2.4/29", "10.1.2.5/29", "10.1.2.6/29"});
  CHECK(code_of([&] { lease(r, n); }) == errc::no_space);
  CHECK(r.endpoints(n.id).size() == 5);
}

TEST_CASE("the address released longest ago is given out first") {
  scratch root;
  records r(root.path());
  const network_record n = some_network({"10.1.2.0/29"}, {"10.1.2.1"});
  r.insert(n);
  std::vector<endpoint_record> held;
  for (int i = 0; i < 3; ++i) held.push_back(lease(r, n));
  r.release_endpoint(held[1].id);
  r.release_endpoint(held[0].id);
  CHECK(lease(r, n).addresses.at(0) == "10.1.2.5/29");  // never used
  CHECK(lease(r, n).addresses.at(0) == "10.1.2.6/29");
  r.release_endpoint(held[2].id);
  CHECK(lease(r, n).addresses == held[1].addresses);
  CHECK(lease(r, n).addresses == held[0].addresses);
  CHECK(lease(r, n).addresses == held[2].addresses);
  CHECK(code_of([&] { lease(r, n); }) == errc::no_space);
}

TEST_CASE("one address for each prefix, IPv4 and IPv6") {
  scratch root;
  records r(root.path());
  const network_record n = some_network({"10.9.0.0/20", "fd00:1::/64"}, {"10.9.0.1", "fd00:1::1"});
  r.insert(n);
  const endpoint_record e = lease(r, n);
  CHECK(e.addresses == std::vector<std::string>{"10.9.0.2/20", "fd00:1::2/64"});
  CHECK(e.mac == "02:6b:0a:09:00:02");
  CHECK(e.link.size() == 11);
  CHECK(e.link.substr(0, 3) == "kit");
  // So wide a prefix goes on rather than back.
  r.release_endpoint(e.id);
  CHECK(lease(r, n).addresses.at(1) == "fd00:1::3/64");
}

TEST_CASE("odd prefixes: single hosts, pairs, everything, host bits set") {
  scratch root;
  records r(root.path());
  const auto first_of = [&](const char* prefix, const char* gateway) {
    const network_record n = some_network({prefix}, {gateway});
    r.insert(n);
    return lease(r, n).addresses.at(0);
  };
  CHECK(first_of("10.0.0.7/32", "") == "10.0.0.7/32");
  CHECK(first_of("10.0.0.6/31", "10.0.0.6") == "10.0.0.7/31");
  CHECK(first_of("10.0.0.99/24", "10.0.0.1") == "10.0.0.2/24");
  CHECK(first_of("0.0.0.0/0", "") == "0.0.0.1/0");
  CHECK(first_of("::/0", "") == "::1/0");
  CHECK(first_of("fd00::ffff:0/112", "fd00::ffff:1") == "fd00::ffff:2/112");
  for (const char* bad : {"10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0/24", "x/24", "fd00::/129", "10.0.0.0/2x"})
    CHECK(code_of([&] { first_of(bad, ""); }) == errc::invalid);
}

TEST_CASE("a wanted address is given, once") {
  scratch root;
  records r(root.path());
  const network_record n = some_network({"10.9.0.0/24", "fd00:1::/64"}, {"10.9.0.1", "fd00:1::1"});
  r.insert(n);
  const endpoint_record e = lease(r, n, {"fd00:1::77", "10.9.0.2"});
  CHECK(e.addresses == std::vector<std::string>{"10.9.0.2/24", "fd00:1::77/64"});
  CHECK(code_of([&] { lease(r, n, {"10.9.0.2"}); }) == errc::conflict);
  CHECK(lease(r, n).addresses.at(0) == "10.9.0.3/24");
  for (const char* own : {"10.9.0.0", "10.9.0.1", "10.9.0.255", "10.8.0.1", "hello"})
    CHECK(code_of([&] { lease(r, n, {own}); }) == errc::invalid);
  CHECK(r.endpoints(n.id).size() == 2);
  r.release_endpoint(e.id);
  r.release_endpoint(e.id);
  CHECK(lease(r, n, {"10.9.0.2/24"}).addresses.at(0) == "10.9.0.2/24");
}

TEST_CASE("a refused lease within a transaction leaves nothing behind") {
  scratch root;
  records r(root.path());
  const network_record n = some_network({"10.9.0.0/24", "10.10.0.0/30"}, {"", ""});
  r.insert(n);
  lease(r, n);
  lease(r, n);
  r.transaction([&] { CHECK(code_of([&] { lease(r, n); }) == errc::no_space); });
  CHECK(r.endpoints(n.id).size() == 2);
  const network_record alone = some_network({"10.9.0.0/24"}, {""});
  r.insert(alone);
  CHECK(lease(r, alone).addresses.at(0) == "10.9.0.1/24");
}

TEST_CASE("endpoints: kept, updated, and removed with their container") {
  scratch root;
  records r(root.path());
  const network_record n = some_network({"10.9.0.0/24"}, {"10.9.0.1"});
  CHECK(code_of([&] { lease(r, n); }) == errc::not_found);
  r.insert(n);
  container_record c;
  c.id = random_id<container_id>();
  c.name = "c";
  r.insert(c);
  endpoint_record e = r.lease_endpoint(n, c.id, "eth0", {}, "veth");
  CHECK(e.link.substr(0, 4) == "veth");
  CHECK(code_of([&] { r.lease_endpoint(n, c.id, "eth0"); }) == errc::exists);
  CHECK(code_of([&] { r.lease_endpoint(n, c.id, "eth1", {}, "eightlong"); }) == errc::invalid);
  e.attachment = R"({"ips":[]})";
  r.update(e);
  const auto kept = r.endpoints(c.id);
  REQUIRE(kept.size() == 1);
  CHECK(kept[0].id == e.id);
  CHECK(kept[0].attachment == e.attachment);
  CHECK(kept[0].link == e.link);
  CHECK(kept[0].addresses == e.addresses);
  CHECK(code_of([&] { r.remove_network(n.id); }) == errc::conflict);
  r.remove_container(c.id);
  r.remove_container(c.id);
  CHECK(r.endpoints(n.id).empty());
  CHECK(code_of([&] { r.update(e); }) == errc::not_found);
  r.remove_network(n.id);
  r.remove_network(n.id);
  CHECK_FALSE(r.find_network(n.name));
}

TEST_CASE("a network without prefixes still gives link and mac") {
  scratch root;
  records r(root.path());
  const network_record n = some_network({}, {});
  r.insert(n);
  const endpoint_record a = lease(r, n), b = lease(r, n);
  CHECK(a.addresses.empty());
  CHECK(a.mac != b.mac);
  CHECK(a.mac.substr(0, 3) == "02:");
  CHECK(a.link != b.link);
}

TEST_CASE("eight processes at once: nothing is given twice") {
  scratch root;
  const network_record n = some_network({"10.9.0.0/24", "fd00::/64"}, {"10.9.0.1", "fd00::1"});
  records(root.path()).insert(n);
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      try {
        // Release and lease again, so that used addresses are fought for too.
        std::vector<endpoint_record> held;
        for (int round = 0; round < 60; ++round) {
          records r(root.path());
          held.push_back(lease(r, n));
          if (held.size() > 20) {
            r.release_endpoint(held.front().id);
            held.erase(held.begin());
          }
        }
        ::_exit(0);
      } catch (const std::exception& e) {
        ::fprintf(stderr, "%s\n", e.what());
        ::_exit(1);
      }
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  std::set<std::string> addresses, links, macs;
  const auto all = records(root.path()).endpoints(n.id);
  for (const endpoint_record& e : all) {
    addresses.insert(e.addresses.begin(), e.addresses.end());
    links.insert(e.link);
    macs.insert(e.mac);
  }
  CHECK(all.size() == 160);
  CHECK(addresses.size() == 320);
  CHECK(links.size() == 160);
  CHECK(macs.size() == 160);
}
