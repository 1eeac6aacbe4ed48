// SPDX-License-Identifier: Apache-2.0
#include "drivers/network/none.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::none, "1.0", "Apache-2.0")
