// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/isolation/detail/table.hpp"

namespace kit {

/// An isolation driver of any class, linked in or from a plugin: itself a model of isolation_driver,
/// whose calls go through the C table of the driver inside. Owns the driver; move-only. A moved-from
/// object may only be assigned or destroyed.
class any_isolation : public any_driver {
 public:
  template <class D>
  requires(!std::same_as<D, any_isolation> && isolation_driver<D>) explicit any_isolation(D driver)
      : any_driver(std::make_unique<D>(std::move(driver)), &detail::isolation_table<D>) {}
  /// For a driver that cannot be moved.
  template <isolation_driver D>
  explicit any_isolation(std::unique_ptr<D> driver) : any_driver(std::move(driver), &detail::isolation_table<D>) {}
  /// Takes `self`, which plugin.open answered. The plugin has been checked: see plugin/loader.hpp.
  any_isolation(const kit_plugin& plugin, void* self) : any_driver(plugin, self) {}

  [[nodiscard]] isolation_traits traits() const;
  started create(const container& x, std::span<const mount> mounts, const stdio& io);
  void start(const container& x);
  void signal(const container& x, int signal, reach r);
  void remove(const container& x);
  started exec(const container& x, std::string_view process_json, const stdio& io);
  void pause(const container& x);
  void resume(const container& x);
  void update(const container& x, std::string_view resources_json);
  container_stats stats(const container& x);

 private:
  [[nodiscard]] const kit_isolation& table() const noexcept;
};

}  // namespace kit
