// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <span>

#include "database.hpp"

namespace kit::detail {

/// The schema as steps: the first makes an empty database version 1, the next brings version 1 to 2, and so on. A
/// step that was released never changes; a new version is a new step at the end.
std::span<const char* const> schema_steps() noexcept;

/// Throws unsupported, naming it, on a file system that other machines may have open too.
void require_shared_memory(const std::string& directory);

/// Puts aside some space for records::releasing, if there is any: a file beside the database.
void keep_ballast(const database& db);
/// Gives it back to the file system; false if there is none.
bool drop_ballast(const database& db);

/// Brings `db` to the version that `steps` lead to, in one transaction, under a lock beside the file. What an older
/// kit wrote is first copied to PATH.vN (N: its version). Throws unsupported for a database of a newer kit, and where the
/// file system has no WAL.
void bring_up_to_date(database& db, std::span<const char* const> steps);

}  // namespace kit::detail
