// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fmt/core.h>

#include <string>

namespace kit::testing {

/// Makes each header's checksum right, so that the fuzzer gets past it.
inline void repair(std::string& tar) {
  for (std::size_t at = 0; at + 512 <= tar.size(); at += 512) {
    if (tar.compare(at + 257, 5, "ustar") != 0) continue;
    unsigned sum = 8 * ' ';
    for (std::size_t i = 0; i < 512; ++i)
      if (i < 148 || i >= 156) sum += static_cast<unsigned char>(tar[at + i]);
    tar.replace(at + 148, 8, fmt::format("{:06o}", sum) + '\0' + ' ');
  }
}

}  // namespace kit::testing
