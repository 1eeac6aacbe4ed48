// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "host.hpp"

namespace kit::bench {

/// `kit-bench density`.
int density_command(const command& words);

}  // namespace kit::bench
