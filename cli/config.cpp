// SPDX-License-Identifier: Apache-2.0
#include "config.hpp"

#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kit/engine/networks.hpp"
#include "kit/plugin/loader.hpp"
#include "kit/system/fd.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

constexpr const char* default_file = "/etc/kit/kit.json";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string text(const nlohmann::json& value, const std::string& file, const std::string& member) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  fail(errc::invalid, "configuration {}: {} is {}: text is expected", file, member, value.type_name());
}

/// The members of the file that are one text each.
std::array<std::pair<const char*, std::string*>, 6> members_of(engine_config& config) {
  return {{{"root", &config.root},
           {"run-dir", &config.run_dir},
           {"storage", &config.storage},
           {"network", &config.network},
           {"isolation", &config.isolation},
           {"subnet", &config.default_subnet}}};
}

void apply_file(engine_config& config, const std::string& file, const std::string& content) {
  nlohmann::json document = nlohmann::json::parse(content, nullptr, false);
  if (!document.is_object()) fail(errc::invalid, "configuration {}: not a JSON object", file);
  const auto members = members_of(config);
  for (const auto& [key, value] : document.items()) {
    if (key == "drivers") {
      if (!value.is_object()) fail(errc::invalid, "configuration {}: drivers is not an object", file);
      for (const auto& [driver, given] : value.items()) {
        if (!given.is_object()) fail(errc::invalid, "configuration {}: drivers.{} is not an object", file, driver);
        for (const auto& [name, setting] : given.items())
          config.driver_options[driver].push_back({name, text(setting, file, "drivers." + driver + "." + name)});
      }
      continue;
    }
    bool known = false;
    for (const auto& [name, into] : members)
      if (key == name) *into = text(value, file, key), known = true;
    if (!known) fail(errc::invalid, "configuration {}: unknown member \"{}\"", file, key);
  }
}

/// The directory of the running program, and of its helpers: one and the same in a build tree; PREFIX/bin and
/// PREFIX/libexec/kit (or as configured) once installed. There all programs are called kit-something.
void find_programs(engine_config& config) {
  std::error_code none;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", none);
  if (none) fail(errc::not_found, "read /proc/self/exe: {}; is /proc mounted?", none.message());
  const std::filesystem::path here = self.parent_path();
  const std::filesystem::path beside = here / "kit-monitor";
  const bool together = ::access(beside.c_str(), X_OK) == 0 && ::access((here / "kit").c_str(), X_OK) == 0;
  const bool in_libexec = self.filename().native().starts_with("kit-");
  const auto other = [&](const char* relative) { return (here / relative).lexically_normal().string(); };
  config.libexec = together || in_libexec ? here.string() : other(KIT_LIBEXEC_FROM_BIN);
  config.program = together ? (here / "kit").string() : in_libexec ? other(KIT_PROGRAM_FROM_LIBEXEC) : self.string();
}

std::string absolute(const std::string& path) { return std::filesystem::absolute(path).lexically_normal().string(); }

/// One name for one directory, whatever links lead to it: a monitor comes back by this name.
std::string resolved(const std::string& path) {
  std::error_code failed;
  const auto found = std::filesystem::weakly_canonical(std::filesystem::absolute(path), failed);
  return failed ? absolute(path) : found.string();
}

}  // namespace

engine_config configure(const global_options& options) {
  engine_config config;
  find_programs(config);

  std::string file = options.config_file.empty() ? environment("KIT_CONFIG") : options.config_file;
  const bool named = !file.empty();
  if (!named) file = default_file;
  if (named || ::access(file.c_str(), F_OK) == 0) apply_file(config, file, read_file(file));

  const auto choose = [](std::string& into, const std::string& option, const char* variable) {
    if (!option.empty())
      into = option;
    else if (std::string value = environment(variable); !value.empty())
      into = value;
    into = resolved(into);
  };
  choose(config.root, options.root, "KIT_ROOT");
  choose(config.run_dir, options.run_dir, "KIT_RUN_DIR");
  if (named) ::setenv("KIT_CONFIG", absolute(file).c_str(), 1);
  ::setenv("KIT_ROOT", config.root.c_str(), 1);
  ::setenv("KIT_RUN_DIR", config.run_dir.c_str(), 1);
  return config;
}

// ---- kit config ------------------------------------------------------------------------------------------

namespace {

/// Every member and its value, as it counts for this call: the file's, or what stands above or below it.
std::vector<option> settings(engine_config config) {
  std::vector<option> all;
  for (const auto& [name, value] : members_of(config)) all.push_back({name, *value});
  for (const auto& [driver, options] : config.driver_options)
    for (const option& o : options) all.push_back({fmt::format("drivers.{}.{}", driver, o.key), o.value});
  return all;
}

/// "drivers.NAME.OPTION" in its parts; empty if it is no such key.
std::pair<std::string, std::string> driver_option(const std::string& key) {
  constexpr std::string_view prefix = "drivers.";
  const auto dot = key.find('.', prefix.size());
  if (!key.starts_with(prefix) || dot == key.npos || dot == prefix.size() || dot + 1 == key.size()) return {};
  return {key.substr(prefix.size(), dot - prefix.size()), key.substr(dot + 1)};
}

[[noreturn]] void refuse_key(const std::string& key) {
  engine_config none;
  std::string known;
  for (const auto& [name, value] : members_of(none)) known += std::string(name) + ", ";
  fail(errc::invalid, "no such setting: {}; there is {}drivers.DRIVER.OPTION", key, known);
}

/// Throws, with what helps, unless the setting could be used at once.
void try_setting(const engine_config& changed, const std::string& key, const std::string& value) {
  if (key == "root" || key == "run-dir") {
    if (!value.starts_with('/')) fail(errc::invalid, "set {} to \"{}\": the path must be absolute", key, value);
    return;
  }
  kit::engine trial(changed);
  const auto usable = [&](const probe_report& report) {
    if (!report.usable)
      fail(errc::unsupported, "set {} to {}: it does not work here: {}; {}", key, value, report.reason, report.remedy);
  };
  if (key == "storage") usable(trial.storage(value).probe());
  if (key == "isolation") usable(trial.isolation(value).probe());
  if (key == "network") (void)find_network(trial, value);
  const auto [driver, name] = driver_option(key);
  if (driver.empty()) return;
  bool known = false;
  for (const plugin_info& p : list_plugins())
    if (p.name == driver) {
      known = true;
      if (p.kind == family::storage) (void)trial.storage(driver);
      if (p.kind == family::network) (void)trial.network(driver);
      if (p.kind == family::isolation) (void)trial.isolation(driver);
    }
  if (!known) fail(errc::not_found, "no such driver: {}; `kit driver ls` lists those there are", driver);
}

std::string file_of_configuration() {
  const std::string named = environment("KIT_CONFIG");
  return named.empty() ? default_file : named;
}

}  // namespace

int config_ls(invocation& call) {
  options(call.command(), "", "List the settings that hold for this call: from the options, the environment, the file.")
      .example("kit config ls")
      .parse(call.words);
  for (const option& o : settings(call.config)) fmt::print("{}={}\n", o.key, o.value);
  return 0;
}

int config_get(invocation& call) {
  const arguments words = options(call.command(), "KEY", "Print one setting.")
                              .takes(1, 1)
                              .example("kit config get storage")
                              .parse(call.words);
  for (const option& o : settings(call.config))
    if (o.key == words[0]) {
      fmt::print("{}\n", o.value);
      return 0;
    }
  if (driver_option(words[0]).first.empty()) refuse_key(words[0]);
  fail(errc::not_found, "{} is not set; `kit driver probe` tells a driver's options and their defaults", words[0]);
}

int config_set(invocation& call) {
  const arguments words =
      options(
          call.command(), "KEY VALUE",
          "Write one setting to the configuration file (--config, KIT_CONFIG, /etc/kit/kit.json), after a try whether\n"
          "it works here. It is for containers made from now on: those that are keep their drivers, and images are\n"
          "unpacked for another storage driver when they are first used with it.")
          .takes(2, 2)
          .example("kit config set storage overlayfs")
          .example("kit config set drivers.overlayfs.volatile true")
          .parse(call.words);
  const std::string &key = words[0], &value = words[1], file = file_of_configuration();
  const auto [driver, name] = driver_option(key);
  engine_config fresh = call.config;
  bool known = !driver.empty();
  for (const auto& [member, into] : members_of(fresh)) known = known || key == member;
  if (!known) refuse_key(key);

  const std::string directory = std::filesystem::path(file).parent_path();
  make_directories(directory);
  const file_lock alone = file_lock::wait_directory(directory);
  nlohmann::ordered_json document = nlohmann::ordered_json::object();
  if (::access(file.c_str(), F_OK) == 0) {
    document = nlohmann::ordered_json::parse(read_file(file), nullptr, false);
    if (!document.is_object()) fail(errc::invalid, "configuration {}: not a JSON object", file);
  }
  if (driver.empty())
    document[key] = value;
  else
    document["drivers"][driver][name] = value;
  const std::string text = document.dump(2) + "\n";
  fresh.driver_options.clear();
  apply_file(fresh, file, text);
  if (key != "root") fresh.root = call.config.root;
  if (key != "run-dir") fresh.run_dir = call.config.run_dir;
  try_setting(fresh, key, value);
  replace_file(file, text, 0644, true);
  return 0;
}

}  // namespace kit::cli
