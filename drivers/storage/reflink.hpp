// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "drivers/storage/detail/whole_trees.hpp"
#include "kit/storage/concept.hpp"

namespace kit::drivers {

/// Storage by clones of files (FICLONE, ioctl_ficlone(2)): every layer is a plain directory tree, and a new one has the
/// names of its nearest parent, each file with the parent's own extents. A write copies the blocks it touches.
///
/// Creating a layer costs as much as its parent has files, however large they are; many are cloned by several threads.
/// It takes an inode for each, and of the disk what was written. What one sees is the backing file system itself: its
/// full POSIX semantics, its xattrs, its limits; nothing is merged. Two layers share blocks on disk but not in memory.
///
/// Works where the driver's directory is on a file system that clones: xfs made with reflink=1, or btrfs.
class reflink : public detail::whole_trees {
 public:
  explicit reflink(const driver_config& config) : whole_trees(name(), config) {}
  static constexpr std::string_view name() { return "reflink"; }
  static std::vector<option_schema> options() { return {}; }
  [[nodiscard]] probe_report probe() const;

  /// All inodes that the layer shows, and the bytes that stand elsewhere than the nearest parent's: at the cost of asking
  /// where each file of both stands.
  disk_usage usage(const layer& l);
};

static_assert(storage_driver<reflink> && configurable_driver<reflink>);

}  // namespace kit::drivers
