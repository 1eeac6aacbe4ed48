// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kit/system/ip.hpp"

struct nl_msg;
struct nl_sock;

/// \file
/// Links, addresses and routes by rtnetlink(7), over libnl-3: what a socket sees, and batches of changes that go to
/// the kernel in one write.

namespace kit {

/// A link as the kernel tells it.
struct net_link {
  std::uint32_t index = 0;
  std::string name;
  std::string kind;   ///< "bridge", "veth", "macvlan"; empty for hardware and lo
  std::string alias;  ///< ifalias: where kit writes the owner
  std::string mac;    ///< "02:42:0a:59:00:05"
  std::uint32_t mtu = 0;
  std::uint32_t master = 0;  ///< index of the bridge it is a port of; 0: none
  std::uint32_t lower = 0;   ///< index of a veth's other end or a macvlan's parent, in *its* namespace; 0: none
  bool up = false;           ///< as asked for (IFF_UP), not whether a cable is in
};

struct net_route {
  ip_prefix destination;  ///< length 0: the default route
  std::optional<ip_address> gateway;
  std::uint32_t link = 0;         ///< index
  bool by_router_advert = false;  ///< learnt from an IPv6 router
  bool operator==(const net_route&) const = default;
};

/// What can be set on a link. What is left empty stays as it is.
struct link_settings {
  std::string alias = {};
  std::string mac = {};
  std::uint32_t mtu = 0;
  std::optional<std::uint32_t> master = {};  ///< 0 takes it off its bridge
  std::optional<bool> up = {};
  bool no_link_local = false;  ///< the kernel makes no IPv6 address by itself (addrgenmode none): no DAD, no multicast
  int netns = -1;              ///< moves it there
};

/// What kinds of link can be made.
struct bridge_link {
  bool multicast_snooping = false;
};
struct veth_link {
  std::string peer;  ///< name of the other end
  std::string peer_mac = {};
  std::uint32_t peer_mtu = 0;
  int peer_netns = -1;  ///< made there at once; -1: beside this end
};
struct macvlan_link {
  enum class mode : std::uint32_t { private_ = 1, vepa = 2, bridge = 4, passthru = 8 };  // MACVLAN_MODE_*
  std::uint32_t parent = 0;                                                              ///< index
  mode how = mode::bridge;
};
using link_kind = std::variant<bridge_link, veth_link, macvlan_link>;

/// Changes in the order they were queued. The kernel runs the whole batch within one sendmsg(2): a signal, even
/// SIGKILL, comes before it or after it. A change that fails does not stop those behind it.
class netlink_batch {
 public:
  netlink_batch();
  ~netlink_batch();
  netlink_batch(netlink_batch&&) noexcept;
  netlink_batch& operator=(netlink_batch&&) noexcept;

  /// Makes a link, in settings.netns if that is given, and then sets what cannot be given at birth. Fails if there is
  /// one of that name.
  void add_link(const std::string& name, const link_kind& kind, const link_settings& settings = {});
  void set_link(const std::string& name, const link_settings& settings);
  /// The link must be down.
  void rename_link(std::uint32_t index, const std::string& name);
  /// To another namespace, under another name.
  void move_link(std::uint32_t index, int netns, const std::string& name);
  /// This namespace knows `netns` by a number from now on (netlink::numbers), for as long as that lives. Known already:
  /// success.
  void number_namespace(int netns);
  /// Removes link `index` of the namespace known here as `number`. Absent: success.
  void remove_link_there(std::uint32_t index, std::int32_t number);
  /// Waits for the kernel's grace period: some 20 ms for a veth. Absent: success.
  void remove_link(const std::string& name);
  void remove_link(std::uint32_t index);
  /// Present: success. IPv6 addresses are usable at once (no DAD).
  void add_address(std::uint32_t link, const ip_prefix& address);
  /// Absent: success.
  void remove_address(std::uint32_t link, const ip_prefix& address);
  /// Takes the place of a route to the same destination with the same metric.
  void add_route(const net_route& route);

 private:
  friend class netlink;
  struct change;
  change& queue(std::string what, int type, int flags);
  std::vector<change> changes_;
};

/// A socket to the network namespace it was made in; it goes on speaking to that one, whatever its threads do. One
/// thread at a time.
class netlink {
 public:
  netlink();  ///< the calling thread's namespace
  explicit netlink(int netns);
  ~netlink();
  netlink(netlink&&) noexcept;
  netlink& operator=(netlink&&) noexcept;

  [[nodiscard]] std::optional<net_link> find_link(const std::string& name);
  [[nodiscard]] std::optional<net_link> find_link(std::uint32_t index);
  [[nodiscard]] std::vector<net_link> links();
  /// The numbers by which this namespace knows others, and what links those hold (network_namespaces(7), RTM_GETNSID).
  [[nodiscard]] std::vector<std::int32_t> numbers();
  [[nodiscard]] std::vector<net_link> links_there(std::int32_t number);
  [[nodiscard]] std::vector<ip_prefix> addresses(std::uint32_t link);
  /// Of the main table, IPv4 and IPv6.
  [[nodiscard]] std::vector<net_route> routes();

  /// Sends the batch, reads every answer, then throws for the first change that failed: what was tried on which link,
  /// the kernel's own words where it has some, and its errno.
  void commit(const netlink_batch& batch);

  /// Whether the kernel can make links of this kind ("bridge"): asks for an impossible one, so nothing is made.
  /// Needs CAP_NET_ADMIN, else throws permission.
  [[nodiscard]] bool can_make(const std::string& kind);

 private:
  template <class Each>
  void request(nl_msg* message, const std::string& what, Each each);
  std::unique_ptr<nl_sock, void (*)(nl_sock*)> socket_;
};

}  // namespace kit
