// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

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
  std::vector<char> buffer(std::size_t{256} * 1024);
  struct stat st {};
  const bool known = ::fstat(from, &st) == 0 && S_ISREG(st.st_mode);
  std::uint64_t done = 0;
  return put_blob(
      [&]() -> std::string_view {
        for (;;) {
          this_call().check();
          const ssize_t n = ::read(from, buffer.data(), buffer.size());
          if (n < 0 && errno == EINTR) continue;
          if (n < 0) fail_errno(errno, "read a blob");
          done += static_cast<std::size_t>(n);
          this_call().progress(done, known ? static_cast<std::uint64_t>(st.st_size) : 0);
          return {buffer.data(), static_cast<std::size_t>(n)};
        }
      },
      media_type, expected);
}

descriptor image_store::put_blob(function_ref<std::string_view()> next, std::string_view media_type,
                                 std::string_view expected) {
  const std::string directory = directory_ + "/blobs/sha256";
  make_directories(directory);
  nameless_file file(directory);
  descriptor d{std::string(media_type), {}, 0};
  detail::sha256_stream digest;
  for (std::string_view piece = next(); !piece.empty(); piece = next()) {
    digest.add(piece.data(), piece.size());
    write_all(file.get(), piece, "a blob");
    d.size += piece.size();
  }
  d.digest = digest.finish();
  if (!expected.empty() && expected != d.digest)
    fail(errc::conflict, "store blob {}: its bytes have the digest {}: fetch it again", expected, d.digest);
  file.publish(blob_path(d.digest));
  return d;
}

}  // namespace kit
