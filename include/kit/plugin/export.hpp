// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <type_traits>

#include "kit/isolation/detail/table.hpp"
#include "kit/network/detail/table.hpp"
#include "kit/plugin/family.hpp"
#include "kit/storage/detail/table.hpp"

/// \file
/// A whole plugin, for a class that models one of the three concepts and configurable_driver:
///
///     #include "copies.hpp"
///     #include "kit/plugin/export.hpp"
///     KIT_PLUGIN(copies, "1.0", "Apache-2.0")
///
/// built by `kit_add_plugin(storage copies SOURCES copies.cpp)`. The family follows from the concept, the
/// name from copies::name().

namespace kit {
namespace [[gnu::visibility("hidden")]] detail {

template <class D>
concept named_at_compile_time = requires {
  typename std::bool_constant<valid_driver_name(D::name())>;
};

template <configurable_driver D>
struct plugin_thunks : base_thunks<D> {
  static kit_status open(const kit_call* call, const kit_config* config, void** self) noexcept {
    return guard(call, [&] { *self = new D(from_abi(known(config))); });
  }
  static kit_status schema(const kit_call* call, kit_sink sink) noexcept {
    return guard(call, [&] { emit_schema(sink, D::options()); });
  }
  // A member, for g++ 12 gives variable templates the visibility of their arguments and not of their namespace.
  static constexpr auto name = [] {
    std::array<char, D::name().size() + 1> text{};
    for (std::size_t i = 0; i + 1 < text.size(); ++i) text[i] = D::name()[i];
    return text;
  }();
};

template <class D>
constexpr kit_plugin plugin_of(const char* version, const char* licence) {
  static_assert(storage_driver<D> + network_driver<D> + isolation_driver<D> == 1,
                "KIT_PLUGIN: the class must model exactly one of storage_driver, network_driver, isolation_driver");
  static_assert(configurable_driver<D>,
                "KIT_PLUGIN: the class needs a constructor from driver_config and a static options()");
  static_assert(named_at_compile_time<D>, "KIT_PLUGIN: name() must be static constexpr");
  static_assert(valid_driver_name(D::name()), "KIT_PLUGIN: a name is [a-z][a-z0-9-]{0,31}");
  kit_plugin p{};
  p.magic = KIT_ABI_MAGIC;
  p.major = KIT_ABI_MAJOR;
  p.minor = KIT_ABI_MINOR;
  p.size = sizeof p;
  p.name = plugin_thunks<D>::name.data();
  p.version = version;
  p.licence = licence;
#ifdef __clang__
  p.compiler = __VERSION__;
#else
  p.compiler = "g++ " __VERSION__;
#endif
  p.open = plugin_thunks<D>::open;
  p.close = plugin_thunks<D>::close;
  p.probe = plugin_thunks<D>::probe;
  p.schema = plugin_thunks<D>::schema;
  if constexpr (storage_driver<D>) {
    p.family = KIT_FAMILY_STORAGE;
    p.table = &storage_table<D>;
  } else if constexpr (network_driver<D>) {
    p.family = KIT_FAMILY_NETWORK;
    p.table = &network_table<D>;
  } else {
    p.family = KIT_FAMILY_ISOLATION;
    p.table = &isolation_table<D>;
  }
  return p;
}

}  // namespace gnu::visibility("hidden")]]detail
}  // namespace kit

/// Defines the one symbol a plugin exports. `version` is the driver's own, `licence` an SPDX identifier.
#define KIT_PLUGIN(driver, version, licence)                                                         \
  extern "C" {                                                                                       \
  [[gnu::visibility("default")]] extern const kit_plugin KIT_PLUGIN_SYMBOL;                          \
  constinit const kit_plugin KIT_PLUGIN_SYMBOL = ::kit::detail::plugin_of<driver>(version, licence); \
  }
