// SPDX-License-Identifier: Apache-2.0
// What C++ sees of abi.h. A struct with padding could not grow safely: what an older side left in the padding would be
// read as a member.
#include "kit/abi.h"

#include <catch2/catch.hpp>
#include <type_traits>

template <class... T>
constexpr bool packed = (std::has_unique_object_representations_v<T> && ...);

static_assert(packed<kit_text, kit_option, kit_id, kit_id_state>);
static_assert(packed<kit_call, kit_layer, kit_mount_option, kit_mount, kit_usage, kit_change>);
static_assert(packed<kit_subnet, kit_network, kit_endpoint, kit_interface, kit_ip, kit_route, kit_attachment>);
static_assert(packed<kit_container, kit_stdio, kit_started, kit_stats>);
static_assert(packed<kit_probe, kit_option_schema, kit_config, kit_plugin>);
static_assert(packed<kit_network_traits, kit_isolation_traits>);

TEST_CASE("KIT_HAS tells what the maker of a struct knew") {
  kit_usage u{};
  u.size = offsetof(kit_usage, inodes);
  CHECK(KIT_HAS(&u, bytes));
  CHECK_FALSE(KIT_HAS(&u, inodes));
  u.size = sizeof u;
  CHECK(KIT_HAS(&u, inodes));
}
