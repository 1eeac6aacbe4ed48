// SPDX-License-Identifier: Apache-2.0
#include "kit/network/any_network.hpp"

namespace kit {

using detail::call;
using detail::from_abi;
using detail::to_abi;

static_assert(network_driver<any_network>);

const kit_network_driver& any_network::table() const noexcept {
  return *static_cast<const kit_network_driver*>(any_driver::table());
}

network_traits any_network::traits() const {
  call c(name(), "traits");
  kit_network_traits out{};
  out.size = sizeof out;
  c.check(table().traits(c, self(), &out));
  return from_abi(out);
}

void any_network::create(const network& n) {
  call c(name(), "create");
  const kit_network raw = to_abi(n, c.memory);
  c.check(table().create(c, self(), &raw));
}

void any_network::remove(const network& n) {
  call c(name(), "remove");
  const kit_network raw = to_abi(n, c.memory);
  c.check(table().remove(c, self(), &raw));
}

attachment any_network::attach(const network& n, const endpoint& e) {
  call c(name(), "attach");
  const kit_network raw_network = to_abi(n, c.memory);
  const kit_endpoint raw_endpoint = to_abi(e, c.memory);
  attachment answer;
  auto sink = c.each<kit_attachment>([&](const kit_attachment& a) { answer = from_abi(&a); });
  c.check(table().attach(c, self(), &raw_network, &raw_endpoint, sink));
  return answer;
}

void any_network::detach(const network& n, const endpoint& e, const attachment& a) {
  call c(name(), "detach");
  const kit_network raw_network = to_abi(n, c.memory);
  const kit_endpoint raw_endpoint = to_abi(e, c.memory);
  const kit_attachment raw_attachment = to_abi(a, c.memory);
  c.check(table().detach(c, self(), &raw_network, &raw_endpoint, &raw_attachment));
}

void any_network::check(const network& n, const endpoint& e, const attachment& a) {
  call c(name(), "check");
  const kit_network raw_network = to_abi(n, c.memory);
  const kit_endpoint raw_endpoint = to_abi(e, c.memory);
  const kit_attachment raw_attachment = to_abi(a, c.memory);
  c.check(table().check(c, self(), &raw_network, &raw_endpoint, &raw_attachment));
}

void any_network::collect(const network& n, std::span<const endpoint_id> valid) {
  call c(name(), "collect");
  const kit_network raw = to_abi(n, c.memory);
  const kit_id* ids = c.memory.each<kit_id>(valid, [](const endpoint_id& id) { return to_abi(id); });
  c.check(table().collect(c, self(), &raw, ids, valid.size()));
}

void any_network::status(const network& n) {
  call c(name(), "status");
  const kit_network raw = to_abi(n, c.memory);
  c.check(table().status(c, self(), &raw));
}

}  // namespace kit
