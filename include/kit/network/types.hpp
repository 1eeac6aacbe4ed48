// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kit/driver.hpp"
#include "kit/id.hpp"

namespace kit {

/// An address range of a network and the address of its gateway within it: {"10.89.0.0/20",
/// "10.89.0.1"} or {"fd00:1::/64", "fd00:1::1"}.
struct subnet {
  std::string prefix;
  std::string gateway;
  bool operator==(const subnet&) const = default;
};

/// A network as a driver sees it.
struct network {
  network_id id;
  std::string name;   ///< the operator's word, for messages
  std::string link;   ///< name of the one host link this network may own: unique on the host among
                      ///< all kit roots, at most 15 bytes (IFNAMSIZ)
  std::string owner;  ///< "kit:<root tag>:<id>": written on every kernel object made (ifalias, comment)
  std::vector<subnet> subnets;
  std::vector<option> options;  ///< the operator's `--opt`
};

/// One container on one network.
struct endpoint {
  endpoint_id id;
  std::string owner;                   ///< "kit:<root tag>:<id>"
  int netns = -1;                      ///< the container's network namespace; the caller's descriptor; -1 in
                                       ///< detach when it is gone
  std::string interface_name;          ///< inside the namespace, "eth0"
  std::string link;                    ///< name of the one host link it may own, as in network::link
  std::string mac;                     ///< empty: the driver chooses
  std::vector<std::string> addresses;  ///< "10.89.0.5/20", leased by the engine; empty if the driver
                                       ///< assigns them
  std::vector<option> options;
};

/// What attach answered: a CNI 1.1 result (spec, section 5), and bytes of the driver's own. The engine
/// stores it and hands it back to detach and check.
struct attachment {
  struct interface {
    std::string name;
    std::string mac;
    std::uint32_t mtu = 0;
    bool inside = false;  ///< in the container's namespace
    bool operator==(const interface&) const = default;
  };
  struct ip {
    std::string address;                ///< with prefix length: "10.89.0.5/20"
    std::string gateway;                ///< may be empty
    std::uint32_t interface_index = 0;  ///< into `interfaces`
    bool operator==(const ip&) const = default;
  };
  struct route {
    std::string destination;  ///< "0.0.0.0/0"
    std::string gateway;
    bool operator==(const route&) const = default;
  };
  std::vector<interface> interfaces;
  std::vector<ip> ips;
  std::vector<route> routes;
  std::vector<std::string> nameservers;
  std::vector<std::string> search;
  std::string driver_data;
  bool operator==(const attachment&) const = default;
};

/// Whose network namespace a container on this network has.
enum class netns : std::uint32_t { own = 1, host = 2 };

/// What kind of network a driver makes: constants of the driver, needed before any call.
struct network_traits {
  netns network_namespace = netns::own;
  bool assigns_addresses = false;  ///< brings its own address management (cni, dhcp); otherwise the
                                   ///< engine leases addresses and hands them in
  bool publishes_ports = false;
};

}  // namespace kit
