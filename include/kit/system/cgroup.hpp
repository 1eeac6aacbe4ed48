// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kit/system/fd.hpp"

/// \file
/// Control groups, versions 1, 2 and both at once (cgroups(7), the kernel's admin-guide/cgroup-v2 and
/// cgroup-v1), behind one interface: a *group* is one path made on every hierarchy of the host.
///
/// Limits go to the hierarchy that has the controller. Freezing, killing and the question "is it
/// empty" go to version 2 wherever it is mounted, with or without controllers: a frozen process can
/// be killed there, and the kernel tells when the last one is gone. Only a host without it has them by
/// the freezer controller and by looking again.

namespace kit {

/// One mounted hierarchy.
struct cgroup_hierarchy {
  std::string mount_point;
  bool v2 = false;
  /// "cpu", "cpuacct", "name=systemd" ...; on version 2 those of the mounted group's cgroup.controllers.
  std::vector<std::string> controllers;
};

/// The hierarchies of this host.
class cgroup_layout {
 public:
  /// What the calling process sees in /proc/self/mountinfo: read on first use, remembered.
  static const cgroup_layout& here();
  /// From the text of a mountinfo file; version 2 controllers are read from the mount point.
  explicit cgroup_layout(std::string_view mountinfo);

  [[nodiscard]] const std::vector<cgroup_hierarchy>& hierarchies() const noexcept { return hierarchies_; }
  /// The one with `controller`, or nullptr: this host lacks it.
  [[nodiscard]] const cgroup_hierarchy* with(std::string_view controller) const noexcept;
  /// The version 2 hierarchy, or nullptr.
  [[nodiscard]] const cgroup_hierarchy* unified() const noexcept;
  /// "v1", "v2", "hybrid" or "none": a fact for probe.
  [[nodiscard]] std::string_view kind() const noexcept;

 private:
  std::vector<cgroup_hierarchy> hierarchies_;
};

/// One line of the devices list: later lines win over earlier ones. A new group allows what its
/// parent allows, so a list begins with "deny all".
struct cgroup_device_rule {
  bool allow = false;
  char type = 'a';                     ///< 'c', 'b', or 'a' for both
  std::optional<std::uint32_t> major;  ///< empty: any
  std::optional<std::uint32_t> minor;
  bool read = true, write = true, make = true;  ///< "rwm"
};

/// A rate or weight of one block device.
struct cgroup_io_throttle {
  enum class kind { read_bytes, write_bytes, read_operations, write_operations };  ///< per second
  kind what = kind::read_bytes;
  std::uint32_t major = 0, minor = 0;
  std::uint64_t rate = 0;  ///< 0: no limit
};
struct cgroup_io_device_weight {
  std::uint32_t major = 0, minor = 0;
  std::uint16_t weight = 0;  ///< 10 to 1000
};

/// What may be limited, in the units and ranges of OCI's `linux.resources` (version 1's), whichever
/// version the host has. A member not given is left as it is. -1 of a signed member: no limit.
struct cgroup_limits {
  std::optional<std::int64_t> memory;              ///< bytes
  std::optional<std::int64_t> memory_swap;         ///< bytes of memory and swap together
  std::optional<std::int64_t> memory_reservation;  ///< bytes, soft (version 2: memory.low)
  std::optional<std::uint64_t> memory_swappiness;  ///< 0 to 100; version 1 only
  std::optional<bool> disable_oom_killer;          ///< version 1 only

  std::optional<std::uint64_t> cpu_shares;              ///< 2 to 262144, 1024 is the kernel's default
  std::optional<std::int64_t> cpu_quota;                ///< microseconds of a period
  std::optional<std::uint64_t> cpu_period;              ///< microseconds
  std::optional<std::uint64_t> cpu_burst;               ///< microseconds
  std::optional<std::int64_t> cpu_idle;                 ///< 1: SCHED_IDLE for the group
  std::optional<std::int64_t> cpu_realtime_runtime;     ///< microseconds; version 1 only
  std::optional<std::uint64_t> cpu_realtime_period;     ///< microseconds; version 1 only
  std::optional<std::string> cpuset_cpus, cpuset_mems;  ///< "0-3,7"

  std::optional<std::int64_t> pids;

  std::optional<std::uint16_t> io_weight;  ///< 10 to 1000
  std::vector<cgroup_io_device_weight> io_device_weights;
  std::vector<cgroup_io_throttle> io_throttles;

  std::optional<std::vector<cgroup_device_rule>> devices;        ///< replaces the whole list
  std::vector<std::pair<std::string, std::uint64_t>> hugepages;  ///< {"2MB", bytes}
  std::vector<std::pair<std::string, std::string>> unified;      ///< {"memory.high", "1G"}: version 2 files
};

/// Figures of a group, now; what the host cannot tell is 0.
struct cgroup_stats {
  std::uint64_t cpu_ns = 0, cpu_user_ns = 0, cpu_system_ns = 0;
  /// In use, less the page cache the kernel would drop first (inactive_file): what people mean.
  std::uint64_t memory_bytes = 0;
  std::uint64_t memory_peak_bytes = 0, memory_limit_bytes = 0;  ///< limit 0: none
  std::uint64_t pids = 0, pids_limit = 0;                       ///< limit 0: none
  std::uint64_t read_bytes = 0, write_bytes = 0;
  std::uint64_t oom_kills = 0;
};

/// Descriptors opened before clone, by which a child enters a group in a few hundred microseconds
/// and without allocation: "0" into version 1's `tasks` (cgroup.procs takes a lock that waits for
/// an RCU grace period, three times as slow).
class cgroup_entry {
 public:
  /// Moves the calling thread, which must be its process's only one, into the group on every
  /// hierarchy. `cloned_into`: it was made by clone3(2) with CLONE_INTO_CGROUP and into(), and is in
  /// version 2's group already. Async-signal-safe; 0 or -errno.
  int enter(bool cloned_into = false) const noexcept;
  /// For clone_args::cgroup: version 2's directory, -1 where there is none. The cheapest way in.
  [[nodiscard]] int into() const noexcept { return into_.get(); }

 private:
  friend class cgroup;
  static constexpr std::size_t most = 16;
  std::array<unique_fd, most> tasks_;
  std::size_t count_ = 0;
  unique_fd procs_;  // version 2's
  unique_fd into_;
};

/// One group: `path` (relative, "kit-<tag>/<id>") below the mount point of every hierarchy.
/// A name, not an owner: constructing touches nothing, destroying removes nothing, and any process
/// may make another object of the same path. Errors name the file that refused.
class cgroup {
 public:
  using milliseconds = std::chrono::milliseconds;

  explicit cgroup(std::string path, const cgroup_layout& layout = cgroup_layout::here());
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Makes it on every hierarchy, with its parents; on version 2 the controllers cpu, cpuset, io,
  /// memory and pids are enabled down the path (others when a limit names them). What is there is
  /// accepted: true if any part was new. Its parents hold groups, never processes. Throws busy if the
  /// mounted version 2 group itself holds processes (a container without a group for its own): the
  /// message says which. A failure leaves no new part of `path` itself behind.
  bool make() const;
  /// Whether any hierarchy has it.
  [[nodiscard]] bool exists() const;
  /// Removes it and the groups below it from every hierarchy; absent: success. It must be empty or
  /// become so within `patience` (the kernel is often a moment behind): else busy, naming a process.
  void remove(milliseconds patience = milliseconds(2000)) const;
  /// Removes it if it holds neither a process nor a group, as after an ordinary end, without looking for any first. Answers
  /// false if something of it is left: what is in there is to be killed, or waited for.
  bool remove_if_empty() const noexcept;
  /// Removes the parents that hold nothing now. For the end of a test or the removal of a kit.
  void remove_parents() const noexcept;

  /// For a child of this process: see cgroup_entry. Throws not_found if the group is absent.
  [[nodiscard]] cgroup_entry prepare() const;
  /// Moves the process `pid`, all its threads. If processes of the group made groups of their own (an
  /// init inside), version 2 refuses its inner nodes: the process goes to the first leaf that holds one.
  void enter(pid_t pid) const;

  /// Sets what `limits` gives. All of it is looked for first: what this host lacks is unsupported,
  /// naming the member by OCI's word, before anything was changed. If the kernel refuses a value (invalid,
  /// busy ...), values already written are put back, lists excepted (devices, device throttles).
  void apply(const cgroup_limits& limits) const;

  /// No process of the group runs when it returns; repeated: success. Throws unsupported if neither
  /// version 2 nor the freezer controller is mounted, busy if a process resists for `patience` (in an
  /// uninterruptible sleep): the group is thawed again then.
  void freeze(milliseconds patience = milliseconds(10000)) const;
  /// Repeated, or absent: success.
  void thaw() const;
  [[nodiscard]] bool frozen() const;

  /// Every process in it and below, in this process's pid namespace (0: not visible in it).
  [[nodiscard]] std::vector<pid_t> processes() const;
  /// Sends `signal` to all of them; none escapes by forking, for they are frozen meanwhile where the
  /// host can. SIGKILL works on a frozen group too. Does not wait for their end. Absent: success.
  void signal(int signal) const;
  /// True when no process is left, false after `patience`. Waits on the kernel's event where there is one.
  [[nodiscard]] bool wait_empty(milliseconds patience) const;
  /// signal(SIGKILL) until wait_empty, or busy, naming a process. Absent: success.
  void kill(milliseconds patience = milliseconds(10000)) const;

  /// Absent: not_found.
  [[nodiscard]] cgroup_stats stats() const;

 private:
  [[nodiscard]] std::string directory(const cgroup_hierarchy& h) const { return h.mount_point + "/" + path_; }
  /// The hierarchy asked who is in the group: version 2, or the freezer's, or the first.
  [[nodiscard]] const cgroup_hierarchy* membership() const noexcept;

  std::string path_;
  const cgroup_layout* layout_;
};

}  // namespace kit
