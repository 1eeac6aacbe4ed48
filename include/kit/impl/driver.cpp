// SPDX-License-Identifier: Apache-2.0
#include "kit/driver.hpp"

#include "kit/system/error.hpp"

namespace kit {
namespace {
call_context nobody;
thread_local call_context* current = nullptr;
}  // namespace

void call_context::check() const {
  if (cancelled()) throw error(errc::cancelled, "the call was cancelled", ECANCELED);
  if (deadline != std::chrono::steady_clock::time_point::max() && std::chrono::steady_clock::now() > deadline)
    throw error(errc::cancelled, "the call ran past its deadline", ETIMEDOUT);
}

call_context& this_call() noexcept { return current != nullptr ? *current : nobody; }

call_scope::call_scope(call_context& c) noexcept : outer_(current) { current = &c; }
call_scope::~call_scope() { current = outer_; }

}  // namespace kit
