// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

#include <vector>

#include "digest.hpp"
#include "kit/image/archive.hpp"
#include "kit/image/store.hpp"
#include "kit/system/error.hpp"
#include "kit/system/nameless_file.hpp"

namespace kit {

descriptor image_store::put_blob(std::string_view bytes, std::string_view media_type) {
  descriptor d{std::string(media_type), sha256(bytes), bytes.size()};
  if (has_blob(d.digest)) return d;
  const std::string directory = directory_ + "/blobs/sha256";
  make_directories(directory);
  nameless_file file(directory);
  write_all(file.get(), bytes, d.digest);
  in_step("publish_blob", [&] { file.publish(blob_path(d.digest)); });
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
  in_step("publish_blob", [&] { file.publish(blob_path(d.digest)); });
  return d;
}

}  // namespace kit
