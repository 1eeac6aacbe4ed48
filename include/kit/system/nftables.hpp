// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <string>

namespace kit {

/// Packet filter rules by nft(8)'s language, through libnftables, which is loaded when the first of these is made: it
/// is heavy, and starting a container never needs it. Speaks to the network namespace the calling thread is in. One
/// thread at a time.
class nftables {
 public:
  /// Throws unsupported if libnftables is not installed.
  nftables();
  ~nftables();
  nftables(nftables&&) noexcept;
  nftables& operator=(nftables&&) noexcept;

  /// Runs `commands` as one transaction, all or nothing, and answers what they print. Names and addresses in it must
  /// be checked by the caller: they are part of a language. Throws with nft's own words: permission, unsupported
  /// (the kernel has no nftables), not_found (a table, chain or set is absent), else invalid.
  std::string run(const std::string& commands);
  /// Whether the kernel would take `commands`: it is asked, and changes nothing.
  bool accepts(const std::string& commands);

 private:
  struct context;
  std::unique_ptr<context> context_;
};

}  // namespace kit
