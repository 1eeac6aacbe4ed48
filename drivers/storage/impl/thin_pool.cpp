// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/detail/thin_pool.hpp"

#include <endian.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstring>
#include <sstream>
#include <thread>

#include "kit/driver.hpp"
#include "kit/system/error.hpp"
#include "kit/system/loop.hpp"
#include "kit/system/process.hpp"

namespace kit::drivers::detail {
namespace {

constexpr std::uint64_t sector = 512;
constexpr std::uint64_t metadata_block = 4096;
constexpr std::uint64_t default_data_size = 100ull << 30;
constexpr std::uint64_t least_metadata_size = 32ull << 20;
constexpr std::uint64_t most_metadata_size = 15ull << 30;  // the kernel takes no more than 15.8 GiB
constexpr std::uint64_t ids_at_once = 128;
constexpr std::uint64_t last_id = (1u << 24) - 1;
constexpr std::chrono::seconds patience{2};

bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

void pause_for(std::chrono::milliseconds time) {
  this_call().check();
  std::this_thread::sleep_for(time);
}

/// What stands first on a pool's metadata device: struct thin_disk_superblock of drivers/md/dm-thin-metadata.c, and in
/// it two struct disk_sm_root of drivers/md/persistent-data/dm-space-map-common.h.
struct superblock {
  enum class kind { none, thin_pool, foreign } is = kind::none;
  std::uint64_t data_blocks = 0, metadata_blocks = 0;  ///< as many as the devices had
};
superblock read_superblock(int metadata, const std::string& path) {
  std::array<char, metadata_block> bytes{};
  // The pool writes past the page cache of its device, which lives on if somebody has the device open.
  ::posix_fadvise(metadata, 0, metadata_block, POSIX_FADV_DONTNEED);
  const ssize_t size = ::pread(metadata, bytes.data(), bytes.size(), 0);
  if (size < 0) fail_errno(errno, "read the first block of {}", path);
  if (std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; })) return {};
  const auto number_at = [&](std::size_t offset) {
    std::uint64_t number = 0;
    std::memcpy(&number, bytes.data() + offset, sizeof number);
    return le64toh(number);
  };
  if (number_at(32) != 27022010) return {superblock::kind::foreign, 0, 0};
  return {superblock::kind::thin_pool, number_at(64), std::max<std::uint64_t>(number_at(192), 1)};
}

/// One of the two devices of a pool.
struct foundation {
  unique_fd fd;
  dev_t number = 0;
  std::uint64_t bytes = 0;
};

foundation open_device(const std::string& path) {
  foundation f;
  f.fd = open_file(path, O_RDWR);
  struct stat st {};
  if (::fstat(f.fd.get(), &st) != 0) fail_errno(errno, "stat {}", path);
  if (!S_ISBLK(st.st_mode)) fail(errc::invalid, "{} is no block device", path);
  f.number = st.st_rdev;
  f.bytes = block_device_size(f.fd.get());
  return f;
}

std::uint64_t file_size(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) fail_errno(errno, "stat a file of a pool");
  return static_cast<std::uint64_t>(st.st_size);
}

/// `at_least` bytes long.
unique_fd open_sparse(const std::string& path, std::uint64_t at_least) {
  unique_fd fd = open_file(path, O_RDWR | O_CREAT, 0600);
  if (file_size(fd.get()) < at_least && ::ftruncate(fd.get(), static_cast<off_t>(at_least)) != 0)
    fail_errno(errno, "make {} {} bytes long", path, at_least);
  return fd;
}

mapping pool_table(dev_t metadata, dev_t data, std::uint64_t data_bytes) {
  // New blocks are zeroed (no skip_block_zeroing): all file systems here have one UUID, and a journal must not find a
  // stale block of another's. Without error_if_no_space a writer to a full pool would hang for a minute.
  return {data_bytes / thin_pool::block * (thin_pool::block / sector), "thin-pool",
          fmt::format("{} {} {} {} 1 error_if_no_space", device_text(metadata), device_text(data),
                      thin_pool::block / sector, 0)};
}

void make_file_system(const std::string& node) {
  const std::string program = find_mkfs();
  // Of what is not written here nothing needs to be: a thin device reads as zeros, so neither the inode tables nor the
  // journal are. Nothing is kept back for root, because containers run as root. A journal is written from end to end
  // sooner or later, in every layer: so it is small.
  const char* arguments[] = {program.c_str(),
                             "-q",
                             "-F",
                             "-b",
                             "4096",
                             "-I",
                             "256",
                             "-m",
                             "0",
                             "-e",
                             "remount-ro",
                             "-J",
                             "size=16",
                             "-E",
                             "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
                             node.c_str(),
                             nullptr};
  const char* environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", nullptr};
  auto [said, out] = make_pipe();
  const pid_t parent = ::getpid();
  const cloned_process child = clone_process(0);
  if (child.pid == 0) {
    // It must not write to a device that another kit begins anew.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() == parent && ::dup2(out.get(), 1) == 1 && ::dup2(out.get(), 2) == 2)
      ::execve(program.c_str(), const_cast<char* const*>(arguments), const_cast<char* const*>(environment));
    ::_exit(127);
  }
  out.reset();
  std::string words = read_all(said.get(), program);
  int status = 0;
  while (::waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {}
  if (status == 0) return;
  while (!words.empty() && words.back() == '\n') words.pop_back();
  std::replace(words.begin(), words.end(), '\n', ' ');
  fail(errc::io, "make an ext4 file system: {} failed: {}", program, words);
}

/// Lets `node` name the block device `number`.
void make_node(const std::string& node, dev_t number) {
  struct stat st {};
  if (::lstat(node.c_str(), &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == number) return;
  const std::string making = node + ".new";
  ::unlink(making.c_str());
  if (::mknod(making.c_str(), S_IFBLK | 0600, number) != 0) fail_errno(errno, "make the device node {}", making);
  if (::rename(making.c_str(), node.c_str()) != 0) fail_errno(errno, "rename {}", making);
}

}  // namespace

std::string find_mkfs() {
  for (const char* path : {"/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4", "/usr/local/sbin/mkfs.ext4", "/usr/bin/mkfs.ext4"})
    if (::access(path, X_OK) == 0) return path;
  fail(errc::unsupported, "make an ext4 file system: there is no mkfs.ext4; install the package e2fsprogs");
}

mount thin_mount(std::string node, bool read_only) {
  mount m;
  m.fstype = "ext4";
  m.source = std::move(node);
  // The kernel would fill the inode tables in the background: in every layer anew.
  m.options.push_back({"noinit_itable", mount_option::flag{}});
  if (read_only) {
    m.options.push_back({"ro", mount_option::flag{}});
    m.attributes = MOUNT_ATTR_RDONLY;
  } else {
    m.options.push_back({"discard", mount_option::flag{}});
  }
  return m;
}

contents contents_of(int fd) {
  struct statvfs st {};
  if (::fstatvfs(fd, &st) != 0) fail_errno(errno, "statvfs of a layer");
  return {(st.f_blocks - st.f_bfree) * st.f_frsize, st.f_files - st.f_ffree, st.f_blocks * st.f_frsize};
}

contents sync_contents(int tree) {
  const unique_fd root = open_at(tree, ".", O_RDONLY | O_DIRECTORY);  // the tree's own descriptor is but a path
  if (::syncfs(root.get()) != 0) fail_errno(errno, "sync a layer");
  return contents_of(tree);
}

thin_pool::thin_pool(std::string directory, const std::string& root_tag, configuration c,
                     std::function<std::set<std::uint32_t>()> known)
    : directory_(std::move(directory)),
      tag_(root_tag),
      config_(std::move(c)),
      known_(std::move(known)),
      pool_(fmt::format("kit-{}-pool", tag_)) {}

mapped_device thin_pool::thin(std::uint32_t id) const { return mapped_device(fmt::format("kit-{}-thin-{}", tag_, id)); }

// ---- the pool ---------------------------------------------------------------------------------------------

std::optional<thin_pool::status> thin_pool::look() const {
  std::string text;
  try {
    text = pool_.status();
  } catch (const error& e) {
    if (e.sys_errno() == ENXIO) return std::nullopt;
    throw;
  }
  if (text.empty()) return std::nullopt;  // named, without a table
  status s;
  std::istringstream in(text);
  char slash = 0;
  std::string held_root, passdown, mode;
  in >> s.transaction >> s.metadata_used >> slash >> s.metadata_total >> s.data_used >> slash >> s.data_total >>
      held_root >> mode;
  // "Fail" stands alone; "ro" in the place of "rw" means that the kernel found the metadata damaged or full.
  s.writable = in && mode != "ro";
  return s;
}

bool thin_pool::has_base() const { return !read_link(path("base")).empty(); }

bool thin_pool::too_small(const status& now) const {
  return on_files() &&
         (now.data_total < config_.data_size / block || now.metadata_total < config_.metadata_size / metadata_block);
}

void thin_pool::wake() {
  const auto awake = [this] {
    const auto now = look();
    return now && has_base() && !too_small(*now);
  };
  if (awake()) return;
  make_directories(directory_, 0700);
  const file_lock held = lock();
  auto now = look();
  if (!now) {
    start();
    now = look();
  }
  if (now && too_small(*now)) grow();
  if (!has_base()) make_base();
}

/// Looks whether a pool may be woken on these, before anything is done to them: `metadata` is open, `bytes` are their
/// sizes. Answers whether it is a new one.
bool thin_pool::check_foundations(int metadata, std::uint64_t metadata_bytes, std::uint64_t data_bytes) const {
  const std::string metadata_name = on_files() ? path("metadata") : config_.metadata_device;
  const superblock found = read_superblock(metadata, metadata_name);
  if (found.is == superblock::kind::none) {
    if (has_base())
      fail(errc::conflict, "wake the pool in {}: {} is empty, but layers were kept in it; restore it, or remove {}",
           directory_, metadata_name, directory_);
    return true;
  }
  if (found.is == superblock::kind::foreign)
    fail(errc::invalid,
         "wake the pool in {}: {} holds something that is no pool; restore it, or zero its first 4096 bytes if it is "
         "not needed",
         directory_, metadata_name);
  if (!is_there(path("ids")))
    fail(errc::conflict,
         "wake the pool in {}: {} holds a pool that was made elsewhere; zero its first 4096 bytes if nothing in it is "
         "needed",
         directory_, metadata_name);
  const auto whole = [&](const std::string& name, std::uint64_t has, std::uint64_t had) {
    if (has < had)
      fail(errc::conflict, "wake the pool in {}: {} is {} bytes long, and was {}: it was cut off; restore it",
           directory_, name, has, had);
  };
  whole(on_files() ? path("data") : config_.data_device, data_bytes, found.data_blocks * block);
  whole(metadata_name, metadata_bytes, found.metadata_blocks * metadata_block);
  return false;
}

void thin_pool::start() const {
  pool_.remove();  // named, but without a table: of one who was killed
  std::optional<loop_device> data_loop, metadata_loop;
  foundation data, metadata;
  bool is_new = false;
  if (on_files()) {
    const unique_fd data_file = open_sparse(path("data"), 0), metadata_file = open_sparse(path("metadata"), 0);
    std::uint64_t size = file_size(data_file.get());
    if (size == 0 && has_base())
      fail(errc::conflict, "wake the pool in {}: the file data was lost or emptied; restore it, or remove {}",
           directory_, directory_);
    is_new = check_foundations(metadata_file.get(), file_size(metadata_file.get()), size);
    size = std::max(size, config_.data_size);
    if (size == 0) size = default_data_size;
    open_sparse(path("data"), size);
    // 64 bytes a block, as lvm reckons, so that snapshots find room too.
    const std::uint64_t enough = size / block * 64;
    open_sparse(path("metadata"), std::clamp(std::max(enough, config_.metadata_size) / metadata_block * metadata_block,
                                             least_metadata_size, most_metadata_size));
    data_loop = loop_device::attach(data_file.get());
    metadata_loop = loop_device::attach(metadata_file.get());
    data.number = data_loop->number();
    data.bytes = size;
    metadata.number = metadata_loop->number();
  } else {
    data = open_device(config_.data_device);
    metadata = open_device(config_.metadata_device);
    is_new = check_foundations(metadata.fd.get(), metadata.bytes, data.bytes);
  }
  if (is_new) write_ids({}, true);
  try {
    pool_.create(fmt::format("kit:{}:pool", tag_), pool_table(metadata.number, data.number, data.bytes));
  } catch (const error& e) {
    throw error(e.code(),
                fmt::format("wake the pool in {}: {}; see the kernel's log, and thin_check(8) if it is damaged",
                            directory_, e.what()),
                e.sys_errno());
  }
  try {
    const auto now = look();
    if (!now) fail(errc::io, "wake the pool in {}: it is gone again", directory_);
    adopt(*now);
  } catch (...) {
    pool_.remove();
    throw;
  }
}

/// Takes up a pool that was just woken: nobody is making a device in it.
void thin_pool::adopt(const status& now) const {
  const ids before = read_ids();
  if (now.transaction < before.end)
    fail(errc::conflict,
         "wake the pool in {}: it is at transaction {}, but ids below {} were given out; it is an old "
         "copy, or belongs elsewhere",
         directory_, now.transaction, before.end);
  if (!now.writable) return;  // can be read; whoever wants to write hears of it
  std::set<std::uint32_t> known = known_();
  if (has_base()) known.insert(base().id);
  for (std::uint64_t id = before.swept; id < now.transaction; ++id)
    if (!known.contains(static_cast<std::uint32_t>(id))) delete_device(static_cast<std::uint32_t>(id));
  write_ids({now.transaction, now.transaction, now.transaction}, true);
}

void thin_pool::grow() const {
  std::istringstream in(pool_.parameters());
  unsigned numbers[4] = {};
  char colon = 0;
  in >> numbers[0] >> colon >> numbers[1] >> numbers[2] >> colon >> numbers[3];
  if (!in) fail(errc::io, "grow the pool in {}: its table reads \"{}\"", directory_, in.str());
  const loop_device metadata = loop_device::open(makedev(numbers[0], numbers[1]));
  const loop_device data = loop_device::open(makedev(numbers[2], numbers[3]));
  open_sparse(path("metadata"), std::min(config_.metadata_size, most_metadata_size));
  open_sparse(path("data"), config_.data_size);
  metadata.grow();
  data.grow();
  pool_.replace(pool_table(metadata.number(), data.number(), block_device_size(data.get())));
}

void thin_pool::sleep_if(function_ref<bool()> unused) {
  if (!is_there(path("lock"))) return;
  const file_lock held = lock();
  if (!unused() || !pool_.look()) return;
  const auto until = std::chrono::steady_clock::now() + patience;
  while (!pool_.remove() && std::chrono::steady_clock::now() < until) pause_for(std::chrono::milliseconds(2));
}

void thin_pool::require_space() const {
  const auto now = look();
  if (!now) fail(errc::io, "the pool in {} is not there", directory_);
  if (!now->writable)
    fail(errc::io,
         "the kernel writes no more to the pool in {}; see its log, and repair the metadata by thin_repair(8)",
         directory_);
  const char* grow_it = on_files() ? "raise the option data_size" : "enlarge data_device";
  if (now->data_total - now->data_used <= now->data_total / 100)
    fail(errc::no_space, "the pool in {} is full: {} of {} MiB are taken; remove layers, or {}", directory_,
         now->data_used * block >> 20, now->data_total * block >> 20, grow_it);
  // What the kernel warns at, too. Without any it would stop writing for good: the pool would have to be repaired.
  if (now->metadata_total - now->metadata_used <= std::min<std::uint64_t>(1024, now->metadata_total / 4))
    fail(errc::no_space, "the metadata of the pool in {} is full; remove layers, or {}", directory_,
         on_files() ? "raise the option metadata_size" : "enlarge metadata_device");
  struct statvfs st {};
  if (on_files() && ::statvfs(directory_.c_str(), &st) == 0 && st.f_bavail * st.f_frsize < (8u << 20))
    fail(errc::no_space, "the file system that holds the pool in {} is full; make room on it", directory_);
}

// ---- ids --------------------------------------------------------------------------------------------------

thin_pool::ids thin_pool::read_ids() const {
  ids i;
  std::istringstream in(read_file(path("ids")));
  if (!(in >> i.swept >> i.next >> i.end)) fail(errc::io, "{} is damaged", path("ids"));
  return i;
}

// In place, by one write(2) within one sector: neither a kill nor a power cut leaves half of it.
void thin_pool::write_ids(const ids& i, bool sync) const {
  const std::string text = fmt::format("{:>9} {:>9} {:>9}\n", i.swept, i.next, i.end);
  const unique_fd file = open_file(path("ids"), O_WRONLY | O_CREAT, 0600);
  write_all(file.get(), text, path("ids"));
  if (!sync) return;
  if (::fsync(file.get()) != 0) fail_errno(errno, "sync {}", path("ids"));
  sync_directory(directory_);
}

std::uint32_t thin_pool::next_id() const {
  ids i = read_ids();
  if (i.next >= i.end) {
    const auto now = look();
    if (!now) fail(errc::io, "the pool in {} is not there", directory_);
    const std::uint64_t end = now->transaction + ids_at_once;
    if (end > last_id) fail(errc::no_space, "the pool in {} has used up its ids; begin another", directory_);
    pool_.message(fmt::format("set_transaction_id {} {}", now->transaction, end));
    i.next = now->transaction;
    i.end = end;
  }
  const auto id = static_cast<std::uint32_t>(i.next++);
  write_ids(i, false);
  return id;
}

std::uint32_t thin_pool::new_id() {
  const file_lock held = lock();
  return next_id();
}

// ---- devices ----------------------------------------------------------------------------------------------

bool thin_pool::snapshot(std::uint32_t id, std::uint32_t origin) const {
  try {
    pool_.message(fmt::format("create_snap {} {}", id, origin));
    return true;
  } catch (const error& e) {
    if (e.sys_errno() == EEXIST) return false;
    throw;
  }
}

unique_fd thin_pool::open(const thin_device& d, bool read_only, const std::string& node) const {
  const file_lock held = lock();
  return open_locked(d, read_only, node);
}

unique_fd thin_pool::open_locked(const thin_device& d, bool read_only, const std::string& node) const {
  const mapped_device device = thin(d.id);
  const auto until = std::chrono::steady_clock::now() + patience;
  while (true) {
    auto now = device.look();
    if (now && (!now->live_table || now->read_only != read_only)) {
      if (!device.remove())
        fail(errc::busy, "open device {}: it is in use {}", device.name(),
             now->read_only ? "read only" : "for writing");
      now.reset();
    }
    if (!now) {
      const auto pool = pool_.look();
      if (!pool) fail(errc::io, "open device {}: the pool in {} is not there", device.name(), directory_);
      now = device.create(fmt::format("kit:{}:thin-{}", tag_, d.id),
                          {d.sectors, "thin", fmt::format("{} {}", device_text(pool->number), d.id)}, read_only);
    }
    make_node(node, now->number);
    unique_fd fd(::open(node.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    if (fd) {
      // At once rather than when it is released: so a crash leaves nothing.
      device.remove_when_closed();
      return fd;
    }
    // The kernel was about to remove it when we looked.
    if (errno != ENXIO || std::chrono::steady_clock::now() > until) fail_errno(errno, "open device {}", device.name());
    pause_for(std::chrono::milliseconds(1));
  }
}

std::optional<dev_t> thin_pool::number_of(std::uint32_t id) const {
  const auto now = thin(id).look();
  if (!now) return std::nullopt;
  return now->number;
}

bool thin_pool::wait_closed(std::uint32_t id) const {
  const mapped_device device = thin(id);
  const auto until = std::chrono::steady_clock::now() + patience;
  while (!device.remove()) {
    if (std::chrono::steady_clock::now() > until) return false;
    pause_for(std::chrono::milliseconds(2));
  }
  return true;
}

void thin_pool::delete_device(std::uint32_t id) const {
  try {
    pool_.message(fmt::format("delete {}", id));
  } catch (const error& e) {
    if (e.sys_errno() != ENODATA) throw;
  }
}

bool thin_pool::destroy(const thin_device& d, const std::string& node) const {
  if (const auto now = thin(d.id).look(); now && now->open_count > 0) return false;
  if (on_files()) {
    // Deleting a thin device frees its blocks in the pool alone; the file shrinks by what was discarded before.
    try {
      const unique_fd fd = open(d, false, node);
      const std::uint64_t range[] = {0, d.sectors * sector};
      ::ioctl(fd.get(), BLKDISCARD, range);
    } catch (const error& e) {
      if (e.code() == errc::cancelled) throw;
      if (e.code() == errc::busy) return false;
      // There may be no such thin device: a create was killed before it.
    }
  }
  const file_lock held = lock();
  return destroy_closed(d.id);
}

bool thin_pool::destroy_closed(std::uint32_t id) const {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (true) {
    try {
      if (!thin(id).remove()) return false;
      delete_device(id);
      return true;
    } catch (const error& e) {
      // The kernel names a device no more a moment before it lets go of it.
      if (e.sys_errno() != EBUSY || std::chrono::steady_clock::now() > until) throw;
    }
    pause_for(std::chrono::milliseconds(2));
  }
}

// ---- the base ---------------------------------------------------------------------------------------------

thin_device thin_pool::base() const {
  thin_device d;
  std::istringstream in(read_link(path("base")));
  if (!(in >> d.id >> d.sectors)) fail(errc::io, "{} is damaged", path("base"));
  return d;
}

contents thin_pool::base_contents() const {
  contents c;
  std::uint64_t skipped = 0;
  std::istringstream in(read_link(path("base")));
  if (!(in >> skipped >> skipped >> c.bytes >> c.inodes >> c.capacity)) fail(errc::io, "{} is damaged", path("base"));
  return c;
}

void thin_pool::make_base() const {
  const std::string intent = path("base.id"), node = path("base.device"), making = path("base.new");
  thin_device d;
  if (const std::string left = read_link(intent); !left.empty()) {
    d.id = static_cast<std::uint32_t>(std::stoul(left));
    if (!wait_closed(d.id) || !destroy_closed(d.id))
      fail(errc::busy, "make the base of the pool in {}: the device of an earlier try is in use", directory_);
  } else {
    d.id = next_id();
    if (::symlink(std::to_string(d.id).c_str(), intent.c_str()) != 0) fail_errno(errno, "make {}", intent);
  }
  d.sectors = config_.base_size / block * (block / sector);
  pool_.message(fmt::format("create_thin {}", d.id));
  contents holds;
  {
    const unique_fd device = open_locked(d, false, node);
    make_file_system(node);
    const mount m = thin_mount(node, false);
    const unique_fd tree = make_detached({&m, 1});
    // A layer's root is the root of its file system; only fsck would miss it, and makes it if need be.
    if (::unlinkat(tree.get(), "lost+found", AT_REMOVEDIR) != 0) fail_errno(errno, "remove lost+found in the base");
    holds = sync_contents(tree.get());
  }
  if (!wait_closed(d.id)) fail(errc::busy, "make the base of the pool in {}: its device is in use", directory_);
  ::unlink(making.c_str());
  const std::string text = fmt::format("{} {} {} {} {}", d.id, d.sectors, holds.bytes, holds.inodes, holds.capacity);
  if (::symlink(text.c_str(), making.c_str()) != 0 || ::rename(making.c_str(), path("base").c_str()) != 0)
    fail_errno(errno, "make {}", path("base"));
  ::unlink(intent.c_str());
  ::unlink(node.c_str());
  sync_directory(directory_);
}

}  // namespace kit::drivers::detail
