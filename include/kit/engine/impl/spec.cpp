// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/spec.hpp"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "kit/id.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit {

// NLOHMANN's hooks, found by argument-dependent lookup.
static void to_json(nlohmann::json& j, const option& o) { j = {o.key, o.value}; }
static void from_json(const nlohmann::json& j, option& o) { o = {j.at(0), j.at(1)}; }
static void to_json(nlohmann::json& j, const resource_limit& l) { j = {l.type, l.soft, l.hard}; }
static void from_json(const nlohmann::json& j, resource_limit& l) { l = {j.at(0), j.at(1), j.at(2)}; }
static void to_json(nlohmann::json& j, const mount_request& m) {
  j = {{"source", m.source}, {"target", m.target}, {"options", m.options}};
  if (m.what == mount_request::kind::volume) j["type"] = "volume";
  if (m.anonymous) j["anonymous"] = true;
  if (m.must_exist) j["must_exist"] = true;
}
static void from_json(const nlohmann::json& j, mount_request& m) {
  m = {j.value("type", "bind") == "volume" ? mount_request::kind::volume : mount_request::kind::bind,
       j.at("source"),
       j.at("target"),
       j.at("options").get<std::vector<std::string>>(),
       j.value("anonymous", false),
       j.value("must_exist", false)};
}

namespace {

/// Calls visit("name", member) for every member of a spec: the one list both directions use.
template <class Spec, class Visit>
void each_member(Spec& s, Visit visit) {
  visit("image", s.image);
  visit("name", s.name);
  visit("command", s.command);
  visit("env", s.env);
  visit("labels", s.labels);
  visit("volumes", s.mounts);
  visit("volumes_from", s.volumes_from);
  visit("tmpfs", s.tmpfs);
  visit("workdir", s.workdir);
  visit("user", s.user);
  visit("hostname", s.hostname);
  visit("domainname", s.domainname);
  visit("group_add", s.group_add);
  visit("add_hosts", s.add_hosts);
  visit("dns", s.dns);
  visit("dns_search", s.dns_search);
  visit("dns_options", s.dns_options);
  visit("devices", s.devices);
  visit("ulimits", s.ulimits);
  visit("sysctls", s.sysctls);
  visit("pid_mode", s.pid_mode);
  visit("ipc_mode", s.ipc_mode);
  visit("uts_mode", s.uts_mode);
  visit("cgroupns_mode", s.cgroupns_mode);
  visit("stop_timeout", s.stop_timeout);
  visit("stop_signal", s.stop_signal);
  visit("network", s.network);
  visit("ip", s.ip);
  visit("ip6", s.ip6);
  visit("mac_address", s.mac_address);
  visit("storage", s.storage);
  visit("storage_options", s.storage_options);
  visit("isolation", s.isolation);
  visit("cap_add", s.cap_add);
  visit("cap_drop", s.cap_drop);
  visit("memory", s.memory);
  visit("shm_size", s.shm_size);
  visit("cpus", s.cpus);
  visit("pids_limit", s.pids_limit);
  visit("memory_swap", s.memory_swap);
  visit("memory_reservation", s.memory_reservation);
  visit("memory_swappiness", s.memory_swappiness);
  visit("cpu_shares", s.cpu_shares);
  visit("cpu_period", s.cpu_period);
  visit("cpu_quota", s.cpu_quota);
  visit("cpuset_cpus", s.cpuset_cpus);
  visit("cpuset_mems", s.cpuset_mems);
  visit("blkio_weight", s.blkio_weight);
  visit("oom_score_adj", s.oom_score_adj);
  visit("oom_kill_disable", s.oom_kill_disable);
  visit("no_new_privileges", s.no_new_privileges);
  visit("seccomp_unconfined", s.seccomp_unconfined);
  visit("log_driver", s.log_driver);
  visit("log_options", s.log_options);
  visit("restart", s.restart);
  visit("interactive", s.interactive);
  visit("tty", s.tty);
  visit("detach", s.detach);
  visit("auto_remove", s.auto_remove);
  visit("read_only", s.read_only);
  visit("init", s.init);
  visit("privileged", s.privileged);
}

}  // namespace

std::string to_json(const container_spec& spec) {
  nlohmann::json j;
  each_member(spec, [&](const char* name, const auto& member) {
    if (member != std::remove_cvref_t<decltype(member)>{}) j[name] = member;
  });
  // Zero is something to ask for, and -1 is what nobody asked.
  if (spec.stop_timeout >= 0) j["stop_timeout"] = spec.stop_timeout;
  if (spec.memory_swappiness >= 0) j["memory_swappiness"] = spec.memory_swappiness;
  if (spec.entrypoint) j["entrypoint"] = *spec.entrypoint;
  try {
    return j.dump();
  } catch (const nlohmann::json::exception&) {
    fail(errc::invalid, "an option or argument of the container is not valid UTF-8");
  }
}

container_spec spec_from_json(std::string_view json) {
  container_spec spec;
  try {
    const auto j = nlohmann::json::parse(json).get<nlohmann::json::object_t>();
    each_member(spec, [&](const char* name, auto& member) {
      if (auto at = j.find(name); at != j.end()) at->second.get_to(member);
    });
    if (auto at = j.find("entrypoint"); at != j.end()) spec.entrypoint = at->second.get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception& e) {
    fail(errc::invalid, "read the container's specification in the records: {}", e.what());
  }
  return spec;
}

bool mount_request::has(std::string_view option) const {
  return std::find(options.begin(), options.end(), option) != options.end();
}

namespace {

std::vector<std::string> split(std::string_view text, char by) {
  std::vector<std::string> parts;
  for (std::size_t at = 0;;) {
    const auto end = text.find(by, at);
    parts.emplace_back(text.substr(at, end - at));
    if (end == std::string_view::npos) return parts;
    at = end + 1;
  }
}

constexpr std::string_view propagations[] = {"shared", "rshared", "slave", "rslave", "private", "rprivate"};

bool is_propagation(std::string_view word) {
  return std::find(std::begin(propagations), std::end(propagations), word) != std::end(propagations);
}

/// "/a/./b/" is "/a/b". `what` is the option as it was given.
std::string clean_target(std::string_view what, const std::string& path) {
  if (path.empty() || path[0] != '/')
    fail(errc::invalid, "invalid mount '{}': the path in the container, '{}', must be absolute", what, path);
  std::string clean = std::filesystem::path(path).lexically_normal().string();
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  if (clean == "/") fail(errc::invalid, "invalid mount '{}': the path in the container can't be '/'", what);
  return clean;
}

}  // namespace

void check_name(std::string_view kind, std::string_view name, std::size_t most, std::string_view advice) {
  const auto alphanumeric = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  bool good = name.size() >= 2 && name.size() <= most && alphanumeric(name[0]);
  for (char c : name) good = good && (alphanumeric(c) || c == '_' || c == '.' || c == '-');
  if (!good)
    fail(errc::invalid, "invalid {} name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, 2 to {} of them{}", kind,
         name, most, advice);
}

void check_volume_name(std::string_view name) {
  check_name("volume", name, 255, "; for a host directory, use an absolute path");
}

mount_request parse_volume(std::string_view text) {
  std::vector<std::string> parts = split(text, ':');
  if (parts.size() > 3)
    fail(errc::invalid, "invalid volume specification: '{}': write it as [HOST-PATH|NAME:]CONTAINER[:OPTIONS]", text);
  mount_request m;
  if (parts.size() == 1) {
    m.what = mount_request::kind::volume;
    m.target = clean_target(text, parts[0]);
    return m;
  }
  m.source = parts[0];
  m.target = clean_target(text, parts[1]);
  if (m.source.empty() || m.source[0] != '/') {
    m.what = mount_request::kind::volume;
    check_volume_name(m.source);
  }
  if (parts.size() == 3)
    for (const std::string& word : split(parts[2], ',')) {
      // Labels are a security module's, consistency is another system's: there is nothing to do for either.
      if (word == "z" || word == "Z" || word == "cached" || word == "delegated" || word == "consistent") continue;
      const bool of_volume = word == "nocopy" && m.what == mount_request::kind::volume;
      const bool of_bind = is_propagation(word) && m.what == mount_request::kind::bind;
      if (word != "ro" && word != "rw" && !of_volume && !of_bind)
        fail(errc::invalid, "invalid volume specification: '{}': invalid mode: {}", text, word);
      m.options.push_back(word);
    }
  return m;
}

option parse_tmpfs(std::string_view text) {
  const auto colon = text.find(':');
  option t{clean_target(text, std::string(text.substr(0, colon))),
           colon == std::string_view::npos ? "" : std::string(text.substr(colon + 1))};
  static constexpr std::string_view flags[] = {
      "ro",    "rw",    "suid",    "nosuid",   "dev",        "nodev",       "exec",     "noexec",     "sync",
      "async", "atime", "noatime", "relatime", "norelatime", "strictatime", "diratime", "nodiratime", "nostrictatime"};
  static constexpr std::string_view keys[] = {"size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"};
  const auto among = [](const auto& list, std::string_view word) {
    return std::find(std::begin(list), std::end(list), word) != std::end(list);
  };
  if (!t.value.empty())
    for (const std::string& word : split(t.value, ',')) {
      const auto equals = word.find('=');
      if (equals == word.npos ? !among(flags, word) : !among(keys, word.substr(0, equals)))
        fail(errc::invalid, "invalid tmpfs '{}': invalid option '{}'", text, word);
    }
  return t;
}

void parse_mount(std::string_view text, container_spec& to) {
  const auto refuse = [&](std::string_view why) { fail(errc::invalid, "invalid mount '{}': {}", text, why); };
  const auto boolean = [&](const std::string& key, const std::string& value) {
    if (value.empty() || value == "true" || value == "1") return true;
    if (value != "false" && value != "0") refuse(fmt::format("invalid value for {}: {}", key, value));
    return false;
  };
  std::string type = "volume", source, target, tmpfs;
  mount_request m;
  bool bind_option = false, volume_option = false;
  for (const std::string& field : split(text, ',')) {
    const auto equals = field.find('=');
    std::string key = field.substr(0, equals);
    const std::string value = equals == field.npos ? "" : field.substr(equals + 1);
    for (char& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (key == "readonly" || key == "ro") {
      if (boolean(key, value)) m.options.emplace_back("ro");
      continue;
    }
    if (key == "volume-nocopy") {
      if (boolean(key, value)) m.options.emplace_back("nocopy");
      volume_option = true;
      continue;
    }
    if (equals == field.npos) refuse(fmt::format("invalid field '{}' must be a key=value pair", field));
    if (key == "type") {
      type = value;
    } else if (key == "source" || key == "src") {
      source = value;
    } else if (key == "target" || key == "dst" || key == "destination") {
      target = value;
    } else if (key == "bind-propagation") {
      if (!is_propagation(value)) refuse(fmt::format("invalid propagation: {}", value));
      m.options.push_back(value);
      bind_option = true;
    } else if (key == "tmpfs-size") {
      tmpfs += fmt::format("{}size={}", tmpfs.empty() ? "" : ",", parse_size(value));
    } else if (key == "tmpfs-mode") {
      if (value.empty() || value.find_first_not_of("01234567") != value.npos)
        refuse(fmt::format("invalid value for {}: {}", key, value));
      tmpfs += fmt::format("{}mode={}", tmpfs.empty() ? "" : ",", value);
    } else if (key != "consistency") {
      refuse(fmt::format("unexpected key '{}' in '{}'", key, field));
    }
  }
  if (type != "bind" && type != "volume" && type != "tmpfs")
    refuse(fmt::format("mount type unknown: {}; there are bind, volume and tmpfs", type));
  if (target.empty()) refuse("target is required");
  m.target = clean_target(text, target);
  m.source = source;
  if (!tmpfs.empty() && type != "tmpfs") refuse(fmt::format("cannot mix tmpfs options with mount type '{}'", type));
  if (bind_option && type != "bind") refuse(fmt::format("cannot mix bind options with mount type '{}'", type));
  if (volume_option && type != "volume") refuse(fmt::format("cannot mix volume options with mount type '{}'", type));
  if (type == "tmpfs") {
    if (!source.empty()) refuse("a tmpfs has no source");
    if (m.has("ro")) tmpfs += tmpfs.empty() ? "ro" : ",ro";
    to.tmpfs.push_back({m.target, tmpfs});
    return;
  }
  if (type == "bind") {
    if (source.empty()) refuse("source must not be empty");
    if (source[0] != '/') refuse(fmt::format("invalid mount path: '{}' mount path must be absolute", source));
    m.must_exist = true;
  } else {
    m.what = mount_request::kind::volume;
    if (!source.empty()) check_volume_name(source);
  }
  to.mounts.push_back(std::move(m));
}

namespace {
template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}
}  // namespace

resource_limit parse_ulimit(std::string_view text) {
  static constexpr std::string_view known[] = {"core",    "cpu",      "data",   "fsize",      "locks",
                                               "memlock", "msgqueue", "nice",   "nofile",     "nproc",
                                               "rss",     "rtprio",   "rttime", "sigpending", "stack"};
  const auto equals = text.find('=');
  if (equals == text.npos) fail(errc::invalid, "invalid ulimit argument: {}", text);
  const std::string_view name = text.substr(0, equals);
  if (std::find(std::begin(known), std::end(known), name) == std::end(known))
    fail(errc::invalid, "invalid ulimit type: {}", name);
  const auto limit = [&](const std::string& word) -> std::uint64_t {
    if (word == "-1" || word == "unlimited") return std::numeric_limits<std::uint64_t>::max();
    const auto value = number<std::uint64_t>(word);
    if (!value) fail(errc::invalid, "invalid ulimit argument: {}: '{}' is no number", text, word);
    return *value;
  };
  const auto values = split(text.substr(equals + 1), ':');
  if (values.size() > 2)
    fail(errc::invalid, "too many limit value arguments - {}, can only have up to two, `soft[:hard]`", text);
  resource_limit l{"RLIMIT_", limit(values[0]), limit(values.back())};
  for (char c : name) l.type += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (l.soft > l.hard)
    fail(errc::invalid, "ulimit soft limit must be less than or equal to hard limit: {}", text.substr(equals + 1));
  return l;
}

option parse_sysctl(std::string_view text) {
  static constexpr std::string_view of_ipc[] = {"kernel.msgmax", "kernel.msgmnb",         "kernel.msgmni",
                                                "kernel.sem",    "kernel.shmall",         "kernel.shmmax",
                                                "kernel.shmmni", "kernel.shm_rmid_forced"};
  const auto equals = text.find('=');
  const std::string_view key = text.substr(0, equals);
  const bool known = std::find(std::begin(of_ipc), std::end(of_ipc), key) != std::end(of_ipc) ||
                     key.starts_with("net.") || key.starts_with("fs.mqueue.");
  if (equals == text.npos || !known) fail(errc::invalid, "sysctl '{}' is not whitelisted", text);
  return {std::string(key), std::string(text.substr(equals + 1))};
}

void check_address(std::string_view text) {
  unsigned char bytes[sizeof(in6_addr)];
  const std::string address(text);
  if (::inet_pton(AF_INET, address.c_str(), bytes) != 1 && ::inet_pton(AF_INET6, address.c_str(), bytes) != 1)
    fail(errc::invalid, "{} is not an ip address", text);
}

void check_mac_address(std::string_view text) {
  unsigned bytes[6];
  char rest = 0;
  const std::string address(text);
  const int found = std::sscanf(address.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x%c", &bytes[0], &bytes[1], &bytes[2],
                                &bytes[3], &bytes[4], &bytes[5], &rest);
  if (found != 6 || text.size() != 17 || (bytes[0] & 1) != 0)
    fail(errc::invalid, "{} is not a valid mac address: write it as 02:42:ac:11:00:02", text);
}

void check_host(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == text.npos || colon == 0) fail(errc::invalid, "bad format for add-host: \"{}\"", text);
  const std::string_view address = text.substr(colon + 1);
  if (address == "host-gateway") return;
  try {
    check_address(address);
  } catch (const error&) {
    fail(errc::invalid, "invalid IP address in add-host: \"{}\"", address);
  }
}

device_request parse_device(std::string_view text) {
  const auto is_access = [](const std::string& word) {
    return !word.empty() && word.size() <= 3 && word.find_first_not_of("rwm") == word.npos;
  };
  const auto parts = split(text, ':');
  device_request d{parts[0], parts[0], "rwm"};
  if (parts.size() > 3 || parts[0].empty() || parts[0][0] != '/')
    fail(errc::invalid, "invalid device specification: {}", text);
  if (parts.size() == 2 && is_access(parts[1]))
    d.access = parts[1];
  else if (parts.size() > 1)
    d.target = parts[1];
  if (parts.size() == 3) {
    if (!is_access(parts[2])) fail(errc::invalid, "bad mode specified: {}", parts[2]);
    d.access = parts[2];
  }
  d.target = clean_target(text, d.target);
  return d;
}

namespace {
/// "0-2,5": the processors of a cpuset(7) list.
std::vector<unsigned> cpu_list(std::string_view what, std::string_view text) {
  std::vector<unsigned> all;
  for (const std::string& part : split(text, ',')) {
    const auto ends = split(part, '-');
    const auto first = number<unsigned>(ends[0]), last = number<unsigned>(ends.back());
    if (ends.size() > 2 || !first || !last || *last < *first || *last > 8191)
      fail(errc::invalid, "invalid value {} for {}", text, what);
    for (unsigned n = *first; n <= *last; ++n) all.push_back(n);
  }
  return all;
}
void check_online(const char* what, const std::string& wanted, const char* file) {
  if (wanted.empty()) return;
  std::string there = read_file(file);
  while (there.ends_with('\n')) there.pop_back();
  const auto online = cpu_list(file, there);
  for (unsigned n : cpu_list(what, wanted))
    if (std::find(online.begin(), online.end(), n) == online.end())
      fail(errc::invalid, "requested {} are not available - requested {}, available: {}", what, wanted, there);
}
}  // namespace

void check_limits(const container_spec& s) {
  constexpr std::uint64_t least_memory = 6 << 20;
  if (s.memory > 0 && s.memory < least_memory) fail(errc::invalid, "minimum memory limit allowed is 6MB");
  if (s.memory > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max() / 2))
    fail(errc::invalid, "memory limit {} is beyond what a machine can have", s.memory);
  if (s.memory_swap > 0 && s.memory == 0)
    fail(errc::invalid, "you should always set the memory limit when using a memoryswap limit");
  if (s.memory_swap > 0 && static_cast<std::uint64_t>(s.memory_swap) < s.memory)
    fail(errc::invalid, "minimum memoryswap limit should be larger than memory limit");
  if (s.memory_reservation > 0 && s.memory_reservation < least_memory)
    fail(errc::invalid, "minimum memory reservation allowed is 6MB");
  if (s.memory > 0 && s.memory < s.memory_reservation)
    fail(errc::invalid, "minimum memory limit can not be less than memory reservation limit");
  if (s.memory_swappiness > 100)
    fail(errc::invalid, "invalid value: {}, valid memory swappiness range is 0-100", s.memory_swappiness);
  if (s.cpus != 0)
    if (const long n = ::sysconf(_SC_NPROCESSORS_ONLN); s.cpus < 0.01 || s.cpus > static_cast<double>(n))
      fail(errc::invalid, "range of CPUs is from 0.01 to {}.00, as there are only {} CPUs available", n, n);
  if (s.cpus != 0 && s.cpu_quota != 0)
    fail(errc::invalid, "conflicting options: --cpus and --cpu-quota cannot both be set");
  if (s.cpus != 0 && s.cpu_period != 0)
    fail(errc::invalid, "conflicting options: --cpus and --cpu-period cannot both be set");
  if (s.cpu_period != 0 && (s.cpu_period < 1000 || s.cpu_period > 1000000))
    fail(errc::invalid, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
  if (s.cpu_quota > 0 && s.cpu_quota < 1000) fail(errc::invalid, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
  if (s.cpu_shares != 0 && (s.cpu_shares < 2 || s.cpu_shares > 262144))
    fail(errc::invalid, "range of cpu shares is from 2 to 262144");
  if (s.blkio_weight != 0 && (s.blkio_weight < 10 || s.blkio_weight > 1000))
    fail(errc::invalid, "range of blkio weight is from 10 to 1000");
  if (s.oom_score_adj < -1000 || s.oom_score_adj > 1000)
    fail(errc::invalid, "invalid value {}, range for oom score adj is [-1000, 1000]", s.oom_score_adj);
  check_online("CPUs", s.cpuset_cpus, "/sys/devices/system/cpu/online");
  check_online("memory nodes", s.cpuset_mems, "/sys/devices/system/node/online");
}

void check_modes(const container_spec& s) {
  const auto check = [](const char* what, const std::string& mode, std::initializer_list<std::string_view> known) {
    if (mode.empty() || (mode.starts_with("container:") && mode.size() > 10)) return;
    if (std::find(known.begin(), known.end(), mode) == known.end())
      fail(errc::invalid, "{}: invalid mode: {}", what, mode);
  };
  check("--pid", s.pid_mode, {"host", "private"});
  check("--ipc", s.ipc_mode, {"host", "private", "shareable", "none"});
  check("--uts", s.uts_mode, {"host", "private"});
  if (!s.cgroupns_mode.empty() && s.cgroupns_mode != host_mode && s.cgroupns_mode != "private")
    fail(errc::invalid, "--cgroupns: invalid mode: {}", s.cgroupns_mode);
  const auto exclude = [](bool both, const char* what) {
    if (both) fail(errc::invalid, "conflicting options: {}", what);
  };
  const bool names = !s.hostname.empty() || !s.domainname.empty();
  exclude(names && !s.uts_mode.empty() && s.uts_mode != "private", "hostname and the UTS mode");
  if (!s.network.starts_with("container:")) return;
  exclude(names, "hostname and the network mode");
  exclude(!s.dns.empty() || !s.dns_search.empty() || !s.dns_options.empty(), "dns and the network mode");
  exclude(!s.add_hosts.empty(), "custom host-to-IP mapping and the network mode");
}

int parse_signal(std::string_view text) {
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos && text.size() < 4) {
    const int n = std::stoi(std::string(text));
    if (n >= 1 && n <= SIGRTMAX) return n;
  }
  std::string name(text);
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (int n = 1; n < NSIG; ++n)
    if (const char* known = ::sigabbrev_np(n); known != nullptr && name == known) return n;
  if (name.starts_with("RTMIN+") && name.size() < 9 && name.find_first_not_of("0123456789", 6) == std::string::npos)
    return SIGRTMIN + std::stoi(name.substr(6));
  fail(errc::invalid, "invalid signal: '{}': give a name (TERM, SIGHUP) or a number", text);
}

std::string draw_name(unsigned attempt) {
  static constexpr std::string_view adjectives[] = {
      "agile",  "amber",   "bold",   "brave",   "bright", "brisk",  "calm",    "candid", "clever", "cosmic", "curious",
      "daring", "deft",    "eager",  "early",   "fair",   "fleet",  "frank",   "gentle", "glad",   "golden", "happy",
      "hardy",  "honest",  "humble", "jolly",   "keen",   "kind",   "lively",  "loyal",  "lucid",  "merry",  "mighty",
      "modest", "nimble",  "noble",  "patient", "plucky", "proud",  "quick",   "quiet",  "ready",  "rustic", "serene",
      "sharp",  "silent",  "smart",  "snappy",  "solid",  "steady", "stoic",   "sunny",  "swift",  "tidy",   "trusty",
      "upbeat", "valiant", "vivid",  "warm",    "wise",   "witty",  "zealous", "zesty"};
  static constexpr std::string_view people[] = {
      "abel",     "babbage", "bardeen",  "bell",       "bohr",     "boole",    "borg",      "cantor",  "cerf",
      "church",   "curie",   "dijkstra", "dirac",      "easley",   "einstein", "engelbart", "erdos",   "euclid",
      "euler",    "fermat",  "fermi",    "feynman",    "franklin", "galois",   "gauss",     "germain", "godel",
      "hamilton", "hilbert", "hoare",    "hopper",     "hypatia",  "kalman",   "kepler",    "knuth",   "lamarr",
      "lamport",  "laplace", "lovelace", "maxwell",    "mccarthy", "meitner",  "mendel",    "milner",  "morse",
      "naur",     "neumann", "newton",   "noether",    "nygaard",  "pascal",   "perlman",   "planck",  "ramanujan",
      "ritchie",  "shannon", "sinoussi", "stroustrup", "tesla",    "thompson", "turing",    "volta",   "wilkes",
      "wirth",    "wozniak", "wu"};
  const auto bits = random_bits();
  std::string name = fmt::format("{}_{}", adjectives[(bits[0] << 8 | bits[1]) % std::size(adjectives)],
                                 people[(bits[2] << 8 | bits[3]) % std::size(people)]);
  if (attempt > 2) name += fmt::format("{}", (bits[4] << 8 | bits[5]) % (attempt < 6 ? 100 : 10000));
  return name;
}

}  // namespace kit
