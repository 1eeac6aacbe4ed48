// SPDX-License-Identifier: Apache-2.0
#include "kit/system/namespace.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>

#include "kit/system/error.hpp"

namespace kit {

const char* to_string(namespace_kind kind) noexcept {
  switch (kind) {
    case namespace_kind::mnt: return "mnt";
    case namespace_kind::uts: return "uts";
    case namespace_kind::ipc: return "ipc";
    case namespace_kind::user: return "user";
    case namespace_kind::pid: return "pid";
    case namespace_kind::net: return "net";
    case namespace_kind::cgroup: return "cgroup";
  }
  return "";
}

unique_fd open_namespace(pid_t pid, namespace_kind kind) {
  return open_file(pid == 0 ? fmt::format("/proc/thread-self/ns/{}", to_string(kind))
                            : fmt::format("/proc/{}/ns/{}", pid, to_string(kind)),
                   O_RDONLY);
}

bool same_namespace(int a, int b) {
  struct stat first {
  }, second{};
  if (::fstat(a, &first) != 0 || ::fstat(b, &second) != 0) throw_errno(errno, "compare two namespaces");
  return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

namespace_scope::namespace_scope(int ns, namespace_kind kind) : home_(open_namespace(0, kind)), kind_(kind) {
  if (::setns(ns, static_cast<int>(kind)) != 0) fail_errno(errno, "enter a {} namespace", to_string(kind));
}

namespace_scope::~namespace_scope() {
  if (::setns(home_.get(), static_cast<int>(kind_)) != 0) std::abort();
}

unique_fd make_network_namespace() {
  unique_fd home = open_namespace(0, namespace_kind::net);
  if (::unshare(CLONE_NEWNET) != 0) throw_errno(errno, "make a network namespace");
  int made = ::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  int why = errno;
  if (::setns(home.get(), CLONE_NEWNET) != 0) std::abort();
  if (made < 0) throw_errno(why, "open the network namespace just made");
  return unique_fd(made);
}

}  // namespace kit
