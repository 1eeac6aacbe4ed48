// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <linux/filter.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kit/detail/function_ref.hpp"

/// \file
/// seccomp(2) filters from the `linux.seccomp` object of the OCI runtime specification: the object as
/// plain values, its compilation by libseccomp (loaded only then), a cache of compiled programs, and
/// the installation by a child between clone and exec.

namespace kit {

/// SCMP_ACT_*, by OCI's words. `notify` and a listener are not here: they need an agent outside.
enum class seccomp_action : std::uint32_t { kill_process, kill_thread, trap, error, trace, log, allow };

/// SCMP_CMP_*, by OCI's words.
enum class seccomp_compare : std::uint32_t {
  not_equal,
  less,
  less_or_equal,
  equal,
  greater_or_equal,
  greater,
  masked_equal,  ///< (argument & value) == value_two
};

struct seccomp_argument {
  unsigned index = 0;  ///< 0 to 5
  std::uint64_t value = 0;
  std::uint64_t value_two = 0;
  seccomp_compare compare = seccomp_compare::equal;
};

/// One action for some system calls. All arguments must match; a name libseccomp does not know (of another
/// architecture, or newer than it) is passed over, as the specification's runtimes do.
struct seccomp_rule {
  std::vector<std::string> names;
  seccomp_action action = seccomp_action::allow;
  std::optional<unsigned> errno_value;  ///< for error and trace; EPERM if it is not given
  std::vector<seccomp_argument> arguments;
};

/// The `linux.seccomp` object.
struct seccomp_profile {
  seccomp_action default_action = seccomp_action::error;
  std::optional<unsigned> default_errno;
  std::vector<std::string> architectures;  ///< "SCMP_ARCH_X86_64" ...; the native one is always in
  std::vector<std::string> flags;          ///< "SECCOMP_FILTER_FLAG_LOG" ...
  std::vector<seccomp_rule> rules;
};

/// OCI's words: "SCMP_ACT_ALLOW", "SCMP_CMP_EQ". Throw invalid for none of them; unsupported for
/// SCMP_ACT_NOTIFY.
seccomp_action seccomp_action_of(std::string_view oci);
seccomp_compare seccomp_compare_of(std::string_view oci);
std::string_view to_string(seccomp_action a) noexcept;
std::string_view to_string(seccomp_compare c) noexcept;

/// What the kernel takes: a program of classic BPF and SECCOMP_FILTER_FLAG_* bits.
struct seccomp_filter {
  std::vector<sock_filter> program;
  unsigned flags = 0;
};

/// Compiles by libseccomp.so.2, loaded here and now (several milliseconds in all). Throws unsupported
/// if the library is not installed, naming its package, or if it or the kernel knows no such
/// architecture, action or flag; invalid for a malformed profile.
seccomp_filter compile_seccomp(const seccomp_profile& profile);

/// compile_seccomp through a directory of compiled programs (made 0700 if it is absent). `text` is what the profile was
/// written as: equal texts are equal profiles. A hit costs one file read and does not ask for `profile`: the file's
/// whole text must equal `text`, for this kernel release and machine, and the
/// libseccomp that compiled it must not have been replaced since. Anything else in its place (damaged, another
/// owner's, another profile's) is compiled anew and replaced by rename. A directory that cannot be written only costs
/// the speed.
seccomp_filter cached_seccomp(std::string_view text, const std::string& directory,
                              function_ref<seccomp_profile()> profile);

/// seccomp(SECCOMP_SET_MODE_FILTER) for the calling thread; needs no_new_privs or CAP_SYS_ADMIN.
/// The last step before exec: whatever follows must pass the filter. Async-signal-safe; 0 or -errno.
int install_seccomp(const seccomp_filter& filter) noexcept;

}  // namespace kit
