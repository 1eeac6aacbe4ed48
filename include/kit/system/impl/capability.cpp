// SPDX-License-Identifier: Apache-2.0
#include "kit/system/capability.hpp"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "kit/system/error.hpp"

namespace kit {

namespace {

/// By number, as linux/capability.h of Linux 5.9 and later has them.
constexpr std::array<std::string_view, 41> names = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};
static_assert(names[CAP_SYS_ADMIN] == "CAP_SYS_ADMIN" && names[CAP_CHECKPOINT_RESTORE] == "CAP_CHECKPOINT_RESTORE");

bool same_ignoring_case(std::string_view a, std::string_view upper) {
  if (a.size() != upper.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if ((a[i] >= 'a' && a[i] <= 'z' ? static_cast<char>(a[i] - 'a' + 'A') : a[i]) != upper[i]) return false;
  return true;
}

__user_cap_header_struct header() {
  __user_cap_header_struct h{};
  h.version = _LINUX_CAPABILITY_VERSION_3;
  return h;
}

}  // namespace

std::optional<unsigned> capability_number(std::string_view name) noexcept {
  for (unsigned n = 0; n < names.size(); ++n)
    if (same_ignoring_case(name, names[n]) || same_ignoring_case(name, names[n].substr(4))) return n;
  return std::nullopt;
}

std::string_view capability_name(unsigned number) noexcept {
  return number < names.size() ? names[number] : std::string_view();
}

std::vector<std::string> capability_names(capability_set set) {
  std::vector<std::string> list;
  for (unsigned n = 0; n < 64; ++n)
    if (set.contains(n)) list.push_back(n < names.size() ? std::string(names[n]) : fmt::format("CAP_{}", n));
  return list;
}

capability_set capabilities_from_names(const std::vector<std::string>& list) {
  capability_set set;
  for (const auto& name : list) {
    const auto n = capability_number(name);
    if (!n) fail(errc::invalid, "\"{}\" is no capability; names are as in capabilities(7): CAP_NET_ADMIN", name);
    set.insert(*n);
  }
  return set;
}

process_capabilities own_capabilities() {
  auto h = header();
  std::array<__user_cap_data_struct, 2> d{};
  if (::syscall(SYS_capget, &h, d.data()) != 0) fail_errno(errno, "capget");
  auto whole = [](std::uint32_t low, std::uint32_t high) { return capability_set(std::uint64_t{high} << 32 | low); };
  process_capabilities sets;
  sets.effective = whole(d[0].effective, d[1].effective);
  sets.permitted = whole(d[0].permitted, d[1].permitted);
  sets.inheritable = whole(d[0].inheritable, d[1].inheritable);
  for (unsigned n = 0; kernel_capabilities().contains(n); ++n) {
    if (::prctl(PR_CAPBSET_READ, n, 0, 0, 0) == 1) sets.bounding.insert(n);
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, n, 0, 0) == 1) sets.ambient.insert(n);
  }
  return sets;
}

capability_set kernel_capabilities() noexcept {
  static const capability_set all = [] {
    capability_set set;
    for (unsigned n = 0; n < 64 && ::prctl(PR_CAPBSET_READ, n, 0, 0, 0) >= 0; ++n) set.insert(n);
    return set;
  }();
  return all;
}

int limit_bounding_set(capability_set keep) noexcept {
  // Not kernel_capabilities(): its first call takes a lock.
  for (unsigned n = 0; n < 64; ++n) {
    const int held = ::prctl(PR_CAPBSET_READ, n, 0, 0, 0);
    if (held < 0) break;
    if (held == 1 && !keep.contains(n) && ::prctl(PR_CAPBSET_DROP, n, 0, 0, 0) != 0) return -errno;
  }
  return ::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 ? 0 : -errno;
}

int set_own_capabilities(const process_capabilities& sets) noexcept {
  auto h = header();
  auto low = [](capability_set s) { return static_cast<std::uint32_t>(s.bits()); };
  auto high = [](capability_set s) { return static_cast<std::uint32_t>(s.bits() >> 32); };
  const std::array<__user_cap_data_struct, 2> d = {
      {{low(sets.effective), low(sets.permitted), low(sets.inheritable)},
       {high(sets.effective), high(sets.permitted), high(sets.inheritable)}}};
  if (::syscall(SYS_capset, &h, d.data()) != 0) return -errno;
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return -errno;
  for (unsigned n = 0; n < 64; ++n)
    if (sets.ambient.contains(n) && ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, n, 0, 0) != 0) return -errno;
  return 0;
}

}  // namespace kit
