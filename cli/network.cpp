// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/networks.hpp"

#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {

int network_ls(invocation& call) {
  listing list({{"ID", "NETWORK ID"},
                {"Name", "NAME"},
                {"Driver", "DRIVER"},
                {"Scope", "SCOPE"},
                {"Subnet", "SUBNET"},
                {"CreatedAt", nullptr}});
  options o(call.command(), "", "List networks.");
  list.bind(o);
  o.parse(call.words);
  ensure_default_networks(call.engine());
  for (const network_record& n : call.engine().records().networks())
    list.add({std::string(list.full_ids() ? n.id.text() : n.id.brief()), n.name, n.driver, "local",
              n.prefixes.empty() ? "" : n.prefixes.front(), local_time(n.created_ns)});
  list.print();
  return 0;
}

}  // namespace kit::cli
