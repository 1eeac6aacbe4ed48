// SPDX-License-Identifier: Apache-2.0
#include "digest.hpp"

#include <openssl/evp.h>

#include "digest_text.hpp"
#include "kit/id.hpp"
#include "kit/image/archive.hpp"
#include "kit/image/oci.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace detail {

sha256_stream::sha256_stream() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
  if (context_ == nullptr || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1)
    fail(errc::io, "digest: libcrypto offers no SHA-256");
}

void sha256_stream::add(const void* bytes, std::size_t count) {
  if (EVP_DigestUpdate(context_.get(), bytes, count) != 1) fail(errc::io, "digest: libcrypto failed");
}

std::string sha256_stream::finish() {
  std::uint8_t bytes[32];
  if (EVP_DigestFinal_ex(context_.get(), bytes, nullptr) != 1) fail(errc::io, "digest: libcrypto failed");
  return std::string(digest_prefix) + hex(bytes, sizeof bytes);
}

}  // namespace detail

std::string sha256(std::string_view bytes) {
  detail::sha256_stream digest;
  digest.add(bytes.data(), bytes.size());
  return digest.finish();
}

std::vector<std::string> chain_ids(const std::vector<std::string>& diff_ids) {
  std::vector<std::string> chain;
  chain.reserve(diff_ids.size());
  for (const std::string& diff_id : diff_ids)
    chain.push_back(chain.empty() ? diff_id : sha256(chain.back() + ' ' + diff_id));
  return chain;
}

}  // namespace kit
