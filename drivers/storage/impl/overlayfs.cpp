// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/overlayfs.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdlib>

#include "drivers/storage/detail/probing.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/project_quota.hpp"
#include "kit/system/tree.hpp"

namespace kit::drivers {
namespace {

using detail::temporary_directory;

constexpr std::size_t most_parents = 499;  // OVL_MAX_STACK is 500, and the layer itself is one of them when read

constexpr std::string_view volatile_key = "volatile";

std::string diff_of(const std::string& layer) { return layer + "/diff"; }
std::string work_of(const std::string& layer) { return layer + "/work"; }

void refuse_long_chain(const layer& l) {
  if (l.parents.size() > most_parents)
    fail(errc::unsupported, "layer {}: {} parents, and overlayfs merges {}; flatten the image, or use another driver",
         l.id.brief(), l.parents.size(), most_parents);
}

/// One overlay over `lowers`, nearest first; writable if `layer` is not empty.
mount overlay(std::vector<std::string> lowers, const std::string& layer) {
  mount m;
  m.fstype = m.source = "overlay";
  if (layer.empty()) m.attributes = MOUNT_ATTR_RDONLY;
  if (overlay_appends_lowers())
    for (std::string& lower : lowers) m.options.push_back({"lowerdir+", mount_option::path{std::move(lower)}});
  else
    m.options.push_back({"lowerdir", mount_option::paths{std::move(lowers)}});
  if (!layer.empty()) {
    m.options.push_back({"upperdir", mount_option::path{diff_of(layer)}});
    m.options.push_back({"workdir", mount_option::path{work_of(layer)}});
  }
  // Said here because distributions and modprobe.d change the defaults:
  // With an index the kernel refuses a live view beside a writer (the upper directory is "in use").
  m.options.push_back({"index", std::string("off")});
  // A layer must hold its files whole: it is exported, and becomes a parent on its own.
  m.options.push_back({"metacopy", std::string("off")});
  // changes() relies on names standing where they are; and an image must not lead the kernel to other
  // directories by an xattr, which "off" may still follow and "nofollow" does not.
  m.options.push_back({"redirect_dir", std::string("nofollow")});
  // All layers are on one file system, so inode numbers are unique without borrowing bits of them.
  m.options.push_back({"xino", std::string("off")});
  return m;
}

/// The kernel refuses to mount a volatile layer twice, because it cannot know whether there was a power cut between.
/// Losing its contents then is what the option says.
void forget_last_mount(const std::string& layer) { remove_tree(work_of(layer) + "/work/incompat"); }

// ---- size -------------------------------------------------------------------------------------------------

// From here on: below are the numbers that people give by hand, and that others count up from.
constexpr std::uint32_t first_project = 1u << 30;

/// The projects that could be a layer's, in the order in which they are tried.
std::uint32_t project_for(const layer_id& id, std::uint32_t attempt) {
  const auto number = static_cast<std::uint32_t>(std::stoul(std::string(id.text().substr(0, 8)), nullptr, 16));
  return first_project | ((number + attempt) & (first_project - 1));
}

/// Nothing that a project's number is given to later must find a limit.
bool lift_limit(const std::string& layer) {
  const unique_fd diff(::open(diff_of(layer).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!diff || !keeps_project_quotas(diff.get())) return true;
  if (const std::uint32_t project = project_of(diff.get()); project >= first_project)
    limit_project(diff.get(), project, 0);
  return true;
}

/// Tries on `at` all that a layer needs: fills the facts, and the reason if something is missing.
void try_on(const std::string& at, probe_report& report) {
  const temporary_directory scratch(at);
  const std::string low = scratch.path() + "/parent", layer = scratch.path() + "/layer";
  make_directory(low, 0755);
  make_directory(layer, 0700);
  make_directory(diff_of(layer), 0755);
  make_directory(work_of(layer), 0700);
  open_file(low + "/gone", O_WRONLY | O_CREAT, 0600).reset();
  detail::put_samples(low);

  detail::tell_backing(scratch.path(), report);
  const bool types = option_or(report.facts, "d_type", "no") == "yes";
  const bool xattrs = option_or(report.facts, "trusted xattrs", "no") == "yes";
  if (!types || !xattrs) {
    report.reason = fmt::format("the file system of {} has no {}", at, types ? "extended attributes" : "d_type");
    report.remedy = types ? "put the directory on ext4, xfs, btrfs or tmpfs" : "make the xfs again with ftype=1";
    return;
  }
  const mount m = overlay({low}, layer);
  const unique_fd tree = make_detached({&m, 1});
  if (::unlinkat(tree.get(), "gone", 0) != 0) {
    report.reason = fmt::format("an overlay on {} cannot delete a file: {}", at, errno_text(errno));
    report.remedy = "put the directory on ext4, xfs, btrfs or tmpfs";
    return;
  }
  struct stat st {};
  if (::lstat((diff_of(layer) + "/gone").c_str(), &st) != 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(0, 0)) {
    report.reason = fmt::format("an overlay on {} leaves no whiteout for a deleted file", at);
    report.remedy = "put the directory on ext4, xfs, btrfs or tmpfs";
    return;
  }
  detail::tell_differences(tree.get(), report);
  report.usable = true;
}

}  // namespace

overlayfs::overlayfs(const driver_config& config)
    : store_(config.directory, lift_limit),
      volatile_layers_(option_or(config.options, volatile_key, "false") == "true") {
  detail::check_options(name(), config.options, options());
}

std::vector<option_schema> overlayfs::options() {
  return {{std::string(volatile_key), option_schema::type::boolean, "false",
           "never sync a writable layer: faster, and its contents are lost in a power cut"}};
}

bool overlayfs::can(storage_ability a) const noexcept {
  if (a != storage_ability::limits_size) return true;
  try {
    return keeps_project_quotas(open_directory(detail::nearest_existing(store_.directory())).get());
  } catch (const error&) {
    return false;
  }
}

probe_report overlayfs::probe() const {
  probe_report report;
  try {
    const std::string at = detail::nearest_existing(store_.directory());
    const std::string backing = detail::file_system_of(at);
    const unique_fd context(::fsopen("overlay", FSOPEN_CLOEXEC));
    const int refused = errno;
    report.facts = {{"kernel", detail::kernel_release()},
                    {"backing file system", backing},
                    {"most layers", std::to_string(most_parents + 1)},
                    {"layers are given", overlay_appends_lowers() ? "one by one" : "in one list, by a helper process"},
                    {"project quotas", can(storage_ability::limits_size)
                                           ? "on"
                                           : "off: layers cannot be limited in size; mount ext4 or xfs with prjquota"}};
    if (!context && refused == EPERM) {
      report.reason = "mounting needs CAP_SYS_ADMIN";
      report.remedy = "run kit as root";
    } else if (!context) {
      report.reason = fmt::format("this kernel has no overlay file system: {}", errno_text(refused));
      report.remedy = "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS";
    } else if (backing == "overlay") {
      report.reason = fmt::format("{} is itself on an overlay, which cannot hold the upper directory of another", at);
      report.remedy = "put the directory on a volume (ext4, xfs, btrfs or tmpfs), or use vfs";
    } else {
      try_on(at, report);
    }
  } catch (const error& e) {
    report.usable = false;
    report.reason = e.what();
    report.remedy = detail::remedy_of(e, "put the directory on a writable ext4, xfs, btrfs or tmpfs");
  }
  return report;
}

void overlayfs::create(const layer& l, std::span<const option> wanted) {
  detail::check_options(name(), wanted, options());
  refuse_long_chain(l);
  const bool unsynced = option_or(wanted, volatile_key, volatile_layers_ ? "true" : "false") == "true";
  store_.create(l, std::string(unsynced ? volatile_key : ""), [&](const std::string& directory) {
    make_directory(work_of(directory), 0700);
    make_directory(diff_of(directory), 0755);
    // The kernel takes a merged root's mode, owner and xattrs from the upper directory alone.
    if (!l.parents.empty())
      copy_status(open_directory(diff_of(store_.path(l.parents.front()))).get(),
                  open_directory(diff_of(directory)).get());
  });
}

std::vector<mount> overlayfs::mounts(const layer& l, access how) {
  const std::string layer = store_.require(l, how);
  refuse_long_chain(l);
  if (l.parents.empty()) return {mount::bind(diff_of(layer), how != access::read_write)};
  std::vector<std::string> lowers;
  lowers.reserve(l.parents.size() + 1);
  if (how != access::read_write) lowers.push_back(diff_of(layer));
  for (const layer_id& p : l.parents) lowers.push_back(diff_of(store_.path(p)));
  if (how != access::read_write) return {overlay(std::move(lowers), {})};
  mount m = overlay(std::move(lowers), layer);
  if (store_.options_of(l.id) == volatile_key) {
    m.options.push_back({std::string(volatile_key), mount_option::flag{}});
    forget_last_mount(layer);
  }
  return {std::move(m)};
}

void overlayfs::freeze(const layer_id& id) {
  store_.freeze(id);
  // Of no use any more. Not before the mark: without it the layer is writable, and needs it.
  remove_tree(work_of(store_.path(id)));
}

disk_usage overlayfs::usage(const layer& l) {
  const tree_size size = measure_tree(open_directory(diff_of(store_.require(l.id))).get());
  return {size.bytes, size.inodes};
}

void overlayfs::limit(const layer_id& id, std::uint64_t bytes) {
  const std::string layer = store_.require(id);
  if (store_.frozen(id)) fail(errc::invalid, "limit layer {}: it is frozen", id.brief());
  const unique_fd diff = open_directory(diff_of(layer)), work = open_directory(work_of(layer));
  if (!keeps_project_quotas(diff.get()))
    fail(errc::unsupported, "limit layer {}: {} keeps no project quotas; mount ext4 or xfs with prjquota", id.brief(),
         store_.directory());
  std::uint32_t project = project_of(diff.get());
  if (project == 0) {
    if (bytes == 0) return;
    std::uint32_t attempt = 0;
    while (is_project_in_use(diff.get(), project = project_for(id, attempt))) ++attempt;
  }
  limit_project(diff.get(), project, bytes);
  // Both: nothing can be renamed from one project to another. The one that tells the project comes last.
  join_project(work.get(), project);
  join_project(diff.get(), project);
}

void overlayfs::changes(const layer& l, change_sink out) {
  const unique_fd after = make_detached(mounts(l, access::live));
  auto report = [out](difference d, const std::string& path) { out({static_cast<change::kind>(d), path}); };
  if (l.parents.empty()) return compare_trees(-1, after.get(), report);
  const unique_fd before = make_detached(mounts({l.parents.front(), l.parents.subspan(1)}, access::read_only));
  compare_union(before.get(), after.get(), open_directory(diff_of(store_.path(l.id))).get(), whiteouts::overlay,
                report);
}

void overlayfs::rebase(const layer& l) {
  refuse_long_chain(l);
  store_.rebase(l);
}

}  // namespace kit::drivers
