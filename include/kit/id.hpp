// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace kit {

/// 64 lower-case hexadecimal digits. The engine makes them at random or from a SHA-256; a driver may
/// use text() as a file name. `Tag` keeps a layer from being passed as a container.
template <class Tag>
class basic_id {
 public:
  static constexpr std::size_t size = 64;

  /// The all-zero id, which names nothing.
  constexpr basic_id() noexcept { digits_.fill('0'); }
  /// Whether `text` has the form of an id.
  static constexpr bool valid(std::string_view text) noexcept {
    if (text.size() != size) return false;
    for (char c : text)
      if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return false;
    return true;
  }
  /// Precondition: valid(text).
  static constexpr basic_id from(std::string_view text) noexcept {
    basic_id id;
    for (std::size_t i = 0; i < size && i < text.size(); ++i) id.digits_[i] = text[i];
    return id;
  }
  [[nodiscard]] constexpr std::string_view text() const noexcept { return {digits_.data(), size}; }
  [[nodiscard]] std::string str() const { return std::string(text()); }
  /// The first twelve digits, as people see it.
  [[nodiscard]] constexpr std::string_view brief() const noexcept { return text().substr(0, 12); }
  auto operator<=>(const basic_id&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 misreads it

 private:
  std::array<char, size> digits_;
};

/// 256 random bits from getrandom(2).
std::array<std::uint8_t, 32> random_bits();
std::string hex(const std::uint8_t* bytes, std::size_t count);
template <class Id>
Id random_id() {
  auto bits = random_bits();
  return Id::from(hex(bits.data(), bits.size()));
}

using layer_id = basic_id<struct layer_tag>;
using network_id = basic_id<struct network_tag>;
using endpoint_id = basic_id<struct endpoint_tag>;
using volume_id = basic_id<struct volume_tag>;
using container_id = basic_id<struct container_tag>;

}  // namespace kit
