// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace kit {

/// A shared library opened when it is first needed, for what is heavy and off the start path
/// (libnftables, libseccomp): dlopen(3) with RTLD_NOW | RTLD_LOCAL, closed by the destructor. Whoever
/// uses it more than once keeps it in a function-local static.
///
///     library seccomp("libseccomp.so.2", "libseccomp2");
///     auto* init = seccomp.function<decltype(seccomp_init)>("seccomp_init");
class library {
 public:
  /// Throws unsupported if it cannot be loaded, with dlerror(3)'s words and the Debian package that brings it.
  library(std::string soname, std::string_view debian_package);
  ~library();
  library(library&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)), soname_(std::move(other.soname_)) {}
  library& operator=(library&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(soname_, other.soname_);
    return *this;
  }
  library(const library&) = delete;
  library& operator=(const library&) = delete;

  /// The address of `name`, valid while this lives. Throws unsupported if the library has none.
  template <class Function>
  requires std::is_function_v<Function>
  [[nodiscard]] Function* function(const char* name) const { return reinterpret_cast<Function*>(symbol(name)); }

  /// The file it was loaded from.
  [[nodiscard]] std::string path() const;

 private:
  [[nodiscard]] void* symbol(const char* name) const;
  void* handle_;
  std::string soname_;
};

}  // namespace kit
