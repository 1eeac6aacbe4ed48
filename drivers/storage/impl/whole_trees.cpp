// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/detail/whole_trees.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include "drivers/storage/detail/probing.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"

namespace kit::drivers::detail {
namespace {

// The tree stands one level below the layer's directory, which is 0700: so its root can have any mode.
std::string tree_in(const std::string& layer) { return layer + "/root"; }

}  // namespace

whole_trees::whole_trees(std::string_view driver, const driver_config& config)
    : driver_(driver), store_(config.directory) {
  check_options(driver, config.options, {});
}

std::string whole_trees::tree_of(const layer_id& id) const { return tree_in(store_.require(id)); }

probe_report whole_trees::probe_directory() const {
  probe_report report;
  try {
    const std::string at = nearest_existing(store_.directory());
    report.facts = {{"kernel", kernel_release()}, {"backing file system", file_system_of(at)}};
    if (::geteuid() != 0) {
      report.reason = "owners, devices and capabilities of files can only be kept by root";
      report.remedy = "run kit as root";
    } else if (::access(at.c_str(), W_OK) != 0) {
      report.reason = fmt::format("{} cannot be written: {}", at, errno_text(errno));
      report.remedy = "choose a directory on a writable file system";
    } else {
      detail::tell_backing(detail::temporary_directory(at).path(), report);
      report.usable = true;
    }
  } catch (const error& e) {
    report.reason = e.what();
    report.remedy = detail::remedy_of(e, "choose another directory");
  }
  return report;
}

void whole_trees::create(const layer& l, std::span<const option> wanted) {
  check_options(driver_, wanted, {});
  store_.create(l, {}, [&](const std::string& directory) {
    const std::string root = tree_in(directory);
    if (::mkdir(root.c_str(), 0755) != 0) fail_errno(errno, "create layer {}: make {}", l.id.brief(), root);
    const unique_fd to = open_directory(root);
    if (l.parents.empty()) {
      if (::fchmod(to.get(), 0755) != 0) fail_errno(errno, "create layer {}: set the mode of {}", l.id.brief(), root);
    } else {
      copy_tree(open_directory(tree_of(l.parents.front())).get(), to.get());
      // Or a power cut would leave a layer that counts as whole with its parent's files empty.
      if (::syncfs(to.get()) != 0) fail_errno(errno, "create layer {}: sync {}", l.id.brief(), root);
    }
  });
}

std::vector<mount> whole_trees::mounts(const layer& l, access how) {
  return {mount::bind(tree_in(store_.require(l, how)), how != access::read_write)};
}

disk_usage whole_trees::usage(const layer& l) {
  const tree_size size = measure_tree(open_directory(tree_of(l.id)).get());
  return {size.bytes, size.inodes};
}

}  // namespace kit::drivers::detail
