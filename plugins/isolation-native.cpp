// SPDX-License-Identifier: Apache-2.0
#include "drivers/isolation/native.hpp"
#include "kit/plugin/export.hpp"

KIT_PLUGIN(kit::drivers::native, "1.0", "Apache-2.0")
