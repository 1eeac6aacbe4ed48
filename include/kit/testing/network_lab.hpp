// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "kit/detail/function_ref.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/ip.hpp"
#include "kit/system/namespace.hpp"

/// \file
/// A host made of network namespaces, for tests of network drivers: nothing of it is seen outside, and nothing of it
/// stays.

namespace kit::testing {

/// The calling thread is in a new network namespace, the lab's "host", for the life of this: lo is up there, nothing
/// is forwarded. Needs CAP_SYS_ADMIN and CAP_NET_ADMIN. Has a directory of its own too, removed at the end.
class network_lab {
 public:
  network_lab();
  ~network_lab();
  network_lab(const network_lab&) = delete;
  network_lab& operator=(const network_lab&) = delete;

  [[nodiscard]] int host() const noexcept { return host_.get(); }
  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }

  /// What a namespace holds, one line each, sorted: links, their settings, addresses, routes.
  static std::vector<std::string> inventory(int netns);
  /// inventory(host()) and the packet filter rules there, if nftables is installed.
  [[nodiscard]] std::vector<std::string> host_inventory() const;
  /// Waits for the kernel's deferred work, two seconds at most, until host_inventory() is `wanted`.
  [[nodiscard]] bool becomes(const std::vector<std::string>& wanted) const;

  /// A bridge called `name` with this alias in the lab's host: somebody else's link.
  static void make_link(int netns, const std::string& name, const std::string& alias);

  /// One TCP connection from a socket in `client` to one in `server` that listens on `address`; a few bytes each way.
  /// Throws failed, saying which step did not come about within three seconds. Answers the client's address as the
  /// server sees it.
  static ip_address talk_tcp(int client, int server, const ip_address& address);
  /// The same by two datagrams.
  static ip_address talk_udp(int client, int server, const ip_address& address);
  /// Whether a host answers at `address`, be it by refusing a connection.
  static bool reaches(int client, const ip_address& address, std::chrono::milliseconds patience);

 private:
  std::string directory_;
  unique_fd host_;
  namespace_scope inside_;
};

/// An established connection, to see whether it survives what is done around it.
class network_connection {
 public:
  network_connection(int client, int server, const ip_address& address);
  /// Bytes there and back; throws failed.
  void use();

 private:
  unique_fd client_, server_;
};

/// What became of a function run in a child process.
struct traced_run {
  bool finished = false;  ///< it returned before the child was killed
  bool failed = false;    ///< it threw
  bool forked = false;
  unsigned stops = 0;  ///< entries and exits of system calls seen
};
/// Runs `work` in a forked child and kills that (SIGKILL) at its `stop`th entry to or exit from a system call: every
/// point at which the kernel's state can differ. Throws skipped where ptrace(2) is not allowed.
traced_run run_until(unsigned stop, function_ref<void()> work);

}  // namespace kit::testing
