// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "kit/engine/engine.hpp"

namespace kit {

/// One line of a container's log: Docker's json-file form, {"log":"...\n","stream":"stdout","time":"..."}.
struct log_entry {
  std::string text;  ///< with its newline, if the program wrote one; exact bytes
  bool is_stderr = false;
  std::string time;  ///< RFC 3339, nanoseconds, UTC
};

struct log_options {
  bool follow = false;       ///< goes on until the container exits, and then to the log's last byte
  std::int64_t tail = -1;    ///< last N lines; -1: all
  std::string since, until;  ///< RFC 3339 or empty
};

/// Reports entries in the order they were written.
void read_log(engine&, const container_id&, const log_options&, function_ref<void(const log_entry&)> out);

}  // namespace kit
