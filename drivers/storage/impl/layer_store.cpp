// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/detail/layer_store.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"

namespace kit::drivers::detail {
namespace {

constexpr std::chrono::milliseconds patience{10};
constexpr std::string_view no_parent = "none";

/// Of 64 hexadecimal digits as many as tell any two layers apart: ext4 keeps a link of up to 59 bytes in its inode, and
/// needs a block of the disk for a longer one.
std::string_view brief(const layer_id& id) { return std::string_view(id.text()).substr(0, 48); }
std::string_view nearest_parent(const layer& l) { return l.parents.empty() ? no_parent : brief(l.parents.front()); }
/// A state is "<nearest parent> <options>".
std::string parent_in(const std::string& state) { return state.substr(0, state.find(' ')); }

bool exists(const std::string& path) {
  if (::access(path.c_str(), F_OK) == 0) return true;
  if (errno != ENOENT && errno != ENOTDIR) fail_errno(errno, "look at {}", path);
  return false;
}

}  // namespace

std::string layer_store::path(const layer_id& id) const { return directory_ + "/layers/" + id.str(); }

// A symlink, not a file: it is made in one step, it reaches the disk with the directory it stands in, so that a power
// cut leaves no half of it, and deleting it does not wait for data on its way to the disk.
std::string layer_store::state(const layer_id& id) const { return read_link(path(id) + "/state"); }

std::string layer_store::options_of(const layer_id& id) const {
  const std::string text = state(id);
  if (text.empty()) fail(errc::not_found, "layer {}: not in {}", id.brief(), directory_);
  return text.substr(text.find(' ') + 1);
}

/// Each layer tells its nearest parent; together they tell the chain.
bool layer_store::stands_over(const layer& l) const {
  std::string below = parent_in(state(l.id));
  for (const layer_id& p : l.parents) {
    if (below != brief(p)) return false;
    below = parent_in(state(p));
  }
  return below == no_parent;
}

bool layer_store::frozen(const layer_id& id) const { return exists(path(id) + "/frozen"); }

std::string layer_store::require(const layer_id& id) const {
  if (state(id).empty()) fail(errc::not_found, "layer {}: not in {}", id.brief(), directory_);
  return path(id);
}

std::string layer_store::require(const layer& l, access how) const {
  std::string where = require(l.id);
  if (how == access::read_write && frozen(l.id))
    fail(errc::invalid, "layer {}: frozen, it cannot be written; create a layer above it", l.id.brief());
  if (how == access::read_only && !frozen(l.id))
    fail(errc::invalid, "layer {}: writable, it cannot be read as frozen; freeze it, or ask for a live view",
         l.id.brief());
  return where;
}

void layer_store::require_frozen_parents(const layer& l) const {
  if (l.parents.empty()) return;
  // By one descriptor: of many parents the way to each is short.
  const unique_fd layers(::open((directory_ + "/layers").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (const layer_id& p : l.parents) {
    if (::faccessat(layers.get(), (p.str() + "/frozen").c_str(), F_OK, 0) == 0 || frozen(p)) continue;
    if (state(p).empty())
      fail(errc::not_found, "layer {}: its parent {} is not in {}", l.id.brief(), p.brief(), directory_);
    fail(errc::invalid, "layer {}: its parent {} is still writable; freeze it first", l.id.brief(), p.brief());
  }
}

void layer_store::make_own_directories() {
  if (const auto slash = directory_.rfind('/'); slash != std::string::npos && slash != 0)
    make_directories(directory_.substr(0, slash));
  make_directories(directory_, 0700);
  if (::chmod(directory_.c_str(), 0700) != 0) fail_errno(errno, "make {} private", directory_);
  for (const char* name : {"/layers", "/new", "/trash"}) make_directories(directory_ + name, 0700);
}

void layer_store::create(const layer& l, const std::string& options, function_ref<void(const std::string&)> fill) {
  const std::string wanted = fmt::format("{} {}", nearest_parent(l), options);
  if (const std::string found = state(l.id); !found.empty()) {
    if (!stands_over(l)) fail(errc::conflict, "create layer {}: it exists over other parents", l.id.brief());
    if (found != wanted) fail(errc::conflict, "create layer {}: it exists with other options", l.id.brief());
    return;
  }
  require_frozen_parents(l);

  const std::string making = directory_ + "/new/" + l.id.str();
  while (::mkdir(making.c_str(), 0700) != 0) {
    if (errno == ENOENT)
      make_own_directories();
    else if (errno == EEXIST)
      discard(making);
    else
      fail_errno(errno, "create layer {}: make {}", l.id.brief(), making);
  }
  try {
    if (::symlink(wanted.c_str(), (making + "/state").c_str()) != 0)
      fail_errno(errno, "create layer {}: make its state", l.id.brief());
    in_step("fill_layer", [&] { fill(making); });
    if (::rename(making.c_str(), path(l.id).c_str()) != 0) fail_errno(errno, "create layer {}: rename", l.id.brief());
  } catch (...) {
    try {
      discard(making);
    } catch (const error& e) {
      this_call().log(log_level::warning, e.what());
    }
    throw;
  }
}

bool layer_store::freeze(const layer_id& id) {
  const std::string where = require(id);
  if (frozen(id)) return false;
  const unique_fd directory = open_file(where, O_RDONLY | O_DIRECTORY);
  in_step("sync_layer", [&] {
    if (::syncfs(directory.get()) != 0) fail_errno(errno, "freeze layer {}: sync {}", id.brief(), where);
  });
  open_at(directory.get(), "frozen", O_WRONLY | O_CREAT, 0600).reset();
  if (::fsync(directory.get()) != 0) fail_errno(errno, "freeze layer {}: sync its mark", id.brief());
  return true;
}

void layer_store::rebase(const layer& l) {
  const std::string where = require(l.id);
  if (stands_over(l)) return;
  const std::string had = state(l.id);
  if (parent_in(had) != no_parent) fail(errc::conflict, "rebase layer {}: it has other parents", l.id.brief());
  if (frozen(l.id)) fail(errc::invalid, "rebase layer {}: it is frozen", l.id.brief());
  require_frozen_parents(l);
  const std::string next = where + "/state.new";
  const std::string wanted = fmt::format("{}{}", nearest_parent(l), had.substr(had.find(' ')));
  if ((::unlink(next.c_str()) != 0 && errno != ENOENT) || ::symlink(wanted.c_str(), next.c_str()) != 0 ||
      ::rename(next.c_str(), (where + "/state").c_str()) != 0)
    fail_errno(errno, "rebase layer {}: replace its state", l.id.brief());
}

void layer_store::discard(const std::string& path) {
  const auto bits = random_bits();
  const std::string grave = directory_ + "/trash/" + hex(bits.data(), 8);
  const bool was_there = in_step("move_to_trash", [&] {
    if (::rename(path.c_str(), grave.c_str()) == 0) return true;
    if (errno == ENOENT && !exists(path)) return false;
    fail_errno(errno, "move {} to the trash", path);
  });
  if (!was_there) return;
  KIT_STEP(empty_trash(std::chrono::steady_clock::now() + patience));
}

void layer_store::remove(const layer_id& id) {
  discard(path(id));
  discard(directory_ + "/new/" + id.str());
}

/// Deletes an entry of the trash, unless somebody else does already. Answers false when time is up.
bool layer_store::delete_until(const std::string& path, std::chrono::steady_clock::time_point until) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return true;
    fail_errno(errno, "open {}", path);
  }
  const unique_fd held(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return true;
  if (let_go_ && !let_go_(path)) return true;
  return remove_tree_until(path, until);
}

void layer_store::empty_trash(std::chrono::steady_clock::time_point until) {
  for (const std::string& name : names_in(directory_ + "/trash")) {
    try {
      if (!delete_until(directory_ + "/trash/" + name, until)) return;
    } catch (const error& e) {
      if (e.code() == errc::cancelled) throw;
      this_call().log(log_level::warning, e.what());
    }
  }
}

bool layer_store::empty() const {
  for (const char* name : {"/new", "/layers"})
    if (!names_in(directory_ + name).empty()) return false;
  return true;
}

void layer_store::layers(layer_sink out) {
  empty_trash(std::chrono::steady_clock::time_point::max());
  // In this order a layer that becomes whole meanwhile is seen at least once.
  std::vector<std::string> partial = names_in(directory_ + "/new");
  const std::vector<std::string> present = names_in(directory_ + "/layers");
  std::vector<layer_state> found;
  for (const std::string& name : present) {
    if (!layer_id::valid(name)) continue;
    const auto id = layer_id::from(name);
    if (frozen(id))
      found.push_back({id, layer_state::state::frozen});
    else if (exists(path(id)))
      found.push_back({id, layer_state::state::writable});
  }
  for (const std::string& name : partial)
    if (layer_id::valid(name) && std::find(present.begin(), present.end(), name) == present.end())
      found.push_back({layer_id::from(name), layer_state::state::partial});
  for (const layer_state& s : found) out(s);
}

void check_options(std::string_view driver, std::span<const option> options, std::span<const option_schema> known) {
  for (const option& o : options) {
    const auto schema =
        std::find_if(known.begin(), known.end(), [&](const option_schema& s) { return s.key == o.key; });
    if (schema == known.end()) {
      std::string names;
      for (const option_schema& s : known) names += (names.empty() ? "" : ", ") + s.key;
      fail(errc::invalid, "{}: no option \"{}\"; it knows {}", driver, o.key, names.empty() ? "none" : names);
    }
    if (schema->kind == option_schema::type::boolean && o.value != "true" && o.value != "false")
      fail(errc::invalid, "{}: option {}={}: it is either true or false", driver, o.key, o.value);
  }
}

std::string kernel_release() {
  utsname name{};
  ::uname(&name);
  return name.release;
}

std::string nearest_existing(std::string path) {
  while (!path.empty() && !exists(path)) path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  return path.empty() ? "/" : path;
}

std::string file_system_of(const std::string& path) {
  struct statfs found {};
  if (::statfs(path.c_str(), &found) != 0) fail_errno(errno, "statfs {}", path);
  switch (static_cast<unsigned long>(found.f_type)) {
    case EXT4_SUPER_MAGIC: return "ext4";
    case XFS_SUPER_MAGIC: return "xfs";
    case BTRFS_SUPER_MAGIC: return "btrfs";
    case TMPFS_MAGIC: return "tmpfs";
    case OVERLAYFS_SUPER_MAGIC: return "overlay";
    case F2FS_SUPER_MAGIC: return "f2fs";
    case NFS_SUPER_MAGIC: return "nfs";
    case FUSE_SUPER_MAGIC: return "fuse";
    case EROFS_SUPER_MAGIC_V1: return "erofs";
    case SQUASHFS_MAGIC: return "squashfs";
    case 0x2fc12fc1: return "zfs";
    case 0x00c0ffee: return "hostfs";
    default: return fmt::format("{:#x}", static_cast<unsigned long>(found.f_type));
  }
}

temporary_directory::temporary_directory(const std::string& parent) : path_(parent + "/.kit-probe.XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) fail_errno(errno, "make a directory in {}", parent);
}

temporary_directory::~temporary_directory() {
  try {
    remove_tree(path_);
  } catch (const error& e) {
    this_call().log(log_level::warning, e.what());
  }
}

}  // namespace kit::drivers::detail
