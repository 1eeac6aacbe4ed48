// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/network/detail/table.hpp"

namespace kit {

/// A network driver of any class, linked in or from a plugin: itself a model of network_driver, whose
/// calls go through the C table of the driver inside. Owns the driver; move-only. A moved-from object
/// may only be assigned or destroyed.
class any_network : public any_driver {
 public:
  template <class D>
  requires(!std::same_as<D, any_network> && network_driver<D>) explicit any_network(D driver)
      : any_driver(std::make_unique<D>(std::move(driver)), &detail::network_table<D>) {}
  /// For a driver that cannot be moved.
  template <network_driver D>
  explicit any_network(std::unique_ptr<D> driver) : any_driver(std::move(driver), &detail::network_table<D>) {}
  /// Takes `self`, which plugin.open answered. The plugin has been checked: see plugin/loader.hpp.
  any_network(const kit_plugin& plugin, void* self) : any_driver(plugin, self) {}

  [[nodiscard]] network_traits traits() const;
  void create(const network& n);
  void remove(const network& n);
  attachment attach(const network& n, const endpoint& e);
  void detach(const network& n, const endpoint& e, const attachment& a);
  void check(const network& n, const endpoint& e, const attachment& a);
  void collect(const network& n, std::span<const endpoint_id> valid);
  void status(const network& n);

 private:
  [[nodiscard]] const kit_network_driver& table() const noexcept;
};

}  // namespace kit
