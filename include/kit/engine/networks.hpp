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

/// What a user asks of a new network.
struct network_request {
  std::string name;
  std::string driver = "bridge";
  /// "10.89.0.0/20", at most one of each family. None: an IPv4 one is drawn that neither a route of the host nor another
  /// network has.
  std::vector<std::string> subnets;
  std::vector<std::string> gateways;  ///< each in one of the subnets; of one without, its first address
  bool ipv6 = false;                  ///< has an IPv6 subnet, too: drawn (a unique local one, RFC 4193) unless given
  std::vector<option> options;        ///< the driver's
  std::vector<option> labels;
};

/// Records a network and has its driver make it. Throws conflict (its name or a part of its subnet belongs to another),
/// invalid, unsupported, what the driver says; then nothing of it is left. Killed in between, it is recorded, and made
/// with its first container.
network_record create_network(engine&, const network_request&);
/// Has its driver remove what it made, and forgets it. Throws conflict while a container is on it, or for one that every
/// root has. Safe to repeat: what was killed is finished by the next, or by reconcile.
void remove_network(engine&, const network_record&);
/// Those that users made and no container is on or was made for.
std::vector<network_record> unused_networks(engine&);
/// The record as its driver wants it.
network as_network(engine&, const network_record&);
endpoint as_endpoint(engine&, const endpoint_record&, int netns);
/// JSON of an attachment as kept in the records, and back.
std::string to_json(const attachment&);
attachment attachment_from_json(std::string_view json);

}  // namespace kit
