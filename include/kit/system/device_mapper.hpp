// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

/// \file
/// Devices of the kernel's device mapper, through libdevmapper (Documentation/admin-guide/device-mapper). The library
/// is loaded when it is first needed; its calls are made one at a time, because it is not safe for threads.
///
/// No udev is needed and none is waited for: the library is told to make no nodes, and udev's rules to leave the
/// device alone. Who needs a node makes one by number.

namespace kit {

/// A table of one target that begins at sector 0. A sector is 512 bytes.
struct mapping {
  std::uint64_t sectors = 0;
  std::string target;  ///< "thin-pool", "thin", "linear"
  std::string parameters;
};

/// A device by its name, whether it exists or not. All throw kit::error with the kernel's errno and the library's words.
class mapped_device {
 public:
  struct state {
    dev_t number = 0;
    std::int32_t open_count = 0;
    bool live_table = false;  ///< false: someone died between naming the device and giving it a table
    bool read_only = false;
  };

  explicit mapped_device(std::string name) : name_(std::move(name)) {}
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

  /// Empty if there is no such device.
  [[nodiscard]] std::optional<state> look() const;
  /// Makes it and gives it its table. Killed on the way, it is there without a live table.
  state create(const std::string& uuid, const mapping& table, bool read_only = false) const;
  /// Puts another table in the place of the one it has; I/O waits meanwhile, and no crash leaves it waiting.
  void replace(const mapping& table) const;
  /// Removes it before it returns; absent is success. Answers false if it is in use.
  bool remove() const;
  /// Lets the kernel remove it when nobody has it open any more: now, if nobody has.
  void remove_when_closed() const;
  /// To its target.
  void message(const std::string& text) const;
  /// Its target's status, as of now: nothing is flushed for it.
  [[nodiscard]] std::string status() const;
  /// Its target's parameters.
  [[nodiscard]] std::string parameters() const;

 private:
  std::string name_;
};

/// Whether the kernel has a target of that name, in a module that is loaded if need be; its version, "1.22.0".
std::optional<std::string> device_mapper_target(const std::string& target);

/// "8:1", as tables name devices.
std::string device_text(dev_t number);

}  // namespace kit
