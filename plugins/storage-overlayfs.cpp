// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/overlayfs.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::overlayfs, "1.0", "Apache-2.0")
