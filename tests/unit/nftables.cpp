// SPDX-License-Identifier: Apache-2.0
#include "kit/system/nftables.hpp"

#include <catch2/catch.hpp>

#include "kit/system/error.hpp"
#include "kit/system/namespace.hpp"

using namespace kit;

TEST_CASE("rules go to the thread's network namespace, all or nothing") {
  unique_fd ns = make_network_namespace();
  namespace_scope inside(ns.get(), namespace_kind::net);
  nftables nft;
  nft.run("add table inet kit_test\nadd set inet kit_test names { type ifname; }");
  CHECK(nft.run("list ruleset").find("set names") != std::string::npos);
  CHECK_THROWS_AS(nft.run("add table inet kit_other\nadd rule inet kit_other absent accept"), error);
  CHECK(nft.run("list ruleset").find("kit_other") == std::string::npos);
  try {
    nft.run("list table inet absent");
    FAIL("an absent table was listed");
  } catch (const error& e) {
    CHECK(e.code() == errc::not_found);
  }
  CHECK_THROWS_AS(nft.run("this is not nft"), error);
}
