// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <memory>
#include <mutex>

#include "drivers/storage/detail/layer_store.hpp"
#include "kit/storage/concept.hpp"

namespace kit::drivers {

namespace detail {
class thin_pool;
}

/// Storage by the device mapper's thin provisioning: every layer is an ext4 file system on a thin device, and a new one
/// is a snapshot of its nearest parent's device, block for block.
///
/// A layer is made in constant time, however deep its chain and however large its files, and takes no space until
/// written; the first write to a block of a parent copies 64 KiB. What one sees is a whole ext4: full POSIX semantics,
/// nothing merged. Two layers share blocks on disk but not in memory.
///
/// The pool stands on two sparse files in the driver's directory, under loop devices: works at once, and is for trying.
/// For good, name block devices (`data_device`, `metadata_device`), which then belong to this directory. A full pool
/// answers no_space, and running containers ENOSPC or EIO, and a file system that could not write its journal turns read
/// only until it is mounted again; it goes on when layers were removed or the pool was enlarged (`data_size`; or the
/// device, before the pool is woken next). A pool that is damaged, cut off or of another directory is not woken: create
/// and activate say what was found, and nothing is written to it.
///
/// A layer's device exists from activate until the last mount of it is gone; the pool's as long as there are layers.
/// Nothing needs to be done at shutdown or at boot. No udev is needed: nodes stand in the driver's directory, which
/// must not be mounted nodev.
///
/// usage() tells by how much the tree of a layer is larger than that of its parents, as the file system counts (of a
/// frozen layer without looking at the device); blocks of a parent that were written anew are not in it.
///
/// A layer's size is limited while it is mounted, by what ext4 keeps back from all (Documentation/ABI/testing/
/// sysfs-fs-ext4, reserved_clusters): writers, root as well, get ENOSPC.
class devicemapper {
 public:
  explicit devicemapper(const driver_config& config);
  static constexpr std::string_view name() { return "devicemapper"; }
  static std::vector<option_schema> options();
  [[nodiscard]] probe_report probe() const;
  [[nodiscard]] bool can(storage_ability a) const noexcept;

  /// Knows the option `size`, in bytes: as limit().
  void create(const layer& l, std::span<const option> options);
  std::vector<mount> mounts(const layer& l, access how);
  /// busy if a mount of the layer is still there after two seconds: a frozen one is never written again.
  void freeze(const layer_id& id);
  /// A layer still mounted is gone from layers() all the same; its space comes back when it is not.
  void remove(const layer_id& id);
  disk_usage usage(const layer& l);
  void layers(layer_sink out);

  /// At most up to the size of the file system, the option `base_size` of when the pool was made.
  void limit(const layer_id& id, std::uint64_t bytes);
  void activate(const layer& l, access how);
  void release(const layer& l);

 private:
  void rest_if_empty();
  void apply_limit(const std::string& layer) const;

  std::shared_ptr<detail::thin_pool> pool_;
  detail::layer_store store_;
  std::uint64_t default_limit_ = 0;
  std::mutex held_guard_;
  std::map<layer_id, unique_fd> held_;  ///< devices, between activate and release
};

static_assert(storage_driver<devicemapper> && configurable_driver<devicemapper> && activates<devicemapper> &&
              limits_size<devicemapper>);

}  // namespace kit::drivers
