// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/engine/engine.hpp"

namespace kit {

/// Held by whoever changes a container, for as long as it takes: unfinished and being made right now look alike in the
/// records, and this lock tells them apart. Waiting; and answering an empty lock if it is held.
/// Throws not_found if the container has no directory any more.
file_lock lock_container(engine&, const container_id&);
file_lock try_lock_container(engine&, const container_id&);

/// Held, shared, by whoever unpacks, imports or commits: their blobs and layers are not recorded until the end. Whoever
/// removes what nothing records takes it exclusively, or leaves it for another time.
file_lock lock_images(engine&);
file_lock try_lock_images(engine&);

}  // namespace kit
