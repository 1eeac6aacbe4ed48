// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>

#include "kit/system/fd.hpp"

/// \file
/// Block devices that show a file: loop(4).

namespace kit {

/// An open loop device. The kernel frees it (LO_FLAGS_AUTOCLEAR) when its last user lets go: this object, a mount, or
/// a device above it. So a crash leaves none behind.
class loop_device {
 public:
  /// A free device over the open regular file `backing`, which the device keeps open (LOOP_CONFIGURE, Linux 5.8). Around
  /// the page cache where the file system can: else every block would be cached twice. Throws, naming what is missing.
  static loop_device attach(int backing);
  /// The loop device `number`, which is in use already.
  static loop_device open(dev_t number);

  [[nodiscard]] int get() const noexcept { return fd_.get(); }
  [[nodiscard]] dev_t number() const noexcept { return number_; }
  /// Takes over the size of the backing file, which has grown.
  void grow() const;

 private:
  loop_device(unique_fd fd, dev_t number) noexcept : fd_(std::move(fd)), number_(number) {}
  unique_fd fd_;
  dev_t number_;
};

/// Bytes of an open block device.
std::uint64_t block_device_size(int device);

}  // namespace kit
