// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "kit/isolation/types.hpp"

namespace kit::testing {

/// A bundle in a directory of its own, gone with this object: a root with busybox and its applets, and a
/// config.json like the one the engine writes, to be changed through `config` before write().
class busybox_bundle {
 public:
  busybox_bundle();
  ~busybox_bundle();
  busybox_bundle(const busybox_bundle&) = delete;
  busybox_bundle& operator=(const busybox_bundle&) = delete;

  void write() const;
  [[nodiscard]] std::string rootfs() const { return directory + "/bundle/rootfs"; }

  std::string directory;
  container box;
  nlohmann::json config;
};

/// Whether this host can run one: root, and /bin/busybox is static. Else the reason.
std::string why_no_bundle();

}  // namespace kit::testing
