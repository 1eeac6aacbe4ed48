// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/testing/storage.hpp"

namespace kit::testing::detail {

/// Skips the check where the file system below the layers has no user extended attributes.
void need_attributes(storage_fixture& f);

using storage_checks_part = std::span<const check<storage_fixture>>;

storage_checks_part storage_call_checks();          // storage_calls.cpp: what the calls answer
storage_checks_part storage_tree_checks();          // storage_trees.cpp: what the trees show
storage_checks_part storage_history_checks();       // storage_histories.cpp: chains beside a flat reference
storage_checks_part storage_ability_checks();       // storage_abilities.cpp: changes, limit
storage_checks_part storage_interruption_checks();  // storage_interruption.cpp: crashes, and many at once

}  // namespace kit::testing::detail
