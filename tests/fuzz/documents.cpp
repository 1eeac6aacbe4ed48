// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "kit/image/oci.hpp"
#include "kit/system/error.hpp"

namespace {

/// What was parsed is printed so that it parses again to what prints the same.
template <class Parse>
void round_trip(Parse parse, std::string_view text) {
  try {
    const std::string printed = kit::to_json(parse(text));
    if (kit::to_json(parse(printed)) != printed) std::abort();
  } catch (const kit::error& e) {
    if (e.code() != kit::errc::invalid) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  round_trip(kit::parse_manifest, text);
  round_trip(kit::parse_image_config, text);
  round_trip(kit::parse_index, text);
  round_trip(kit::parse_docker_manifests, text);
  return 0;
}
