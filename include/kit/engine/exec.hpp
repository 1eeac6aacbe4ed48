// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "kit/engine/attach.hpp"

namespace kit {

struct exec_spec {
  std::vector<std::string> command;
  std::vector<std::string> env;
  std::string workdir, user;
  bool interactive = false, tty = false, detach = false, privileged = false;
  std::string detach_keys = "ctrl-p,ctrl-q";
};

/// Runs one more process in a running container, with this process's stdio (or a terminal of its own), and
/// answers its exit code: 128+n for a signal, 0 at once if detached. Throws not_found / permission for the
/// program (exit 127 / 126), conflict if the container is not running or is paused.
int exec(engine&, const container_id&, const exec_spec&);

}  // namespace kit
