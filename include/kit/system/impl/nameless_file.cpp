// SPDX-License-Identifier: Apache-2.0
#include "kit/system/nameless_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "kit/id.hpp"
#include "kit/system/error.hpp"

namespace kit {

nameless_file::nameless_file(const std::string& directory, unsigned mode) : directory_(directory) {
  fd_.reset(::open(directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, static_cast<mode_t>(mode)));
  if (fd_) return;
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) fail_errno(errno, "make a file in {}", directory);
  hidden_ = hidden_name();
  fd_ = open_file(hidden_, O_WRONLY | O_CREAT | O_EXCL, mode);
}

nameless_file::~nameless_file() {
  if (!hidden_.empty()) ::unlink(hidden_.c_str());
}

void nameless_file::publish(const std::string& path) {
  if (::fsync(fd_.get()) != 0) fail_errno(errno, "fsync {}", path);
  (void)link(path);
  sync(path);
}

void nameless_file::replace(const std::string& path) {
  if (::fsync(fd_.get()) != 0) fail_errno(errno, "fsync {}", path);
  // link(2) replaces nothing, rename(2) does.
  if (!link(path)) {
    if (hidden_.empty()) {
      std::string name = hidden_name();
      (void)link(name);
      hidden_ = std::move(name);
    }
    if (::rename(hidden_.c_str(), path.c_str()) != 0) fail_errno(errno, "name file {}", path);
    hidden_.clear();
  }
  sync(path);
}

bool nameless_file::link(const std::string& path) const {
  const std::string from = hidden_.empty() ? fmt::format("/proc/self/fd/{}", fd_.get()) : hidden_;
  if (::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return true;
  if (errno != EEXIST) fail_errno(errno, "name file {}", path);
  return false;
}

void nameless_file::sync(const std::string& path) const {
  if (::fsync(open_directory(directory_).get()) != 0) fail_errno(errno, "fsync the directory of {}", path);
}

std::string nameless_file::hidden_name() const {
  const auto bits = random_bits();
  return directory_ + "/." + hex(bits.data(), 8);
}

}  // namespace kit
