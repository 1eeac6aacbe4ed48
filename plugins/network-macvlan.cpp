// SPDX-License-Identifier: Apache-2.0
#include "drivers/network/macvlan.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::macvlan, "1.0", "Apache-2.0")
