// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/detail/abi.hpp"
#include "kit/storage/concept.hpp"

/// \file
/// The one erasure of storage drivers: a kit_storage made from any class that models the concept.
/// KIT_PLUGIN exports it, any_storage uses it in place.

namespace kit {
namespace [[gnu::visibility("hidden")]] detail {

kit_layer to_abi(const layer& l, scratch& memory);
/// A layer that owns its ids.
struct layer_copy {
  explicit layer_copy(const kit_layer* raw);
  layer_id id;
  std::vector<layer_id> parents;
  [[nodiscard]] layer view() const noexcept { return {id, parents}; }
};
access access_from_abi(std::uint32_t raw);
void emit_mounts(const kit_sink& sink, const std::vector<mount>& mounts);
void emit_layer(const kit_sink& sink, const layer_state& l);
void emit_change(const kit_sink& sink, const change& c);

template <storage_driver D>
struct storage_thunks : base_thunks<D> {
  static D& self(void* p) noexcept { return *static_cast<D*>(p); }

  static kit_status create(const kit_call* c, void* p, const kit_layer* l, const kit_option* o,
                           std::size_t n) noexcept {
    return guard(c, [&] {
      const std::vector<option> options = from_abi(o, n);
      self(p).create(layer_copy(l).view(), std::span<const option>(options));
    });
  }
  static kit_status mounts(const kit_call* c, void* p, const kit_layer* l, std::uint32_t a, kit_sink sink) noexcept {
    return guard(c, [&] { emit_mounts(sink, self(p).mounts(layer_copy(l).view(), access_from_abi(a))); });
  }
  static kit_status freeze(const kit_call* c, void* p, const kit_id* id) noexcept {
    return guard(c, [&] { self(p).freeze(from_abi<layer_id>(*id)); });
  }
  static kit_status remove(const kit_call* c, void* p, const kit_id* id) noexcept {
    return guard(c, [&] { self(p).remove(from_abi<layer_id>(*id)); });
  }
  static kit_status usage(const kit_call* c, void* p, const kit_layer* l, kit_usage* out) noexcept {
    return guard(c, [&] {
      const disk_usage u = self(p).usage(layer_copy(l).view());
      give(out, kit_usage{sizeof(kit_usage), u.bytes, u.inodes});
    });
  }
  static kit_status layers(const kit_call* c, void* p, kit_sink sink) noexcept {
    return guard(c, [&] { self(p).layers([&](const layer_state& l) { emit_layer(sink, l); }); });
  }

  static kit_status changes(const kit_call* c, void* p, const kit_layer* l,
                            kit_sink sink) noexcept requires reports_changes<D> {
    return guard(c, [&] { self(p).changes(layer_copy(l).view(), [&](const change& x) { emit_change(sink, x); }); });
  }
  static kit_status limit(const kit_call* c, void* p, const kit_id* id,
                          std::uint64_t bytes) noexcept requires limits_size<D> {
    return guard(c, [&] { self(p).limit(from_abi<layer_id>(*id), bytes); });
  }
  static kit_status activate(const kit_call* c, void* p, const kit_layer* l,
                             std::uint32_t a) noexcept requires activates<D> {
    return guard(c, [&] { self(p).activate(layer_copy(l).view(), access_from_abi(a)); });
  }
  static kit_status release(const kit_call* c, void* p, const kit_layer* l) noexcept requires activates<D> {
    return guard(c, [&] { self(p).release(layer_copy(l).view()); });
  }
  static kit_status settle(const kit_call* c, void* p, const kit_id* id,
                           std::int32_t rootfs_fd) noexcept requires settles<D> {
    return guard(c, [&] { self(p).settle(from_abi<layer_id>(*id), rootfs_fd); });
  }
  static kit_status rebase(const kit_call* c, void* p, const kit_layer* l) noexcept requires rebases<D> {
    return guard(c, [&] { self(p).rebase(layer_copy(l).view()); });
  }
  static kit_status deletions(const kit_call* c, void* p, std::uint32_t* out) noexcept requires rebases<D> {
    return guard(c, [&] { *out = static_cast<std::uint32_t>(self(p).deletions()); });
  }

  static const void* ability(void* p, const char* name) noexcept {
    using T = storage_thunks;
    const auto asked = [&](storage_ability a) { return name == to_string(a) && can(self(p), a); };
    if constexpr (reports_changes<D>) {
      static constexpr kit_reports_changes table{sizeof table, T::changes};
      if (asked(storage_ability::reports_changes)) return &table;
    }
    if constexpr (limits_size<D>) {
      static constexpr kit_limits_size table{sizeof table, T::limit};
      if (asked(storage_ability::limits_size)) return &table;
    }
    if constexpr (activates<D>) {
      static constexpr kit_activates table{sizeof table, T::activate, T::release};
      if (asked(storage_ability::activates)) return &table;
    }
    if constexpr (settles<D>) {
      static constexpr kit_settles table{sizeof table, T::settle};
      if (asked(storage_ability::settles)) return &table;
    }
    if constexpr (rebases<D>) {
      static constexpr kit_rebases table{sizeof table, T::rebase, T::deletions};
      if (asked(storage_ability::rebases)) return &table;
    }
    return nullptr;
  }
};

// T also hides it: g++ 12 gives variable templates the visibility of their arguments and not of their namespace.
template <storage_driver D, class T = storage_thunks<D>>
inline constexpr kit_storage storage_table{
    .size = sizeof(kit_storage),
    .create = T::create,
    .mounts = T::mounts,
    .freeze = T::freeze,
    .remove = T::remove,
    .usage = T::usage,
    .layers = T::layers,
    .ability = T::ability,
};

}  // namespace gnu::visibility("hidden")]]detail
}  // namespace kit
