// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// \file
/// capabilities(7): names, sets, and what a child does to itself between clone and exec. By raw
/// system calls: capset(2) is one struct of six words, and libcap allocates where nothing may.

namespace kit {

/// A set of capabilities, as the kernel's 64-bit mask: bit n is capability n of linux/capability.h.
class capability_set {
 public:
  constexpr capability_set() noexcept = default;
  constexpr explicit capability_set(std::uint64_t bits) noexcept : bits_(bits) {}

  [[nodiscard]] constexpr std::uint64_t bits() const noexcept { return bits_; }
  [[nodiscard]] constexpr bool empty() const noexcept { return bits_ == 0; }
  [[nodiscard]] constexpr bool contains(unsigned n) const noexcept { return n < 64 && (bits_ >> n & 1) != 0; }
  [[nodiscard]] constexpr bool includes(capability_set all) const noexcept { return (all.bits_ & ~bits_) == 0; }
  constexpr void insert(unsigned n) noexcept { bits_ |= n < 64 ? std::uint64_t{1} << n : 0; }
  constexpr void erase(unsigned n) noexcept { bits_ &= n < 64 ? ~(std::uint64_t{1} << n) : ~std::uint64_t{0}; }

  constexpr friend capability_set operator|(capability_set a, capability_set b) noexcept {
    return capability_set(a.bits_ | b.bits_);
  }
  constexpr friend capability_set operator&(capability_set a, capability_set b) noexcept {
    return capability_set(a.bits_ & b.bits_);
  }
  /// What is in `a` and not in `b`.
  constexpr friend capability_set operator-(capability_set a, capability_set b) noexcept {
    return capability_set(a.bits_ & ~b.bits_);
  }
  bool operator==(const capability_set&) const = default;

 private:
  std::uint64_t bits_ = 0;
};

/// The number of "CAP_SYS_ADMIN"; "sys_admin" and "SYS_ADMIN" name it too. Empty: no such name.
std::optional<unsigned> capability_number(std::string_view name) noexcept;
/// "CAP_SYS_ADMIN" for 21; empty for a number this build has no name for.
std::string_view capability_name(unsigned number) noexcept;
/// The names in `set`, by number; a number without a name is "CAP_<n>".
std::vector<std::string> capability_names(capability_set set);
/// Throws invalid, naming the one that is no capability.
capability_set capabilities_from_names(const std::vector<std::string>& names);

/// The five sets of one thread, as /proc/PID/status shows them.
struct process_capabilities {
  capability_set bounding, effective, permitted, inheritable, ambient;
  bool operator==(const process_capabilities&) const = default;
};

/// The calling thread's sets. The bounding set is all this process or its children can ever hold:
/// `--privileged` means this set, and what the kernel knows beyond it is missing on this host.
process_capabilities own_capabilities();
/// Every capability the running kernel knows: PR_CAPBSET_READ up to the first EINVAL; remembered.
capability_set kernel_capabilities() noexcept;

// The three steps of a child that takes on its capabilities, in this order, with the change of user
// between the first and the second. Async-signal-safe; 0 or -errno.

/// Drops from the bounding set whatever is not in `keep` (needs CAP_SETPCAP), and, with PR_SET_KEEPCAPS,
/// lets the permitted set survive the setuid(2) that follows.
int limit_bounding_set(capability_set keep) noexcept;
/// capset(2) of effective, permitted and inheritable, then exactly `ambient` as the ambient set. The
/// kernel wants ambient within both permitted and inheritable; the bounding set is not touched here.
int set_own_capabilities(const process_capabilities& sets) noexcept;

}  // namespace kit
