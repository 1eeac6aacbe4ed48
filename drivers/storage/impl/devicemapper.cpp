// SPDX-License-Identifier: Apache-2.0
#include "drivers/storage/devicemapper.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <sstream>

#include "drivers/storage/detail/thin_pool.hpp"
#include "kit/system/error.hpp"

namespace kit::drivers {
namespace {

using detail::contents;
using detail::thin_device;

constexpr std::string_view size_key = "size";
constexpr std::uint64_t least_base_size = 64ull << 20;
constexpr std::uint64_t ext4_block = 4096;

// In a layer's directory, beside what layer_store keeps:
std::string thin_of(const std::string& layer) { return layer + "/thin"; }    // symlink, see thin_note
std::string used_of(const std::string& layer) { return layer + "/used"; }    // symlink of a frozen one, "BYTES INODES"
std::string limit_of(const std::string& layer) { return layer + "/limit"; }  // symlink, "BYTES"
std::string node_of(const std::string& layer) { return layer + "/device"; }

/// Made or replaced in one step.
void make_link(const std::string& path, const std::string& text) {
  const std::string making = path + ".new";
  ::unlink(making.c_str());
  if (::symlink(text.c_str(), making.c_str()) != 0 || ::rename(making.c_str(), path.c_str()) != 0)
    fail_errno(errno, "make {}", path);
}

/// The thin device of a layer, and what its parents hold: written down before the kernel has the device.
struct thin_note {
  thin_device device;
  contents below;
};

void write_note(const std::string& layer, const thin_note& n) {
  make_link(thin_of(layer), fmt::format("{} {} {} {} {}", n.device.id, n.device.sectors, n.below.bytes, n.below.inodes,
                                        n.below.capacity));
}

thin_note read_note(const std::string& layer) {
  thin_note n;
  std::istringstream in(read_link(thin_of(layer)));
  if (!(in >> n.device.id >> n.device.sectors >> n.below.bytes >> n.below.inodes >> n.below.capacity))
    fail(errc::io, "{} is damaged; remove the layer", thin_of(layer));
  return n;
}

contents read_used(const std::string& layer) {
  contents c;
  std::istringstream in(read_link(used_of(layer)));
  if (!(in >> c.bytes >> c.inodes)) fail(errc::io, "{} is damaged; remove the layer", used_of(layer));
  return c;
}

std::set<std::uint32_t> noted_ids(const std::string& directory) {
  std::set<std::uint32_t> ids;
  for (const char* place : {"/layers/", "/new/", "/trash/"}) {
    std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir((directory + place).c_str()), ::closedir);
    if (!stream) continue;
    while (const dirent* entry = ::readdir(stream.get())) {
      const std::string text = read_link(thin_of(directory + place + entry->d_name));
      if (std::uint32_t id = 0; std::istringstream(text) >> id) ids.insert(id);
    }
  }
  return ids;
}

std::uint64_t size_in(std::span<const option> options, std::string_view key, std::string_view otherwise) {
  return parse_size(option_or(options, key, otherwise));
}

std::shared_ptr<detail::thin_pool> make_pool(const driver_config& config) {
  detail::thin_pool::configuration c;
  c.data_device = option_or(config.options, "data_device", "");
  c.metadata_device = option_or(config.options, "metadata_device", "");
  c.data_size = size_in(config.options, "data_size", "0");
  c.metadata_size = size_in(config.options, "metadata_size", "0");
  c.base_size = size_in(config.options, "base_size", "10g");
  if (c.data_device.empty() != c.metadata_device.empty())
    fail(errc::invalid, "devicemapper: name both data_device and metadata_device, or neither");
  if (c.base_size < least_base_size)
    fail(errc::invalid, "devicemapper: option base_size: {} bytes are too few for a file system; at least 64m",
         c.base_size);
  return std::make_shared<detail::thin_pool>(config.directory + "/pool", config.root_tag, std::move(c),
                                             [directory = config.directory] { return noted_ids(directory); });
}

/// Takes from the pool what a directory in the trash knows of.
auto give_back(std::shared_ptr<detail::thin_pool> pool) {
  return [pool = std::move(pool)](const std::string& layer) {
    if (read_link(thin_of(layer)).empty()) return true;
    pool->wake();
    // Or a power cut might leave the layer in its place, and its device deleted.
    sync_directory(layer + "/..");
    sync_directory(layer + "/../../layers");
    return pool->destroy(read_note(layer).device, node_of(layer));
  };
}

/// While one lives the device is there.
unique_fd wake_device(detail::thin_pool& pool, const std::string& layer, bool frozen) {
  pool.wake();
  return pool.open(read_note(layer).device, frozen, node_of(layer));
}

}  // namespace

devicemapper::devicemapper(const driver_config& config)
    : pool_((detail::check_options(name(), config.options, options()), make_pool(config))),
      store_(config.directory, give_back(pool_)),
      default_limit_(size_in(config.options, size_key, "0")) {}

std::vector<option_schema> devicemapper::options() {
  using type = option_schema::type;
  return {
      {"data_device", type::path, "", "block device for the blocks of layers; default: a sparse file, for trying"},
      {"metadata_device", type::path, "", "block device for the pool's tables, a thousandth of data_device"},
      {"data_size", type::size, "100g", "of the sparse file; raise it to let the pool grow"},
      {"metadata_size", type::size, "", "of the sparse file for the pool's tables; default: what data_size needs"},
      {"base_size", type::size, "10g", "of the file system of each layer, with its parents; set when the pool is made"},
      {std::string(size_key), type::size, "0", "how much a layer may take beside its parents; 0: no limit"}};
}

bool devicemapper::can(storage_ability a) const noexcept {
  // Without sysfs ext4 cannot be told to keep anything back.
  return a != storage_ability::limits_size || ::access("/sys/fs/ext4", F_OK) == 0;
}

probe_report devicemapper::probe() const {
  probe_report report;
  const auto no = [&report](std::string reason, std::string remedy) {
    report.reason = std::move(reason);
    report.remedy = std::move(remedy);
    return report;
  };
  try {
    const std::string at = detail::nearest_existing(store_.directory());
    report.facts = {{"kernel", detail::kernel_release()}, {"backing file system", detail::file_system_of(at)}};
    if (::geteuid() != 0) return no("devices can only be made by root", "run kit as root");
    if (::access("/dev/mapper/control", F_OK) != 0)
      return no("this kernel has no device mapper",
                "modprobe dm-thin-pool, or a kernel with CONFIG_DM_THIN_PROVISIONING");
    const auto version = device_mapper_target("thin-pool");
    if (!version)
      return no("this kernel has no thin provisioning",
                "modprobe dm-thin-pool, or a kernel with CONFIG_DM_THIN_PROVISIONING");
    report.facts.push_back({"thin-pool target", *version});
    if (const unique_fd context(::fsopen("ext4", FSOPEN_CLOEXEC)); !context)
      return no(fmt::format("this kernel has no ext4: {}", errno_text(errno)), "modprobe ext4");
    struct statvfs st {};
    if (::statvfs(at.c_str(), &st) != 0) fail_errno(errno, "statvfs {}", at);
    if ((st.f_flag & ST_NODEV) != 0)
      return no(fmt::format("{} is mounted nodev, and device nodes are kept in it", at),
                "mount it dev, or choose a directory elsewhere");
    if ((st.f_flag & ST_RDONLY) != 0) return no(fmt::format("{} is read only", at), "choose another directory");
    if (pool_->on_files() && ::access("/dev/loop-control", F_OK) != 0)
      return no("this kernel has no loop devices", "modprobe loop, or name data_device and metadata_device");
    report.facts.push_back({"mkfs", detail::find_mkfs()});
    if (const auto now = pool_->look(); now && now->data_total != 0) {
      report.facts.push_back({"pool data", fmt::format("{} of {} MiB", now->data_used * detail::thin_pool::block >> 20,
                                                       now->data_total * detail::thin_pool::block >> 20)});
      report.facts.push_back(
          {"pool metadata", fmt::format("{} of {} KiB", now->metadata_used * 4, now->metadata_total * 4)});
    }
    report.usable = true;
    if (pool_->on_files())
      no("the pool is on sparse files under loop devices: for trying",
         "name block devices by the options data_device and metadata_device");
  } catch (const error& e) {
    report.usable = false;
    no(e.what(), e.code() == errc::unsupported ? "install what is missing" : "choose another directory");
  }
  return report;
}

// ---- the life of a layer ------------------------------------------------------------------------------------

void devicemapper::create(const layer& l, std::span<const option> wanted) {
  const auto known = options();
  detail::check_options(name(), wanted, {&known.back(), 1});
  const std::uint64_t most = option_or(wanted, size_key, "").empty() ? default_limit_ : size_in(wanted, size_key, "0");
  store_.create(l, most == 0 ? "" : fmt::format("{}={}", size_key, most), [&](const std::string& directory) {
    this_call().check();
    pool_->wake();
    pool_->require_space();
    thin_note note;
    thin_device origin;
    if (l.parents.empty()) {
      origin = pool_->base();
      note.below = pool_->base_contents();
    } else {
      const std::string parent = store_.path(l.parents.front());
      const thin_note of_parent = read_note(parent);
      origin = of_parent.device;
      note.below = read_used(parent);
      note.below.capacity = of_parent.below.capacity;
    }
    if (most > note.below.capacity)
      fail(errc::invalid,
           "create layer {}: a size of {} bytes is more than the {} of its file system; the pool was made "
           "with that base_size",
           l.id.brief(), most, note.below.capacity);
    if (most != 0) make_link(limit_of(directory), std::to_string(most));
    note.device.sectors = origin.sectors;
    do {
      note.device.id = pool_->new_id();
      write_note(directory, note);
    } while (!pool_->snapshot(note.device.id, origin.id));
  });
}

std::vector<mount> devicemapper::mounts(const layer& l, access how) {
  const std::string layer = store_.require(l, how);
  // All mounts of one device must agree on it being read only: a live view stands beside a writer.
  mount m = detail::thin_mount(node_of(layer), store_.frozen(l.id));
  if (how != access::read_write) m.attributes = MOUNT_ATTR_RDONLY;
  return {std::move(m)};
}

void devicemapper::freeze(const layer_id& id) {
  const std::string layer = store_.require(id);
  if (store_.frozen(id)) return;
  contents holds;
  {
    const unique_fd device = wake_device(*pool_, layer, false);
    // This mount recovers the journal if need be, and its end leaves a clean file system: a frozen device is read
    // only, and snapshots of it need no pause.
    const mount m = detail::thin_mount(node_of(layer), false);
    const unique_fd tree = make_detached({&m, 1});
    holds = detail::sync_contents(tree.get());
  }
  {
    const std::lock_guard guard(held_guard_);
    held_.erase(id);
  }
  if (!pool_->wait_closed(read_note(layer).device.id))
    fail(errc::busy, "freeze layer {}: it is still mounted", id.brief());
  make_link(used_of(layer), fmt::format("{} {}", holds.bytes, holds.inodes));
  store_.freeze(id);
}

void devicemapper::remove(const layer_id& id) {
  {
    const std::lock_guard guard(held_guard_);
    held_.erase(id);
  }
  store_.remove(id);
  rest_if_empty();
}

void devicemapper::layers(layer_sink out) {
  store_.layers(out);
  rest_if_empty();
}

void devicemapper::rest_if_empty() {
  if (!store_.empty()) return;
  store_.layers([](const layer_state&) {});  // what is in the trash keeps the pool awake
  pool_->sleep_if([this] { return store_.empty(); });
}

disk_usage devicemapper::usage(const layer& l) {
  const std::string layer = store_.require(l.id);
  const contents below = read_note(layer).below;
  contents holds;
  if (store_.frozen(l.id)) {
    holds = read_used(layer);
  } else {
    const unique_fd device = wake_device(*pool_, layer, false);
    const std::vector<mount> list = mounts(l, access::live);
    holds = detail::contents_of(make_detached(list).get());
  }
  return {holds.bytes - std::min(below.bytes, holds.bytes), holds.inodes - std::min(below.inodes, holds.inodes)};
}

// ---- abilities ----------------------------------------------------------------------------------------------

void devicemapper::activate(const layer& l, access how) {
  const std::string layer = store_.require(l, how);
  unique_fd device = wake_device(*pool_, layer, store_.frozen(l.id));
  const std::lock_guard guard(held_guard_);
  held_[l.id] = std::move(device);
}

void devicemapper::release(const layer& l) {
  const std::string layer = store_.require(l.id);
  if (!store_.frozen(l.id) && !read_link(limit_of(layer)).empty()) apply_limit(layer);
  const std::lock_guard guard(held_guard_);
  held_.erase(l.id);
}

void devicemapper::limit(const layer_id& id, std::uint64_t bytes) {
  const std::string layer = store_.require(id);
  if (store_.frozen(id)) fail(errc::invalid, "limit layer {}: it is frozen", id.brief());
  if (const std::uint64_t most = read_note(layer).below.capacity; bytes > most)
    fail(errc::invalid,
         "limit layer {}: {} bytes are more than the {} of its file system; the pool was made with that "
         "base_size",
         id.brief(), bytes, most);
  if (bytes != 0)
    make_link(limit_of(layer), std::to_string(bytes));
  else if (::unlink(limit_of(layer).c_str()) != 0 && errno != ENOENT)
    fail_errno(errno, "limit layer {}: remove its limit", id.brief());
  apply_limit(layer);
}

/// If the layer is mounted: the kernel forgets it with the mount.
void devicemapper::apply_limit(const std::string& layer) const {
  const thin_note note = read_note(layer);
  const auto number = pool_->number_of(note.device.id);
  if (!number) return;
  // What the kernel keeps back unasked: ext4_set_resv_clusters() in fs/ext4/super.c.
  const std::uint64_t blocks = note.below.capacity / ext4_block;
  std::uint64_t reserved = std::min<std::uint64_t>(blocks / 50, 4096);
  if (const std::string limit = read_link(limit_of(layer)); !limit.empty())
    reserved = std::max(reserved,
                        blocks - std::min<std::uint64_t>(blocks, (note.below.bytes + std::stoull(limit)) / ext4_block));
  const std::string path = fmt::format("/sys/fs/ext4/dm-{}/reserved_clusters", minor(*number));
  const unique_fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) {
    if (errno == ENOENT) return;
    fail_errno(errno, "open {}", path);
  }
  write_all(file.get(), std::to_string(reserved), path);
}

}  // namespace kit::drivers
