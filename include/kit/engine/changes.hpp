// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/engine/open_layer.hpp"
#include "kit/storage/concept.hpp"
#include "kit/system/tree.hpp"

namespace kit {

/// The difference between `l` and its chain, in the order and with the meaning that storage/concept.hpp gives to
/// `reports_changes`: from the driver where it can, else by comparing both views. Of a layer that is being written,
/// a moment's answer. Throws what the driver throws.
template <storage_driver D>
void changes(D& d, const layer& l, change_sink out) {
  if constexpr (reports_changes<D>)
    if (can(d, storage_ability::reports_changes)) return d.changes(l, out);
  const unique_fd after = open_layer(d, l, access::live);
  unique_fd before;
  if (!l.parents.empty()) before = open_layer(d, layer{l.parents.front(), l.parents.subspan(1)}, access::read_only);
  compare_trees(before.get(), after.get(), [&](difference what, const std::string& path) {
    out(change{static_cast<change::kind>(what), path});
  });
}

}  // namespace kit
