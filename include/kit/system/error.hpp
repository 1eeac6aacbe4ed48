// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fmt/core.h>

#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace kit {

/// What kind of failure it was: the same eleven words in C++, across the plugin ABI (KIT_NOT_FOUND
/// ...) and in the records. A caller branches on these; people read error::what().
enum class errc : std::int32_t {
  not_found = 1,
  exists,
  conflict,
  busy,
  unsupported,
  invalid,
  no_space,
  permission,
  io,
  cancelled,
};

/// The word for `c`, as in the list above.
constexpr std::string_view to_string(errc c) noexcept {
  switch (c) {
    case errc::not_found: return "not_found";
    case errc::exists: return "exists";
    case errc::conflict: return "conflict";
    case errc::busy: return "busy";
    case errc::unsupported: return "unsupported";
    case errc::invalid: return "invalid";
    case errc::no_space: return "no_space";
    case errc::permission: return "permission";
    case errc::io: return "io";
    case errc::cancelled: return "cancelled";
  }
  return "io";
}

/// The kind an errno belongs to; what has no kind of its own is io.
constexpr errc errc_of(int sys_errno) noexcept {
  switch (sys_errno) {
    case ENOENT:
    case ESRCH:
    case ENODEV:
    case ENXIO: return errc::not_found;
    case EEXIST: return errc::exists;
    case EBUSY:
    case EAGAIN:
    case ETXTBSY: return errc::busy;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
    case ENOTDIR:
    case EISDIR: return errc::invalid;
    case ENOSYS:
    case EOPNOTSUPP: return errc::unsupported;
    case ENOSPC:
    case EDQUOT: return errc::no_space;
    case EPERM:
    case EACCES:
    case EROFS: return errc::permission;
    case ECANCELED: return errc::cancelled;
    default: return errc::io;
  }
}

/// The one exception type of kit. `what()` is one lower-case line: what was tried on which object:
/// why; what to do. `sys_errno()` is the errno behind it, or 0.
class error : public std::runtime_error {
 public:
  error(errc code, const std::string& message, int sys_errno = 0)
      : std::runtime_error(message), code_(code), sys_errno_(sys_errno) {}

  [[nodiscard]] errc code() const noexcept { return code_; }
  [[nodiscard]] int sys_errno() const noexcept { return sys_errno_; }

 private:
  errc code_;
  int sys_errno_;
};

/// The kernel's words for an errno ("no such file or directory"), in lower case, thread-safe.
std::string errno_text(int sys_errno);

/// Throws error{errc_of(e), "<what>: <errno_text(e)>", e}.
[[noreturn]] void throw_errno(int e, std::string_view what);

/// Formats and throws: fail(errc::conflict, "create layer {}: parents differ", id).
template <class... Args>
[[noreturn]] void fail(errc code, fmt::format_string<Args...> format, Args&&... args) {
  throw error(code, fmt::format(format, std::forward<Args>(args)...));
}

/// Formats, adds errno's text, and throws: fail_errno(errno, "open {}", path).
template <class... Args>
[[noreturn]] void fail_errno(int e, fmt::format_string<Args...> format, Args&&... args) {
  throw_errno(e, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace kit
