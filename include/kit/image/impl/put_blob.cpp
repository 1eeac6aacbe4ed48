// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>

#include <vector>

#include "digest.hpp"
#include "kit/id.hpp"
#include "kit/image/archive.hpp"
#include "kit/image/store.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace {

/// A file that has no name until it is published: a crash leaves nothing. Where the file system has no O_TMPFILE, a
/// hidden name, which blobs() does not take for a blob.
class nameless_file {
 public:
  explicit nameless_file(const std::string& directory) : directory_(directory) {
    fd_.reset(::open(directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0444));
    if (fd_) return;
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) fail_errno(errno, "make a file in {}", directory);
    const auto bits = random_bits();
    hidden_ = directory + "/." + hex(bits.data(), 8);
    fd_ = open_file(hidden_, O_WRONLY | O_CREAT | O_EXCL, 0444);
  }
  ~nameless_file() {
    if (!hidden_.empty()) ::unlink(hidden_.c_str());
  }
  nameless_file(const nameless_file&) = delete;
  nameless_file& operator=(const nameless_file&) = delete;

  [[nodiscard]] int get() const { return fd_.get(); }
  /// Gives it its name, synced. A file that has the name already is left alone.
  void publish(const std::string& path) {
    if (::fsync(fd_.get()) != 0) fail_errno(errno, "fsync {}", path);
    const std::string from = hidden_.empty() ? fmt::format("/proc/self/fd/{}", fd_.get()) : hidden_;
    if (::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) != 0 && errno != EEXIST)
      fail_errno(errno, "name blob {}", path);
    if (::fsync(open_file(directory_, O_RDONLY | O_DIRECTORY).get()) != 0) fail_errno(errno, "fsync {}", directory_);
  }

 private:
  std::string directory_;
  std::string hidden_;
  unique_fd fd_;
};

}  // namespace

descriptor image_store::put_blob(std::string_view bytes, std::string_view media_type) {
  descriptor d{std::string(media_type), sha256(bytes), bytes.size()};
  if (has_blob(d.digest)) return d;
  const std::string directory = directory_ + "/blobs/sha256";
  make_directories(directory);
  nameless_file file(directory);
  write_all(file.get(), bytes, d.digest);
  file.publish(blob_path(d.digest));
  return d;
}

descriptor image_store::put_blob(int from, std::string_view media_type, std::string_view expected) {
  const std::string directory = directory_ + "/blobs/sha256";
  make_directories(directory);
  nameless_file file(directory);
  descriptor d{std::string(media_type), {}, 0};
  detail::sha256_stream digest;
  std::vector<char> buffer(std::size_t{256} * 1024);
  for (;;) {
    this_call().check();
    const ssize_t n = ::read(from, buffer.data(), buffer.size());
    if (n == 0) break;
    if (n < 0) {
      if (errno == EINTR) continue;
      fail_errno(errno, "read a blob");
    }
    const auto count = static_cast<std::size_t>(n);
    digest.add(buffer.data(), count);
    write_all(file.get(), {buffer.data(), count}, "a blob");
    d.size += count;
    this_call().progress(d.size, 0);
  }
  d.digest = digest.finish();
  if (!expected.empty() && expected != d.digest)
    fail(errc::conflict, "store blob {}: its bytes have the digest {}: fetch it again", expected, d.digest);
  file.publish(blob_path(d.digest));
  return d;
}

}  // namespace kit
