// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include <memory>
#include <string>

#include "kit/system/error.hpp"

/// \file
/// What reading and writing archives by libarchive have in common.

namespace kit::detail {

using archive_reader = std::unique_ptr<archive, int (*)(archive*)>;
using archive_writer = std::unique_ptr<archive, int (*)(archive*)>;
using archive_entry_ptr = std::unique_ptr<archive_entry, void (*)(archive_entry*)>;

inline std::string why(archive* a) {
  const char* text = ::archive_error_string(a);
  return text != nullptr ? text : "no reason given";
}

/// libarchive turns the names of pax headers into the thread's character set. UTF-8 is the one in which every name
/// survives, those that are not UTF-8 included; the C locale would make question marks of them.
class utf8_scope {
 public:
  utf8_scope() : locale_(::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)) {
    if (locale_ == nullptr) fail_errno(errno, "load the locale C.UTF-8");
    outer_ = ::uselocale(locale_);
  }
  ~utf8_scope() {
    ::uselocale(outer_);
    ::freelocale(locale_);
  }
  utf8_scope(const utf8_scope&) = delete;
  utf8_scope& operator=(const utf8_scope&) = delete;

 private:
  locale_t locale_;
  locale_t outer_ = nullptr;
};

}  // namespace kit::detail
