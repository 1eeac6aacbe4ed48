// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <charconv>

#include "environment.hpp"
#include "kit/engine/attach.hpp"
#include "kit/engine/lifecycle.hpp"
#include "labels.hpp"
#include "trace.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

/// The options that `run` and `create` share.
struct container_options {
  container_spec spec;
  std::optional<std::string> entrypoint;
  std::string memory, cpus, pids_limit, cidfile, shm_size;
  std::vector<std::string> env, env_files, labels, volumes, mounts, tmpfs;

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
        .value("-h,--hostname", spec.hostname, "NAME", "Host name of the container")
        .value("--entrypoint", entrypoint, "PROGRAM", "Replace the image's entrypoint (\"\" for none)")
        .values("-l,--label", labels, "KEY=VALUE", "Mark the container")
        .value("-m,--memory", memory, "SIZE", "Memory limit: 64m, 1.5g")
        .value("--cpus", cpus, "NUMBER", "How many processors' time it may use: 0.5")
        .value("--pids-limit", pids_limit, "NUMBER", "Limit of processes and threads (-1: none)")
        .value("--network,--net", spec.network, "NETWORK", "bridge, host, none: see `kit network ls`")
        .value("--storage", spec.storage, "DRIVER", "Storage driver of this container")
        .value("--isolation", spec.isolation, "DRIVER", "Isolation driver of this container")
        .values("--cap-add", spec.cap_add, "CAPABILITY", "Add a capability, or ALL")
        .values("--cap-drop", spec.cap_drop, "CAPABILITY", "Drop a capability, or ALL")
        .flag("--privileged", spec.privileged, "All capabilities and devices, no system call filter")
        .flag("--init", spec.init, "Run a small init that reaps processes and passes signals on")
        .value("--stop-signal", spec.stop_signal, "SIGNAL", "What `kit stop` sends first")
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
    spec.labels = parse_labels({}, labels);
    for (const std::string& text : volumes) spec.mounts.push_back(parse_volume(text));
    for (const std::string& text : mounts) parse_mount(text, spec);
    for (const std::string& text : tmpfs) spec.tmpfs.push_back(parse_tmpfs(text));
    if (!shm_size.empty()) spec.shm_size = parse_size(shm_size);
    if (!memory.empty()) spec.memory = parse_size(memory);
    if (!cpus.empty()) spec.cpus = number<double>(cpus, "--cpus", 0);
    if (!pids_limit.empty())
      spec.pids_limit = std::max<std::int64_t>(number<std::int64_t>(pids_limit, "--pids-limit", -1), 0);
    if (!spec.name.empty()) check_container_name(spec.name);
    if (!spec.stop_signal.empty()) parse_signal(spec.stop_signal);
    return spec;
  }

 private:
  template <class Number>
  static Number number(const std::string& text, const char* option, Number least) {
    Number value{};
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failed != std::errc{} || end != text.data() + text.size() || !(value >= least))
      fail(errc::invalid, "{} \"{}\": a number of at least {} is expected", option, text, least);
    return value;
  }
};

/// Taken before the container is made, so that a file that cannot be written leaves nothing behind.
class id_file {
 public:
  explicit id_file(std::string path) : path_(std::move(path)) {
    if (!path_.empty()) fd_ = open_file(path_, O_WRONLY | O_CREAT | O_EXCL, 0644);
  }
  ~id_file() {
    if (fd_) ::unlink(path_.c_str());
  }
  void write(const container_id& id) {
    if (!fd_) return;
    write_all(fd_.get(), id.text(), path_);
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
  id_file file(given.cidfile);
  const container_record made = kit::create(call.engine(), spec);
  file.write(made.id);
  fmt::print("{}\n", made.id.text());
  tidy_beside(call.engine());
  return 0;
}

int run(invocation& call) {
  container_options given;
  std::string detach_keys = "ctrl-p,ctrl-q", proxy = "true", trace;
  options o(call.command(), "IMAGE [COMMAND] [ARG...]",
            "Make a container from an image and run a command in it.\n"
            "Exits as the command does; 125: kit failed, 126: the command cannot be executed, 127: it is not there,\n"
            "128+N: it died of signal N.");
  given.bind(o);
  o.flag("-d,--detach", given.spec.detach, "Run in the background, print the container's id")
      .value("--detach-keys", detach_keys, "KEYS", "Leave the terminal by these keys (ctrl-p,ctrl-q)")
      .value("--sig-proxy", proxy, "BOOL", "Pass signals on to the program (true)")
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
  if (spec.tty && spec.interactive && !spec.detach && !::isatty(STDIN_FILENO))
    fail(errc::invalid, "run -it: stdin is not a terminal; leave out -t");

  const tracer steps(trace);
  kit::engine& engine = call.engine();
  id_file file(given.cidfile);
  const container_record made = KIT_STEP(kit::create(engine, spec));
  file.write(made.id);

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
  if (spec.detach) {
    fmt::print("{}\n", made.id.text());
    tidy_beside(engine);
    return 0;
  }
  const stream_options how{
      .stdin_open = spec.interactive, .tty = spec.tty, .signal_proxy = proxy == "true", .detach_keys = detach_keys};
  const stream_end end = KIT_STEP(stream(engine, made.id, connection, how, true));
  if (!end.exited) return 0;
  return KIT_STEP(conclude(engine, made.id, connection, end));
}

}  // namespace kit::cli
