// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>

namespace kit::detail {

inline constexpr std::string_view digest_prefix = "sha256:";

/// "sha256:" and 64 lower-case hexadecimal digits.
inline bool valid_digest(std::string_view text) {
  return text.size() == digest_prefix.size() + 64 && text.substr(0, digest_prefix.size()) == digest_prefix &&
         text.find_first_not_of("0123456789abcdef", digest_prefix.size()) == std::string_view::npos;
}

}  // namespace kit::detail
