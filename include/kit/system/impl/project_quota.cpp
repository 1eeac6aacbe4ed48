// SPDX-License-Identifier: Apache-2.0
#include "kit/system/project_quota.hpp"

#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kit/driver.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/impl/tree_entry.hpp"

namespace kit {
namespace {

int project_call(int fd, int command, std::uint32_t project, void* value) noexcept {
  return static_cast<int>(::syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), project, value));
}

fsxattr attributes_of(int fd) {
  fsxattr attributes{};
  if (::ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0) fail_errno(errno, "ask for the project of a file");
  return attributes;
}

void join_alone(int fd, std::uint32_t project, std::uint32_t flags) {
  fsxattr attributes = attributes_of(fd);
  if (attributes.fsx_projid == project && (attributes.fsx_xflags & flags) == flags) return;
  attributes.fsx_projid = project;
  attributes.fsx_xflags |= flags;
  if (::ioctl(fd, FS_IOC_FSSETXATTR, &attributes) != 0) fail_errno(errno, "make a file part of project {}", project);
}

}  // namespace

bool keeps_project_quotas(int fd) noexcept {
  fs_quota_stat state{};
  return project_call(fd, Q_XGETQSTAT, 0, &state) == 0 && (state.qs_flags & FS_QUOTA_PDQ_ENFD) != 0;
}

std::uint32_t project_of(int directory) {
  const fsxattr attributes = attributes_of(directory);
  return (attributes.fsx_xflags & FS_XFLAG_PROJINHERIT) != 0 ? attributes.fsx_projid : 0;
}

void join_project(int directory, std::uint32_t project) {
  join_alone(directory, project, FS_XFLAG_PROJINHERIT);
  for (const std::string& name : detail::names_in(directory)) {
    this_call().check();
    struct ::stat st {};
    if (::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        !(S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)))
      continue;
    const unique_fd entry(::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (!entry && errno == ENOENT) continue;
    if (!entry) fail_errno(errno, "open {}", name);
    if (S_ISDIR(st.st_mode))
      join_project(entry.get(), project);
    else
      join_alone(entry.get(), project, 0);
  }
}

bool is_project_in_use(int fd, std::uint32_t project) {
  if_dqblk record{};
  if (project_call(fd, Q_GETQUOTA, project, &record) != 0) {
    if (errno == ENOENT || errno == ESRCH) return false;
    fail_errno(errno, "ask for the quota of project {}", project);
  }
  return record.dqb_curinodes != 0 || record.dqb_curspace != 0 || record.dqb_bhardlimit != 0 ||
         record.dqb_ihardlimit != 0;
}

void limit_project(int fd, std::uint32_t project, std::uint64_t bytes) {
  if_dqblk record{};
  record.dqb_bhardlimit = (bytes + QIF_DQBLKSIZE - 1) / QIF_DQBLKSIZE;
  record.dqb_valid = QIF_BLIMITS;
  if (project_call(fd, Q_SETQUOTA, project, &record) != 0) fail_errno(errno, "limit project {}", project);
}

}  // namespace kit
