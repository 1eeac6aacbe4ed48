// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kit {

/// An IPv4 or IPv6 address.
struct ip_address {
  bool v6 = false;
  std::array<std::uint8_t, 16> bytes{};  ///< in network order; IPv4 has the first four

  /// From inet_pton(3)'s form: "10.89.0.5", "fd00:1::5". Throws invalid, naming `text`.
  static ip_address parse(std::string_view text);
  [[nodiscard]] std::span<const std::uint8_t> span() const noexcept { return {bytes.data(), v6 ? 16U : 4U}; }
  [[nodiscard]] int family() const noexcept;  ///< AF_INET or AF_INET6
  [[nodiscard]] std::string str() const;      ///< inet_ntop(3)'s form
  auto operator<=>(const ip_address&) const = default;
};

/// An address with a prefix length: an interface's "10.89.0.5/20" as well as a network's "10.89.0.0/20".
struct ip_prefix {
  ip_address address;
  unsigned length = 0;

  /// "ADDRESS/LENGTH". Throws invalid, naming `text`.
  static ip_prefix parse(std::string_view text);
  /// Whether `a` is of this family and has this prefix.
  [[nodiscard]] bool contains(const ip_address& a) const noexcept;
  /// The same with the host bits cleared.
  [[nodiscard]] ip_prefix network() const noexcept;
  [[nodiscard]] std::string str() const;
  auto operator<=>(const ip_prefix&) const = default;
};

}  // namespace kit
