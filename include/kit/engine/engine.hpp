// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kit/isolation/any_isolation.hpp"
#include "kit/network/any_network.hpp"
#include "kit/records/records.hpp"
#include "kit/storage/any_storage.hpp"

/// \file
/// # The engine
///
/// The algorithms over the three concepts: run, exec, commit, diff, reconcile. An `engine` is one kit
/// root opened by one process: its directories, its records, and the drivers it was asked for, each
/// loaded on first use. The verbs are free functions beside it, one file per verb:
///
///     spec.hpp       what the user asked for           bundle.hpp     spec + image -> OCI config.json
///     launch.hpp     the launch path, step by step     lifecycle.hpp  create start stop kill wait remove
///     attach.hpp     the client's side of a monitor    exec.hpp       one more process
///     changes.hpp    what a layer changed              images.hpp     import, unpack, commit, remove
///     volumes.hpp    directories that outlive them     reconcile.hpp  records and kernel brought together
///
/// ROOT/  kit.db  images/  storage/DRIVER/  network/DRIVER/  containers/ID/log.json  volumes/NAME/_data/
/// RUN/TAG/  containers/ID/{config.json, rootfs/, hosts, ..., exit.json, attach, state/}   the OCI bundle; gone at boot

namespace kit {

struct engine_config {
  std::string root = "/var/lib/kit";
  std::string run_dir = "/run/kit";
  std::string libexec;                ///< where kit-monitor, kit-init and kit-image are
  std::string program;                ///< kit itself: what a monitor calls to finish a container
  std::string storage = "overlayfs";  ///< defaults for containers that do not say
  std::string network = "bridge";
  std::string isolation = "native";
  std::string default_subnet;  ///< of the network "bridge"; empty: chosen from the root's tag
  std::map<std::string, std::vector<option>> driver_options;  ///< by driver name
};

class engine {
 public:
  /// Makes the root's directories (0711 root, 0700 inside) if they are absent. Throws permission if the root cannot be
  /// written, naming it.
  explicit engine(engine_config config);
  ~engine();
  engine(engine&&) noexcept;
  engine& operator=(engine&&) noexcept;

  [[nodiscard]] const engine_config& config() const noexcept;
  /// Eight hexadecimal digits, drawn once: in every global name this root makes.
  [[nodiscard]] const std::string& root_tag();
  /// "kit:<root tag>:<id>", the mark on kernel objects.
  [[nodiscard]] std::string owner(std::string_view id);

  /// Opened on first use, and claimed. A forked child does not touch them.
  kit::records& records();

  /// Makes sure that pids and paths in the records mean here what they say: a root belongs to one boot, pid namespace
  /// and run directory as long as containers of it run, then to who comes first. Throws conflict, telling where they run.
  /// Again in the transaction that records a container as running, it settles who was first.
  void claim();

  /// Loaded on first use; throws not_found naming the drivers there are.
  any_storage& storage(const std::string& name);
  any_network& network(const std::string& driver);
  any_isolation& isolation(const std::string& name);
  [[nodiscard]] driver_config config_of(std::string_view family, std::string_view driver);

  [[nodiscard]] std::string container_dir(const container_id&) const;  ///< what is kept of it: its log
  [[nodiscard]] std::string run_dir();  ///< this root's part of the run directory, which several roots may share
  [[nodiscard]] std::string bundle_dir(const container_id&);  ///< while it runs: the OCI bundle and its sockets
  [[nodiscard]] std::string images_dir() const;
  /// A lock file that each monitor holds shared: whether any lives can be asked from every pid namespace.
  [[nodiscard]] std::string presence_path() const;

  /// The record as the isolation driver wants it.
  [[nodiscard]] container as_container(const container_record&);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace kit
