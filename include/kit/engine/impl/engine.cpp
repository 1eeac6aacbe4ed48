// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/engine.hpp"

#include <sys/stat.h>

#include <optional>

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
  make_directories(c.run_dir + "/containers", 0711);
}

engine::~engine() = default;
engine::engine(engine&&) noexcept = default;
engine& engine::operator=(engine&&) noexcept = default;

const engine_config& engine::config() const noexcept { return impl_->config; }

records& engine::records() {
  if (!impl_->records) in_step("open_records", [&] { impl_->records.emplace(impl_->config.root); });
  return *impl_->records;
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
  d.run_dir = fmt::format("{}/{}/{}", c.run_dir, family, driver);
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
  return opened(impl_->storages, name, [&] { return KIT_STEP(open_storage(name, config_of("storage", name))); });
}
any_network& engine::network(const std::string& driver) {
  return opened(impl_->networks, driver, [&] { return KIT_STEP(open_network(driver, config_of("network", driver))); });
}
any_isolation& engine::isolation(const std::string& name) {
  return opened(impl_->isolations, name, [&] { return KIT_STEP(open_isolation(name, config_of("isolation", name))); });
}

std::string engine::container_dir(const container_id& id) const {
  return fmt::format("{}/containers/{}", impl_->config.root, id.text());
}
std::string engine::bundle_dir(const container_id& id) const {
  return fmt::format("{}/containers/{}", impl_->config.run_dir, id.text());
}
std::string engine::images_dir() const { return impl_->config.root + "/images"; }

container engine::as_container(const container_record& r) {
  return {r.id, bundle_dir(r.id), bundle_dir(r.id) + "/state", owner(r.id.text()), r.init.pid, r.init.start_time};
}

}  // namespace kit
