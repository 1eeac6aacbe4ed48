// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/aufs.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <charconv>
#include <memory>
#include <set>

#include "drivers/storage/detail/probing.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"

namespace kit::drivers {
namespace {

constexpr std::size_t most_branches = 127;  // CONFIG_AUFS_BRANCH_MAX_127, the default
// What fsconfig(2) takes in one value. Fewer branches fit than the 40 that are safe: about 56 overflow the kernel's
// page of parsed options, and 100 have crashed it.
constexpr std::size_t longest_value = 255;

constexpr std::string_view own_books[] = {".wh..wh.aufs", ".wh..wh.orph", ".wh..wh.plnk"};

std::string diff_of(const std::string& layer) { return layer + "/diff"; }
std::string links_of(const std::string& layer) { return diff_of(layer) + "/.wh..wh.plnk"; }

void refuse_long_chain(std::size_t branches) {
  if (branches > most_branches)
    fail(errc::unsupported, "{} branches, and aufs merges {}; flatten the image, or use another driver", branches,
         most_branches);
}

void refuse_odd_path(const std::string& path, std::size_t longest) {
  if (path.find_first_of(":,=") != std::string::npos)
    fail(errc::invalid, "aufs: {} has one of : , = in its name, which its mount options cannot quote; put it elsewhere",
         path);
  if (path.size() > longest)
    fail(errc::invalid, "aufs: {} is longer than the {} bytes that fit a mount option; put it elsewhere", path,
         longest);
}

/// aufs makes the file, which must not exist, and deletes the name at once; so each mount needs a name of its own.
std::string fresh_xino(const std::string& directory) {
  const auto bits = random_bits();
  return directory + "/xino-" + hex(bits.data(), 8);
}

/// Touches every name of a file in `inodes`, so that aufs brings it up as a link. By its access time, as it is: a chown
/// that changes nothing would copy up as well, and take set-user-ID and capabilities with it.
void bring_up(int directory, dev_t device, const std::set<ino_t>& inodes) {
  for (const std::string& name : names_in(fmt::format("/proc/self/fd/{}", directory))) {
    this_call().check();
    struct stat st {};
    if (::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) fail_errno(errno, "stat {}", name);
    if (st.st_dev != device) continue;
    if (S_ISDIR(st.st_mode)) {
      bring_up(open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).get(), device, inodes);
    } else if (inodes.count(st.st_ino) != 0) {
      const timespec times[2] = {st.st_atim, {0, UTIME_OMIT}};
      if (::utimensat(directory, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
        fail_errno(errno, "link {} into its layer", name);
    }
  }
}

/// Tries on `at` all that a layer needs: fills the reason if something is missing.
void try_on(const std::string& at, const std::string& run_dir, probe_report& report) {
  const detail::temporary_directory scratch(at), books(run_dir);
  const std::vector<std::string> branches{scratch.path() + "/layer", scratch.path() + "/parent"};
  for (const std::string& b : branches) make_directory(b, 0755);
  open_file(branches.back() + "/gone", O_WRONLY | O_CREAT, 0600).reset();
  detail::put_samples(branches.back());
  detail::tell_backing(scratch.path(), report);
  const unique_fd tree = make_detached(detail::aufs_mounts(branches, true, fresh_xino(books.path())));
  struct stat st {};
  if (::unlinkat(tree.get(), "gone", 0) == 0 && ::lstat((branches.front() + "/.wh.gone").c_str(), &st) == 0) {
    detail::tell_differences(tree.get(), report);
    report.facts.push_back({"differs", "no file can have a name that begins with .wh."});
    report.usable = true;
    return;
  }
  report.reason = fmt::format("aufs on {} cannot delete a file of a parent", at);
  report.remedy = "put the directory on ext4 or xfs";
}

}  // namespace

std::vector<mount> detail::aufs_mounts(std::span<const std::string> branches, bool writable, const std::string& xino) {
  constexpr std::string_view first = "=rw", other = "=ro+wh";
  refuse_long_chain(branches.size());
  for (const std::string& b : branches) refuse_odd_path(b, longest_value - other.size());
  refuse_odd_path(xino, longest_value);

  mount m;
  m.fstype = m.source = "aufs";
  if (!writable) m.attributes = MOUNT_ATTR_RDONLY;
  std::vector<mount> list;
  std::string together;
  for (std::size_t i = 0; i < branches.size(); ++i) {
    std::string branch = branches[i];
    branch += writable && i == 0 ? first : other;
    if (list.empty() && together.size() + 1 + branch.size() <= longest_value) {
      together += (i == 0 ? "" : ":") + branch;
      continue;
    }
    if (list.empty()) list.emplace_back();  // for m, which is first
    mount more;
    more.fstype = "aufs";
    more.what = mount::action::reconfigure;
    more.options.push_back({"append", std::move(branch)});
    list.push_back(std::move(more));
  }
  if (list.empty()) list.emplace_back();
  m.options.push_back({"br", std::move(together)});
  m.options.push_back({"xino", xino});
  // Without it a chmod of a parent's directory is not believed: aufs asks the directory of every branch.
  m.options.push_back({"dirperm1", mount_option::flag{}});
  list.front() = std::move(m);
  return list;
}

aufs::aufs(const driver_config& config)
    : store_(config.directory), run_dir_(config.run_dir.empty() ? config.directory : config.run_dir) {
  detail::check_options(name(), config.options, options());
}

probe_report aufs::probe() const {
  probe_report report;
  try {
    const std::string at = detail::nearest_existing(store_.directory());
    const unique_fd context(::fsopen("aufs", FSOPEN_CLOEXEC));
    const int refused = errno;
    report.facts = {{"kernel", detail::kernel_release()},
                    {"backing file system", detail::file_system_of(at)},
                    {"most branches", std::to_string(most_branches)}};
    if (!context && refused == EPERM) {
      report.reason = "mounting needs CAP_SYS_ADMIN";
      report.remedy = "run kit as root";
    } else if (!context) {
      report.reason = fmt::format("the kernel has no aufs: {}", errno_text(refused));
      report.remedy =
          "modprobe aufs; it is not in the mainline kernel: build the module by aufs-dkms where the distribution has "
          "it, or boot a kernel that carries aufs; otherwise use overlayfs";
    } else {
      try_on(at, detail::nearest_existing(run_dir_), report);
    }
  } catch (const error& e) {
    report.usable = false;
    report.reason = e.what();
    report.remedy = detail::remedy_of(e, "put the directory on a writable ext4 or xfs, with no : , = in its name");
  }
  return report;
}

void aufs::create(const layer& l, std::span<const option> wanted) {
  detail::check_options(name(), wanted, options());
  refuse_long_chain(l.parents.size() + 1);
  store_.create(l, {}, [&](const std::string& directory) {
    make_directory(diff_of(directory), 0755);
    // The kernel takes a merged root's mode, owner and xattrs from the first branch alone.
    if (!l.parents.empty())
      copy_status(open_directory(diff_of(store_.path(l.parents.front()))).get(),
                  open_directory(diff_of(directory)).get());
  });
}

std::vector<mount> aufs::mounts(const layer& l, access how) {
  std::vector<std::string> branches{diff_of(store_.require(l, how))};
  // Nothing to merge; and aufs refuses names that begin as its marks do, which a layer to be rebased has to be given.
  if (l.parents.empty()) return {mount::bind(branches.front(), how != access::read_write)};
  for (const layer_id& p : l.parents) branches.push_back(diff_of(store_.path(p)));
  make_directories(run_dir_, 0700);
  return detail::aufs_mounts(branches, how == access::read_write, fresh_xino(run_dir_));
}

disk_usage aufs::usage(const layer& l) {
  const tree_size size = measure_tree(open_directory(diff_of(store_.require(l.id))).get(), own_books);
  return {size.bytes, size.inodes};
}

void aufs::changes(const layer& l, change_sink out) {
  const unique_fd after = make_detached(mounts(l, access::live));
  auto report = [out](difference d, const std::string& path) { out({static_cast<change::kind>(d), path}); };
  if (l.parents.empty()) return compare_trees(-1, after.get(), report);
  const unique_fd before = make_detached(mounts({l.parents.front(), l.parents.subspan(1)}, access::read_only));
  compare_union(before.get(), after.get(), open_directory(diff_of(store_.path(l.id))).get(), whiteouts::aufs, report);
}

void aufs::settle(const layer_id& id, int rootfs_fd) {
  // Each entry is NUMBER.NUMBER: the inode as the view numbers it, and as the branch does.
  const std::string links = links_of(store_.require(id));
  const std::vector<std::string> entries = names_in(links);
  std::set<ino_t> inodes;
  for (const std::string& entry : entries) {
    ino_t inode = 0;
    const auto [end, bad] = std::from_chars(entry.data(), entry.data() + entry.size(), inode);
    if (bad == std::errc() && *end == '.') inodes.insert(inode);
  }
  if (inodes.empty()) return;
  struct stat root {};
  if (::fstat(rootfs_fd, &root) != 0) fail_errno(errno, "stat the root of layer {}", id.brief());
  bring_up(rootfs_fd, root.st_dev, inodes);
  for (const std::string& entry : entries)
    if (::unlink((links + "/" + entry).c_str()) != 0 && errno != ENOENT) fail_errno(errno, "remove {}", entry);
}

void aufs::rebase(const layer& l) {
  refuse_long_chain(l.parents.size() + 1);
  store_.rebase(l);
}

}  // namespace kit::drivers
