// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kit/detail/function_ref.hpp"
#include "kit/image/oci.hpp"
#include "kit/system/fd.hpp"

/// \file
/// # The image store
///
/// An OCI image layout (image specification, "image-layout"): DIR/oci-layout, DIR/index.json,
/// DIR/blobs/sha256/HEX. Blobs only; it knows no storage driver, and names live in the records:
/// index.json is made anew from them (write_index), so that skopeo and umoci can read the directory.

namespace kit {

class image_store {
 public:
  explicit image_store(std::string directory);  ///< touches nothing

  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  [[nodiscard]] std::string blob_path(std::string_view digest) const;  ///< throws invalid for a malformed digest
  [[nodiscard]] bool has_blob(std::string_view digest) const;
  [[nodiscard]] std::uint64_t blob_size(std::string_view digest) const;  ///< bytes; throws not_found
  /// Throws not_found, naming the digest.
  [[nodiscard]] unique_fd open_blob(std::string_view digest) const;
  [[nodiscard]] std::string read_blob(std::string_view digest) const;

  /// Stores bytes under their digest (sha256), synced; present already: success. Needs kit::archive.
  descriptor put_blob(std::string_view bytes, std::string_view media_type);
  /// Stores a stream, digesting as it goes; `expected` (may be empty) is checked: conflict if it differs, nothing is
  /// kept. Needs kit::archive.
  descriptor put_blob(int from, std::string_view media_type, std::string_view expected = {});
  /// The same, of pieces that `next` answers until one is empty.
  descriptor put_blob(function_ref<std::string_view()> next, std::string_view media_type,
                      std::string_view expected = {});
  /// Absent: success.
  void remove_blob(std::string_view digest);
  [[nodiscard]] std::vector<std::string> blobs() const;
  /// Rewrites index.json (and oci-layout) under a lock: one entry per {manifest, reference}.
  void write_index(const std::vector<std::pair<descriptor, std::string>>& manifests);

 private:
  std::string directory_;
};

}  // namespace kit
