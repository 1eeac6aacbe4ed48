// SPDX-License-Identifier: Apache-2.0
#include "makers.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/btrfs.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "kit/engine/open_layer.hpp"
#include "kit/plugin/loader.hpp"
#include "kit/system/error.hpp"
#include "kit/system/tree.hpp"

namespace kit::bench {

std::string file_of_image(unsigned n) { return fmt::format("d{}/f{}", n / 100, n % 100); }

namespace {

void write_file(int root, const std::string& name, std::uint64_t size) {
  const unique_fd file = open_at(root, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const std::string block(std::min<std::uint64_t>(size, std::uint64_t{1} << 20), 'k');
  for (std::uint64_t done = 0; done < size; done += block.size())
    write_all(file.get(), std::string_view(block).substr(0, size - done), name);
}

/// What layer `number` of an image adds.
void fill(int root, const image_shape& shape, unsigned number) {
  if (number > 0) return write_file(root, fmt::format("layer{}", number), 1024);
  for (unsigned n = 0; n < shape.files; ++n) {
    if (n % 100 == 0) {
      stop_if_interrupted();
      if (::mkdirat(root, fmt::format("d{}", n / 100).c_str(), 0755) != 0) fail_errno(errno, "make an image");
    }
    write_file(root, file_of_image(n), 1024);
  }
  for (std::size_t n = 0; n < shape.large.size(); ++n) write_file(root, fmt::format("large{}", n), shape.large[n]);
}

class of_driver : public maker {
 public:
  of_driver(const plugin& p, const driver_config& config)
      : maker(std::string(p.name()), "the driver, as kit calls it: create, the described mounts made, remove"),
        driver_(p.open_storage(config)) {}
  ~of_driver() override {
    try {
      std::vector<layer_id> left;
      driver_.layers([&](const layer_state& l) { left.push_back(l.id); });
      for (const layer_id& id : left) driver_.remove(id);
      driver_.layers([](const layer_state&) {});
    } catch (const std::exception& e) {
      std::fprintf(stderr, "kit-bench: warning: %s\n", e.what());
    }
  }
  void make(const image_shape& shape) override {
    if (images_.contains(shape)) return;
    std::vector<layer_id> chain;
    try {
      for (unsigned n = 0; n < shape.layers; ++n) {
        stop_if_interrupted();
        const auto id = random_id<layer_id>();
        driver_.create({id, chain}, {});
        const std::vector<layer_id> parents = chain;
        chain.insert(chain.begin(), id);
        fill(open_layer(driver_, layer{id, parents}, access::read_write).get(), shape, n);
        driver_.freeze(id);
      }
    } catch (...) {
      for (const layer_id& id : chain) driver_.remove(id);
      throw;
    }
    images_[shape] = std::move(chain);
  }
  void drop(const image_shape& shape) override {
    for (const layer_id& id : images_[shape]) driver_.remove(id);
    images_.erase(shape);
    tidy();
  }
  void create(const image_shape& shape, const layer_id& id) override { driver_.create({id, images_.at(shape)}, {}); }
  unique_fd open(const image_shape& shape, const layer_id& id) override {
    return open_layer(driver_, layer{id, images_.at(shape)}, access::read_write);
  }
  void remove(const layer_id& id) override { driver_.remove(id); }
  void freeze(const layer_id& id) override { driver_.freeze(id); }
  void tidy() override {
    driver_.layers([](const layer_state&) {});
  }
  any_storage* driver() override { return &driver_; }
  std::vector<layer_id> chain(const image_shape& shape) override { return images_.at(shape); }

 private:
  any_storage driver_;
  std::map<image_shape, std::vector<layer_id>> images_;
};

/// Those that keep images as plain directories.
class of_directories : public maker {
 public:
  of_directories(std::string who, std::string what_it_does, std::string directory)
      : maker(std::move(who), std::move(what_it_does)), directory_(std::move(directory)) {
    make_directories(directory_, 0700);
  }

 protected:
  [[nodiscard]] std::string path(const layer_id& id) const { return directory_ + "/" + id.str(); }
  [[nodiscard]] static std::string name_of(const image_shape& s) {
    std::string text = fmt::format("image-{}-{}", s.files, s.layers);
    for (const std::uint64_t size : s.large) text += fmt::format("-{}", size);
    return text;
  }
  void freeze(const layer_id& id) override {
    if (::syncfs(open_directory(path(id)).get()) != 0) fail_errno(errno, "sync {}", path(id));
  }
  void remove(const layer_id& id) override { remove_tree(path(id)); }

  std::string directory_;
};

/// An overlay by mount(2), with the same options as kit's.
class of_mount : public of_directories {
 public:
  explicit of_mount(const std::string& directory)
      : of_directories("mount(2)",
                       "the kernel's part: mkdir of what an overlay needs, mount(2) with the layers' directories open "
                       "already, umount(2), rmdir; no driver, no books",
                       directory) {}
  void make(const image_shape& shape) override {
    if (images_.contains(shape)) return;
    std::vector<unique_fd> lowers;
    const std::string base = directory_ + "/" + name_of(shape);
    make_directories(base);
    for (unsigned n = 0; n < shape.layers; ++n) {
      const std::string lower = fmt::format("{}/{}", base, n);
      make_directories(lower);
      lowers.insert(lowers.begin(), open_directory(lower));
      fill(lowers.front().get(), shape, n);
    }
    images_[shape] = std::move(lowers);
  }
  void drop(const image_shape& shape) override {
    images_.erase(shape);
    remove_tree(directory_ + "/" + name_of(shape));
  }
  void create(const image_shape&, const layer_id& id) override {
    for (const char* part : {"", "/diff", "/work", "/root"}) make_directory(path(id) + part, 0755);
  }
  unique_fd open(const image_shape& shape, const layer_id& id) override {
    std::string options = "lowerdir=";
    // Short, so that many fit a page.
    for (const unique_fd& lower : images_.at(shape)) options += fmt::format("/proc/self/fd/{}:", lower.get());
    options.back() = ',';
    options += fmt::format("upperdir={0}/diff,workdir={0}/work,index=off,metacopy=off,redirect_dir=nofollow,xino=off",
                           path(id));
    const std::string root = path(id) + "/root";
    if (::mount("overlay", root.c_str(), "overlay", 0, options.c_str()) != 0) fail_errno(errno, "mount an overlay");
    return open_directory(root);
  }
  void close(unique_fd tree, const layer_id& id) override {
    tree.reset();
    if (::umount2((path(id) + "/root").c_str(), 0) != 0) fail_errno(errno, "unmount an overlay");
  }

 private:
  std::map<image_shape, std::vector<unique_fd>> images_;
};

/// cp of the whole tree.
class of_copies : public of_directories {
 public:
  of_copies(std::string who, std::string what_it_does, const std::string& directory, std::string how)
      : of_directories(std::move(who), std::move(what_it_does), directory), how_(std::move(how)) {}
  void make(const image_shape& shape) override {
    const std::string base = directory_ + "/" + name_of(shape);
    if (::access(base.c_str(), F_OK) == 0) return;
    make_directories(base);
    const unique_fd root = open_directory(base);
    for (unsigned n = 0; n < shape.layers; ++n) fill(root.get(), shape, n);
    if (::syncfs(root.get()) != 0) fail_errno(errno, "sync {}", base);
  }
  void drop(const image_shape& shape) override { remove_tree(directory_ + "/" + name_of(shape)); }
  void create(const image_shape& shape, const layer_id& id) override {
    // Not by run(): it looks every few milliseconds whether the command has ended.
    std::string words[] = {"cp", "-a", how_, directory_ + "/" + name_of(shape), path(id)};
    char* arguments[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(), words[4].data(), nullptr};
    pid_t pid = 0;
    int status = 0;
    posix_spawn_file_actions_t quiet;
    ::posix_spawn_file_actions_init(&quiet);
    ::posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    const int e = ::posix_spawnp(&pid, "cp", &quiet, nullptr, arguments, environ);
    ::posix_spawn_file_actions_destroy(&quiet);
    if (e != 0) fail_errno(e, "execute cp");
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    stop_if_interrupted();
    if (status != 0) fail(errc::io, "cp {} failed", how_);
  }
  unique_fd open(const image_shape&, const layer_id& id) override { return open_directory(path(id)); }

 private:
  std::string how_;
};

/// A snapshot of a btrfs subvolume by ioctl(2).
class of_snapshots : public of_directories {
 public:
  explicit of_snapshots(const std::string& directory)
      : of_directories("snapshot ioctl", "BTRFS_IOC_SNAP_CREATE_V2 and BTRFS_IOC_SNAP_DESTROY, no driver, no books",
                       directory),
        top_(open_directory(directory_)) {}
  ~of_snapshots() override {
    for (const std::string& subvolume : names_in(directory_)) destroy(subvolume);
  }
  void make(const image_shape& shape) override {
    const std::string image = name_of(shape);
    if (::faccessat(top_.get(), image.c_str(), F_OK, 0) == 0) return;
    btrfs_ioctl_vol_args made{};
    std::strncpy(made.name, image.c_str(), sizeof made.name - 1);
    if (::ioctl(top_.get(), BTRFS_IOC_SUBVOL_CREATE, &made) != 0) fail_errno(errno, "make a subvolume");
    const unique_fd root = open_directory(directory_ + "/" + image);
    for (unsigned n = 0; n < shape.layers; ++n) fill(root.get(), shape, n);
    if (::syncfs(root.get()) != 0) fail_errno(errno, "sync a subvolume");
  }
  void drop(const image_shape& shape) override { destroy(name_of(shape)); }
  void create(const image_shape& shape, const layer_id& id) override {
    const unique_fd from = open_directory(directory_ + "/" + name_of(shape));
    btrfs_ioctl_vol_args_v2 made{};
    made.fd = from.get();
    std::strncpy(made.name, id.str().c_str(), sizeof made.name - 1);
    if (::ioctl(top_.get(), BTRFS_IOC_SNAP_CREATE_V2, &made) != 0) fail_errno(errno, "make a snapshot");
  }
  unique_fd open(const image_shape&, const layer_id& id) override { return open_directory(path(id)); }
  void remove(const layer_id& id) override { destroy(id.str()); }

 private:
  void destroy(const std::string& subvolume) {
    btrfs_ioctl_vol_args gone{};
    std::strncpy(gone.name, subvolume.c_str(), sizeof gone.name - 1);
    (void)::ioctl(top_.get(), BTRFS_IOC_SNAP_DESTROY, &gone);
  }
  unique_fd top_;
};

}  // namespace

found_drivers find_drivers(const std::string& directory, const std::vector<std::string>& only) {
  found_drivers found;
  std::string known;
  std::vector<std::string> names;
  for (const plugin_info& info : list_plugins()) {
    if (info.kind != family::storage) continue;
    names.push_back(info.name);
    known += (known.empty() ? "" : ", ") + info.name;
    if (!only.empty() && std::find(only.begin(), only.end(), info.name) == only.end()) continue;
    try {
      if (!info.refused.empty()) fail(errc::unsupported, "{}", info.refused);
      const plugin p = load_plugin_file(info.path);
      driver_config config;
      config.directory = directory + "/" + info.name;
      config.run_dir = directory + "/run/" + info.name;
      config.libexec = own_directory();
      config.root_tag = hex(random_bits().data(), 4);
      auto made = std::make_unique<of_driver>(p, config);
      const probe_report report = made->driver()->probe();
      if (!report.usable) fail(errc::unsupported, "{}", report.reason);
      // What a probe cannot know: whether it works.
      made->make({});
      found.all.push_back(std::move(made));
    } catch (const error& e) {
      if (e.code() == errc::cancelled) throw;
      found.missing.emplace_back(info.name, e.what());
    }
  }
  for (const std::string& name : only)
    if (std::find(names.begin(), names.end(), name) == names.end())
      fail(errc::not_found, "option --drivers: no storage driver \"{}\"; there is {}", name, known);
  return found;
}

makers find_floors(const std::string& directory, bool copies) {
  makers all;
  const auto add = [&](auto make) {
    try {
      std::unique_ptr<maker> made = make();
      made->make({});
      const auto id = random_id<layer_id>();
      made->create({}, id);
      made->close(made->open({}, id), id);
      made->remove(id);
      all.push_back(std::move(made));
    } catch (const error& e) {
      if (e.code() == errc::cancelled) throw;  // what this file system has not cannot be a floor on it
    }
  };
  add([&] { return std::make_unique<of_mount>(directory + "/floor-mount"); });
  if (file_system_of(directory) == "btrfs")
    add([&] { return std::make_unique<of_snapshots>(directory + "/floor-snapshot"); });
  if (!copies) return all;
  add([&] {
    return std::make_unique<of_copies>("cp -a", "the command, content copied", directory + "/floor-copy",
                                       "--reflink=never");
  });
  add([&] {
    return std::make_unique<of_copies>("cp --reflink", "the command, content shared (FICLONE)",
                                       directory + "/floor-reflink", "--reflink=always");
  });
  return all;
}

}  // namespace kit::bench
