// SPDX-License-Identifier: Apache-2.0
#include "kit/system/ip.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <charconv>

#include "kit/system/error.hpp"

namespace kit {

ip_address ip_address::parse(std::string_view text) {
  ip_address a;
  std::string terminated(text);
  a.v6 = text.find(':') != text.npos;
  if (::inet_pton(a.family(), terminated.c_str(), a.bytes.data()) != 1)
    fail(errc::invalid, "read the address \"{}\": neither IPv4 nor IPv6", text);
  return a;
}

int ip_address::family() const noexcept { return v6 ? AF_INET6 : AF_INET; }

std::string ip_address::str() const {
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(family(), bytes.data(), text, sizeof text);
}

ip_prefix ip_prefix::parse(std::string_view text) {
  auto slash = text.find('/');
  ip_prefix p;
  if (slash != text.npos) {
    p.address = ip_address::parse(text.substr(0, slash));
    const char* end = text.data() + text.size();
    auto [stop, wrong] = std::from_chars(text.data() + slash + 1, end, p.length);
    if (wrong == std::errc{} && stop == end && p.length <= p.address.span().size() * 8) return p;
  }
  fail(errc::invalid, "read the address \"{}\": not of the form ADDRESS/LENGTH", text);
}

ip_prefix ip_prefix::network() const noexcept {
  ip_prefix cleared = *this;
  for (unsigned bit = length; bit < address.span().size() * 8; ++bit)
    cleared.address.bytes[bit / 8] &= static_cast<std::uint8_t>(~(0x80U >> (bit % 8)));
  return cleared;
}

bool ip_prefix::contains(const ip_address& a) const noexcept {
  return a.v6 == address.v6 && ip_prefix{a, length}.network() == network();
}

std::string ip_prefix::str() const { return fmt::format("{}/{}", address.str(), length); }

}  // namespace kit
