// SPDX-License-Identifier: Apache-2.0
#include "kit/plugin/loader.hpp"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/dll/shared_library.hpp>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>

namespace kit {
namespace {

namespace fs = std::filesystem;

// ---- names -------------------------------------------------------------------------------------

struct file_name {
  family kind;
  std::string name;
};

std::string file_name_of(family kind, std::string_view name) {
  return fmt::format("kit-{}-{}.so", to_string(kind), name);
}

// What kit-<family>-<name>.so says; nothing for any other name.
std::optional<file_name> parse(std::string_view file) {
  for (family kind : families) {
    const std::string prefix = fmt::format("kit-{}-", to_string(kind));
    if (!file.starts_with(prefix) || !file.ends_with(".so")) continue;
    std::string_view name = file.substr(prefix.size(), file.size() - std::min(file.size(), prefix.size() + 3));
    if (valid_driver_name(name)) return file_name{kind, std::string(name)};
  }
  return std::nullopt;
}

std::string program() {
  char path[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  return size > 0 ? std::string(path, static_cast<std::size_t>(size)) : std::string();
}

// ---- 1. who may have written it ----------------------------------------------------------------

// Those who could as well replace the program that asks.
struct trusted {
  uid_t caller = ::geteuid();
  uid_t program_owner = 0;
  std::optional<gid_t> program_group;
  trusted() {
    struct stat st {};
    if (::stat("/proc/self/exe", &st) != 0) return;
    program_owner = st.st_uid;
    if ((st.st_mode & S_IWGRP) != 0) program_group = st.st_gid;
  }
  // What is wrong with `st`, or "".
  [[nodiscard]] std::string objection(const struct stat& st) const {
    if (st.st_uid != 0 && st.st_uid != caller && st.st_uid != program_owner)
      return fmt::format("belongs to user {}, neither root nor the caller: chown it", st.st_uid);
    const bool sticky = S_ISDIR(st.st_mode) && (st.st_mode & S_ISVTX) != 0;
    if ((st.st_mode & S_IWOTH) != 0 && !sticky) return "is writable by others: chmod o-w";
    if ((st.st_mode & S_IWGRP) != 0 && !sticky && st.st_gid != program_group)
      return fmt::format("is writable by group {}: chmod g-w", st.st_gid);
    return "";
  }
};

// Throws unless only the trusted can change `path` (absolute, without symbolic links) or swap it for another.
void check_file(const std::string& path) {
  const trusted who;
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) fail_errno(errno, "load plugin {}", path);
  if (!S_ISREG(st.st_mode))
    fail(errc::permission, "load plugin {}: not a regular file: put the plugin itself there", path);
  std::string checked = path;
  for (;;) {
    if (std::string why = who.objection(st); !why.empty())
      fail(errc::permission, "load plugin {}: {} {}", path, checked, why);
    if (checked == "/") return;
    checked = fs::path(checked).parent_path();
    if (::lstat(checked.c_str(), &st) != 0) fail_errno(errno, "load plugin {}: {}", path, checked);
  }
}

// ---- 2. into the process -----------------------------------------------------------------------

// The descriptor in `path`. What is loaded stays: a plugin with a static libstdc++ leaks at dlclose, and its code may
// be on any stack.
const kit_plugin* open_file(const std::string& path) {
  static std::mutex mutex;
  static auto& loaded = *new std::map<std::string, boost::dll::shared_library>;
  const std::lock_guard lock(mutex);
  auto [found, fresh] = loaded.try_emplace(path);
  boost::dll::shared_library& file = found->second;
  if (fresh) {
    namespace load_mode = boost::dll::load_mode;
    std::error_code ec;
    file.load(path, load_mode::rtld_now | load_mode::rtld_local, ec);
    if (ec) {
      const char* why = ::dlerror();
      std::string text = why != nullptr ? why : ec.message();
      loaded.erase(found);
      fail(errc::invalid, "load plugin {}: {}", path, text);
    }
  }
  if (!file.has(KIT_PLUGIN_SYMBOL_NAME))
    fail(errc::invalid, "load plugin {}: no symbol {}: this is no kit plugin", path, KIT_PLUGIN_SYMBOL_NAME);
  return &file.get<const kit_plugin>(KIT_PLUGIN_SYMBOL_NAME);
}

// ---- 3. what it says of itself -----------------------------------------------------------------

std::size_t base_size(std::uint32_t kind) {
  switch (kind) {
    case KIT_FAMILY_STORAGE: return KIT_STORAGE_BASE_SIZE;
    case KIT_FAMILY_NETWORK: return KIT_NETWORK_BASE_SIZE;
    case KIT_FAMILY_ISOLATION: return KIT_ISOLATION_BASE_SIZE;
    default: return 0;
  }
}

// A table is its size and then functions.
bool functions_present(const void* table, std::size_t size) {
  using function = void (*)();
  for (std::size_t at = sizeof(std::size_t); at + sizeof(function) <= size; at += sizeof(function)) {
    function f = nullptr;
    std::memcpy(&f, static_cast<const char*>(table) + at, sizeof f);
    if (f == nullptr) return false;
  }
  return true;
}

// The table in abi.h, row by row.
void check_descriptor(const kit_plugin& p, const file_name& file, const std::string& path) {
  if (p.magic != KIT_ABI_MAGIC)
    fail(errc::invalid, "load plugin {}: magic {:#x} is not {:#x}: this is no kit plugin", path, p.magic,
         KIT_ABI_MAGIC);
  if (p.major != KIT_ABI_MAJOR)
    fail(errc::unsupported,
         "load plugin {}: it speaks major version {} of the plugin interface, this kit {}: rebuild it", path, p.major,
         KIT_ABI_MAJOR);
  if (!KIT_HAS(&p, table) || p.table == nullptr)
    fail(errc::unsupported, "load plugin {}: its descriptor of {} bytes is too short: rebuild it", path, p.size);
  std::size_t table_size = 0;
  std::memcpy(&table_size, p.table, sizeof table_size);
  const std::size_t base = base_size(p.family);
  if (table_size < base)
    fail(errc::unsupported, "load plugin {}: its table of {} bytes lacks functions of the base ({} bytes): rebuild it",
         path, table_size, base);
  if (!functions_present(p.table, base) || p.open == nullptr || p.close == nullptr || p.probe == nullptr ||
      p.schema == nullptr)
    fail(errc::unsupported, "load plugin {}: a function of its base is NULL: define them all", path);
  if (p.family != static_cast<std::uint32_t>(file.kind))
    fail(errc::invalid, "load plugin {}: its family is {}, not {}: rename the file", path,
         base != 0 ? to_string(static_cast<family>(p.family)) : "unknown", to_string(file.kind));
  if (p.name == nullptr || p.name != file.name)
    fail(errc::invalid, "load plugin {}: it carries driver \"{}\", not {}: rename the file", path,
         p.name != nullptr ? p.name : "", file.name);
}

// ---- searching ---------------------------------------------------------------------------------

std::vector<file_name> plugins_in(const std::string& directory) {
  std::vector<file_name> found;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(directory, ec))
    if (auto file = parse(entry.path().filename().native())) found.push_back(*file);
  return found;
}

template <class List, class Word>
std::string join(const List& list, Word word) {
  std::string text;
  for (const auto& element : list) {
    if (std::string_view w = word(element); !w.empty()) (text += text.empty() ? "" : ", ") += w;
  }
  return text.empty() ? "none" : text;
}

}  // namespace

std::vector<std::string> plugin_directories() {
  std::vector<std::string> directories;
  if (const char* path = ::secure_getenv("KIT_PLUGIN_PATH")) {
    for (std::string_view rest = path; !rest.empty();) {
      const std::size_t colon = std::min(rest.find(':'), rest.size());
      if (colon != 0) directories.emplace_back(rest.substr(0, colon));
      rest.remove_prefix(std::min(colon + 1, rest.size()));
    }
  }
  if (const fs::path beside = fs::path(program()).parent_path(); !beside.empty()) {
    directories.push_back(beside);
    directories.push_back((beside / KIT_PLUGIN_DIR_FROM_PROGRAM).lexically_normal());
  }
  directories.emplace_back(KIT_INSTALLED_PLUGIN_DIR);
  return directories;
}

plugin load_plugin_file(const std::string& path) {
  std::error_code ec;
  const fs::path directory = fs::canonical(fs::absolute(path).parent_path(), ec);
  if (ec) fail_errno(ec.value(), "load plugin {}", path);
  const std::string real = directory / fs::path(path).filename();
  check_file(real);
  const std::string name = fs::path(real).filename();
  const auto file = parse(name);
  if (!file)
    fail(errc::invalid,
         "load plugin {}: a plugin is named kit-FAMILY-NAME.so, with storage, network or isolation for FAMILY", real);
  const kit_plugin* descriptor = open_file(real);
  check_descriptor(*descriptor, *file, real);
  return {real, descriptor};
}

plugin load_plugin(family kind, std::string_view name) {
  const std::string file = file_name_of(kind, name);
  if (valid_driver_name(name))
    for (const std::string& directory : plugin_directories())
      if (std::string path = fs::path(directory) / file; ::access(path.c_str(), F_OK) == 0)
        return load_plugin_file(path);
  fail(errc::not_found, "no {} driver \"{}\": there is {}; looked for {} in {}", to_string(kind), name,
       join(list_plugins(), [&](const plugin_info& p) { return p.kind == kind ? std::string_view(p.name) : ""; }), file,
       join(plugin_directories(), [](const std::string& d) { return std::string_view(d); }));
}

std::vector<plugin_info> list_plugins() {
  std::vector<plugin_info> list;
  for (const std::string& directory : plugin_directories()) {
    for (const file_name& file : plugins_in(directory)) {
      const bool shadowed = std::any_of(
          list.begin(), list.end(), [&](const plugin_info& p) { return p.kind == file.kind && p.name == file.name; });
      if (shadowed) continue;
      plugin_info info{
          file.kind, std::string(file.name), fs::path(directory) / file_name_of(file.kind, file.name), {}, {}, {}, {}};
      try {
        const plugin p = load_plugin_file(info.path);
        info.version = p.version();
        info.licence = p.licence();
        info.compiler = p.compiler();
      } catch (const error& e) {
        info.refused = e.what();
      }
      list.push_back(std::move(info));
    }
  }
  std::sort(list.begin(), list.end(), [](const plugin_info& a, const plugin_info& b) {
    return a.kind != b.kind ? a.kind < b.kind : a.name < b.name;
  });
  return list;
}

std::vector<option_schema> plugin::options() const {
  std::vector<option_schema> options;
  detail::call c(name(), "schema");
  auto sink = c.each<kit_option_schema>([&](const kit_option_schema& o) {
    option_schema copy{detail::text(o.key), option_schema::type::text, detail::text(o.default_value),
                       detail::text(o.help)};
    if (o.type != 0) copy.kind = detail::known_enum(o.type, option_schema::type::path, "an option's type");
    options.push_back(std::move(copy));
  });
  c.check(descriptor_->schema(c, sink));
  return options;
}

void* plugin::open(family wanted, const driver_config& config) const {
  if (kind() != wanted)
    fail(errc::invalid, "open {}: this is a {} driver, not one for {}", path_, to_string(kind()), to_string(wanted));
  if (!config.options.empty()) {
    const auto known = options();
    for (const option& o : config.options)
      if (std::none_of(known.begin(), known.end(), [&](const option_schema& s) { return s.key == o.key; }))
        fail(errc::invalid, "{} driver {} has no option \"{}\": it has {}", to_string(wanted), name(), o.key,
             join(known, [](const option_schema& s) { return std::string_view(s.key); }));
  }
  detail::call c(name(), "open");
  const kit_config raw = detail::to_abi(config, c.memory);
  void* self = nullptr;
  c.check(descriptor_->open(c, &raw, &self));
  return self;
}

any_storage plugin::open_storage(const driver_config& config) const {
  return {*descriptor_, open(family::storage, config)};
}
any_network plugin::open_network(const driver_config& config) const {
  return {*descriptor_, open(family::network, config)};
}
any_isolation plugin::open_isolation(const driver_config& config) const {
  return {*descriptor_, open(family::isolation, config)};
}

}  // namespace kit
