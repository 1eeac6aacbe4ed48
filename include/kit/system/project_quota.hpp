// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>

/// \file
/// Quotas of projects: what a directory tree may take of its file system, whoever owns the files (quotactl(2),
/// ioctl_xfs_fsgetxattr(2); Linux 5.14). A project is a number on each file, inherited from the directory.

namespace kit {

/// Whether the file system that holds `fd` keeps the limits of projects: ext4 or xfs mounted with prjquota.
bool keeps_project_quotas(int fd) noexcept;

/// The project of an open directory whose new entries inherit it; 0: of none.
std::uint32_t project_of(int directory);
/// Makes `directory` and all directories and regular files in it part of a project, and what will be made there.
void join_project(int directory, std::uint32_t project);
/// Whether the project takes space on the file system that holds `fd`, or is limited there.
bool is_project_in_use(int fd, std::uint32_t project);
/// Bytes of the file system that holds `fd`, beyond which writers get EDQUOT (ext4) or ENOSPC (xfs); 0 lifts the limit.
/// Rounded up to a KiB.
void limit_project(int fd, std::uint32_t project, std::uint64_t bytes);

}  // namespace kit
