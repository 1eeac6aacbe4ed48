// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cerrno>
#include <string_view>

#include "kit/driver.hpp"

namespace kit {

/// A system call that tests make fail without privilege: as `call`, which answers -1 and errno, unless this_call() says
/// what it is to fail with instead. `name` is the call's own ("openat"). For use between clone and exec, too.
template <class Call>
auto seam(std::string_view name, Call call) noexcept(noexcept(call())) -> decltype(call()) {
  if (const int e = this_call().step(name, step_edge::call); e != 0) [[unlikely]] {
    errno = e;
    return -1;
  }
  return call();
}

}  // namespace kit
