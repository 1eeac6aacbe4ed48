// SPDX-License-Identifier: Apache-2.0
#include "drivers/isolation/native/config.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "kit/system/error.hpp"

namespace kit::drivers::detail {

namespace {

using json = nlohmann::json;

/// A place in the document: the value and its path. Every question about it that has no good answer throws with
/// that path; a member that is absent or null is an empty place.
class place {
 public:
  place(const json* value, std::string path) : value_(value), path_(std::move(path)) {}

  explicit operator bool() const noexcept { return value_ != nullptr; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  [[nodiscard]] place operator[](const char* member) const {
    std::string path = path_ + "." + member;
    if (value_ == nullptr) return {nullptr, std::move(path)};
    if (!value_->is_object()) wrong("must be an object");
    const auto found = value_->find(member);
    if (found == value_->end() || found->is_null()) return {nullptr, std::move(path)};
    return {&*found, std::move(path)};
  }

  [[noreturn]] void wrong(std::string_view why) const { fail(errc::invalid, "config {}: {}", path_, why); }
  [[noreturn]] void cannot(std::string_view why) const { fail(errc::unsupported, "config {}: {}", path_, why); }

  [[nodiscard]] std::string text() const {
    need();
    if (!value_->is_string()) wrong("must be a string");
    auto s = value_->get<std::string>();
    if (s.find('\0') != s.npos) wrong("must not hold a zero byte");
    return s;
  }
  [[nodiscard]] std::string text_or(const char* otherwise) const { return *this ? text() : otherwise; }
  [[nodiscard]] std::string absolute_path() const {
    std::string s = text();
    if (s.empty() || s[0] != '/') wrong("must be an absolute path");
    return s;
  }
  [[nodiscard]] bool flag() const {
    if (value_ == nullptr) return false;
    if (!value_->is_boolean()) wrong("must be true or false");
    return value_->get<bool>();
  }
  template <class Integer>
  [[nodiscard]] Integer number(Integer least = std::numeric_limits<Integer>::min(),
                               Integer most = std::numeric_limits<Integer>::max()) const {
    need();
    const bool fits = value_->is_number_unsigned()
                          ? std::in_range<Integer>(value_->get<std::uint64_t>())
                          : value_->is_number_integer() && std::in_range<Integer>(value_->get<std::int64_t>());
    if (!value_->is_number_integer()) wrong("must be an integer");
    if (!fits || value_->get<Integer>() < least || value_->get<Integer>() > most)
      wrong(fmt::format("must be between {} and {}", least, most));
    return value_->get<Integer>();
  }
  template <class Integer>
  void into(std::optional<Integer>& out) const {
    if (*this) out = number<Integer>();
  }

  template <class F>
  void each(F&& f) const {
    if (value_ == nullptr) return;
    if (!value_->is_array()) wrong("must be an array");
    std::size_t i = 0;
    for (const json& element : *value_) f(place(&element, fmt::format("{}[{}]", path_, i++)));
  }
  template <class F>
  void each_member(F&& f) const {
    if (value_ == nullptr) return;
    if (!value_->is_object()) wrong("must be an object");
    for (const auto& [key, element] : value_->items()) f(key, place(&element, path_ + "." + key));
  }
  [[nodiscard]] std::vector<std::string> texts() const {
    std::vector<std::string> list;
    each([&](const place& p) { list.push_back(p.text()); });
    return list;
  }
  [[nodiscard]] std::string json_text() const { return value_->dump(); }
  [[nodiscard]] bool given() const noexcept { return value_ != nullptr && !value_->empty(); }

 private:
  void need() const {
    if (value_ == nullptr) wrong("is missing");
  }
  const json* value_;
  std::string path_;
};

json parse_text(std::string_view text) {
  try {
    return json::parse(text);
  } catch (const json::exception& e) {
    fail(errc::invalid, "config $: not JSON: {}", e.what());
  }
}

// ---- the filter, cut out -----------------------------------------------------------------------------------------
// It is most of a configuration, and a profile that was compiled before need not be parsed again. Only strings and
// brackets are looked at here: the rest is parsed always, and what was cut out before it is used.

constexpr std::string_view cut_mark = "true";  // no seccomp object is written so

struct cut_document {
  std::string rest;          // with cut_mark in its place
  std::string_view seccomp;  // empty: nothing was cut
};

std::size_t skip_space(std::string_view s, std::size_t at) {
  return std::min(s.find_first_not_of(" \t\r\n", at), s.size());
}

/// Past the string that begins at `at`.
std::size_t skip_string(std::string_view s, std::size_t at) {
  for (++at; at < s.size() && s[at] != '"'; ++at)
    if (s[at] == '\\') ++at;
  return std::min(at + 1, s.size());
}

/// Past the value that begins at `at`.
std::size_t skip_value(std::string_view s, std::size_t at) {
  for (int depth = 0; at < s.size(); ++at) {
    const char c = s[at];
    if (c == '"')
      at = skip_string(s, at) - 1;
    else if (c == '{' || c == '[')
      ++depth;
    else if ((c == '}' || c == ']') && --depth <= 0)
      return depth == 0 ? at + 1 : at;
    else if (c == ',' && depth == 0)
      return at;
  }
  return s.size();
}

/// Where the value of the member `key` of the object at `at` begins; the end if there is none.
std::size_t find_member(std::string_view s, std::size_t at, std::string_view key) {
  if (at >= s.size() || s[at] != '{') return s.size();
  at = skip_space(s, at + 1);
  while (at < s.size() && s[at] == '"') {
    const std::size_t name = at + 1, end = skip_string(s, at);
    const std::size_t colon = skip_space(s, end);
    if (colon >= s.size() || s[colon] != ':') break;
    const std::size_t value = skip_space(s, colon + 1);
    if (s.substr(name, end - name - 1) == key) return value;
    at = skip_space(s, skip_value(s, value));
    if (at >= s.size() || s[at] != ',') break;
    at = skip_space(s, at + 1);
  }
  return s.size();
}

cut_document cut_seccomp(std::string_view text) {
  const std::size_t begin = find_member(text, find_member(text, skip_space(text, 0), "linux"), "seccomp");
  if (begin >= text.size() || text[begin] != '{') return {std::string(text), {}};
  const std::size_t end = skip_value(text, begin);
  return {fmt::format("{}{}{}", text.substr(0, begin), cut_mark, text.substr(end)), text.substr(begin, end - begin)};
}

template <class Row, std::size_t N>
const Row* find_row(const Row (&table)[N], std::string_view word) {
  const Row* row = std::find_if(std::begin(table), std::end(table), [&](const Row& r) { return word == r.word; });
  return row == std::end(table) ? nullptr : row;
}

struct number_row {
  const char* word;
  int value;
};

constexpr number_row rlimit_rows[] = {
    {"RLIMIT_CPU", RLIMIT_CPU},           {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_DATA", RLIMIT_DATA},         {"RLIMIT_STACK", RLIMIT_STACK},
    {"RLIMIT_CORE", RLIMIT_CORE},         {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_NPROC", RLIMIT_NPROC},       {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},   {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},       {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},     {"RLIMIT_RTTIME", RLIMIT_RTTIME},
};

constexpr number_row namespace_rows[] = {
    {"mount", CLONE_NEWNS}, {"pid", CLONE_NEWPID},   {"network", CLONE_NEWNET},   {"ipc", CLONE_NEWIPC},
    {"uts", CLONE_NEWUTS},  {"user", CLONE_NEWUSER}, {"cgroup", CLONE_NEWCGROUP},
};

constexpr number_row propagation_rows[] = {
    {"private", MS_PRIVATE},       {"rprivate", MS_PRIVATE | MS_REC},
    {"slave", MS_SLAVE},           {"rslave", MS_SLAVE | MS_REC},
    {"shared", MS_SHARED},         {"rshared", MS_SHARED | MS_REC},
    {"unbindable", MS_UNBINDABLE}, {"runbindable", MS_UNBINDABLE | MS_REC},
};

/// The words of mount(8) that are attributes of one mount; "r" before one means all mounts below too.
struct attribute_row {
  const char* word;
  std::uint64_t set, clear;
};
constexpr attribute_row attribute_rows[] = {
    {"ro", MOUNT_ATTR_RDONLY, 0},
    {"rw", 0, MOUNT_ATTR_RDONLY},
    {"nosuid", MOUNT_ATTR_NOSUID, 0},
    {"suid", 0, MOUNT_ATTR_NOSUID},
    {"nodev", MOUNT_ATTR_NODEV, 0},
    {"dev", 0, MOUNT_ATTR_NODEV},
    {"noexec", MOUNT_ATTR_NOEXEC, 0},
    {"exec", 0, MOUNT_ATTR_NOEXEC},
    {"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
    {"diratime", 0, MOUNT_ATTR_NODIRATIME},
    {"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
    {"atime", 0, MOUNT_ATTR__ATIME},
    {"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nostrictatime", 0, MOUNT_ATTR__ATIME},
    {"relatime", MOUNT_ATTR_RELATIME, MOUNT_ATTR__ATIME},
    {"norelatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
    {"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
};

void add(bundle_mount_attributes& to, const attribute_row& row) {
  to.set = (to.set & ~row.clear) | row.set;
  to.clear = (to.clear & ~row.set) | row.clear;
}

/// One word of a mount's options.
void read_mount_option(const place& p, bundle_mount& m) {
  const std::string word = p.text();
  if (word == "bind" || word == "rbind" || word == "defaults" || word.empty() || word == "async") return;
  if (const auto* row = find_row(attribute_rows, word)) return add(m.here, *row);
  if (word[0] == 'r')
    if (const auto* row = find_row(attribute_rows, word.substr(1))) return add(m.below, *row);
  if (const auto* row = find_row(propagation_rows, word)) {
    m.propagation = static_cast<std::uint64_t>(row->value) & ~std::uint64_t{MS_REC};
    m.propagation_below = (row->value & MS_REC) != 0;
    return;
  }
  if (word == "idmap" || word == "ridmap" || word == "tmpcopyup" || word.starts_with("x-"))
    p.cannot("no such option here");
  const auto equals = word.find('=');
  if (equals == 0) p.wrong("an option needs a name");
  if (m.type == "bind") p.wrong("unknown option of a bind mount");
  m.options.emplace_back(word.substr(0, equals), equals == word.npos ? std::string() : word.substr(equals + 1));
}

bundle_mount read_mount(const place& p, const std::string& bundle) {
  bundle_mount m;
  m.destination = p["destination"].text();
  if (m.destination.empty()) p["destination"].wrong("must not be empty");
  if (m.destination[0] != '/') m.destination.insert(0, "/");
  if (m.destination.find_first_not_of('/') == m.destination.npos) p["destination"].wrong("must not be the root");
  m.type = p["type"].text_or("");
  m.source = p["source"].text_or("");
  const auto words = p["options"].texts();
  m.recursive = std::count(words.begin(), words.end(), "rbind") != 0;
  if (m.recursive || std::count(words.begin(), words.end(), "bind") != 0 || m.type == "bind") m.type = "bind";
  if (m.type.empty() || m.type == "none") p["type"].wrong("must be given unless it is a bind mount");
  if (m.type == "bind") {
    if (m.source.empty()) p["source"].wrong("must be given for a bind mount");
    if (m.source[0] != '/') m.source = bundle + "/" + m.source;
  }
  if (p["uidMappings"].given() || p["gidMappings"].given()) p["uidMappings"].cannot("no idmapped mounts here");
  p["options"].each([&](const place& option) { read_mount_option(option, m); });
  return m;
}

process_capabilities read_capabilities(const place& p) {
  const auto set = [&](const char* name) {
    capability_set all;
    p[name].each([&](const place& word) {
      const auto number = capability_number(word.text());
      if (!number) word.wrong(fmt::format("no such capability: {}", word.text()));
      all.insert(*number);
    });
    return all;
  };
  process_capabilities c;
  c.bounding = set("bounding");
  c.effective = set("effective");
  c.permitted = set("permitted");
  c.inheritable = set("inheritable");
  c.ambient = set("ambient");
  if (!c.permitted.includes(c.effective)) p["effective"].wrong("must be within permitted");
  if (!(c.permitted & c.inheritable).includes(c.ambient))
    p["ambient"].wrong("must be within permitted and inheritable");
  return c;
}

bundle_rlimit read_rlimit(const place& p) {
  bundle_rlimit r;
  r.name = p["type"].text();
  const auto* row = find_row(rlimit_rows, r.name);
  if (row == nullptr) p["type"].wrong(fmt::format("no such limit: {}", r.name));
  r.resource = row->value;
  r.value.rlim_cur = p["soft"].number<std::uint64_t>();
  r.value.rlim_max = p["hard"].number<std::uint64_t>();
  if (r.value.rlim_cur > r.value.rlim_max) p["soft"].wrong("must not be above hard");
  return r;
}

bundle_process read_process(const place& p) {
  bundle_process out;
  out.terminal = p["terminal"].flag();
  if (const place size = p["consoleSize"]) {
    out.console_rows = size["height"].number<std::uint16_t>();
    out.console_columns = size["width"].number<std::uint16_t>();
  }
  const place user = p["user"];
  // (uid_t)-1 means "leave it" to setresuid(2): it is nobody's.
  constexpr std::uint32_t most = std::numeric_limits<std::uint32_t>::max() - 1;
  if (user["uid"]) out.user.uid = user["uid"].number<std::uint32_t>(0, most);
  if (user["gid"]) out.user.gid = user["gid"].number<std::uint32_t>(0, most);
  if (user["umask"]) out.user.umask = user["umask"].number<std::uint32_t>(0, 0777);
  user["additionalGids"].each(
      [&](const place& g) { out.user.additional_gids.push_back(g.number<std::uint32_t>(0, most)); });
  out.args = p["args"].texts();
  if (out.args.empty()) p["args"].wrong("must name a program");
  if (out.args[0].empty()) fail(errc::invalid, "config {}.args[0]: must not be empty", p.path());
  p["env"].each([&](const place& e) {
    out.env.push_back(e.text());
    if (out.env.back().find('=') == std::string::npos || out.env.back()[0] == '=') e.wrong("must be NAME=value");
  });
  out.cwd = p["cwd"].absolute_path();
  if (const place c = p["capabilities"]) out.capabilities = read_capabilities(c);
  p["rlimits"].each([&](const place& r) {
    out.rlimits.push_back(read_rlimit(r));
    for (std::size_t i = 0; i + 1 < out.rlimits.size(); ++i)
      if (out.rlimits[i].resource == out.rlimits.back().resource) r["type"].wrong("is given twice");
  });
  out.no_new_privileges = p["noNewPrivileges"].flag();
  if (p["oomScoreAdj"]) out.oom_score_adj = p["oomScoreAdj"].number<int>(-1000, 1000);
  for (const char* member : {"apparmorProfile", "selinuxLabel"})
    if (p[member] && !p[member].text().empty()) p[member].cannot("no security module here");
  for (const char* member : {"scheduler", "ioPriority", "execCPUAffinity"})
    if (p[member].given()) p[member].cannot("not set by this driver");
  return out;
}

dev_t read_number(const place& p) {
  return makedev(p["major"].number<std::uint32_t>(), p["minor"].number<std::uint32_t>());
}

bundle_device read_device(const place& p) {
  bundle_device d;
  d.path = p["path"].absolute_path();
  const std::string type = p["type"].text();
  if (type == "c" || type == "u")
    d.mode = S_IFCHR;
  else if (type == "b")
    d.mode = S_IFBLK;
  else if (type == "p")
    d.mode = S_IFIFO;
  else
    p["type"].wrong("must be c, b, u or p");
  if (type != "p") d.number = read_number(p);
  d.mode |= p["fileMode"] ? p["fileMode"].number<std::uint32_t>() & 07777 : 0666;
  if (p["uid"]) d.uid = p["uid"].number<std::uint32_t>();
  if (p["gid"]) d.gid = p["gid"].number<std::uint32_t>();
  return d;
}

std::vector<bundle_id_mapping> read_mappings(const place& p) {
  std::vector<bundle_id_mapping> out;
  p.each([&](const place& m) {
    out.push_back({m["containerID"].number<std::uint32_t>(), m["hostID"].number<std::uint32_t>(),
                   m["size"].number<std::uint32_t>(1)});
  });
  return out;
}

cgroup_device_rule read_device_rule(const place& p) {
  cgroup_device_rule r;
  r.allow = p["allow"].flag();
  const std::string type = p["type"].text_or("a");
  if (type != "a" && type != "b" && type != "c") p["type"].wrong("must be a, b or c");
  r.type = type[0];
  // -1 is an old way to say "any".
  if (p["major"] && p["major"].number<std::int64_t>() >= 0) r.major = p["major"].number<std::uint32_t>();
  if (p["minor"] && p["minor"].number<std::int64_t>() >= 0) r.minor = p["minor"].number<std::uint32_t>();
  const std::string access = p["access"].text_or("rwm");
  if (access.find_first_not_of("rwm") != access.npos) p["access"].wrong("must be made of r, w and m");
  const bool all = access.empty();
  r.read = all || access.find('r') != access.npos;
  r.write = all || access.find('w') != access.npos;
  r.make = all || access.find('m') != access.npos;
  return r;
}

cgroup_limits read_resources(const place& p) {
  cgroup_limits out;
  if (const place devices = p["devices"]) {
    auto& rules = out.devices.emplace();
    devices.each([&](const place& d) { rules.push_back(read_device_rule(d)); });
  }
  const place memory = p["memory"];
  memory["limit"].into(out.memory);
  memory["swap"].into(out.memory_swap);
  memory["reservation"].into(out.memory_reservation);
  memory["swappiness"].into(out.memory_swappiness);
  if (memory["disableOOMKiller"].flag()) out.disable_oom_killer = true;
  // `kernel` (deprecated by the specification) and `checkBeforeUpdate` limit nothing by themselves.
  if (memory["kernelTCP"].given() && memory["kernelTCP"].number<std::int64_t>() > 0)
    memory["kernelTCP"].cannot("no such limit here");

  const place cpu = p["cpu"];
  cpu["shares"].into(out.cpu_shares);
  cpu["quota"].into(out.cpu_quota);
  cpu["period"].into(out.cpu_period);
  cpu["burst"].into(out.cpu_burst);
  cpu["idle"].into(out.cpu_idle);
  cpu["realtimeRuntime"].into(out.cpu_realtime_runtime);
  cpu["realtimePeriod"].into(out.cpu_realtime_period);
  if (cpu["cpus"] && !cpu["cpus"].text().empty()) out.cpuset_cpus = cpu["cpus"].text();
  if (cpu["mems"] && !cpu["mems"].text().empty()) out.cpuset_mems = cpu["mems"].text();

  if (const place limit = p["pids"]["limit"]) {
    const auto n = limit.number<std::int64_t>();
    out.pids = n > 0 ? n : -1;
  }

  const place io = p["blockIO"];
  if (io["weight"]) out.io_weight = io["weight"].number<std::uint16_t>(10, 1000);
  if (io["leafWeight"].given()) io["leafWeight"].cannot("no such weight here");
  io["weightDevice"].each([&](const place& d) {
    out.io_device_weights.push_back({d["major"].number<std::uint32_t>(), d["minor"].number<std::uint32_t>(),
                                     d["weight"].number<std::uint16_t>(10, 1000)});
  });
  using kind = cgroup_io_throttle::kind;
  const std::pair<const char*, kind> throttles[] = {{"throttleReadBpsDevice", kind::read_bytes},
                                                    {"throttleWriteBpsDevice", kind::write_bytes},
                                                    {"throttleReadIOPSDevice", kind::read_operations},
                                                    {"throttleWriteIOPSDevice", kind::write_operations}};
  for (const auto& [name, what] : throttles) {
    const kind k = what;
    io[name].each([&](const place& d) {
      out.io_throttles.push_back({k, d["major"].number<std::uint32_t>(), d["minor"].number<std::uint32_t>(),
                                  d["rate"].number<std::uint64_t>()});
    });
  }

  p["hugepageLimits"].each(
      [&](const place& h) { out.hugepages.emplace_back(h["pageSize"].text(), h["limit"].number<std::uint64_t>()); });
  p["unified"].each_member([&](const std::string& key, const place& v) {
    if (key.find('/') != key.npos || key.find('.') == key.npos) v.wrong("must be the name of a control file");
    out.unified.emplace_back(key, v.text());
  });
  for (const char* member : {"network", "rdma"})
    if (p[member].given()) p[member].cannot("no such controller here");
  return out;
}

seccomp_profile read_seccomp(const place& p) {
  seccomp_profile out;
  const auto action = [](const place& a) {
    try {
      return seccomp_action_of(a.text());
    } catch (const error& e) {
      fail(e.code(), "config {}: {}", a.path(), e.what());
    }
  };
  out.default_action = action(p["defaultAction"]);
  p["defaultErrnoRet"].into(out.default_errno);
  out.architectures = p["architectures"].texts();
  out.flags = p["flags"].texts();
  for (const char* member : {"listenerPath", "listenerMetadata"})
    if (p[member].given()) p[member].cannot("no agent for SCMP_ACT_NOTIFY here");
  p["syscalls"].each([&](const place& s) {
    seccomp_rule rule;
    rule.names = s["names"].texts();
    if (rule.names.empty()) s["names"].wrong("must name a system call");
    rule.action = action(s["action"]);
    s["errnoRet"].into(rule.errno_value);
    s["args"].each([&](const place& a) {
      seccomp_argument argument;
      argument.index = a["index"].number<unsigned>(0, 5);
      argument.value = a["value"].number<std::uint64_t>();
      if (a["valueTwo"]) argument.value_two = a["valueTwo"].number<std::uint64_t>();
      try {
        argument.compare = seccomp_compare_of(a["op"].text());
      } catch (const error& e) {
        fail(e.code(), "config {}.op: {}", a.path(), e.what());
      }
      rule.arguments.push_back(argument);
    });
    out.rules.push_back(std::move(rule));
  });
  return out;
}

/// A sysctl of the host must not be reachable: only what a namespace of the container's own holds (namespaces(7)).
void check_sysctl(const place& p, std::string_view key, const bundle_config& c) {
  if (key.empty() || key.find("..") != key.npos) p.wrong("not the name of a sysctl");
  const auto begins = [&](std::string_view with) { return key.starts_with(with); };
  std::string name(key);
  std::replace(name.begin(), name.end(), '/', '.');
  key = name;
  const bool ipc = begins("kernel.msg") || begins("kernel.shm") || key == "kernel.sem" || begins("fs.mqueue.");
  const bool uts = key == "kernel.domainname" || key == "kernel.hostname";
  const int kind = ipc ? CLONE_NEWIPC : uts ? CLONE_NEWUTS : begins("net.") ? CLONE_NEWNET : 0;
  if (kind == 0) p.wrong("belongs to the host: no namespace holds it");
  if (!c.has_namespace(kind)) p.wrong("belongs to the host: the container has no namespace of its own for it");
}

void read_linux(const place& p, bundle_config& out) {
  p["namespaces"].each([&](const place& n) {
    const std::string type = n["type"].text();
    if (type == "time") n["type"].cannot("no time namespaces here");
    const auto* row = find_row(namespace_rows, type);
    if (row == nullptr) n["type"].wrong(fmt::format("no such namespace: {}", type));
    if (out.has_namespace(row->value)) n["type"].wrong("is given twice");
    bundle_namespace ns{row->value, {}};
    if (n["path"] && !n["path"].text().empty()) ns.path = n["path"].absolute_path();
    if (!ns.path.empty() && (row->value == CLONE_NEWUSER || row->value == CLONE_NEWNS))
      n["path"].cannot("a user or mount namespace is made, not joined");
    out.namespaces.push_back(std::move(ns));
  });
  if (!out.has_namespace(CLONE_NEWNS))
    p["namespaces"].wrong("must hold mount: the container's root is made in one of its own");
  out.uid_mappings = read_mappings(p["uidMappings"]);
  out.gid_mappings = read_mappings(p["gidMappings"]);
  if (out.has_namespace(CLONE_NEWUSER)) {
    if (out.uid_mappings.empty()) p["uidMappings"].wrong("must be given with a user namespace");
    if (out.gid_mappings.empty()) p["gidMappings"].wrong("must be given with a user namespace");
  } else if (!out.uid_mappings.empty() || !out.gid_mappings.empty()) {
    p["uidMappings"].wrong("needs a user namespace");
  }
  p["devices"].each([&](const place& d) { out.devices.push_back(read_device(d)); });
  p["sysctl"].each_member([&](const std::string& key, const place& v) {
    check_sysctl(v, key, out);
    out.sysctl.emplace_back(key, v.text());
  });
  if (p["cgroupsPath"]) {
    out.cgroups_path = p["cgroupsPath"].text();
    if (out.cgroups_path.find("..") != std::string::npos) p["cgroupsPath"].wrong("must not hold ..");
    const auto first = out.cgroups_path.find_first_not_of('/');
    if (first == std::string::npos) p["cgroupsPath"].wrong("must name a group below the root");
    out.cgroups_path.erase(0, first);
  }
  if (const place r = p["resources"]) out.resources = read_resources(r);
  if (const place s = p["seccomp"]) out.seccomp = s.json_text();
  if (const place r = p["rootfsPropagation"]; r && !r.text().empty()) {
    const auto* row = find_row(propagation_rows, r.text());
    if (row == nullptr) r.wrong("must be shared, slave, private or unbindable, or one of them with r before it");
    out.root_propagation = static_cast<std::uint64_t>(row->value);
  }
  p["maskedPaths"].each([&](const place& m) { out.masked_paths.push_back(m.absolute_path()); });
  p["readonlyPaths"].each([&](const place& r) { out.readonly_paths.push_back(r.absolute_path()); });
  if (p["mountLabel"] && !p["mountLabel"].text().empty()) p["mountLabel"].cannot("no security module here");
  for (const char* member : {"intelRdt", "timeOffsets", "netDevices", "memoryPolicy"})
    if (p[member].given()) p[member].cannot("not set by this driver");
  if (const place domain = p["personality"]["domain"]; domain && domain.text() != "LINUX")
    domain.cannot("only LINUX is set by this driver");
}

}  // namespace

bool bundle_config::has_namespace(int kind) const noexcept {
  return std::any_of(namespaces.begin(), namespaces.end(), [&](const bundle_namespace& n) { return n.kind == kind; });
}

int bundle_config::new_namespaces() const noexcept {
  int flags = 0;
  for (const bundle_namespace& n : namespaces)
    if (n.path.empty()) flags |= n.kind;
  return flags;
}

bundle_config parse_bundle_config(std::string_view text, const std::string& bundle) {
  const cut_document cut = cut_seccomp(text);
  const json document = parse_text(cut.rest);
  const place p(&document, "$");
  bundle_config out;
  const std::string version = p["ociVersion"].text();
  if (!version.starts_with("1.")) p["ociVersion"].cannot(fmt::format("{} is not 1.x", version));
  out.root_path = p["root"]["path"].text();
  if (out.root_path.empty()) p["root"]["path"].wrong("must not be empty");
  if (out.root_path[0] != '/') out.root_path = bundle + "/" + out.root_path;
  out.root_readonly = p["root"]["readonly"].flag();
  if (!p["process"]) p["process"].wrong("is missing");
  out.process = read_process(p["process"]);
  out.hostname = p["hostname"].text_or("");
  out.domainname = p["domainname"].text_or("");
  p["mounts"].each([&](const place& m) { out.mounts.push_back(read_mount(m, bundle)); });
  p["annotations"].each_member([&](const std::string& key, const place& v) { out.annotations[key] = v.text(); });
  p["hooks"].each_member([&](const std::string&, const place& list) {
    if (list.given()) list.cannot("hooks are run by nobody here");
  });
  if (!p["linux"]) p["linux"].wrong("is missing");
  read_linux(p["linux"], out);
  if (out.seccomp == cut_mark && !cut.seccomp.empty()) out.seccomp = cut.seccomp;
  for (const auto& [name, value] : {std::pair("hostname", &out.hostname), std::pair("domainname", &out.domainname)}) {
    if (!value->empty() && !out.has_namespace(CLONE_NEWUTS)) p[name].wrong("needs a uts namespace");
    if (value->size() > 64) p[name].wrong("must not be longer than 64 bytes");
  }
  return out;
}

seccomp_profile parse_bundle_seccomp(std::string_view text) {
  const json profile = parse_text(text);
  return read_seccomp(place(&profile, "$.linux.seccomp"));
}

bundle_process parse_bundle_process(std::string_view text) {
  const json document = parse_text(text);
  return read_process(place(&document, "$"));
}

cgroup_limits parse_bundle_resources(std::string_view text) {
  const json document = parse_text(text);
  return read_resources(place(&document, "$"));
}

}  // namespace kit::drivers::detail
