// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <errno.h>
#include <stdint.h>
#include <sys/ioctl.h>

namespace kit {

/// struct pidfd_info of PIDFD_GET_INFO as Linux 6.15 has it (uapi/linux/pidfd.h), which is newer than the headers kit is
/// built with. Plain: the monitor, which links no libstdc++, uses it, too.
struct pidfd_info {
  uint64_t mask, cgroup;
  uint32_t pid, tgid, ppid, ids[8];
  int32_t wait_status;
};
static_assert(sizeof(pidfd_info) == 64);

/// The wait status (waitpid(2)) of a process that was reaped, perhaps by another, from a pidfd that was opened before.
/// 1: told; 0: not yet; -1: this kernel does not tell, see errno.
inline int wait_status_of(int pidfd, int32_t* wait_status) noexcept {
  constexpr uint64_t of_exit = 1u << 3;
  pidfd_info info{};
  info.mask = of_exit;
  if (::ioctl(pidfd, _IOWR(0xff, 11, pidfd_info), &info) != 0) return -1;
  if ((info.mask & of_exit) == 0) return 0;
  *wait_status = info.wait_status;
  return 1;
}

}  // namespace kit
