// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string_view>
#include <vector>

#include "kit/storage/concept.hpp"
#include "kit/system/error.hpp"

namespace kit {

/// What --storage-opt asks of a container's writable layer, taken apart.
struct storage_request {
  std::uint64_t size = 0;       ///< bytes that the layer may take, 0: no limit
  std::vector<option> options;  ///< the driver's own words

  /// Throws unsupported if there is a size and d cannot limit one here, invalid if it is none.
  template <storage_driver D>
  storage_request(const D& d, const std::vector<option>& wanted) {
    for (const option& o : wanted) {
      if (o.key != "size") {
        options.push_back(o);
        continue;
      }
      size = parse_size(o.value);
      if (size != 0 && !can(d, storage_ability::limits_size))
        fail(
            errc::unsupported,
            "--storage-opt size={}: storage driver {} cannot limit the size of a layer here; see `kit driver probe {}`",
            o.value, std::string_view(d.name()), std::string_view(d.name()));
    }
  }

  /// As d.create, with what was asked for.
  template <storage_driver D>
  void create(D& d, const layer& l) const {
    d.create(l, options);
    if constexpr (limits_size<D>)
      if (size != 0) d.limit(l.id, size);
  }
};

}  // namespace kit
