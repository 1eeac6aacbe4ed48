// SPDX-License-Identifier: Apache-2.0
#include "kit/system/mount.hpp"

#include <linux/mount.h>

namespace kit {

mount mount::bind(std::string directory, bool read_only) {
  mount m;
  m.fstype = "bind";
  m.source = std::move(directory);
  if (read_only) m.attributes = MOUNT_ATTR_RDONLY;
  return m;
}

}  // namespace kit
