// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "drivers/storage/detail/layer_store.hpp"
#include "kit/storage/concept.hpp"

namespace kit::drivers {

/// Storage by the snapshots of btrfs: a layer is a subvolume, and a new one a snapshot of its nearest parent's.
///
/// A layer is made at the cost of one commit of the file system, however deep its chain and however large its files,
/// and takes no space until written; a write copies the blocks it touches, not the file. What one sees is btrfs itself:
/// full POSIX semantics, nothing merged. Two layers share blocks on disk but not in memory. Works where the driver's
/// directory is on btrfs, Linux 5.7 or newer.
///
/// Subvolumes that a container makes in its root go into the layer: a child gets snapshots of them in the same places,
/// and remove deletes them. Such a layer costs a commit for each, and its changes are found by reading both trees.
///
/// usage() is exact to the extent, compression counted, for data; it is read from the file system's trees, at the cost
/// of what it counts. Of a writable layer it syncs the file system first, as changes() does.
///
/// A layer's size is limited by the quotas of the file system, which are off unless somebody turned them on: `btrfs
/// quota enable`, or the option `quotas`. Simple quotas (Linux 6.7) cost nothing to speak of, but older kernels refuse to
/// mount a file system that ever had them; where they are unknown, quota groups are taken, which make deleting slow
/// beside many snapshots. What a container keeps in subvolumes of its own making is not limited.
class btrfs {
 public:
  explicit btrfs(const driver_config& config);
  static constexpr std::string_view name() { return "btrfs"; }
  static std::vector<option_schema> options();
  [[nodiscard]] probe_report probe() const;
  [[nodiscard]] bool can(storage_ability a) const noexcept;

  void create(const layer& l, std::span<const option> options);
  std::vector<mount> mounts(const layer& l, access how);
  void freeze(const layer_id& id);
  void remove(const layer_id& id) { store_.remove(id); }
  disk_usage usage(const layer& l);
  void layers(layer_sink out) { store_.layers(out); }

  /// By the age of what stands in the layer's tree: costs what was changed, not what the chain holds.
  void changes(const layer& l, change_sink out);
  void limit(const layer_id& id, std::uint64_t bytes);

 private:
  detail::layer_store store_;
  bool turns_on_quotas_;
};

static_assert(storage_driver<btrfs> && configurable_driver<btrfs> && reports_changes<btrfs> && limits_size<btrfs>);

}  // namespace kit::drivers
