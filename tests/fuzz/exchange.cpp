// SPDX-License-Identifier: Apache-2.0
#include "kit/image/exchange.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <cstdlib>

#include "fuzz/repair.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/error.hpp"
#include "scratch.hpp"

/// Whatever the bytes are: no crash, and an image that is answered is whole in the store.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const kit::testing::scratch directory;
  std::string tar(reinterpret_cast<const char*>(bytes), size);
  kit::testing::repair(tar);
  const kit::unique_fd archive(::memfd_create("archive", MFD_CLOEXEC));
  kit::write_all(archive.get(), tar, "archive");
  ::lseek(archive.get(), 0, SEEK_SET);
  kit::image_store store(directory / "store");
  try {
    for (const auto& image : kit::read_images(store, archive.get(), {"linux", "amd64"}, "base")) {
      if (kit::sha256(store.read_blob(image.manifest.digest)) != image.manifest.digest) std::abort();
      if (store.read_blob(image.contents.config.digest) != image.config) std::abort();
      for (const kit::descriptor& l : image.contents.layers)
        if (store.blob_size(l.digest) != l.size) std::abort();
    }
  } catch (const kit::error&) {}
  kit::remove_tree(directory / "store");
  return 0;
}
