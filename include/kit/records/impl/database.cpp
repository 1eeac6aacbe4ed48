// SPDX-License-Identifier: Apache-2.0
#include "database.hpp"

#include <fcntl.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <exception>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit::detail {
namespace {

errc kind_of(int code, int sys_errno) {
  switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return errc::busy;
    case SQLITE_FULL: return errc::no_space;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY: return errc::permission;
    case SQLITE_CONSTRAINT: return errc::conflict;
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR: return sys_errno != 0 ? errc_of(sys_errno) : errc::io;
    default: return errc::io;
  }
}

// SQLite's own handler sleeps 1, 2, 5 ... 100 ms; a write of the records takes a tenth of one.
int wait_for_lock(void*, int attempt) {
  constexpr int attempts = 10'000;
  const timespec pause{0, attempt < 20 ? 100'000 : 1'000'000};
  ::nanosleep(&pause, nullptr);
  return attempt < attempts ? 1 : 0;
}

/// Takes no memory ahead of need: a command uses few pages of it, and each that was touched costs once more at a fork.
bool configure_sqlite() {
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
  sqlite3_config(SQLITE_CONFIG_PAGECACHE, nullptr, 0, 0);
  return true;
}

int open_handle(const std::string& path, sqlite3** handle) {
  [[maybe_unused]] static const bool configured = configure_sqlite();
  return sqlite3_open_v2(path.c_str(), handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                         nullptr);
}

}  // namespace

database::database(std::string path) : path_(std::move(path)) {
  int code = open_handle(path_, &handle_);
  if ((code & 0xff) == SQLITE_CANTOPEN && sqlite3_system_errno(handle_) == ENOENT) {
    close();
    // Made here because SQLite would make it readable by all, and the records hold environments.
    (void)open_file(path_, O_RDWR | O_CREAT, 0600);
    code = open_handle(path_, &handle_);
  }
  try {
    if (code != SQLITE_OK) fail(code, "open");
    wait_for_locks();
    sqlite3_db_config(handle_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    sqlite3_wal_autocheckpoint(handle_, 0);
    int persist = 1;
    sqlite3_file_control(handle_, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
    run("PRAGMA synchronous=NORMAL");
  } catch (...) {
    close();
    throw;
  }
}

database::~database() { close(); }

void database::close() noexcept {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  statements_.clear();
  sqlite3_close(std::exchange(handle_, nullptr));
}

void database::wait_for_locks() noexcept { sqlite3_busy_handler(handle_, wait_for_lock, nullptr); }

void database::fail(int code, std::string_view what) const {
  const int e = handle_ != nullptr ? sqlite3_system_errno(handle_) : 0;
  if (code == SQLITE_FULL)
    throw error(errc::no_space, fmt::format("write records {}: no space left on the disk; kit rm, rmi and system prune "
                                            "free some, even now",
                                            path_));
  const char* why = handle_ != nullptr ? sqlite3_errmsg(handle_) : sqlite3_errstr(code);
  const std::string kernel = e != 0 ? fmt::format(" ({})", errno_text(e)) : "";
  throw error(kind_of(code, e), fmt::format("{} records {}: {}{}", what, path_, why, kernel), e);
}

void database::run(const char* sql) {
  if (const int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr); code != SQLITE_OK) fail(code, "write");
}

std::string database::value(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  int code = sqlite3_prepare_v2(handle_, sql, -1, &statement, nullptr);
  std::string text;
  if (code == SQLITE_OK && (code = sqlite3_step(statement)) == SQLITE_ROW)
    text = reinterpret_cast<const char*>(sqlite3_column_text(statement, 0));
  sqlite3_finalize(statement);
  if (code != SQLITE_ROW && code != SQLITE_DONE) fail(code, "read");
  return text;
}

void database::transaction(function_ref<void()> work) {
  const bool outer = depth_ == 0;
  query(*this, outer ? "BEGIN IMMEDIATE" : "SAVEPOINT inner").run();
  ++depth_;
  try {
    work();
    query(*this, outer ? "COMMIT" : "RELEASE inner").run();
  } catch (...) {
    --depth_;
    // Some failures (a full disk) have rolled everything back already.
    if (sqlite3_get_autocommit(handle_) == 0)
      sqlite3_exec(handle_, outer ? "ROLLBACK" : "ROLLBACK TO inner; RELEASE inner", nullptr, nullptr, nullptr);
    throw;
  }
  --depth_;
}

sqlite3_stmt* database::prepared(const char* sql) {
  for (const auto& [key, statement] : statements_)
    if (key == sql) return statement;
  sqlite3_stmt* statement = nullptr;
  if (const int code = sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
      code != SQLITE_OK)
    fail(code, "read");
  statements_.emplace_back(sql, statement);
  return statement;
}

query::~query() {
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

void query::bind(int index, std::string_view text) {
  sqlite3_bind_text64(statement_, index, text.data() != nullptr ? text.data() : "", text.size(), SQLITE_TRANSIENT,
                      SQLITE_UTF8);
}

bool query::next() {
  switch (const int code = sqlite3_step(statement_)) {
    case SQLITE_ROW: return true;
    case SQLITE_DONE: return false;
    default: db_.fail(code, sqlite3_stmt_readonly(statement_) != 0 ? "read" : "write");
  }
}

bool query::run_unless_taken() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY) return false;
  if (code != SQLITE_DONE) db_.fail(code, "write");
  return true;
}

std::string query::text(int column) const {
  const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  const int size = sqlite3_column_bytes(statement_, column);
  return bytes == nullptr ? std::string() : std::string(bytes, static_cast<std::size_t>(size));
}

std::string join(const std::vector<std::string>& list) {
  std::string joined;
  for (const std::string& text : list) {
    joined += std::to_string(text.size());
    joined += ':';
    joined += text;
    joined += ',';
  }
  return joined;
}

std::vector<std::string> split(std::string_view joined) {
  std::vector<std::string> list;
  while (!joined.empty()) {
    const auto colon = std::min(joined.find(':'), joined.size());
    std::size_t size = 0;
    const auto [end, code] = std::from_chars(joined.data(), joined.data() + colon, size);
    if (code != std::errc() || end != joined.data() + colon || joined.size() - colon < 2 ||
        size > joined.size() - colon - 2 || joined[colon + 1 + size] != ',')
      kit::fail(errc::io, "read records: a list is malformed: \"{:.40}\"", joined);
    list.emplace_back(joined.substr(colon + 1, size));
    joined.remove_prefix(colon + size + 2);
  }
  return list;
}

}  // namespace kit::detail
