// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>

#include "floor.hpp"
#include "measure.hpp"

namespace kit::bench {

/// A runtime as the benchmarks use it. What it cannot do is left empty.
class runtime {
 public:
  runtime() = default;
  virtual ~runtime() = default;
  runtime(const runtime&) = delete;
  runtime& operator=(const runtime&) = delete;

  [[nodiscard]] virtual std::string name() const = 0;
  /// What a start by it does and does not, for people who know neither it nor kit.
  [[nodiscard]] virtual std::string what(bool network) const = 0;
  /// Throws, with the reason, if it cannot be measured here. Starts what it needs; its destructor removes it again.
  virtual void set_up() = 0;

  /// A whole container, from nothing to nothing.
  [[nodiscard]] virtual command run(const std::string& id, bool network, const command& program) const = 0;
  [[nodiscard]] virtual command create(const std::string&, const command&) const { return {}; }
  [[nodiscard]] virtual command start(const std::string&) const { return {}; }
  [[nodiscard]] virtual command exec(const std::string&, const command&) const { return {}; }
  /// Ends it as its program wants to end.
  [[nodiscard]] virtual command stop(const std::string&) const { return {}; }
  /// Removes it, running or not.
  [[nodiscard]] virtual command remove(const std::string&) const { return {}; }

  [[nodiscard]] virtual bool has_network() const { return false; }
  [[nodiscard]] virtual int mounts() const { return -1; }
  [[nodiscard]] virtual int network() const { return -1; }
  [[nodiscard]] virtual std::vector<pid_t> daemons() const { return {}; }
  /// A container that goes on when the command has answered.
  [[nodiscard]] virtual command run_detached(const std::string&, bool, const command&) const { return {}; }
  /// Processes it keeps for the container `id`, for the memory they need; the container's own are not among them.
  [[nodiscard]] virtual std::vector<pid_t> keepers(const std::string&) const { return {}; }
  /// Where what it writes to disk is.
  [[nodiscard]] virtual std::string disk() const { return ""; }

  /// Runs one of its commands where it must run, and throws io with its words if that fails.
  std::string must(const command& c) const;
};

/// Whoever was found, kit first, and who was not, with the reason.
struct found_runtimes {
  std::vector<std::unique_ptr<runtime>> all;
  struct left_out {
    std::string name, reason;
  };
  std::vector<left_out> missing;
  /// nullptr: it is not there.
  [[nodiscard]] const runtime* get(const std::string& name) const;
};

/// What names of this run's containers and groups begin with.
std::string run_name(const scratch& place);

/// kit itself: what `kit bench` measures. `small` is its image of the common root file system.
std::unique_ptr<runtime> make_kit(const scratch& place, const std::string& rootfs);

/// Sets up kit and every peer named in `only` (all, if it is empty; "none"). Not root: what needs none.
found_runtimes find_runtimes(const scratch& place, const std::string& rootfs, std::vector<std::string> only);

}  // namespace kit::bench
