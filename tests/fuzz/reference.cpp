// SPDX-License-Identifier: Apache-2.0
#include "kit/image/reference.hpp"

#include <cstdlib>

#include "kit/system/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  try {
    const kit::reference r = kit::reference::parse(text);
    if (!(kit::reference::parse(r.text()) == r)) std::abort();
  } catch (const kit::error& e) {
    if (e.code() != kit::errc::invalid) std::abort();
  }
  return 0;
}
