// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kit/detail/function_ref.hpp"
#include "kit/storage/types.hpp"
#include "kit/system/tree.hpp"

/// \file
/// Layers as archives: tar (pax, GNU, ustar), plain or compressed by gzip or zstd, with OCI whiteouts
/// (image specification, "Layer Filesystem Changeset"). libarchive reads and writes; this room decides where bytes may go.
/// Linked only into what handles images (kit::archive), never into the start path.

namespace kit {

/// What an untrusted archive may take before it is refused (no_space).
struct unpack_limits {
  std::uint64_t entries = 2'000'000;
  std::uint64_t bytes = 1ull << 40;  ///< of all regular files, holes included
  std::uint64_t ratio = 1000;        ///< unpacked : read, once over 1 GiB
};

struct unpacked {
  std::string diff_id;  ///< "sha256:..." of the uncompressed archive, to its last byte
  std::string digest;   ///< of the bytes read
  std::uint64_t bytes_read = 0;
  std::uint64_t entries = 0;
};

/// Applies the archive on `from` to the tree at `root` (a descriptor of the mounted view of the layer: what lies below
/// is visible). `.wh.NAME` deletes, `.wh..wh..opq` empties. Keeps mode, owner, times, hard links, xattrs, file
/// capabilities, devices, fifos, sparse regions. Every name is resolved inside root (openat2 RESOLVE_IN_ROOT); a parent that
/// is a symlink is followed only within root, an entry replaces what is in its way, never what it points
/// to. Throws invalid, naming the entry, for a name with "..", an absolute hard link target that leads
/// nowhere, truncation, a bad checksum, a malformed whiteout. Reads to the end of the stream. Answers to this_call().
///
/// A directory that entries lie in and that is no entry itself keeps all it had, its time included; one that is
/// missing is made, 0755 root:root, with the time of the first entry that needs it.
unpacked unpack_archive(int from, int root, const unpack_limits& = {});

/// Unpacks the archive of a layer while those below it are not there to be seen, so that the layers of an image need not
/// wait for each other. In the end `root` holds what unpack_archive would have changed in a view of the layers below,
/// with deletions written as `deletions` tells: the tree of a layer that can be rebased (kit/storage/concept.hpp).
///
/// A few archives cannot be told without what they change: where names lead through a symlink, where a hard link's
/// target is not among the entries, where the root itself is emptied. They are to be unpacked by unpack_archive.
class archive_unpacked_alone {
 public:
  /// `root`: a directory, empty, for whose path the same holds as in unpack_archive.
  archive_unpacked_alone(int root, whiteouts deletions);
  ~archive_unpacked_alone();
  archive_unpacked_alone(const archive_unpacked_alone&) = delete;
  archive_unpacked_alone& operator=(const archive_unpacked_alone&) = delete;

  /// Once. As unpack_archive; nothing if the archive cannot be unpacked alone: then `root` is of no use any more.
  std::optional<unpacked> unpack(int from, const unpack_limits& = {});
  /// Then, once: adds what depends on the tree below (a descriptor of its root). Directories on the way to entries get
  /// its status; deletions of what it does not have go. Answers whether that sufficed, as above.
  [[nodiscard]] bool complete(int below);

 private:
  class tree;
  std::unique_ptr<tree> tree_;
};

/// Writes the tree at `root` as an uncompressed pax archive to `to`, sorted, and answers its diff_id and size: the
/// same tree gives the same bytes. pack_changes: only what `changes` names, with the directories above it, deletions as
/// whiteouts. Holes of a MiB and more are not written.
struct packed {
  std::string diff_id;
  std::uint64_t bytes = 0;
};
packed pack_archive(int root, int to);
packed pack_changes(int root, const std::vector<change>& changes, int to);

/// Writes what `fd` (O_PATH, of anything) refers to, under the name `as` ("." for a directory's content), and all below
/// it, following nothing. It may be written to meanwhile: what vanishes is left out, a file has the size it began with.
void pack_entry(int fd, const std::string& as, int to);

/// Where unpack_entries puts things.
struct entry_target {
  int root = -1;               ///< names are resolved inside it
  std::string directory;       ///< in root: where they begin
  bool follows_links = false;  ///< to directories, within root; else a link on the way is refused
  bool owners = true;  ///< the archive's; else files are the caller's, without set-user-id bits and capabilities
};
/// Puts the entries of the tar stream on `from`, no layer, below a directory that is in use: a file is replaced once its
/// copy is whole, a directory never by something else, nor the reverse (conflict). Throws invalid for a name with "..";
/// else as unpack_archive.
void unpack_entries(int from, const entry_target&);

/// The digests of a layer's archive as unpack_archive would answer them, nothing unpacked.
unpacked digest_archive(int from, const unpack_limits& = {});

/// SHA-256 of `bytes`, as "sha256:HEX".
std::string sha256(std::string_view bytes);

}  // namespace kit
