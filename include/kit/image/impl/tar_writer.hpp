// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <exception>
#include <string>

#include "digest.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/fd.hpp"
#include "libarchive.hpp"

namespace kit::detail {

inline archive_entry_ptr new_entry(const std::string& path) {
  archive_entry_ptr e(::archive_entry_new(), ::archive_entry_free);
  ::archive_entry_copy_pathname(e.get(), path.c_str());
  return e;
}

/// A pax archive written to a descriptor and digested on its way.
class tar_writer {
 public:
  explicit tar_writer(int to) : to_(to), tar_(::archive_write_new(), ::archive_write_free) {
    ::archive_write_set_format_pax(tar_.get());
    // One spelling of each extended attribute, the one that GNU tar and Go read.
    must(::archive_write_set_options(tar_.get(), "xattrheader=SCHILY"));
    ::archive_write_set_bytes_per_block(tar_.get(), 64 * 1024);
    ::archive_write_set_bytes_in_last_block(tar_.get(), 1);
    must(::archive_write_open(tar_.get(), this, nullptr, write_piece, nullptr));
  }

  void header(archive_entry* e) { must(::archive_write_header(tar_.get(), e)); }
  void data(const char* bytes, std::size_t count) {
    if (::archive_write_data(tar_.get(), bytes, count) != static_cast<la_ssize_t>(count)) must(ARCHIVE_FATAL);
  }
  packed finish() {
    must(::archive_write_close(tar_.get()));
    return {digest_.finish(), bytes_};
  }

 private:
  void must(int code) {
    if (code == ARCHIVE_OK || code == ARCHIVE_WARN) return;
    if (failure_) std::rethrow_exception(failure_);
    fail(errc::io, "write archive: {}", why(tar_.get()));
  }

  static la_ssize_t write_piece(archive* a, void* self, const void* bytes, std::size_t count) noexcept {
    auto& tar = *static_cast<tar_writer*>(self);
    try {
      write_all(tar.to_, {static_cast<const char*>(bytes), count}, "an archive");
      tar.digest_.add(bytes, count);
      tar.bytes_ += count;
      return static_cast<la_ssize_t>(count);
    } catch (...) {
      tar.failure_ = std::current_exception();
      ::archive_set_error(a, EIO, "writing failed");
      return -1;
    }
  }

  int to_;
  sha256_stream digest_;
  std::uint64_t bytes_ = 0;
  std::exception_ptr failure_;
  detail::archive_writer tar_;
};

}  // namespace kit::detail
