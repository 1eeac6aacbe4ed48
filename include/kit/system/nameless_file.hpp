// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "kit/system/fd.hpp"

namespace kit {

/// A file that has no name until it is whole: a crash before that leaves nothing (open(2), O_TMPFILE). Where the file
/// system has none of those, it has a hidden name until then, beginning with a dot.
class nameless_file {
 public:
  /// In the directory in which it will be named. Throws, naming it.
  explicit nameless_file(const std::string& directory, unsigned mode = 0444);
  ~nameless_file();
  nameless_file(const nameless_file&) = delete;
  nameless_file& operator=(const nameless_file&) = delete;

  [[nodiscard]] int get() const noexcept { return fd_.get(); }
  /// Gives it its name, synced. A file that has the name already is left alone.
  void publish(const std::string& path);
  /// Likewise, in place of a file that has the name.
  void replace(const std::string& path);

 private:
  [[nodiscard]] bool link(const std::string& path) const;  ///< whether the name was free
  void sync(const std::string& path) const;
  [[nodiscard]] std::string hidden_name() const;

  std::string directory_;
  std::string hidden_;
  unique_fd fd_;
};

}  // namespace kit
