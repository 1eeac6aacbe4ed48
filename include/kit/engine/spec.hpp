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
  std::string workdir, user, hostname;
  std::string stop_signal;                  ///< empty: the image's, or SIGTERM
  std::string network, storage, isolation;  ///< empty: the engine's default
  std::vector<std::string> cap_add, cap_drop;
  std::uint64_t memory = 0;     ///< bytes, 0: no limit
  std::uint64_t shm_size = 0;   ///< bytes of /dev/shm, 0: 64 MiB
  double cpus = 0;              ///< 0: no limit
  std::int64_t pids_limit = 0;  ///< 0: no limit
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
/// A name as Docker allows for a volume: [a-zA-Z0-9][a-zA-Z0-9_.-]+. Throws invalid.
void check_volume_name(std::string_view name);
int parse_signal(std::string_view text);  ///< "TERM", "SIGTERM", "15"
/// A name as Docker allows: [a-zA-Z0-9][a-zA-Z0-9_.-]+. Throws invalid.
void check_container_name(std::string_view name);
/// An adjective and a scientist, as Docker draws them: "eager_noether".
std::string draw_name(unsigned attempt);

}  // namespace kit
