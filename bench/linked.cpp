// SPDX-License-Identifier: Apache-2.0
// kit with its drivers linked in, where the loader would look for plugins (kit/plugin/loader.hpp): what the plugin
// interface costs a start is the difference.
#include "drivers/isolation/native.hpp"
#include "drivers/network/bridge.hpp"
#include "drivers/network/none.hpp"
#include "drivers/storage/overlayfs.hpp"
#include "kit/plugin/loader.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace {

template <class Any, class... Drivers>
Any open_linked(std::string_view name, const driver_config& config) {
  std::optional<Any> found;
  ((name == Drivers::name() ? void(found.emplace(Drivers(config))) : void()), ...);
  if (!found) fail(errc::not_found, "no driver \"{}\" is linked in", name);
  return std::move(*found);
}

}  // namespace

any_storage open_storage(std::string_view name, const driver_config& config) {
  return open_linked<any_storage, drivers::overlayfs>(name, config);
}
any_network open_network(std::string_view name, const driver_config& config) {
  return open_linked<any_network, drivers::bridge, drivers::none>(name, config);
}
any_isolation open_isolation(std::string_view name, const driver_config& config) {
  return open_linked<any_isolation, drivers::native>(name, config);
}

}  // namespace kit
