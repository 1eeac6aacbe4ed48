// SPDX-License-Identifier: Apache-2.0
#include "kit/system/extent.hpp"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <new>

#include "kit/system/error.hpp"

namespace kit {

std::optional<std::vector<extent>> extents_of(int file) {
  constexpr std::uint32_t no_place = FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_DATA_INLINE |
                                     FIEMAP_EXTENT_DATA_TAIL | FIEMAP_EXTENT_NOT_ALIGNED;
  constexpr std::uint32_t not_its_own = FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_SHARED | FIEMAP_EXTENT_MERGED;
  constexpr std::uint32_t at_once = 64;
  alignas(fiemap) std::array<char, sizeof(fiemap) + at_once * sizeof(fiemap_extent)> memory;
  auto& map = *new (memory.data()) fiemap;
  std::vector<extent> list;
  for (std::uint64_t from = 0;;) {
    memory.fill(0);
    map.fm_start = from;
    map.fm_length = FIEMAP_MAX_OFFSET - from;
    map.fm_flags = FIEMAP_FLAG_SYNC;
    map.fm_extent_count = at_once;
    if (::ioctl(file, FS_IOC_FIEMAP, &map) != 0) {
      if (errno == EOPNOTSUPP || errno == ENOTTY || errno == EBADR) return std::nullopt;
      fail_errno(errno, "ask where a file stands on disk");
    }
    for (std::uint32_t i = 0; i < map.fm_mapped_extents; ++i) {
      const fiemap_extent& e = map.fm_extents[i];
      list.push_back(
          {e.fe_logical, (e.fe_flags & no_place) != 0 ? 0 : e.fe_physical, e.fe_length, e.fe_flags & ~not_its_own});
      if ((e.fe_flags & FIEMAP_EXTENT_LAST) != 0) return list;
      from = e.fe_logical + e.fe_length;
    }
    if (map.fm_mapped_extents == 0) return list;
  }
}

bool share_all_extents(int a, int b) {
  const auto left = extents_of(a);
  // Of what is compressed an extent may be a part, at the place of the whole.
  return left &&
         std::all_of(left->begin(), left->end(),
                     [](const extent& e) { return e.place != 0 && (e.flags & FIEMAP_EXTENT_ENCODED) == 0; }) &&
         left == extents_of(b);
}

}  // namespace kit
