// SPDX-License-Identifier: Apache-2.0
// What is and what is not a network driver: this file compiles or it does not.
#include <catch2/catch.hpp>

#include "drivers/network/bridge.hpp"
#include "drivers/network/host.hpp"
#include "drivers/network/macvlan.hpp"
#include "drivers/network/none.hpp"
#include "kit/network/concept.hpp"

using namespace kit;

namespace {

/// The least there can be; each non-model below spoils one part of it.
struct least {
  std::string_view name() const { return "least"; }
  probe_report probe() const { return {}; }
  network_traits traits() { return {}; }
  void create(const network&) {}
  void remove(const network&) {}
  attachment attach(const network&, const endpoint&) { return {}; }
  void detach(const network&, const endpoint&, const attachment&) {}
  void check(const network&, const endpoint&, const attachment&) {}
  void collect(const network&, std::span<const endpoint_id>) {}
  void status(const network&) {}
};
static_assert(network_driver<least>);
static_assert(!configurable_driver<least>, "it has no options and cannot be made from a configuration");

static_assert(network_driver<drivers::bridge> && configurable_driver<drivers::bridge>);
static_assert(network_driver<drivers::host> && configurable_driver<drivers::host>);
static_assert(network_driver<drivers::macvlan> && configurable_driver<drivers::macvlan>);
static_assert(network_driver<drivers::none> && configurable_driver<drivers::none>);

static_assert(!network_driver<int>);
struct nameless : least {
  int name() const { return 7; }
};
static_assert(!network_driver<nameless>, "a name is text");
struct unprobed : least {
  bool probe() const { return true; }
};
static_assert(!network_driver<unprobed>, "probe answers a report");
struct probing_changes : least {
  probe_report probe() { return {}; }
};
static_assert(!network_driver<probing_changes>, "probe is asked of a const driver");
struct without_traits : least {
  int traits() { return 0; }
};
static_assert(!network_driver<without_traits>);
struct silent : least {
  void attach(const network&, const endpoint&) {}
};
static_assert(!network_driver<silent>, "attach answers an attachment");
struct greedy : least {
  void create(network&) {}
};
static_assert(!network_driver<greedy>, "a driver does not change what it is given");
struct forgetful : least {
  void detach(const network&, const endpoint&) {}
};
static_assert(!network_driver<forgetful>, "detach is handed what attach answered");
struct collects_texts : least {
  void collect(const network&, const std::vector<std::string>&) {}
};
static_assert(!network_driver<collects_texts>, "ids of endpoints are no texts");
struct confused : least {
  void collect(const network&, std::span<const container_id>) {}
};
static_assert(!network_driver<confused>, "an endpoint is no container");
struct hidden_status : least {
 private:
  void status(const network&) {}
};
static_assert(!network_driver<hidden_status>);

}  // namespace

TEST_CASE("a driver says which traits it has") {
  const driver_config config;
  CHECK(drivers::bridge::traits().network_namespace == netns::own);
  CHECK(drivers::none::traits().network_namespace == netns::own);
  CHECK(drivers::host::traits().network_namespace == netns::host);
  CHECK(drivers::bridge(config).name() == "bridge");
}
