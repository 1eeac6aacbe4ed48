// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "drivers/storage/detail/layer_store.hpp"
#include "kit/storage/concept.hpp"

namespace kit::drivers {

/// Storage by aufs (aufs(5)), a union file system outside the mainline kernel: a layer is a branch, the directory of
/// what differs from its parents, and the kernel shows the chain merged.
///
/// A layer is made in constant time and takes no space until written; the first write to a file of a parent copies it
/// whole. A view has at most 127 branches, as aufs is built by default: a layer and 126 parents.
///
/// Inside a layer's `diff`, `.wh.NAME` is a deleted name, and a directory that holds `.wh..wh..opq` hides what is below:
/// the words that OCI layers use. The other `.wh..wh.*` are aufs's own books, are no part of a layer, and mean nothing
/// to OCI. No file of a container can have a name that begins with `.wh.`: aufs refuses it.
///
/// Hard links between files of parents hold while the view is mounted (pseudo-links); settle makes them real.
/// The driver's directories cannot have ':', ',' or '=' in their names, which aufs(5) has no way to quote. Branches are
/// not idmapped: a container in a user namespace of its own sees the owners as they are on disk.
class aufs {
 public:
  explicit aufs(const driver_config& config);
  static constexpr std::string_view name() { return "aufs"; }
  static std::vector<option_schema> options() { return {}; }
  [[nodiscard]] probe_report probe() const;

  void create(const layer& l, std::span<const option> options);
  /// The name given for aufs's inode numbers (xino) is fresh in each answer, and gone once the mount is made.
  std::vector<mount> mounts(const layer& l, access how);
  void freeze(const layer_id& id) { store_.freeze(id); }
  void remove(const layer_id& id) { store_.remove(id); }
  /// Of `diff`; aufs's own books are not counted.
  disk_usage usage(const layer& l);
  void layers(layer_sink out) { store_.layers(out); }

  /// By walking `diff` alone: costs what was changed, not what is below.
  void changes(const layer& l, change_sink out);
  /// Gives every name of a pseudo-linked file its link in the layer; walks `rootfs_fd` only if there is such a file.
  void settle(const layer_id& id, int rootfs_fd);

  void rebase(const layer& l);
  static whiteouts deletions() { return whiteouts::aufs; }

 private:
  detail::layer_store store_;
  std::string run_dir_;
};

static_assert(storage_driver<aufs> && configurable_driver<aufs> && reports_changes<aufs> && settles<aufs> &&
              rebases<aufs>);

namespace detail {

/// The mounts that show `branches`, nearest first, the first of them writable if `writable`. `xino` is the path of a
/// file that does not exist, in a directory that does. Throws unsupported beyond 127 branches, invalid for a path that
/// aufs or fsconfig(2) cannot be told.
std::vector<mount> aufs_mounts(std::span<const std::string> branches, bool writable, const std::string& xino);

}  // namespace detail
}  // namespace kit::drivers
