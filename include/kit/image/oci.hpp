// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kit/driver.hpp"

/// \file
/// The JSON documents of an OCI image (image specification 1.1) as plain structs.

namespace kit {

inline constexpr std::string_view media_type_manifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view media_type_index = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view media_type_config = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view media_type_layer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view media_type_layer_gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view media_type_layer_zstd = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Docker's own (image manifest version 2, schema 2), which say the same.
inline constexpr std::string_view media_type_docker_manifest = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view media_type_docker_index = "application/vnd.docker.distribution.manifest.list.v2+json";

struct descriptor {
  std::string media_type;
  std::string digest;
  std::uint64_t size = 0;
};

struct image_manifest {
  descriptor config;
  std::vector<descriptor> layers;  ///< base first
};

/// One image of an index: of index.json in an image layout, or of an image for several platforms.
struct index_entry {
  descriptor manifest;    ///< or of another index: see its media type
  std::string reference;  ///< annotation org.opencontainers.image.ref.name; may be empty
  std::string os;         ///< of the platform; all three may be empty
  std::string architecture;
  std::string variant;
  std::string image_name;  ///< annotation io.containerd.image.name, the reference in full; may be empty
};

/// One image of manifest.json, the table of contents of a docker-archive. Members but `names` are files of the archive.
struct docker_manifest {
  std::string config;
  std::vector<std::string> names;   ///< references
  std::vector<std::string> layers;  ///< base first
};

struct image_history {
  std::string created;  ///< RFC 3339
  std::string created_by;
  std::string author;
  std::string comment;
  bool empty_layer = false;
};

struct image_config {
  std::string created;  ///< RFC 3339
  std::string author;
  std::string architecture;  ///< GOARCH words: "amd64"
  std::string os;            ///< "linux"
  // config
  std::string user;
  std::vector<std::string> env;  ///< "KEY=value"
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> volumes;
  std::vector<std::string> exposed_ports;
  std::string working_dir;
  std::string stop_signal;
  std::vector<option> labels;
  // rootfs and history
  std::vector<std::string> diff_ids;  ///< base first
  std::vector<image_history> history;
};

/// Parse and print. Parsing throws invalid, naming the member by its JSON path; members not listed
/// above are kept out. Printing gives the same bytes for the same value.
image_manifest parse_manifest(std::string_view json);
image_config parse_image_config(std::string_view json);
std::vector<index_entry> parse_index(std::string_view json);
std::vector<docker_manifest> parse_docker_manifests(std::string_view json);
std::string to_json(const image_manifest&);
std::string to_json(const image_config&);
std::string to_json(const std::vector<index_entry>&);
std::string to_json(const std::vector<docker_manifest>&);
/// The document `upon` with all that `config` says; members that image_config does not list stay (a health check).
std::string to_json(const image_config& config, std::string_view upon);

/// "sha256:..." of the chain: `diff_ids` base first (image specification, "Layer ChainID"). One per
/// prefix of the list, base first. Needs kit::archive.
std::vector<std::string> chain_ids(const std::vector<std::string>& diff_ids);

}  // namespace kit
