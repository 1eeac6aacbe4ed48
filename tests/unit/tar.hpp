// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <archive.h>
#include <archive_entry.h>
#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <vector>

/// \file
/// Archives, byte by byte: no library would write most of those that tests need.

namespace kit::testing {

/// One file of an archive; `type` is the type flag of ustar.
struct entry {
  std::string name;
  char type = '0';
  std::string content = {};
  std::string link = {};
  unsigned mode = 0644;
  unsigned uid = 0;
  unsigned major = 0;
  unsigned minor = 0;
};

inline std::string octal(std::uint64_t value, std::size_t width) {
  std::string digits = fmt::format("{:o}", value);
  return std::string(width - 1 - digits.size(), '0') + digits + '\0';
}

inline std::string header(const entry& e, std::uint64_t size) {
  std::string h(512, '\0');
  const auto put = [&](std::size_t at, const std::string& text) { h.replace(at, text.size(), text); };
  put(0, e.name.substr(0, 100));
  put(100, octal(e.mode, 8));
  put(108, octal(e.uid, 8));
  put(116, octal(0, 8));
  put(124, octal(size, 12));
  put(136, octal(1'000'000'000, 12));
  h[156] = e.type;
  put(157, e.link.substr(0, 100));
  put(257, std::string("ustar\0", 6) + "00");
  put(329, octal(e.major, 8));
  put(337, octal(e.minor, 8));
  put(148, std::string(8, ' '));
  unsigned sum = 0;
  for (const char c : h) sum += static_cast<unsigned char>(c);
  put(148, fmt::format("{:06o}", sum) + '\0' + ' ');
  return h;
}

inline std::string padded(std::string text) {
  text.resize((text.size() + 511) / 512 * 512, '\0');
  return text;
}

inline std::string pax_record(const std::string& key, const std::string& value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t total = rest + 1;
  while (std::to_string(total).size() + rest != total) ++total;
  return std::to_string(total) + ' ' + key + '=' + value + '\n';
}

inline std::string bytes_of(const entry& e) {
  std::string all;
  std::string pax;
  if (e.name.size() > 100) pax += pax_record("path", e.name);
  if (e.link.size() > 100) pax += pax_record("linkpath", e.link);
  if (!pax.empty()) all += header({"pax", 'x'}, pax.size()) + padded(pax);
  return all + header(e, e.content.size()) + padded(e.content);
}

inline const std::string end_marker(1024, '\0');

inline std::string tar(const std::vector<entry>& entries) {
  std::string all;
  for (const entry& e : entries) all += bytes_of(e);
  return all + end_marker;
}

inline std::string compressed(const std::string& bytes, int (*filter)(::archive*)) {
  std::string out;
  ::archive* a = ::archive_write_new();
  ::archive_write_set_format_raw(a);
  ::archive_write_set_bytes_in_last_block(a, 1);
  filter(a);
  ::archive_write_open(
      a, &out, nullptr,
      [](::archive*, void* to, const void* from, std::size_t count) {
        static_cast<std::string*>(to)->append(static_cast<const char*>(from), count);
        return static_cast<la_ssize_t>(count);
      },
      nullptr);
  ::archive_entry* e = ::archive_entry_new();
  ::archive_entry_set_filetype(e, AE_IFREG);
  ::archive_write_header(a, e);
  ::archive_write_data(a, bytes.data(), bytes.size());
  ::archive_entry_free(e);
  ::archive_write_close(a);
  ::archive_write_free(a);
  return out;
}

}  // namespace kit::testing
