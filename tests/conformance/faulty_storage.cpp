// SPDX-License-Identifier: Apache-2.0
#include "faulty_storage.hpp"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "kit/system/error.hpp"

namespace kit::testing {
namespace {

namespace fs = std::filesystem;
using state_t = layer_state::state;
using fault = storage_fault;

layer parent_of(const layer& l) { return {l.parents.front(), l.parents.subspan(1)}; }

}  // namespace

faulty_storage::faulty_storage(const driver_config& config, storage_fault f)
    : config_(config), fault_(f), right_(config) {
  if (is(fault::constructing_makes_its_directory)) make_directories(config.directory, 0700);
}

bool faulty_storage::there(const layer_id& id) const { return fs::exists(config_.directory + "/" + id.str()); }

state_t faulty_storage::state(const layer_id& id) {
  state_t found = state_t::partial;
  right_.layers([&](const layer_state& s) {
    if (s.id == id) found = s.is;
  });
  return found;
}

void faulty_storage::create(const layer& l, std::span<const option> options) {
  const bool present = there(l.id);
  const bool whole = present && state(l.id) != state_t::partial;
  const std::string directory = config_.directory + "/" + l.id.str();
  switch (fault_) {
    case fault::create_twice_fails:
      if (whole) fail(errc::exists, "create layer {}: it exists", l.id.brief());
      break;
    case fault::create_twice_empties:
      if (state(l.id) == state_t::writable) right_.remove(l.id);
      break;
    case fault::create_twice_thaws:
      if (state(l.id) == state_t::frozen) {
        std::string record = read_file(directory + "/record");
        replace_file(directory + "/record", "writable" + record.substr(record.find('\n')));
      }
      break;
    case fault::conflict_not_noticed:
      if (whole) return;
      break;
    case fault::absent_parent_accepted:
      if (!l.parents.empty() && !there(l.parents.front())) return right_.create({l.id, {}}, options);
      break;
    case fault::writable_parent_accepted:
      if (!l.parents.empty() && there(l.parents.front()) && state(l.parents.front()) == state_t::writable)
        return right_.create({l.id, {}}, options);
      break;
    case fault::unknown_option_accepted: options = {}; break;
    case fault::cancel_leaves_a_torn_layer:
      if (this_call().cancelled()) return right_.create({l.id, {}}, options), this_call().check();
      break;
    case fault::parents_ignored: return right_.create({l.id, {}}, options);
    case fault::partial_taken_for_whole:
      if (present && !whole) return right_.create({l.id, {}}, options);
      break;
    case fault::partial_cannot_be_created:
      if (present && !whole) fail(errc::exists, "create layer {}: remains are there", l.id.brief());
      break;
    case fault::first_use_races:
      if (!fs::exists(config_.directory)) {
        ::usleep(50'000);
        if (::mkdir(config_.directory.c_str(), 0700) != 0) fail_errno(errno, "make directory {}", config_.directory);
      }
      break;
    default: break;
  }
  right_.create(l, options);
  if (is(fault::directory_open_to_all)) fs::permissions(config_.directory, fs::perms{0755});
  if (is(fault::id_used_again_shows_old_files) && fs::exists(config_.directory + "/old-" + l.id.str()))
    std::ofstream(tree(l.id) + "/old");
  if (!whole && !l.parents.empty()) spoil(l);
}

/// What goes wrong while the parent is copied.
void faulty_storage::spoil(const layer& l) {
  const fs::path mine = tree(l.id);
  const fs::path parent = tree(l.parents.front());
  auto each = [&](auto work) {
    for (const auto& entry : fs::recursive_directory_iterator(mine)) work(entry.path());
  };
  // What the parent deleted, its own parent still holds.
  auto lost = [&](auto work) {
    if (l.parents.size() < 2) return;
    const fs::path grandparent = tree(l.parents[1]);
    for (const auto& entry : fs::recursive_directory_iterator(grandparent))
      if (const auto path = entry.path().lexically_relative(grandparent); !fs::exists(fs::symlink_status(mine / path)))
        work(entry.path(), mine / path);
  };
  switch (fault_) {
    case fault::parents_shared_with_the_child:
      fs::remove_all(mine);
      fs::create_directory_symlink(parent, mine);
      break;
    case fault::deleted_file_reappears:
      lost([](const fs::path& old, const fs::path& here) {
        if (fs::is_regular_file(fs::symlink_status(old)) && fs::is_directory(here.parent_path())) fs::copy(old, here);
      });
      break;
    case fault::removed_directory_shows_through:
      lost([](const fs::path& old, const fs::path& here) {
        // A directory that was removed and made again: not opaque.
        if (here.filename() == "old") fs::copy(old, here);
      });
      break;
    case fault::whiteout_visible:
      lost([](const fs::path&, const fs::path& here) {
        if (fs::is_directory(here.parent_path())) ::mknod(here.c_str(), S_IFCHR, 0);
      });
      break;
    case fault::times_lost:
      each([](const fs::path& path) { ::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW); });
      break;
    case fault::capability_lost:
      each([](const fs::path& path) { ::lremovexattr(path.c_str(), "security.capability"); });
      break;
    case fault::root_mode_lost: fs::permissions(mine, fs::perms{0755}); break;
    case fault::links_broken:
      each([](const fs::path& path) {
        if (!fs::is_regular_file(fs::symlink_status(path)) || fs::hard_link_count(path) < 2) return;
        const auto time = fs::last_write_time(path);
        const fs::path copied = path.string() + ".copy";
        fs::copy(path, copied);
        fs::rename(copied, path);
        fs::last_write_time(path, time);
      });
      break;
    case fault::holes_filled:
      each([](const fs::path& path) {
        if (!fs::is_regular_file(fs::symlink_status(path)) || fs::file_size(path) == 0) return;
        const unique_fd fd = open_file(path, O_RDWR);
        ::posix_fallocate(fd.get(), 0, static_cast<off_t>(fs::file_size(path)));
      });
      break;
    case fault::name_with_newline_lost:
      for (const auto& entry : fs::directory_iterator(mine))
        if (entry.path().filename().string().find('\n') != std::string::npos) fs::remove_all(entry.path());
      break;
    default: break;
  }
}

std::vector<mount> faulty_storage::mounts(const layer& l, access a) {
  if (there(l.id)) {
    const state_t now = state(l.id);
    if ((is(fault::frozen_handed_out_writable) && now == state_t::frozen && a == access::read_write) ||
        (is(fault::freeze_not_remembered_by_another_object) && now == state_t::frozen && a == access::read_write &&
         !frozen_here_.contains(l.id)))
      return {mount::bind(tree(l.id), false)};
    if (is(fault::writable_handed_out_read_only) && now == state_t::writable && a == access::read_only)
      return {mount::bind(tree(l.id), true)};
    if (is(fault::partial_taken_for_whole) && now == state_t::partial) return {mount::bind(tree(l.id), true)};
  } else if (is(fault::absent_handed_out)) {
    return {mount::bind(tree(l.id), true)};
  }
  auto list = right_.mounts(l, a);
  if ((is(fault::read_only_view_is_writable) && a == access::read_only) ||
      (is(fault::live_view_is_writable) && a == access::live))
    list.front().attributes &= ~static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY);
  return list;
}

void faulty_storage::freeze(const layer_id& id) {
  if (is(fault::freeze_of_the_unknown_succeeds) && !there(id)) return;
  if (is(fault::freeze_twice_fails) && state(id) == state_t::frozen) fail(errc::exists, "freeze {}", id.brief());
  right_.freeze(id);
  frozen_here_.insert(id);
}

void faulty_storage::remove(const layer_id& id) {
  const std::string directory = config_.directory + "/" + id.str();
  switch (fault_) {
    case fault::remove_of_the_unknown_throws:
      if (!there(id)) fail(errc::not_found, "remove layer {}: there is none", id.brief());
      break;
    case fault::remove_keeps_the_bytes:
      if (there(id)) fs::rename(directory, config_.directory + "/trash-" + random_id<layer_id>().str());
      return;
    case fault::remove_of_frozen_does_nothing:
      if (there(id) && state(id) == state_t::frozen) return;
      break;
    case fault::id_used_again_shows_old_files: std::ofstream(config_.directory + "/old-" + id.str()); break;
    case fault::partial_cannot_be_removed:
      if (there(id) && state(id) == state_t::partial) fail(errc::not_found, "remove layer {}: not whole", id.brief());
      break;
    default: break;
  }
  right_.remove(id);
}

disk_usage faulty_storage::usage(const layer& l) {
  if (is(fault::usage_of_the_unknown_is_zero) && !there(l.id)) return {};
  disk_usage sum = right_.usage(l);
  if (is(fault::usage_counts_the_parents) && !l.parents.empty()) {
    const disk_usage below = usage(parent_of(l));
    sum.bytes += below.bytes;
    sum.inodes += below.inodes;
  }
  return sum;
}

void faulty_storage::layers(layer_sink out) {
  try {
    right_.layers([&](const layer_state& s) {
      if (is(fault::layers_forgets_partial) && s.is == state_t::partial) return;
      out(s);
    });
  } catch (...) {
    if (!is(fault::layers_swallows_the_sinks_stop)) throw;
  }
  if (is(fault::layers_invents_one)) out({layer_id(), state_t::partial});
}

void faulty_storage::changes(const layer& l, change_sink out) {
  std::vector<change> list;
  right_.changes(l, [&](const change& c) { list.push_back(c); });
  if (is(fault::changes_list_the_untouched) && list.empty())
    for (const auto& entry : fs::directory_iterator(tree(l.id)))
      list.push_back({change::kind::modified, entry.path().filename()});
  if (is(fault::changes_unsorted)) std::reverse(list.begin(), list.end());
  if (is(fault::changes_list_below_a_deleted_directory) && !l.parents.empty())
    for (std::size_t i = 0; i < list.size(); ++i) {
      const fs::path old = fs::path(tree(l.parents.front())) / list[i].path;
      if (list[i].what == change::kind::deleted && fs::is_directory(fs::symlink_status(old)))
        for (const auto& entry : fs::directory_iterator(old))
          list.push_back({change::kind::deleted, list[i].path + "/" + entry.path().filename().string()});
    }
  for (const change& c : list)
    if (!is(fault::changes_forget_the_root) || !c.path.empty()) out(c);
}

}  // namespace kit::testing
