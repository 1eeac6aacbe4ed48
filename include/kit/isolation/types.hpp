// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kit/driver.hpp"
#include "kit/id.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/mount.hpp"

namespace kit {

/// A container as an isolation driver sees it: all there is to know on every call, for the driver
/// remembers nothing.
struct container {
  container_id id;
  std::string bundle;            ///< absolute path of the OCI bundle: config.json, rootfs/
  std::string state_dir;         ///< absolute path of a directory for the driver's own use, made by the
                                 ///< engine, gone at boot; on no mount of the container
  std::string owner;             ///< "kit:<root tag>:<id>": the mark on kernel objects that can bear one
  pid_t pid = 0;                 ///< of its init, in the caller's pid namespace; 0 before create answered
  std::uint64_t start_time = 0;  ///< field 22 of /proc/PID/stat: pid and start time name a process
};

/// What a process gets as 0, 1, 2. The caller keeps these; the driver duplicates what it needs.
/// With process.terminal in the configuration in, out and err are -1, and the driver sends the
/// terminal's master over console_socket (one byte and SCM_RIGHTS), as OCI runtimes do.
struct stdio {
  int in = -1;
  int out = -1;
  int err = -1;
  int console_socket = -1;
  /// If set, create may call it, once, with a descriptor of the network namespace, lent for the call, as soon as that
  /// exists: what the caller has to do there is then done beside the making of the root file system. What it throws
  /// ends create. A driver that does not call it is served after create.
  const function_ref<void(int netns)>* on_netns = nullptr;
};

/// What create and exec answer. Move-only: the descriptors are the caller's.
struct started {
  pid_t pid = 0;                 ///< the container's init, or the process that exec added
  std::uint64_t start_time = 0;  ///< of that process
  unique_fd init;                ///< its pidfd
  pid_t waiter_pid = 0;          ///< a child of the caller (or one that it, a subreaper, inherits) ...
  unique_fd waiter;              ///< ... and its pidfd: ends with the container's exit status; waitpid(2) it.
                                 ///< The same process as `pid` unless the driver has a shim of its own
  unique_fd netns;               ///< the container's network namespace; empty after exec
};

/// Figures of one container, now; what the host cannot tell is 0.
struct container_stats {
  std::uint64_t cpu_ns = 0, cpu_user_ns = 0, cpu_system_ns = 0;
  std::uint64_t memory_bytes = 0, memory_peak_bytes = 0, memory_limit_bytes = 0;
  std::uint64_t pids = 0, pids_limit = 0;
  std::uint64_t read_bytes = 0, write_bytes = 0;
  std::uint64_t oom_kills = 0;
};

/// Constants of the driver.
struct isolation_traits {
  bool needs_rootfs_path = false;  ///< cannot take mount descriptions: the caller mounts BUNDLE/rootfs in a
                                   ///< namespace of its own first, and passes no mounts (lxc, oci)
};

/// Whom signal reaches.
enum class reach : std::uint32_t { init = 0, all = 1 };

}  // namespace kit
