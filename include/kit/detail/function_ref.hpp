// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <type_traits>
#include <utility>

namespace kit {

template <class Signature>
class function_ref;

/// Refers to a callable for the length of one call; owns nothing (P0792). A concept cannot ask for a
/// member template, so what a driver reports list elements to is this one concrete type.
template <class R, class... Args>
class function_ref<R(Args...)> {
 public:
  // As std::function's, and constrained. Version 14 has no layout for such a constructor:
  // clang-format off
  // NOLINTNEXTLINE(*-explicit-constructor, bugprone-forwarding-reference-overload)
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, function_ref> && std::is_invocable_r_v<R, F&, Args...>)
  function_ref(F&& f) noexcept
      : to_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* to, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(to))(std::forward<Args>(args)...);
        }) {}
  // clang-format on

  R operator()(Args... args) const { return call_(to_, std::forward<Args>(args)...); }

 private:
  void* to_;
  R (*call_)(void*, Args...);
};

}  // namespace kit
