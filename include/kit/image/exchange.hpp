// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kit/image/oci.hpp"
#include "kit/image/store.hpp"

/// \file
/// Images on their way between stores: as an OCI image layout, a directory or an archive of one (image specification,
/// "image-layout"), and as a docker-archive, what `docker save` writes. Linked only into what handles images
/// (kit::archive).

namespace kit {

/// An image as others bring it. All its blobs are in the store, of the digests and sizes that its documents name.
struct carried_image {
  std::vector<std::string> names;  ///< as reference::text() gives them; may be empty
  descriptor manifest;
  image_manifest contents;
  std::string config;  ///< JSON, byte for byte
};

/// GOARCH's words: "linux", "amd64".
struct platform {
  std::string os;
  std::string architecture;
};

/// Stores the images that an archive on `from` brings. A pipe will do: every file is stored as it comes, digested on
/// its way, and what no image names is left for the collector of unused blobs. Of an image for several platforms that
/// of `host` is taken. A layout may name its images by tag only (skopeo and umoci do): such a tag is one of `base_name`,
/// or, if that is empty, no name. A manifest of Docker's kind is stored as OCI's that says the same.
///
/// Throws conflict for a blob of another digest than it is named by; invalid for what is malformed or does not fit
/// together: a blob of another size than announced, a document that is no JSON or larger than 4 MiB, an index within an
/// index within an index, more layers than can be stacked, a blob missing; not_found if there is no image for `host`,
/// naming those there are. Answers to this_call().
std::vector<carried_image> read_images(image_store&, int from, const platform& host, std::string_view base_name = {});
/// The same from an OCI layout in `directory` (a descriptor), of which only what is needed is read.
std::vector<carried_image> read_layout(image_store&, int directory, const platform& host,
                                       std::string_view base_name = {});

enum class exchange_format {
  oci,     ///< an archive of an OCI layout
  docker,  ///< that, and manifest.json: a docker-archive, too, as Docker writes it from version 25 on
};
/// Writes an archive of `images` to `to`; the same images give the same bytes. Blobs are digested on their way: throws
/// conflict if one is damaged.
void write_images(const image_store&, const std::vector<carried_image>& images, exchange_format, int to);

/// OCI's word for how the blob of a layer is compressed, by its first bytes (RFC 1952, RFC 8878).
std::string_view layer_media_type(const image_store&, std::string_view digest);

}  // namespace kit
