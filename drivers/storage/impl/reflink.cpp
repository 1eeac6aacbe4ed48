// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/reflink.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <set>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"

namespace kit::drivers {

probe_report reflink::probe() const {
  probe_report report = probe_directory();
  if (!report.usable) return report;
  try {
    const std::string at = detail::nearest_existing(store().directory());
    const detail::temporary_directory scratch(at);
    const unique_fd from = open_file(scratch.path() + "/a", O_RDWR | O_CREAT, 0600);
    const unique_fd to = open_file(scratch.path() + "/b", O_RDWR | O_CREAT, 0600);
    write_all(from.get(), "kit", scratch.path());
    if (::ioctl(to.get(), FICLONE, from.get()) == 0) return report;
    report.reason =
        fmt::format("{} is on {}, which cannot clone a file: {}", at, detail::file_system_of(at), errno_text(errno));
    report.remedy = "choose a root on xfs (made with -m reflink=1) or btrfs (kit --root), or use vfs";
  } catch (const error& e) {
    report.reason = e.what();
    report.remedy = "choose a root on a writable xfs or btrfs";
  }
  report.usable = false;
  return report;
}

disk_usage reflink::usage(const layer& l) {
  const unique_fd tree = open_directory(tree_of(l.id));
  tree_size size = measure_tree(tree.get());
  if (!l.parents.empty()) size.bytes -= shared_bytes(tree.get(), open_directory(tree_of(l.parents.front())).get());
  return {size.bytes, size.inodes};
}

}  // namespace kit::drivers
