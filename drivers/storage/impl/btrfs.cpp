// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/btrfs.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <set>

#include "drivers/storage/detail/probing.hpp"
#include "kit/system/btrfs.hpp"
#include "kit/system/error.hpp"
#include "kit/system/tree.hpp"

namespace kit::drivers {
namespace {

constexpr std::string_view quotas_key = "quotas";
// The layer's directory is plain, so that it can be renamed while the subvolume in it is read only.
constexpr const char* root_name = "root";

std::string root_of(const std::string& layer) { return layer + "/" + root_name; }

unique_fd open_readable(const std::string& directory) { return open_file(directory, O_RDONLY | O_DIRECTORY); }
subvolume open_subvolume(const std::string& layer) { return subvolume(open_readable(root_of(layer))); }

bool let_go(const std::string& layer) {
  delete_subvolume(open_readable(layer).get(), root_name);
  return true;
}

/// A snapshot of `from`, and of the subvolumes inside it, as `name` in `directory`.
void snapshot_whole(const subvolume& from, int directory, const std::string& name) {
  from.snapshot(directory, name);
  for (const subvolume::inner& inner : from.inner_subvolumes()) {
    // Its place is taken by an empty directory. All of this path is made of directories of a frozen layer.
    const auto slash = inner.path.rfind('/');
    const std::string base = slash == std::string::npos ? inner.path : inner.path.substr(slash + 1);
    const unique_fd copy = open_at(directory, name, O_RDONLY | O_DIRECTORY);
    const unique_fd parent = open_in_root(copy.get(), slash == std::string::npos ? "." : inner.path.substr(0, slash),
                                          O_RDONLY | O_DIRECTORY);
    if (::unlinkat(parent.get(), base.c_str(), AT_REMOVEDIR) != 0) fail_errno(errno, "snapshot {}", inner.path);
    snapshot_whole(subvolume(open_in_root(from.get(), inner.path, O_RDONLY | O_DIRECTORY)), parent.get(), base);
  }
}

/// What is written in the layer is in the file system's trees afterwards.
void sync(const subvolume& layer) {
  if (::syncfs(layer.get()) != 0) fail_errno(errno, "sync a layer");
}

// ---- changes ------------------------------------------------------------------------------------------------

using entry = std::pair<std::string, ino_t>;

std::vector<entry> entries_of(int directory) {
  unique_fd fd = open_at(directory, ".", O_RDONLY | O_DIRECTORY);
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd.get()), ::closedir);
  if (!stream) fail_errno(errno, "read a directory of a layer");
  (void)fd.release();
  std::vector<entry> list;
  errno = 0;
  while (const dirent* e = ::readdir(stream.get())) {
    const std::string_view name = e->d_name;
    if (name != "." && name != "..") list.emplace_back(name, e->d_ino);
    errno = 0;
  }
  if (errno != 0) fail_errno(errno, "read a directory of a layer");
  std::sort(list.begin(), list.end());
  return list;
}

ino_t inode_of(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) fail_errno(errno, "stat a directory of a layer");
  return st.st_ino;
}

/// Where a snapshot can differ from its origin. A file has the same inode number in both, so a path differs if its inode
/// was changed, or if its directory was and names another inode there than before.
class changed_places {
 public:
  explicit changed_places(const subvolume& snapshot) : changed_(snapshot.changed()) {
    std::map<std::uint64_t, std::optional<std::string>> paths;
    for (const std::uint64_t inode : changed_)
      for (const subvolume::link& l : snapshot.links(inode)) {
        const auto [known, is_new] = paths.try_emplace(l.directory);
        if (is_new) known->second = snapshot.directory_path(l.directory);
        if (known->second) note(*known->second, l.name);
      }
  }

  [[nodiscard]] std::optional<std::vector<std::string>> names(const std::string& path, int before, int after) const {
    const ino_t inode = inode_of(after);
    if (inode_of(before) != inode) return std::nullopt;
    std::set<std::string> found;
    if (const auto noted = names_.find(path); noted != names_.end()) found = noted->second;
    if (std::binary_search(changed_.begin(), changed_.end(), inode)) {
      const std::vector<entry> was = entries_of(before), is = entries_of(after);
      std::vector<entry> differ;
      std::set_symmetric_difference(was.begin(), was.end(), is.begin(), is.end(), std::back_inserter(differ));
      for (entry& e : differ) found.insert(std::move(e.first));
    }
    return std::vector<std::string>(found.begin(), found.end());
  }

 private:
  /// With all the directories above it.
  void note(std::string directory, std::string name) {
    while (names_[directory].insert(std::move(name)).second && !directory.empty()) {
      const auto slash = directory.rfind('/');
      name = slash == std::string::npos ? directory : directory.substr(slash + 1);
      directory.resize(slash == std::string::npos ? 0 : slash);
    }
  }

  std::vector<std::uint64_t> changed_;
  std::map<std::string, std::set<std::string>> names_;  ///< by directory
};

}  // namespace

btrfs::btrfs(const driver_config& config)
    : store_(config.directory, let_go), turns_on_quotas_(option_or(config.options, quotas_key, "false") == "true") {
  detail::check_options(name(), config.options, options());
}

std::vector<option_schema> btrfs::options() {
  return {{std::string(quotas_key), option_schema::type::boolean, "false",
           "turn on the quotas of the file system when a layer is first limited in size"}};
}

bool btrfs::can(storage_ability a) const noexcept {
  if (a != storage_ability::limits_size || turns_on_quotas_) return true;
  try {
    return quotas_of(open_readable(detail::nearest_existing(store_.directory())).get()) != btrfs_quotas::off;
  } catch (const error&) {
    return false;
  }
}

probe_report btrfs::probe() const {
  probe_report report;
  try {
    const std::string at = detail::nearest_existing(store_.directory());
    const std::string backing = detail::file_system_of(at);
    report.facts = {{"kernel", detail::kernel_release()}, {"backing file system", backing}};
    if (::geteuid() != 0) {
      report.reason = "subvolumes can only be deleted by root";
      report.remedy = "run kit as root";
      return report;
    }
    if (backing != "btrfs") {
      report.reason = fmt::format("{} is on {}, not on btrfs", at, backing);
      report.remedy = fmt::format("mount a btrfs there, or choose a root on one (kit --root)");
      return report;
    }
    const detail::temporary_directory scratch(at);
    const unique_fd directory = open_readable(scratch.path());
    subvolume::create(directory.get(), root_name);
    delete_subvolume(directory.get(), root_name);
    detail::tell_backing(scratch.path(), report);
    const btrfs_quotas quotas = quotas_of(directory.get());
    report.facts.push_back({"quotas", quotas == btrfs_quotas::simple ? "simple"
                                      : quotas == btrfs_quotas::groups
                                          ? "groups"
                                          : "off: layers cannot be limited in size until "
                                            "btrfs quota enable, or the option quotas=true"});
    report.usable = true;
  } catch (const error& e) {
    report.usable = false;
    report.reason = e.what();
    report.remedy = "mount the btrfs for writing, or choose a root elsewhere; Linux 5.7 or newer";
  }
  return report;
}

void btrfs::create(const layer& l, std::span<const option> wanted) {
  detail::check_options(name(), wanted, {});
  store_.create(l, {}, [&](const std::string& directory) {
    this_call().check();
    const unique_fd into = open_readable(directory);
    if (l.parents.empty())
      subvolume::create(into.get(), root_name);
    else
      snapshot_whole(open_subvolume(store_.path(l.parents.front())), into.get(), root_name);
  });
}

std::vector<mount> btrfs::mounts(const layer& l, access how) {
  return {mount::bind(root_of(store_.require(l, how)), how != access::read_write)};
}

void btrfs::freeze(const layer_id& id) {
  store_.freeze(id);
  // Not before the mark: without it the layer is writable. With it nobody writes, so this only keeps mistakes away.
  open_subvolume(store_.path(id)).set_read_only();
}

disk_usage btrfs::usage(const layer& l) {
  const subvolume layer = open_subvolume(store_.require(l.id));
  if (!store_.frozen(l.id)) sync(layer);
  const subvolume::own_size size = layer.own();
  return {size.bytes, size.inodes};
}

void btrfs::changes(const layer& l, change_sink out) {
  const unique_fd after = make_detached(mounts(l, access::live));
  auto report = [out](difference d, const std::string& path) { out({static_cast<change::kind>(d), path}); };
  if (l.parents.empty()) return compare_trees(-1, after.get(), report);
  const unique_fd before = make_detached(mounts({l.parents.front(), l.parents.subspan(1)}, access::read_only));
  const subvolume layer = open_subvolume(store_.path(l.id));
  const subvolume parent = open_subvolume(store_.path(l.parents.front()));
  if (!store_.frozen(l.id)) sync(layer);
  if (!layer.inner_subvolumes().empty() || !parent.inner_subvolumes().empty())
    return compare_trees(before.get(), after.get(), report);
  const changed_places where(layer);
  compare_trees(
      before.get(), after.get(), [&](const std::string& path, int was, int is) { return where.names(path, was, is); },
      report);
}

void btrfs::limit(const layer_id& id, std::uint64_t bytes) {
  const subvolume layer = open_subvolume(store_.require(id));
  if (store_.frozen(id)) fail(errc::invalid, "limit layer {}: it is frozen", id.brief());
  if (turns_on_quotas_ && bytes != 0) turn_on_quotas(layer.get());
  layer.limit(bytes);
}

}  // namespace kit::drivers
