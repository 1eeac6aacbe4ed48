// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

/// \file
/// Where the bytes of files stand on disk, by which one sees that two files share them (Documentation/filesystems/
/// fiemap.rst).

namespace kit {

/// A piece of a file that takes space.
struct extent {
  std::uint64_t offset = 0;  ///< in the file
  std::uint64_t place = 0;   ///< on the device; 0 where it has no place of its own (small data kept with the inode)
  std::uint64_t size = 0;
  std::uint32_t flags = 0;  ///< FIEMAP_EXTENT_*, without those that speak of other files or of the list
  bool operator==(const extent&) const = default;
};

/// Those of a regular file open for reading, in order; what is not on the disk yet is written first. Empty where the
/// file system does not tell. Throws kit::error.
std::optional<std::vector<extent>> extents_of(int file);

/// Whether the two files surely have the same content, because it stands in the same places. Both are of one file
/// system.
bool share_all_extents(int a, int b);

}  // namespace kit
