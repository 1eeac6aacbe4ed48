// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/images.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>

#include "kit/engine/bundle.hpp"
#include "kit/engine/changes.hpp"
#include "kit/engine/clock.hpp"
#include "kit/engine/locks.hpp"
#include "kit/image/reference.hpp"
#include "kit/image/store.hpp"
#include "kit/system/error.hpp"
#include "kit/system/process.hpp"

namespace kit {
namespace {

/// References are kept in one spelling; an id or a digest is looked up as it is.
std::string lookup_key(std::string_view text) {
  if (text.starts_with("sha256:")) return std::string(text);
  try {
    return reference::parse(text).text();
  } catch (const error&) {
    return std::string(text);
  }
}

std::optional<image_record> find_record(engine& e, std::string_view text) {
  if (auto found = e.records().find_image(lookup_key(text)); found) return found;
  return e.records().find_image(text);
}

void add_event(engine& e, std::string action, std::string actor) {
  e.records().add({now_ns(), "image", std::move(action), std::move(actor), {}});
}

}  // namespace

image find_image(engine& e, std::string_view text) {
  const auto record = find_record(e, text);
  if (!record) {
    if (!basic_id<struct any>::valid(text)) (void)reference::parse(text);  // says what is malformed, if it is
    fail(errc::not_found, "no such image: {}; import one (kit image import), or see kit images", text);
  }
  auto manifest = e.records().manifest(record->digest);
  if (!manifest) fail(errc::not_found, "image {}: its manifest {} is not in the records", text, record->digest);
  image_config config = parse_image_config(manifest->config);
  return {*record, std::move(*manifest), std::move(config)};
}

std::vector<layer_id> unpacked_chain(engine& e, const manifest_record& m, const std::string& storage) {
  std::vector<layer_id> chain;
  for (const auto& l : m.layers) {
    const auto id = e.records().unpacked(storage, l.chain_id);
    if (!id) return {};
    chain.insert(chain.begin(), *id);
  }
  return chain;
}

std::vector<layer_id> ensure_unpacked(engine& e, const image& i, const std::string& storage) {
  auto chain = unpacked_chain(e, i.manifest, storage);
  if (chain.size() == i.manifest.layers.size()) return chain;
  const engine_config& c = e.config();
  std::vector<std::string> args = {
      c.libexec + "/kit-image", "--root", c.root, "--run-dir", c.run_dir, "internal", "unpack",
      i.manifest.digest,        storage};
  const std::vector<char*> argv = argument_vector(args);
  pid_t pid = 0;
  if (const int x = ::posix_spawn(&pid, argv[0], nullptr, nullptr, argv.data(), environ); x != 0)
    fail_errno(x, "execute {}", args[0]);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) fail_errno(errno, "wait for {}", args[0]);
  chain = unpacked_chain(e, i.manifest, storage);
  if (status != 0 || chain.size() != i.manifest.layers.size())
    fail(errc::io, "unpack image {} in {}: see the message above",
         i.record.reference.empty() ? i.manifest.digest : i.record.reference, storage);
  return chain;
}

void tag_image(engine& e, std::string_view source, std::string_view text) {
  const image from = find_image(e, source);
  const reference to = reference::parse(text);
  if (!to.digest.empty()) fail(errc::invalid, "tag {}: a name with a digest cannot be given", text);
  e.records().transaction([&] {
    e.records().tag(to.text(), from.manifest.digest);
    add_event(e, "tag", to.text());
  });
}

std::vector<option> remove_image(engine& e, std::string_view text, bool force) {
  const auto found = find_record(e, text);
  if (!found) fail(errc::not_found, "no such image: {}", text);
  std::vector<option> done;
  records& records = e.records();
  const std::string digest = found->digest;
  const std::string key = lookup_key(text);
  // One transaction: nobody makes a container of it in between, and a crash leaves no image without a name.
  const auto record = [&] {
    done.clear();
    std::vector<std::string> names;
    for (const image_record& i : records.images())
      if (i.digest == digest && !i.reference.empty()) names.push_back(i.reference);
    const bool by_name = std::find(names.begin(), names.end(), key) != names.end();
    if (!by_name && names.size() > 1 && !force)
      fail(errc::conflict, "cannot remove image {}: it has {} names; remove them one by one, or use --force", text,
           names.size());
    const auto users = records.containers_using_image(digest);
    const bool last = !by_name || names.size() == 1;
    if (last && !users.empty() && !(force && by_name))
      fail(errc::conflict, "cannot remove image {}: container {} uses it; remove that first", text,
           users.front().brief());

    for (const std::string& name : names)
      if (!by_name || name == key) {
        records.untag(name);
        done.push_back({"Untagged", name});
      }
    if (!last || !users.empty()) return false;
    records.remove_manifest(digest);
    done.push_back({"Deleted", digest});
    add_event(e, "delete", digest);
    return true;
  };
  bool gone = false;
  in_step("record_image_removal", [&] { records.releasing([&] { gone = record(); }); });
  if (gone) collect_unused(e);
  return done;
}

std::vector<unpacked_record> unneeded_layers(engine& e) {
  records& records = e.records();
  std::set<std::string> wanted;
  for (const image_record& i : records.images())
    if (const auto m = records.manifest(i.digest); m)
      for (const auto& l : m->layers) wanted.insert(l.chain_id);
  std::set<layer_id> in_use;
  for (const container_record& c : records.containers()) in_use.insert(c.chain.begin(), c.chain.end());
  std::vector<unpacked_record> unneeded = records.unpacked_layers();
  std::erase_if(unneeded,
                [&](const unpacked_record& u) { return wanted.contains(u.chain_id) || in_use.contains(u.layer); });
  return unneeded;
}

void remove_unneeded(engine& e, const unpacked_record& u) {
  // The row first: a layer without one is found by reconcile, a row without its layer would break a start.
  in_step("remove_unpacked",
          [&] { e.records().releasing([&] { e.records().remove_unpacked(u.driver, u.chain_id); }); });
  in_step("remove_layer", [&] { e.storage(u.driver).remove(u.layer); });
}

std::uint64_t remove_unpacked(engine& e, const std::string& name, bool dry_run) {
  any_storage& storage = e.storage(name);
  const auto alone = try_lock_images(e);
  if (!alone)
    fail(errc::busy, "remove unpacked layers of {}: an image is being unpacked, loaded or committed; try again later",
         name);
  std::set<layer_id> in_use;
  for (const container_record& c : e.records().containers())
    if (c.storage == name) in_use.insert(c.chain.begin(), c.chain.end());
  std::vector<unpacked_record> idle = e.records().unpacked_layers();
  std::erase_if(idle, [&](const unpacked_record& u) { return u.driver != name || in_use.contains(u.layer); });
  std::uint64_t bytes = 0;
  for (const unpacked_record& u : idle) bytes += storage.usage({u.layer, {}}).bytes;
  if (dry_run) return bytes;
  // All rows first, at once: the layers of a chain stand on each other, and reconcile finds what has no row.
  in_step("remove_unpacked", [&] {
    e.records().releasing([&] {
      for (const unpacked_record& u : idle) e.records().remove_unpacked(u.driver, u.chain_id);
    });
  });
  in_step("remove_layers", [&] {
    for (const unpacked_record& u : idle) storage.remove(u.layer);
  });
  return bytes;
}

namespace {

/// Removes blobs that no manifest names; answers the bytes freed.
std::uint64_t collect_blobs(engine& e) {
  records& records = e.records();
  std::set<std::string> wanted;
  for (const image_record& i : records.images())
    if (const auto m = records.manifest(i.digest); m) {
      wanted.insert({m->digest, m->config_digest});
      for (const auto& l : m->layers) wanted.insert(l.digest);
    }
  image_store store(e.images_dir());
  std::uint64_t freed = 0;
  for (const std::string& blob : store.blobs())
    if (!wanted.contains(blob)) {
      struct stat st {};
      if (::stat(store.blob_path(blob).c_str(), &st) == 0) freed += static_cast<std::uint64_t>(st.st_blocks) * 512;
      in_step("remove_blob", [&] { store.remove_blob(blob); });
    }
  return freed;
}

}  // namespace

std::uint64_t collect_unused(engine& e) {
  const auto alone = try_lock_images(e);
  if (!alone) return 0;
  for (const unpacked_record& u : unneeded_layers(e)) remove_unneeded(e, u);
  const std::uint64_t freed = collect_blobs(e);
  KIT_STEP(write_image_index(e));
  return freed;
}

void write_image_index(engine& e) {
  std::vector<std::pair<descriptor, std::string>> entries;
  for (const image_record& i : e.records().images()) {
    const std::string blob = image_store(e.images_dir()).blob_path(i.digest);
    struct stat st {};
    if (::stat(blob.c_str(), &st) != 0) continue;
    entries.push_back(
        {{std::string(media_type_manifest), i.digest, static_cast<std::uint64_t>(st.st_size)}, i.reference});
  }
  image_store(e.images_dir()).write_index(entries);
}

std::vector<change> diff(engine& e, const container_id& id) {
  const container_record r = e.records().container(id.text());
  // A runtime makes what it mounts upon: an empty file or directory that the program never saw is no change of its.
  const std::vector<std::string> mounted = mount_points(spec_from_json(r.spec));
  std::vector<change> list;
  changes(e.storage(r.storage), layer{layer_id::from(id.text()), r.chain}, [&](const change& c) {
    if (c.what != change::kind::added || !std::binary_search(mounted.begin(), mounted.end(), c.path)) list.push_back(c);
  });
  // As Docker: a directory in which something is added or deleted has changed, and so have those above it.
  std::map<std::string, change::kind> all;
  for (const change& c : list) all[c.path] = c.what;
  for (const change& c : list)
    for (std::size_t slash = c.path.rfind('/'); slash != std::string::npos && slash != 0;
         slash = c.path.rfind('/', slash - 1))
      all.try_emplace(c.path.substr(0, slash), change::kind::modified);
  list.clear();
  for (auto& [path, what] : all) list.push_back({what, path});
  return list;
}

}  // namespace kit
