// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/detail/abi.hpp"
#include "kit/network/concept.hpp"

/// \file
/// The one erasure of network drivers: a kit_network_driver made from any class that models the concept.
/// KIT_PLUGIN exports it, any_network uses it in place.

namespace kit {
namespace [[gnu::visibility("hidden")]] detail {

kit_network to_abi(const network& n, scratch& memory);
network from_abi(const kit_network* raw);
kit_endpoint to_abi(const endpoint& e, scratch& memory);
endpoint from_abi(const kit_endpoint* raw);
kit_attachment to_abi(const attachment& a, scratch& memory);
attachment from_abi(const kit_attachment* raw);
kit_network_traits to_abi(const network_traits& t) noexcept;
network_traits from_abi(const kit_network_traits& raw);
void emit_attachment(const kit_sink& sink, const attachment& a);

template <network_driver D>
struct network_thunks : base_thunks<D> {
  static D& self(void* p) noexcept { return *static_cast<D*>(p); }

  static kit_status traits(const kit_call* c, void* p, kit_network_traits* out) noexcept {
    return guard(c, [&] { give(out, to_abi(self(p).traits())); });
  }
  static kit_status create(const kit_call* c, void* p, const kit_network* n) noexcept {
    return guard(c, [&] { self(p).create(from_abi(n)); });
  }
  static kit_status remove(const kit_call* c, void* p, const kit_network* n) noexcept {
    return guard(c, [&] { self(p).remove(from_abi(n)); });
  }
  static kit_status attach(const kit_call* c, void* p, const kit_network* n, const kit_endpoint* e,
                           kit_sink sink) noexcept {
    return guard(c, [&] { emit_attachment(sink, self(p).attach(from_abi(n), from_abi(e))); });
  }
  static kit_status detach(const kit_call* c, void* p, const kit_network* n, const kit_endpoint* e,
                           const kit_attachment* a) noexcept {
    return guard(c, [&] { self(p).detach(from_abi(n), from_abi(e), from_abi(a)); });
  }
  static kit_status check(const kit_call* c, void* p, const kit_network* n, const kit_endpoint* e,
                          const kit_attachment* a) noexcept {
    return guard(c, [&] { self(p).check(from_abi(n), from_abi(e), from_abi(a)); });
  }
  static kit_status collect(const kit_call* c, void* p, const kit_network* n, const kit_id* valid,
                            std::size_t count) noexcept {
    return guard(c, [&] {
      const auto ids = from_abi<endpoint_id>(valid, count);
      self(p).collect(from_abi(n), std::span<const endpoint_id>(ids));
    });
  }
  static kit_status status(const kit_call* c, void* p, const kit_network* n) noexcept {
    return guard(c, [&] { self(p).status(from_abi(n)); });
  }
  static const void* ability(void*, const char*) noexcept { return nullptr; }
};

// T also hides it: g++ 12 gives variable templates the visibility of their arguments and not of their namespace.
template <network_driver D, class T = network_thunks<D>>
inline constexpr kit_network_driver network_table{
    .size = sizeof(kit_network_driver),
    .traits = T::traits,
    .create = T::create,
    .remove = T::remove,
    .attach = T::attach,
    .detach = T::detach,
    .check = T::check,
    .collect = T::collect,
    .status = T::status,
    .ability = T::ability,
};

}  // namespace gnu::visibility("hidden")]]detail
}  // namespace kit
