// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "database.hpp"
#include "kit/records/records.hpp"

namespace kit {

struct records::impl {
  explicit impl(const std::string& root) : db(root + "/kit.db") {}
  detail::database db;
};

namespace detail {

std::string join_options(const std::vector<option>& list);
std::vector<option> split_options(std::string_view joined);

/// The one id of `table` that `text` names: in full, by name, or by a prefix no other has; empty if none. Throws
/// invalid for a prefix that several have. `sql_name` and `sql_id` are the two look-ups of that table.
std::string find_id(database& db, std::string_view what, std::string_view text, const char* sql_name,
                    const char* sql_id);

std::int64_t now_ns();

}  // namespace detail
}  // namespace kit
