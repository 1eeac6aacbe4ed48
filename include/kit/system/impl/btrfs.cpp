// SPDX-License-Identifier: Apache-2.0
#include "kit/system/btrfs.hpp"

#include <endian.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "kit/detail/function_ref.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace {

constexpr std::uint64_t highest = ~std::uint64_t{0};
constexpr std::uint64_t this_tree = 0;                           // of the descriptor's own subvolume
constexpr std::uint64_t root_inode = BTRFS_FIRST_FREE_OBJECTID;  // of each subvolume
// Of kernels younger than the headers this may be built with:
constexpr std::uint64_t enable_simple_quotas = 4;                    // BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA
constexpr std::uint64_t status_flag_simple = std::uint64_t{1} << 3;  // BTRFS_QGROUP_STATUS_FLAG_SIMPLE_MODE

/// One item of a tree; its bytes live as long as the call that shows it.
struct item {
  std::uint64_t object = 0;
  std::uint32_t type = 0;
  std::uint64_t offset = 0;
  std::string_view bytes;

  /// The structure that stands `at` bytes into the item, or as much of it as there is.
  template <class T>
  T as(std::size_t at = 0) const {
    T value{};
    const std::string_view from = bytes.substr(std::min(at, bytes.size()), sizeof value);
    std::memcpy(&value, from.data(), from.size());
    return value;
  }
};

/// What to look for: a range of keys, which are ordered by object, then type, then offset.
struct key_range {
  std::uint64_t tree = this_tree;
  std::uint64_t first_object = 0, last_object = highest;
  std::uint32_t first_type = 0, last_type = 255;
  /// Whole blocks of the tree are passed over that were not written since.
  std::uint64_t since_transaction = 0;
};

/// Shows all items of a range; none if there is no such tree.
void search(int fd, const key_range& range, function_ref<void(const item&)> show) {
  // What a block holds, as a rule. The kernel touches all of it, however little it finds.
  std::size_t room = std::size_t{16} << 10;
  std::vector<std::uint64_t> memory;
  btrfs_ioctl_search_key key{};
  key.tree_id = range.tree;
  key.min_objectid = range.first_object;
  key.max_objectid = range.last_object;
  key.min_type = range.first_type;
  key.max_type = range.last_type;
  key.max_offset = highest;
  key.min_transid = range.since_transaction;
  key.max_transid = highest;
  while (true) {
    memory.resize((sizeof(btrfs_ioctl_search_args_v2) + room) / sizeof(std::uint64_t));
    auto* const args = reinterpret_cast<btrfs_ioctl_search_args_v2*>(memory.data());
    args->key = key;
    args->key.nr_items = ~0u;
    args->buf_size = room;
    if (::ioctl(fd, BTRFS_IOC_TREE_SEARCH_V2, args) != 0) {
      if (errno == ENOENT) return;
      if (errno == EOVERFLOW && args->buf_size > room) {  // the next item alone is larger
        room = args->buf_size;
        continue;
      }
      fail_errno(errno, "search a tree of btrfs");
    }
    if (args->key.nr_items == 0) return;
    const char* at = reinterpret_cast<const char*>(args->buf);
    btrfs_ioctl_search_header header{};
    for (std::uint32_t i = 0; i < args->key.nr_items; ++i) {
      std::memcpy(&header, at, sizeof header);
      at += sizeof header;
      show({header.objectid, header.type, header.offset, {at, header.len}});
      at += header.len;
    }
    // On after the last key.
    key.min_objectid = header.objectid;
    key.min_type = header.type;
    key.min_offset = header.offset + 1;
    if (key.min_offset == 0 && ++key.min_type > 255) {
      key.min_type = 0;
      if (++key.min_objectid == 0) return;
    }
  }
}

/// The subvolume that holds `fd`.
std::uint64_t tree_of(int fd) {
  btrfs_ioctl_ino_lookup_args args{};
  args.objectid = root_inode;
  if (::ioctl(fd, BTRFS_IOC_INO_LOOKUP, &args) != 0) fail_errno(errno, "ask for the id of a subvolume");
  return args.treeid;
}

/// The transaction in which a subvolume was made as a snapshot: what it shares with its origin is no younger, what was
/// written since is. 0 if it is no snapshot.
std::uint64_t snapshot_transaction(int fd, std::uint64_t id) {
  std::uint64_t made = 0;
  search(fd, {BTRFS_ROOT_TREE_OBJECTID, id, id, BTRFS_ROOT_ITEM_KEY, BTRFS_ROOT_ITEM_KEY},
         [&](const item& i) { made = i.offset; });
  return made;
}

struct reference {
  std::uint64_t id = 0, directory = 0;
  std::string name;
};

/// The subvolumes whose directory entry stands in the subvolume `id`.
std::vector<reference> inside(int fd, std::uint64_t id) {
  std::vector<reference> list;
  search(fd, {BTRFS_ROOT_TREE_OBJECTID, id, id, BTRFS_ROOT_REF_KEY, BTRFS_ROOT_REF_KEY}, [&](const item& i) {
    const auto ref = i.as<btrfs_root_ref>();
    list.push_back({i.offset, le64toh(ref.dirid), std::string(i.bytes.substr(sizeof ref, le16toh(ref.name_len)))});
  });
  return list;
}

void set_read_only_flag(int root, bool wanted) {
  std::uint64_t flags = 0;
  if (::ioctl(root, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) != 0) fail_errno(errno, "ask for the flags of a subvolume");
  if (((flags & BTRFS_SUBVOL_RDONLY) != 0) == wanted) return;
  flags ^= BTRFS_SUBVOL_RDONLY;
  if (::ioctl(root, BTRFS_IOC_SUBVOL_SETFLAGS, &flags) != 0)
    fail_errno(errno, "make a subvolume {}", wanted ? "read only" : "writable");
}

/// With those inside it.
void destroy(const subvolume& doomed) {
  const auto inside = doomed.inner_subvolumes();
  // An entry of a read-only subvolume cannot be removed, not even one that is a subvolume.
  if (!inside.empty()) set_read_only_flag(doomed.get(), false);
  for (const subvolume::inner& inner : inside) {
    const subvolume below(open_in_root(doomed.get(), inner.path, O_RDONLY | O_DIRECTORY));
    if (below.id() == inner.id) destroy(below);
  }
  btrfs_ioctl_vol_args_v2 args{};
  args.flags = BTRFS_SUBVOL_SPEC_BY_ID;
  args.subvolid = doomed.id();
  if (::ioctl(doomed.get(), BTRFS_IOC_SNAP_DESTROY_V2, &args) != 0 && errno != ENOENT)
    fail_errno(errno, "delete subvolume {}", doomed.id());
}

void set_name(btrfs_ioctl_vol_args_v2& args, const std::string& name) {
  if (name.size() >= sizeof args.name) fail(errc::invalid, "a subvolume's name is too long: {}", name);
  std::memcpy(args.name, name.c_str(), name.size() + 1);
}

}  // namespace

bool is_on_btrfs(int fd) {
  struct statfs st {};
  if (::fstatfs(fd, &st) != 0) fail_errno(errno, "statfs");
  return static_cast<unsigned long>(st.f_type) == BTRFS_SUPER_MAGIC;
}

void subvolume::create(int directory, const std::string& name) {
  btrfs_ioctl_vol_args_v2 args{};
  set_name(args, name);
  if (::ioctl(directory, BTRFS_IOC_SUBVOL_CREATE_V2, &args) != 0) fail_errno(errno, "make subvolume {}", name);
  if (::fchmodat(directory, name.c_str(), 0755, 0) != 0) fail_errno(errno, "set the mode of subvolume {}", name);
}

subvolume::subvolume(unique_fd root) : root_(std::move(root)), id_(tree_of(root_.get())) {}

void subvolume::snapshot(int directory, const std::string& name) const {
  btrfs_ioctl_vol_args_v2 args{};
  args.fd = root_.get();
  set_name(args, name);
  if (::ioctl(directory, BTRFS_IOC_SNAP_CREATE_V2, &args) != 0) fail_errno(errno, "snapshot subvolume {}", id_);
}

void subvolume::set_read_only() const { set_read_only_flag(root_.get(), true); }

std::vector<subvolume::inner> subvolume::inner_subvolumes() const {
  std::vector<inner> list;
  for (reference& r : inside(root_.get(), id_))
    if (auto at = directory_path(r.directory)) list.push_back({r.id, *at + (at->empty() ? "" : "/") + r.name});
  return list;
}

subvolume::own_size subvolume::own_of(std::uint64_t id) const {
  own_size size;
  const std::uint64_t made = snapshot_transaction(root_.get(), id);
  std::set<std::uint64_t> extents;  // a file may show one in pieces, and several files may share it
  search(root_.get(), {id, 0, highest, 0, 255, made + 1}, [&](const item& i) {
    if (i.type == BTRFS_INODE_ITEM_KEY && i.object >= root_inode) {
      size.inodes += le64toh(i.as<btrfs_inode_item>().transid) > made ? 1 : 0;
    } else if (i.type == BTRFS_EXTENT_DATA_KEY) {
      const auto extent = i.as<btrfs_file_extent_item>();
      if (i.bytes.size() <= offsetof(btrfs_file_extent_item, disk_bytenr) || le64toh(extent.generation) <= made) return;
      if (extent.type == BTRFS_FILE_EXTENT_INLINE)
        size.bytes += i.bytes.size() - offsetof(btrfs_file_extent_item, disk_bytenr);
      else if (extent.disk_bytenr != 0 && extents.insert(extent.disk_bytenr).second)
        size.bytes += le64toh(extent.disk_num_bytes);
    }
  });
  for (const reference& r : inside(root_.get(), id)) {
    const own_size below = own_of(r.id);
    size.bytes += below.bytes;
    size.inodes += below.inodes;
  }
  return size;
}

std::vector<std::uint64_t> subvolume::changed() const {
  std::vector<std::uint64_t> list;
  const std::uint64_t made = snapshot_transaction(root_.get(), id_);
  search(root_.get(), {this_tree, root_inode, highest, 0, 255, made + 1}, [&](const item& i) {
    if (i.type == BTRFS_INODE_ITEM_KEY && le64toh(i.as<btrfs_inode_item>().transid) > made) list.push_back(i.object);
  });
  return list;
}

std::vector<subvolume::link> subvolume::links(std::uint64_t inode) const {
  std::vector<link> list;
  if (inode == root_inode) return list;  // ".." to itself is all it has
  search(root_.get(), {this_tree, inode, inode, BTRFS_INODE_REF_KEY, BTRFS_INODE_EXTREF_KEY}, [&](const item& i) {
    // Several names in one directory stand in one item.
    for (std::size_t at = 0; at < i.bytes.size();) {
      std::size_t size = 0;
      link l;
      if (i.type == BTRFS_INODE_REF_KEY) {
        const auto ref = i.as<btrfs_inode_ref>(at);
        at += sizeof ref;
        size = le16toh(ref.name_len);
        l.directory = i.offset;
      } else {
        at += offsetof(btrfs_inode_extref, name);
        const char* head = i.bytes.data() + at - offsetof(btrfs_inode_extref, name);
        std::memcpy(&l.directory, head + offsetof(btrfs_inode_extref, parent_objectid), sizeof l.directory);
        std::uint16_t name_length = 0;
        std::memcpy(&name_length, head + offsetof(btrfs_inode_extref, name_len), sizeof name_length);
        l.directory = le64toh(l.directory);
        size = le16toh(name_length);
      }
      l.name = i.bytes.substr(at, size);
      at += size;
      list.push_back(std::move(l));
    }
  });
  return list;
}

std::optional<std::string> subvolume::directory_path(std::uint64_t inode) const {
  std::string path;
  while (inode != root_inode) {
    const std::vector<link> up = links(inode);
    if (up.empty()) return std::nullopt;
    path = path.empty() ? up.front().name : up.front().name + "/" + path;
    inode = up.front().directory;
  }
  return path;
}

void delete_subvolume(int directory, const std::string& name) {
  const int fd = ::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return;
  if (fd < 0) fail_errno(errno, "open subvolume {}", name);
  unique_fd root(fd);
  struct stat st {};
  if (::fstat(fd, &st) != 0) fail_errno(errno, "stat subvolume {}", name);
  if (st.st_ino != root_inode) fail(errc::invalid, "delete subvolume {}: it is a plain directory", name);
  destroy(subvolume(std::move(root)));
}

// ---- quotas -------------------------------------------------------------------------------------------------

btrfs_quotas quotas_of(int fd) {
  btrfs_quotas found = btrfs_quotas::off;
  search(fd, {BTRFS_QUOTA_TREE_OBJECTID, 0, 0, BTRFS_QGROUP_STATUS_KEY, BTRFS_QGROUP_STATUS_KEY}, [&](const item& i) {
    const std::uint64_t flags = le64toh(i.as<btrfs_qgroup_status_item>().flags);
    if ((flags & BTRFS_QGROUP_STATUS_FLAG_ON) != 0)
      found = (flags & status_flag_simple) != 0 ? btrfs_quotas::simple : btrfs_quotas::groups;
  });
  return found;
}

void turn_on_quotas(int fd) {
  if (quotas_of(fd) != btrfs_quotas::off) return;
  for (const std::uint64_t command : {enable_simple_quotas, std::uint64_t{BTRFS_QUOTA_CTL_ENABLE}}) {
    btrfs_ioctl_quota_ctl_args args{};
    args.cmd = command;
    if (::ioctl(fd, BTRFS_IOC_QUOTA_CTL, &args) == 0) return;
    if (errno != EINVAL && errno != EOPNOTSUPP) break;
  }
  fail_errno(errno, "turn on the quotas of a btrfs");
}

void subvolume::limit(std::uint64_t bytes) const {
  const btrfs_quotas kind = quotas_of(root_.get());
  if (kind == btrfs_quotas::off)
    fail(errc::unsupported, "limit subvolume {}: quotas are off; btrfs quota enable turns them on", id_);
  // Simple quotas hold a subvolume to account for the extents it made; groups tell what it shares with no other.
  const bool simple = kind == btrfs_quotas::simple;
  btrfs_ioctl_qgroup_limit_args args{};
  args.qgroupid = id_;
  const std::uint64_t most = bytes == 0 ? highest : bytes;  // the highest lifts it
  args.lim.flags = simple ? BTRFS_QGROUP_LIMIT_MAX_RFER : BTRFS_QGROUP_LIMIT_MAX_EXCL;
  (simple ? args.lim.max_rfer : args.lim.max_excl) = most;
  if (::ioctl(root_.get(), BTRFS_IOC_QGROUP_LIMIT, &args) != 0) fail_errno(errno, "limit subvolume {}", id_);
}

}  // namespace kit
