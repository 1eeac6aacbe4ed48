// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/btrfs.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::btrfs, "1.0", "Apache-2.0")
