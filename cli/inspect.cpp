// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <nlohmann/json.hpp>

#include "kit/engine/clock.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/logs.hpp"
#include "kit/engine/networks.hpp"
#include "kit/engine/restart.hpp"
#include "kit/engine/volumes.hpp"
#include "listing.hpp"
#include "template.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

using json = nlohmann::ordered_json;

json pairs(const std::vector<option>& list) {
  json object = json::object();
  for (const option& o : list) object[o.key] = o.value;
  return object;
}

json list_or_null(const std::vector<std::string>& list) { return list.empty() ? json(nullptr) : json(list); }

json keys_or_null(const std::vector<std::string>& list) {
  if (list.empty()) return nullptr;
  json object = json::object();
  for (const std::string& key : list) object[key] = json::object();
  return object;
}

json describe_state(const container_record& c) {
  return {{"Status", to_string(c.state)},
          {"Running", is_live(c) || c.state == container_state::restarting},
          {"Paused", c.state == container_state::paused},
          {"Restarting", c.state == container_state::restarting},
          {"OOMKilled", c.oom_killed},
          {"Dead", false},
          {"Pid", is_live(c) ? c.init.pid : 0},
          {"ExitCode", c.exit_code},
          {"Error", c.error},
          {"StartedAt", rfc3339(c.started_ns)},
          {"FinishedAt", rfc3339(c.finished_ns)}};
}

json describe_networks(kit::engine& engine, const container_record& c) {
  json settings = {
      {"IPAddress", ""}, {"IPPrefixLen", 0}, {"Gateway", ""}, {"MacAddress", ""}, {"Networks", json::object()}};
  for (const endpoint_record& e : engine.records().endpoints(c.id)) {
    const network_record n = engine.records().network(e.network.text());
    const std::string address = e.addresses.empty() ? "" : e.addresses.front();
    const std::size_t slash = address.find('/');
    const json one = {{"NetworkID", n.id.str()},
                      {"EndpointID", e.id.str()},
                      {"Gateway", n.gateways.empty() ? "" : n.gateways.front()},
                      {"IPAddress", address.substr(0, slash)},
                      {"IPPrefixLen", slash == address.npos ? 0 : std::atoi(address.c_str() + slash + 1)},
                      {"MacAddress", e.mac},
                      {"Link", e.link}};
    settings["Networks"][n.name] = one;
    if (settings["IPAddress"].get_ref<const std::string&>().empty())
      for (const char* member : {"IPAddress", "IPPrefixLen", "Gateway", "MacAddress"}) settings[member] = one[member];
  }
  return settings;
}

json describe_mounts(const kit::engine& engine, const container_spec& spec) {
  json mounts = json::array();
  for (const mount_request& m : spec.mounts) {
    const bool of_volume = m.what == mount_request::kind::volume;
    std::string mode, propagation = of_volume ? "" : "rprivate";
    for (const std::string& o : m.options)
      if (o == "ro" || o == "rw" || o == "nocopy")
        mode += (mode.empty() ? "" : ",") + o;
      else
        propagation = o;
    json one = {{"Type", of_volume ? "volume" : "bind"}};
    if (of_volume) one["Name"] = m.source;
    one["Source"] = of_volume ? volume_path(engine, m.source) : m.source;
    one["Destination"] = m.target;
    if (of_volume) one["Driver"] = "local";
    one["Mode"] = mode;
    one["RW"] = !m.has("ro");
    one["Propagation"] = propagation;
    mounts.push_back(std::move(one));
  }
  for (const option& t : spec.tmpfs)
    mounts.push_back({{"Type", "tmpfs"},
                      {"Source", ""},
                      {"Destination", t.key},
                      {"Mode", t.value},
                      {"RW", true},
                      {"Propagation", ""}});
  return mounts;
}

json describe_binds(const container_spec& spec) {
  json list = json::array();
  for (const mount_request& m : spec.mounts) {
    if (m.anonymous || m.must_exist) continue;
    std::string text = m.source + ":" + m.target;
    for (std::size_t i = 0; i < m.options.size(); ++i) text += (i == 0 ? ":" : ",") + m.options[i];
    list.push_back(std::move(text));
  }
  return list.empty() ? json(nullptr) : list;
}

json describe_ulimits(const container_spec& spec) {
  json list = json::array();
  for (const resource_limit& l : spec.ulimits) {
    std::string name = l.type.substr(std::string_view("RLIMIT_").size());
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    // -1 is Docker's word for none.
    list.push_back(
        {{"Name", name}, {"Hard", static_cast<std::int64_t>(l.hard)}, {"Soft", static_cast<std::int64_t>(l.soft)}});
  }
  return list;
}

json describe_devices(const container_spec& spec) {
  json list = json::array();
  for (const std::string& text : spec.devices) {
    const device_request d = parse_device(text);
    list.push_back({{"PathOnHost", d.source}, {"PathInContainer", d.target}, {"CgroupPermissions", d.access}});
  }
  return list;
}

json describe(kit::engine& engine, const volume_record& v) {
  return {{"CreatedAt", rfc3339(v.created_ns)},
          {"Driver", "local"},
          {"Labels", pairs(v.labels)},
          {"Mountpoint", volume_path(engine, v.name)},
          {"Name", v.name},
          {"Options", json::object()},
          {"Scope", "local"}};
}

json describe(kit::engine& engine, const container_record& c) {
  const container_spec spec = spec_from_json(c.spec);
  image_config image;
  if (const auto manifest = engine.records().manifest(c.image_digest)) image = parse_image_config(manifest->config);
  const auto either = [](const std::string& first, const std::string& second) {
    return first.empty() ? second : first;
  };

  std::vector<std::string> env = image.env;
  env.insert(env.end(), spec.env.begin(), spec.env.end());
  std::vector<option> labels = image.labels;
  labels.insert(labels.end(), c.labels.begin(), c.labels.end());
  const std::vector<std::string> entrypoint = spec.entrypoint.value_or(image.entrypoint);
  const std::vector<std::string> command = !spec.command.empty() ? spec.command
                                           : spec.entrypoint     ? std::vector<std::string>{}
                                                                 : image.cmd;
  std::vector<std::string> argv = entrypoint;
  argv.insert(argv.end(), command.begin(), command.end());
  const log_settings log = log_settings_of(spec);
  const restart_policy restart = parse_restart_policy(spec.restart);
  const std::string network = either(spec.network, engine.config().network);

  return {{"Id", c.id.str()},
          {"Created", rfc3339(c.created_ns)},
          {"Path", argv.empty() ? "" : argv.front()},
          {"Args", argv.empty() ? json::array() : json(std::vector<std::string>(argv.begin() + 1, argv.end()))},
          {"State", describe_state(c)},
          {"Image", c.image_digest},
          {"ResolvConfPath", engine.bundle_dir(c.id) + "/resolv.conf"},
          {"HostnamePath", engine.bundle_dir(c.id) + "/hostname"},
          {"HostsPath", engine.bundle_dir(c.id) + "/hosts"},
          {"LogPath", log.kept ? engine.container_dir(c.id) + "/" + log.file_name() : ""},
          {"RestartCount", c.restarts},
          {"LogBytesLost", log_bytes_lost(engine, c)},
          {"Name", "/" + c.name},
          {"Driver", c.storage},
          {"Platform", "linux"},
          {"Isolation", c.isolation},
          {"HostConfig",
           {{"LogConfig", {{"Type", either(spec.log_driver, "json-file")}, {"Config", pairs(spec.log_options)}}},
            {"RestartPolicy", {{"Name", to_string(restart.which)}, {"MaximumRetryCount", restart.most}}},
            {"NetworkMode", network},
            {"AutoRemove", c.auto_remove},
            {"Privileged", spec.privileged},
            {"ReadonlyRootfs", spec.read_only},
            {"CapAdd", list_or_null(spec.cap_add)},
            {"CapDrop", list_or_null(spec.cap_drop)},
            {"Memory", spec.memory},
            {"MemorySwap", spec.memory_swap ? spec.memory_swap : static_cast<std::int64_t>(spec.memory * 2)},
            {"MemoryReservation", spec.memory_reservation},
            {"MemorySwappiness", spec.memory_swappiness < 0 ? json(nullptr) : json(spec.memory_swappiness)},
            {"OomKillDisable", spec.oom_kill_disable},
            {"OomScoreAdj", spec.oom_score_adj},
            {"NanoCpus", static_cast<std::int64_t>(std::llround(spec.cpus * 1e9))},
            {"CpuShares", spec.cpu_shares},
            {"CpuPeriod", spec.cpu_period},
            {"CpuQuota", spec.cpu_quota},
            {"CpusetCpus", spec.cpuset_cpus},
            {"CpusetMems", spec.cpuset_mems},
            {"BlkioWeight", spec.blkio_weight},
            {"PidsLimit", spec.pids_limit ? json(spec.pids_limit) : json(nullptr)},
            {"Ulimits", describe_ulimits(spec)},
            {"Sysctls", pairs(spec.sysctls)},
            {"Devices", describe_devices(spec)},
            {"ShmSize", spec.shm_size ? spec.shm_size : 64 << 20},
            {"IpcMode", either(spec.ipc_mode, "private")},
            {"PidMode", spec.pid_mode},
            {"UTSMode", spec.uts_mode},
            {"CgroupnsMode", either(spec.cgroupns_mode, "private")},
            {"GroupAdd", list_or_null(spec.group_add)},
            {"ExtraHosts", list_or_null(spec.add_hosts)},
            {"Dns", spec.dns},
            {"DnsSearch", spec.dns_search},
            {"DnsOptions", spec.dns_options},
            {"Binds", describe_binds(spec)},
            {"StorageOpt", spec.storage_options.empty() ? json(nullptr) : pairs(spec.storage_options)},
            {"Tmpfs", spec.tmpfs.empty() ? json(nullptr) : pairs(spec.tmpfs)},
            {"Init", spec.init}}},
          {"GraphDriver",
           {{"Name", c.storage},
            {"Data",
             {{"Chain",
               [&] {
                 json chain = json::array();
                 for (const layer_id& l : c.chain) chain.push_back(l.str());
                 return chain;
               }()}}}}},
          {"Mounts", describe_mounts(engine, spec)},
          {"Config",
           {{"Hostname", either(spec.hostname, std::string(c.id.brief()))},
            {"Domainname", spec.domainname},
            {"User", either(spec.user, image.user)},
            {"Tty", spec.tty},
            {"OpenStdin", spec.interactive},
            {"Env", env},
            {"Cmd", list_or_null(command)},
            {"Image", c.image},
            {"WorkingDir", either(spec.workdir, image.working_dir)},
            {"Entrypoint", list_or_null(entrypoint)},
            {"Labels", pairs(labels)},
            {"StopSignal", either(either(spec.stop_signal, image.stop_signal), "SIGTERM")},
            {"StopTimeout", spec.stop_timeout < 0 ? json(nullptr) : json(spec.stop_timeout)}}},
          {"NetworkSettings", describe_networks(engine, c)}};
}

json describe(kit::engine& engine, const image& i) {
  json tags = json::array(), layers = json::array();
  for (const image_record& r : engine.records().images())
    if (r.digest == i.record.digest && !r.reference.empty()) tags.push_back(r.reference);
  for (const std::string& d : i.config.diff_ids) layers.push_back(d);
  return {{"Id", i.manifest.digest},
          {"RepoTags", tags},
          {"Created", i.config.created},
          {"Author", i.config.author},
          {"Comment", i.config.history.empty() ? "" : i.config.history.back().comment},
          {"Architecture", i.config.architecture},
          {"Os", i.config.os},
          {"Size", i.manifest.size},
          {"Config",
           {{"User", i.config.user},
            {"Env", list_or_null(i.config.env)},
            {"Cmd", list_or_null(i.config.cmd)},
            {"Entrypoint", list_or_null(i.config.entrypoint)},
            {"ExposedPorts", keys_or_null(i.config.exposed_ports)},
            {"Volumes", keys_or_null(i.config.volumes)},
            {"WorkingDir", i.config.working_dir},
            {"Labels", pairs(i.config.labels)},
            {"StopSignal", i.config.stop_signal}}},
          {"RootFS", {{"Type", "layers"}, {"Layers", layers}}}};
}

json describe(kit::engine& engine, const network_record& n) {
  json subnets = json::array(), containers = json::object();
  for (std::size_t i = 0; i < n.prefixes.size(); ++i)
    subnets.push_back({{"Subnet", n.prefixes[i]}, {"Gateway", i < n.gateways.size() ? n.gateways[i] : ""}});
  for (const endpoint_record& e : engine.records().endpoints(n.id)) {
    const auto c = engine.records().find_container(e.container.text());
    containers[e.container.str()] = {{"Name", c ? c->name : ""},
                                     {"EndpointID", e.id.str()},
                                     {"MacAddress", e.mac},
                                     {"IPv4Address", e.addresses.empty() ? "" : e.addresses.front()}};
  }
  return {{"Name", n.name},
          {"Id", n.id.str()},
          {"Created", rfc3339(n.created_ns)},
          {"Scope", "local"},
          {"Driver", n.driver},
          {"Link", n.link},
          {"IPAM", {{"Config", subnets}}},
          {"Containers", containers},
          {"Options", pairs(n.options)},
          {"Labels", pairs(n.labels)}};
}

/// Prints what `find` answers for each word: one array, or one line each by --format.
template <class Find>
int print_each(const arguments& words, const std::string& format, Find&& find) {
  json found = json::array();
  const int code = for_each(words, [&](const std::string& word) {
    json one = find(word);
    if (format.empty() || format == "json") return found.push_back(std::move(one));
    fmt::print("{}\n", render(format, one));
  });
  constexpr auto replace = json::error_handler_t::replace;
  if (format == "json")
    fmt::print("{}\n", found.dump(-1, ' ', false, replace));
  else if (format.empty())
    fmt::print("{}\n", found.dump(4, ' ', false, replace));
  return code;
}

json with_size(kit::engine& engine, const container_record& c, bool size) {
  json all = describe(engine, c);
  if (!size) return all;
  const std::uint64_t own = engine.storage(c.storage).usage({layer_id::from(c.id.text()), c.chain}).bytes;
  const auto image = engine.records().manifest(c.image_digest);
  all["SizeRw"] = own;
  all["SizeRootFs"] = own + (image ? image->size : 0);
  return all;
}

options& with_format(options& o, std::string& format) {
  return o.value("-f,--format", format, "FORMAT", "json, or a template: '{{.State.ExitCode}}', '{{json .Config}}'")
      .takes(1);
}

}  // namespace

int inspect(invocation& call) {
  std::string format, type;
  bool size = false;
  options o(call.command(), "NAME [NAME...]",
            "Show all that is known of containers, images, volumes and networks, as JSON.");
  with_format(o, format)
      .value("--type", type, "TYPE", "container, image, volume or network")
      .flag("-s,--size", size, "Also how much a container has written (SizeRw), and that with its image (SizeRootFs)")
      .example("kit inspect web")
      .example("kit inspect -f '{{.State.ExitCode}} {{.NetworkSettings.IPAddress}}' web");
  const arguments words = o.parse(call.words);
  if (!type.empty() && type != "container" && type != "image" && type != "network" && type != "volume")
    throw usage_error(call.command(),
                      fmt::format("--type \"{}\": container, image, volume or network is expected", type));
  kit::engine& engine = call.engine();
  return print_each(words, format, [&](const std::string& word) -> json {
    const auto wanted = [&](const char* kind) { return type.empty() || type == kind; };
    if (wanted("container"))
      if (auto c = engine.records().find_container(word)) return with_size(engine, current(engine, *c), size);
    if (wanted("image"))
      if (engine.records().find_image(word)) return describe(engine, find_image(engine, word));
    if (wanted("volume"))
      if (auto v = engine.records().find_volume(word)) return describe(engine, *v);
    if (wanted("network"))
      if (auto n = engine.records().find_network(word)) return describe(engine, *n);
    fail(errc::not_found, "no such {}: {}", type.empty() ? "object" : type, word);
  });
}

int container_inspect(invocation& call) {
  std::string format;
  bool size = false;
  options o(call.command(), "CONTAINER [CONTAINER...]", "Show all that is known of containers, as JSON.");
  with_format(o, format).flag("-s,--size", size,
                              "Also how much it has written (SizeRw), and that with its image (SizeRootFs)");
  const arguments words = o.parse(call.words);
  kit::engine& engine = call.engine();
  return print_each(words, format, [&](const std::string& word) {
    return with_size(engine, current(engine, engine.records().container(word)), size);
  });
}

int image_inspect(invocation& call) {
  std::string format;
  options o(call.command(), "IMAGE [IMAGE...]", "Show all that is known of images, as JSON.");
  const arguments words = with_format(o, format).parse(call.words);
  return print_each(words, format,
                    [&](const std::string& word) { return describe(call.engine(), find_image(call.engine(), word)); });
}

int volume_inspect(invocation& call) {
  std::string format;
  options o(call.command(), "VOLUME [VOLUME...]", "Show all that is known of volumes, as JSON.");
  const arguments words = with_format(o, format).parse(call.words);
  return print_each(words, format,
                    [&](const std::string& word) { return describe(call.engine(), find_volume(call.engine(), word)); });
}

int network_inspect(invocation& call) {
  std::string format;
  options o(call.command(), "NETWORK [NETWORK...]", "Show all that is known of networks, as JSON.");
  const arguments words = with_format(o, format).parse(call.words);
  ensure_default_networks(call.engine());
  return print_each(words, format, [&](const std::string& word) {
    return describe(call.engine(), find_network(call.engine(), word));
  });
}

}  // namespace kit::cli
