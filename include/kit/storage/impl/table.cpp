// SPDX-License-Identifier: Apache-2.0
#include "kit/storage/detail/table.hpp"

namespace kit::detail {

kit_layer to_abi(const layer& l, scratch& memory) {
  kit_layer raw{};
  raw.size = sizeof raw;
  raw.id = to_abi(l.id);
  raw.parents = memory.each<kit_id>(l.parents, [](const layer_id& id) { return to_abi(id); });
  raw.parent_count = l.parents.size();
  return raw;
}

layer_copy::layer_copy(const kit_layer* raw) {
  const kit_layer l = known(raw);
  id = from_abi<layer_id>(l.id);
  parents = from_abi<layer_id>(l.parents, l.parent_count);
}

access access_from_abi(std::uint32_t raw) { return known_enum(raw, access::live, "access"); }

void emit_mounts(const kit_sink& sink, const std::vector<mount>& mounts) {
  for (const mount& m : mounts) {
    scratch memory;
    emit(sink, to_abi(m, memory));
  }
}

void emit_layer(const kit_sink& sink, const layer_state& l) {
  emit(sink, kit_id_state{to_abi(l.id), static_cast<std::uint32_t>(l.is), 0});
}

void emit_change(const kit_sink& sink, const change& c) {
  kit_change raw{};
  raw.size = sizeof raw;
  raw.kind = static_cast<std::uint32_t>(c.what);
  raw.path = to_abi(c.path);
  emit(sink, raw);
}

}  // namespace kit::detail
