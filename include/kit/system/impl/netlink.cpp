// SPDX-License-Identifier: Apache-2.0
#include "kit/system/netlink.hpp"

#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kit/system/error.hpp"
#include "kit/system/namespace.hpp"

namespace kit {
namespace {

using message = std::unique_ptr<nl_msg, void (*)(nl_msg*)>;

constexpr std::size_t page = 4096;

message make_message(int type, int flags) {
  message m(::nlmsg_alloc_simple(type, flags), ::nlmsg_free);
  if (!m) throw std::bad_alloc();
  return m;
}

// The only way any of these fails is that the message is full: an attribute no caller of ours can make so long.
void sure(int code) {
  if (code < 0) fail(errc::invalid, "write a netlink message: {}", ::nl_geterror(code));
}
template <class T>
void append(nl_msg* m, T header) {
  sure(::nlmsg_append(m, &header, sizeof header, NLMSG_ALIGNTO));
}
void put(nl_msg* m, int type, const std::string& text) { sure(::nla_put_string(m, type, text.c_str())); }
void put(nl_msg* m, int type, std::uint32_t number) { sure(::nla_put_u32(m, type, number)); }
void put(nl_msg* m, int type, const ip_address& a) {
  sure(::nla_put(m, type, static_cast<int>(a.span().size()), a.bytes.data()));
}
void put_mac(nl_msg* m, const std::string& mac) {
  unsigned b[6];
  char rest = 0;
  if (std::sscanf(mac.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &rest) != 6)
    fail(errc::invalid, "read the hardware address \"{}\": not six hexadecimal bytes", mac);
  std::uint8_t bytes[6];
  for (int i = 0; i < 6; ++i) bytes[i] = static_cast<std::uint8_t>(b[i]);
  sure(::nla_put(m, IFLA_ADDRESS, sizeof bytes, bytes));
}

/// An attribute that holds others, closed by the destructor.
class nest {
 public:
  nest(nl_msg* m, int type) : message_(m), start_(::nla_nest_start(m, type)) {
    if (!start_) sure(-NLE_NOMEM);
  }
  ~nest() { ::nla_nest_end_keep_empty(message_, start_); }
  nest(const nest&) = delete;
  nest& operator=(const nest&) = delete;

 private:
  nl_msg* message_;
  nlattr* start_;
};

std::string text_of(const nlattr* a) { return a ? ::nla_get_string(a) : ""; }
std::uint32_t number_of(const nlattr* a) { return a ? ::nla_get_u32(a) : 0; }
ip_address address_of(const nlattr* a, int family) {
  ip_address out;
  out.v6 = family == AF_INET6;
  std::memcpy(out.bytes.data(), ::nla_data(a), std::min(static_cast<std::size_t>(::nla_len(a)), out.span().size()));
  return out;
}

net_link link_of(nlmsghdr* header) {
  const auto* info = static_cast<const ifinfomsg*>(::nlmsg_data(header));
  nlattr* a[IFLA_MAX + 1];
  ::nlmsg_parse(header, sizeof *info, a, IFLA_MAX, nullptr);
  net_link l;
  l.index = static_cast<std::uint32_t>(info->ifi_index);
  l.up = info->ifi_flags & IFF_UP;
  l.name = text_of(a[IFLA_IFNAME]);
  l.alias = text_of(a[IFLA_IFALIAS]);
  l.mtu = number_of(a[IFLA_MTU]);
  l.master = number_of(a[IFLA_MASTER]);
  l.lower = number_of(a[IFLA_LINK]);
  if (a[IFLA_ADDRESS] && ::nla_len(a[IFLA_ADDRESS]) == 6) {
    const auto* b = static_cast<const std::uint8_t*>(::nla_data(a[IFLA_ADDRESS]));
    l.mac = fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", b[0], b[1], b[2], b[3], b[4], b[5]);
  }
  if (a[IFLA_LINKINFO])
    if (nlattr* kind = ::nla_find(static_cast<const nlattr*>(::nla_data(a[IFLA_LINKINFO])), ::nla_len(a[IFLA_LINKINFO]),
                                  IFLA_INFO_KIND))
      l.kind = text_of(kind);
  return l;
}

/// The kernel's words in an extended acknowledgement, or errno's.
std::string reason(nlmsghdr* header, const nlmsgerr* e) {
  if (header->nlmsg_flags & NLM_F_ACK_TLVS) {
    int offset = sizeof *e;
    if (!(header->nlmsg_flags & NLM_F_CAPPED)) offset += static_cast<int>(e->msg.nlmsg_len - sizeof e->msg);
    if (nlattr* words = ::nlmsg_find_attr(header, offset, NLMSGERR_ATTR_MSG))
      return fmt::format("{} ({})", ::nla_get_string(words), errno_text(-e->error));
  }
  return errno_text(-e->error);
}

struct buffer_deleter {
  void operator()(unsigned char* p) const noexcept { std::free(p); }
};

/// Reads one datagram and hands each message in it to `each` until that answers false. Answers whether it never did.
template <class Each>
bool receive(nl_sock* socket, Each each) {
  sockaddr_nl from{};
  unsigned char* raw = nullptr;
  int length = ::nl_recv(socket, &from, &raw, nullptr);
  std::unique_ptr<unsigned char, buffer_deleter> owned(raw);
  if (length <= 0) fail(errc::io, "read a netlink answer: {}", ::nl_geterror(length));
  for (auto* h = reinterpret_cast<nlmsghdr*>(raw); ::nlmsg_ok(h, length); h = ::nlmsg_next(h, &length))
    if (!each(h)) return false;
  return true;
}

nl_sock* open_socket() {
  nl_sock* s = ::nl_socket_alloc();
  if (!s) throw std::bad_alloc();
  errno = 0;
  if (int e = ::nl_connect(s, NETLINK_ROUTE); e < 0) {
    const int from_kernel = errno;  // libnl has no word for most of them
    ::nl_socket_free(s);
    if (from_kernel != 0) fail_errno(from_kernel, "open a netlink socket");
    fail(errc::io, "open a netlink socket: {}", ::nl_geterror(e));
  }
  int on = 1;
  ::setsockopt(::nl_socket_get_fd(s), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(::nl_socket_get_fd(s), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  ::nl_socket_set_msg_buf_size(s, 8 * page);  // what the kernel fills at most: one read per datagram, no peeking
  ::nl_socket_disable_msg_peek(s);
  ::nl_socket_disable_auto_ack(s);
  ::nl_socket_set_buffer_size(s, 64 * page, 64 * page);
  return s;
}

nl_sock* open_socket(int netns) {
  namespace_scope there(netns, namespace_kind::net);
  return open_socket();
}

void put_settings(nl_msg* m, const link_settings& s) {
  if (!s.mac.empty()) put_mac(m, s.mac);
  if (s.mtu) put(m, IFLA_MTU, s.mtu);
  if (s.master) put(m, IFLA_MASTER, *s.master);
  if (s.netns >= 0) put(m, IFLA_NET_NS_FD, static_cast<std::uint32_t>(s.netns));
}

struct kind_writer {
  nl_msg* m;
  void operator()(const bridge_link& b) const {
    put(m, IFLA_INFO_KIND, std::string("bridge"));
    nest data(m, IFLA_INFO_DATA);
    sure(::nla_put_u8(m, IFLA_BR_MCAST_SNOOPING, b.multicast_snooping));
  }
  void operator()(const veth_link& v) const {
    put(m, IFLA_INFO_KIND, std::string("veth"));
    nest data(m, IFLA_INFO_DATA);
    nest peer(m, VETH_INFO_PEER);
    append(m, ifinfomsg{});
    put(m, IFLA_IFNAME, v.peer);
    link_settings s;
    s.mac = v.peer_mac;
    s.mtu = v.peer_mtu;
    s.netns = v.peer_netns;
    put_settings(m, s);
  }
  void operator()(const macvlan_link& v) const {
    put(m, IFLA_INFO_KIND, std::string("macvlan"));
    nest data(m, IFLA_INFO_DATA);
    put(m, IFLA_MACVLAN_MODE, static_cast<std::uint32_t>(v.how));
  }
};

}  // namespace

struct netlink_batch::change {
  kit::message bytes;
  std::string what;
  std::vector<int> accepted;  ///< errnos that are success
};

netlink_batch::netlink_batch() = default;
netlink_batch::~netlink_batch() = default;
netlink_batch::netlink_batch(netlink_batch&&) noexcept = default;
netlink_batch& netlink_batch::operator=(netlink_batch&&) noexcept = default;

netlink_batch::change& netlink_batch::queue(std::string what, int type, int flags) {
  return changes_.emplace_back(change{make_message(type, NLM_F_REQUEST | flags), std::move(what), {}});
}

void netlink_batch::add_link(const std::string& name, const link_kind& kind, const link_settings& settings) {
  nl_msg* m = queue(fmt::format("make the link {}", name), RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL).bytes.get();
  append(m, ifinfomsg{});
  put(m, IFLA_IFNAME, name);
  put_settings(m, settings);
  if (const auto* v = std::get_if<macvlan_link>(&kind)) put(m, IFLA_LINK, v->parent);
  {
    nest info(m, IFLA_LINKINFO);
    std::visit(kind_writer{m}, kind);
  }
  link_settings late;
  late.alias = settings.alias;
  late.no_link_local = settings.no_link_local;
  if (!late.alias.empty() || late.no_link_local) set_link(name, late);
  if (settings.up) {
    late = {};
    late.up = settings.up;
    set_link(name, late);
  }
}

void netlink_batch::set_link(const std::string& name, const link_settings& settings) {
  nl_msg* m = queue(fmt::format("set up the link {}", name), RTM_SETLINK, 0).bytes.get();
  ifinfomsg info{};
  if (settings.up) {
    info.ifi_change = IFF_UP;
    if (*settings.up) info.ifi_flags = IFF_UP;
  }
  append(m, info);
  put(m, IFLA_IFNAME, name);
  put_settings(m, settings);
  if (!settings.alias.empty()) put(m, IFLA_IFALIAS, settings.alias);
  if (settings.no_link_local) {
    nest families(m, IFLA_AF_SPEC);
    nest inet6(m, AF_INET6);
    sure(::nla_put_u8(m, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE));
  }
}

void netlink_batch::rename_link(std::uint32_t index, const std::string& name) {
  nl_msg* m = queue(fmt::format("rename link number {} to {}", index, name), RTM_SETLINK, 0).bytes.get();
  ifinfomsg info{};
  info.ifi_index = static_cast<int>(index);
  append(m, info);
  put(m, IFLA_IFNAME, name);
}

void netlink_batch::move_link(std::uint32_t index, int netns, const std::string& name) {
  nl_msg* m = queue(fmt::format("move link number {} away as {}", index, name), RTM_SETLINK, 0).bytes.get();
  ifinfomsg info{};
  info.ifi_index = static_cast<int>(index);
  append(m, info);
  put(m, IFLA_NET_NS_FD, static_cast<std::uint32_t>(netns));
  put(m, IFLA_IFNAME, name);
}

void netlink_batch::number_namespace(int netns) {
  auto& c = queue("number a network namespace", RTM_NEWNSID, 0);
  c.accepted = {EEXIST};
  append(c.bytes.get(), rtgenmsg{});
  put(c.bytes.get(), NETNSA_FD, static_cast<std::uint32_t>(netns));
  put(c.bytes.get(), NETNSA_NSID, ~0U);  // any that is free
}

void netlink_batch::remove_link_there(std::uint32_t index, std::int32_t number) {
  auto& c = queue(fmt::format("remove link number {} of namespace {}", index, number), RTM_DELLINK, 0);
  c.accepted = {ENODEV, EINVAL};  // EINVAL: the namespace has gone
  ifinfomsg info{};
  info.ifi_index = static_cast<int>(index);
  append(c.bytes.get(), info);
  put(c.bytes.get(), IFLA_TARGET_NETNSID, static_cast<std::uint32_t>(number));
}

void netlink_batch::remove_link(const std::string& name) {
  auto& c = queue(fmt::format("remove the link {}", name), RTM_DELLINK, 0);
  c.accepted = {ENODEV};
  append(c.bytes.get(), ifinfomsg{});
  put(c.bytes.get(), IFLA_IFNAME, name);
}

void netlink_batch::remove_link(std::uint32_t index) {
  auto& c = queue(fmt::format("remove link number {}", index), RTM_DELLINK, 0);
  c.accepted = {ENODEV};
  ifinfomsg info{};
  info.ifi_index = static_cast<int>(index);
  append(c.bytes.get(), info);
}

namespace {
void put_address(nl_msg* m, std::uint32_t link, const ip_prefix& address) {
  ifaddrmsg info{};
  info.ifa_family = static_cast<std::uint8_t>(address.address.family());
  info.ifa_prefixlen = static_cast<std::uint8_t>(address.length);
  if (address.address.v6) info.ifa_flags = IFA_F_NODAD;
  info.ifa_index = link;
  append(m, info);
  put(m, IFA_LOCAL, address.address);
  put(m, IFA_ADDRESS, address.address);
  if (!address.address.v6 && address.length < 31) {
    ip_address broadcast = address.address;
    for (unsigned bit = address.length; bit < 32; ++bit)
      broadcast.bytes[bit / 8] |= static_cast<std::uint8_t>(0x80U >> (bit % 8));
    put(m, IFA_BROADCAST, broadcast);
  }
}
}  // namespace

void netlink_batch::add_address(std::uint32_t link, const ip_prefix& address) {
  auto& c = queue(fmt::format("add the address {} to link number {}", address.str(), link), RTM_NEWADDR,
                  NLM_F_CREATE | NLM_F_EXCL);
  c.accepted = {EEXIST};
  put_address(c.bytes.get(), link, address);
}

void netlink_batch::remove_address(std::uint32_t link, const ip_prefix& address) {
  auto& c = queue(fmt::format("remove the address {} from link number {}", address.str(), link), RTM_DELADDR, 0);
  c.accepted = {EADDRNOTAVAIL, ENODEV};
  put_address(c.bytes.get(), link, address);
}

void netlink_batch::add_route(const net_route& route) {
  nl_msg* m = queue(fmt::format("add the route to {} over link number {}", route.destination.str(), route.link),
                    RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE)
                  .bytes.get();
  rtmsg info{};
  info.rtm_family = static_cast<std::uint8_t>(route.destination.address.family());
  info.rtm_dst_len = static_cast<std::uint8_t>(route.destination.length);
  info.rtm_table = RT_TABLE_MAIN;
  info.rtm_protocol = RTPROT_STATIC;
  info.rtm_scope = route.gateway || route.destination.address.v6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  info.rtm_type = RTN_UNICAST;
  append(m, info);
  if (route.destination.length) put(m, RTA_DST, route.destination.address);
  if (route.gateway) put(m, RTA_GATEWAY, *route.gateway);
  put(m, RTA_OIF, route.link);
}

netlink::netlink() : socket_(open_socket(), ::nl_socket_free) {}
netlink::netlink(int netns) : socket_(open_socket(netns), ::nl_socket_free) {}
netlink::~netlink() = default;
netlink::netlink(netlink&&) noexcept = default;
netlink& netlink::operator=(netlink&&) noexcept = default;

void netlink::commit(const netlink_batch& batch) {
  const auto& changes = batch.changes_;
  if (changes.empty()) return;
  // Only the last change asks for an acknowledgement: the others answer if they fail, and the last to answer is the
  // last. So a long batch does not overflow the socket.
  ::nlmsg_hdr(changes.back().bytes.get())->nlmsg_flags |= NLM_F_ACK;
  std::vector<iovec> parts;
  for (const auto& c : changes) {
    ::nl_complete_msg(socket_.get(), c.bytes.get());
    nlmsghdr* h = ::nlmsg_hdr(c.bytes.get());
    parts.push_back({h, NLMSG_ALIGN(h->nlmsg_len)});
  }
  if (int e = ::nl_send_iovec(socket_.get(), changes.front().bytes.get(), parts.data(),
                              static_cast<unsigned>(parts.size()));
      e < 0)
    fail(errc::io, "send a batch of netlink messages: {}", ::nl_geterror(e));

  // Numbers within a batch follow each other, so an answer's number tells which change it is about.
  const std::uint32_t first = ::nlmsg_hdr(changes.front().bytes.get())->nlmsg_seq;
  std::optional<error> failure;
  auto take = [&](nlmsghdr* h) {
    const std::size_t at = h->nlmsg_seq - first;
    if (h->nlmsg_type != NLMSG_ERROR || at >= changes.size()) return true;
    const auto* e = static_cast<const nlmsgerr*>(::nlmsg_data(h));
    const auto& fine = changes[at].accepted;
    if (e->error != 0 && !failure && std::find(fine.begin(), fine.end(), -e->error) == fine.end())
      failure.emplace(errc_of(-e->error), fmt::format("{}: {}", changes[at].what, reason(h, e)), -e->error);
    return at + 1 < changes.size();
  };
  while (receive(socket_.get(), take)) {}
  if (failure) throw *failure;
}

/// Sends one request for information and hands each message of the answer to `each`.
template <class Each>
void netlink::request(nl_msg* m, const std::string& what, Each each) {
  if (int e = ::nl_send_auto(socket_.get(), m); e < 0) fail(errc::io, "{}: {}", what, ::nl_geterror(e));
  const nlmsghdr* asked = ::nlmsg_hdr(m);
  const bool dump = (asked->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
  int problem = 0;
  std::string words;
  while (receive(socket_.get(), [&](nlmsghdr* h) {
    if (h->nlmsg_seq != asked->nlmsg_seq) return true;
    if (h->nlmsg_type == NLMSG_DONE) return false;
    if (h->nlmsg_type == NLMSG_ERROR) {
      const auto* e = static_cast<const nlmsgerr*>(::nlmsg_data(h));
      problem = -e->error;
      words = reason(h, e);
      return false;
    }
    each(h);
    return dump;
  })) {}
  if (problem) throw error(errc_of(problem), fmt::format("{}: {}", what, words), problem);
}

namespace {
template <class Header>
message dump_of(int type, Header header) {
  message m = make_message(type, NLM_F_REQUEST | NLM_F_DUMP);
  append(m.get(), header);
  return m;
}
}  // namespace

std::optional<net_link> netlink::find_link(const std::string& name) {
  std::optional<net_link> found;
  message m = make_message(RTM_GETLINK, NLM_F_REQUEST);
  append(m.get(), ifinfomsg{});
  put(m.get(), IFLA_IFNAME, name);
  try {
    request(m.get(), fmt::format("look at the link {}", name), [&](nlmsghdr* h) { found = link_of(h); });
  } catch (const error& e) {
    if (e.sys_errno() != ENODEV) throw;
  }
  return found;
}

std::optional<net_link> netlink::find_link(std::uint32_t index) {
  std::optional<net_link> found;
  message m = make_message(RTM_GETLINK, NLM_F_REQUEST);
  ifinfomsg info{};
  info.ifi_index = static_cast<int>(index);
  append(m.get(), info);
  try {
    request(m.get(), fmt::format("look at link number {}", index), [&](nlmsghdr* h) { found = link_of(h); });
  } catch (const error& e) {
    if (e.sys_errno() != ENODEV) throw;
  }
  return found;
}

std::vector<net_link> netlink::links() {
  std::vector<net_link> all;
  request(dump_of(RTM_GETLINK, ifinfomsg{}).get(), "list the links", [&](nlmsghdr* h) { all.push_back(link_of(h)); });
  return all;
}

std::vector<std::int32_t> netlink::numbers() {
  std::vector<std::int32_t> all;
  request(dump_of(RTM_GETNSID, rtgenmsg{}).get(), "list the namespaces known", [&](nlmsghdr* h) {
    if (nlattr* number = ::nlmsg_find_attr(h, sizeof(rtgenmsg), NETNSA_NSID)) all.push_back(::nla_get_s32(number));
  });
  return all;
}

std::vector<net_link> netlink::links_there(std::int32_t number) {
  std::vector<net_link> all;
  message m = dump_of(RTM_GETLINK, ifinfomsg{});
  put(m.get(), IFLA_TARGET_NETNSID, static_cast<std::uint32_t>(number));
  try {
    request(m.get(), "list the links of another namespace", [&](nlmsghdr* h) { all.push_back(link_of(h)); });
  } catch (const error& e) {
    if (e.sys_errno() != EINVAL) throw;  // it has gone
  }
  return all;
}

std::vector<ip_prefix> netlink::addresses(std::uint32_t link) {
  std::vector<ip_prefix> all;
  request(dump_of(RTM_GETADDR, ifaddrmsg{}).get(), "list the addresses", [&](nlmsghdr* h) {
    const auto* info = static_cast<const ifaddrmsg*>(::nlmsg_data(h));
    if (info->ifa_index != link) return;
    nlattr* a[IFA_MAX + 1];
    ::nlmsg_parse(h, sizeof *info, a, IFA_MAX, nullptr);
    if (const nlattr* local = a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS])
      all.push_back({address_of(local, info->ifa_family), info->ifa_prefixlen});
  });
  return all;
}

std::vector<net_route> netlink::routes() {
  std::vector<net_route> all;
  request(dump_of(RTM_GETROUTE, rtmsg{}).get(), "list the routes", [&](nlmsghdr* h) {
    const auto* info = static_cast<const rtmsg*>(::nlmsg_data(h));
    if (info->rtm_table != RT_TABLE_MAIN || (info->rtm_family != AF_INET && info->rtm_family != AF_INET6)) return;
    nlattr* a[RTA_MAX + 1];
    ::nlmsg_parse(h, sizeof *info, a, RTA_MAX, nullptr);
    net_route r;
    r.destination.address.v6 = info->rtm_family == AF_INET6;
    if (a[RTA_DST]) r.destination.address = address_of(a[RTA_DST], info->rtm_family);
    r.destination.length = info->rtm_dst_len;
    if (a[RTA_GATEWAY]) r.gateway = address_of(a[RTA_GATEWAY], info->rtm_family);
    r.link = number_of(a[RTA_OIF]);
    r.by_router_advert = info->rtm_protocol == RTPROT_RA;
    all.push_back(r);
  });
  return all;
}

bool netlink::can_make(const std::string& kind) {
  message m = make_message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
  append(m.get(), ifinfomsg{});
  put(m.get(), IFLA_MTU, 1U);  // shorter than any link allows
  {
    nest info(m.get(), IFLA_LINKINFO);
    put(m.get(), IFLA_INFO_KIND, kind);
  }
  try {
    request(m.get(), fmt::format("ask for links of the kind {}", kind), [](nlmsghdr*) {});
  } catch (const error& e) {
    if (e.code() == errc::permission) throw;
    return e.sys_errno() != EOPNOTSUPP;
  }
  return true;
}

}  // namespace kit
