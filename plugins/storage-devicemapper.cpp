// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/devicemapper.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::devicemapper, "1.0", "Apache-2.0")
