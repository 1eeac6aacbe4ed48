// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>

#include "kit/detail/function_ref.hpp"
#include "kit/system/device_mapper.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/mount.hpp"

namespace kit::drivers::detail {

/// A thin device of the pool, as a layer remembers it.
struct thin_device {
  std::uint32_t id = 0;  ///< of at most 24 bits; never used twice in one pool
  std::uint64_t sectors = 0;
};

/// What a file system holds, and how many bytes it could.
struct contents {
  std::uint64_t bytes = 0;
  std::uint64_t inodes = 0;
  std::uint64_t capacity = 0;
};

/// A pool of thin devices with one ext4 to begin with (Documentation/admin-guide/device-mapper/thin-provisioning.rst):
///
///     DIRECTORY/
///       lock            held while devices come and go
///       data, metadata  what the pool stands on, unless the operator names devices: sparse files under loop devices
///       ids             which thin ids have been given out
///       base            a symlink, "ID SECTORS BYTES INODES CAPACITY": the thin device with the empty ext4
///
/// Nothing is lost or leaked by a crash, because a thin id is written down by whoever asked for it before a device has
/// it, and forgotten after the device is gone. Ids are given out below the pool's transaction id, which only grows. So a
/// power cut that takes such a note, which nobody synced, leaves a device with an id between the transaction id of the
/// last time the pool was woken, and that of this time: the next wake looks there, and deletes what nobody knows.
///
/// All throw kit::error. Safe for several threads and processes.
class thin_pool {
 public:
  struct configuration {
    std::string data_device, metadata_device;        ///< both or neither
    std::uint64_t data_size = 0, metadata_size = 0;  ///< bytes, of the files; 0: as they are
    std::uint64_t base_size = 0;                     ///< bytes, of the first file system and all that grow from it
  };
  struct status {
    std::uint64_t transaction = 0;
    std::uint64_t data_used = 0, data_total = 0;          ///< blocks
    std::uint64_t metadata_used = 0, metadata_total = 0;  ///< blocks
    bool writable = false;                                ///< false: the kernel found it damaged
  };
  static constexpr std::uint64_t block = 65536;  ///< bytes

  /// `known` tells the thin ids that are written down.
  thin_pool(std::string directory, const std::string& root_tag, configuration c,
            std::function<std::set<std::uint32_t>()> known);

  /// Makes what is missing, after a crash or a reboot too; then the pool is there. Costs one question to the kernel if
  /// it is there already.
  void wake();
  /// Takes the pool's own devices away if `unused` says so while nobody can wake it.
  void sleep_if(function_ref<bool()> unused);
  /// Empty while it sleeps.
  [[nodiscard]] std::optional<status> look() const;
  /// Throws no_space if nothing new should be begun in this pool, io if the kernel has stopped writing to it.
  void require_space() const;
  /// Whether it stands on files of this directory.
  [[nodiscard]] bool on_files() const { return config_.data_device.empty(); }

  /// For what follows the pool is awake.
  [[nodiscard]] thin_device base() const;
  [[nodiscard]] contents base_contents() const;
  std::uint32_t new_id();
  /// In constant time. Nobody writes to `origin`. Answers false if there is a device of that id.
  bool snapshot(std::uint32_t id, std::uint32_t origin) const;
  /// Opens the block device of `d`, made if it is not there, and lets `node` name it. The kernel removes it when it is
  /// neither open nor mounted any more. busy if it is in use otherwise than `read_only` says.
  unique_fd open(const thin_device& d, bool read_only, const std::string& node) const;
  /// Empty while nobody has it open.
  [[nodiscard]] std::optional<dev_t> number_of(std::uint32_t id) const;
  /// Waits for a device that was closed to go; answers false if somebody keeps it.
  bool wait_closed(std::uint32_t id) const;
  /// Deletes it and gives its space back; absent is success. Answers false if it is in use. `node` as in open.
  bool destroy(const thin_device& d, const std::string& node) const;

 private:
  struct ids {
    std::uint64_t swept = 0;  ///< below this, every device is known
    std::uint64_t next = 0;   ///< to be given out
    std::uint64_t end = 0;    ///< of those reserved: the pool's transaction id
  };
  [[nodiscard]] std::string path(const char* name) const { return directory_ + "/" + name; }
  [[nodiscard]] mapped_device thin(std::uint32_t id) const;
  [[nodiscard]] file_lock lock() const { return file_lock::wait(path("lock")); }
  [[nodiscard]] bool has_base() const;
  [[nodiscard]] bool too_small(const status& now) const;
  [[nodiscard]] ids read_ids() const;
  void write_ids(const ids& i, bool sync) const;
  [[nodiscard]] std::uint32_t next_id() const;
  void delete_device(std::uint32_t id) const;
  [[nodiscard]] bool destroy_closed(std::uint32_t id) const;
  [[nodiscard]] bool check_foundations(int metadata, std::uint64_t metadata_bytes, std::uint64_t data_bytes) const;
  void start() const;
  void adopt(const status& now) const;
  void grow() const;
  void make_base() const;
  [[nodiscard]] unique_fd open_locked(const thin_device& d, bool read_only, const std::string& node) const;

  std::string directory_;
  std::string tag_;
  configuration config_;
  std::function<std::set<std::uint32_t>()> known_;
  mapped_device pool_;
};

/// The path of mkfs.ext4(8). Throws unsupported if it is not installed.
std::string find_mkfs();
/// The ext4 of the thin device that `node` names, described as every mount of it must be: `read_only` as the device is.
mount thin_mount(std::string node, bool read_only);
/// Of the file system that holds `fd`.
contents contents_of(int fd);
/// The same, after everything written to the mounted `tree` is on disk.
contents sync_contents(int tree);

}  // namespace kit::drivers::detail
