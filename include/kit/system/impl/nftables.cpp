// SPDX-License-Identifier: Apache-2.0
#include "kit/system/nftables.hpp"

#include <nftables/libnftables.h>

#include "kit/system/error.hpp"
#include "kit/system/library.hpp"

namespace kit {
namespace {

struct api {
  library from{"libnftables.so.1", "libnftables1"};
  decltype(nft_ctx_new)* make = from.function<decltype(nft_ctx_new)>("nft_ctx_new");
  decltype(nft_ctx_free)* free = from.function<decltype(nft_ctx_free)>("nft_ctx_free");
  decltype(nft_ctx_buffer_output)* keep_output =
      from.function<decltype(nft_ctx_buffer_output)>("nft_ctx_buffer_output");
  decltype(nft_ctx_buffer_error)* keep_error = from.function<decltype(nft_ctx_buffer_error)>("nft_ctx_buffer_error");
  decltype(nft_ctx_get_output_buffer)* output =
      from.function<decltype(nft_ctx_get_output_buffer)>("nft_ctx_get_output_buffer");
  decltype(nft_ctx_get_error_buffer)* error =
      from.function<decltype(nft_ctx_get_error_buffer)>("nft_ctx_get_error_buffer");
  decltype(nft_ctx_set_dry_run)* set_dry_run = from.function<decltype(nft_ctx_set_dry_run)>("nft_ctx_set_dry_run");
  decltype(nft_run_cmd_from_buffer)* run = from.function<decltype(nft_run_cmd_from_buffer)>("nft_run_cmd_from_buffer");
};

const api& nft() {
  static const api loaded;
  return loaded;
}

/// libnftables tells what went wrong in words alone.
errc code_of(const std::string& words) {
  auto has = [&](const char* part) { return words.find(part) != words.npos; };
  if (has("Operation not permitted")) return errc::permission;
  if (has("not supported") || has("Protocol not supported")) return errc::unsupported;
  if (has("No such file or directory")) return errc::not_found;
  return errc::invalid;
}

}  // namespace

struct nftables::context {
  nft_ctx* handle = nft().make(NFT_CTX_DEFAULT);
  context() {
    if (!handle) fail(errc::io, "open nftables: no answer from libnftables");
    nft().keep_output(handle);
    nft().keep_error(handle);
  }
  ~context() { nft().free(handle); }
  context(const context&) = delete;
  context& operator=(const context&) = delete;
};

nftables::nftables() : context_(std::make_unique<context>()) {}
nftables::~nftables() = default;
nftables::nftables(nftables&&) noexcept = default;
nftables& nftables::operator=(nftables&&) noexcept = default;

bool nftables::accepts(const std::string& commands) {
  nft().set_dry_run(context_->handle, true);
  const bool fine = nft().run(context_->handle, commands.c_str()) == 0;
  (void)nft().error(context_->handle);
  nft().set_dry_run(context_->handle, false);
  return fine;
}

std::string nftables::run(const std::string& commands) {
  const bool fine = nft().run(context_->handle, commands.c_str()) == 0;
  std::string printed = nft().output(context_->handle);
  std::string words = nft().error(context_->handle);
  if (fine) return printed;
  const errc code = code_of(words);
  // The first complaint; the others mostly follow from it.
  words = words.substr(0, words.find('\n'));
  if (words.starts_with("Error: ")) words.erase(0, 7);
  fail(code, "change nftables: {}", words);
}

}  // namespace kit
