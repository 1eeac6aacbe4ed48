// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <memory>
#include <string>

struct evp_md_ctx_st;

namespace kit::detail {

/// SHA-256 of a stream.
class sha256_stream {
 public:
  sha256_stream();
  void add(const void* bytes, std::size_t count);
  /// "sha256:HEX" of all that was added. Once only.
  std::string finish();

 private:
  std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

}  // namespace kit::detail
