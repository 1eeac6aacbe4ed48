// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/storage/concept.hpp"

namespace kit {

/// The tree of `l` as a detached mount: a descriptor of its root, to be walked by openat(2) or attached. Wakes the
/// layer's device for as long as mounting takes if the driver `activates`; the kernel keeps what is mounted. For
/// `userns` see make_detached. Throws what mounts() and make_detached() throw.
template <storage_driver D>
unique_fd open_layer(D& d, const layer& l, access a, int userns = -1) {
  if constexpr (activates<D>) {
    if (can(d, storage_ability::activates)) {
      d.activate(l, a);
      unique_fd tree;
      try {
        tree = make_detached(d.mounts(l, a), userns);
      } catch (...) {
        d.release(l);
        throw;
      }
      d.release(l);
      return tree;
    }
  }
  return make_detached(d.mounts(l, a), userns);
}

}  // namespace kit
