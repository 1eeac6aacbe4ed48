// SPDX-License-Identifier: Apache-2.0
#include "config.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kit/system/fd.hpp"

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

void apply_file(engine_config& config, const std::string& file, const std::string& content) {
  nlohmann::json document = nlohmann::json::parse(content, nullptr, false);
  if (!document.is_object()) fail(errc::invalid, "configuration {}: not a JSON object", file);
  const std::pair<const char*, std::string*> members[] = {
      {"root", &config.root},       {"run-dir", &config.run_dir},     {"storage", &config.storage},
      {"network", &config.network}, {"isolation", &config.isolation}, {"subnet", &config.default_subnet}};
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

}  // namespace kit::cli
