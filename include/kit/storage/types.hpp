// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "kit/detail/function_ref.hpp"
#include "kit/driver.hpp"
#include "kit/id.hpp"
#include "kit/system/mount.hpp"

namespace kit {

/// A unit of storage and the frozen layers below it: what every storage call carries. A view; the
/// ids belong to the caller.
struct layer {
  const layer_id& id;
  std::span<const layer_id> parents;  ///< the chain, nearest first; empty for a base layer
};

/// How a caller wants to see a layer.
enum class access : std::uint32_t {
  read_write = 1,  ///< a layer that is not frozen, by at most one caller at a time (the engine's duty)
  read_only = 2,   ///< a frozen layer
  live = 3,        ///< read only, of a layer that somebody else may be writing: a moment's view, for
                   ///< commit without pause, cp and diff; torn files are the reader's to accept
};

/// What layers() knows of one id.
struct layer_state {
  enum class state : std::uint32_t {
    partial = 1,  ///< create or remove began and did not end; remove() it, or create() it whole
    writable = 2,
    frozen = 3,
  };
  layer_id id;
  state is = state::partial;
  bool operator==(const layer_state&) const = default;
};

/// What one layer alone takes: not its parents. Bytes are those allocated on disk (st_blocks * 512
/// where the driver keeps files), inodes are files, directories and links.
struct disk_usage {
  std::uint64_t bytes = 0;
  std::uint64_t inodes = 0;
};

/// One difference between a layer and the view of its parents.
struct change {
  enum class kind : std::uint32_t { added = 1, modified = 2, deleted = 3 };
  kind what = kind::modified;
  std::string path;  ///< relative to the layer's root, no leading slash; bytes, not necessarily UTF-8
  bool operator==(const change&) const = default;
};

using layer_sink = function_ref<void(const layer_state&)>;
using change_sink = function_ref<void(const change&)>;

}  // namespace kit
