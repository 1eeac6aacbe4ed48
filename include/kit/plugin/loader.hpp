// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "kit/isolation/any_isolation.hpp"
#include "kit/network/any_network.hpp"
#include "kit/plugin/family.hpp"
#include "kit/storage/any_storage.hpp"

/// \file
/// Finding and loading drivers. A plugin is a file kit-<family>-<name>.so in one of
///
///   1. the directories of $KIT_PLUGIN_PATH, separated by colons,
///   2. the directory of the running program (a kit in its build tree has its plugins there),
///   3. the plugin directory as installed: seen from the program, then as configured.
///
/// The first file of that name is the plugin; if it is refused, no later one is tried. A loaded plugin
/// stays loaded until the process ends.

namespace kit {

/// A plugin that passed every check of the table in abi.h but the last, its own veto. A handle: copies
/// refer to one plugin.
class plugin {
 public:
  [[nodiscard]] family kind() const noexcept { return static_cast<family>(descriptor_->family); }
  [[nodiscard]] std::string_view name() const noexcept { return descriptor_->name; }
  [[nodiscard]] std::string_view version() const noexcept { return text(descriptor_->version); }
  [[nodiscard]] std::string_view licence() const noexcept { return text(descriptor_->licence); }
  [[nodiscard]] std::string_view compiler() const noexcept { return text(descriptor_->compiler); }
  /// The minor version of the ABI it was built with.
  [[nodiscard]] unsigned abi_minor() const noexcept { return descriptor_->minor; }
  /// The file, by its real path.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// The options it takes.
  [[nodiscard]] std::vector<option_schema> options() const;

  /// The driver within. Throws what the plugin's own veto says; invalid for an option it does not take,
  /// naming those it does, or if its kind() is another.
  [[nodiscard]] any_storage open_storage(const driver_config& config) const;
  [[nodiscard]] any_network open_network(const driver_config& config) const;
  [[nodiscard]] any_isolation open_isolation(const driver_config& config) const;

 private:
  friend plugin load_plugin_file(const std::string& path);
  plugin(std::string path, const kit_plugin* descriptor) noexcept : path_(std::move(path)), descriptor_(descriptor) {}
  static std::string_view text(const char* s) noexcept { return s != nullptr ? s : ""; }
  void* open(family wanted, const driver_config& config) const;

  std::string path_;
  const kit_plugin* descriptor_;
};

/// Searches and loads. Throws not_found naming the drivers there are; else as load_plugin_file.
plugin load_plugin(family kind, std::string_view name);
/// Loads the file, whose name says family and driver. Loading it again costs a look into a table. Throws what the table
/// in abi.h says, naming the file. What may be trusted is a regular file (not a symbolic link) which only root, the
/// caller, or whoever can replace the running program can change, and so for each directory of its real path; sticky
/// directories like /tmp do.
plugin load_plugin_file(const std::string& path);

/// The driver `name`, from a plugin: load_plugin and open.
any_storage open_storage(std::string_view name, const driver_config& config);
any_network open_network(std::string_view name, const driver_config& config);
any_isolation open_isolation(std::string_view name, const driver_config& config);

/// One file that load_plugin could find.
struct plugin_info {
  family kind;
  std::string name;
  std::string path;
  std::string version, licence, compiler;  ///< empty if it is refused
  std::string refused;                     ///< why it cannot be loaded; empty if it can
};

/// Every plugin that can be found, by family and name; loads them all, the refused ones too.
std::vector<plugin_info> list_plugins();
/// Where load_plugin looks, in order; some may not exist.
std::vector<std::string> plugin_directories();

}  // namespace kit
