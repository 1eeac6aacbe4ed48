// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "drivers/storage/detail/layer_store.hpp"
#include "kit/storage/concept.hpp"

namespace kit::drivers {

/// Storage by the kernel's overlay file system (Documentation/filesystems/overlayfs.rst): a layer is the
/// directory of what differs from its parents, and the kernel shows the chain merged.
///
/// A layer is made in constant time and takes no space until written. The first write to a file of a
/// parent copies it whole. A chain has at most 499 parents, because the kernel merges 500 layers.
/// Works on every file system that has extended attributes, d_type and RENAME_WHITEOUT (ext4, xfs,
/// btrfs, tmpfs), not on another overlay.
///
/// Inside a layer's `diff`, a deleted name is a character device 0/0, and a directory that hides what is
/// below has the xattr trusted.overlay.opaque=y; nobody outside the driver sees either.
///
/// The option `volatile` (of a layer, or of the driver for all its layers) is for what need not outlive a power
/// cut: nothing is synced, neither when a program asks for it nor when the last mount goes. The end of a container
/// then costs half a millisecond, not the several that the kernel takes to sync the file system below.
///
/// A layer's size is limited by a project quota, where the file system below keeps them: ext4 (made with -O
/// quota,project) and xfs, mounted with prjquota. The layer's project is a number taken from its id.
///
/// Short of full POSIX: a file mapped (mmap) before its first write keeps showing the old content there; hard links
/// between files of parents part when one is written; renaming a directory of a parent is EXDEV (programs then copy).
/// probe() tries each.
class overlayfs {
 public:
  explicit overlayfs(const driver_config& config);
  static constexpr std::string_view name() { return "overlayfs"; }
  static std::vector<option_schema> options();
  [[nodiscard]] probe_report probe() const;
  [[nodiscard]] bool can(storage_ability a) const noexcept;

  void create(const layer& l, std::span<const option> options);
  std::vector<mount> mounts(const layer& l, access how);
  void freeze(const layer_id& id);
  void remove(const layer_id& id) { store_.remove(id); }
  /// Of `diff`; the kernel's own work directory is not counted.
  disk_usage usage(const layer& l);
  void layers(layer_sink out) { store_.layers(out); }

  /// By walking `diff` alone: costs what was changed, not what is below.
  void changes(const layer& l, change_sink out);
  void limit(const layer_id& id, std::uint64_t bytes);

  void rebase(const layer& l);
  static whiteouts deletions() { return whiteouts::overlay; }

 private:
  detail::layer_store store_;
  bool volatile_layers_;
};

static_assert(storage_driver<overlayfs> && configurable_driver<overlayfs> && reports_changes<overlayfs> &&
              limits_size<overlayfs> && rebases<overlayfs>);

}  // namespace kit::drivers
