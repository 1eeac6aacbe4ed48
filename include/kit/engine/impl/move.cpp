// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include "kit/engine/changes.hpp"
#include "kit/engine/clock.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/locks.hpp"
#include "kit/engine/open_layer.hpp"
#include "kit/engine/spec.hpp"
#include "kit/engine/storage_options.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace {

/// Makes the new layer show what the old one does, and brings it to the disk: the old one goes next.
void copy_changes(any_storage& from, const layer& old, any_storage& to, const layer& fresh) {
  const unique_fd before = open_layer(from, old, access::live);
  const unique_fd after = open_layer(to, fresh, access::read_write);
  std::vector<std::string> paths;
  changes(from, old, [&](const change& c) { paths.push_back(c.path); });
  carry_changes(before.get(), after.get(), paths);
  in_step("sync_layer", [&] {
    if (::syncfs(open_at(after.get(), ".", O_RDONLY | O_DIRECTORY).get()) != 0)
      fail_errno(errno, "sync layer {}", fresh.id.brief());
  });
}

/// The image of a container, also if it has no name any more.
image image_of(engine& e, const container_record& r) {
  auto manifest = e.records().manifest(r.image_digest);
  if (!manifest) fail(errc::not_found, "move {}: its image {} is gone from the records", r.name, r.image);
  image_config config = parse_image_config(manifest->config);
  return {{r.image, r.image_digest, 0}, std::move(*manifest), std::move(config)};
}

}  // namespace

container_record move_container(engine& e, const container_id& id, const std::string& storage) {
  (void)current(e, e.records().container(id.text()));
  const auto lock = lock_container(e, id);
  container_record r = e.records().container(id.text());
  if (is_live(r) || r.state == container_state::restarting || record_lost_start(e, r))
    fail(errc::conflict, "cannot move container {}: it is running; stop it first", r.name);
  if (r.state == container_state::removing) fail(errc::conflict, "container {} is being removed", r.name);
  if (r.storage == storage) return r;
  any_storage &from = e.storage(r.storage), &to = e.storage(storage);
  if (const probe_report report = to.probe(); !report.usable)
    fail(errc::unsupported, "cannot move container {} to {}: it does not work here: {}; {}", r.name, storage,
         report.reason, report.remedy);
  container_spec spec = spec_from_json(r.spec);
  const storage_request asked(to, spec.storage_options);
  // A run that ended without being finished: its remains go first.
  if (::access(e.bundle_dir(id).c_str(), F_OK) == 0) end_run(e, r, [] {});

  // Until the record says that it stands on them, nothing else keeps the image's layers.
  const auto images = lock_images(e);
  container_record moved = r;
  moved.storage = storage;
  moved.chain = KIT_STEP(ensure_unpacked(e, image_of(e, r), storage));
  spec.storage = storage;
  moved.spec = to_json(spec);
  const layer_id own = layer_id::from(id.text());
  const layer old{own, r.chain}, fresh{own, moved.chain};
  in_step("remove_remains", [&] { to.remove(own); });  // of a move that was cut short
  try {
    in_step("create_layer", [&] { asked.create(to, fresh); });
    in_step("copy_changes", [&] { copy_changes(from, old, to, fresh); });
    in_step("record_move", [&] {
      // On disk before the old layer goes.
      e.records().durable(true);
      e.records().transaction([&] {
        e.records().update(moved);
        e.records().add({now_ns(),
                         "container",
                         "move",
                         id.str(),
                         {{"from", r.storage}, {"to", storage}, {"image", r.image}, {"name", r.name}}});
      });
    });
  } catch (...) {
    try {
      if (e.records().container(id.text()).storage != storage) to.remove(own);
    } catch (const std::exception& x) {
      this_call().log(log_level::warning, x.what());
    }
    throw;
  }
  try {
    in_step("remove_layer", [&] { from.remove(own); });
  } catch (const error& x) {
    this_call().log(
        log_level::warning,
        fmt::format("{}; it is moved, `kit system check` removes what is left of it in {}", x.what(), r.storage));
  }
  return moved;
}

}  // namespace kit
