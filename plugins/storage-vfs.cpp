// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/vfs.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::vfs, "1.0", "Apache-2.0")
