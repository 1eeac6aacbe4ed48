// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

namespace kit {

/// Executes the command in a session of its own, without the standard streams of this one. Nobody waits for it. `kept`: a
/// descriptor that it inherits. A failure is logged.
void run_beside(std::vector<std::string> command, int kept = -1);

}  // namespace kit
