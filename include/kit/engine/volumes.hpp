// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kit/engine/engine.hpp"
#include "kit/engine/reconcile.hpp"
#include "kit/engine/spec.hpp"
#include "kit/image/oci.hpp"

/// \file
/// # Volumes
///
/// A volume is a directory that outlives containers, and that several may show: ROOT/volumes/NAME/_data, with a row in
/// the records. No storage driver has a part in it. A container that is recorded, in whatever state, keeps the volumes
/// its specification names.
///
/// The directory comes before the row and goes after it: a directory without a row, whose lock nobody holds, was left by
/// a command that was killed. Whoever makes, fills or removes a volume holds the lock of ROOT/volumes/NAME.

namespace kit {

/// Where its files are on the host.
std::string volume_path(const engine&, std::string_view name);

/// Throws not_found ("no such volume: X").
volume_record find_volume(engine&, std::string_view name);
/// Makes it, or answers the one there is, as it is. An empty name: one is drawn. Throws invalid for a bad name.
volume_record create_volume(engine&, const std::string& name, const std::vector<option>& labels);
/// Throws not_found, or conflict, naming them, while containers use it.
void remove_volume(engine&, const std::string& name);
/// The containers that show it, in any state.
std::vector<container_record> volume_users(engine&, std::string_view name);
/// Volumes that no container uses: only those whose names were drawn, or `all`.
std::vector<volume_record> unused_volumes(engine&, bool all);

// ---- of containers ---------------------------------------------------------------------------------

/// Whether a specification as the records keep it shows a volume: a look at its text.
bool shows_volumes(const container_record&);
/// Replaces volumes_from by what those containers show, adds the image's VOLUMEs, draws names for volumes without one, and
/// checks the whole. Throws invalid ("duplicate mount point: /x"), not_found for a container, or a host path that must
/// exist.
void settle_mounts(engine&, container_spec&, const image_config&);

/// The volumes of a container that is being made: held from here until its record is written, so that nobody takes them
/// away in between.
class held_volumes {
 public:
  held_volumes() = default;
  /// Makes those that are absent, and fills those that are empty from `root`, the container's root file system. Half a
  /// filling is never seen: it is made beside the volume, and moved there once it is whole.
  held_volumes(engine&, const container_spec&, int root);
  held_volumes(held_volumes&&) = default;
  held_volumes& operator=(held_volumes&&) = default;

  /// In the transaction that inserts the container.
  void record(engine&) const;
  /// Instead: takes away those that are not recorded.
  void forget(engine&) noexcept;

 private:
  std::vector<std::pair<std::string, file_lock>> held_;
  std::vector<volume_record> made_;
};

/// In the transaction that removes the container: strikes out those of its anonymous volumes that no other shows, and
/// answers them, for remove_volume_directories after it.
std::vector<std::string> strike_anonymous_volumes(engine&, const container_record&);
void remove_volume_directories(engine&, const std::vector<std::string>& names);

/// Directories without a row, and rows without a directory: a part of reconcile().
void check_volumes(engine&, bool dry_run, std::vector<finding>& out);

}  // namespace kit
