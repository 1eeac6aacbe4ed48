// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kit/driver.hpp"

namespace kit {

/// A host directory or file shown in the container (`-v HOST:CONTAINER[:OPTIONS]`).
struct volume {
  std::string source;                ///< absolute host path; made as a directory if it is absent
  std::string target;                ///< absolute path in the container
  std::vector<std::string> options;  ///< "ro", "rw", "rshared", ...
  bool operator==(const volume&) const = default;
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
  std::vector<volume> volumes;
  std::vector<option> tmpfs;  ///< target and options: {"/tmp", "size=64m"}
  std::string workdir, user, hostname;
  std::string stop_signal;                  ///< empty: the image's, or SIGTERM
  std::string network, storage, isolation;  ///< empty: the engine's default
  std::vector<std::string> cap_add, cap_drop;
  std::uint64_t memory = 0;     ///< bytes, 0: no limit
  double cpus = 0;              ///< 0: no limit
  std::int64_t pids_limit = 0;  ///< 0: no limit
  bool interactive = false, tty = false, detach = false, auto_remove = false;
  bool read_only = false, init = false, privileged = false;
};

std::string to_json(const container_spec&);
container_spec spec_from_json(std::string_view json);

/// Parsers of Docker's notations; each throws invalid, quoting the text.
volume parse_volume(std::string_view text);
option parse_tmpfs(std::string_view text);
int parse_signal(std::string_view text);  ///< "TERM", "SIGTERM", "15"
/// A name as Docker allows: [a-zA-Z0-9][a-zA-Z0-9_.-]+. Throws invalid.
void check_container_name(std::string_view name);
/// An adjective and a scientist, as Docker draws them: "eager_noether".
std::string draw_name(unsigned attempt);

}  // namespace kit
