// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/reflink.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::reflink, "1.0", "Apache-2.0")
