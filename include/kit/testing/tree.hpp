// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kit/storage/types.hpp"
#include "kit/system/fd.hpp"

/// \file
/// Trees as a test wants them: written and read relative to a descriptor, and remembered as plain values. It shares
/// no code with kit/system/tree.hpp, because it judges that.

namespace kit::testing {

/// All that is remembered of one path.
struct tree_entry {
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  dev_t device = 0;
  std::int64_t size = 0;      ///< 0 for directories
  std::int64_t mtime_ns = 0;  ///< nanoseconds since 1970
  std::string content;        ///< of a file: its bytes, or their digest above 64 KiB; of a symlink: its target
  std::map<std::string, std::string> attributes;
  bool operator==(const tree_entry&) const = default;
};

/// A tree by relative path, in bytewise order; the root is the empty path.
using tree_snapshot = std::map<std::string, tree_entry>;

tree_snapshot read_tree(int root);
/// The first path at which they differ and how, or "". `directory_times`: whether modification times of directories
/// count.
std::string first_difference(const tree_snapshot& expected, const tree_snapshot& seen, bool directory_times = false);
/// The changes from `before` to `after`, as storage/concept.hpp defines them.
std::vector<change> changes_between(const tree_snapshot& before, const tree_snapshot& after);
/// One line, for messages: "A a, D b/c, M d".
std::string to_text(const std::vector<change>& list);

/// Below: `path` is relative to the directory `root`; each throws kit::error, naming it, when the kernel refuses.
void put_file(int root, const std::string& path, std::string_view content, mode_t mode = 0644);
void append_file(int root, const std::string& path, std::string_view content);
std::string get_file(int root, const std::string& path);
void put_directory(int root, const std::string& path, mode_t mode = 0755);
void put_symlink(int root, const std::string& path, const std::string& target);
void put_node(int root, const std::string& path, mode_t mode, dev_t device = 0);
void put_link(int root, const std::string& path, const std::string& existing);
void put_attribute(int root, const std::string& path, const char* name, std::string_view value);
/// "" when there is none.
std::string get_attribute(int root, const std::string& path, const char* name);
void set_mode(int root, const std::string& path, mode_t mode);
void set_owner(int root, const std::string& path, uid_t uid, gid_t gid);
void set_time(int root, const std::string& path, std::int64_t mtime_ns);
void move(int root, const std::string& from, const std::string& to);
/// With everything in it.
void erase(int root, const std::string& path);
struct ::stat status(int root, const std::string& path);
bool exists(int root, const std::string& path);
/// Names in a directory, sorted.
std::vector<std::string> names(int root, const std::string& path = ".");

}  // namespace kit::testing
