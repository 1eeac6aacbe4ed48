// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "drivers/storage/detail/layer_store.hpp"
#include "kit/storage/concept.hpp"

namespace kit::drivers {

/// Storage by full copies: every layer is a plain directory tree, and a new one is a copy of its nearest
/// parent. It needs nothing of the kernel and of the file system, so it works everywhere, and is the
/// reference the other drivers are measured against.
///
/// Creating a layer costs as much as its parent is large, less where the file system can share extents
/// between files (xfs and btrfs: FICLONE); then only the names are copied. A layer's usage is that of
/// the whole tree it shows.
///
/// What one sees is the backing file system itself: its full POSIX semantics, its xattrs, its limits.
class vfs {
 public:
  explicit vfs(const driver_config& config);
  static constexpr std::string_view name() { return "vfs"; }
  static std::vector<option_schema> options() { return {}; }
  [[nodiscard]] probe_report probe() const;

  void create(const layer& l, std::span<const option> options);
  std::vector<mount> mounts(const layer& l, access how);
  void freeze(const layer_id& id) { store_.freeze(id); }
  void remove(const layer_id& id) { store_.remove(id); }
  disk_usage usage(const layer& l);
  void layers(layer_sink out) { store_.layers(out); }

 private:
  detail::layer_store store_;
};

static_assert(storage_driver<vfs> && configurable_driver<vfs>);

}  // namespace kit::drivers
