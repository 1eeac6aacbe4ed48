// SPDX-License-Identifier: Apache-2.0
#include "schema.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit::detail {
namespace {

// Lists are netstrings (database.hpp). WITHOUT ROWID: one b-tree per table instead of two, felt at every start.
constexpr const char* version_1 = R"(
CREATE TABLE settings (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE containers (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  image TEXT NOT NULL,
  image_digest TEXT NOT NULL,
  storage TEXT NOT NULL,
  isolation TEXT NOT NULL,
  chain TEXT NOT NULL,
  command TEXT NOT NULL,
  spec TEXT NOT NULL,
  labels TEXT NOT NULL,
  auto_remove INTEGER NOT NULL,
  state TEXT NOT NULL,
  pid INTEGER NOT NULL,
  start_time INTEGER NOT NULL,
  boot_id TEXT NOT NULL,
  exit_code INTEGER NOT NULL,
  oom_killed INTEGER NOT NULL,
  error TEXT NOT NULL,
  created_ns INTEGER NOT NULL,
  started_ns INTEGER NOT NULL,
  finished_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE networks (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  driver TEXT NOT NULL,
  prefixes TEXT NOT NULL,
  gateways TEXT NOT NULL,
  options TEXT NOT NULL,
  labels TEXT NOT NULL,
  link TEXT NOT NULL,
  created_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE endpoints (
  id TEXT PRIMARY KEY,
  container TEXT NOT NULL,
  network TEXT NOT NULL,
  interface_name TEXT NOT NULL,
  link TEXT NOT NULL UNIQUE,
  mac TEXT NOT NULL,
  addresses TEXT NOT NULL,
  attachment TEXT NOT NULL,
  UNIQUE (container, interface_name)
) WITHOUT ROWID;

-- The next host number never given out, per prefix of a network.
CREATE TABLE pools (
  network TEXT,
  prefix TEXT,
  next INTEGER NOT NULL,
  PRIMARY KEY (network, prefix)
) WITHOUT ROWID;

-- A host number is held by an endpoint, or free since its `released`-th place in the queue.
CREATE TABLE leases (
  network TEXT,
  prefix TEXT,
  host INTEGER,
  endpoint TEXT,
  released INTEGER,
  PRIMARY KEY (network, prefix, host)
) WITHOUT ROWID;
CREATE INDEX leases_held ON leases (endpoint) WHERE endpoint IS NOT NULL;
CREATE INDEX leases_free ON leases (network, prefix, released) WHERE endpoint IS NULL;

CREATE TABLE manifests (
  digest TEXT PRIMARY KEY,
  config_digest TEXT NOT NULL,
  config TEXT NOT NULL,
  layers TEXT NOT NULL,
  size INTEGER NOT NULL,
  created_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE images (
  reference TEXT PRIMARY KEY,
  digest TEXT NOT NULL,
  created_ns INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE unpacked (
  driver TEXT,
  chain_id TEXT,
  layer TEXT NOT NULL,
  PRIMARY KEY (driver, chain_id)
) WITHOUT ROWID;

CREATE TABLE events (
  number INTEGER PRIMARY KEY,
  time_ns INTEGER NOT NULL,
  type TEXT NOT NULL,
  action TEXT NOT NULL,
  actor TEXT NOT NULL,
  attributes TEXT NOT NULL
);
)";

// Those that run are found without reading the thousands that do not. LEFT JOIN of images needs the other.
constexpr const char* version_2 = R"(
CREATE INDEX containers_live ON containers (state) WHERE state IN ('running', 'paused');
CREATE INDEX images_by_digest ON images (digest);
)";

constexpr const char* version_3 = R"(
CREATE TABLE volumes (
  name TEXT PRIMARY KEY,
  labels TEXT NOT NULL,
  anonymous INTEGER NOT NULL,
  created_ns INTEGER NOT NULL
) WITHOUT ROWID;

ALTER TABLE containers ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE containers ADD COLUMN restart_delay_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE containers ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE containers ADD COLUMN health TEXT NOT NULL DEFAULT '';
ALTER TABLE containers ADD COLUMN log_bytes_lost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE networks ADD COLUMN removing INTEGER NOT NULL DEFAULT 0;
DROP INDEX containers_live;
CREATE INDEX containers_live ON containers (state) WHERE state IN ('running', 'paused', 'restarting');
)";

constexpr const char* steps_to_now[] = {version_1, version_2, version_3};

int version_of(database& db) { return std::stoi(db.value("PRAGMA user_version")); }

void require_wal(database& db) {
  // Of a new database. Rows are small, and the log takes whole pages: 4096 costs a start 4 % more.
  db.run("PRAGMA page_size=1024");
  const std::string mode = db.value("PRAGMA journal_mode=WAL");
  if (mode != "wal")
    fail(errc::unsupported,
         "open records {}: the file system offers no write-ahead log (journal mode \"{}\"): keep kit's root on a local "
         "disk",
         db.path(), mode);
}

void keep_copy(database& db, int version) {
  const std::string copy = fmt::format("{}.v{}", db.path(), version);
  const std::string unfinished = copy + ".tmp";
  ::unlink(unfinished.c_str());
  query(db, "VACUUM INTO ?", unfinished).run();
  if (::rename(unfinished.c_str(), copy.c_str()) != 0) fail_errno(errno, "rename {} to {}", unfinished, copy);
}

}  // namespace

void require_shared_memory(const std::string& directory) {
  struct statfs s {};
  if (::statfs(directory.c_str(), &s) != 0) fail_errno(errno, "statfs {}", directory);
  constexpr struct {
    std::uint32_t magic;
    const char* name;
  } foreign[] = {{NFS_SUPER_MAGIC, "NFS"},
                 {SMB_SUPER_MAGIC, "SMB"},
                 {CIFS_SUPER_MAGIC, "SMB"},
                 {SMB2_SUPER_MAGIC, "SMB"},
                 {V9FS_MAGIC, "9p"},
                 {CEPH_SUPER_MAGIC, "Ceph"},
                 {AFS_SUPER_MAGIC, "AFS"},
                 {AFS_FS_MAGIC, "AFS"},
                 {CODA_SUPER_MAGIC, "Coda"},
                 {FUSE_SUPER_MAGIC, "FUSE or virtiofs"},
                 {HOSTFS_SUPER_MAGIC, "hostfs"},
                 {0x0bd00bd0, "Lustre"}};
  for (const auto& f : foreign)
    if (static_cast<std::uint32_t>(s.f_type) == f.magic)
      fail(errc::unsupported,
           "open records in {}: it is on {}, where kits of two machines would not see each other's locks and memory: "
           "keep kit's root on a local disk",
           directory, f.name);
}

namespace {
unique_fd open_ballast(const database& db) {
  return unique_fd(::open((db.path() + ".ballast").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
}
bool holds_space(const unique_fd& file) {
  struct stat st {};
  return file && ::fstat(file.get(), &st) == 0 && st.st_blocks > 0;
}
}  // namespace

void keep_ballast(const database& db) {
  constexpr off_t size = 256 * 1024;  // the log of some three removals
  const unique_fd file = open_ballast(db);
  if (file && !holds_space(file)) (void)::posix_fallocate(file.get(), 0, size);
}

bool drop_ballast(const database& db) {
  const unique_fd file = open_ballast(db);
  return holds_space(file) && ::ftruncate(file.get(), 0) == 0;
}

std::span<const char* const> schema_steps() noexcept { return steps_to_now; }

void bring_up_to_date(database& db, std::span<const char* const> steps) {
  const int known = static_cast<int>(steps.size());
  if (version_of(db) == known) return require_wal(db);

  const auto lock = file_lock::wait(db.path() + ".lock");
  const int found = version_of(db);
  if (found > known)
    fail(errc::unsupported,
         "open records {}: its schema is version {}, this kit knows versions up to {}: use the kit that wrote it",
         db.path(), found, known);
  require_wal(db);
  if (found > 0 && found < known) keep_copy(db, found);
  db.run("PRAGMA synchronous=FULL");
  db.transaction([&] {
    for (int version = version_of(db); version < known; ++version) db.run(steps[static_cast<std::size_t>(version)]);
    db.run(fmt::format("PRAGMA user_version={}", known).c_str());
  });
  db.run("PRAGMA synchronous=NORMAL");
  keep_ballast(db);
}

}  // namespace kit::detail
