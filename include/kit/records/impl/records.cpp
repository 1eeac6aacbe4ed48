// SPDX-License-Identifier: Apache-2.0
#include "kit/records/records.hpp"

#include <sys/stat.h>

#include <time.h>

#include "impl.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "schema.hpp"

namespace kit {

using detail::database;
using detail::join;
using detail::join_options;
using detail::query;
using detail::split;
using detail::split_options;

namespace detail {

std::string join_options(const std::vector<option>& list) {
  std::vector<std::string> flat;
  flat.reserve(list.size() * 2);
  for (const option& o : list) {
    flat.push_back(o.key);
    flat.push_back(o.value);
  }
  return join(flat);
}

std::vector<option> split_options(std::string_view joined) {
  std::vector<std::string> flat = split(joined);
  std::vector<option> list;
  for (std::size_t i = 0; i + 1 < flat.size(); i += 2) list.push_back({std::move(flat[i]), std::move(flat[i + 1])});
  return list;
}

std::string find_id(database& db, std::string_view what, std::string_view text, const char* sql_name,
                    const char* sql_id) {
  // A full id before a name before a prefix: a name made of hexadecimal digits hides nothing but prefixes.
  const bool hexadecimal = text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
  if (text.size() != container_id::size || !hexadecimal)
    if (query q(db, sql_name, text); q.next()) return q.text(0);
  if (text.empty() || !hexadecimal) return {};
  // 'g' follows the last hexadecimal digit: the range holds what begins with `text`.
  query q(db, sql_id, text, std::string(text) + 'g');
  if (!q.next()) return {};
  std::string id = q.text(0);
  if (q.next())
    kit::fail(errc::invalid, "look up {} {}: several begin so ({:.12} and {:.12}): give more digits", what, text, id,
              q.text(0));
  return id;
}

std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace detail

namespace {

constexpr std::string_view state_words[] = {"created", "running", "paused", "exited", "removing", "restarting"};

std::string join_chain(const std::vector<layer_id>& chain) {
  std::vector<std::string> list;
  list.reserve(chain.size());
  for (const layer_id& id : chain) list.push_back(id.str());
  return join(list);
}

#define KIT_CONTAINER_COLUMNS                                                                                  \
  "id, name, image, image_digest, storage, isolation, chain, command, spec, labels, auto_remove, state, pid, " \
  "start_time, boot_id, exit_code, oom_killed, error, created_ns, started_ns, finished_ns, restarts, "         \
  "restart_delay_ms, stopped, health, log_bytes_lost"

container_record read_container(const query& q) {
  container_record c;
  c.id = container_id::from(q.text(0));
  c.name = q.text(1);
  c.image = q.text(2);
  c.image_digest = q.text(3);
  c.storage = q.text(4);
  c.isolation = q.text(5);
  for (const std::string& id : split(q.text(6))) c.chain.push_back(layer_id::from(id));
  c.command = q.text(7);
  c.spec = q.text(8);
  c.labels = split_options(q.text(9));
  c.auto_remove = q.number(10) != 0;
  c.state = container_state_from(q.text(11));
  c.init.pid = static_cast<pid_t>(q.number(12));
  c.init.start_time = static_cast<std::uint64_t>(q.number(13));
  c.init.boot_id = q.text(14);
  c.exit_code = static_cast<int>(q.number(15));
  c.oom_killed = q.number(16) != 0;
  c.error = q.text(17);
  c.created_ns = q.number(18);
  c.started_ns = q.number(19);
  c.finished_ns = q.number(20);
  c.restarts = static_cast<int>(q.number(21));
  c.restart_delay_ms = q.number(22);
  c.stopped = q.number(23) != 0;
  c.health = q.text(24);
  c.log_bytes_lost = static_cast<std::uint64_t>(q.number(25));
  return c;
}

#define KIT_NETWORK_COLUMNS "id, name, driver, prefixes, gateways, options, labels, link, created_ns, removing"

network_record read_network(const query& q) {
  network_record n;
  n.id = network_id::from(q.text(0));
  n.name = q.text(1);
  n.driver = q.text(2);
  n.prefixes = split(q.text(3));
  n.gateways = split(q.text(4));
  n.options = split_options(q.text(5));
  n.labels = split_options(q.text(6));
  n.link = q.text(7);
  n.created_ns = q.number(8);
  n.removing = q.number(9) != 0;
  return n;
}

std::vector<container_id> read_container_ids(query& q) {
  std::vector<container_id> ids;
  while (q.next()) ids.push_back(container_id::from(q.text(0)));
  return ids;
}

/// Why an insert into a table with unique id and name was refused.
[[noreturn]] void fail_taken(database& db, std::string_view what, std::string_view id, std::string_view name,
                             const char* sql_holder) {
  query q(db, sql_holder, name);
  if (q.next() && q.text(0) != id)
    fail(errc::conflict, "name {} {}: the name is in use by {} {:.12}: choose another or remove that one", what, name,
         what, q.text(0));
  fail(errc::exists, "create {} {:.12}: it is already there", what, id);
}

constexpr const char* container_by_name = "SELECT id FROM containers WHERE name = ?";
constexpr const char* container_by_id = "SELECT id FROM containers WHERE id >= ? AND id < ? LIMIT 2";
constexpr const char* network_by_name = "SELECT id FROM networks WHERE name = ?";
constexpr const char* network_by_id = "SELECT id FROM networks WHERE id >= ? AND id < ? LIMIT 2";

}  // namespace

std::string_view to_string(container_state state) noexcept { return state_words[static_cast<std::size_t>(state)]; }

container_state container_state_from(std::string_view word) {
  for (std::size_t i = 0; i < std::size(state_words); ++i)
    if (state_words[i] == word) return static_cast<container_state>(i);
  fail(errc::invalid, "no such container state: {}", word);
}

records::records(const std::string& root) {
  make_directories(root, 0711);
  detail::require_shared_memory(root);
  impl_ = std::make_unique<impl>(root);
  bring_up_to_date(impl_->db, detail::schema_steps());
}

records::~records() = default;
records::records(records&&) noexcept = default;
records& records::operator=(records&&) noexcept = default;

void records::transaction(function_ref<void()> work) { impl_->db.transaction(work); }

void records::releasing(function_ref<void()> work) {
  try {
    return transaction(work);
  } catch (const error& e) {
    if (e.code() != errc::no_space || impl_->db.in_transaction()) throw;
  }
  const auto empty_the_log = [&] {
    try {
      checkpoint();
    } catch (const error&) {  // then the ballast is away until the next one
    }
  };
  if (!detail::drop_ballast(impl_->db)) empty_the_log();
  transaction(work);
  empty_the_log();
}

void records::durable(bool on) { impl_->db.run(on ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"); }

std::uint64_t records::log_size() const {
  struct stat st {};
  const std::string log = std::string(sqlite3_db_filename(impl_->db.handle(), "main")) + "-wal";
  return ::stat(log.c_str(), &st) == 0 ? static_cast<std::uint64_t>(st.st_size) : 0;
}

void records::checkpoint() {
  sqlite3* handle = impl_->db.handle();
  // Copying waits for nobody. Only an emptied log starts over, though: the first to open reads all of it, also what was
  // copied. Emptying takes the writer's lock, for a moment as nothing is left to copy, and gives way to readers.
  int code = sqlite3_wal_checkpoint_v2(handle, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  if (code == SQLITE_OK) {
    sqlite3_busy_handler(handle, nullptr, nullptr);
    code = sqlite3_wal_checkpoint_v2(handle, nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
    impl_->db.wait_for_locks();
  }
  if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY) impl_->db.fail(code, "checkpoint");
  detail::keep_ballast(impl_->db);
  // Last: on a full disk it may fail, and the next log is as good a place for it.
  query(impl_->db, "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - 10000").run();
}

// ---- containers --------------------------------------------------------------------------------

void records::insert(const container_record& c) {
  bool inserted = false;
  {
    query q(impl_->db,
            "INSERT INTO containers (" KIT_CONTAINER_COLUMNS
            ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            c.id.text(), c.name, c.image, c.image_digest, c.storage, c.isolation, join_chain(c.chain), c.command,
            c.spec, join_options(c.labels), c.auto_remove, to_string(c.state), c.init.pid, c.init.start_time,
            c.init.boot_id, c.exit_code, c.oom_killed, c.error, c.created_ns, c.started_ns, c.finished_ns, c.restarts,
            c.restart_delay_ms, c.stopped, c.health, c.log_bytes_lost);
    inserted = q.run_unless_taken();
  }
  if (!inserted) fail_taken(impl_->db, "container", c.id.text(), c.name, container_by_name);
}

std::optional<container_record> records::find_container(std::string_view id_or_name) {
  const std::string id = container_id::valid(id_or_name)
                             ? std::string(id_or_name)
                             : detail::find_id(impl_->db, "container", id_or_name, container_by_name, container_by_id);
  if (id.empty()) return std::nullopt;
  query q(impl_->db, "SELECT " KIT_CONTAINER_COLUMNS " FROM containers WHERE id = ?", id);
  if (!q.next()) return std::nullopt;
  return read_container(q);
}

container_record records::container(std::string_view id_or_name) {
  if (auto c = find_container(id_or_name)) return *std::move(c);
  fail(errc::not_found, "no such container: {}", id_or_name);
}

std::vector<container_record> records::containers() {
  std::vector<container_record> list;
  query q(impl_->db, "SELECT " KIT_CONTAINER_COLUMNS " FROM containers ORDER BY created_ns DESC, id");
  while (q.next()) list.push_back(read_container(q));
  return list;
}

std::vector<container_record> records::live_containers() {
  std::vector<container_record> list;
  // The condition is that of the index containers_live, word for word.
  query q(impl_->db,
          "SELECT " KIT_CONTAINER_COLUMNS
          " FROM containers WHERE state IN ('running', 'paused', 'restarting') ORDER BY created_ns DESC, id");
  while (q.next()) list.push_back(read_container(q));
  return list;
}

void records::update(const container_record& c) {
  bool updated = false;
  {
    query q(impl_->db,
            "UPDATE containers SET name=?2, image=?3, image_digest=?4, storage=?5, isolation=?6, chain=?7, command=?8, "
            "spec=?9, labels=?10, auto_remove=?11, state=?12, pid=?13, start_time=?14, boot_id=?15, exit_code=?16, "
            "oom_killed=?17, error=?18, created_ns=?19, started_ns=?20, finished_ns=?21, restarts=?22, "
            "restart_delay_ms=?23, "
            "stopped=?24, health=?25, log_bytes_lost=?26 WHERE id=?1",
            c.id.text(), c.name, c.image, c.image_digest, c.storage, c.isolation, join_chain(c.chain), c.command,
            c.spec, join_options(c.labels), c.auto_remove, to_string(c.state), c.init.pid, c.init.start_time,
            c.init.boot_id, c.exit_code, c.oom_killed, c.error, c.created_ns, c.started_ns, c.finished_ns, c.restarts,
            c.restart_delay_ms, c.stopped, c.health, c.log_bytes_lost);
    updated = q.run_unless_taken();
  }
  if (!updated) fail_taken(impl_->db, "container", c.id.text(), c.name, container_by_name);
  if (impl_->db.changes() == 0) fail(errc::not_found, "no such container: {}", c.id.text());
}

void records::rename(const container_id& id, const std::string& name) {
  const bool updated =
      query(impl_->db, "UPDATE containers SET name = ? WHERE id = ?", name, id.text()).run_unless_taken();
  if (!updated) fail_taken(impl_->db, "container", id.text(), name, container_by_name);
  if (impl_->db.changes() == 0) fail(errc::not_found, "no such container: {}", id.text());
}

void records::remove_container(const container_id& id) {
  transaction([&] {
    for (const endpoint_record& e : endpoints(id)) release_endpoint(e.id);
    query(impl_->db, "DELETE FROM containers WHERE id = ?", id.text()).run();
  });
}

std::vector<container_id> records::containers_using_layer(const layer_id& layer) {
  query q(impl_->db, "SELECT id FROM containers WHERE id = ?1 OR instr(chain, ?1) > 0 ORDER BY id", layer.text());
  return read_container_ids(q);
}

// ---- networks (endpoints and leases: leases.cpp) -----------------------------------------------

void records::insert(const network_record& n) {
  const bool inserted = query(impl_->db, "INSERT INTO networks (" KIT_NETWORK_COLUMNS ") VALUES (?,?,?,?,?,?,?,?,?,?)",
                              n.id.text(), n.name, n.driver, join(n.prefixes), join(n.gateways),
                              join_options(n.options), join_options(n.labels), n.link, n.created_ns, n.removing)
                            .run_unless_taken();
  if (!inserted) fail_taken(impl_->db, "network", n.id.text(), n.name, network_by_name);
}

std::optional<network_record> records::find_network(std::string_view id_or_name) {
  const std::string id = network_id::valid(id_or_name)
                             ? std::string(id_or_name)
                             : detail::find_id(impl_->db, "network", id_or_name, network_by_name, network_by_id);
  if (id.empty()) return std::nullopt;
  query q(impl_->db, "SELECT " KIT_NETWORK_COLUMNS " FROM networks WHERE id = ?", id);
  if (!q.next()) return std::nullopt;
  return read_network(q);
}

network_record records::network(std::string_view id_or_name) {
  if (auto n = find_network(id_or_name)) return *std::move(n);
  fail(errc::not_found, "no such network: {}", id_or_name);
}

std::vector<network_record> records::networks() {
  std::vector<network_record> list;
  query q(impl_->db, "SELECT " KIT_NETWORK_COLUMNS " FROM networks ORDER BY name");
  while (q.next()) list.push_back(read_network(q));
  return list;
}

// ---- images ------------------------------------------------------------------------------------

namespace {

constexpr const char* image_by_reference = "SELECT reference, digest, created_ns FROM images WHERE reference = ?";
constexpr const char* image_by_digest =
    "SELECT coalesce(i.reference, ''), m.digest, coalesce(i.created_ns, m.created_ns) FROM manifests m "
    "LEFT JOIN images i ON i.digest = m.digest WHERE m.digest = ? ORDER BY i.reference LIMIT 1";
constexpr const char* digest_by_prefix = "SELECT digest FROM manifests WHERE digest >= ? AND digest < ? LIMIT 2";

image_record read_image(const query& q) { return {q.text(0), q.text(1), q.number(2)}; }

}  // namespace

void records::insert(const manifest_record& m) {
  std::vector<std::string> layers;
  for (const auto& l : m.layers) {
    layers.push_back(l.digest);
    layers.push_back(l.diff_id);
    layers.push_back(l.chain_id);
    layers.push_back(l.media_type);
    layers.push_back(std::to_string(l.size));
  }
  query(impl_->db,
        "INSERT OR IGNORE INTO manifests (digest, config_digest, config, layers, size, created_ns) "
        "VALUES (?,?,?,?,?,?)",
        m.digest, m.config_digest, m.config, join(layers), m.size, m.created_ns)
      .run();
}

std::optional<manifest_record> records::manifest(std::string_view digest) {
  query q(impl_->db, "SELECT config_digest, config, layers, size, created_ns FROM manifests WHERE digest = ?", digest);
  if (!q.next()) return std::nullopt;
  manifest_record m;
  m.digest = digest;
  m.config_digest = q.text(0);
  m.config = q.text(1);
  const std::vector<std::string> layers = split(q.text(2));
  for (std::size_t i = 0; i + 4 < layers.size(); i += 5)
    m.layers.push_back({layers[i], layers[i + 1], layers[i + 2], layers[i + 3], std::stoull(layers[i + 4])});
  m.size = static_cast<std::uint64_t>(q.number(3));
  m.created_ns = q.number(4);
  return m;
}

void records::tag(const std::string& reference, const std::string& digest) {
  query(impl_->db,
        "INSERT INTO images (reference, digest, created_ns) SELECT ?1, digest, ?3 FROM manifests WHERE digest = ?2 "
        "ON CONFLICT (reference) DO UPDATE SET digest = excluded.digest, created_ns = excluded.created_ns",
        reference, digest, detail::now_ns())
      .run();
  if (impl_->db.changes() == 0) fail(errc::not_found, "tag {}: no such image: {}", reference, digest);
}

void records::untag(const std::string& reference) {
  query(impl_->db, "DELETE FROM images WHERE reference = ?", reference).run();
}

void records::remove_manifest(const std::string& digest) {
  transaction([&] {
    query(impl_->db, "DELETE FROM images WHERE digest = ?", digest).run();
    query(impl_->db, "DELETE FROM manifests WHERE digest = ?", digest).run();
  });
}

std::optional<image_record> records::find_image(std::string_view text) {
  if (query q(impl_->db, image_by_reference, text); q.next()) return read_image(q);
  std::string prefix(text);
  if (prefix.find(':') == std::string::npos) prefix.insert(0, "sha256:");
  if (prefix.find_first_not_of("0123456789abcdef", 7) != std::string::npos || prefix.size() == 7) return std::nullopt;
  std::string digest;
  {
    query q(impl_->db, digest_by_prefix, prefix, prefix + 'g');
    if (!q.next()) return std::nullopt;
    digest = q.text(0);
    if (q.next())
      fail(errc::invalid, "look up image {}: several begin so ({:.19} and {:.19}): give more digits", text, digest,
           q.text(0));
  }
  query q(impl_->db, image_by_digest, digest);
  if (!q.next()) return std::nullopt;
  return read_image(q);
}

image_record records::image(std::string_view reference_or_digest) {
  if (auto i = find_image(reference_or_digest)) return *std::move(i);
  fail(errc::not_found, "no such image: {}", reference_or_digest);
}

std::vector<image_summary> records::image_summaries() {
  std::vector<image_summary> list;
  query q(impl_->db,
          "SELECT coalesce(i.reference, ''), m.digest, coalesce(i.created_ns, m.created_ns) AS made, m.size, "
          "m.created_ns FROM manifests m LEFT JOIN images i ON i.digest = m.digest ORDER BY made DESC, i.reference");
  while (q.next()) list.push_back({read_image(q), static_cast<std::uint64_t>(q.number(3)), q.number(4)});
  return list;
}

std::vector<image_record> records::images() {
  std::vector<image_record> list;
  for (image_summary& s : image_summaries()) list.push_back(std::move(s.image));
  return list;
}

std::vector<container_id> records::containers_using_image(const std::string& digest) {
  query q(impl_->db, "SELECT id FROM containers WHERE image_digest = ? ORDER BY id", digest);
  return read_container_ids(q);
}

std::optional<layer_id> records::unpacked(const std::string& driver, const std::string& chain_id) {
  query q(impl_->db, "SELECT layer FROM unpacked WHERE driver = ? AND chain_id = ?", driver, chain_id);
  if (!q.next()) return std::nullopt;
  return layer_id::from(q.text(0));
}

layer_id records::publish_unpacked(const unpacked_record& u) {
  query(impl_->db, "INSERT OR IGNORE INTO unpacked (driver, chain_id, layer) VALUES (?,?,?)", u.driver, u.chain_id,
        u.layer.text())
      .run();
  // Gone again already: somebody removed it in between, and with it our claim.
  return unpacked(u.driver, u.chain_id).value_or(u.layer);
}

std::vector<unpacked_record> records::unpacked_layers() {
  std::vector<unpacked_record> list;
  query q(impl_->db, "SELECT driver, chain_id, layer FROM unpacked");
  while (q.next()) list.push_back({q.text(0), q.text(1), layer_id::from(q.text(2))});
  return list;
}

void records::remove_unpacked(const std::string& driver, const std::string& chain_id) {
  query(impl_->db, "DELETE FROM unpacked WHERE driver = ? AND chain_id = ?", driver, chain_id).run();
}

// ---- volumes -----------------------------------------------------------------------------------

namespace {
volume_record read_volume(const query& q) {
  return {q.text(0), split_options(q.text(1)), q.number(2) != 0, q.number(3)};
}
}  // namespace

void records::insert(const volume_record& v) {
  query(impl_->db, "INSERT OR IGNORE INTO volumes (name, labels, anonymous, created_ns) VALUES (?,?,?,?)", v.name,
        join_options(v.labels), v.anonymous, v.created_ns)
      .run();
}

std::optional<volume_record> records::find_volume(std::string_view name) {
  query q(impl_->db, "SELECT name, labels, anonymous, created_ns FROM volumes WHERE name = ?", name);
  if (!q.next()) return std::nullopt;
  return read_volume(q);
}

std::vector<volume_record> records::volumes() {
  std::vector<volume_record> list;
  query q(impl_->db, "SELECT name, labels, anonymous, created_ns FROM volumes ORDER BY name");
  while (q.next()) list.push_back(read_volume(q));
  return list;
}

void records::remove_volume(const std::string& name) {
  query(impl_->db, "DELETE FROM volumes WHERE name = ?", name).run();
}

// ---- events, settings --------------------------------------------------------------------------

void records::add(const event_record& e) {
  query(impl_->db, "INSERT INTO events (time_ns, type, action, actor, attributes) VALUES (?,?,?,?,?)", e.time_ns,
        e.type, e.action, e.actor, join_options(e.attributes))
      .run();
}

#define KIT_EVENT_COLUMNS "time_ns, type, action, actor, attributes, number"

namespace {
std::vector<event_record> read_events(query&& q) {
  std::vector<event_record> list;
  while (q.next())
    list.push_back({q.number(0), q.text(1), q.text(2), q.text(3), split_options(q.text(4)), q.number(5)});
  return list;
}
}  // namespace

std::vector<event_record> records::events(std::int64_t since_ns, std::int64_t until_ns) {
  return read_events(query(impl_->db,
                           "SELECT " KIT_EVENT_COLUMNS " FROM events WHERE time_ns BETWEEN ? AND ? "
                           "ORDER BY time_ns, number",
                           since_ns, until_ns));
}

std::vector<event_record> records::events_after(std::int64_t number) {
  return read_events(
      query(impl_->db, "SELECT " KIT_EVENT_COLUMNS " FROM events WHERE number > ? ORDER BY number", number));
}

std::int64_t records::last_event() {
  query q(impl_->db, "SELECT coalesce(max(number), 0) FROM events");
  return q.next() ? q.number(0) : 0;
}

std::optional<std::string> records::setting(std::string_view key) {
  query q(impl_->db, "SELECT value FROM settings WHERE key = ?", key);
  if (!q.next()) return std::nullopt;
  return q.text(0);
}

void records::set(std::string_view key, std::string_view value) {
  query(impl_->db, "INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)", key, value).run();
}

}  // namespace kit
