// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/bundle.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "kit/isolation/default_seccomp.hpp"
#include "kit/system/capability.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit {
namespace {

using json = nlohmann::ordered_json;

constexpr std::string_view default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::optional<unsigned> number(std::string_view text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string_view> split(std::string_view line, char by) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0;;) {
    const auto end = line.find(by, at);
    parts.push_back(line.substr(at, end - at));
    if (end == std::string_view::npos) return parts;
    at = end + 1;
  }
}

/// A file of the image, at most a MiB of it; "" if it is not there. The image chose what stands there: only a regular
/// file is read, and opening it must not block (a fifo).
std::string read_image_file(int root, const char* path) {
  const unique_fd fd(try_open_in_root(root, path, O_RDONLY | O_NONBLOCK));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return {};
  std::string text(static_cast<std::size_t>(std::min<off_t>(st.st_size, 1 << 20)), '\0');
  const ssize_t n = ::pread(fd.get(), text.data(), text.size(), 0);
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

/// Asks `found` for each line of /etc/passwd or /etc/group, split at colons, until it answers true.
template <class Found>
bool find_line(const std::string& file, std::size_t fields, Found found) {
  for (std::string_view line : split(file, '\n')) {
    const auto f = split(line, ':');
    if (f.size() >= fields && found(f)) return true;
  }
  return false;
}

json strings(std::initializer_list<std::string_view> list) {
  json j = json::array();
  for (auto s : list) j.push_back(s);
  return j;
}

json mount_entry(std::string_view target, std::string_view type, std::string_view source,
                 std::initializer_list<std::string_view> options) {
  return {{"destination", target}, {"type", type}, {"source", source}, {"options", strings(options)}};
}

json standard_mounts(const container_spec& spec) {
  const std::uint64_t shm = spec.shm_size != 0 ? spec.shm_size : 64 << 20;
  return json::array(
      {mount_entry("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}),
       mount_entry("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
       mount_entry("/dev/pts", "devpts", "devpts",
                   {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
       mount_entry("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
       mount_entry("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}),
       mount_entry("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
       mount_entry("/dev/shm", "tmpfs", "shm",
                   {"nosuid", "noexec", "nodev", "mode=1777", fmt::format("size={}", shm)})});
}

json user_mounts(const container_spec& spec) {
  std::vector<json> list;
  for (const option& t : spec.tmpfs) {
    json m = mount_entry(t.key, "tmpfs", "tmpfs", {"noexec", "nosuid", "nodev"});
    if (!t.value.empty())
      for (auto word : split(t.value, ',')) m["options"].push_back(word);
    list.push_back(m);
  }
  for (const mount_request& r : spec.mounts) {
    json m = mount_entry(r.target, "bind", r.source, {"rbind"});
    bool propagation = false;
    for (const std::string& o : r.options) {
      if (o == "nocopy") continue;
      propagation = propagation || (o != "ro" && o != "rw");
      m["options"].push_back(o);
    }
    if (!propagation) m["options"].push_back("rprivate");
    list.push_back(m);
  }
  // What is shown below another must come after it.
  const auto depth = [](const json& m) {
    const auto& path = m["destination"].get_ref<const std::string&>();
    return std::count(path.begin(), path.end(), '/');
  };
  std::stable_sort(list.begin(), list.end(), [&](const json& a, const json& b) { return depth(a) < depth(b); });
  return list;
}

/// All mounts, in the order they are made. What the user asked for takes the place of what would be there.
json mounts_of(const container_spec& spec, const std::string& directory, const std::string& shared_memory = "") {
  json all = standard_mounts(spec);
  if (!shared_memory.empty())
    for (json& m : all)
      if (m["destination"] == "/dev/shm")
        m = mount_entry("/dev/shm", "bind", shared_memory, {"bind", "rprivate", "nosuid", "noexec", "nodev"});
  // As Docker does: the container may change its own /etc/hosts and resolv.conf, the image stays as it is.
  for (std::string_view name : {"resolv.conf", "hostname", "hosts"})
    all.push_back(mount_entry(fmt::format("/etc/{}", name), "bind", fmt::format("{}/{}", directory, name),
                              {"rbind", "rprivate"}));
  const json own = user_mounts(spec);
  if (own.empty()) return all;
  std::erase_if(all.get_ref<json::array_t&>(), [&](const json& m) {
    return std::any_of(own.begin(), own.end(), [&](const json& o) { return o["destination"] == m["destination"]; });
  });
  for (const json& m : own) all.push_back(m);
  return all;
}

/// Nothing but what the runtime adds by itself: the specification's default devices and the container's terminals.
json device_rules(bool privileged) { return json::array({{{"allow", privileged}, {"access", "rwm"}}}); }

json limits_of(const container_spec& spec) {
  json r = json::object();
  // As Docker: as much swap again as memory.
  if (spec.memory > 0) r["memory"] = {{"limit", spec.memory}, {"swap", spec.memory * 2}};
  if (spec.memory_swap != 0) r["memory"]["swap"] = spec.memory_swap;
  if (spec.memory_reservation > 0) r["memory"]["reservation"] = spec.memory_reservation;
  if (spec.memory_swappiness >= 0) r["memory"]["swappiness"] = spec.memory_swappiness;
  if (spec.oom_kill_disable) r["memory"]["disableOOMKiller"] = true;
  if (spec.cpus > 0) r["cpu"] = {{"quota", std::llround(spec.cpus * 100000)}, {"period", 100000}};
  if (spec.cpu_quota != 0) r["cpu"]["quota"] = spec.cpu_quota;
  if (spec.cpu_period != 0) r["cpu"]["period"] = spec.cpu_period;
  if (spec.cpu_shares != 0) r["cpu"]["shares"] = spec.cpu_shares;
  if (!spec.cpuset_cpus.empty()) r["cpu"]["cpus"] = spec.cpuset_cpus;
  if (!spec.cpuset_mems.empty()) r["cpu"]["mems"] = spec.cpuset_mems;
  if (spec.pids_limit != 0) r["pids"] = {{"limit", spec.pids_limit}};
  if (spec.blkio_weight != 0) r["blockIO"] = {{"weight", spec.blkio_weight}};
  return r;
}

/// One device node and the rule that lets it be used; of a directory, all in it.
void add_device(const device_request& d, json& nodes, json& rules) {
  struct stat st {};
  if (::stat(d.source.c_str(), &st) != 0)
    fail(errc::not_found, "error gathering device information while adding custom device \"{}\": {}", d.source,
         errno_text(errno));
  if (S_ISDIR(st.st_mode)) {
    for (const std::string& name : names_in(d.source)) {
      const std::string below = d.source + "/" + name;
      if (struct stat inside{}; ::stat(below.c_str(), &inside) == 0 &&
                                (inside.st_mode & (S_IFDIR | S_IFCHR | S_IFBLK)) != 0 && !S_ISREG(inside.st_mode) &&
                                !S_ISSOCK(inside.st_mode))
        add_device({below, d.target + "/" + name, d.access}, nodes, rules);
    }
    return;
  }
  if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
    fail(errc::invalid, "error gathering device information while adding custom device \"{}\": not a device node",
         d.source);
  const char* type = S_ISCHR(st.st_mode) ? "c" : "b";
  const unsigned major = major(st.st_rdev), minor = minor(st.st_rdev);
  nodes.push_back({{"path", d.target},
                   {"type", type},
                   {"major", major},
                   {"minor", minor},
                   {"fileMode", st.st_mode & 07777},
                   {"uid", st.st_uid},
                   {"gid", st.st_gid}});
  rules.push_back({{"allow", true}, {"type", type}, {"major", major}, {"minor", minor}, {"access", d.access}});
}

/// The `linux.seccomp` object as text: four hundred names are not worth a document.
std::string seccomp_text(const std::vector<std::string>& capabilities) {
  const seccomp_profile profile = default_seccomp(capabilities_from_names(capabilities));
  const auto list = [](const std::vector<std::string>& words) {
    std::string text = "[";
    for (const std::string& w : words) ((text += text.size() > 1 ? ",\"" : "\"") += w) += '"';
    return text + "]";
  };
  std::string text = fmt::format(R"({{"defaultAction":"{}")", to_string(profile.default_action));
  if (profile.default_errno) text += fmt::format(R"(,"defaultErrnoRet":{})", *profile.default_errno);
  if (!profile.architectures.empty()) text += fmt::format(R"(,"architectures":{})", list(profile.architectures));
  if (!profile.flags.empty()) text += fmt::format(R"(,"flags":{})", list(profile.flags));
  text += R"(,"syscalls":[)";
  for (const seccomp_rule& rule : profile.rules) {
    text += fmt::format(R"({{"names":{},"action":"{}")", list(rule.names), to_string(rule.action));
    if (rule.errno_value) text += fmt::format(R"(,"errnoRet":{})", *rule.errno_value);
    std::string arguments;
    for (const seccomp_argument& a : rule.arguments)
      arguments += fmt::format(R"({}{{"index":{},"value":{},"valueTwo":{},"op":"{}"}})", arguments.empty() ? "" : ",",
                               a.index, a.value, a.value_two, to_string(a.compare));
    if (!arguments.empty()) text += fmt::format(R"(,"args":[{}])", arguments);
    text += "},";
  }
  if (text.back() == ',') text.pop_back();
  return text + "]}";
}

json process_object(const process_plan& p) {
  json user = {{"uid", p.user.uid}, {"gid", p.user.gid}};
  if (p.user.uid != 0 || !p.user.additional_gids.empty()) {
    // The first group is among them: who gives it up must not escape what is denied to it (CVE-2022-36109).
    std::vector<unsigned> groups = {p.user.gid};
    for (unsigned g : p.user.additional_gids)
      if (std::find(groups.begin(), groups.end(), g) == groups.end()) groups.push_back(g);
    user["additionalGids"] = groups;
  }
  json j = {{"terminal", p.terminal}, {"user", user}, {"args", p.args},
            {"env", p.env},           {"cwd", p.cwd}, {"noNewPrivileges", p.no_new_privileges}};
  if (p.terminal && p.rows > 0) j["consoleSize"] = {{"height", p.rows}, {"width", p.columns}};
  // A user other than root holds nothing until it executes a file with capabilities, as with Docker.
  const std::vector<std::string> none;
  const auto& held = p.user.uid == 0 ? p.capabilities : none;
  for (const resource_limit& l : p.limits)
    j["rlimits"].push_back({{"type", l.type}, {"soft", l.soft}, {"hard", l.hard}});
  if (p.oom_score_adj != 0) j["oomScoreAdj"] = p.oom_score_adj;
  j["capabilities"] = {{"bounding", p.capabilities}, {"effective", held}, {"permitted", held}};
  return j;
}

std::string hosts_file(const bundle_plan& plan, const std::string& hostname) {
  std::string text;
  if (plan.network_namespace == netns::host)
    text = read_file("/etc/hosts");
  else
    text =
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
        "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
  for (const std::string& host : plan.spec.add_hosts) {
    const auto colon = host.find(':');
    std::string address = host.substr(colon + 1);
    if (address == "host-gateway") {
      if (plan.gateway.empty()) fail(errc::invalid, "add-host \"{}\": the network has no gateway", host);
      address = plan.gateway;
    }
    text += fmt::format("{}\t{}\n", address, host.substr(0, colon));
  }
  const std::string& domain = plan.spec.domainname;
  const std::string names = domain.empty() ? hostname : fmt::format("{0}.{1} {0}", hostname, domain);
  if (plan.network_namespace != netns::host)
    for (const std::string& address : plan.addresses)
      text += fmt::format("{}\t{}\n", address.substr(0, address.find('/')), names);
  return text;
}

/// The host's, less the resolvers only the host's own namespace can reach, and what the container was told instead.
std::string resolv_conf(const bundle_plan& plan) {
  const container_spec& spec = plan.spec;
  std::string host;
  if (const unique_fd fd(::open("/etc/resolv.conf", O_RDONLY | O_CLOEXEC)); fd)
    host = read_all(fd.get(), "/etc/resolv.conf");
  const bool told = !spec.dns.empty() || !spec.dns_search.empty() || !spec.dns_options.empty();
  if (plan.network_namespace == netns::host && !told) return host;
  std::string text, search, servers, options;
  const auto say = [](std::string_view key, const std::vector<std::string>& words) {
    std::string line(key);
    for (const std::string& w : words) line += " " + w;
    return words.empty() || (words.size() == 1 && words[0] == ".") ? std::string() : line + "\n";
  };
  for (std::string_view line : split(host, '\n')) {
    if (line.empty()) continue;
    const bool loopback = line.starts_with("nameserver 127.") || line.starts_with("nameserver ::1");
    if (loopback && plan.network_namespace != netns::host) continue;
    const std::string whole = fmt::format("{}\n", line);
    if (!told)
      text += whole;
    else if (line.starts_with("nameserver "))
      servers += whole;
    else if (line.starts_with("search ") || line.starts_with("domain "))
      search = whole;
    else if (line.starts_with("options "))
      options = whole;
  }
  if (!told) return text;
  if (!spec.dns_search.empty()) search = say("search", spec.dns_search);
  if (!spec.dns_options.empty()) options = say("options", spec.dns_options);
  if (!spec.dns.empty()) servers.clear();
  for (const std::string& server : spec.dns) servers += fmt::format("nameserver {}\n", server);
  return search + servers + options;
}

std::string hostname_of(const bundle_plan& plan) {
  if (!plan.spec.hostname.empty()) return plan.spec.hostname;
  if (plan.network_namespace == netns::host || plan.spec.uts_mode == host_mode) {
    char name[256] = {};
    ::gethostname(name, sizeof name - 1);
    return name;
  }
  return plan.id.substr(0, 12);
}

}  // namespace

bool user_needs_root(std::string_view text) {
  for (std::string_view part : split(text, ':'))
    if (!part.empty() && !number(part)) return true;
  return false;
}

image_user resolve_user(std::string_view text, int root) {
  const auto colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const std::string_view group = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  image_user user;
  if (root < 0) {  // numbers only: nothing in the image is asked
    user.uid = number(name).value_or(0);
    user.gid = number(group).value_or(user.uid == 0 ? 0 : user.gid);
    if (user.uid != 0) user.home = "/";
    return user;
  }
  const std::string passwd = read_image_file(root, "/etc/passwd");
  const std::string groups = read_image_file(root, "/etc/group");
  std::string login;
  const auto uid = name.empty() ? std::optional<unsigned>(0) : number(name);
  const bool known = find_line(passwd, 6, [&](const auto& f) {
    if (uid ? number(f[2]) != uid : f[0] != name) return false;
    login = f[0];
    user = {number(f[2]).value_or(0), number(f[3]).value_or(0), {}, std::string(f[5])};
    return true;
  });
  if (!known) {
    if (!uid) fail(errc::invalid, "unable to find user {}: no matching entries in the image's passwd file", name);
    user = {*uid, 0, {}, *uid == 0 ? "/root" : "/"};
  }
  if (user.home.empty()) user.home = "/";
  if (!group.empty()) {
    const auto gid = number(group);
    const bool found = find_line(groups, 3, [&](const auto& f) {
      if (gid ? number(f[2]) != gid : f[0] != group) return false;
      user.gid = number(f[2]).value_or(0);
      return true;
    });
    if (!found && !gid)
      fail(errc::invalid, "unable to find group {}: no matching entries in the image's group file", group);
    if (!found) user.gid = *gid;
    return user;
  }
  find_line(groups, 4, [&](const auto& f) {
    const auto members = split(f[3], ',');
    if (!login.empty() && std::find(members.begin(), members.end(), login) != members.end())
      if (auto gid = number(f[2]); gid && *gid != user.gid) user.additional_gids.push_back(*gid);
    return false;
  });
  return user;
}

void add_groups(image_user& user, const std::vector<std::string>& groups, int root) {
  const std::string file = root < 0 ? "" : read_image_file(root, "/etc/group");
  for (const std::string& group : groups) {
    auto gid = number(group);
    const bool known = gid || find_line(file, 3, [&](const auto& f) {
                         if (f[0] != group) return false;
                         gid = number(f[2]);
                         return gid.has_value();
                       });
    if (!known) fail(errc::invalid, "unable to find group {}: no matching entries in the image's group file", group);
    user.additional_gids.push_back(*gid);
  }
}

std::vector<std::string> program_of(const container_spec& spec, const image_config& image) {
  std::vector<std::string> args = spec.entrypoint ? *spec.entrypoint : image.entrypoint;
  std::erase(args, std::string());  // --entrypoint "" takes the image's away
  // An entrypoint of the user's own does away with the image's command, which was written for the other.
  const auto& command = spec.command.empty() && !spec.entrypoint ? image.cmd : spec.command;
  args.insert(args.end(), command.begin(), command.end());
  if (args.empty()) fail(errc::invalid, "no command specified: neither the image nor the command line names a program");
  return args;
}

std::vector<std::string> environment_of(const container_spec& spec, const image_config& image,
                                        std::string_view hostname, std::string_view home) {
  std::vector<std::string> env;
  const auto set = [&](const std::string& entry) {
    const auto key = entry.substr(0, entry.find('='));
    for (std::string& old : env)
      if (old.substr(0, old.find('=')) == key) {
        old = entry;
        return;
      }
    env.push_back(entry);
  };
  set(fmt::format("PATH={}", default_path));
  set(fmt::format("HOSTNAME={}", hostname));
  if (spec.tty) set("TERM=xterm");
  for (const auto& e : image.env) set(e);
  for (const auto& e : spec.env) set(e);
  if (std::none_of(env.begin(), env.end(), [](const std::string& e) { return e.starts_with("HOME="); }))
    env.push_back(fmt::format("HOME={}", home));
  return env;
}

std::vector<std::string> capabilities_of(const container_spec& spec) {
  if (spec.privileged) return capability_names(own_capabilities().bounding);
  static const std::vector<std::string> granted = {
      "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",
      "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",           "CAP_SETUID",
      "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
      "CAP_KILL",    "CAP_AUDIT_WRITE"};
  const auto all = [](const std::vector<std::string>& words) {
    return std::any_of(words.begin(), words.end(), [](const std::string& w) { return w == "ALL" || w == "all"; });
  };
  const auto named = [](std::vector<std::string> words) {
    std::erase_if(words, [](const std::string& w) { return w == "ALL" || w == "all"; });
    return capabilities_from_names(words);
  };
  // "ALL" first, then single words: --cap-drop ALL --cap-add CHOWN grants one, --cap-add ALL --cap-drop CHOWN all but one.
  capability_set set = all(spec.cap_add)    ? own_capabilities().bounding
                       : all(spec.cap_drop) ? capability_set()
                                            : capabilities_from_names(granted);
  set = (set | named(spec.cap_add)) - named(spec.cap_drop);
  return capability_names(set);
}

std::vector<std::string> mount_points(const container_spec& spec) {
  std::vector<std::string> points;
  for (const json& m : mounts_of(spec, "")) points.push_back(m["destination"].get<std::string>().substr(1));
  std::sort(points.begin(), points.end());
  return points;
}

std::string resources_json(const container_spec& spec) { return limits_of(spec).dump(); }

std::string process_json(const process_plan& plan) { return process_object(plan).dump(); }

std::string config_json(const bundle_plan& plan, const image_user& user) {
  const container_spec& spec = plan.spec;
  const std::string hostname = hostname_of(plan);
  process_plan process;
  process.args = program_of(spec, plan.image);
  process.env = environment_of(spec, plan.image, hostname, user.home);
  process.cwd = !spec.workdir.empty() ? spec.workdir : !plan.image.working_dir.empty() ? plan.image.working_dir : "/";
  if (process.cwd[0] != '/')
    fail(errc::invalid, "the working directory '{}' is invalid, it needs to be an absolute path", process.cwd);
  process.user = user;
  process.terminal = spec.tty;
  process.capabilities = capabilities_of(spec);
  process.no_new_privileges = spec.no_new_privileges;
  process.limits = spec.ulimits;
  process.oom_score_adj = static_cast<int>(spec.oom_score_adj);
  if (winsize size{}; spec.tty && ::ioctl(0, TIOCGWINSZ, &size) == 0) {
    process.rows = size.ws_row;
    process.columns = size.ws_col;
  }

  const bool own_uts = spec.uts_mode != host_mode &&
                       (plan.network_namespace == netns::own || !spec.hostname.empty() || !spec.domainname.empty());
  json namespaces = json::array({{{"type", "mount"}}});
  const auto add_namespace = [&](const char* type, bool own) {
    const auto joined =
        std::find_if(plan.joined.begin(), plan.joined.end(), [&](const option& o) { return o.key == type; });
    if (joined != plan.joined.end())
      namespaces.push_back({{"type", type}, {"path", joined->value}});
    else if (own)
      namespaces.push_back({{"type", type}});
  };
  add_namespace("pid", spec.pid_mode != host_mode);
  add_namespace("ipc", spec.ipc_mode != host_mode);
  add_namespace("cgroup", spec.cgroupns_mode != host_mode);
  add_namespace("network", plan.network_namespace == netns::own);
  add_namespace("uts", own_uts);

  json nodes = json::array(), rules = device_rules(spec.privileged), limits = limits_of(spec);
  for (const std::string& d : spec.devices) add_device(parse_device(d), nodes, rules);
  limits["devices"] = rules;
  json linux_part = {{"cgroupsPath", plan.cgroups_path}, {"namespaces", namespaces}, {"resources", limits}};
  if (!nodes.empty()) linux_part["devices"] = nodes;
  for (const option& s : spec.sysctls) linux_part["sysctl"][s.key] = s.value;
  const bool filtered = !spec.privileged && !spec.seccomp_unconfined;
  if (!spec.privileged) {
    linux_part["maskedPaths"] =
        strings({"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                 "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                 "/sys/devices/virtual/powercap"});
    linux_part["readonlyPaths"] = strings({"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"});
  }
  if (filtered) linux_part["seccomp"] = true;  // its place

  json mounts =
      mounts_of(spec, plan.files_directory.empty() ? plan.directory : plan.files_directory, plan.shared_memory);
  if (spec.privileged)
    for (json& m : mounts)
      if (m["type"] == "sysfs" || m["type"] == "cgroup") std::erase(m["options"].get_ref<json::array_t&>(), json("ro"));
  json annotations = {{"kit.owner", plan.owner}};
  if (spec.init) annotations["kit.init"] = "true";
  json config = {{"ociVersion", "1.0.2"},
                 {"process", process_object(process)},
                 {"root", {{"path", "rootfs"}, {"readonly", spec.read_only}}},
                 {"mounts", mounts},
                 {"annotations", annotations},
                 {"linux", linux_part}};
  const bool joins_uts =
      std::any_of(plan.joined.begin(), plan.joined.end(), [](const option& o) { return o.key == "uts"; });
  if (own_uts && !joins_uts) config["hostname"] = hostname;
  if (own_uts && !joins_uts && !spec.domainname.empty()) config["domainname"] = spec.domainname;
  try {
    std::string text = config.dump();
    // In a string the quotation marks would be escaped.
    constexpr std::string_view place = "\"seccomp\":true";
    if (filtered) text.replace(text.find(place) + place.size() - 4, 4, seccomp_text(process.capabilities));
    return text;
  } catch (const json::exception&) {
    fail(errc::invalid, "an argument or variable of the container is not valid UTF-8, which an OCI bundle cannot hold");
  }
}

void write_bundle(const bundle_plan& plan, const image_user& user) {
  const std::string config = config_json(plan, user);
  const std::string hostname = hostname_of(plan);
  make_directories(plan.directory + "/rootfs");
  const auto write = [&](const char* name, std::string_view text, unsigned mode) {
    const std::string path = fmt::format("{}/{}", plan.directory, name);
    const unique_fd fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
    write_all(fd.get(), text, path);
  };
  write("hosts", hosts_file(plan, hostname), 0644);
  write("hostname", hostname + "\n", 0644);
  write("resolv.conf", resolv_conf(plan), 0644);
  write("config.json", config, 0600);
}

}  // namespace kit
