// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/detail/abi.hpp"
#include "kit/isolation/concept.hpp"

/// \file
/// The one erasure of isolation drivers: a kit_isolation made from any class that models the concept.
/// KIT_PLUGIN exports it, any_isolation uses it in place.

namespace kit {
namespace [[gnu::visibility("hidden")]] detail {

kit_container to_abi(const container& c) noexcept;
container from_abi(const kit_container* raw);
kit_stdio to_abi(const stdio& io) noexcept;
stdio from_abi(const kit_stdio* raw) noexcept;
std::vector<mount> from_abi(const kit_mount* const* list, std::size_t count);
/// A kit_started that holds nothing: its descriptors are -1.
kit_started nothing_started() noexcept;
/// Hands the descriptors over.
kit_started to_abi(started&& s) noexcept;
/// Takes the descriptors over.
started from_abi(const kit_started& raw) noexcept;
kit_stats to_abi(const container_stats& s) noexcept;
container_stats from_abi(const kit_stats& raw) noexcept;
reach reach_from_abi(std::uint32_t flags);

template <isolation_driver D>
struct isolation_thunks : base_thunks<D> {
  static D& self(void* p) noexcept { return *static_cast<D*>(p); }

  static kit_status traits(const kit_call* c, void* p, kit_isolation_traits* out) noexcept {
    return guard(c, [&] {
      const isolation_traits t = self(p).traits();
      give(out, kit_isolation_traits{sizeof(kit_isolation_traits), t.needs_rootfs_path ? 1u : 0u, 0});
    });
  }
  static kit_status create(const kit_call* c, void* p, const kit_container* x, const kit_mount* const* mounts,
                           std::size_t count, const kit_stdio* io, kit_started* out) noexcept {
    return guard(c, [&] {
      const std::vector<mount> list = from_abi(mounts, count);
      stdio files = from_abi(io);
      const auto put = [sink = known(io).on_netns](int netns) { emit(sink, std::int32_t{netns}); };
      const function_ref<void(int)> on_netns = put;
      if (known(io).on_netns.put != nullptr) files.on_netns = &on_netns;
      give(out, to_abi(self(p).create(from_abi(x), std::span<const mount>(list), files)));
    });
  }
  static kit_status start(const kit_call* c, void* p, const kit_container* x) noexcept {
    return guard(c, [&] { self(p).start(from_abi(x)); });
  }
  static kit_status signal(const kit_call* c, void* p, const kit_container* x, std::int32_t signal,
                           std::uint32_t flags) noexcept {
    return guard(c, [&] { self(p).signal(from_abi(x), signal, reach_from_abi(flags)); });
  }
  static kit_status remove(const kit_call* c, void* p, const kit_container* x) noexcept {
    return guard(c, [&] { self(p).remove(from_abi(x)); });
  }
  static kit_status exec(const kit_call* c, void* p, const kit_container* x, kit_text process_json, const kit_stdio* io,
                         kit_started* out) noexcept {
    return guard(c, [&] { give(out, to_abi(self(p).exec(from_abi(x), from_abi(process_json), from_abi(io)))); });
  }
  static kit_status pause(const kit_call* c, void* p, const kit_container* x) noexcept {
    return guard(c, [&] { self(p).pause(from_abi(x)); });
  }
  static kit_status resume(const kit_call* c, void* p, const kit_container* x) noexcept {
    return guard(c, [&] { self(p).resume(from_abi(x)); });
  }
  static kit_status update(const kit_call* c, void* p, const kit_container* x, kit_text resources_json) noexcept {
    return guard(c, [&] { self(p).update(from_abi(x), from_abi(resources_json)); });
  }
  static kit_status stats(const kit_call* c, void* p, const kit_container* x, kit_stats* out) noexcept {
    return guard(c, [&] { give(out, to_abi(self(p).stats(from_abi(x)))); });
  }
  static const void* ability(void*, const char*) noexcept { return nullptr; }
};

// T also hides it: g++ 12 gives variable templates the visibility of their arguments and not of their namespace.
template <isolation_driver D, class T = isolation_thunks<D>>
inline constexpr kit_isolation isolation_table{
    .size = sizeof(kit_isolation),
    .traits = T::traits,
    .create = T::create,
    .start = T::start,
    .signal = T::signal,
    .remove = T::remove,
    .exec = T::exec,
    .pause = T::pause,
    .resume = T::resume,
    .update = T::update,
    .stats = T::stats,
    .ability = T::ability,
};

}  // namespace gnu::visibility("hidden")]]detail
}  // namespace kit
