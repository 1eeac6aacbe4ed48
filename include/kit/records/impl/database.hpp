// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sqlite3.h>

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kit/detail/function_ref.hpp"

/// \file
/// SQLite as the records use it: one connection with the settings that records.hpp explains, and its statements,
/// each prepared when first used and kept.

namespace kit::detail {

class database {
 public:
  /// Opens PATH, which is made (mode 0600) if absent.
  explicit database(std::string path);
  ~database();
  database(const database&) = delete;
  database& operator=(const database&) = delete;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] sqlite3* handle() const noexcept { return handle_; }
  /// Has statements wait up to ten seconds for locks, as they do from the beginning.
  void wait_for_locks() noexcept;
  /// Runs statements that answer nothing.
  void run(const char* sql);
  /// The one value of a statement such as a PRAGMA, as text.
  std::string value(const char* sql);
  /// As records::transaction.
  void transaction(function_ref<void()> work);
  [[nodiscard]] bool in_transaction() const noexcept { return depth_ > 0; }
  /// Rows changed by the last statement.
  [[nodiscard]] int changes() const noexcept { return sqlite3_changes(handle_); }
  /// Throws what `code`, just answered by SQLite, means.
  [[noreturn]] void fail(int code, std::string_view what) const;
  /// `sql` must be a string that outlives the connection: it is the key of the cache.
  sqlite3_stmt* prepared(const char* sql);

 private:
  void close() noexcept;

  std::string path_;
  sqlite3* handle_ = nullptr;
  std::vector<std::pair<const char*, sqlite3_stmt*>> statements_;
  int depth_ = 0;
};

/// One use of a prepared statement: parameters in order, then rows. Reset at the end of its scope, so that no read
/// stays open. At most one at a time per statement.
class query {
 public:
  template <class... Args>
  query(database& db, const char* sql, const Args&... args) : db_(db), statement_(db.prepared(sql)) {
    int index = 0;
    (bind(++index, args), ...);
  }
  ~query();
  query(const query&) = delete;
  query& operator=(const query&) = delete;

  /// To the next row; false at the end.
  bool next();
  /// For statements without rows.
  void run() {
    while (next()) {}
  }
  /// The same, but a violated UNIQUE or PRIMARY KEY is answered by false.
  bool run_unless_taken();

  [[nodiscard]] std::string text(int column) const;
  [[nodiscard]] std::int64_t number(int column) const { return sqlite3_column_int64(statement_, column); }
  [[nodiscard]] bool null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

 private:
  void bind(int index, std::string_view text);
  template <std::integral I>
  void bind(int index, I number) {
    sqlite3_bind_int64(statement_, index, static_cast<sqlite3_int64>(number));
  }

  database& db_;
  sqlite3_stmt* statement_;
};

/// A list of texts in one column, as netstrings ("3:abc,0:,"): any bytes, readable by people.
std::string join(const std::vector<std::string>& list);
std::vector<std::string> split(std::string_view joined);

}  // namespace kit::detail
