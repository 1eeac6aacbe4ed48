// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kit/driver.hpp"

namespace kit {

/// What is shown in the container at `target`: a host path, or a volume (volumes.hpp).
struct mount_request {
  enum class kind { bind, volume };
  kind what = kind::bind;
  std::string source;                ///< absolute host path; or the volume's name, empty until one is drawn
  std::string target;                ///< absolute path in the container
  std::vector<std::string> options;  ///< "ro", "rw", "rshared", "nocopy", ...
  bool anonymous = false;            ///< a volume whose name was drawn: it may go with the container
  bool must_exist = false;           ///< a host path that is not made, as a directory, if it is absent
  bool operator==(const mount_request&) const = default;

  [[nodiscard]] bool has(std::string_view option) const;
};

/// A limit of setrlimit(2): {"RLIMIT_NOFILE", 1024, 4096}.
struct resource_limit {
  std::string type;
  std::uint64_t soft = 0, hard = 0;  ///< UINT64_MAX: none
  bool operator==(const resource_limit&) const = default;
};

/// Of a container that has no namespace of its own of some kind.
inline constexpr std::string_view host_mode = "host";

/// What a user asks of `run` and `create`: Docker's flags as values. Kept in the records as JSON, so
/// that `start` makes the same container again.
struct container_spec {
  std::string image;
  std::string name;                  ///< empty: one is drawn
  std::vector<std::string> command;  ///< empty: the image's
  std::optional<std::vector<std::string>> entrypoint;
  std::vector<std::string> env;  ///< "KEY=value"
  std::vector<option> labels;
  std::vector<mount_request> mounts;
  std::vector<std::string> volumes_from;  ///< "CONTAINER[:ro]"; create replaces them by what they stand for
  std::vector<option> tmpfs;              ///< target and options: {"/tmp", "size=64m"}
  std::string workdir, user, hostname, domainname;
  std::vector<std::string> group_add;                     ///< names or numbers
  std::vector<std::string> add_hosts;                     ///< "name:address"
  std::vector<std::string> dns, dns_search, dns_options;  ///< in place of the host's resolv.conf
  std::vector<std::string> devices;                       ///< "HOST[:CONTAINER][:rwm]"
  std::vector<resource_limit> ulimits;
  std::vector<option> sysctls;
  std::string pid_mode, ipc_mode, uts_mode, cgroupns_mode;  ///< "", "host", "private", "container:ID"
  std::string stop_signal;                                  ///< empty: the image's, or SIGTERM
  std::int64_t stop_timeout = -1;                           ///< seconds until `stop` kills; -1: ten
  std::string network, storage, isolation;  ///< empty: the engine's default; a network may be "container:ID"
  std::vector<option> storage_options;      ///< storage_options.hpp
  std::string ip, ip6, mac_address;         ///< on that network; empty: one is chosen
  std::vector<std::string> cap_add, cap_drop;
  std::uint64_t memory = 0;      ///< bytes, 0: no limit
  std::uint64_t shm_size = 0;    ///< bytes of /dev/shm, 0: 64 MiB
  double cpus = 0;               ///< 0: no limit
  std::int64_t pids_limit = 0;   ///< 0: no limit
  std::int64_t memory_swap = 0;  ///< bytes of memory and swap together; 0: twice the memory, -1: no limit
  std::uint64_t memory_reservation = 0;
  std::int64_t memory_swappiness = -1;  ///< 0 to 100; -1: the host's
  std::uint64_t cpu_shares = 0, cpu_period = 0;
  std::int64_t cpu_quota = 0;
  std::string cpuset_cpus, cpuset_mems;
  std::uint64_t blkio_weight = 0;
  std::int64_t oom_score_adj = 0;
  bool oom_kill_disable = false, no_new_privileges = false, seccomp_unconfined = false;
  std::string log_driver;           ///< "json-file" (if empty), "file" or "none"
  std::vector<option> log_options;  ///< see log_settings (logs.hpp)
  std::string restart;              ///< see restart_policy; empty: "no"
  bool interactive = false, tty = false, detach = false, auto_remove = false;
  bool read_only = false, init = false, privileged = false;
};

std::string to_json(const container_spec&);
container_spec spec_from_json(std::string_view json);

/// Parsers of Docker's notations; each throws invalid, quoting the text.
mount_request parse_volume(std::string_view text);  ///< -v: "HOST:CONTAINER:ro", "NAME:CONTAINER", "CONTAINER"
option parse_tmpfs(std::string_view text);          ///< --tmpfs: "/tmp:size=1m"
/// --mount: "type=bind,source=/a,target=/b,readonly". Adds it to the mounts or tmpfs of `to`.
void parse_mount(std::string_view text, container_spec& to);
/// The name of an object of some kind, as Docker allows: [a-zA-Z0-9][a-zA-Z0-9_.-]+. Throws invalid.
void check_name(std::string_view kind, std::string_view name, std::size_t most = 128, std::string_view advice = "");
void check_volume_name(std::string_view name);
resource_limit parse_ulimit(std::string_view text);  ///< "nofile=1024:4096"
option parse_sysctl(std::string_view text);          ///< "net.core.somaxconn=64": only what a namespace holds
/// A host's "name:address", the address as it stands in /etc/hosts; "host-gateway" stays.
void check_host(std::string_view text);
void check_address(std::string_view text);
/// "02:42:ac:11:00:02", of one station. Throws invalid.
void check_mac_address(std::string_view text);
/// "HOST[:CONTAINER][:rwm]" in three parts.
struct device_request {
  std::string source, target, access;
};
device_request parse_device(std::string_view text);
/// Limits that are out of range, or exclude each other. Throws invalid.
void check_limits(const container_spec&);
/// Options that exclude each other. Throws invalid.
void check_modes(const container_spec&);
int parse_signal(std::string_view text);  ///< "TERM", "SIGTERM", "15"
/// An adjective and a scientist, as Docker draws them: "eager_noether".
std::string draw_name(unsigned attempt);

}  // namespace kit
