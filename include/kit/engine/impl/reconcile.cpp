// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/reconcile.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "kit/engine/clock.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/launcher.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/locks.hpp"
#include "kit/engine/networks.hpp"
#include "kit/image/store.hpp"
#include "kit/system/cgroup.hpp"
#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"

namespace kit {
namespace {

/// Collects findings; runs their repair unless it is a dry run, and reports one that fails as work for a person.
class report {
 public:
  report(std::vector<finding>& to, bool dry_run) : to_(to), dry_run_(dry_run) {}
  template <class Repair>
  void found(std::string object, std::string problem, std::string action, Repair repair) {
    finding f{std::move(object), std::move(problem), "", false};
    if (!dry_run_) try {
        repair();
        f.action = std::move(action);
      } catch (const std::exception& e) {
        f.action = fmt::format("could not be repaired: {}", e.what());
        f.needs_person = true;
      }
    to_.push_back(std::move(f));
  }

 private:
  std::vector<finding>& to_;
  bool dry_run_;
};

bool process_lives(pid_t pid, std::uint64_t start_time, const std::string& boot) {
  if (boot != boot_id()) return false;
  const unique_fd fd = open_process(pid, start_time);
  return fd && !has_ended(fd.get());
}

void check_container(engine& e, const container_record& r, report& out) {
  const std::string object = fmt::format("container {} ({})", r.name, r.id.brief());
  {
    const auto lock = try_lock_container(e, r.id);
    if (!lock) return;  // somebody is at work on it
    const auto state = read_state(e.bundle_dir(r.id));
    const bool started = ::access(e.bundle_dir(r.id).c_str(), F_OK) == 0;
    const bool lives = state && process_lives(state->pid, state->start_time, state->boot_id);
    if ((r.state == container_state::created || r.state == container_state::exited) && lives) {
      out.found(object, "it runs, and the records do not say so", "recorded as running", [&] {
        container_record now = r;
        now.state = container_state::running;
        now.init = {state->pid, state->start_time, state->boot_id};
        now.started_ns = now_ns();
        e.records().update(now);
      });
      return;
    }
    if ((r.state == container_state::created || r.state == container_state::exited) && started) {
      out.found(object, "a start was interrupted", "its remains were removed", [&] { end_run(e, r, [] {}); });
      return;
    }
  }
  if (r.state == container_state::running || r.state == container_state::paused) {
    if (process_lives(r.init.pid, r.init.start_time, r.init.boot_id)) return;
    out.found(object, "recorded as running; its process is gone", "its exit was recorded", [&] { finish(e, r.id); });
  } else if (r.state == container_state::removing) {
    out.found(object, "its removal was interrupted", "removed", [&] { remove(e, r.id, true); });
  }
}

/// Directories of containers that have no record: their creation was interrupted, or their removal after the records.
void check_strays(engine& e, report& out) {
  for (const std::string& top : {e.config().root + "/containers", e.run_dir() + "/containers"})
    for (const std::string& name : names_in(top)) {
      if (!container_id::valid(name)) continue;
      const auto id = container_id::from(name);
      file_lock lock;
      if (::access(e.container_dir(id).c_str(), F_OK) == 0 && !(lock = try_lock_container(e, id))) continue;
      if (e.records().find_container(name)) continue;
      const std::string directory = fmt::format("{}/{}", top, name);
      out.found("directory " + directory, "no container is recorded under its name", "removed",
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
    const auto record = e.records().find_container(name);
    if (record && (record->state == container_state::running || record->state == container_state::paused)) continue;
    if (record && !try_lock_container(e, record->id)) continue;
    out.found(fmt::format("control group {}/{}", top, name), "no running container owns it",
              "its processes were killed, and it removed", [&] {
                const cgroup group(fmt::format("{}/{}", top, name));
                group.kill();
                group.remove();
              });
  }
}

/// Layers the drivers hold and nobody needs, and half made ones.
void check_layers(engine& e, report& out) {
  std::set<layer_id> needed;
  for (const container_record& c : e.records().containers()) {
    needed.insert(layer_id::from(c.id.text()));
    needed.insert(c.chain.begin(), c.chain.end());
  }
  for (const unpacked_record& u : e.records().unpacked_layers()) needed.insert(u.layer);
  for (const std::string& driver : names_in(e.config().root + "/storage")) {
    std::vector<layer_state> held;
    any_storage& storage = e.storage(driver);
    storage.layers([&](const layer_state& l) { held.push_back(l); });
    for (const layer_state& l : held) {
      if (needed.contains(l.id)) continue;
      // An unpacking that is going on keeps its layer unrecorded for minutes: it holds the images' lock.
      const auto lock = try_lock_images(e);
      if (!lock) return;
      if (!e.records().containers_using_layer(l.id).empty()) continue;
      out.found(fmt::format("layer {} of {}", l.id.brief(), driver),
                l.is == layer_state::state::partial ? "it was left half made" : "nothing is recorded that uses it",
                "removed", [&] { storage.remove(l.id); });
    }
  }
}

void check_networks(engine& e, report& out) {
  for (const network_record& n : e.records().networks()) {
    std::vector<endpoint_id> valid;
    for (const endpoint_record& p : e.records().endpoints(n.id)) {
      const auto r = e.records().find_container(p.container.text());
      const bool busy = r && !try_lock_container(e, r->id);
      if (busy || (r && (r->state == container_state::running || r->state == container_state::paused))) {
        valid.push_back(p.id);
        continue;
      }
      out.found(fmt::format("address {} of network {}", p.addresses.empty() ? "" : p.addresses[0], n.name),
                "its container does not run", "released", [&] { e.records().release_endpoint(p.id); });
    }
    if (e.network(n.driver).traits().network_namespace == netns::own)
      e.network(n.driver).collect(as_network(e, n), valid);
  }
}

void check_blobs(engine& e, report& out) {
  const auto lock = try_lock_images(e);
  if (!lock) return;
  std::set<std::string> wanted;
  for (const image_record& i : e.records().images())
    if (const auto m = e.records().manifest(i.digest); m) {
      wanted.insert({m->digest, m->config_digest});
      for (const auto& l : m->layers) wanted.insert(l.digest);
    }
  image_store store(e.images_dir());
  for (const std::string& blob : store.blobs())
    if (!wanted.contains(blob))
      out.found("blob " + blob, "no image names it", "removed", [&] { store.remove_blob(blob); });
}

/// A root's own group stays for its next container; this takes it away while there is none. One that is needed is not empty.
void remove_empty_groups(engine& e) { cgroup(fmt::format("kit-{}/none", e.root_tag())).remove_parents(); }

}  // namespace

std::vector<finding> reconcile(engine& e, const reconcile_options& options) {
  std::vector<finding> findings;
  report out(findings, options.dry_run);
  for (const container_record& r : e.records().containers()) check_container(e, r, out);
  check_strays(e, out);
  check_cgroups(e, out);
  check_networks(e, out);
  check_layers(e, out);
  check_blobs(e, out);
  if (!options.dry_run) {
    remove_empty_groups(e);
    e.records().checkpoint();
  }
  return findings;
}

pruned prune(engine& e, bool all_images, bool dry_run) {
  pruned p;
  for (const container_record& raw : e.records().containers()) {
    const container_record r = current(e, raw);
    if (r.state != container_state::created && r.state != container_state::exited) continue;
    p.bytes += e.storage(r.storage).usage({layer_id::from(r.id.text()), r.chain}).bytes;
    p.containers.push_back(r.id.str());
    if (!dry_run) remove(e, r.id, false);
  }
  for (const image_record& i : e.records().images()) {
    if (!i.reference.empty() && !all_images) continue;
    const auto users = e.records().containers_using_image(i.digest);
    const bool used = std::any_of(users.begin(), users.end(), [&](const container_id& id) {
      return std::find(p.containers.begin(), p.containers.end(), id.text()) == p.containers.end();
    });
    if (used) continue;
    const auto m = e.records().manifest(i.digest);
    if (m) p.bytes += m->size;
    p.images.push_back(i.reference.empty() ? i.digest : i.reference);
    if (!dry_run) remove_image(e, i.reference.empty() ? i.digest : i.reference, false);
  }
  if (!dry_run) remove_empty_groups(e);
  return p;
}

}  // namespace kit
