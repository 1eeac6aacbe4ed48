// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>

namespace kit {

/// A name for an image, as Docker's users write it: [HOST[:PORT]/]PATH[:TAG][@sha256:HEX]
/// (distribution's reference grammar).
struct reference {
  std::string name;    ///< host and path, lower case
  std::string tag;     ///< "latest" if neither tag nor digest was given
  std::string digest;  ///< "sha256:..." or empty

  /// Parses and normalises: "docker.io/library/debian:12" and "debian:12" are one. Throws invalid
  /// ("invalid reference format: ..."), saying what is wrong.
  static reference parse(std::string_view text);
  /// "debian:12": the form kept in the records.
  [[nodiscard]] std::string text() const;
  bool operator==(const reference&) const = default;
};

}  // namespace kit
