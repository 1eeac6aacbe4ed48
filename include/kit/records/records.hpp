// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kit/detail/function_ref.hpp"
#include "kit/driver.hpp"
#include "kit/id.hpp"

/// \file
/// # The records
///
/// What kit knows, in one SQLite database per root: containers, images, unpacked layers, networks,
/// address leases, events. Names, references and "who uses what" are answered here and nowhere else;
/// drivers own bytes and kernel objects, this room knows no driver (a driver is a word in a column).
///
/// Model: the database is the truth about what *should* be. What *is* (a process, a mount, a link) is
/// asked of the kernel and of drivers; reconcile (kit/engine/reconcile.hpp) brings the two together.
///
/// Rules, each from a cost or a crash that was met:
///  1. WAL, and opening fails if the file system will not have it (no shared memory: NFS). Every
///     transaction is BEGIN IMMEDIATE, with a busy timeout, so there are no deadlocks by upgrade.
///  2. Closing does not checkpoint (NO_CKPT_ON_CLOSE, PERSIST_WAL, no automatic checkpoint): that costs
///     7 to 16 ms of fsync. checkpoint() is called off the start path.
///  3. synchronous=NORMAL; durable(true) switches to FULL for what must survive a power cut (images).
///  4. No kernel work inside a transaction; no connection is used after a fork by the child.
///  5. user_version is the schema's. An older one is migrated, after a copy of the file; a newer one
///     is refused by name of both versions.

namespace kit {

/// restarting: it has ended, and is to be started again by its restart policy.
enum class container_state { created, running, paused, exited, removing, restarting };
std::string_view to_string(container_state) noexcept;
container_state container_state_from(std::string_view);

/// Names one process for good: pid, start time (field 22 of /proc/PID/stat) and boot.
struct process_stamp {
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  std::string boot_id;
};

struct container_record {
  container_id id;
  std::string name;
  std::string image;         ///< as the user wrote it
  std::string image_digest;  ///< of its manifest: "sha256:..."
  std::string storage;       ///< driver names
  std::string isolation;
  std::vector<layer_id> chain;  ///< the image's layers in that driver, nearest first; the container's own layer has
                                ///< the container's digits as its id
  std::string command;          ///< for people: "sh -c ..."
  std::string spec;             ///< JSON: what the engine needs to make the bundle again (engine/spec.hpp)
  std::vector<option> labels;
  bool auto_remove = false;
  container_state state = container_state::created;
  process_stamp init;  ///< when running or paused; when restarting, of who will start it, if there is one
  int exit_code = 0;   ///< when exited; -1: unknown
  bool oom_killed = false;
  std::string error;            ///< why the last start failed, or how the exit was lost; usually empty
  std::int64_t created_ns = 0;  ///< CLOCK_REALTIME, nanoseconds; 0: never
  std::int64_t started_ns = 0;
  std::int64_t finished_ns = 0;
  int restarts = 0;                   ///< by its restart policy, since somebody last started it
  std::int64_t restart_delay_ms = 0;  ///< how long the last of them waited
  bool stopped = false;               ///< somebody asked for its end: its restart policy rests until the next start
  std::string health;                 ///< of its health check: "starting", "healthy", "unhealthy"; empty: it has none
  std::uint64_t log_bytes_lost = 0;   ///< of its last run, by a full disk or a full buffer
};
/// Its processes exist, as far as the records know.
inline bool is_live(const container_record& c) noexcept {
  return c.state == container_state::running || c.state == container_state::paused;
}

struct network_record {
  network_id id;
  std::string name;
  std::string driver;
  std::vector<std::string> prefixes;  ///< "10.89.0.0/20"
  std::vector<std::string> gateways;  ///< one per prefix
  std::vector<option> options;
  std::vector<option> labels;
  std::string link;  ///< host link name
  std::int64_t created_ns = 0;
  bool removing = false;  ///< nothing is put on it any more
};

/// One container on one network.
struct endpoint_record {
  endpoint_id id;
  container_id container;
  network_id network;
  std::string interface_name;
  std::string link;  ///< host side link name, drawn by lease_endpoint, not reused soon
  std::string mac;
  std::vector<std::string> addresses;  ///< with prefix length
  std::string attachment;              ///< JSON of what attach answered; empty while not attached
};

struct image_record {
  std::string reference;        ///< "debian:12"; empty for an image without a name
  std::string digest;           ///< of the manifest
  std::int64_t created_ns = 0;  ///< of the name: when it was given
};

/// A line of a list of images.
struct image_summary {
  image_record image;
  std::uint64_t size = 0;       ///< of its blobs
  std::int64_t created_ns = 0;  ///< of the manifest
};

/// What kit needs of a manifest at a start, without reading blobs.
struct manifest_record {
  std::string digest;
  std::string config_digest;
  std::string config;  ///< the image configuration, JSON
  struct layer {
    std::string digest;    ///< of the blob
    std::string diff_id;   ///< of the uncompressed archive
    std::string chain_id;  ///< of it and all below (image specification, "Layer ChainID")
    std::string media_type;
    std::uint64_t size = 0;  ///< of the blob, bytes
  };
  std::vector<layer> layers;  ///< base first, as in the manifest
  std::uint64_t size = 0;     ///< of all blobs
  std::int64_t created_ns = 0;
};

/// An image layer unpacked in one driver. The chain id (OCI image specification, "Layer ChainID")
/// names the contents: the layer and everything below it.
struct unpacked_record {
  std::string driver;
  std::string chain_id;
  layer_id layer;
};

/// A directory that outlives containers.
struct volume_record {
  std::string name;
  std::vector<option> labels;
  bool anonymous = false;  ///< made for one container, under a name that was drawn
  std::int64_t created_ns = 0;
};

struct event_record {
  std::int64_t time_ns = 0;
  std::string type;    ///< "container", "image", "network"
  std::string action;  ///< "create", "start", "die", ...
  std::string actor;   ///< id or reference
  std::vector<option> attributes;
  std::int64_t number = 0;  ///< of its place among all; add() gives it
};

class records {
 public:
  /// Opens, or makes, ROOT/kit.db (0600) and ROOT. Throws: unsupported (schema newer, or no WAL here), permission, io.
  explicit records(const std::string& root);
  ~records();
  records(records&&) noexcept;
  records& operator=(records&&) noexcept;

  /// Runs `work` in one BEGIN IMMEDIATE transaction: all of it happens, or, if it throws, none.
  /// The functions below may be called inside (they join, each still all or nothing) or alone.
  void transaction(function_ref<void()> work);
  /// The same for what lets something go, which must work on a full disk, too: it may use the space that is kept for
  /// it, in a file beside the database. `work` is then called twice. checkpoint() puts the space aside again.
  void releasing(function_ref<void()> work);
  /// From now on commits are synced to disk before they return (synchronous=FULL), or no longer are. Not within a
  /// transaction.
  void durable(bool on);
  /// Bytes of the log that checkpoint() would move.
  [[nodiscard]] std::uint64_t log_size() const;
  /// Moves the log into the database and forgets all but the newest 10,000 events; off the start path only. Never
  /// waits for readers or for another checkpoint.
  void checkpoint();

  // ---- containers ----------------------------------------------------------------------------
  /// Throws conflict if the name is in use, naming its holder.
  void insert(const container_record&);
  /// By full id, unique prefix of an id, or name. Throws not_found ("no such container: X"), or
  /// invalid if a prefix is ambiguous.
  container_record container(std::string_view id_or_name);
  std::optional<container_record> find_container(std::string_view id_or_name);
  std::vector<container_record> containers();       ///< newest first
  std::vector<container_record> live_containers();  ///< running, paused, restarting; does not look at others
  /// Writes every member of the record. Throws not_found if it is gone, conflict as insert().
  void update(const container_record&);
  void rename(const container_id&, const std::string& name);
  /// Removes the container, its endpoints and leases. Absent: success.
  void remove_container(const container_id&);
  std::vector<container_id> containers_using_layer(const layer_id&);  ///< in their chain, or as their own

  // ---- networks, endpoints, leases ------------------------------------------------------------
  void insert(const network_record&);
  network_record network(std::string_view id_or_name);
  std::optional<network_record> find_network(std::string_view id_or_name);
  std::vector<network_record> networks();
  /// From now on it gets no endpoint, so that its driver may remove it. Throws conflict while it has some, naming the
  /// containers. Absent, or begun before: success.
  void begin_removal(const network_id&);
  /// Throws conflict while it has endpoints. Absent: success.
  void remove_network(const network_id&);
  /// Gives the container an endpoint on the network: one address per prefix (`wanted`, or one never used, or the one
  /// least recently released), a host link name not used lately, a MAC (of the IPv4 address, if there is one). Nothing
  /// is given twice. Throws no_space if the prefix is exhausted, conflict if a wanted address is taken, invalid if no
  /// prefix takes it, exists if the container has such an interface, not_found if the network is gone. Addresses stay
  /// leased until release.
  endpoint_record lease_endpoint(const network_record&, const container_id&, std::string_view interface_name,
                                 const std::vector<std::string>& wanted = {}, std::string_view link_prefix = "kit");
  /// Stores the attachment, and interface name, MAC and addresses where the driver chose them. Throws not_found.
  void update(const endpoint_record&);
  std::vector<endpoint_record> endpoints(const container_id&);
  std::vector<endpoint_record> endpoints(const network_id&);
  void release_endpoint(const endpoint_id&);  ///< absent: success

  // ---- images ----------------------------------------------------------------------------------
  void insert(const manifest_record&);  ///< present already: success
  std::optional<manifest_record> manifest(std::string_view digest);
  void tag(const std::string& reference, const std::string& digest);  ///< moves the name; not_found: manifest
  /// Removes the name. A manifest without a name stays until remove_manifest.
  void untag(const std::string& reference);
  /// Removes the manifest and its names. Absent: success.
  void remove_manifest(const std::string& digest);
  /// By reference, digest, or unique prefix of the digest's hexadecimal part. Throws as container().
  image_record image(std::string_view reference_or_digest);
  std::optional<image_record> find_image(std::string_view reference_or_digest);
  std::vector<image_record> images();            ///< also those without a name, newest first
  std::vector<image_summary> image_summaries();  ///< the same, without a look at any manifest
  std::vector<container_id> containers_using_image(const std::string& digest);

  std::optional<layer_id> unpacked(const std::string& driver, const std::string& chain_id);
  /// Publishes; answers the layer that holds the place now: yours, or that of who came first.
  layer_id publish_unpacked(const unpacked_record&);
  std::vector<unpacked_record> unpacked_layers();
  void remove_unpacked(const std::string& driver, const std::string& chain_id);

  // ---- volumes (who uses one: engine/volumes.hpp) ------------------------------------------------
  void insert(const volume_record&);  ///< present already: success, and it stays as it is
  std::optional<volume_record> find_volume(std::string_view name);
  std::vector<volume_record> volumes();         ///< by name
  void remove_volume(const std::string& name);  ///< absent: success

  // ---- events ----------------------------------------------------------------------------------
  void add(const event_record&);
  std::vector<event_record> events(std::int64_t since_ns, std::int64_t until_ns);
  std::vector<event_record> events_after(std::int64_t number);  ///< in the order of their numbers
  std::int64_t last_event();                                    ///< its number, 0: there was none

  // ---- settings: small texts of the root (its tag, the default network) -------------------------
  std::optional<std::string> setting(std::string_view key);
  void set(std::string_view key, std::string_view value);

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

}  // namespace kit
