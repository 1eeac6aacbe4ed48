// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kit/detail/function_ref.hpp"
#include "kit/storage/types.hpp"

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
unpacked unpack_archive(int from, int root, const unpack_limits& = {});

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
