// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/stat.h>

#include <cstddef>
#include <string>
#include <vector>

/// \file
/// The steps that walks over trees are made of; shared by impl/tree.cpp and impl/copy_tree.cpp.

namespace kit {
namespace [[gnu::visibility("hidden")]] detail {

/// A name for what an O_PATH descriptor refers to, usable where a call takes none: the last step
/// through /proc reaches the object itself, a symlink included (proc_pid_fd(5)).
std::string by_descriptor(int fd);
struct ::stat status_of(int fd);
std::string target_of(int link);
/// In no order, without "." and "..".
std::vector<std::string> names_in(int directory);
/// Where the next bytes of a file are that are no hole; `end` if there are none.
off_t next_data(int fd, off_t from, off_t end);
/// As many as there are.
std::size_t read_at(int fd, char* to, std::size_t count, off_t from);

}  // namespace gnu::visibility("hidden")]]detail
}  // namespace kit
