// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>

#include "kit/system/fd.hpp"

/// \file
/// Processes by descriptor (pidfd_open(2)). A pid is a name the kernel gives away again; pid and start
/// time together are not, and a pidfd that was verified once stays with its process.

namespace kit {

/// Field 22 of /proc/PID/stat (proc(5)): clock ticks from boot to the start of the process. 0: there is none.
std::uint64_t process_start_time(pid_t pid);

/// Throws not_found if there is no such process.
unique_fd open_pidfd(pid_t pid);

/// The process `pid` that began at `start_time`. Empty if it is no more, or the pid is another's by now; a zombie
/// that nobody has waited for is still answered.
unique_fd open_process(pid_t pid, std::uint64_t start_time);

/// Whether the process ended (a zombie has). Waits up to `patience` for it.
bool has_ended(int pidfd, std::chrono::milliseconds patience = std::chrono::milliseconds(0));

/// pidfd_send_signal(2). False if the process is no more; throws on anything else.
bool send_signal(int pidfd, int signal);

/// The exit code, as reap() answers it, of a process that has ended and whose parent is another: from what a pidfd
/// that was opened before its end remembers (PIDFD_GET_INFO, Linux 6.15), or from the zombie it still is (proc(5)).
/// Waits for a tenth of a second for its parent to reap it. None: the kernel does not tell.
std::optional<int> exit_code_of(int pidfd);

/// Waits for a child to end and reaps it: its code, or 128 + the signal that ended it. Throws not_found if it is
/// not a child of this process or was reaped before.
int reap(int pidfd);

}  // namespace kit
