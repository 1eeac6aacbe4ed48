// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "drivers/isolation/native/config.hpp"
#include "drivers/isolation/native/init.hpp"
#include "kit/system/cgroup.hpp"
#include "kit/system/fd.hpp"

/// \file
/// What the child does between clone and kit-init: no allocation, no lock, no exception. All it needs is made
/// before by its parent and lies in the memory both began with.

namespace kit::drivers::detail {

/// One hierarchy as a container sees it under its cgroup mount.
struct cgroup_view {
  std::string name;  ///< "cpu,cpuacct"; empty: version 2 alone, the mount itself
  bool v2 = false;
  std::vector<std::string> flags;                           ///< of fsconfig(2): "cpu", "none"
  std::vector<std::pair<std::string, std::string>> values;  ///< {"name", "systemd"}
  unique_fd tree;                                           ///< without a cgroup namespace: a clone of the group
};

/// One entry of `mounts`, as far as it could be made with the host in view.
struct prepared_mount {
  const bundle_mount* what = nullptr;
  unique_fd tree;  ///< bind: a detached clone with its attributes set
  bool is_directory = true;
  bool refuses_links = false;     ///< proc, sysfs: at the very path, or programs would trust an image's own
  bool becomes_readonly = false;  ///< after all mounts below it are made
};

/// What every child needs: create's and exec's.
struct child_base {
  int in = -1, out = -1, err = -1;  ///< above 2
  int console_socket = -1;
  bool terminal = false;
  std::uint16_t rows = 0, columns = 0;
  int report = -1;                          ///< the child's end
  int parent_end = -1;                      ///< the other, closed first
  std::array<int, 4> kept{-1, -1, -1, -1};  ///< descriptors kit-init gets
  const cgroup_entry* group = nullptr;
  bool cloned_into_group = false;
  int init = -1;  ///< the helper program, O_PATH in a mount of its own
  char* const* init_args = nullptr;
};

struct create_child : child_base {
  const bundle_config* config = nullptr;
  std::span<const std::pair<int, int>> joined;  ///< CLONE_NEW* and descriptor
  std::span<prepared_mount> mounts;
  std::span<const cgroup_view> cgroups;
  std::span<const bundle_device> devices;
  bool makes_devices = true;    ///< false: /dev is bound from the host
  const char* stage = nullptr;  ///< a directory the root is attached to before it becomes the root
};

struct exec_child : child_base {
  int target = -1;               ///< pidfd of the container's init
  const char* oom_score = "";    ///< for oom_score_adj, if any
  bool moved_by_parent = false;  ///< into the group: the child waits for one byte
  int namespaces = 0;
};

[[noreturn]] void run_create_child(create_child& plan) noexcept;
[[noreturn]] void run_exec_child(exec_child& plan) noexcept;

}  // namespace kit::drivers::detail
