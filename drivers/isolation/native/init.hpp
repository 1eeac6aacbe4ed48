// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdint.h>

/// \file
/// What the native driver and kit-init, the program its containers begin as, say to each other. Both are of
/// one build; nothing here is kept or sent elsewhere.
///
/// The driver writes an init_plan and all it refers to into a sealed memfd, whose descriptor's number is
/// kit-init's only argument. References are offsets from the plan's first byte. Whoever fails, the driver's child or
/// kit-init, sends one launch_report and ends.

namespace kit::drivers::detail {

/// The steps between clone and the program, in the order they are done.
enum class launch_step : uint32_t {
  ready = 0,  ///< not a failure: waits for start
  named,      ///< text: the name of a step that was told to fail
  // by the child, in the driver's own code
  join_namespace,  ///< item: index in linux.namespaces
  set_oom_score,
  enter_cgroup,
  make_cgroup_namespace,
  keep_mounts_private,
  receive_rootfs,
  attach_rootfs,
  become_root,
  make_mount,   ///< item: index in mounts
  make_device,  ///< item: index in the plan's devices
  link_device,
  mask_path,     ///< item: index in linux.maskedPaths
  protect_path,  ///< item: index in linux.readonlyPaths
  set_sysctl,    ///< item: index in linux.sysctl
  set_hostname,
  set_domainname,
  enter_rootfs,
  open_terminal,
  send_terminal,
  protect_rootfs,
  take_stdio,
  run_init,
  // by kit-init
  read_plan,
  make_keyring,
  take_terminal,
  enter_directory,
  find_program,
  wait_for_start,
  set_rlimit,  ///< item: index in process.rlimits
  own_stdio,
  limit_bounding_set,
  set_groups,
  set_user,
  set_capabilities,
  forbid_privileges,
  install_seccomp,
  start_program,
  execute_program,
};

struct launch_report {
  launch_step step = launch_step::ready;
  int32_t error = 0;  ///< errno
  uint32_t item = 0;
  char text[116] = {};  ///< the kernel's own words (the log of fsopen(2)), or the program's name
};

/// The words of start: the caller sends `go`, kit-init answers `accepted` and, should the program not run, a
/// launch_report. Once execve(2) succeeds the connection closes.
inline constexpr char start_go = 'g';
inline constexpr char start_accepted = 'a';

struct init_list {
  uint32_t offset = 0;
  uint32_t count = 0;
};

struct init_rlimit {
  uint32_t resource = 0;
  uint32_t reserved = 0;
  uint64_t soft = 0, hard = 0;
};

enum init_flag : uint32_t {
  init_waits = 1,              ///< for start, on `listener`, as long as `launcher` lives
  init_reaps = 2,              ///< stays process 1: passes signals on, reaps, ends as the program does
  init_has_terminal = 4,       ///< descriptor 0 becomes the controlling terminal
  init_sets_capabilities = 8,  ///< the five sets are given
  init_no_new_privileges = 16,
};

struct init_plan {
  uint32_t size = 0;  ///< of the plan and what follows it
  uint32_t flags = 0;
  int32_t report = -1;    ///< connected socket: launch_report goes here until start
  int32_t listener = -1;  ///< listening socket: start comes from here
  int32_t launcher = -1;  ///< pidfd
  uint32_t uid = 0, gid = 0, umask = 022;
  uint64_t bounding = 0, effective = 0, permitted = 0, inheritable = 0, ambient = 0;
  uint32_t cwd = 0;  ///< text
  uint32_t filter_flags = 0;
  init_list filter;    ///< sock_filter
  init_list groups;    ///< gid_t
  init_list rlimits;   ///< init_rlimit
  init_list args;      ///< text: one 64-bit slot each and one more, made pointers and NULL in place
  init_list env;       ///< likewise
  init_list programs;  ///< likewise: the files to try, in order
};

}  // namespace kit::drivers::detail
