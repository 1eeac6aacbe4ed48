// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/network/concept.hpp"

namespace kit::drivers {

/// A bridge per network that bears the gateway addresses, a veth pair per endpoint, and NAT to the outside.
///
/// On the host, in the network namespace of the calling thread:
///  - n.link is the bridge, e.link the host end of a veth whose other end is born in the container's namespace.
///  - One nftables table `inet kit_<root tag>` with two chains of constant length; networks and their subnets are
///    elements of its sets, each with its owner as comment. It masquerades what leaves a subnet for anything but a
///    bridge of kit's, and drops what goes between two networks, and between an internal one and anywhere. It only
///    ever drops: where another tool's rules drop what is forwarded (Docker's do), probe and status tell.
///  - A subnet that overlaps one the host reaches over another link, another root's bridge say, is refused: conflict.
///  - ip_forward and its IPv6 sister are turned on when the first network needs them, and stay on; `run_dir/forwarding`
///    names those that were off.
/// Attaching uses netlink alone; nftables is loaded by create, remove, probe and status.
class bridge {
 public:
  explicit bridge(const driver_config& config);
  static constexpr std::string_view name() { return "bridge"; }
  /// mtu, masquerade (true), internal (false): options of a network.
  static std::vector<option_schema> options();
  static network_traits traits() { return {}; }
  probe_report probe() const;

  void create(const network& n);
  void remove(const network& n);
  attachment attach(const network& n, const endpoint& e);
  void detach(const network& n, const endpoint& e, const attachment& a);
  void check(const network& n, const endpoint& e, const attachment& a);
  void collect(const network& n, std::span<const endpoint_id> valid);
  void status(const network& n);

 private:
  class rules;
  void turn_on_forwarding(const std::string& key);
  std::string run_dir_;
  std::string root_tag_;
};

}  // namespace kit::drivers
