// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sched.h>
#include <sys/types.h>

#include "kit/system/fd.hpp"

namespace kit {

/// The namespaces of namespaces(7) by the names they have under /proc/PID/ns; the values are setns(2)'s.
enum class namespace_kind : int {
  mnt = CLONE_NEWNS,
  uts = CLONE_NEWUTS,
  ipc = CLONE_NEWIPC,
  user = CLONE_NEWUSER,
  pid = CLONE_NEWPID,
  net = CLONE_NEWNET,
  cgroup = CLONE_NEWCGROUP,
};

/// The name under /proc/PID/ns: "net".
const char* to_string(namespace_kind kind) noexcept;

/// A descriptor of the namespace that process (or thread) `pid` is in; 0 is the calling thread. Throws not_found
/// if there is no such process.
unique_fd open_namespace(pid_t pid, namespace_kind kind);

/// Whether two descriptors are of one namespace.
bool same_namespace(int a, int b);

/// The calling thread is in another namespace of `kind` until the end of the scope; other threads never notice.
/// For kinds a thread may change alone (net, uts, ipc, cgroup). If the way back fails the process ends (abort): a
/// thread that goes on in the wrong namespace would do harm.
class namespace_scope {
 public:
  /// Enters `ns`. Throws, still at home.
  namespace_scope(int ns, namespace_kind kind);
  ~namespace_scope();
  namespace_scope(const namespace_scope&) = delete;
  namespace_scope& operator=(const namespace_scope&) = delete;

 private:
  unique_fd home_;
  namespace_kind kind_;
};

/// A new network namespace with nothing in it but a `lo` that is down; it lives while a descriptor of it, or what is
/// in it, does. The calling thread stays where it is. Needs CAP_SYS_ADMIN.
unique_fd make_network_namespace();

}  // namespace kit
