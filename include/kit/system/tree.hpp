// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kit/detail/function_ref.hpp"

/// \file
/// Directory trees walked through descriptors, so that they need not be attached anywhere: compared, copied, measured
/// and deleted.

namespace kit {

/// Whether `a` and `b` (descriptors opened O_PATH | O_NOFOLLOW, of anything) are alike: type, mode, owner, and
/// extended attributes; for all but directories also size, modification time, device number, link target and
/// content. Inode numbers, link counts, access and change times are no part of it. Throws io for what cannot be read.
bool same_entry(int a, int b);

/// All extended attributes of what `fd` (O_PATH will do) refers to, by name; none where the file system has none.
std::map<std::string, std::string> extended_attributes(int fd);

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

/// Of the directory that both trees have at `path`, the entries that may differ or contain what differs; without an
/// answer all are looked at, there and below.
using names_to_look_at =
    function_ref<std::optional<std::vector<std::string>>(const std::string& path, int before, int after)>;
/// The same answer as without `names`, for who knows where to look.
void compare_trees(int before, int after, names_to_look_at names,
                   function_ref<void(difference, const std::string& path)> out);

/// How a union file system writes deletions down in the directory that holds a layer's differences.
enum class whiteouts : std::uint32_t {
  overlay = 1,  ///< a device 0/0 under the name itself; an opaque directory has trusted.overlay.opaque=y
  aufs = 2,     ///< `.wh.NAME`; an opaque directory holds `.wh..wh..opq`; all other `.wh..wh.*` are aufs's own books
};

/// The same answer for an `after` that is a union over `before` with the differences in directory `upper`, written in
/// the manner of `how`, at the cost of what stands in `upper`. For overlays made with redirect_dir and metacopy off:
/// there, what is not in the upper directory is as it was.
void compare_union(int before, int after, int upper, whiteouts how,
                   function_ref<void(difference, const std::string& path)> out);

/// Gives `to` the mode, owner, extended attributes (capabilities and ACLs among them) and modification time of `from`;
/// both are open directories. Attributes by which overlayfs keeps its own books are left out.
void copy_status(int from, int to);

/// Makes the empty directory `to` a copy of the directory `from`, the two roots included: names of any bytes, types,
/// modes, owners, times to the nanosecond, extended attributes, devices, sockets, holes, and hard links among what is
/// copied. Content is shared where the file system can (FICLONE), copied in the kernel elsewhere. `from` must not
/// change meanwhile. Of many files, by several threads, which have ended when it returns. Answers to this_call():
/// cancelled within a few MiB, progress in bytes.
void copy_tree(int from, int to);

/// Makes `to` alike to `from` if it is alike to what `from` was before `paths` changed there, as compare_trees tells them:
/// types, content, modes, owners, times, extended attributes, and which names are links to one file; times of directories
/// that are no change, too. What stands at a path of `to` is replaced, never written. Costs the changes, and a look at
/// every name. Both must not change meanwhile. Answers to this_call().
void carry_changes(int from, int to, std::span<const std::string> paths);

struct tree_size {
  std::uint64_t bytes = 0;   ///< allocated on disk: st_blocks * 512
  std::uint64_t inodes = 0;  ///< each once, however many links it has; the directory itself is counted
};
/// What stands in `directory` itself under one of the names `without` is left out, with all below it.
tree_size measure_tree(int directory, std::span<const std::string_view> without = {});

/// Of the bytes that measure_tree(directory) counts, those that stand on disk where a file below `other` stands, too:
/// because one was cloned from the other.
std::uint64_t shared_bytes(int directory, int other);

/// Removes the directory `path` and all in it, as remove_tree does, until the clock strikes `until`. Answers whether it
/// is gone; the rest can be removed by another call. Answers to this_call(). What vanishes meanwhile counts as removed.
bool remove_tree_until(const std::string& path, std::chrono::steady_clock::time_point until);

}  // namespace kit
