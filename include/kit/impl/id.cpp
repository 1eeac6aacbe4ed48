// SPDX-License-Identifier: Apache-2.0
#include "kit/id.hpp"

#include <sys/random.h>

#include "kit/system/error.hpp"

namespace kit {

std::array<std::uint8_t, 32> random_bits() {
  std::array<std::uint8_t, 32> bits{};
  // Up to 256 bytes come whole once the pool is initialised (getrandom(2)).
  while (::getrandom(bits.data(), bits.size(), 0) != static_cast<ssize_t>(bits.size()))
    if (errno != EINTR) fail_errno(errno, "getrandom");
  return bits;
}

std::string hex(const std::uint8_t* bytes, std::size_t count) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(count * 2);
  for (std::size_t i = 0; i < count; ++i) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}

}  // namespace kit
