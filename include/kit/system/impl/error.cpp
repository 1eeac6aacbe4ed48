// SPDX-License-Identifier: Apache-2.0
#include "kit/system/error.hpp"

#include <cctype>
#include <cstring>

namespace kit {

std::string errno_text(int sys_errno) {
  char buffer[128];
  // The GNU variant: answers either its own constant or `buffer`.
  std::string text = ::strerror_r(sys_errno, buffer, sizeof buffer);
  if (text.size() > 1 && std::islower(static_cast<unsigned char>(text[1])))
    text[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(text[0])));
  return text;
}

void throw_errno(int e, std::string_view what) {
  throw error(errc_of(e), fmt::format("{}: {}", what, errno_text(e)), e);
}

}  // namespace kit
