// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/storage/detail/table.hpp"

namespace kit {

/// A storage driver of any class, linked in or from a plugin: itself a model of storage_driver and of
/// every ability, whose calls go through the C table of the driver inside. Owns the driver; move-only.
///
/// What its type models says nothing about the driver inside: ask can(any, ability), which asks the
/// driver. An ability it lacks throws unsupported. A moved-from object may only be assigned or destroyed.
class any_storage : public any_driver {
 public:
  template <class D>
  requires(!std::same_as<D, any_storage> && storage_driver<D>) explicit any_storage(D driver)
      : any_driver(std::make_unique<D>(std::move(driver)), &detail::storage_table<D>) {}
  /// For a driver that cannot be moved.
  template <storage_driver D>
  explicit any_storage(std::unique_ptr<D> driver) : any_driver(std::move(driver), &detail::storage_table<D>) {}
  /// Takes `self`, which plugin.open answered. The plugin has been checked: see plugin/loader.hpp.
  any_storage(const kit_plugin& plugin, void* self) : any_driver(plugin, self) {}

  void create(const layer& l, std::span<const option> options);
  std::vector<mount> mounts(const layer& l, access a);
  void freeze(const layer_id& id);
  void remove(const layer_id& id);
  disk_usage usage(const layer& l);
  void layers(layer_sink out);

  [[nodiscard]] bool can(storage_ability a) const noexcept;
  void changes(const layer& l, change_sink out);
  void limit(const layer_id& id, std::uint64_t bytes);
  void activate(const layer& l, access a);
  void release(const layer& l);
  void settle(const layer_id& id, int rootfs_fd);
  void rebase(const layer& l);
  whiteouts deletions();

 private:
  [[nodiscard]] const kit_storage& table() const noexcept;
};

}  // namespace kit
