// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/engine.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <optional>

#include "kit/engine/clock.hpp"
#include "kit/plugin/loader.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit {

struct engine::impl {
  engine_config config;
  std::string root_tag;
  std::optional<kit::records> records;
  std::map<std::string, any_storage> storages;
  std::map<std::string, any_network> networks;
  std::map<std::string, any_isolation> isolations;
};

engine::engine(engine_config config) : impl_(std::make_unique<impl>()) {
  impl_->config = std::move(config);
  const engine_config& c = impl_->config;
  for (const std::string& directory : {c.root, c.run_dir})
    if (directory.empty() || directory[0] != '/')
      fail(errc::invalid, "open the kit root '{}': the path must be absolute", directory);
  // 0711: a container's user namespace must be able to walk to its root file system, nobody to list it.
  make_directories(c.root, 0711);
  make_directories(c.root + "/containers", 0711);
  make_directories(c.run_dir, 0711);
}

engine::~engine() = default;
engine::engine(engine&&) noexcept = default;
engine& engine::operator=(engine&&) noexcept = default;

const engine_config& engine::config() const noexcept { return impl_->config; }

records& engine::records() {
  if (!impl_->records)
    in_step("open_records", [&] {
      impl_->records.emplace(impl_->config.root);
      claim();
    });
  return *impl_->records;
}

namespace {

/// Where the pids and paths of a root's records have their meaning.
struct place {
  std::string boot, pid_namespace, directory, run_dir;
  bool operator==(const place&) const = default;

  [[nodiscard]] std::string text() const { return fmt::format("{} {} {} {}", boot, pid_namespace, directory, run_dir); }
  static place from(std::string_view text) {
    const auto word = [&] {
      const std::string w(text.substr(0, text.find(' ')));
      text.remove_prefix(std::min(w.size() + 1, text.size()));
      return w;
    };
    place p{word(), word(), word(), ""};
    p.run_dir = text;
    return p;
  }
  static place here(const engine_config& c) {
    struct stat ns {
    }, directory{};
    if (::stat("/proc/self/ns/pid", &ns) != 0) fail_errno(errno, "stat /proc/self/ns/pid");
    if (::stat(c.root.c_str(), &directory) != 0) fail_errno(errno, "stat {}", c.root);
    return {boot_id(), fmt::format("{}", ns.st_ino), fmt::format("{}:{}", directory.st_dev, directory.st_ino),
            c.run_dir};
  }
};

}  // namespace

void engine::claim() {
  constexpr std::string_view key = "owner";
  kit::records& records = *impl_->records;
  const place here = place::here(impl_->config);
  if (records.setting(key) == here.text()) return;
  records.releasing([&] {
    const place owner = place::from(records.setting(key).value_or(""));
    for (const container_record& c : records.live_containers()) {
      if (c.init.boot_id != here.boot || owner.boot != here.boot) continue;
      const auto refuse = [&](std::string_view why) {
        fail(errc::conflict, "open the kit root {}: its container {} runs {}", impl_->config.root, c.name, why);
      };
      if (owner.pid_namespace != here.pid_namespace) {
        // Its pids mean nothing here. A lock does, as long as the kernel is one.
        if (file_lock::try_now(presence_path())) break;
        refuse("in another pid namespace: use kit there, or stop it there first");
      }
      if (!process_lives(c.init.pid, c.init.start_time, c.init.boot_id)) continue;
      if (owner.directory != here.directory) refuse("elsewhere: this is a copy of its root, or the root was moved");
      if (owner.run_dir != here.run_dir)
        refuse(fmt::format("with the run directory {}: give --run-dir {}", owner.run_dir, owner.run_dir));
    }
    records.set(key, here.text());
  });
}

const std::string& engine::root_tag() {
  if (impl_->root_tag.empty()) {
    constexpr std::string_view key = "root_tag";
    auto tag = records().setting(key);
    if (!tag)
      records().transaction([&] {
        tag = records().setting(key);
        if (tag) return;
        tag = hex(random_bits().data(), 4);
        records().set(key, *tag);
      });
    impl_->root_tag = *tag;
  }
  return impl_->root_tag;
}

std::string engine::owner(std::string_view id) { return fmt::format("kit:{}:{}", root_tag(), id); }

driver_config engine::config_of(std::string_view family, std::string_view driver) {
  const engine_config& c = impl_->config;
  driver_config d;
  d.directory = fmt::format("{}/{}/{}", c.root, family, driver);
  d.run_dir = fmt::format("{}/{}/{}", run_dir(), family, driver);
  d.libexec = c.libexec;
  d.root_tag = root_tag();
  if (auto at = c.driver_options.find(std::string(driver)); at != c.driver_options.end()) d.options = at->second;
  return d;
}

namespace {
template <class Map, class Open>
typename Map::mapped_type& opened(Map& map, const std::string& name, Open open) {
  auto at = map.find(name);
  if (at == map.end()) at = map.emplace(name, open()).first;
  return at->second;
}
}  // namespace

any_storage& engine::storage(const std::string& name) {
  return opened(impl_->storages, name, [&] { return open_storage(name, config_of("storage", name)); });
}
any_network& engine::network(const std::string& driver) {
  return opened(impl_->networks, driver, [&] { return open_network(driver, config_of("network", driver)); });
}
any_isolation& engine::isolation(const std::string& name) {
  return opened(impl_->isolations, name, [&] { return open_isolation(name, config_of("isolation", name)); });
}

std::string engine::container_dir(const container_id& id) const {
  return fmt::format("{}/containers/{}", impl_->config.root, id.text());
}
std::string engine::run_dir() { return fmt::format("{}/{}", impl_->config.run_dir, root_tag()); }
std::string engine::bundle_dir(const container_id& id) { return fmt::format("{}/containers/{}", run_dir(), id.text()); }
std::string engine::presence_path() const { return impl_->config.root + "/presence.lock"; }
std::string engine::images_dir() const { return impl_->config.root + "/images"; }

container engine::as_container(const container_record& r) {
  return {r.id, bundle_dir(r.id), bundle_dir(r.id) + "/state", owner(r.id.text()), r.init.pid, r.init.start_time};
}

}  // namespace kit
