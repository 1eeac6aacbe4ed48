// SPDX-License-Identifier: Apache-2.0
#include "kit/isolation/detail/table.hpp"

namespace kit::detail {

kit_container to_abi(const container& c) noexcept {
  kit_container raw{};
  raw.size = sizeof raw;
  raw.id = to_abi(c.id);
  raw.bundle = to_abi(c.bundle);
  raw.state_dir = to_abi(c.state_dir);
  raw.owner = to_abi(c.owner);
  raw.pid = c.pid;
  raw.start_time = c.start_time;
  return raw;
}

container from_abi(const kit_container* raw) {
  const kit_container r = known(raw);
  container c;
  c.id = from_abi<container_id>(r.id);
  c.bundle = text(r.bundle);
  c.state_dir = text(r.state_dir);
  c.owner = text(r.owner);
  c.pid = static_cast<pid_t>(r.pid);
  c.start_time = r.start_time;
  return c;
}

kit_stdio to_abi(const stdio& io) noexcept { return {sizeof(kit_stdio), io.in, io.out, io.err, io.console_socket, {}}; }

stdio from_abi(const kit_stdio* raw) noexcept {
  const kit_stdio r = known(raw, {sizeof(kit_stdio), -1, -1, -1, -1, {}});
  return {r.in, r.out, r.err, r.console_socket, nullptr};
}

std::vector<mount> from_abi(const kit_mount* const* list, std::size_t count) {
  std::vector<mount> mounts(count);
  std::transform(list, list + count, mounts.begin(), [](const kit_mount* m) { return from_abi(known(m)); });
  return mounts;
}

kit_started nothing_started() noexcept {
  kit_started raw{};
  raw.size = sizeof raw;
  raw.init_pidfd = raw.waiter_pidfd = raw.netns = -1;
  return raw;
}

kit_started to_abi(started&& s) noexcept {
  kit_started raw{};
  raw.size = sizeof raw;
  raw.pid = s.pid;
  raw.start_time = s.start_time;
  raw.init_pidfd = s.init.release();
  raw.waiter_pidfd = s.waiter.release();
  raw.netns = s.netns.release();
  raw.waiter_pid = s.waiter_pid;
  return raw;
}

started from_abi(const kit_started& raw) noexcept {
  started s;
  s.pid = static_cast<pid_t>(raw.pid);
  s.start_time = raw.start_time;
  s.init = unique_fd(raw.init_pidfd);
  s.waiter_pid = raw.waiter_pid;
  s.waiter = unique_fd(raw.waiter_pidfd);
  s.netns = unique_fd(raw.netns);
  return s;
}

kit_stats to_abi(const container_stats& s) noexcept {
  return {sizeof(kit_stats),    s.cpu_ns, s.cpu_user_ns, s.cpu_system_ns, s.memory_bytes, s.memory_peak_bytes,
          s.memory_limit_bytes, s.pids,   s.pids_limit,  s.read_bytes,    s.write_bytes,  s.oom_kills};
}

container_stats from_abi(const kit_stats& raw) noexcept {
  container_stats s;
  s.cpu_ns = raw.cpu_ns;
  s.cpu_user_ns = raw.cpu_user_ns;
  s.cpu_system_ns = raw.cpu_system_ns;
  s.memory_bytes = raw.memory_bytes;
  s.memory_peak_bytes = raw.memory_peak_bytes;
  s.memory_limit_bytes = raw.memory_limit_bytes;
  s.pids = raw.pids;
  s.pids_limit = raw.pids_limit;
  s.read_bytes = raw.read_bytes;
  s.write_bytes = raw.write_bytes;
  s.oom_kills = raw.oom_kills;
  return s;
}

reach reach_from_abi(std::uint32_t flags) {
  if ((flags & ~static_cast<std::uint32_t>(KIT_SIGNAL_ALL)) != 0)
    fail(errc::unsupported, "signal flags {:#x} are of a later version of the plugin interface", flags);
  return flags == KIT_SIGNAL_ALL ? reach::all : reach::init;
}

}  // namespace kit::detail
