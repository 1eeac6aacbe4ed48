// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kit/network/types.hpp"
#include "kit/system/netlink.hpp"

/// \file
/// What every driver that gives a container an interface shares: reading what the engine asks for, the mark of an
/// endpoint's owner, and the container's side of the work.

namespace kit::drivers::detail {

/// A subnet, read.
struct address_range {
  ip_prefix prefix;
  std::optional<ip_address> gateway;
};

/// Throws invalid for a prefix with host bits, or a gateway outside of it.
std::vector<address_range> ranges_of(const network& n);
bool has_ipv6(const std::vector<address_range>& ranges) noexcept;

/// Throws invalid unless each option of `n` is among `known`, and its link and owner can stand in a name and a
/// quoted comment.
void check_words(const network& n, std::initializer_list<std::string_view> known);
bool read_boolean(const network& n, std::string_view key, bool otherwise);
/// 0 if not given.
std::uint32_t read_mtu(const network& n);

/// The addresses of `e`. Throws invalid for one outside the subnets of `n`.
std::vector<ip_prefix> addresses_of(const network& n, const std::vector<address_range>& ranges, const endpoint& e);

/// "OWNER@NETWORK-ID": written as ifalias on an endpoint's link, so that the endpoints of one network are found even
/// when its own link is gone.
std::string mark_of(const network& n, const endpoint& e);
/// The endpoint that an ifalias names, if it is one of `n` and of n's root.
std::optional<endpoint_id> endpoint_of(const network& n, std::string_view alias);

/// e.mac; else made from the first IPv4 address, so that neighbours who remember an address stay right when it is
/// leased anew; else from the id.
std::string mac_of(const endpoint& e, const std::vector<ip_prefix>& addresses);

/// The interface is there: sets lo and it up, with addresses and default routes, in one batch. Repeatable. Answers
/// what was done, `inside` as interface number `index` of the answer.
void set_up_inside(netlink& inside, const net_link& link, const std::vector<address_range>& ranges,
                   const std::vector<ip_prefix>& addresses, attachment& answer);

/// Throws conflict, naming the first difference between what `answer` says of the inside and what is.
void check_inside(netlink& inside, const endpoint& e, const attachment& answer);

/// Detaches, by `netlink_batch::remove_link`, what bears a mark of `n` and is not in `valid`.
void remove_others(netlink& host, const network& n, std::span<const endpoint_id> valid);

}  // namespace kit::drivers::detail
