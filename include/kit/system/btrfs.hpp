// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kit/system/fd.hpp"

/// \file
/// Subvolumes of btrfs, by its own ioctls (linux/btrfs.h; Linux 5.7). All throw kit::error, and need root.

namespace kit {

/// Whether `fd` is on a btrfs.
bool is_on_btrfs(int fd);

/// An open subvolume. What is said of it is what stands in the file system's trees: what was written a moment ago gets
/// there with the next commit (syncfs(2)).
class subvolume {
 public:
  /// An empty one, `name` in `directory`; its root is 0755.
  static void create(int directory, const std::string& name);
  /// `root` is the root directory of a subvolume, open for reading.
  explicit subvolume(unique_fd root);

  [[nodiscard]] int get() const noexcept { return root_.get(); }
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }

  /// A writable snapshot, `name` in `directory`: at the cost of one commit, whatever it holds. Where a subvolume was
  /// made inside, the snapshot has an empty directory.
  void snapshot(int directory, const std::string& name) const;
  /// From now on nothing below can be opened for writing; what is open can be written still.
  void set_read_only() const;

  /// A subvolume made inside this one, and inside no other of them.
  struct inner {
    std::uint64_t id = 0;
    std::string path;  ///< from the root of this one
  };
  [[nodiscard]] std::vector<inner> inner_subvolumes() const;

  /// What the subvolume `id` holds, with those inside it, and shares with no subvolume that it is a snapshot of:
  /// extents on disk, and files made or changed. Costs what is counted, not what is shared.
  struct own_size {
    std::uint64_t bytes = 0;
    std::uint64_t inodes = 0;
  };
  [[nodiscard]] own_size own() const { return own_of(id_); }

  /// The inode numbers of what was made, written or changed in any way since it was made as a snapshot; sorted. Of a
  /// name that came or went, the directory. Costs what is told.
  [[nodiscard]] std::vector<std::uint64_t> changed() const;

  /// A name of an inode: where, and what.
  struct link {
    std::uint64_t directory = 0;
    std::string name;
  };
  /// All names of an inode; none of the root, nor if there is no such inode.
  [[nodiscard]] std::vector<link> links(std::uint64_t inode) const;
  /// The path from the root of this one; empty if it vanished, "" for the root.
  [[nodiscard]] std::optional<std::string> directory_path(std::uint64_t inode) const;

  /// Limits what may be written that is not shared: 0 lifts the limit. Throws unsupported if quotas are off.
  void limit(std::uint64_t bytes) const;

 private:
  [[nodiscard]] own_size own_of(std::uint64_t id) const;

  unique_fd root_;
  std::uint64_t id_ = 0;
};

/// Deletes `name` in `directory`, if it is a subvolume, and those inside it; read only or not. The space comes back in
/// the background. Absent is success.
void delete_subvolume(int directory, const std::string& name);

/// How a btrfs counts what its subvolumes take (btrfs-quota(8)).
enum class btrfs_quotas : std::uint32_t {
  off,
  groups,  ///< what is shared and what is not, kept up to date with every reference: slow beside many snapshots
  simple,  ///< each extent is its maker's (Linux 6.7)
};
btrfs_quotas quotas_of(int fd);
/// Turns them on, simple where the kernel can (a file system that older kernels then refuse to mount). On already:
/// nothing.
void turn_on_quotas(int fd);

}  // namespace kit
