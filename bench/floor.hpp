// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "host.hpp"

namespace kit::bench {

/// What kit-bench-floor-start is told: layers, a parent group, a bridge and a compiled seccomp filter. All of it is gone
/// with the object; the bridge is in the caller's network namespace.
class floor_scene {
 public:
  /// `rootfs` is the lowest of `layers` layers.
  floor_scene(const scratch& place, const std::string& rootfs, unsigned layers, bool network);
  ~floor_scene();
  floor_scene(const floor_scene&) = delete;
  floor_scene& operator=(const floor_scene&) = delete;

  /// One start of `program`, with the times of its steps written to the descriptor `times` if that is one.
  [[nodiscard]] command start(const command& program, int times = -1) const;
  /// What of kit's work the floor cannot do here; empty: nothing.
  [[nodiscard]] std::string leaves_out() const;

 private:
  std::string group_;
  command words_;
};

/// `kit-bench floor`.
int floor_command(const command& words);

}  // namespace kit::bench
