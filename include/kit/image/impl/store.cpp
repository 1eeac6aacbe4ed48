// SPDX-License-Identifier: Apache-2.0
#include "kit/image/store.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "digest_text.hpp"
#include "kit/system/error.hpp"

namespace kit {

image_store::image_store(std::string directory) : directory_(std::move(directory)) {}

std::string image_store::blob_path(std::string_view digest) const {
  if (!detail::valid_digest(digest)) fail(errc::invalid, "look up blob \"{}\": it is not a sha256 digest", digest);
  return directory_ + "/blobs/sha256/" + std::string(digest.substr(detail::digest_prefix.size()));
}

bool image_store::has_blob(std::string_view digest) const { return ::access(blob_path(digest).c_str(), F_OK) == 0; }

std::uint64_t image_store::blob_size(std::string_view digest) const {
  struct stat st {};
  if (::fstat(open_blob(digest).get(), &st) != 0) fail_errno(errno, "stat blob {}", digest);
  return static_cast<std::uint64_t>(st.st_size);
}

unique_fd image_store::open_blob(std::string_view digest) const {
  const std::string path = blob_path(digest);
  try {
    return open_file(path, O_RDONLY | O_NOFOLLOW);
  } catch (const error& e) {
    if (e.sys_errno() != ENOENT) throw;
    fail(errc::not_found, "no such blob in {}: {}", directory_, digest);
  }
}

std::string image_store::read_blob(std::string_view digest) const { return read_all(open_blob(digest).get(), digest); }

void image_store::remove_blob(std::string_view digest) {
  const std::string path = blob_path(digest);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_errno(errno, "remove blob {}", path);
}

std::vector<std::string> image_store::blobs() const {
  std::vector<std::string> digests;
  const std::string path = directory_ + "/blobs/sha256";
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(path.c_str()), ::closedir);
  if (stream == nullptr) {
    if (errno == ENOENT) return digests;
    fail_errno(errno, "read directory {}", path);
  }
  while (const dirent* entry = ::readdir(stream.get())) {
    std::string digest = std::string(detail::digest_prefix) + entry->d_name;
    if (detail::valid_digest(digest)) digests.push_back(std::move(digest));
  }
  std::sort(digests.begin(), digests.end());
  return digests;
}

void image_store::write_index(const std::vector<std::pair<descriptor, std::string>>& manifests) {
  std::vector<index_entry> index;
  for (const auto& [manifest, reference] : manifests) index.push_back({manifest, reference, {}, {}, {}, {}});
  const std::string text = to_json(index);
  make_directories(directory_ + "/blobs/sha256");
  const auto lock = file_lock::wait(directory_ + "/.lock");
  // On a full disk, what need not be written must not fail.
  const auto keep = [](const std::string& path, std::string_view wanted, bool sync) {
    if (::access(path.c_str(), F_OK) != 0 || read_file(path) != wanted) replace_file(path, wanted, 0644, sync);
  };
  keep(directory_ + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})", false);
  keep(directory_ + "/index.json", text, true);
}

}  // namespace kit
