// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kit/engine/engine.hpp"

namespace kit {

/// The networks every root has: "bridge", "host", "none". Made in the records on first use; the bridge's
/// subnet is drawn from the root's tag, away from the host's routes.
void ensure_default_networks(engine&);
network_record find_network(engine&, std::string_view name_or_id);
/// The record as its driver wants it.
network as_network(engine&, const network_record&);
endpoint as_endpoint(engine&, const endpoint_record&, int netns);
/// JSON of an attachment as kept in the records, and back.
std::string to_json(const attachment&);
attachment attachment_from_json(std::string_view json);

}  // namespace kit
