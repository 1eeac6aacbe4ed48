// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "host.hpp"

namespace kit::bench {

/// `kit-bench startup`.
int startup_command(const command& words);
/// `kit-bench times`: the same loop for any commands.
int times_command(const command& words);

}  // namespace kit::bench
