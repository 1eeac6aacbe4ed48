// SPDX-License-Identifier: Apache-2.0
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "kit/engine/logs.hpp"
#include "kit/system/error.hpp"
#include "log_files.hpp"

namespace kit {
namespace {

constexpr std::size_t block = 256 * 1024;

[[noreturn]] void fail_archive(::archive* a, const char* verb, const std::string& path) {
  fail_errno(::archive_errno(a) > 0 ? ::archive_errno(a) : EIO, "{} {}", verb, path);
}

/// Appears, complete, under its new name before the old one goes.
void compress(const std::string& path) {
  const std::string packed = path + ".gz", unfinished = path + ".tmp";
  const unique_fd from = open_file(path, O_RDONLY | O_NOFOLLOW);
  struct stat st {};
  if (::fstat(from.get(), &st) != 0) fail_errno(errno, "look at {}", path);
  const unique_fd to = open_file(unfinished, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0640);
  {
    const std::unique_ptr<::archive, int (*)(::archive*)> a(::archive_write_new(), ::archive_write_free);
    const std::unique_ptr<::archive_entry, void (*)(::archive_entry*)> entry(::archive_entry_new(),
                                                                             ::archive_entry_free);
    ::archive_entry_set_pathname(entry.get(), "log");
    ::archive_entry_set_filetype(entry.get(), AE_IFREG);
    const auto require = [&](la_ssize_t result) {
      if (result < ARCHIVE_OK) fail_archive(a.get(), "compress", path);
    };
    require(::archive_write_add_filter_gzip(a.get()));
    require(::archive_write_set_format_raw(a.get()));
    require(::archive_write_open_fd(a.get(), to.get()));
    require(::archive_write_header(a.get(), entry.get()));
    std::string bytes(block, '\0');
    for (ssize_t n = 0; (n = ::read(from.get(), bytes.data(), bytes.size())) != 0;) {
      if (n < 0) fail_errno(errno, "read {}", path);
      require(::archive_write_data(a.get(), bytes.data(), static_cast<std::size_t>(n)));
    }
    require(::archive_write_close(a.get()));
  }
  const timespec times[2] = {st.st_atim, st.st_mtim};
  ::futimens(to.get(), times);
  if (::rename(unfinished.c_str(), packed.c_str()) != 0) fail_errno(errno, "rename {} to {}", unfinished, packed);
  ::unlink(path.c_str());
}

}  // namespace

void compress_old_logs(engine& e, const container_id& id) {
  const log_settings how = log_settings_of(spec_from_json(e.records().container(id.text()).spec));
  const std::string directory = e.container_dir(id);
  const auto alone = file_lock::try_now(directory + "/log.lock");
  if (!alone) return;
  for (;;) {
    auto files = detail::old_log_files(directory, how);
    if (!files.empty()) files.pop_back();
    const auto plain = std::find_if(files.begin(), files.end(), [](const auto& f) { return !f.packed; });
    if (plain == files.end()) return;
    try {
      compress(fmt::format("{}/{}.{}", directory, how.file_name(), plain->number));
    } catch (const error& x) {
      if (x.code() != errc::not_found) throw;  // it had its time
    }
  }
}

void unpack_log(const std::string& path, int to) {
  const std::unique_ptr<::archive, int (*)(::archive*)> a(::archive_read_new(), ::archive_read_free);
  ::archive_read_support_filter_gzip(a.get());
  ::archive_read_support_format_raw(a.get());
  ::archive_entry* entry = nullptr;
  const int opened = ::archive_read_open_filename(a.get(), path.c_str(), block);
  if (opened != ARCHIVE_OK || ::archive_read_next_header(a.get(), &entry) != ARCHIVE_OK)
    fail_archive(a.get(), "read", path);
  std::string bytes(block, '\0');
  for (la_ssize_t n = 0; (n = ::archive_read_data(a.get(), bytes.data(), bytes.size())) != 0;) {
    if (n < 0) fail_archive(a.get(), "read", path);
    write_all(to, {bytes.data(), static_cast<std::size_t>(n)}, "stdout");
  }
}

}  // namespace kit
