// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/reconcile.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "kit/engine/clock.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/launcher.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/locks.hpp"
#include "kit/engine/networks.hpp"
#include "kit/engine/restart.hpp"
#include "kit/engine/volumes.hpp"
#include "kit/image/store.hpp"
#include "kit/system/cgroup.hpp"
#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/system/tree.hpp"

namespace kit {
namespace {

/// Collects findings; runs their repair unless it is a dry run, and reports one that fails as work for a person.
class report {
 public:
  report(std::vector<finding>& to, bool dry_run) : to_(to), dry_run_(dry_run) {}
  [[nodiscard]] bool dry_run() const { return dry_run_; }

  /// `action` is "its exit {}recorded"; the braces become "to be " where nothing is done.
  template <class Repair>
  void found(std::string object, std::string problem, fmt::format_string<const char*> action, Repair repair) {
    finding f{std::move(object), std::move(problem), fmt::format(action, dry_run_ ? "to be " : ""), false};
    if (!dry_run_) try {
        repair();
      } catch (const std::exception& x) {
        f.action = fmt::format("could not be repaired: {}", x.what());
        f.needs_person = true;
      }
    to_.push_back(std::move(f));
  }
  void for_a_person(std::string object, std::string problem, std::string advice) {
    to_.push_back({std::move(object), std::move(problem), std::move(advice), true});
  }
  /// Runs a part of the check; should it fail, the others still run.
  template <class Part>
  void part(const std::string& object, Part check) {
    try {
      check();
    } catch (const std::exception& x) {
      for_a_person(object, fmt::format("could not be checked: {}", x.what()), "");
    }
  }

 private:
  std::vector<finding>& to_;
  bool dry_run_;
};

/// The container's lock; an empty one if it is no more; nothing if somebody is at work on it. What is read of it
/// under this lock holds; what was read before may be of the past.
std::optional<file_lock> hold(engine& e, const container_id& id) {
  try {
    file_lock lock = try_lock_container(e, id);
    if (!lock && ::access(e.container_dir(id).c_str(), F_OK) == 0) return {};
    return lock;
  } catch (const error& x) {
    if (x.code() != errc::not_found) throw;
    return file_lock();
  }
}

/// A container whose records say that it runs: its processes and its freezer.
void check_live(engine& e, container_record r, const std::string& object, report& out) {
  const auto state = read_state(e.bundle_dir(r.id));
  if (!state || !process_lives(state->monitor, state->monitor_start_time, state->boot_id))
    out.found(object, "its monitor is gone: nobody writes its log or waits for its end", "{}given a new one", [&] {
      try {
        adopt(e, r);
      } catch (const error&) {  // it may have ended at this very moment: the next check finds that
        if (process_lives(r.init.pid, r.init.start_time, r.init.boot_id)) throw;
      }
    });
  const cgroup group(fmt::format("kit-{}/{}", e.root_tag(), r.id.text()));
  const bool frozen = group.frozen();
  if (frozen == (r.state == container_state::paused)) return;
  if (frozen)
    return out.found(object, "frozen, and the records say that it runs", "{}resumed",
                     [&] { e.isolation(r.isolation).resume(e.as_container(r)); });
  out.found(object, "recorded as paused, and it runs", "{}recorded as running", [&] {
    r.state = container_state::running;
    e.records().update(r);
  });
}

void check_container(engine& e, const container_id& id, report& out) {
  auto lock = hold(e, id);
  if (!lock || !*lock) return;
  const auto found = e.records().find_container(id.text());
  if (!found) return;
  container_record r = *found;
  const std::string object = fmt::format("container {} ({})", r.name, r.id.brief());
  if (r.state == container_state::removing) {
    lock.reset();
    out.found(object, "its removal was interrupted", "{}removed", [&] { remove(e, id, true); });
  } else if (is_live(r) && process_lives(r.init.pid, r.init.start_time, r.init.boot_id)) {
    check_live(e, r, object, out);
  } else if (is_live(r)) {
    lock.reset();
    out.found(object, "recorded as running; its process is gone", "its exit {}recorded", [&] { finish(e, id); });
  } else if (lost_start(e, r)) {
    lock.reset();
    out.found(object, "it was started, and the records do not say so", "{}recorded", [&] { current(e, r); });
  } else if (restart_is_orphaned(r)) {
    lock.reset();
    out.found(object, "it is to be restarted, and nobody is at it", "{}started", [&] { restart_beside(e, id); });
  } else if (::access(e.bundle_dir(id).c_str(), F_OK) == 0) {
    out.found(object, "a start was interrupted", "its remains {}removed", [&] { end_run(e, r, [] {}); });
  }
}

/// Directories of containers that have no record: their creation was interrupted, or their removal after the records.
void check_strays(engine& e, report& out) {
  for (const std::string& top : {e.config().root + "/containers", e.run_dir() + "/containers"})
    for (const std::string& name : names_in(top)) {
      if (!container_id::valid(name)) continue;
      const auto id = container_id::from(name);
      const auto lock = hold(e, id);
      if (!lock) continue;
      const std::string directory = fmt::format("{}/{}", top, name);
      if (e.records().find_container(name) || ::access(directory.c_str(), F_OK) != 0) continue;
      out.found("directory " + directory, "no container is recorded under its name", "{}removed",
                [&] { remove_tree(directory); });
    }
}

/// Control groups of this root that belong to no container.
void check_cgroups(engine& e, report& out) {
  const std::string top = "kit-" + e.root_tag();
  std::set<std::string> names;
  for (const cgroup_hierarchy& h : cgroup_layout::here().hierarchies())
    for (const std::string& name : names_in(fmt::format("{}/{}", h.mount_point, top)))
      if (container_id::valid(name)) names.insert(name);
  for (const std::string& name : names) {
    const auto id = container_id::from(name);
    const auto lock = hold(e, id);
    if (!lock) continue;
    if (const auto r = e.records().find_container(name); r && is_live(*r)) continue;
    const cgroup group(fmt::format("{}/{}", top, name));
    if (!group.exists()) continue;
    out.found(fmt::format("control group {}/{}", top, name), "no running container owns it",
              "its processes {}killed, and it removed", [&] {
                group.kill();
                group.remove();
              });
  }
}

/// Layers of a driver that images and containers stand on. A container's own is in one driver: what another has under
/// its id was left by a move.
std::set<layer_id> layers_needed(engine& e, const std::string& driver) {
  std::set<layer_id> needed;
  for (const container_record& c : e.records().containers()) {
    if (c.storage != driver) continue;
    needed.insert(layer_id::from(c.id.text()));
    needed.insert(c.chain.begin(), c.chain.end());
  }
  for (const unpacked_record& u : e.records().unpacked_layers())
    if (u.driver == driver) needed.insert(u.layer);
  return needed;
}

/// Layers a driver holds and nobody needs, and half made ones; and those that should be there. The caller holds the images'
/// lock: nobody unpacks.
void check_layers(engine& e, const std::string& driver, report& out) {
  any_storage& storage = e.storage(driver);
  for (const unpacked_record& u : unneeded_layers(e))
    if (u.driver == driver)
      out.found(fmt::format("layer {} of {}", u.layer.brief(), driver), "no image and no container stands on it",
                "{}removed", [&] { remove_unneeded(e, u); });
  std::map<layer_id, layer_state::state> held;
  storage.layers([&](const layer_state& l) { held.emplace(l.id, l.is); });
  const std::set<layer_id> needed = layers_needed(e, driver);
  for (const auto& [id, is] : held) {
    if (needed.contains(id)) continue;
    // A container's own layer comes before its record.
    const auto of = container_id::from(id.text());
    const auto lock = hold(e, of);
    if (!lock) continue;
    const auto users = e.records().containers_using_layer(id);
    if (std::any_of(users.begin(), users.end(), [&](const container_id& user) {
          const auto r = e.records().find_container(user.text());
          return r && r->storage == driver;
        }))
      continue;
    out.found(fmt::format("layer {} of {}", id.brief(), driver),
              is == layer_state::state::partial ? "it was left half made" : "nothing is recorded that uses it",
              "{}removed", [&, gone = id] { storage.remove(gone); });
  }
  for (const unpacked_record& u : e.records().unpacked_layers()) {
    if (u.driver != driver) continue;
    const auto there = held.find(u.layer);
    if (there != held.end() && there->second == layer_state::state::frozen) continue;
    out.found(fmt::format("layer {} of {}", u.layer.brief(), driver), "recorded as unpacked, and it is not there",
              "the record {}removed: its image is unpacked again when it is needed",
              [&] { e.records().remove_unpacked(u.driver, u.chain_id); });
  }
  for (const container_record& c : e.records().containers()) {
    if (c.storage != driver || c.state == container_state::removing || held.contains(layer_id::from(c.id.text())))
      continue;
    const auto lock = hold(e, c.id);
    if (!lock || !*lock || !e.records().find_container(c.id.text())) continue;
    if (!c.auto_remove)  // else finish() takes the layer first, and whoever was killed then is found above
      out.for_a_person(fmt::format("container {} ({})", c.name, c.id.brief()), "its file system is gone",
                       "save what `kit logs` has of it, then `kit rm`");
  }
}

void check_network(engine& e, const network_record& n, report& out) {
  if (n.removing)
    return out.found("network " + n.name, "its removal was interrupted", "{}removed", [&] { remove_network(e, n); });
  for (const endpoint_record& p : e.records().endpoints(n.id)) {
    const auto lock = hold(e, p.container);
    if (!lock) continue;
    if (const auto r = e.records().find_container(p.container.text()); r && is_live(*r)) continue;
    out.found(fmt::format("address {} of network {}", p.addresses.empty() ? "" : p.addresses[0], n.name),
              "its container does not run", "{}released", [&] { e.records().release_endpoint(p.id); });
  }
  if (out.dry_run() || e.network(n.driver).traits().network_namespace != netns::own) return;
  // In a transaction, against the rule, and for the moment of one look at the host's links: an endpoint that is leased
  // meanwhile would not be among the valid ones, and lose its link.
  e.records().transaction([&] {
    std::vector<endpoint_id> valid;
    for (const endpoint_record& p : e.records().endpoints(n.id)) valid.push_back(p.id);
    e.network(n.driver).collect(as_network(e, n), valid);
  });
}

/// Blobs that no image names, and what a writer that was killed left beside them. The caller holds the images' lock.
void check_blobs(engine& e, report& out) {
  std::set<std::string> wanted;
  for (const image_record& i : e.records().images())
    if (const auto m = e.records().manifest(i.digest); m) {
      wanted.insert({m->digest, m->config_digest});
      for (const auto& l : m->layers) wanted.insert(l.digest);
    }
  image_store store(e.images_dir());
  std::set<std::string> there;
  for (const std::string& blob : store.blobs()) {
    there.insert(blob);
    if (!wanted.contains(blob))
      out.found("blob " + blob, "no image names it", "{}removed", [&] { store.remove_blob(blob); });
  }
  for (const std::string& blob : wanted)
    if (!there.contains(blob))
      out.for_a_person("blob " + blob, "an image names it, and it is not there", "load or import that image again");
  for (const std::string& directory : {e.images_dir(), e.images_dir() + "/blobs/sha256"})
    for (const std::string& name : names_in(directory))
      if (name.front() == '.' && name != ".lock")
        out.found(fmt::format("file {}/{}", directory, name), "it was left half written", "{}removed",
                  [&] { remove_tree(fmt::format("{}/{}", directory, name)); });
  const std::string index = e.images_dir() + "/index.json";
  const bool had_index = ::access(index.c_str(), F_OK) == 0;
  if (out.dry_run() || (wanted.empty() && !had_index)) return;
  const std::string before = had_index ? read_file(index) : "";
  write_image_index(e);
  if (read_file(index) != before)
    out.found("file " + index, "it did not list the images as they are", "{}written anew", [] {});
}

/// A root's own group stays for its next container; this takes it away while there is none. One that is needed is not empty.
void remove_empty_groups(engine& e) { cgroup(fmt::format("kit-{}/none", e.root_tag())).remove_parents(); }

}  // namespace

std::vector<finding> reconcile(engine& e, const reconcile_options& options) {
  std::vector<finding> findings;
  report out(findings, options.dry_run);
  for (const container_record& r : e.records().containers())
    out.part(fmt::format("container {} ({})", r.name, r.id.brief()), [&] { check_container(e, r.id, out); });
  out.part("the containers' directories", [&] { check_strays(e, out); });
  out.part("the volumes", [&] { check_volumes(e, options.dry_run, findings); });
  out.part("the control groups", [&] { check_cgroups(e, out); });
  for (const network_record& n : e.records().networks())
    out.part("network " + n.name, [&] { check_network(e, n, out); });
  if (const auto images = try_lock_images(e)) {
    for (const std::string& driver : names_in(e.config().root + "/storage"))
      out.part("storage " + driver, [&] { check_layers(e, driver, out); });
    out.part("the images", [&] { check_blobs(e, out); });
  }
  if (!options.dry_run) {
    remove_empty_groups(e);
    e.records().checkpoint();
  }
  return findings;
}

namespace {

/// Bytes that go when only `kept` images and containers but `gone` are left.
std::uint64_t bytes_freed(engine& e, const std::set<std::string>& kept, const std::set<std::string>& gone) {
  std::set<std::string> blobs, chains;
  for (const std::string& digest : kept)
    if (const auto m = e.records().manifest(digest); m) {
      blobs.insert({m->digest, m->config_digest});
      for (const auto& l : m->layers) {
        blobs.insert(l.digest);
        chains.insert(l.chain_id);
      }
    }
  std::set<layer_id> layers;
  std::uint64_t bytes = 0;
  for (const container_record& c : e.records().containers())
    if (!gone.contains(c.id.str()))
      layers.insert(c.chain.begin(), c.chain.end());
    else
      bytes += e.storage(c.storage).usage({layer_id::from(c.id.text()), c.chain}).bytes;
  for (const unpacked_record& u : e.records().unpacked_layers())
    if (!chains.contains(u.chain_id) && !layers.contains(u.layer))
      bytes += e.storage(u.driver).usage({u.layer, {}}).bytes;
  const image_store store(e.images_dir());
  for (const std::string& blob : store.blobs())
    if (struct stat st{}; !blobs.contains(blob) && ::stat(store.blob_path(blob).c_str(), &st) == 0)
      bytes += static_cast<std::uint64_t>(st.st_blocks) * 512;
  return bytes;
}

}  // namespace

pruned prune(engine& e, const prune_options& options) {
  pruned p;
  for (const container_record& raw : e.records().containers()) {
    const container_record r = current(e, raw);
    if (r.state == container_state::created || r.state == container_state::exited) p.containers.push_back(r.id.str());
  }
  const std::set<std::string> idle(p.containers.begin(), p.containers.end());
  std::vector<image_record> gone;
  std::set<std::string> kept;
  for (const image_record& i : e.records().images()) {
    const auto users = e.records().containers_using_image(i.digest);
    const bool used =
        std::any_of(users.begin(), users.end(), [&](const container_id& id) { return !idle.contains(id.str()); });
    if (used || (!i.reference.empty() && !options.all_images))
      kept.insert(i.digest);
    else
      gone.push_back(i);
  }
  p.bytes = bytes_freed(e, kept, idle);
  if (!options.dry_run)
    for (const std::string& id : p.containers) remove(e, container_id::from(id), false);
  for (const image_record& i : gone) {
    const std::string& name = i.reference.empty() ? i.digest : i.reference;
    p.images.push_back(name);
    if (!options.dry_run) remove_image(e, name, false);
  }
  if (options.volumes)
    for (const volume_record& v : unused_volumes(e, false)) {
      p.bytes += measure_tree(open_directory(volume_path(e, v.name)).get()).bytes;
      p.volumes.push_back(v.name);
      if (!options.dry_run) remove_volume(e, v.name);
    }
  if (!options.dry_run) {
    collect_unused(e);
    remove_empty_groups(e);
  }
  return p;
}

}  // namespace kit
