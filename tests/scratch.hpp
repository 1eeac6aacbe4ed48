// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdlib.h>

#include <string>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit::testing {

/// A directory of the test's own, removed with all that is in it.
class scratch {
 public:
  explicit scratch(std::string pattern = "/tmp/kit-test-XXXXXX") {
    if (::mkdtemp(pattern.data()) == nullptr) fail_errno(errno, "make directory {}", pattern);
    path_ = pattern;
  }
  ~scratch() {
    try {
      remove_tree(path_);
    } catch (...) {  // left to the next cleaning of /tmp
    }
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + '/' + name; }

 private:
  std::string path_;
};

}  // namespace kit::testing
