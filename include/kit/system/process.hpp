// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kit/system/fd.hpp"

namespace kit {

/// A child made by clone_process, seen by its parent; in the child pid is 0.
struct cloned_process {
  pid_t pid = 0;
  unique_fd pidfd;
};

/// clone3(2) without a shared address space: fork(2) with CLONE_* `flags` (new namespaces) and a pidfd, SIGCHLD at
/// its end. `cgroup` is -1 or a descriptor of the version 2 group the child begins in (CLONE_INTO_CGROUP).
///
/// No atfork handler runs. Until it executes a program or ends, the child may only do what a signal handler may
/// (signal-safety(7)): no allocation, no lock, no exception; it leaves by _exit(2).
/// Throws, naming what the kernel lacks or forbids.
cloned_process clone_process(std::uint64_t flags, int cgroup = -1);

/// The words as execve(2) and posix_spawn(3) take them, with the NULL at the end. They point into `words`.
std::vector<char*> argument_vector(std::vector<std::string>& words);

/// While one lives, the children this thread makes begin in the pid namespace of the process `pidfd`; the thread
/// itself stays. If the way back fails the process ends (abort): its later children would be lost to it.
class child_pid_namespace {
 public:
  explicit child_pid_namespace(int pidfd);
  ~child_pid_namespace();
  child_pid_namespace(const child_pid_namespace&) = delete;
  child_pid_namespace& operator=(const child_pid_namespace&) = delete;

 private:
  unique_fd home_;
};

/// A duplicate of `fd` (O_CLOEXEC) that is none of 0, 1, 2, so that a child may fill those without losing it.
/// Throws, naming `what`.
unique_fd above_stdio(int fd, const char* what);
/// The same for one that is owned: it is moved only if it must be.
unique_fd above_stdio(unique_fd fd, const char* what);

}  // namespace kit
