// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <ctime>
#include <optional>

#include "environment.hpp"
#include "kit/engine/attach.hpp"
#include "kit/engine/bundle.hpp"
#include "kit/engine/clock.hpp"
#include "kit/engine/exec.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/restart.hpp"
#include "labels.hpp"
#include "limits.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

container_record find(invocation& call, const std::string& word) { return call.engine().records().container(word); }

bool boolean(invocation& call, const char* option, const std::string& text) {
  if (text != "true" && text != "false")
    throw usage_error(call.command(), fmt::format("{} \"{}\": true or false is expected", option, text), 125);
  return text == "true";
}

/// How long `stop` waits: what was given, or what the container was made with, or ten seconds.
std::chrono::milliseconds grace(const container_record& c, const std::optional<std::int64_t>& given) {
  std::int64_t seconds = given ? *given : spec_from_json(c.spec).stop_timeout;
  if (!given && seconds < 0) seconds = 10;
  // -1: as long as it takes.
  return seconds < 0 ? std::chrono::hours(24 * 365) : std::chrono::seconds(seconds);
}

}  // namespace

bool lacks_terminal(bool interactive, bool tty) {
  if (!interactive || !tty || ::isatty(STDIN_FILENO)) return false;
  report(error(errc::invalid, "the input device is not a TTY"));
  return true;
}

int start(invocation& call) {
  bool attached = false, interactive = false;
  std::string detach_keys = "ctrl-p,ctrl-q", proxy = "true";
  const arguments words =
      options(call.command(), "CONTAINER [CONTAINER...]", "Run containers that are created or have exited.")
          .flag("-a,--attach", attached, "Show its output, exit as it does")
          .flag("-i,--interactive", interactive, "Pass stdin on to it")
          .value("--detach-keys", detach_keys, "KEYS", "Leave the terminal by these keys")
          .value("--sig-proxy", proxy, "BOOL", "Pass signals on to the program (true)")
          .takes(1)
          .example("kit start web")
          .example("kit start -ai shell")
          .parse(call.words);
  attached = attached || interactive;
  if (attached && words.size() > 1) throw usage_error(call.command(), "attach to one container at a time");
  if (!attached) {
    const int code = for_each(words, [&](const std::string& word) {
      const container_record c = current(call.engine(), find(call, word));
      if (c.state != container_state::running) kit::start(call.engine(), c.id, {});
      fmt::print("{}\n", word);
    });
    tidy_beside(call.engine());
    return code;
  }
  kit::engine& engine = call.engine();
  const container_record c = find(call, words.front());
  const container_spec spec = spec_from_json(c.spec);
  session connection;
  try {
    connection = kit::start(engine, c.id, {.attach = true});
  } catch (const error& e) {
    report(e);
    const auto left = engine.records().find_container(c.id.text());
    return left && (left->exit_code == 126 || left->exit_code == 127) ? left->exit_code : call.verb.failure;
  }
  const stream_end end = stream(engine, c.id, connection,
                                {.stdin_open = interactive && spec.interactive,
                                 .tty = spec.tty,
                                 .signal_proxy = boolean(call, "--sig-proxy", proxy),
                                 .detach_keys = detach_keys},
                                true);
  if (end.detached) return 0;
  if (!end.exited) fail(errc::io, "start: the monitor of container {} is gone; see `kit system check`", c.name);
  return conclude(engine, c.id, connection, end);
}

int attach(invocation& call) {
  bool no_stdin = false;
  std::string detach_keys = "ctrl-p,ctrl-q", proxy = "true";
  const arguments words = options(call.command(), "CONTAINER", "Connect this terminal to a running container.")
                              .flag("--no-stdin", no_stdin, "Do not pass stdin on")
                              .value("--detach-keys", detach_keys, "KEYS", "Leave the terminal by these keys")
                              .value("--sig-proxy", proxy, "BOOL", "Pass signals on to the program (true)")
                              .takes(1, 1)
                              .example("kit attach web                 # ctrl-p ctrl-q leaves it running")
                              .parse(call.words);
  kit::engine& engine = call.engine();
  const container_record c = current(engine, find(call, words.front()));
  if (c.state == container_state::paused)
    fail(errc::conflict, "attach to container {}: it is paused; unpause it first", words.front());
  const container_spec spec = spec_from_json(c.spec);
  session connection = kit::attach(engine, c.id);
  const stream_end end = stream(engine, c.id, connection,
                                {.stdin_open = spec.interactive && !no_stdin,
                                 .tty = spec.tty,
                                 .signal_proxy = boolean(call, "--sig-proxy", proxy),
                                 .detach_keys = detach_keys},
                                false);
  if (!end.exited && !end.detached)
    fail(errc::io, "attach: the monitor of container {} is gone; see `kit system check`", c.name);
  return end.exit_code;
}

int exec(invocation& call) {
  exec_spec spec;
  std::vector<std::string> env, env_files;
  const arguments words =
      options(call.command(), "CONTAINER COMMAND [ARG...]", "Run one more command in a running container.")
          .flag("-i,--interactive", spec.interactive, "Pass stdin on")
          .flag("-t,--tty", spec.tty, "Give the command a terminal")
          .flag("-d,--detach", spec.detach, "Do not wait for it")
          .values("-e,--env", env, "KEY=VALUE", "Set an environment variable")
          .values("--env-file", env_files, "FILE", "Read environment variables from a file")
          .value("-w,--workdir", spec.workdir, "DIR", "Working directory in the container")
          .value("-u,--user", spec.user, "USER[:GROUP]", "User the command runs as")
          .flag("--privileged", spec.privileged, "All capabilities")
          .value("--detach-keys", spec.detach_keys, "KEYS", "Leave the terminal by these keys")
          .takes(2)
          .then_verbatim()
          .example("kit exec web cat /etc/hostname")
          .example("kit exec -it web sh")
          .parse(call.words);
  spec.command.assign(words.begin() + 1, words.end());
  spec.env = environment(env_files, env);
  if (!spec.detach && lacks_terminal(spec.interactive, spec.tty)) return 1;
  const container_id id = find(call, words.front()).id;
  try {
    return kit::exec(call.engine(), id, spec);
  } catch (const error& e) {
    report(e);
    return e.code() == errc::not_found ? 127 : e.code() == errc::permission ? 126 : call.verb.failure;
  }
}

namespace {
struct stop_options {
  std::optional<std::string> time;
  std::string signal;
  void bind(options& o) {
    o.value("-t,--time", time, "SECONDS", "How long to wait before SIGKILL (--stop-timeout, or 10; -1: forever)")
        .value("-s,--signal", signal, "SIGNAL", "Send this instead of the stop signal")
        .takes(1);
  }
  /// The work for each container, once the options are parsed.
  auto work(invocation& call) const {
    std::optional<std::int64_t> seconds;
    if (time) seconds = parse_integer(call, "--time", *time);
    const int given = signal.empty() ? 0 : parse_signal(signal);
    return [&call, seconds, given](const container_record& c) {
      kit::stop(call.engine(), c.id, given ? given : stop_signal(call.engine(), c), grace(c, seconds));
    };
  }
};
}  // namespace

int stop(invocation& call) {
  stop_options how;
  options o(call.command(), "CONTAINER [CONTAINER...]",
            "Ask containers to end by their stop signal, and kill those that do not.");
  how.bind(o);
  const arguments words = o.example("kit stop -t 2 web").parse(call.words);
  const auto stop_one = how.work(call);
  return for_each(words, [&](const std::string& word) {
    stop_one(find(call, word));
    fmt::print("{}\n", word);
  });
}

int restart(invocation& call) {
  stop_options how;
  options o(call.command(), "CONTAINER [CONTAINER...]",
            "Stop containers, and start them again; those that do not run are started.");
  how.bind(o);
  const arguments words = o.example("kit restart -t 2 web").parse(call.words);
  const auto stop_one = how.work(call);
  const int code = for_each(words, [&](const std::string& word) {
    const container_record c = find(call, word);
    stop_one(c);
    kit::start(call.engine(), c.id, {});
    fmt::print("{}\n", word);
  });
  tidy_beside(call.engine());
  return code;
}

int update(invocation& call) {
  limit_options limits;
  std::string policy;
  options o(call.command(), "CONTAINER [CONTAINER...]",
            "Change the limits, or the restart policy, of containers, running or not.");
  limits.bind(o);
  o.value("--restart", policy, "POLICY", "no, on-failure[:MOST], always or unless-stopped");
  const arguments words = o.takes(1).example("kit update -m 256m --cpus 1 web").parse(call.words);
  container_spec changed;
  limits.apply(changed);
  parse_restart_policy(policy);
  if (resources_json(changed) == "{}" && policy.empty())
    throw usage_error(call.command(), "you must provide one or more flags when using this command");
  return for_each(words, [&](const std::string& word) {
    kit::update(
        call.engine(), find(call, word).id,
        [&](container_spec& spec) {
          limits.apply(spec);
          if (!policy.empty()) spec.restart = policy;
        },
        changed);
    fmt::print("{}\n", word);
  });
}

int port(invocation& call) {
  const arguments words =
      options(call.command(), "CONTAINER [PORT[/PROTOCOL]]",
              "List the ports of a container that the host passes on to it. kit publishes none yet: a\n"
              "container on a bridge is reached by its own address, see `kit inspect`.")
          .takes(1, 2)
          .parse(call.words);
  const container_record c = find(call, words[0]);
  if (words.size() == 2)
    fail(errc::not_found, "no public port '{}{}' published for {}", words[1],
         words[1].find('/') == std::string::npos ? "/tcp" : "", c.name);
  return 0;
}

int kill(invocation& call) {
  std::string signal = "KILL";
  const arguments words =
      options(call.command(), "CONTAINER [CONTAINER...]", "Send a signal to the first process of containers.")
          .value("-s,--signal", signal, "SIGNAL", "KILL, HUP, SIGUSR1, 15 ...")
          .takes(1)
          .example("kit kill -s HUP web")
          .parse(call.words);
  const int number = parse_signal(signal);
  return for_each(words, [&](const std::string& word) {
    kit::kill(call.engine(), find(call, word).id, number);
    fmt::print("{}\n", word);
  });
}

int wait(invocation& call) {
  const arguments words =
      options(call.command(), "CONTAINER [CONTAINER...]", "Wait until containers have exited; print their exit codes.")
          .takes(1)
          .example("code=$(kit wait job)")
          .parse(call.words);
  return for_each(words, [&](const std::string& word) {
    fmt::print("{}\n", kit::wait(call.engine(), find(call, word).id));
    std::fflush(stdout);
  });
}

int rm(invocation& call) {
  bool force = false, volumes = false;
  const arguments words = options(call.command(), "CONTAINER [CONTAINER...]", "Remove containers and what they wrote.")
                              .flag("-f,--force", force, "Kill those that run first")
                              .flag("-v,--volumes", volumes, "Also their anonymous volumes")
                              .takes(1)
                              .example("kit rm -f web")
                              .parse(call.words);
  return for_each(words, [&](const std::string& word) {
    const auto found = call.engine().records().find_container(word);
    if (!found && force) return;
    kit::remove(call.engine(), found ? found->id : find(call, word).id, force, volumes);
    fmt::print("{}\n", word);
  });
}

int container_move(invocation& call) {
  std::string storage;
  const arguments words =
      options(call.command(), "CONTAINER [CONTAINER...]",
              "Take containers that do not run to another storage driver, with all that they have changed. Cut short "
              "at any\n"
              "point, each is whole by the one or by the other, and `kit system check` removes what is left over.")
          .value("--storage", storage, "DRIVER", "To this one")
          .takes(1)
          .example("kit stop web && kit container move --storage btrfs web && kit start web")
          .parse(call.words);
  if (storage.empty()) throw usage_error(call.command(), "--storage is needed: the driver to move to");
  return for_each(words, [&](const std::string& word) {
    move_container(call.engine(), find(call, word).id, storage);
    fmt::print("{}\n", word);
  });
}

int rename(invocation& call) {
  const arguments words =
      options(call.command(), "CONTAINER NAME", "Give a container another name.").takes(2, 2).parse(call.words);
  check_name("container", words[1]);
  const container_record c = find(call, words[0]);
  if (c.name == words[1]) fail(errc::invalid, "rename {}: it has that name already", c.name);
  kit::records& known = call.engine().records();
  known.transaction([&] {
    known.rename(c.id, words[1]);
    known.add(
        {now_ns(), "container", "rename", c.id.str(), {{"image", c.image}, {"name", words[1]}, {"oldName", c.name}}});
  });
  return 0;
}

int pause(invocation& call) {
  const arguments words = options(call.command(), "CONTAINER [CONTAINER...]",
                                  "Freeze all processes of containers; they keep their memory and use no processor.")
                              .takes(1)
                              .parse(call.words);
  return for_each(words, [&](const std::string& word) {
    kit::pause(call.engine(), find(call, word).id);
    fmt::print("{}\n", word);
  });
}

int unpause(invocation& call) {
  const arguments words =
      options(call.command(), "CONTAINER [CONTAINER...]", "Let paused containers go on.").takes(1).parse(call.words);
  return for_each(words, [&](const std::string& word) {
    kit::resume(call.engine(), find(call, word).id);
    fmt::print("{}\n", word);
  });
}

int diff(invocation& call) {
  const arguments words =
      options(call.command(), "CONTAINER", "List the files a container has added (A), changed (C) and deleted (D).")
          .takes(1, 1)
          .parse(call.words);
  constexpr char letters[] = {'?', 'A', 'C', 'D'};
  for (const change& c : kit::diff(call.engine(), find(call, words.front()).id))
    fmt::print("{} /{}\n", letters[static_cast<std::size_t>(c.what)], c.path);
  return 0;
}

int container_prune(invocation& call) {
  bool force = false;
  std::vector<std::string> filter_texts;
  options(call.command(), "", "Remove all containers that do not run.")
      .flag("-f,--force", force, "Do not ask")
      .values("--filter", filter_texts, "KEY=VALUE", "label")
      .parse(call.words);
  const std::vector<filter> filters = parse_filters(filter_texts, {"label"});
  if (!force && !confirm("This will remove all stopped containers.")) return 0;
  kit::engine& engine = call.engine();
  std::uint64_t bytes = 0;
  bool first = true;
  for (const container_record& r : engine.records().containers()) {
    const container_record c = current(engine, r);
    if (c.state != container_state::created && c.state != container_state::exited) continue;
    if (!passes(filters, {}, [&](const filter& f) { return has_label(c.labels, f.value); })) continue;
    const std::uint64_t size = engine.storage(c.storage).usage({layer_id::from(c.id.text()), c.chain}).bytes;
    try {
      kit::remove(engine, c.id, false);
    } catch (const error& e) {
      if (e.code() != errc::conflict && e.code() != errc::not_found) throw;  // started, or removed, since
      continue;
    }
    fmt::print("{}{}\n", first ? "Deleted Containers:\n" : "", c.id.text());
    first = false;
    bytes += size;
  }
  fmt::print("{}Total reclaimed space: {}\n", first ? "" : "\n", human_size(bytes));
  return 0;
}

int internal_finish(invocation& call) {
  const arguments words =
      options(call.command(), "ID", "Record a container's exit and release what it held; its monitor calls this.")
          .takes(1, 1)
          .parse(call.words);
  const auto found = call.engine().records().find_container(words.front());
  if (found) finish(call.engine(), found->id);
  tidy(call.engine());
  if (found && restart_policy_of(*found).which != restart_policy::when::no) restart_when_due(call.engine(), found->id);
  return 0;
}

int internal_tidy(invocation& call) {
  options(call.command(), "",
          "Move the records' log into the database; commands that leave containers behind call this.")
      .parse(call.words);
  tidy(call.engine());
  return 0;
}

}  // namespace kit::cli
