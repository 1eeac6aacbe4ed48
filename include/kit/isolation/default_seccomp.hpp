// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/system/capability.hpp"
#include "kit/system/seccomp.hpp"

namespace kit {

/// The filter of a container that asked for none of its own: what is not listed answers EPERM.
///
/// Its list is Docker's (moby/profiles, seccomp/default.json, as published in 2026), so that what runs there
/// runs here: everyday calls for all, some only by argument (no AF_ALG, AF_VSOCK or retired protocol family by
/// socket(2), no new namespace by clone(2)), and those that belong to a capability if it is in `granted`,
/// the container's bounding set. clone3(2) without CAP_SYS_ADMIN answers ENOSYS, for its flags are in memory a filter
/// cannot read, and libraries then fall back to clone(2).
seccomp_profile default_seccomp(capability_set granted);

}  // namespace kit
