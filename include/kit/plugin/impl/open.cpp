// SPDX-License-Identifier: Apache-2.0
// On their own, so that a program that links its drivers may define these three, and then links no loader.
#include "kit/plugin/loader.hpp"

namespace kit {

any_storage open_storage(std::string_view name, const driver_config& config) {
  return load_plugin(family::storage, name).open_storage(config);
}
any_network open_network(std::string_view name, const driver_config& config) {
  return load_plugin(family::network, name).open_network(config);
}
any_isolation open_isolation(std::string_view name, const driver_config& config) {
  return load_plugin(family::isolation, name).open_isolation(config);
}

}  // namespace kit
