// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kit/system/fd.hpp"

/// \file
/// A mount as a value, and the one function that makes mounts from such values, detached.

namespace kit {

/// One option of a mount: a key and what fsconfig(2) needs to know about its value.
struct mount_option {
  struct flag {};  ///< FSCONFIG_SET_FLAG: "ro", "metacopy"
  struct path {
    std::string value;
  };  ///< an absolute host path; the executor opens (and may idmap) it
  struct paths {
    std::vector<std::string> values;
  };  ///< a colon list in one option: `lowerdir` before Linux 6.7.
      ///< The executor shortens it so that it fits one page.
  struct result {
    std::size_t entry = 0;
  };  ///< the root of what an earlier entry of the list made
  std::string key;
  std::variant<flag, std::string, path, paths, result> value;
};

/// The description of one mount. A list of them is made in order; the last `make` entry is the root
/// of the result, and an entry before it is reached only through mount_option::result (an erofs image
/// under an overlay), or by `target`.
struct mount {
  enum class action : std::uint32_t {
    make = 1,
    reconfigure = 2,  ///< options for the last entry made, one FSCONFIG_CMD_RECONFIGURE (aufs branches)
  };
  std::string fstype;            ///< as in /proc/filesystems; "bind" clones `source` by open_tree(2)
  std::string source;            ///< device or host path; empty where the file system has none
  std::string target;            ///< empty: becomes the root; else a path inside the root made by an earlier
                                 ///< entry, resolved inside it, where this one is put on top
  std::uint64_t attributes = 0;  ///< MOUNT_ATTR_* of mount_setattr(2)
  std::vector<mount_option> options;
  action what = action::make;

  /// `directory` of the host, alone (not what is mounted below it).
  static mount bind(std::string directory, bool read_only);
};

/// Makes `list` without attaching it anywhere: fsopen(2), fsconfig(2), fsmount(2), open_tree(2),
/// move_mount(2). The answer is a descriptor of the root (O_CLOEXEC): walk it by openat, or give it
/// to attach_mount. When it is closed unattached, everything it holds is unmounted by the kernel.
/// Where the kernel is too old for a list, or the options exceed what fsconfig takes (256 bytes a value), a helper
/// process mounts in a private namespace and hands the clone out: same answer, slower.
///
/// `userns` is -1, or a user namespace by whose mapping every path option, bind source and file system on a device is
/// idmapped (mount_setattr(2), MOUNT_ATTR_IDMAP). Path options beside each other in one directory (upperdir and
/// workdir) come under one clone of that directory, which must belong to root: the file system is then made as the
/// mapping's root, so that it can write there, and what it writes has unmapped owners on disk. Needs CAP_SYS_ADMIN in the initial namespaces.
/// Throws: invalid for a malformed list; otherwise what the kernel answered with its own message
/// (read from the fs context), naming file system and option.
unique_fd make_detached(std::span<const mount> list, int userns = -1);

/// Whether the running kernel's overlayfs takes `lowerdir+` (Linux 6.7).
bool overlay_appends_lowers();

/// move_mount(2) of a detached tree onto an open directory. Async-signal-safe; 0 or -errno.
int attach_mount(int tree, int target_directory) noexcept;

}  // namespace kit
