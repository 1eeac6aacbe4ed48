// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "digest.hpp"
#include "kit/image/archive.hpp"
#include "libarchive.hpp"

namespace kit::detail {

/// The bytes of a blob, decompressed, each digested on its way: libarchive's raw reader, and callbacks through which a
/// tar reader drinks from it. Throws invalid for what is no such stream, no_space beyond the limits.
class blob_stream {
 public:
  enum class digested { no, yes };
  blob_stream(int from, const unpack_limits& limits, digested = digested::yes);

  /// The next piece of the uncompressed archive, valid until the next call; empty at its end.
  std::string_view next();
  /// Reads what is left, of the archive and of the blob.
  void drain();

  [[nodiscard]] std::uint64_t read() const { return read_; }
  /// Of the blob, 0 where that is not known beforehand.
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] std::uint64_t unpacked() const { return unpacked_; }
  /// After drain(), once.
  void digests(kit::unpacked& answer);

 private:
  [[noreturn]] void refuse(const std::string& reason) const;
  std::size_t fill();
  static la_ssize_t read_blob(archive* a, void* self, const void** bytes) noexcept;

  int from_;
  unpack_limits limits_;
  bool digested_;
  std::vector<char> buffer_ = std::vector<char>(std::size_t{256} * 1024);
  std::uint64_t read_ = 0;
  std::uint64_t size_ = 0;
  std::uint64_t unpacked_ = 0;
  bool plain_ = false;
  sha256_stream blob_;
  sha256_stream content_;
  std::exception_ptr failure_;
  archive_reader raw_;
};

/// The tar archive within a blob.
class tar_reader {
 public:
  explicit tar_reader(blob_stream& from);

  /// The next entry, or null after the end marker.
  archive_entry* next();
  /// The next piece of the entry's content and where it belongs; false at its end.
  bool data(std::string_view& bytes, std::int64_t& offset);

 private:
  [[noreturn]] void refuse() const;
  void check_end();
  static la_ssize_t read_stream(archive* a, void* self, const void** bytes) noexcept;

  blob_stream& from_;
  std::string name_;
  std::exception_ptr failure_;
  archive_reader tar_;
};

}  // namespace kit::detail
