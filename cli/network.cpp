// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/networks.hpp"

#include <range/v3/algorithm/all_of.hpp>

#include "labels.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {

int network_create(invocation& call) {
  network_request wanted;
  std::vector<std::string> driver_options, labels;
  bool internal = false;
  const arguments words =
      options(call.command(), "NETWORK", "Make a network that containers can be put on, and print its id.")
          .value("-d,--driver", wanted.driver, "DRIVER", "Who makes it (bridge): see `kit driver ls`")
          .values("--subnet", wanted.subnets, "PREFIX", "10.89.0.0/20, fd00:1::/64; one is drawn if none is given")
          .values("--gateway", wanted.gateways, "ADDRESS", "The gateway's address (the first of each subnet)")
          .flag("--ipv6", wanted.ipv6, "With an IPv6 subnet, drawn if none is given")
          .flag("--internal", internal, "No way out and none in")
          .values("-o,--opt", driver_options, "KEY=VALUE", "An option of the driver: see `kit driver probe`")
          .values("--label", labels, "KEY=VALUE", "Mark the network")
          .takes(1, 1)
          .example("kit network create --ipv6 back")
          .example("kit network create -d macvlan --subnet 192.168.7.0/24 -o parent=eth0 lan")
          .example("kit run --rm --network back --ip 10.89.0.5 debian:12 ip address")
          .parse(call.words);
  wanted.name = words.front();
  wanted.labels = parse_labels({}, labels);
  for (const std::string& text : driver_options) {
    const auto equals = std::min(text.find('='), text.size());
    wanted.options.push_back({text.substr(0, equals), equals == text.size() ? "" : text.substr(equals + 1)});
  }
  if (internal) wanted.options.push_back({"internal", "true"});
  fmt::print("{}\n", create_network(call.engine(), wanted).id.text());
  return 0;
}

int network_ls(invocation& call) {
  listing list({{"ID", "NETWORK ID"},
                {"Name", "NAME"},
                {"Driver", "DRIVER"},
                {"Scope", "SCOPE"},
                {"Subnet", "SUBNET"},
                {"Labels", nullptr},
                {"CreatedAt", nullptr}});
  std::vector<std::string> filter_texts;
  options o(call.command(), "", "List networks.");
  list.bind(o);
  o.values("-f,--filter", filter_texts, "KEY=VALUE", "driver, id, label or name").parse(call.words);
  const std::vector<filter> filters = parse_filters(filter_texts, {"driver", "id", "label", "name"});
  ensure_default_networks(call.engine());
  for (const network_record& n : call.engine().records().networks()) {
    const auto passes = [&](const filter& f) {
      if (f.key == "driver") return n.driver == f.value;
      if (f.key == "id") return n.id.text().starts_with(f.value);
      if (f.key == "name") return n.name.find(f.value) != std::string::npos;
      return has_label(n.labels, f.value);
    };
    std::string subnets;
    for (const std::string& prefix : n.prefixes) subnets += (subnets.empty() ? "" : ", ") + prefix;
    if (ranges::all_of(filters, passes))
      list.add({std::string(list.full_ids() ? n.id.text() : n.id.brief()), n.name, n.driver, "local", subnets,
                join_labels(n.labels), local_time(n.created_ns)});
  }
  list.print();
  return 0;
}

int network_rm(invocation& call) {
  bool force = false;
  const arguments words = options(call.command(), "NETWORK [NETWORK...]", "Remove networks that no container is on.")
                              .flag("-f,--force", force, "One that is not there is no error")
                              .takes(1)
                              .example("kit network rm back")
                              .parse(call.words);
  ensure_default_networks(call.engine());
  return for_each(words, [&](const std::string& word) {
    if (!force || call.engine().records().find_network(word))
      remove_network(call.engine(), call.engine().records().network(word));
    fmt::print("{}\n", word);
  });
}

int network_prune(invocation& call) {
  bool force = false;
  std::vector<std::string> filter_texts;
  options(call.command(), "", "Remove networks that no container is on or was made for.")
      .flag("-f,--force", force, "Do not ask")
      .values("--filter", filter_texts, "KEY=VALUE", "label")
      .parse(call.words);
  const std::vector<filter> filters = parse_filters(filter_texts, {"label"});
  if (!force && !confirm("This will remove all custom networks not used by at least one container.")) return 0;
  bool first = true;
  for (const network_record& n : unused_networks(call.engine())) {
    if (!ranges::all_of(filters, [&](const filter& f) { return has_label(n.labels, f.value); })) continue;
    try {
      remove_network(call.engine(), n);
    } catch (const error& e) {
      if (e.code() != errc::conflict) throw;  // used since
      continue;
    }
    fmt::print("{}{}\n", first ? "Deleted Networks:\n" : "", n.name);
    first = false;
  }
  return 0;
}

}  // namespace kit::cli
