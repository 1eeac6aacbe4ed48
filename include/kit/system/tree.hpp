// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>

#include "kit/detail/function_ref.hpp"

/// \file
/// Two directory trees compared through descriptors, so that neither has to be attached anywhere.

namespace kit {

/// Whether `a` and `b` (descriptors opened O_PATH | O_NOFOLLOW, of anything) are alike: type, mode, owner, and
/// extended attributes; for all but directories also size, modification time, device number, link target and
/// content. Inode numbers, link counts, access and change times are no part of it. Throws io for what cannot be read.
bool same_entry(int a, int b);

/// What became of a path from one tree to the other.
enum class difference : std::uint32_t { added = 1, modified = 2, deleted = 3 };

/// Tells `out` every path at which the tree under directory `after` differs from that under `before`, sorted
/// bytewise, each once, relative, without a leading slash; the roots themselves are the empty path. Entries are
/// compared by same_entry. Of a directory that is gone only itself is told, of one that is new everything; one that
/// was something else before is `modified` and everything in it `added`. `before` -1 stands for an empty directory,
/// 0755 root:root without extended attributes.
///
/// No symlink is followed. What vanishes during the walk counts as absent. Holes are not read. Answers to
/// this_call() between files. Holds two descriptors per level of depth.
void compare_trees(int before, int after, function_ref<void(difference, const std::string& path)> out);

}  // namespace kit
