// SPDX-License-Identifier: Apache-2.0
#include "kit/isolation/any_isolation.hpp"

namespace kit {

using detail::call;
using detail::from_abi;
using detail::to_abi;

static_assert(isolation_driver<any_isolation>);

const kit_isolation& any_isolation::table() const noexcept {
  return *static_cast<const kit_isolation*>(any_driver::table());
}

isolation_traits any_isolation::traits() const {
  call c(name(), "traits");
  kit_isolation_traits out{};
  out.size = sizeof out;
  c.check(table().traits(c, self(), &out));
  return {.needs_rootfs_path = out.needs_rootfs_path != 0};
}

started any_isolation::create(const container& x, std::span<const mount> mounts, const stdio& io) {
  call c(name(), "create");
  const kit_container raw = to_abi(x);
  kit_stdio raw_io = to_abi(io);
  auto netns = c.each<std::int32_t>([&](int fd) { (*io.on_netns)(fd); });
  if (io.on_netns != nullptr) raw_io.on_netns = netns;
  const auto* list = c.memory.pointers<kit_mount>(mounts, [&](const mount& m) { return to_abi(m, c.memory); });
  kit_started out = detail::nothing_started();
  const kit_status status = table().create(c, self(), &raw, list, mounts.size(), &raw_io, &out);
  started answer = from_abi(out);
  c.check(status);
  return answer;
}

void any_isolation::start(const container& x) {
  call c(name(), "start");
  const kit_container raw = to_abi(x);
  c.check(table().start(c, self(), &raw));
}

void any_isolation::signal(const container& x, int signal, reach r) {
  call c(name(), "signal");
  const kit_container raw = to_abi(x);
  c.check(table().signal(c, self(), &raw, signal, r == reach::all ? KIT_SIGNAL_ALL : 0));
}

void any_isolation::remove(const container& x) {
  call c(name(), "remove");
  const kit_container raw = to_abi(x);
  c.check(table().remove(c, self(), &raw));
}

started any_isolation::exec(const container& x, std::string_view process_json, const stdio& io) {
  call c(name(), "exec");
  const kit_container raw = to_abi(x);
  const kit_stdio raw_io = to_abi(io);
  kit_started out = detail::nothing_started();
  const kit_status status = table().exec(c, self(), &raw, to_abi(process_json), &raw_io, &out);
  started answer = from_abi(out);
  c.check(status);
  return answer;
}

void any_isolation::pause(const container& x) {
  call c(name(), "pause");
  const kit_container raw = to_abi(x);
  c.check(table().pause(c, self(), &raw));
}

void any_isolation::resume(const container& x) {
  call c(name(), "resume");
  const kit_container raw = to_abi(x);
  c.check(table().resume(c, self(), &raw));
}

void any_isolation::update(const container& x, std::string_view resources_json) {
  call c(name(), "update");
  const kit_container raw = to_abi(x);
  c.check(table().update(c, self(), &raw, to_abi(resources_json)));
}

container_stats any_isolation::stats(const container& x) {
  call c(name(), "stats");
  const kit_container raw = to_abi(x);
  kit_stats out{};
  out.size = sizeof out;
  c.check(table().stats(c, self(), &raw, &out));
  return from_abi(out);
}

}  // namespace kit
