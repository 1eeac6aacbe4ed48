// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>
#include <string>
#include <vector>

#include "drivers/storage/detail/layer_store.hpp"
#include "kit/storage/types.hpp"

namespace kit::drivers::detail {

/// What drivers have in common whose layers are whole trees of plain files: a new one is a copy of its nearest parent.
/// Where the file system can, files share their extents with those they were copied from.
class whole_trees {
 public:
  whole_trees(std::string_view driver, const driver_config& config);

  void create(const layer& l, std::span<const option> options);
  std::vector<mount> mounts(const layer& l, access how);
  void freeze(const layer_id& id) { store_.freeze(id); }
  void remove(const layer_id& id) { store_.remove(id); }
  void layers(layer_sink out) { store_.layers(out); }

  /// All that the layer shows.
  disk_usage usage(const layer& l);

 protected:
  /// Facts of the host and the file system. Not usable, with the reason, where no layer could be made.
  [[nodiscard]] probe_report probe_directory() const;
  [[nodiscard]] const layer_store& store() const { return store_; }
  /// Of a whole layer.
  [[nodiscard]] std::string tree_of(const layer_id& id) const;

 private:
  std::string_view driver_;
  layer_store store_;
};

}  // namespace kit::drivers::detail
