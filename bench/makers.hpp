// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <compare>
#include <memory>

#include "host.hpp"
#include "kit/storage/any_storage.hpp"

/// \file
/// Whoever makes a root file system that shares what is below it: each storage driver, and what it is compared with.

namespace kit::bench {

/// An image to make clones of: `files` files of 1 KiB, a hundred in a directory, in its lowest layer; one file in each
/// layer above; and the files `large0`, `large1` ... of these sizes.
struct image_shape {
  unsigned files = 10;
  unsigned layers = 1;
  std::vector<std::uint64_t> large = {};
  auto operator<=>(const image_shape&) const = default;
};

class maker {
 public:
  maker(std::string who, std::string what_it_does) : name(std::move(who)), what(std::move(what_it_does)) {}
  virtual ~maker() = default;
  maker(const maker&) = delete;
  maker& operator=(const maker&) = delete;

  const std::string name, what;

  /// Makes the image; once, then it is there until the end, or until drop.
  virtual void make(const image_shape&) = 0;
  virtual void drop(const image_shape&) = 0;
  /// A root file system of its own over the image: from nothing, to nothing. Threads may work on several at once.
  virtual void create(const image_shape&, const layer_id&) = 0;
  virtual unique_fd open(const image_shape&, const layer_id&) = 0;
  virtual void close(unique_fd tree, const layer_id&) { tree.reset(); }
  virtual void remove(const layer_id&) = 0;
  /// What it holds reaches the disk, and nobody writes it again.
  virtual void freeze(const layer_id&) = 0;
  /// What remove() left to be done later.
  virtual void tidy() {}
  /// The driver, if it is one, and the layers of an image as it knows them, nearest first.
  virtual any_storage* driver() { return nullptr; }
  virtual std::vector<layer_id> chain(const image_shape&) { return {}; }
};

using makers = std::vector<std::unique_ptr<maker>>;

/// The storage drivers that were found and work below `directory`, or those named, and who was left out and why. Throws
/// not_found for a name that is none.
struct found_drivers {
  makers all;
  std::vector<std::pair<std::string, std::string>> missing;  ///< name, reason
};
found_drivers find_drivers(const std::string& directory, const std::vector<std::string>& only);
/// What they are compared with, as far as this file system has it: mount(2), the snapshot ioctl, and, if `copies`, cp. The caller is in a
/// mount namespace of its own.
makers find_floors(const std::string& directory, bool copies);

/// The name of file `n` of an image.
std::string file_of_image(unsigned n);

}  // namespace kit::bench
