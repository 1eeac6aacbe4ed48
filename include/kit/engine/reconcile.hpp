// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "kit/engine/engine.hpp"

namespace kit {

/// One thing found out of order, in words, and what became of it.
struct finding {
  std::string object;         ///< "container eager_noether", "layer 3f2a...", "network bridge"
  std::string problem;        ///< "recorded as running; its process is gone"
  std::string action;         ///< "its exit recorded"; in a dry run "its exit to be recorded"; for a person, what to do
  bool needs_person = false;  ///< it could not be repaired
};

struct reconcile_options {
  bool dry_run = false;
};

/// Brings records and kernel together: exits not yet recorded, containers half made or half removed, layers without a
/// record, endpoints without a container, blobs without a manifest. Leaves alone what another kit is working on (its
/// lock is held). Safe to repeat, and beside anything else; a clean root gives an empty list.
std::vector<finding> reconcile(engine&, const reconcile_options&);

struct prune_options {
  bool all_images = false;  ///< also those with a name, if no container uses them
  bool volumes = false;     ///< also anonymous volumes that no container uses
  bool dry_run = false;
};
/// What `system prune` removes, or would: exited containers, images without a name, unused layers and blobs; and the bytes
/// that all of them take.
struct pruned {
  std::vector<std::string> containers, images, volumes;
  std::uint64_t bytes = 0;
};
pruned prune(engine&, const prune_options&);

}  // namespace kit
