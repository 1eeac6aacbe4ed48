// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "kit/engine/engine.hpp"

/// \file
/// Files in and out of containers: `kit cp`. Part of kit::engine_images.
///
/// A container's paths are the container's choice: they are resolved in its root, through its own mounts, and each step
/// below is taken by a descriptor that follows no link. A program in it that swaps directories for links meanwhile leads
/// the copy elsewhere within the container, never out of it.

namespace kit {

struct copy_options {
  bool owners = false;       ///< to the host: keep owner, group and set-user-id bits; else files are the caller's
  bool follow_link = false;  ///< if the source is a symlink: what it leads to
};

/// Both take paths by Docker's rules: a directory that is there is copied into; one that is not is made as a copy of the
/// source; "DIR/." means what is in DIR; a file is copied over a file. Throws not_found ("no such container path: C:/x",
/// "no such directory"), conflict ("cannot copy directory" upon a file), no_space. A file is replaced once its copy is
/// whole. A container that does not run is not started meanwhile.
void copy_from_container(engine&, const container_id&, const std::string& path, const std::string& host_path,
                         const copy_options&);
void copy_to_container(engine&, const container_id&, const std::string& host_path, const std::string& path,
                       const copy_options&);
/// As a tar stream. `path` must be a directory to be written to.
void copy_from_container(engine&, const container_id&, const std::string& path, int to, const copy_options&);
void copy_to_container(engine&, const container_id&, int from, const std::string& path);

}  // namespace kit
