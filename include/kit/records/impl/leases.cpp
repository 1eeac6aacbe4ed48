// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "impl.hpp"
#include "kit/records/records.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace {

using detail::database;
using detail::join;
using detail::query;
using detail::split;

/// An IPv4 or IPv6 address; IPv4 takes the first four bytes.
struct ip_address {
  int family = AF_UNSPEC;
  std::array<std::uint8_t, 16> bytes{};

  [[nodiscard]] int bits() const { return family == AF_INET ? 32 : 128; }
  bool operator==(const ip_address&) const = default;
};

ip_address parse_address(std::string_view text) {
  ip_address a;
  const std::string terminated(text.substr(0, text.find('/')));
  a.family = terminated.find(':') == std::string::npos ? AF_INET : AF_INET6;
  if (::inet_pton(a.family, terminated.c_str(), a.bytes.data()) != 1)
    fail(errc::invalid, "lease an address: \"{}\" is not an IPv4 or IPv6 address", text);
  return a;
}

std::string to_text(const ip_address& a) {
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(a.family, a.bytes.data(), text, sizeof text);
}

/// The hosts of a prefix, numbered from its first address. Of a range wider than 2^62 only that many are used.
class host_range {
 public:
  explicit host_range(std::string_view prefix) : base_(parse_address(prefix)) {
    const auto slash = prefix.find('/');
    const std::string_view length = slash == std::string_view::npos ? "" : prefix.substr(slash + 1);
    const auto [end, code] = std::from_chars(length.data(), length.data() + length.size(), length_);
    if (code != std::errc() || end != length.data() + length.size() || length.empty() || length_ < 0 ||
        length_ > base_.bits())
      fail(errc::invalid, "lease an address: \"{}\" is not a prefix like 10.89.0.0/20", prefix);
    for (int bit = length_; bit < base_.bits(); ++bit)
      base_.bytes[bit / 8] &= static_cast<std::uint8_t>(~(0x80 >> bit % 8));
    const int host_bits = std::min(base_.bits() - length_, 62);
    count_ = std::int64_t{1} << host_bits;
  }

  /// Without the first address (the network; in IPv6 the routers' anycast address) and the last (broadcast), but for
  /// ranges that have none (RFC 3021).
  [[nodiscard]] std::int64_t first() const { return count_ > 2 ? 1 : 0; }
  [[nodiscard]] std::int64_t last() const { return count_ > 2 ? count_ - 2 : count_ - 1; }
  /// So wide that the order of release need not be remembered: coming round again takes long enough.
  [[nodiscard]] bool wide() const { return count_ > 65536; }

  [[nodiscard]] std::string address(std::int64_t host) const {
    return fmt::format("{}/{}", to_text(at(host)), length_);
  }
  [[nodiscard]] ip_address at(std::int64_t host) const {
    ip_address a = base_;
    for (int byte = base_.bits() / 8 - 1; byte >= 0 && host > 0; --byte, host >>= 8)
      a.bytes[static_cast<std::size_t>(byte)] |= static_cast<std::uint8_t>(host & 0xff);
    return a;
  }
  /// The number of `a`, or -1 if it is not in the range.
  [[nodiscard]] std::int64_t host(const ip_address& a) const {
    if (a.family != base_.family) return -1;
    std::int64_t number = 0;
    for (int bit = 0; bit < base_.bits(); ++bit) {
      const auto of = [bit](const ip_address& x) {
        return x.bytes[static_cast<std::size_t>(bit / 8)] >> (7 - bit % 8) & 1;
      };
      if (bit < std::max(length_, base_.bits() - 62)) {
        if (of(a) != of(base_)) return -1;
      } else {
        number = number << 1 | of(a);
      }
    }
    return number;
  }

 private:
  ip_address base_;
  int length_ = -1;
  std::int64_t count_ = 0;
};

/// One prefix of one network, from which host numbers are leased. Used within a transaction.
class pool {
 public:
  pool(database& db, const network_record& n, std::size_t index)
      : db_(db), network_(n), prefix_(n.prefixes[index]), range_(prefix_) {
    if (index < n.gateways.size() && !n.gateways[index].empty())
      gateway_ = range_.host(parse_address(n.gateways[index]));
  }

  [[nodiscard]] const host_range& range() const { return range_; }

  /// Leases that very host.
  void take(std::int64_t host, const endpoint_id& to) {
    if (!usable(host))
      fail(errc::invalid, "lease {} on network {}: the address is the network's own: choose another",
           range_.address(host), network_.name);
    if (!hold(host, to))
      fail(errc::conflict, "lease {} on network {}: the address is in use: choose another, or none",
           range_.address(host), network_.name);
  }

  /// Leases one that was never used, or else the one that is free the longest.
  std::int64_t take_any(const endpoint_id& to) {
    std::int64_t host = next();
    if (auto fresh = take_from(host, to); fresh >= 0) return fresh;
    if (query q(db_,
                "SELECT host FROM leases WHERE network = ? AND prefix = ? AND endpoint IS NULL ORDER BY released "
                "LIMIT 1",
                network_.id.text(), prefix_);
        q.next())
      host = q.number(0);
    else if (auto again = range_.wide() ? take_from(range_.first(), to) : -1; again >= 0)
      return again;
    else
      fail(errc::no_space,
           "lease an address on network {}: all of {} are in use: remove containers or use a wider prefix",
           network_.name, prefix_);
    hold(host, to);
    return host;
  }

 private:
  [[nodiscard]] bool usable(std::int64_t host) const {
    return host >= range_.first() && host <= range_.last() && host != gateway_;
  }

  std::int64_t next() {
    query q(db_, "SELECT next FROM pools WHERE network = ? AND prefix = ?", network_.id.text(), prefix_);
    return q.next() ? q.number(0) : range_.first();
  }

  /// The first host from `host` on that has no row; -1 at the end of the range.
  std::int64_t take_from(std::int64_t host, const endpoint_id& to) {
    for (; host <= range_.last(); ++host) {
      if (!usable(host) || !insert(host, to)) continue;
      query(db_, "INSERT OR REPLACE INTO pools (network, prefix, next) VALUES (?,?,?)", network_.id.text(), prefix_,
            host + 1)
          .run();
      return host;
    }
    return -1;
  }

  bool insert(std::int64_t host, const endpoint_id& to) {
    return query(db_, "INSERT INTO leases (network, prefix, host, endpoint) VALUES (?,?,?,?)", network_.id.text(),
                 prefix_, host, to.text())
        .run_unless_taken();
  }

  bool hold(std::int64_t host, const endpoint_id& to) {
    if (insert(host, to)) return true;
    query(db_,
          "UPDATE leases SET endpoint = ?, released = NULL WHERE network = ? AND prefix = ? AND host = ? AND endpoint "
          "IS NULL",
          to.text(), network_.id.text(), prefix_, host)
        .run();
    return db_.changes() == 1;
  }

  database& db_;
  const network_record& network_;
  const std::string& prefix_;
  host_range range_;
  std::int64_t gateway_ = -1;
};

/// "kit" and eight random letters: 2^40 names, so that none comes back while the kernel still deletes its last bearer.
std::string draw_link(std::string_view prefix) {
  static constexpr char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
  std::string link(prefix);
  const auto bits = random_bits();
  for (std::size_t i = 0; i < 8; ++i) link += letters[bits[i] & 31];
  return link;
}

/// A locally administered unicast address. Where there is an IPv4 address it follows from that: unique on the network, and
/// neighbours' caches stay right when the address is given out again.
std::string derive_mac(const std::vector<std::string>& addresses) {
  std::array<std::uint8_t, 4> tail{};
  const auto v4 = std::find_if(addresses.begin(), addresses.end(),
                               [](const std::string& a) { return a.find(':') == std::string::npos; });
  std::uint8_t second = 0x6b;
  if (v4 != addresses.end()) {
    const ip_address a = parse_address(*v4);
    std::copy_n(a.bytes.begin(), 4, tail.begin());
  } else {
    const auto bits = random_bits();
    std::copy_n(bits.begin(), 4, tail.begin());
    second = bits[4];
  }
  return fmt::format("02:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", second, tail[0], tail[1], tail[2], tail[3]);
}

endpoint_record read_endpoint(const query& q) {
  endpoint_record e;
  e.id = endpoint_id::from(q.text(0));
  e.container = container_id::from(q.text(1));
  e.network = network_id::from(q.text(2));
  e.interface_name = q.text(3);
  e.link = q.text(4);
  e.mac = q.text(5);
  e.addresses = split(q.text(6));
  e.attachment = q.text(7);
  return e;
}

#define KIT_ENDPOINT_COLUMNS "id, container, network, interface_name, link, mac, addresses, attachment"

std::vector<endpoint_record> read_endpoints(query& q) {
  std::vector<endpoint_record> list;
  while (q.next()) list.push_back(read_endpoint(q));
  return list;
}

}  // namespace

namespace {
std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& w : words) text += (text.empty() ? "" : ", ") + w;
  return text;
}
}  // namespace

endpoint_record records::lease_endpoint(const network_record& n, const container_id& container,
                                        std::string_view interface_name, const std::vector<std::string>& wanted,
                                        std::string_view link_prefix) {
  if (link_prefix.size() > 7)
    fail(errc::invalid, "lease an endpoint: link prefix \"{}\" leaves no room in the 15 bytes of a name", link_prefix);
  endpoint_record e;
  e.id = random_id<endpoint_id>();
  e.container = container;
  e.network = n.id;
  e.interface_name = interface_name;
  std::vector<ip_address> asked;
  for (const std::string& text : wanted) asked.push_back(parse_address(text));

  database& db = impl_->db;
  transaction([&] {
    if (!query(db, "SELECT 1 FROM networks WHERE id = ? AND NOT removing", n.id.text()).next())
      fail(errc::not_found, "no such network: {}", n.name);
    std::size_t given = 0;
    e.addresses.clear();
    for (std::size_t i = 0; i < n.prefixes.size(); ++i) {
      pool from(db, n, i);
      const auto here =
          std::find_if(asked.begin(), asked.end(), [&](const ip_address& a) { return from.range().host(a) >= 0; });
      std::int64_t host = 0;
      if (here != asked.end()) {
        ++given;
        from.take(host = from.range().host(*here), e.id);
      } else {
        host = from.take_any(e.id);
      }
      e.addresses.push_back(from.range().address(host));
    }
    if (given < asked.size())
      fail(errc::invalid, "lease {} on network {}: at most one address in each of its subnets ({}) can be chosen",
           listed(wanted), n.name, listed(n.prefixes));
    e.mac = derive_mac(e.addresses);
    for (;;) {
      e.link = draw_link(link_prefix);
      if (query(db, "INSERT INTO endpoints (" KIT_ENDPOINT_COLUMNS ") VALUES (?,?,?,?,?,?,?,'')", e.id.text(),
                container.text(), n.id.text(), e.interface_name, e.link, e.mac, join(e.addresses))
              .run_unless_taken())
        return;
      if (query(db, "SELECT 1 FROM endpoints WHERE container = ? AND interface_name = ?", container.text(),
                e.interface_name)
              .next())
        fail(errc::exists, "connect container {} to network {}: it has an interface {} already", container.brief(),
             n.name, e.interface_name);
    }
  });
  return e;
}

void records::update(const endpoint_record& e) {
  query(impl_->db, "UPDATE endpoints SET interface_name = ?2, mac = ?3, addresses = ?4, attachment = ?5 WHERE id = ?1",
        e.id.text(), e.interface_name, e.mac, join(e.addresses), e.attachment)
      .run();
  if (impl_->db.changes() == 0) fail(errc::not_found, "no such endpoint: {}", e.id.text());
}

std::vector<endpoint_record> records::endpoints(const container_id& container) {
  query q(impl_->db, "SELECT " KIT_ENDPOINT_COLUMNS " FROM endpoints WHERE container = ? ORDER BY interface_name",
          container.text());
  return read_endpoints(q);
}

std::vector<endpoint_record> records::endpoints(const network_id& network) {
  query q(impl_->db, "SELECT " KIT_ENDPOINT_COLUMNS " FROM endpoints WHERE network = ? ORDER BY id", network.text());
  return read_endpoints(q);
}

void records::release_endpoint(const endpoint_id& id) {
  transaction([&] {
    std::vector<std::pair<std::string, std::string>> held;
    {
      query q(impl_->db, "SELECT network, prefix FROM leases WHERE endpoint = ?", id.text());
      while (q.next()) held.emplace_back(q.text(0), q.text(1));
    }
    for (const auto& [network, prefix] : held) {
      if (host_range(prefix).wide()) {
        query(impl_->db, "DELETE FROM leases WHERE endpoint = ? AND prefix = ?", id.text(), prefix).run();
        continue;
      }
      // To the end of the queue.
      query(impl_->db,
            "UPDATE leases SET endpoint = NULL, released = 1 + (SELECT coalesce(max(released), 0) FROM leases WHERE "
            "network = ?2 AND prefix = ?3 AND endpoint IS NULL) WHERE endpoint = ?1 AND prefix = ?3",
            id.text(), network, prefix)
          .run();
    }
    query(impl_->db, "DELETE FROM endpoints WHERE id = ?", id.text()).run();
  });
}

namespace {
void refuse_if_used(database& db, const network_id& id) {
  std::string users;
  query q(db,
          "SELECT coalesce((SELECT name FROM containers WHERE containers.id = endpoints.container), container) FROM "
          "endpoints WHERE network = ? ORDER BY 1",
          id.text());
  while (q.next()) users += (users.empty() ? "" : ", ") + q.text(0);
  if (!users.empty())
    fail(errc::conflict, "remove network {}: it is in use by {}: stop them, or remove them", id.brief(), users);
}
}  // namespace

void records::begin_removal(const network_id& id) {
  transaction([&] {
    refuse_if_used(impl_->db, id);
    query(impl_->db, "UPDATE networks SET removing = 1 WHERE id = ?", id.text()).run();
  });
}

void records::remove_network(const network_id& id) {
  transaction([&] {
    refuse_if_used(impl_->db, id);
    query(impl_->db, "DELETE FROM leases WHERE network = ?", id.text()).run();
    query(impl_->db, "DELETE FROM pools WHERE network = ?", id.text()).run();
    query(impl_->db, "DELETE FROM networks WHERE id = ?", id.text()).run();
  });
}

}  // namespace kit
