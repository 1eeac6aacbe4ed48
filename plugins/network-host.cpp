// SPDX-License-Identifier: Apache-2.0
#include "drivers/network/host.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::host, "1.0", "Apache-2.0")
