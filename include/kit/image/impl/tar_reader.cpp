// SPDX-License-Identifier: Apache-2.0
#include "tar_reader.hpp"

#include <sys/stat.h>
#include <unistd.h>

namespace kit {
namespace detail {

blob_stream::blob_stream(int from, const unpack_limits& limits, digested d)
    : from_(from), limits_(limits), digested_(d == digested::yes), raw_(::archive_read_new(), ::archive_read_free) {
  struct stat st {};
  if (::fstat(from_, &st) == 0 && S_ISREG(st.st_mode)) size_ = static_cast<std::uint64_t>(st.st_size);
  ::archive_read_support_filter_gzip(raw_.get());
  ::archive_read_support_filter_zstd(raw_.get());
  ::archive_read_support_format_raw(raw_.get());
  archive_entry* entry = nullptr;
  if (::archive_read_open(raw_.get(), this, nullptr, read_blob, nullptr) != ARCHIVE_OK ||
      ::archive_read_next_header(raw_.get(), &entry) != ARCHIVE_OK)
    refuse(why(raw_.get()));
  plain_ = ::archive_filter_count(raw_.get()) == 1;
}

std::string_view blob_stream::next() {
  const void* bytes = nullptr;
  std::size_t count = 0;
  la_int64_t offset = 0;
  const int code = ::archive_read_data_block(raw_.get(), &bytes, &count, &offset);
  if (code == ARCHIVE_EOF) return {};
  if (code != ARCHIVE_OK) refuse(why(raw_.get()));
  unpacked_ += count;
  if (unpacked_ > 1ull << 30 && unpacked_ / limits_.ratio > read_)
    fail(errc::no_space, "unpack archive: it expands more than {} times", limits_.ratio);
  if (digested_ && !plain_) content_.add(bytes, count);
  return {static_cast<const char*>(bytes), count};
}

void blob_stream::drain() {
  while (!next().empty()) this_call().check();
  while (fill() > 0) this_call().check();
}

void blob_stream::digests(kit::unpacked& answer) {
  answer.digest = blob_.finish();
  answer.diff_id = plain_ ? answer.digest : content_.finish();
}

void blob_stream::refuse(const std::string& reason) const {
  if (failure_) std::rethrow_exception(failure_);
  fail(errc::invalid, "unpack archive: {}", read_ == 0 ? "it is empty" : reason);
}

std::size_t blob_stream::fill() {
  for (;;) {
    const ssize_t n = ::read(from_, buffer_.data(), buffer_.size());
    if (n < 0 && errno == EINTR) {
      this_call().check();
      continue;
    }
    if (n < 0) fail_errno(errno, "read an archive");
    if (digested_) blob_.add(buffer_.data(), static_cast<std::size_t>(n));
    read_ += static_cast<std::uint64_t>(n);
    return static_cast<std::size_t>(n);
  }
}

la_ssize_t blob_stream::read_blob(archive* a, void* self, const void** bytes) noexcept {
  auto& stream = *static_cast<blob_stream*>(self);
  try {
    *bytes = stream.buffer_.data();
    return static_cast<la_ssize_t>(stream.fill());
  } catch (...) {
    stream.failure_ = std::current_exception();
    ::archive_set_error(a, EIO, "reading failed");
    return ARCHIVE_FATAL;
  }
}

tar_reader::tar_reader(blob_stream& from) : from_(from), tar_(::archive_read_new(), ::archive_read_free) {
  ::archive_read_support_format_tar(tar_.get());
  if (::archive_read_open(tar_.get(), this, nullptr, read_stream, nullptr) != ARCHIVE_OK) refuse();
}

archive_entry* tar_reader::next() {
  archive_entry* entry = nullptr;
  const int code = ::archive_read_next_header(tar_.get(), &entry);
  if (code == ARCHIVE_EOF) {
    check_end();
    return nullptr;
  }
  if (code != ARCHIVE_OK && code != ARCHIVE_WARN) refuse();
  const char* name = ::archive_entry_pathname(entry);
  name_ = name != nullptr ? name : "";
  return entry;
}

bool tar_reader::data(std::string_view& bytes, std::int64_t& offset) {
  const void* at = nullptr;
  std::size_t count = 0;
  la_int64_t where = 0;
  const int code = ::archive_read_data_block(tar_.get(), &at, &count, &where);
  if (code == ARCHIVE_EOF) return false;
  if (code != ARCHIVE_OK && code != ARCHIVE_WARN) refuse();
  bytes = {static_cast<const char*>(at), count};
  offset = where;
  return true;
}

void tar_reader::refuse() const {
  if (failure_) std::rethrow_exception(failure_);
  if (!name_.empty()) fail(errc::invalid, "unpack archive: after entry \"{:.200}\": {}", name_, why(tar_.get()));
  const bool unknown = ::archive_format(tar_.get()) == 0;
  fail(errc::invalid, "unpack archive: {}",
       unknown ? "it is no tar archive, plain or compressed by gzip or zstd" : why(tar_.get()));
}

// libarchive takes the end of the stream for the end of the archive. The blocks of zeros that mark it are what tells a
// whole archive from one cut off between two entries.
void tar_reader::check_end() {
  const auto end = static_cast<std::uint64_t>(::archive_read_header_position(tar_.get()));
  from_.drain();
  if (from_.unpacked() < end + 512)
    fail(errc::invalid, "unpack archive: after entry \"{:.200}\": it is truncated: no end marker", name_);
}

la_ssize_t tar_reader::read_stream(archive* a, void* self, const void** bytes) noexcept {
  auto& tar = *static_cast<tar_reader*>(self);
  try {
    const std::string_view piece = tar.from_.next();
    *bytes = piece.data();
    return static_cast<la_ssize_t>(piece.size());
  } catch (...) {
    tar.failure_ = std::current_exception();
    ::archive_set_error(a, EIO, "reading failed");
    return ARCHIVE_FATAL;
  }
}

}  // namespace detail

unpacked digest_archive(int from, const unpack_limits& limits) {
  unpacked answer;
  detail::blob_stream blob(from, limits);
  blob.drain();
  answer.bytes_read = blob.read();
  blob.digests(answer);
  return answer;
}

}  // namespace kit
