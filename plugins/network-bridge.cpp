// SPDX-License-Identifier: Apache-2.0
#include "drivers/network/bridge.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::bridge, "1.0", "Apache-2.0")
