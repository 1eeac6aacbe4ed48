// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "drivers/storage/detail/whole_trees.hpp"
#include "kit/storage/concept.hpp"

namespace kit::drivers {

/// Storage by full copies: every layer is a plain directory tree, and a new one is a copy of its nearest
/// parent. It needs nothing of the kernel and of the file system, so it works everywhere, and is the
/// reference the other drivers are measured against.
///
/// Creating a layer costs as much as its parent is large, less where the file system can share extents
/// between files (xfs and btrfs: FICLONE); then only the names are copied. Many files are copied by several threads. A
/// layer's usage is that of the whole tree it shows.
///
/// What one sees is the backing file system itself: its full POSIX semantics, its xattrs, its limits.
class vfs : public detail::whole_trees {
 public:
  explicit vfs(const driver_config& config) : whole_trees(name(), config) {}
  static constexpr std::string_view name() { return "vfs"; }
  static std::vector<option_schema> options() { return {}; }
  [[nodiscard]] probe_report probe() const { return probe_directory(); }
};

static_assert(storage_driver<vfs> && configurable_driver<vfs>);

}  // namespace kit::drivers
