// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kit/engine/spec.hpp"
#include "kit/image/oci.hpp"
#include "kit/network/types.hpp"

/// \file
/// From what the user asked and what the image says to an OCI bundle (runtime specification 1.0.2 as written, which
/// every runtime takes): config.json and the three files that are shown under /etc.

namespace kit {

/// Everything a bundle depends on.
struct bundle_plan {
  std::string directory;     ///< of the bundle: config.json, rootfs/, hosts, hostname, resolv.conf
  std::string id;            ///< of the container
  std::string owner;         ///< becomes the annotation kit.owner
  std::string cgroups_path;  ///< linux.cgroupsPath
  container_spec spec;
  image_config image;
  netns network_namespace = netns::own;
  std::vector<std::string> addresses;  ///< of the container, for /etc/hosts
  std::string gateway;                 ///< of its network: what "host-gateway" stands for
  /// Namespaces of another container that it joins: {"pid", "/proc/7/ns/pid"}.
  std::vector<option> joined;
  std::string shared_memory;    ///< a host path shown at /dev/shm; empty: a new one
  std::string files_directory;  ///< whose hosts, hostname and resolv.conf it shows; empty: its own
};

/// A user of the image: what `--user` or the image's User means in its /etc/passwd and /etc/group.
struct image_user {
  unsigned uid = 0, gid = 0;
  std::vector<unsigned> additional_gids;
  std::string home = "/root";
};

/// Resolves "name", "uid", "name:group", "uid:gid" (or "" for root) in the root file system at `root` (a
/// descriptor; names in it are opened with open_in_root). Throws invalid if a name is not there.
image_user resolve_user(std::string_view text, int root);
/// Adds `--group-add`: names are looked up as above; with root -1 they must be numbers.
void add_groups(image_user&, const std::vector<std::string>& groups, int root);
/// True if the image's files must be asked: `text` names a user or group.
bool user_needs_root(std::string_view text);

/// The program and its arguments: entrypoint and command, the spec's before the image's. Throws invalid if
/// there is none.
std::vector<std::string> program_of(const container_spec& spec, const image_config& image);

/// The OCI process object for `kit exec` and for config.json alike, as JSON.
struct process_plan {
  std::vector<std::string> args, env;
  std::string cwd = "/";
  image_user user;
  bool terminal = false;
  std::vector<std::string> capabilities;  ///< bounding, permitted, effective
  bool no_new_privileges = false;
  std::vector<resource_limit> limits;
  int oom_score_adj = 0;
  unsigned rows = 0, columns = 0;
};
std::string process_json(const process_plan& plan);

/// PATH, HOME, TERM (with a terminal), HOSTNAME, the image's, then the spec's: later ones win.
std::vector<std::string> environment_of(const container_spec& spec, const image_config& image,
                                        std::string_view hostname, std::string_view home);
/// Docker's fourteen, plus `--cap-add`, less `--cap-drop` ("ALL" is a word for all this host has). Throws invalid
/// for an unknown name.
std::vector<std::string> capabilities_of(const container_spec& spec);

/// The members of an OCI `linux.resources` object, but devices, that limits in `spec` ask for: for `update`.
std::string resources_json(const container_spec& spec);

/// Where something is mounted in a container of this specification: paths without the leading slash, sorted.
std::vector<std::string> mount_points(const container_spec& spec);

/// The whole config.json.
std::string config_json(const bundle_plan& plan, const image_user& user);
/// Writes hosts, hostname, resolv.conf and config.json into plan.directory and makes rootfs/. Repeatable.
void write_bundle(const bundle_plan& plan, const image_user& user);

}  // namespace kit
