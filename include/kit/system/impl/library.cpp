// SPDX-License-Identifier: Apache-2.0
#include "kit/system/library.hpp"

#include <dlfcn.h>
#include <link.h>

#include "kit/system/error.hpp"

namespace kit {

library::library(std::string soname, std::string_view debian_package)
    : handle_(::dlopen(soname.c_str(), RTLD_NOW | RTLD_LOCAL)), soname_(std::move(soname)) {
  if (!handle_) fail(errc::unsupported, "load {}: {}; install the package {}", soname_, ::dlerror(), debian_package);
}

library::~library() {
  if (handle_) ::dlclose(handle_);
}

void* library::symbol(const char* name) const {
  void* found = ::dlsym(handle_, name);
  if (!found) fail(errc::unsupported, "look up {} in {}: {}; install a newer one", name, soname_, ::dlerror());
  return found;
}

std::string library::path() const {
  link_map* map = nullptr;
  if (::dlinfo(handle_, RTLD_DI_LINKMAP, &map) != 0) fail(errc::unsupported, "find {}: {}", soname_, ::dlerror());
  return map->l_name;
}

}  // namespace kit
