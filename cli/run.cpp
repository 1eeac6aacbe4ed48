// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include "environment.hpp"
#include "kit/engine/attach.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/restart.hpp"
#include "labels.hpp"
#include "limits.hpp"
#include "trace.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

/// The options that `run` and `create` share.
struct container_options {
  container_spec spec;
  std::optional<std::string> entrypoint;
  std::string cidfile, shm_size, oom_score_adj, stop_timeout, pull, userns;
  limit_options limits;
  std::vector<std::string> env, env_files, labels, label_files, volumes, mounts, tmpfs, ulimits, sysctls, security,
      storage_options, log_options;
  bool quiet = false;

  void bind(options& o) {
    o.flag("-i,--interactive", spec.interactive, "Keep stdin open")
        .flag("-t,--tty", spec.tty, "Give the program a terminal")
        .flag("--rm", spec.auto_remove, "Remove the container when it has exited")
        .value("--name", spec.name, "NAME", "Name of the container (drawn if not given)")
        .values("-e,--env", env, "KEY=VALUE", "Set an environment variable; KEY alone passes this shell's on")
        .values("--env-file", env_files, "FILE", "Read environment variables from a file")
        .values("-v,--volume", volumes, "[SOURCE:]PATH[:ro]", "Show a host path, or a volume by its name, at PATH")
        .values("--mount", mounts, "KEY=VALUE,...", "The same: type=bind|volume|tmpfs,source=,target=,readonly,...")
        .values("--volumes-from", spec.volumes_from, "CONTAINER[:ro]", "Show what another container shows")
        .values("--tmpfs", tmpfs, "PATH[:OPTIONS]", "Mount a tmpfs")
        .value("--shm-size", shm_size, "SIZE", "Size of /dev/shm (64m)")
        .flag("--read-only", spec.read_only, "Make the root file system read-only")
        .value("-w,--workdir", spec.workdir, "DIR", "Working directory in the container")
        .value("-u,--user", spec.user, "USER[:GROUP]", "User the program runs as")
        .values("--group-add", spec.group_add, "GROUP", "One more group the program runs with")
        .value("-h,--hostname", spec.hostname, "NAME", "Host name of the container")
        .value("--domainname", spec.domainname, "NAME", "Domain name of the container")
        .values("--add-host", spec.add_hosts, "NAME:ADDRESS", "Add a line to /etc/hosts (host-gateway: the host)")
        .values("--dns", spec.dns, "ADDRESS", "Ask this name server in place of the host's")
        .values("--dns-search", spec.dns_search, "DOMAIN", "Look names up in this domain (.: in none)")
        .values("--dns-option,--dns-opt", spec.dns_options, "OPTION", "An option of resolv.conf(5)")
        .value("--entrypoint", entrypoint, "PROGRAM", "Replace the image's entrypoint (\"\" for none)")
        .values("-l,--label", labels, "KEY=VALUE", "Mark the container")
        .values("--label-file", label_files, "FILE", "Read labels from a file, one a line");
    limits.bind(o);
    o.value("--memory-swappiness", memory_swappiness, "NUMBER", "How readily memory is swapped out: 0 to 100")
        .flag("--oom-kill-disable", spec.oom_kill_disable, "Let the program wait for memory rather than be killed")
        .value("--oom-score-adj", oom_score_adj, "NUMBER", "Whom the kernel kills first: -1000 to 1000")
        .values("--ulimit", ulimits, "NAME=SOFT[:HARD]", "A limit of setrlimit(2): nofile=1024:4096")
        .values("--sysctl", sysctls, "KEY=VALUE", "A kernel setting of its namespaces: net.core.somaxconn=64")
        .values("--device", spec.devices, "HOST[:PATH][:rwm]", "Give it a device of the host")
        .value("--network,--net", spec.network, "NETWORK", "bridge, host, none, container:NAME: see `kit network ls`")
        .value("--ip", spec.ip, "ADDRESS", "Its IPv4 address on that network")
        .value("--ip6", spec.ip6, "ADDRESS", "Its IPv6 address on that network")
        .value("--mac-address", spec.mac_address, "ADDRESS", "Its hardware address on that network")
        .value("--pid", spec.pid_mode, "MODE", "Whose processes it sees: host, container:NAME")
        .value("--ipc", spec.ipc_mode, "MODE", "Whose shared memory it has: private, shareable, host, container:NAME")
        .value("--uts", spec.uts_mode, "MODE", "Whose host name it has: host, container:NAME")
        .value("--cgroupns", spec.cgroupns_mode, "MODE", "Whose control groups it sees: private, host")
        .value("--userns", userns, "MODE", "host: there are no others here")
        .value("--storage", spec.storage, "DRIVER", "Storage driver of this container")
        .values("--storage-opt", storage_options, "KEY=VALUE",
                "size=10g: how much its files may take; or the driver's own")
        .value("--isolation", spec.isolation, "DRIVER", "Isolation driver of this container")
        .values("--cap-add", spec.cap_add, "CAPABILITY", "Add a capability, or ALL")
        .values("--cap-drop", spec.cap_drop, "CAPABILITY", "Drop a capability, or ALL")
        .flag("--privileged", spec.privileged, "All capabilities and devices, no system call filter")
        .values("--security-opt", security, "OPTION", "no-new-privileges, seccomp=unconfined")
        .flag("--init", spec.init, "Run a small init that reaps processes and passes signals on")
        .value("--stop-signal", spec.stop_signal, "SIGNAL", "What `kit stop` sends first")
        .value("--stop-timeout", stop_timeout, "SECONDS", "How long `kit stop` waits before it kills (10)")
        .value("--pull", pull, "WHEN", "missing or never: images come by `kit load` and `kit import`")
        .flag("-q,--quiet", quiet, "As Docker's: nothing is pulled")
        .value("--restart", spec.restart, "POLICY", "no, on-failure[:MOST], always or unless-stopped")
        .value("--log-driver", spec.log_driver, "DRIVER", "json-file, file (plain text lines) or none")
        .values("--log-opt", log_options, "KEY=VALUE", "max-size, max-file, compress, mode, max-buffer-size")
        .value("--cidfile", cidfile, "FILE", "Write the container's id to a new file")
        .takes(1)
        .then_verbatim();
  }

  /// The specification, once the options are parsed.
  container_spec finish(const arguments& words) {
    spec.image = words.front();
    spec.command.assign(words.begin() + 1, words.end());
    spec.env = environment(env_files, env);
    if (entrypoint) spec.entrypoint = entrypoint->empty() ? arguments{} : arguments{*entrypoint};
    spec.labels = parse_labels(label_files, labels);
    for (const std::string& text : volumes) spec.mounts.push_back(parse_volume(text));
    for (const std::string& text : mounts) parse_mount(text, spec);
    for (const std::string& text : tmpfs) spec.tmpfs.push_back(parse_tmpfs(text));
    for (const std::string& text : ulimits) spec.ulimits.push_back(parse_ulimit(text));
    for (const std::string& text : sysctls) spec.sysctls.push_back(parse_sysctl(text));
    for (const std::string& text : spec.add_hosts) check_host(text);
    for (const std::string& text : spec.dns) check_address(text);
    for (const std::string* address : {&spec.ip, &spec.ip6})
      if (!address->empty()) check_address(*address);
    if (!spec.mac_address.empty()) check_mac_address(spec.mac_address);
    for (const std::string& text : spec.devices) (void)parse_device(text);
    for (const std::string& text : security) secure(text);
    spec.storage_options = pairs("--storage-opt", storage_options);
    spec.log_options = pairs("--log-opt", log_options);
    if (!shm_size.empty()) spec.shm_size = parse_size(shm_size);
    limits.apply(spec);
    if (!memory_swappiness.empty())
      spec.memory_swappiness = parse_number<std::int64_t>(memory_swappiness, "--memory-swappiness", -1);
    if (!oom_score_adj.empty())
      spec.oom_score_adj = parse_number<std::int64_t>(oom_score_adj, "--oom-score-adj", INT32_MIN);
    if (!stop_timeout.empty()) spec.stop_timeout = parse_number<std::int64_t>(stop_timeout, "--stop-timeout", -1);
    if (!pull.empty() && pull != "missing" && pull != "never")
      fail(errc::invalid, "--pull \"{}\": missing or never is expected: kit pulls nothing", pull);
    if (!userns.empty() && userns != host_mode) fail(errc::invalid, "--userns: invalid USER mode: {}", userns);
    if (parse_restart_policy(spec.restart).which != restart_policy::when::no && spec.auto_remove)
      fail(errc::invalid, "conflicting options: --restart and --rm");
    if (!spec.name.empty()) check_name("container", spec.name);
    if (!spec.stop_signal.empty()) parse_signal(spec.stop_signal);
    return spec;
  }

 private:
  static std::vector<option> pairs(const char* option_name, const std::vector<std::string>& texts) {
    std::vector<option> list;
    for (const std::string& text : texts) {
      const auto equals = text.find('=');
      if (equals == 0 || equals == std::string::npos)
        fail(errc::invalid, "{} \"{}\": KEY=VALUE is expected", option_name, text);
      list.push_back({text.substr(0, equals), text.substr(equals + 1)});
    }
    return list;
  }

  void secure(const std::string& text) {
    if (text == "no-new-privileges" || text == "no-new-privileges=true" || text == "no-new-privileges:true")
      spec.no_new_privileges = true;
    else if (text == "seccomp=unconfined" || text == "seccomp:unconfined")
      spec.seccomp_unconfined = true;
    else if (text != "apparmor=unconfined" && text != "label=disable" && text != "no-new-privileges=false")
      fail(errc::invalid, "invalid --security-opt: \"{}\"", text);
  }
  std::string memory_swappiness;
};

/// Taken before the container is made, so that a file that cannot be written leaves nothing behind.
class new_file {
 public:
  new_file(std::string path, const char* what) : path_(std::move(path)) {
    if (path_.empty()) return;
    fd_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!fd_ && errno == EEXIST)
      fail(errc::exists, "{} file found, make sure the other container isn't running or delete {}", what, path_);
    if (!fd_) fail_errno(errno, "make {}", path_);
  }
  ~new_file() {
    if (fd_) ::unlink(path_.c_str());
  }
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(fd_); }
  void write(std::string_view text) {
    if (!fd_) return;
    write_all(fd_.get(), text, path_);
    fd_.reset();
  }

 private:
  std::string path_;
  unique_fd fd_;
};

}  // namespace

int create(invocation& call) {
  container_options given;
  options o(call.command(), "IMAGE [COMMAND] [ARG...]",
            "Make a container from an image, without running it. `kit start` runs it.");
  given.bind(o);
  o.example("kit create --name web -m 64m debian:12 my-service").example("kit start -a web");
  const container_spec spec = given.finish(o.parse(call.words));
  new_file file(given.cidfile, "container ID");
  const container_record made = kit::create(call.engine(), spec);
  file.write(made.id.text());
  fmt::print("{}\n", made.id.text());
  tidy_beside(call.engine());
  return 0;
}

int run(invocation& call) {
  container_options given;
  std::string detach_keys = "ctrl-p,ctrl-q", proxy = "true", trace, pidfile;
  options o(call.command(), "IMAGE [COMMAND] [ARG...]",
            "Make a container from an image and run a command in it.\n"
            "Exits as the command does; 125: kit failed, 126: the command cannot be executed, 127: it is not there,\n"
            "128+N: it died of signal N.");
  given.bind(o);
  o.flag("-d,--detach", given.spec.detach, "Run in the background, print the container's id")
      .value("--detach-keys", detach_keys, "KEYS", "Leave the terminal by these keys (ctrl-p,ctrl-q)")
      .value("--sig-proxy", proxy, "BOOL", "Pass signals on to the program (true)")
      .value("--pidfile", pidfile, "FILE", "Write the pid of the container's first process to a new file")
      .value("--trace", trace, "FILE",
             "Write when each step began and ended, as Chrome trace JSON (- for a table on stderr)")
      .example("kit run --rm debian:12 cat /etc/os-release")
      .example("kit run --rm -it debian:12 bash                     # ctrl-p ctrl-q leaves it running")
      .example("kit run -d --name web -m 64m --cpus 0.5 debian:12 my-service")
      .example("kit run --rm -v /srv/data:/data:ro --network none debian:12 ls /data")
      .example("kit run --rm -v state:/var/lib/app --mount type=tmpfs,target=/scratch,tmpfs-size=64m debian:12 my-job");
  const arguments words = o.parse(call.words);
  const container_spec spec = given.finish(words);
  if (proxy != "true" && proxy != "false") throw usage_error(call.command(), "--sig-proxy: true or false is expected");
  parse_detach_keys(detach_keys);
  if (!spec.detach && lacks_terminal(spec.interactive, spec.tty)) return 1;

  const tracer steps(trace);
  kit::engine& engine = call.engine();
  new_file file(given.cidfile, "container ID");
  new_file pid(pidfile, "pid");
  const container_record made = KIT_STEP(kit::create(engine, spec));
  file.write(made.id.text());

  session connection;
  try {
    connection = KIT_STEP(kit::start(engine, made.id, {.attach = !spec.detach}));
  } catch (const error& e) {
    report(e);
    int code = call.verb.failure;
    if (const auto left = engine.records().find_container(made.id.text())) {
      if (left->exit_code == 126 || left->exit_code == 127) code = left->exit_code;
      if (spec.auto_remove) kit::remove(engine, made.id, true);
    } else if (e.code() == errc::not_found || e.code() == errc::permission) {
      code = e.code() == errc::not_found ? 127 : 126;
    }
    return code;
  }
  if (pid) pid.write(fmt::format("{}\n", engine.records().container(made.id.text()).init.pid));
  if (spec.detach) {
    fmt::print("{}\n", made.id.text());
    tidy_beside(engine);
    return 0;
  }
  const stream_options how{
      .stdin_open = spec.interactive, .tty = spec.tty, .signal_proxy = proxy == "true", .detach_keys = detach_keys};
  const stream_end end = KIT_STEP(stream(engine, made.id, connection, how, true));
  if (end.detached) return 0;
  if (!end.exited) fail(errc::io, "run: the monitor of container {} is gone; see `kit system check`", made.id.brief());
  return KIT_STEP(conclude(engine, made.id, connection, end));
}

}  // namespace kit::cli
