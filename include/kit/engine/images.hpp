// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kit/engine/engine.hpp"
#include "kit/image/exchange.hpp"
#include "kit/image/oci.hpp"
#include "kit/storage/types.hpp"

/// \file
/// Images and the engine. The functions in the first part need only the records; those in the second handle archives and
/// are linked only into kit-image (kit::engine_images), which `kit` calls for them.

namespace kit {

// ---- records only ---------------------------------------------------------------------------------

/// What image() finds, with its manifest.
struct image {
  image_record record;
  manifest_record manifest;
  image_config config;
};
/// Throws not_found ("no such image: X").
image find_image(engine&, std::string_view reference_or_digest);
/// The image's layers in `storage`, nearest first; empty if not all are unpacked there.
std::vector<layer_id> unpacked_chain(engine&, const manifest_record&, const std::string& storage);
/// Unpacks what is missing by calling kit-image, and answers the chain.
std::vector<layer_id> ensure_unpacked(engine&, const image&, const std::string& storage);
/// Removes a name; the last name takes the image, its unpacked layers and blobs that nobody else uses. Throws
/// conflict if a container uses the last name and `force` is not given (untags then). Answers what was "Untagged"/"Deleted".
std::vector<option> remove_image(engine&, std::string_view reference_or_digest, bool force);
/// Unpacked layers that no image and no container stands on.
std::vector<unpacked_record> unneeded_layers(engine&);
/// Removes one of them.
void remove_unneeded(engine&, const unpacked_record&);
/// Removes, or only counts, the unpacked layers of `storage` that no container stands on; the images stay, and are
/// unpacked again when they are needed. Answers the bytes. Throws busy while an import, an unpacking or a commit is going on.
std::uint64_t remove_unpacked(engine&, const std::string& storage, bool dry_run);
/// Removes unpacked layers and blobs that nothing recorded needs, and answers the bytes of the blobs. Does nothing while an
/// import, an unpacking or a commit is going on: what they make is not recorded yet.
std::uint64_t collect_unused(engine&);
/// Regenerates the image layout's index.json from the records.
void write_image_index(engine&);
void tag_image(engine&, std::string_view source, std::string_view reference);
/// The difference between a container's layer and its image, sorted: `kit diff`. What stands above an entry that was added
/// or deleted has changed.
std::vector<change> diff(engine&, const container_id&);

// ---- kit::engine_images ---------------------------------------------------------------------------

/// Unpacks the image in `storage`; what is there already is kept. Safe beside others doing the same.
std::vector<layer_id> unpack_image(engine&, const image&, const std::string& storage);
/// Makes an image of one layer from a root file system's archive on `from`. `changes`: Dockerfile lines
/// ("CMD [\"sh\"]"). Answers the manifest's digest. Nothing is left if it throws.
std::string import_image(engine&, int from, std::string_view reference, const std::vector<std::string>& changes,
                         std::string_view message);
/// An image that was loaded.
struct loaded_image {
  std::string digest;              ///< of its manifest
  std::vector<std::string> names;  ///< given to it; may be empty
};
/// Takes over the images of an archive, or of an OCI layout if `from` is a directory (kit/image/exchange.hpp), and unpacks
/// them in the default storage driver, by which their layers are verified. All of them or, if it throws, none.
std::vector<loaded_image> load_images(engine&, int from, std::string_view base_name);
/// Writes images as an archive to `to`. A name without a tag stands for all tags of it.
void save_images(engine&, const std::vector<std::string>& references, exchange_format, int to);
/// Writes the file system of a container as an archive to `to`: `kit export`.
void export_container(engine&, const container_id&, int to);
struct commit_options {
  std::string reference;  ///< may be empty
  std::string author, message;
  std::vector<std::string>
      changes;        ///< Dockerfile lines: CMD ENTRYPOINT ENV EXPOSE LABEL USER VOLUME WORKDIR STOPSIGNAL
  bool pause = true;  ///< while the layer is read
};
/// Makes an image of the container's changes upon its image, to be run as the container was (its command, variables,
/// user ...) unless `changes` say otherwise. No changes make no layer. Answers the manifest's digest.
std::string commit(engine&, const container_id&, const commit_options&);
/// Applies one Dockerfile line to a configuration. Throws invalid, quoting it.
void apply_change(image_config&, std::string_view line);

}  // namespace kit
