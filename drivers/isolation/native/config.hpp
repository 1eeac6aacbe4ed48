// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kit/system/capability.hpp"
#include "kit/system/cgroup.hpp"
#include "kit/system/seccomp.hpp"

/// \file
/// config.json of the OCI runtime specification 1.x (config.md, config-linux.md) as plain values: what the native driver
/// understands of it. A member that is not here is either of no meaning to a runtime, and passed over, or refused
/// by the parser as unsupported, so that nothing asked for is silently missing.

namespace kit::drivers::detail {

struct bundle_user {
  uid_t uid = 0;
  gid_t gid = 0;
  std::optional<mode_t> umask;
  std::vector<gid_t> additional_gids;
};

struct bundle_rlimit {
  std::string name;  ///< "RLIMIT_NOFILE"
  int resource = 0;
  rlimit64 value{};
};

/// The `process` object: of config.json, or the one that exec is given.
struct bundle_process {
  bool terminal = false;
  std::uint16_t console_rows = 0, console_columns = 0;
  bundle_user user;
  std::vector<std::string> args;
  std::vector<std::string> env;
  std::string cwd;
  std::optional<process_capabilities> capabilities;  ///< not given: those the caller has
  std::vector<bundle_rlimit> rlimits;
  bool no_new_privileges = false;
  std::optional<int> oom_score_adj;
};

/// MOUNT_ATTR_* to set and to clear by mount_setattr(2).
struct bundle_mount_attributes {
  std::uint64_t set = 0, clear = 0;
};

struct bundle_mount {
  std::string destination;
  std::string type;                                          ///< "bind" for a bind mount, however it was written
  std::string source;                                        ///< absolute if it is a bind mount
  bool recursive = false;                                    ///< rbind: with what is mounted below the source
  bundle_mount_attributes here, below;                       ///< "ro"; "rro": of the mount alone, of all below too
  std::uint64_t propagation = 0;                             ///< MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE or 0
  bool propagation_below = false;                            ///< "rprivate"
  std::vector<std::pair<std::string, std::string>> options;  ///< of the file system; an empty value is a flag
};

struct bundle_namespace {
  int kind = 0;      ///< CLONE_NEW*
  std::string path;  ///< empty: a new one
};

struct bundle_device {
  std::string path;
  mode_t mode = 0;  ///< type and permissions, as mknod(2) takes them
  dev_t number = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

/// One line of uid_map or gid_map (user_namespaces(7)).
struct bundle_id_mapping {
  std::uint32_t inside = 0, outside = 0, count = 0;
};

struct bundle_config {
  std::string root_path;  ///< absolute
  bool root_readonly = false;
  bundle_process process;
  std::string hostname, domainname;
  std::vector<bundle_mount> mounts;
  std::map<std::string, std::string> annotations;

  std::vector<bundle_namespace> namespaces;
  std::vector<bundle_id_mapping> uid_mappings, gid_mappings;
  std::vector<bundle_device> devices;
  std::vector<std::pair<std::string, std::string>> sysctl;
  std::string cgroups_path;
  cgroup_limits resources;
  std::optional<std::string> seccomp;  ///< the JSON text of linux.seccomp, for parse_bundle_seccomp
  std::uint64_t root_propagation = 0;  ///< MS_* with MS_REC; 0: private
  std::vector<std::string> masked_paths, readonly_paths;

  /// Whether a namespace of this kind is made or joined; else it is the caller's.
  [[nodiscard]] bool has_namespace(int kind) const noexcept;
  /// CLONE_NEW* of the namespaces to make.
  [[nodiscard]] int new_namespaces() const noexcept;
};

/// Parses and checks. Throws invalid, naming the member by its JSON path ("$.process.args[0]"), or
/// unsupported for a member the driver has no means for. `bundle` is what a relative root.path starts from.
bundle_config parse_bundle_config(std::string_view json, const std::string& bundle);

/// The text of bundle_config::seccomp. Throws as parse_bundle_config, which does not look into it.
seccomp_profile parse_bundle_seccomp(std::string_view json);

/// The `process` object alone; paths in messages begin with "$".
bundle_process parse_bundle_process(std::string_view json);

/// A `linux.resources` object alone.
cgroup_limits parse_bundle_resources(std::string_view json);

}  // namespace kit::drivers::detail
