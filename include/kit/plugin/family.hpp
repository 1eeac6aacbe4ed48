// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string_view>

namespace kit {

/// The three kinds of driver, KIT_FAMILY_* of abi.h.
enum class family : std::uint32_t { storage = 1, network, isolation };
inline constexpr family families[] = {family::storage, family::network, family::isolation};

/// The word in a plugin's file name.
constexpr std::string_view to_string(family f) noexcept {
  switch (f) {
    case family::storage: return "storage";
    case family::network: return "network";
    case family::isolation: return "isolation";
  }
  return "";
}

/// Whether `name` may be a driver's: [a-z][a-z0-9-]{0,31}.
constexpr bool valid_driver_name(std::string_view name) noexcept {
  if (name.empty() || name.size() > 32 || name[0] < 'a' || name[0] > 'z') return false;
  for (char c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-')) return false;
  return true;
}

}  // namespace kit
