// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/volumes.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "kit/engine/clock.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"

namespace kit {
namespace {

std::string directory_of(const engine& e, std::string_view name) {
  return fmt::format("{}/volumes/{}", e.config().root, name);
}

/// The volume's directory, made if it is absent, locked.
file_lock make_and_lock(const engine& e, const std::string& name) {
  const std::string directory = directory_of(e, name);
  for (;;) {
    make_directories(e.config().root + "/volumes", 0711);
    make_directories(directory, 0711);
    try {
      file_lock lock = file_lock::wait_directory(directory);
      struct stat locked {};
      struct stat there {};
      if (::fstat(lock.get(), &locked) == 0 && ::stat(directory.c_str(), &there) == 0 &&
          locked.st_ino == there.st_ino) {
        make_directories(volume_path(e, name), 0755);
        return lock;
      }
    } catch (const error& x) {
      if (x.code() != errc::not_found) throw;  // its remover was quicker
    }
  }
}

void add_event(engine& e, const std::string& name, std::string action) {
  e.records().add({now_ns(), "volume", std::move(action), name, {{"driver", "local"}}});
}

/// Fills the empty volume in `directory` from `target` in `root`. COPY.tmp is being copied, COPY is whole and being
/// moved: what a command that was killed left of it is moved by the next.
void fill(const std::string& directory, const std::string& data, int root, const std::string& target) {
  const std::string copy = directory + "/copy", unfinished = directory + "/copy.tmp";
  if (::access(copy.c_str(), F_OK) != 0) {
    if (!names_in(data).empty()) return;
    const unique_fd from(try_open_in_root(root, target.c_str(), O_RDONLY | O_DIRECTORY));
    if (!from && errno == ENOENT) return;
    if (!from && errno == ENOTDIR)
      fail(errc::invalid, "cannot mount a volume over an existing file: the image has a file at {}", target);
    if (!from) fail_errno(errno, "open {} in the image", target);
    remove_tree(unfinished);
    make_directory(unfinished, 0700);
    copy_tree(from.get(), open_directory(unfinished).get());
    if (::rename(unfinished.c_str(), copy.c_str()) != 0) fail_errno(errno, "rename {}", unfinished);
  }
  const unique_fd from = open_directory(copy), to = open_directory(data);
  for (const std::string& name : names_in(copy))
    if (::renameat2(from.get(), name.c_str(), to.get(), name.c_str(), RENAME_NOREPLACE) != 0 && errno != EEXIST)
      fail_errno(errno, "fill {}: move {}", data, name);
  copy_status(from.get(), to.get());
  remove_tree(copy);
}

std::vector<mount_request> volumes_of(const container_record& c) {
  std::vector<mount_request> list;
  if (!shows_volumes(c)) return list;
  for (mount_request& m : spec_from_json(c.spec).mounts)
    if (m.what == mount_request::kind::volume) list.push_back(std::move(m));
  return list;
}

void remove_directory(engine& e, const std::string& name) {
  const std::string directory = directory_of(e, name);
  file_lock lock;
  try {
    lock = file_lock::wait_directory(directory);
  } catch (const error& x) {
    if (x.code() == errc::not_found) return;
    throw;
  }
  if (!e.records().find_volume(name)) remove_tree(directory);  // else: made again meanwhile
}

}  // namespace

std::string volume_path(const engine& e, std::string_view name) { return directory_of(e, name) + "/_data"; }

volume_record find_volume(engine& e, std::string_view name) {
  if (auto v = e.records().find_volume(name)) return *std::move(v);
  fail(errc::not_found, "no such volume: {}", name);
}

volume_record create_volume(engine& e, const std::string& wanted, const std::vector<option>& labels) {
  const bool drawn = wanted.empty();
  if (!drawn) check_volume_name(wanted);
  const std::string name = drawn ? random_id<volume_id>().str() : wanted;
  const file_lock lock = make_and_lock(e, name);
  e.records().transaction([&] {
    if (e.records().find_volume(name)) return;
    e.records().insert(volume_record{name, labels, drawn, now_ns()});
    add_event(e, name, "create");
  });
  return find_volume(e, name);
}

std::vector<container_record> volume_users(engine& e, std::string_view name) {
  std::vector<container_record> users;
  for (container_record& c : e.records().containers()) {
    const auto shown = volumes_of(c);
    if (std::any_of(shown.begin(), shown.end(), [&](const mount_request& m) { return m.source == name; }))
      users.push_back(std::move(c));
  }
  return users;
}

void remove_volume(engine& e, const std::string& name) {
  const volume_record v = find_volume(e, name);
  e.records().releasing([&] {
    const auto users = volume_users(e, v.name);
    if (!users.empty()) {
      std::string ids;
      for (const container_record& c : users) ids += fmt::format("{}{}", ids.empty() ? "" : ", ", c.name);
      fail(errc::conflict, "remove volume {}: it is in use by {}", name, ids);
    }
    e.records().remove_volume(v.name);
    add_event(e, v.name, "destroy");
  });
  remove_directory(e, v.name);
}

std::vector<volume_record> unused_volumes(engine& e, bool all) {
  std::vector<std::string> used;
  for (const container_record& c : e.records().containers())
    for (const mount_request& m : volumes_of(c)) used.push_back(m.source);
  std::sort(used.begin(), used.end());
  std::vector<volume_record> list = e.records().volumes();
  std::erase_if(list, [&](const volume_record& v) {
    return (!all && !v.anonymous) || std::binary_search(used.begin(), used.end(), v.name);
  });
  return list;
}

// ---- of containers ---------------------------------------------------------------------------------

bool shows_volumes(const container_record& c) { return c.spec.find(R"("type":"volume")") != std::string::npos; }

void settle_mounts(engine& e, container_spec& spec, const image_config& image) {
  if (spec.mounts.empty() && spec.tmpfs.empty() && spec.volumes_from.empty() && image.volumes.empty()) return;
  std::vector<std::string> targets;
  const auto taken = [&](const std::string& target) {
    return std::find(targets.begin(), targets.end(), target) != targets.end();
  };
  const auto take = [&](const std::string& target) {
    if (taken(target)) fail(errc::invalid, "duplicate mount point: {}", target);
    targets.push_back(target);
  };
  for (const mount_request& m : spec.mounts) take(m.target);
  for (const option& t : spec.tmpfs) take(t.key);

  for (const std::string& text : spec.volumes_from) {
    const auto colon = text.find(':');
    const std::string mode = colon == text.npos ? "rw" : text.substr(colon + 1);
    if (mode != "ro" && mode != "rw" && mode != "z" && mode != "Z")
      fail(errc::invalid, "invalid volumes-from '{}': invalid mode: {}", text, mode);
    const container_spec other = spec_from_json(e.records().container(text.substr(0, colon)).spec);
    for (mount_request m : other.mounts) {
      if (taken(m.target)) continue;
      if (mode == "ro" && !m.has("ro")) m.options.emplace_back("ro");
      if (m.what == mount_request::kind::volume && !m.has("nocopy")) m.options.emplace_back("nocopy");
      take(m.target);
      spec.mounts.push_back(std::move(m));
    }
  }
  spec.volumes_from.clear();

  for (const std::string& path : image.volumes) {
    mount_request m;
    m.what = mount_request::kind::volume;
    m.target = parse_volume(path).target;
    if (!taken(m.target)) spec.mounts.push_back(std::move(m));
  }
  for (mount_request& m : spec.mounts) {
    if (m.what == mount_request::kind::volume && m.source.empty()) {
      m.source = random_id<volume_id>().str();
      m.anonymous = true;
    }
    if (m.must_exist && ::access(m.source.c_str(), F_OK) != 0)
      fail(errc::invalid, "invalid mount config for type \"bind\": bind source path does not exist: {}", m.source);
  }
}

held_volumes::held_volumes(engine& e, const container_spec& spec, int root) {
  std::vector<const mount_request*> wanted;
  for (const mount_request& m : spec.mounts)
    if (m.what == mount_request::kind::volume) wanted.push_back(&m);
  // Who needs several takes their locks in one order, each once.
  std::sort(wanted.begin(), wanted.end(), [](auto* a, auto* b) { return a->source < b->source; });
  try {
    for (const mount_request* m : wanted) {
      if (held_.empty() || held_.back().first != m->source) {
        held_.emplace_back(m->source, make_and_lock(e, m->source));
        if (!e.records().find_volume(m->source)) made_.push_back({m->source, {}, m->anonymous, now_ns()});
      }
      if (!m->has("nocopy")) fill(directory_of(e, m->source), volume_path(e, m->source), root, m->target);
    }
  } catch (...) {
    forget(e);
    throw;
  }
}

void held_volumes::record(engine& e) const {
  for (const volume_record& v : made_) {
    e.records().insert(v);
    add_event(e, v.name, "create");
  }
}

void held_volumes::forget(engine& e) noexcept {
  for (const volume_record& v : made_) try {
      if (!e.records().find_volume(v.name)) remove_tree(directory_of(e, v.name));
    } catch (const std::exception& x) {
      this_call().log(log_level::warning, x.what());
    }
  made_.clear();
  held_.clear();
}

std::vector<std::string> strike_anonymous_volumes(engine& e, const container_record& c) {
  std::vector<std::string> gone;
  for (const mount_request& m : volumes_of(c)) {
    if (!m.anonymous) continue;
    const auto users = volume_users(e, m.source);
    if (std::any_of(users.begin(), users.end(), [&](const container_record& u) { return u.id != c.id; })) continue;
    e.records().remove_volume(m.source);
    add_event(e, m.source, "destroy");
    gone.push_back(m.source);
  }
  return gone;
}

void remove_volume_directories(engine& e, const std::vector<std::string>& names) {
  for (const std::string& name : names) remove_directory(e, name);
}

void check_volumes(engine& e, bool dry_run, std::vector<finding>& out) {
  const std::string top = e.config().root + "/volumes";
  const std::string words = dry_run ? "to be removed" : "removed";
  for (const std::string& name : names_in(top)) {
    file_lock lock;
    try {
      lock = file_lock::try_directory(directory_of(e, name));
    } catch (const error& x) {
      if (x.code() != errc::not_found) throw;
    }
    if (!lock) continue;
    if (!e.records().find_volume(name)) {
      if (!dry_run) remove_tree(directory_of(e, name));
      out.push_back({"directory " + directory_of(e, name), "no volume is recorded under its name", words});
    } else if (const std::string part = directory_of(e, name) + "/copy.tmp"; ::access(part.c_str(), F_OK) == 0) {
      if (!dry_run) remove_tree(part);
      out.push_back({"volume " + name, "filling it from an image was interrupted", "the rest " + words});
    }
  }
  for (const volume_record& v : e.records().volumes())
    if (::access(volume_path(e, v.name).c_str(), F_OK) != 0) {
      if (!dry_run) make_and_lock(e, v.name);
      out.push_back({"volume " + v.name, "its directory is gone, and with it what was in it",
                     dry_run ? "to be made again, empty" : "made again, empty"});
    }
}

}  // namespace kit
