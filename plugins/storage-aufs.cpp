// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/aufs.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::aufs, "1.0", "Apache-2.0")
