// SPDX-License-Identifier: Apache-2.0
// A storage driver of somebody else's, whole: every layer is a directory, a new one is a copy of its nearest parent.
//
//     DIRECTORY/ID/{parents, frozen, root/}   whole        DIRECTORY/ID.new/   being made        DIRECTORY/dead-*/   removed
//
// Each step from one to the next is one rename, so a crash leaves nothing between.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "kit/plugin/export.hpp"
#include "kit/storage/concept.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"

namespace {

namespace fs = std::filesystem;

class copies {
 public:
  explicit copies(const kit::driver_config& c) : directory_(c.directory) {}
  static constexpr std::string_view name() { return "copies"; }
  static std::vector<kit::option_schema> options() { return {}; }

  kit::probe_report probe() const {
    if (::geteuid() != 0) return {false, "owners and devices of files can only be copied by root", "run as root", {}};
    return {true, {}, {}, {{"layers in", directory_}}};
  }

  void create(const kit::layer& l, std::span<const kit::option> options) {
    if (!options.empty())
      kit::fail(kit::errc::invalid, "create layer {}: copies has no option {}", l.id.brief(), options.front().key);
    std::string parents;
    for (const kit::layer_id& p : l.parents) (parents += p.text()) += '\n';
    if (fs::exists(path(l.id))) {
      if (kit::read_file(path(l.id) + "/parents") == parents) return;
      kit::fail(kit::errc::conflict, "create layer {}: it exists over other parents", l.id.brief());
    }
    for (const kit::layer_id& p : l.parents)
      if (!frozen(present(p)))
        kit::fail(kit::errc::invalid, "create layer {}: its parent {} is writable", l.id.brief(), p.brief());

    const std::string making = path(l.id) + ".new";
    kit::make_directories(directory_, 0700);
    kit::remove_tree(making);
    kit::make_directories(making + "/root", 0755);
    const kit::unique_fd root = open_directory(making + "/root");
    if (::fchmod(root.get(), 0755) != 0) kit::fail_errno(errno, "chmod {}", making);
    if (!l.parents.empty()) kit::copy_tree(open_directory(path(l.parents.front()) + "/root").get(), root.get());
    kit::replace_file(making + "/parents", parents, 0600, true);
    fs::rename(making, path(l.id));
  }

  std::vector<kit::mount> mounts(const kit::layer& l, kit::access how) {
    const std::string layer = present(l.id);
    if (how == kit::access::read_write && frozen(layer))
      kit::fail(kit::errc::invalid, "layer {} is frozen: create one above it", l.id.brief());
    if (how == kit::access::read_only && !frozen(layer))
      kit::fail(kit::errc::invalid, "layer {} is writable: freeze it first", l.id.brief());
    return {kit::mount::bind(layer + "/root", how != kit::access::read_write)};
  }

  void freeze(const kit::layer_id& id) {
    const std::string layer = present(id);
    if (::syncfs(open_directory(layer).get()) != 0) kit::fail_errno(errno, "sync {}", layer);
    kit::replace_file(layer + "/frozen", "", 0600, true);
  }

  void remove(const kit::layer_id& id) {
    for (const std::string& place : {path(id), path(id) + ".new"}) {
      if (!fs::exists(place)) continue;
      const std::string dead = directory_ + "/dead-" + kit::random_id<kit::layer_id>().str();
      fs::rename(place, dead);
      kit::remove_tree_until(dead, std::chrono::steady_clock::now() + std::chrono::milliseconds(50));
    }
  }

  kit::disk_usage usage(const kit::layer& l) {
    const auto size = kit::measure_tree(open_directory(present(l.id) + "/root").get());
    return {size.bytes, size.inodes};
  }

  void layers(kit::layer_sink out) {
    using state = kit::layer_state::state;
    std::error_code absent;
    std::vector<kit::layer_state> found;
    for (const auto& entry : fs::directory_iterator(directory_, absent)) {
      const std::string name = entry.path().filename();
      // Another call may be removing it too.
      if (name.starts_with("dead-")) kit::remove_tree_until(entry.path(), std::chrono::steady_clock::time_point::max());
      if (kit::layer_id::valid(name))
        found.push_back({kit::layer_id::from(name), frozen(entry.path()) ? state::frozen : state::writable});
      else if (name.ends_with(".new") && kit::layer_id::valid(name.substr(0, name.size() - 4)))
        found.push_back({kit::layer_id::from(name), state::partial});
    }
    for (const auto& l : found) out(l);
  }

 private:
  static kit::unique_fd open_directory(const std::string& path) { return kit::open_file(path, O_RDONLY | O_DIRECTORY); }
  static bool frozen(const std::string& layer) { return fs::exists(layer + "/frozen"); }
  std::string path(const kit::layer_id& id) const { return directory_ + "/" + id.str(); }
  std::string present(const kit::layer_id& id) const {
    if (!fs::exists(path(id))) kit::fail(kit::errc::not_found, "layer {} is not in {}", id.brief(), directory_);
    return path(id);
  }

  std::string directory_;
};

}  // namespace

KIT_PLUGIN(copies, "0.1", "Apache-2.0")
