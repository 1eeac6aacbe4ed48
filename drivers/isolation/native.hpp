// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/isolation/concept.hpp"

namespace kit::drivers {

/// Containers by the kernel's own means: clone3(2) into new namespaces, a root made of detached mounts and
/// entered by pivot_root(2), control groups of either version, capabilities, seccomp(2). No program of another
/// project takes part, and no process of kit's stays but, on request, process 1.
///
/// The bundle is an OCI one (runtime specification 1.x); drivers/isolation/native/config.hpp says what of it is understood.
/// Every container's first process is kit-init, a small static program of config.libexec: it waits for start, takes
/// the identity config.json asks for, and executes the program in its own place. With the annotation
/// "kit.init": "true" it stays process 1 beside the program, passes signals on and reaps.
///
/// In state_dir it keeps the path of the container's group, a mark that create answered, and until start a socket.
/// Its waiter is the container's init itself. Needs Linux 5.14, root, and the namespaces asked for.
class native {
 public:
  explicit native(const driver_config& config) : config_(config) {}
  static std::vector<option_schema> options() { return {}; }

  [[nodiscard]] static constexpr std::string_view name() noexcept { return "native"; }
  [[nodiscard]] probe_report probe() const;
  [[nodiscard]] static isolation_traits traits() noexcept { return {}; }

  started create(const container& c, std::span<const mount> mounts, const stdio& io);
  void start(const container& c);
  void signal(const container& c, int signal, reach whom);
  void remove(const container& c);
  started exec(const container& c, std::string_view process_json, const stdio& io);
  void pause(const container& c);
  void resume(const container& c);
  void update(const container& c, std::string_view resources_json);
  container_stats stats(const container& c);

 private:
  driver_config config_;
};

}  // namespace kit::drivers
