// SPDX-License-Identifier: Apache-2.0
#include "kit/system/process.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include <cstdlib>

#include "kit/system/error.hpp"
#include "kit/system/seam.hpp"

namespace kit {

cloned_process clone_process(std::uint64_t flags, int cgroup) {
  int pidfd = -1;
  clone_args args{};
  args.flags = flags | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  if (cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(cgroup);
  }
  const long pid = seam("clone3", [&] { return ::syscall(SYS_clone3, &args, sizeof args); });
  if (pid < 0) {
    if (errno == EPERM) fail_errno(errno, "make a process in new namespaces; run as root with CAP_SYS_ADMIN");
    if (errno == EINVAL) fail(errc::unsupported, "make a process in new namespaces {:#x}: the kernel lacks one", flags);
    if (errno == ENOSPC || errno == EUSERS)
      fail_errno(errno, "make a process in new namespaces: see the limits under /proc/sys/user");
    fail_errno(errno, "make a process in new namespaces");
  }
  return {static_cast<pid_t>(pid), unique_fd(pid == 0 ? -1 : pidfd)};
}

std::vector<char*> argument_vector(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

child_pid_namespace::child_pid_namespace(int pidfd) : home_(open_file("/proc/thread-self/ns/pid", O_RDONLY)) {
  if (::setns(pidfd, CLONE_NEWPID) != 0) fail_errno(errno, "join the pid namespace of the container");
}

child_pid_namespace::~child_pid_namespace() {
  if (::setns(home_.get(), CLONE_NEWPID) != 0) std::abort();
}

unique_fd above_stdio(int fd, const char* what) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) fail_errno(errno, "duplicate {}", what);
  return unique_fd(copy);
}

unique_fd above_stdio(unique_fd fd, const char* what) {
  return fd.get() < 0 || fd.get() > 2 ? std::move(fd) : above_stdio(fd.get(), what);
}

}  // namespace kit
