// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/lifecycle.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "beside.hpp"
#include "kit/engine/attach.hpp"
#include "kit/engine/bundle.hpp"
#include "kit/engine/clock.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/launch.hpp"
#include "kit/engine/locks.hpp"
#include "kit/engine/logs.hpp"
#include "kit/engine/networks.hpp"
#include "kit/engine/open_layer.hpp"
#include "kit/engine/restart.hpp"
#include "kit/engine/storage_options.hpp"
#include "kit/engine/volumes.hpp"
#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/system/process.hpp"
#include "kit/system/socket.hpp"

namespace kit {
namespace {

using std::chrono::milliseconds;

void add_event(engine& e, const container_record& r, std::string action, std::vector<option> attributes = {}) {
  attributes.push_back({"image", r.image});
  attributes.push_back({"name", r.name});
  e.records().add({now_ns(), "container", std::move(action), r.id.str(), std::move(attributes)});
}

/// Calls `work` again while the kernel still lets go of something, or a process that ends writes a last file.
template <class F>
void retry_busy(F work) {
  for (int attempt = 0;; ++attempt) {
    try {
      return work();
    } catch (const error& e) {
      if ((e.code() != errc::busy && e.sys_errno() != ENOTEMPTY) || attempt == 100) throw;
    }
    std::this_thread::sleep_for(milliseconds(20));
  }
}

/// For people: arguments with spaces in quotation marks.
std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& w : words) {
    const bool mark = !text.empty() && w.find(' ') != w.npos;
    text += fmt::format("{}{}{}{}", text.empty() ? "" : " ", mark ? "'" : "", w, mark ? "'" : "");
  }
  return text;
}

image_user user_of(engine& e, const container_record& r, const container_spec& spec, const image_config& image) {
  const std::string& text = spec.user.empty() ? image.user : spec.user;
  image_user user;
  // Root, by far the most frequent, needs no look into the image; neither does a pair of numbers.
  const bool is_root = text.empty() || text == "root" || text == "0";
  const bool names_groups = std::any_of(spec.group_add.begin(), spec.group_add.end(), user_needs_root);
  unique_fd root;
  if (names_groups || !(is_root || (!user_needs_root(text) && text.find(':') != std::string::npos)))
    root = make_detached(e.storage(r.storage).mounts({layer_id::from(r.id.text()), r.chain}, access::read_write));
  if (!is_root) user = resolve_user(text, root.get());
  add_groups(user, spec.group_add, root.get());
  return user;
}

constexpr std::string_view container_mode = "container:";

/// Another container's namespaces are named by its id: names change.
void settle_modes(engine& e, container_spec& spec) {
  check_modes(spec);
  for (std::string* mode : {&spec.network, &spec.pid_mode, &spec.ipc_mode, &spec.uts_mode})
    if (mode->starts_with(container_mode))
      *mode = fmt::format("{}{}", container_mode, e.records().container(mode->substr(container_mode.size())).id.text());
}

/// The namespaces of other containers that `spec` joins.
void plan_joined(engine& e, const container_spec& spec, bundle_plan& plan) {
  const std::pair<const char*, const std::string*> modes[] = {
      {"pid", &spec.pid_mode}, {"ipc", &spec.ipc_mode}, {"uts", &spec.uts_mode}, {"network", &spec.network}};
  if (spec.ipc_mode == host_mode) plan.shared_memory = "/dev/shm";
  // A directory that others can show, too; a tmpfs of the container's own is out of everybody's reach.
  if (spec.ipc_mode == "shareable") {
    plan.shared_memory = plan.directory + "/shm";
    make_directory(plan.shared_memory, 01777);
  }
  for (const auto& [type, mode] : modes) {
    if (!mode->starts_with(container_mode)) continue;
    const container_record other = current(e, e.records().container(mode->substr(container_mode.size())));
    const unique_fd init = is_live(other) ? open_process(other.init.pid, other.init.start_time) : unique_fd();
    if (!init) fail(errc::conflict, "cannot join {} of a non running container: {}", type, other.name);
    const container_spec others = spec_from_json(other.spec);
    const std::string_view word = type;
    if (word == "ipc") {
      if (others.ipc_mode != "shareable" && others.ipc_mode != host_mode)
        fail(errc::conflict, "cannot join IPC of container {}: it is not shareable; run it with --ipc shareable",
             other.name);
      plan.shared_memory = others.ipc_mode == host_mode ? "/dev/shm" : e.bundle_dir(other.id) + "/shm";
    }
    if (word == "network") {
      plan.files_directory = e.bundle_dir(other.id);
      plan.spec.hostname = others.hostname.empty() ? std::string(other.id.brief()) : others.hostname;
      plan.network_namespace = netns::own;
    }
    plan.joined.push_back({type, fmt::format("/proc/{}/ns/{}", other.init.pid, word == "network" ? "net" : type)});
    if (has_ended(init.get())) fail(errc::conflict, "cannot join {} of a non running container: {}", type, other.name);
  }
}

/// Who joins another container's network has none of its own, as on the host's.
network_record network_of(engine& e, const container_spec& spec) {
  return find_network(e, spec.network.starts_with(container_mode) ? "host" : spec.network);
}

bool has_own_address(const container_spec& spec) {
  return !spec.ip.empty() || !spec.ip6.empty() || !spec.mac_address.empty();
}

endpoint_record lease_endpoint(engine& e, const network_record& n, const container_id& id, const container_spec& spec) {
  std::vector<std::string> wanted;
  for (const std::string* address : {&spec.ip, &spec.ip6})
    if (!address->empty()) wanted.push_back(*address);
  endpoint_record leased = e.records().lease_endpoint(n, id, "eth0", wanted);
  if (!spec.mac_address.empty()) {
    leased.mac = spec.mac_address;
    e.records().update(leased);
  }
  return leased;
}

/// exit.json as the monitor wrote it; empty if it has not. Code -1: it does not know.
struct exit_report {
  int code = -1;
  std::int64_t finished_ns = 0;
  std::uint64_t log_bytes_lost = 0;
};
std::optional<exit_report> read_exit(const std::string& directory) {
  const std::string path = directory + "/exit.json";
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return std::nullopt;
  const auto j = nlohmann::json::parse(read_all(fd.get(), path), nullptr, false);
  if (!j.is_object()) return std::nullopt;
  return exit_report{j.value("exit_code", -1), j.value("finished_ns", std::int64_t{0}),
                     j.value("log_bytes_lost", std::uint64_t{0})};
}

/// Waits until the monitor wrote exit.json, as long as there is another process to write it, and for ten seconds: one that
/// somebody stopped does not hold up others.
std::optional<exit_report> wait_exit_report(engine& e, const container_record& r) {
  const auto state = read_state(e.bundle_dir(r.id));
  unique_fd monitor;
  if (state && state->boot_id == boot_id() && state->monitor != ::getpid())
    monitor = open_process(state->monitor, state->monitor_start_time);
  for (const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);;) {
    const bool in_vain = !monitor || has_ended(monitor.get()) || std::chrono::steady_clock::now() > until;
    if (auto report = read_exit(e.bundle_dir(r.id)); report || in_vain) return report;
    has_ended(monitor.get(), milliseconds(1));
  }
}

/// Inserts the record under `name`, or under one that is drawn until it is free.
void insert_named(engine& e, container_record& r, const std::string& name, const held_volumes& volumes) {
  for (unsigned attempt = 0;; ++attempt) {
    r.name = name.empty() ? draw_name(attempt) : name;
    try {
      return e.records().transaction([&] {
        if (!e.records().manifest(r.image_digest)) fail(errc::not_found, "no such image: {}; it was removed", r.image);
        e.records().insert(r);
        volumes.record(e);
        add_event(e, r, "create");
      });
    } catch (const error& x) {
      if (x.code() != errc::conflict || !name.empty() || attempt == 20) throw;
    }
  }
}

/// The part of a plan that concerns the container's monitor (its options: cli/monitor/monitor.cpp).
void plan_monitor(engine& e, const container_id& id, const container_spec& spec, launch_plan& plan) {
  plan.container_dir = e.container_dir(id);
  plan.run_dir = e.bundle_dir(id);
  plan.presence = file_lock::wait(e.presence_path(), file_lock::mode::shared).release();
  const engine_config& c = e.config();
  std::vector<std::string>& args = plan.monitor;
  args = {c.libexec + "/kit-monitor"};
  if (::access(args[0].c_str(), X_OK) != 0)
    fail(errc::not_found, "start the container: no monitor program {}; is kit installed whole?", args[0]);
  const log_settings log = log_settings_of(spec);
  plan.log = log.kept;
  if (plan.tty) args.emplace_back("-t");
  // What a slow reader misses is in the log, unless that keeps not all of it: then the program waits for its starter.
  if (plan.session && log.buffer_size == 0 && (!log.kept || log.max_size > 0)) args.emplace_back("-s");
  if (log.format == monitor::log_format::text) args.emplace_back("-x");
  if (log.max_size > 0)
    args.insert(args.end(), {fmt::format("-m{}", log.max_size), fmt::format("-n{}", log.max_files)});
  if (log.compress) args.emplace_back("-z");
  if (log.buffer_size > 0) args.emplace_back(fmt::format("-b{}", log.buffer_size));
  args.insert(args.end(), {"--", c.program, "--root", c.root, "--run-dir", c.run_dir, "internal", "finish", id.str()});
}

/// What `start` gives the launch path, from records and spec alone.
launch_plan plan_launch(engine& e, const container_record& r, const container_spec& spec, const start_options& options,
                        const network_record& n, const std::optional<endpoint_record>& endpoint) {
  launch_plan plan;
  plan.what = e.as_container(r);
  plan.layer = layer_id::from(r.id.text());
  plan.chain = r.chain;
  plan.network = as_network(e, n);
  if (endpoint) plan.endpoint = as_endpoint(e, *endpoint, -1);
  plan.tty = spec.tty;
  plan.stdin_open = spec.interactive;
  plan.session = options.attach;
  plan_monitor(e, r.id, spec, plan);
  return plan;
}

}  // namespace

namespace {
template <class Take>
file_lock take_lock(engine& e, const container_id& id, Take take) {
  try {
    return take(e.container_dir(id));
  } catch (const error& x) {
    if (x.code() == errc::not_found) fail(errc::not_found, "no such container: {}", id.brief());
    throw;
  }
}
}  // namespace

file_lock lock_container(engine& e, const container_id& id) {
  return take_lock(e, id, [](const std::string& path) { return file_lock::wait_directory(path); });
}
file_lock try_lock_container(engine& e, const container_id& id) {
  return take_lock(e, id, [](const std::string& path) { return file_lock::try_directory(path); });
}

namespace {
/// The directory of a new container, locked. Until it is, reconcile may take it for one that was left behind.
file_lock make_and_lock(engine& e, const container_id& id) {
  const std::string directory = e.container_dir(id);
  for (;;) {
    make_directories(directory, 0711);
    try {
      file_lock lock = file_lock::wait_directory(directory);
      struct stat locked {};
      struct stat there {};
      if (::fstat(lock.get(), &locked) == 0 && ::stat(directory.c_str(), &there) == 0 && locked.st_ino == there.st_ino)
        return lock;
    } catch (const error& x) {
      if (x.code() == errc::not_found) continue;
      ::rmdir(directory.c_str());
      throw;
    }
  }
}
}  // namespace

void end_run(engine& e, const container_record& r, function_ref<void()> record) {
  records& records = e.records();
  any_isolation& isolation = e.isolation(r.isolation);
  in_step("remove_processes", [&] { retry_busy([&] { isolation.remove(e.as_container(r)); }); });
  const std::vector<endpoint_record> endpoints = records.endpoints(r.id);
  for (const endpoint_record& p : endpoints) {
    const network_record n = records.network(p.network.text());
    any_network& network = e.network(n.driver);
    in_step("detach_network",
            [&] { network.detach(as_network(e, n), as_endpoint(e, p, -1), attachment_from_json(p.attachment)); });
  }
  in_step("record_end", [&] {
    records.releasing([&] {
      for (const endpoint_record& p : endpoints) records.release_endpoint(p.id);
      record();
    });
  });
  // Last: exit.json stands in it, and until the exit is recorded that is all there is to know of it.
  in_step("remove_bundle", [&] { retry_busy([&] { remove_tree(e.bundle_dir(r.id)); }); });
}

file_lock lock_images(engine& e) { return file_lock::wait(e.config().root + "/images.lock", file_lock::mode::shared); }
file_lock try_lock_images(engine& e) {
  return file_lock::try_now(e.config().root + "/images.lock", file_lock::mode::exclusive);
}

container_record create(engine& e, const container_spec& wanted) {
  container_spec spec = wanted;
  const engine_config& c = e.config();
  if (spec.storage.empty()) spec.storage = c.storage;
  if (spec.network.empty()) spec.network = c.network;
  if (spec.isolation.empty()) spec.isolation = c.isolation;
  if (!spec.name.empty()) check_name("container", spec.name);

  // Until the record says that it stands on them, nothing else keeps the image's layers.
  const auto images = lock_images(e);
  const image from = KIT_STEP(find_image(e, spec.image));
  settle_mounts(e, spec, from.config);
  any_storage& storage = e.storage(spec.storage);
  const storage_request asked(storage, spec.storage_options);
  e.isolation(spec.isolation);
  check_limits(spec);
  settle_modes(e, spec);
  e.network(network_of(e, spec).driver);
  capabilities_of(spec);
  log_settings_of(spec);
  if (parse_restart_policy(spec.restart).which != restart_policy::when::no && spec.auto_remove)
    fail(errc::invalid, "conflicting options: --restart and --rm");

  container_record r;
  r.id = random_id<container_id>();
  r.image = spec.image;
  r.image_digest = from.manifest.digest;
  r.storage = spec.storage;
  r.isolation = spec.isolation;
  r.command = join(program_of(spec, from.config));
  r.labels = from.config.labels;
  for (const option& l : spec.labels) {
    std::erase_if(r.labels, [&](const option& o) { return o.key == l.key; });
    r.labels.push_back(l);
  }
  r.auto_remove = spec.auto_remove;
  r.created_ns = now_ns();
  r.spec = to_json(spec);
  r.chain = KIT_STEP(ensure_unpacked(e, from, spec.storage));

  const std::string directory = e.container_dir(r.id);
  const auto lock = KIT_STEP(make_and_lock(e, r.id));
  held_volumes volumes;
  try {
    // The record last: a container that is in the records is whole.
    const layer own{layer_id::from(r.id.text()), r.chain};
    in_step("create_layer", [&] { asked.create(storage, own); });
    if (shows_volumes(r))
      in_step("make_volumes",
              [&] { volumes = held_volumes(e, spec, open_layer(storage, own, access::read_write).get()); });
    KIT_STEP(insert_named(e, r, spec.name, volumes));
  } catch (...) {
    volumes.forget(e);
    storage.remove(layer_id::from(r.id.text()));
    remove_tree(directory);
    throw;
  }
  return r;
}

session start(engine& e, const container_id& id, const start_options& options) {
  const auto lock = lock_container(e, id);
  container_record r = e.records().container(id.text());
  if (is_live(r) || record_lost_start(e, r)) fail(errc::conflict, "container {} is already running", r.name);
  if (r.state == container_state::removing) fail(errc::conflict, "container {} is being removed", r.name);
  const bool waits = r.state == container_state::restarting && r.init.pid == ::getpid();
  if (options.by_policy && !waits) return {};  // it was stopped, or started, meanwhile
  container_spec spec = spec_from_json(r.spec);
  const auto manifest = e.records().manifest(r.image_digest);
  if (!manifest) fail(errc::not_found, "start {}: its image {} is gone from the records", r.name, r.image);
  const image_config image = parse_image_config(manifest->config);

  // A run that ended without being finished: its remains go first.
  if (::access(e.bundle_dir(id).c_str(), F_OK) == 0) end_run(e, r, [] {});
  in_step("make_bundle_directories", [&] {
    make_directories(e.bundle_dir(id), 0711);
    make_directories(e.bundle_dir(id) + "/state", 0700);
  });

  const network_record n = network_of(e, spec);
  const network_traits traits = e.network(n.driver).traits();
  std::optional<endpoint_record> endpoint;
  try {
    if (traits.network_namespace == netns::own)
      endpoint = KIT_STEP(lease_endpoint(e, n, id, spec));
    else if (has_own_address(spec))
      fail(errc::invalid, "start {}: the network {} gives it no interface of its own, so no address", r.name, n.name);
    for (mount_request& m : spec.mounts) {
      if (m.what == mount_request::kind::volume) m.source = volume_path(e, m.source);
      if (::access(m.source.c_str(), F_OK) == 0) continue;
      if (m.what == mount_request::kind::volume)
        fail(errc::io, "start {}: the directory of a volume, {}, is gone; `kit system check` makes it again", r.name,
             m.source);
      if (m.must_exist) fail(errc::invalid, "start {}: bind source path does not exist: {}", r.name, m.source);
      make_directories(m.source);
    }
    bundle_plan bundle{e.bundle_dir(id),
                       id.str(),
                       e.owner(id.text()),
                       fmt::format("/kit-{}/{}", e.root_tag(), id.text()),
                       spec,
                       image,
                       traits.network_namespace,
                       endpoint ? endpoint->addresses : std::vector<std::string>(),
                       {},
                       {},
                       {},
                       {}};
    if (!n.gateways.empty()) bundle.gateway = n.gateways.front();
    plan_joined(e, spec, bundle);
    KIT_STEP(write_bundle(bundle, user_of(e, r, spec, image)));

    const models<any_storage, any_network, any_isolation> drivers{e.storage(r.storage), e.network(n.driver),
                                                                  e.isolation(r.isolation)};
    launched l = launch(drivers, plan_launch(e, r, spec, options, n, endpoint), [&](const launched& made) {
      e.records().transaction([&] {
        e.claim();
        r.state = container_state::running;
        r.init = {made.pid, made.start_time, boot_id()};
        r.exit_code = 0;
        r.oom_killed = false;
        r.error.clear();
        r.started_ns = now_ns();
        r.finished_ns = 0;
        r.stopped = false;
        r.log_bytes_lost = 0;
        if (!options.by_policy) r.restarts = 0, r.restart_delay_ms = 0;
        e.records().update(r);
        if (endpoint && made.attached) {
          endpoint->attachment = to_json(*made.attached);
          e.records().update(*endpoint);
        }
        add_event(e, r, "start");
      });
    });
    return {std::move(l.session), spec.tty};
  } catch (const error& x) {
    r.state = r.started_ns != 0 ? container_state::exited : container_state::created;
    r.init = {};
    r.exit_code = x.code() == errc::not_found ? 127 : x.code() == errc::permission ? 126 : 128;
    r.error = x.what();
    if (r.started_ns != 0) r.finished_ns = now_ns();
    const container_record failed = r;
    r.init = {};
    end_run(e, r, [&] { e.records().update(failed); });
    throw;
  }
}

container_record finish(engine& e, const container_id& id, int init) {
  const auto lock = lock_container(e, id);
  container_record r = e.records().container(id.text());
  if (!is_live(r) && !record_lost_start(e, r)) return r;
  auto report = read_exit(e.bundle_dir(id));
  if (!report || report->code < 0) {
    unique_fd found;
    if (r.init.boot_id == boot_id()) found = open_process(r.init.pid, r.init.start_time);
    // Also of a caller whose own was another's to finish, who then started it again.
    if (found && !has_ended(found.get())) return r;
    if (init < 0) init = found.get();
    if (!report) report = KIT_STEP(wait_exit_report(e, r));
    if ((!report || report->code < 0) && init >= 0)
      if (const auto code = exit_code_of(init)) report = exit_report{*code, now_ns()};
  }

  constexpr int killed = 128 + SIGKILL;
  if (report && report->code == killed) try {
      r.oom_killed = e.isolation(r.isolation).stats(e.as_container(r)).oom_kills > 0;
    } catch (const error&) {  // its cgroups are gone: a reboot, or somebody else's hand
    }
  container_record ended = r;
  ended.state = container_state::exited;
  ended.init = {};
  ended.exit_code = report ? report->code : -1;
  ended.finished_ns = report ? report->finished_ns : now_ns();
  ended.error =
      ended.exit_code < 0 ? "the exit code is unknown: the monitor was gone before the container ended"
      : report->log_bytes_lost > 0
          ? fmt::format("{} bytes of the log were lost: its disk or its buffer was full", report->log_bytes_lost)
          : "";
  ended.log_bytes_lost = report ? report->log_bytes_lost : 0;
  if (r.init.boot_id == boot_id()) plan_restart(ended);
  if (r.auto_remove) {
    ended.state = container_state::removing;
    any_storage& storage = e.storage(r.storage);
    in_step("remove_layer", [&] { retry_busy([&] { storage.remove(layer_id::from(id.text())); }); });
  }
  std::vector<std::string> volumes;
  end_run(e, r, [&] {
    if (ended.oom_killed) add_event(e, ended, "oom");
    add_event(e, ended, "die", {{"exitCode", std::to_string(ended.exit_code)}});
    if (!ended.auto_remove) return e.records().update(ended);
    add_event(e, ended, "destroy");
    volumes = strike_anonymous_volumes(e, r);
    e.records().remove_container(id);
  });
  if (!volumes.empty()) KIT_STEP(remove_volume_directories(e, volumes));
  if (ended.auto_remove) in_step("remove_container_directory", [&] { remove_tree(e.container_dir(id)); });
  return ended;
}

bool needs_tidying(engine& e) {
  // Who opens the records first reads the whole log: 300 KiB of it, four runs' worth, cost a start half a millisecond.
  constexpr std::uint64_t enough = 300 * 1024;
  return e.records().log_size() > enough;
}

void tidy(engine& e) {
  if (needs_tidying(e)) e.records().checkpoint();
}

void run_beside(std::vector<std::string> command, int kept) {
  const std::vector<char*> argv = argument_vector(command);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    ::posix_spawn_file_actions_addopen(&files, fd, "/dev/null", O_RDWR, 0);
  if (kept >= 0) ::posix_spawn_file_actions_adddup2(&files, kept, kept);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  pid_t pid = 0;
  const int failed = ::posix_spawn(&pid, argv[0], &files, &attributes, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  if (failed != 0) this_call().log(log_level::warning, fmt::format("execute {}: {}", command[0], errno_text(failed)));
}

void tidy_beside(engine& e) {
  if (!needs_tidying(e)) return;
  const engine_config& c = e.config();
  make_directories(e.run_dir(), 0711);
  // The process inherits it, and lets go of it by its end.
  const file_lock alone = file_lock::try_directory(e.run_dir());
  if (alone) run_beside({c.program, "--root", c.root, "--run-dir", c.run_dir, "internal", "tidy"}, alone.get());
}

std::optional<launch_state> lost_start(engine& e, const container_record& r) {
  if (r.state != container_state::created && r.state != container_state::exited) return {};
  const std::string bundle = e.bundle_dir(r.id);
  auto state = read_state(bundle);
  if (!state || state->boot_id != boot_id()) return {};
  if (!process_lives(state->pid, state->start_time, state->boot_id) && !read_exit(bundle)) return {};
  return state;
}

bool record_lost_start(engine& e, container_record& r) {
  const auto state = lost_start(e, r);
  if (!state) return false;
  r.state = container_state::running;
  r.init = {state->pid, state->start_time, state->boot_id};
  r.error.clear();
  r.started_ns = now_ns();
  r.finished_ns = 0;
  e.records().transaction([&] {
    e.records().update(r);
    add_event(e, r, "start");
  });
  return true;
}

void adopt(engine& e, const container_record& r) {
  report_channel report;
  if (!fork_launcher_in_kit(report)) return report.wait_started_in_kit();
  run_launcher(report, [&] {
    leave_the_terminal_in_launcher();
    launch_plan plan;
    plan_monitor(e, r.id, spec_from_json(r.spec), plan);
    started init;
    init.pid = r.init.pid;
    init.start_time = r.init.start_time;
    init.waiter = open_process(init.pid, init.start_time);
    if (!init.waiter) fail(errc::not_found, "adopt container {}: it has ended", r.name);
    streams_of_launch streams = open_again_in_launcher(init.pid);
    if (::unlink((plan.run_dir + "/attach").c_str()) != 0 && errno != ENOENT)
      fail_errno(errno, "remove the socket of the container's last monitor");
    save_state_in_launcher(plan.run_dir, init);
    monitor_descriptors descriptors(plan, init, streams, {});
    report.started();
    descriptors.become_monitor_in_launcher(plan.monitor);
  });
}

container_record current(engine& e, container_record r) {
  if (!is_live(r)) {
    if (restart_is_orphaned(r)) restart_beside(e, r.id);
    if (::access(e.bundle_dir(r.id).c_str(), F_OK) != 0) return r;
    const auto lock = try_lock_container(e, r.id);
    if (!lock) return r;  // it is being started, or finished
    r = e.records().container(r.id.text());
    record_lost_start(e, r);
    return r;
  }
  if (process_lives(r.init.pid, r.init.start_time, r.init.boot_id)) return r;
  // Whoever holds the lock is finishing it now; what they will find is not ours to wait for.
  if (!try_lock_container(e, r.id)) return r;
  return finish(e, r.id);
}

void kill(engine& e, const container_id& id, int signal) {
  const container_record r = current(e, e.records().container(id.text()));
  if (!is_live(r)) fail(errc::not_found, "container {} is not running", r.name);
  if (signal == SIGKILL || signal == stop_signal(e, r)) forgo_restart(e, id);
  e.isolation(r.isolation).signal(e.as_container(r), signal, reach::init);
  add_event(e, r, "kill", {{"signal", std::to_string(signal)}});
}

void stop(engine& e, const container_id& id, int signal, milliseconds timeout) {
  const container_record r = current(e, e.records().container(id.text()));
  const bool restarts = restart_policy_of(r).which != restart_policy::when::no;
  if (restarts) forgo_restart(e, id);
  if (!is_live(r)) return;
  const unique_fd init = open_process(r.init.pid, r.init.start_time);
  if (init) {
    any_isolation& isolation = e.isolation(r.isolation);
    const container c = e.as_container(r);
    const auto send = [&](int n) {
      try {
        isolation.signal(c, n, reach::init);
      } catch (const error& x) {
        if (x.code() != errc::not_found) throw;
      }
    };
    in_step("signal_container", [&] { send(signal); });
    if (r.state == container_state::paused) in_step("resume_container", [&] { isolation.resume(c); });
    if (!in_step("wait_for_end", [&] { return has_ended(init.get(), timeout); })) {
      in_step("kill_container", [&] { send(SIGKILL); });
      if (!has_ended(init.get(), milliseconds(10000)))
        fail(errc::busy, "stop {}: its process {} does not end, even by SIGKILL (stuck in the kernel?)", r.name,
             r.init.pid);
    }
  }
  try {
    finish(e, id, init.get());
  } catch (const error& x) {
    if (x.code() != errc::not_found) throw;  // --rm: the monitor was quicker
  }
  add_event(e, r, "stop");
  // Who finished it may have looked before this command was heard of.
  if (restarts) forgo_restart(e, id);
}

int wait(engine& e, const container_id& id) {
  unique_fd init;  // held beyond its end: should there be no monitor, it still knows the exit code
  for (container_record r = e.records().container(id.text());; r = e.records().container(id.text())) {
    if (init && has_ended(init.get()))
      r = finish(e, id, init.get());
    else
      r = current(e, r);
    if (is_live(r) && !init) init = open_process(r.init.pid, r.init.start_time);
    if (is_live(r)) {
      // The monitor's word arrives even if the container is removed at once.
      if (auto s = attach(e, id); s.monitor) {
        stream_options quiet;
        quiet.output = quiet.signal_proxy = false;
        const stream_end end = stream(e, id, s, quiet, false);
        if (end.exited) {
          try {
            finish(e, id);
          } catch (const error& x) {
            if (x.code() != errc::not_found) throw;
          }
          return end.exit_code;
        }
      }
    } else if (r.started_ns != 0) {
      return r.exit_code;
    }
    std::this_thread::sleep_for(milliseconds(50));
  }
}

void remove(engine& e, const container_id& id, bool force, bool with_volumes) {
  container_record r = current(e, e.records().container(id.text()));
  if (is_live(r) || r.state == container_state::restarting) {
    if (!force)
      fail(errc::conflict, "cannot remove container {}: it is running; stop it first, or use --force", r.name);
    stop(e, id, SIGKILL, milliseconds(10000));
  }
  const auto lock = lock_container(e, id);
  if (const auto still = e.records().find_container(id.text()); still)
    r = *still;
  else
    return;
  if (is_live(r) || r.state == container_state::restarting)
    fail(errc::conflict, "cannot remove container {}: it was started again meanwhile", r.name);
  r.state = container_state::removing;
  in_step("record_removal", [&] { e.records().releasing([&] { e.records().update(r); }); });
  any_storage& storage = e.storage(r.storage);
  in_step("remove_layer", [&] { retry_busy([&] { storage.remove(layer_id::from(id.text())); }); });
  std::vector<std::string> volumes;
  end_run(e, r, [&] {
    add_event(e, r, "destroy");
    if (with_volumes || r.auto_remove) volumes = strike_anonymous_volumes(e, r);
    e.records().remove_container(id);
  });
  if (!volumes.empty()) KIT_STEP(remove_volume_directories(e, volumes));
  in_step("remove_container_directory", [&] { remove_tree(e.container_dir(id)); });
}

container_stats stats(engine& e, const container_id& id) {
  const container_record r = current(e, e.records().container(id.text()));
  if (!is_live(r)) fail(errc::not_found, "container {} is not running", r.name);
  return e.isolation(r.isolation).stats(e.as_container(r));
}

void update(engine& e, const container_id& id, function_ref<void(container_spec&)> change,
            const container_spec& limits) {
  const auto lock = lock_container(e, id);
  container_record r = e.records().container(id.text());
  container_spec spec = spec_from_json(r.spec);
  const std::int64_t swap = spec.memory_swap != 0 ? spec.memory_swap : static_cast<std::int64_t>(spec.memory * 2);
  if (limits.memory != 0 && limits.memory_swap == 0 && swap > 0) {
    if (limits.memory > static_cast<std::uint64_t>(swap))
      fail(errc::invalid,
           "update {}: memory limit should be smaller than already set memoryswap limit, update the memoryswap at the "
           "same "
           "time",
           r.name);
    spec.memory_swap = swap;
  }
  change(spec);
  check_limits(spec);
  r.spec = to_json(spec);
  container_spec now = limits;
  if (limits.memory != 0) now.memory_swap = spec.memory_swap;
  if (is_live(r))
    in_step("update_limits", [&] { e.isolation(r.isolation).update(e.as_container(r), resources_json(now)); });
  e.records().transaction([&] {
    e.records().update(r);
    add_event(e, r, "update");
  });
}

void pause(engine& e, const container_id& id) {
  const auto lock = lock_container(e, id);
  container_record r = e.records().container(id.text());
  if (r.state == container_state::paused) fail(errc::conflict, "container {} is already paused", r.name);
  if (!is_live(r)) fail(errc::not_found, "container {} is not running", r.name);
  e.isolation(r.isolation).pause(e.as_container(r));
  r.state = container_state::paused;
  e.records().transaction([&] {
    e.records().update(r);
    add_event(e, r, "pause");
  });
}

void resume(engine& e, const container_id& id) {
  const auto lock = lock_container(e, id);
  container_record r = e.records().container(id.text());
  if (r.state != container_state::paused) fail(errc::conflict, "container {} is not paused", r.name);
  e.isolation(r.isolation).resume(e.as_container(r));
  r.state = container_state::running;
  e.records().transaction([&] {
    e.records().update(r);
    add_event(e, r, "unpause");
  });
}

int stop_signal(engine& e, const container_record& r) {
  if (const container_spec spec = spec_from_json(r.spec); !spec.stop_signal.empty())
    return parse_signal(spec.stop_signal);
  if (const auto m = e.records().manifest(r.image_digest); m)
    if (const image_config image = parse_image_config(m->config); !image.stop_signal.empty())
      return parse_signal(image.stop_signal);
  return SIGTERM;
}

}  // namespace kit
