// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <charconv>
#include <ctime>
#include <range/v3/algorithm/all_of.hpp>
#include <range/v3/algorithm/any_of.hpp>
#include <range/v3/view/filter.hpp>
#include <range/v3/view/take.hpp>
#include <thread>

#include "environment.hpp"
#include "kit/engine/attach.hpp"
#include "kit/engine/clock.hpp"
#include "kit/engine/exec.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/logs.hpp"
#include "labels.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace views = ranges::views;
namespace {

container_record find(invocation& call, const std::string& word) { return call.engine().records().container(word); }

bool boolean(invocation& call, const char* option, const std::string& text) {
  if (text != "true" && text != "false")
    throw usage_error(call.command(), fmt::format("{} \"{}\": true or false is expected", option, text));
  return text == "true";
}

std::int64_t integer(invocation& call, const char* option, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size())
    throw usage_error(call.command(), fmt::format("{} \"{}\": a whole number is expected", option, text));
  return value;
}

std::chrono::milliseconds grace(invocation& call, const std::string& seconds) {
  return std::chrono::seconds(std::max<std::int64_t>(integer(call, "--time", seconds), 0));
}

/// "Up 5 minutes", "Exited (0) 2 hours ago".
std::string status(const container_record& c, std::int64_t now) {
  switch (c.state) {
    case container_state::created: return "Created";
    case container_state::removing: return "Removal In Progress";
    case container_state::running: return "Up " + human_duration(now - c.started_ns);
    case container_state::paused: return "Up " + human_duration(now - c.started_ns) + " (Paused)";
    case container_state::exited:
    case container_state::restarting: break;
  }
  const std::string code = c.exit_code < 0 ? "unknown" : fmt::format("{}", c.exit_code);
  return fmt::format("{} ({}) {} ago", c.state == container_state::exited ? "Exited" : "Restarting", code,
                     human_duration(now - c.finished_ns));
}

bool matches(const container_record& c, const filter& f) {
  if (f.key == "status") return to_string(c.state) == f.value;
  if (f.key == "name") return c.name.find(f.value) != std::string::npos;
  if (f.key == "id") return c.id.text().starts_with(f.value);
  if (f.key == "ancestor") return c.image == f.value || c.image == f.value + ":latest" || c.image_digest == f.value;
  if (f.key == "volume") {
    const auto shown = spec_from_json(c.spec).mounts;
    return ranges::any_of(shown, [&](const mount_request& m) { return m.source == f.value || m.target == f.value; });
  }
  if (f.key == "exited") return c.state == container_state::exited && fmt::format("{}", c.exit_code) == f.value;
  return has_label(c.labels, f.value);
}

/// RFC 3339 from "2024-01-02T03:04:05Z", or from a time ago: "10m", "1h30m", "90s".
std::string moment(invocation& call, const char* option, const std::string& text) {
  if (text.empty() || text.find('T') != text.npos) return text;
  double seconds = 0;
  for (const char* at = text.data(); *at;) {
    double value = 0;
    const auto [end, failed] = std::from_chars(at, text.data() + text.size(), value);
    const double unit = *end == 'h' ? 3600 : *end == 'm' ? 60 : *end == 's' ? 1 : 0;
    if (failed != std::errc{} || unit == 0)
      throw usage_error(
          call.command(),
          fmt::format("{} \"{}\": a time (2024-01-02T03:04:05Z) or a time ago (10m) is expected", option, text));
    seconds += value * unit;
    at = end + 1;
  }
  return rfc3339(now_ns() - static_cast<std::int64_t>(seconds * 1e9));
}

}  // namespace

int ps(invocation& call) {
  listing list({{"ID", "CONTAINER ID"},
                {"Image", "IMAGE"},
                {"Command", "COMMAND"},
                {"RunningFor", "CREATED"},
                {"Status", "STATUS"},
                {"Ports", "PORTS"},
                {"Names", "NAMES"},
                {"CreatedAt", nullptr},
                {"State", nullptr},
                {"Labels", nullptr},
                {"Storage", nullptr},
                {"Isolation", nullptr}});
  bool all = false, latest = false;
  std::string last = "-1";
  std::vector<std::string> filter_texts;
  options o(call.command(), "", "List running containers; -a: all.");
  list.bind(o);
  o.flag("-a,--all", all, "Also those that do not run")
      .flag("-l,--latest", latest, "Only the newest, in any state")
      .value("-n,--last", last, "NUMBER", "Only the newest ones, in any state")
      .values("-f,--filter", filter_texts, "KEY=VALUE", "status, name, id, label, ancestor, volume or exited")
      .example("kit ps -a --filter status=exited")
      .example("kit rm $(kit ps -aq --filter label=test)");
  o.parse(call.words);
  const std::vector<filter> filters =
      parse_filters(filter_texts, {"status", "name", "id", "label", "ancestor", "volume", "exited"});
  std::int64_t most = latest ? 1 : integer(call, "--last", last);
  const bool any_state = all || most >= 0 || ranges::any_of(filters, [](const filter& f) {
                           return f.key == "status" || f.key == "exited";
                         });

  std::vector<container_record> containers;
  records& known = call.engine().records();
  for (const container_record& c : any_state ? known.containers() : known.live_containers()) {
    try {
      const container_record now = current(call.engine(), c);
      const bool gone = now.state == container_state::removing && c.state != now.state;  // --rm: it had ended
      if (!gone) containers.push_back(now);
    } catch (const error& e) {
      if (e.code() != errc::not_found) throw;  // removed since the list was read
    }
  }
  const auto wanted = [&](const container_record& c) {
    return (any_state || is_live(c)) && ranges::all_of(filters, [&](const filter& f) { return matches(c, f); });
  };
  const std::int64_t now = now_ns();
  const std::size_t limit = most >= 0 ? static_cast<std::size_t>(most) : containers.size();
  for (const container_record& c : containers | views::filter(wanted) | views::take(limit)) {
    const std::string command = "\"" + (list.full_ids() ? c.command : shortened(c.command, 20)) + "\"";
    list.add({std::string(list.full_ids() ? c.id.text() : c.id.brief()), c.image, command,
              human_duration(now - c.created_ns) + " ago", status(c, now), "", c.name, local_time(c.created_ns),
              std::string(to_string(c.state)), join_labels(c.labels), c.storage, c.isolation});
  }
  list.print();
  return 0;
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
      kit::start(call.engine(), find(call, word).id, {});
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
  if (!end.exited) return 0;
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
  return end.exited ? end.exit_code : 0;
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
  if (spec.tty && spec.interactive && !spec.detach && !::isatty(STDIN_FILENO))
    fail(errc::invalid, "exec -it: stdin is not a terminal; leave out -t");
  const container_id id = find(call, words.front()).id;
  try {
    return kit::exec(call.engine(), id, spec);
  } catch (const error& e) {
    report(e);
    return e.code() == errc::not_found ? 127 : e.code() == errc::permission ? 126 : call.verb.failure;
  }
}

int stop(invocation& call) {
  std::string time = "10", signal;
  const arguments words = options(call.command(), "CONTAINER [CONTAINER...]",
                                  "Ask containers to end by their stop signal, and kill those that do not.")
                              .value("-t,--time", time, "SECONDS", "How long to wait before SIGKILL (10)")
                              .value("-s,--signal", signal, "SIGNAL", "Send this instead of the stop signal")
                              .takes(1)
                              .example("kit stop -t 2 web")
                              .parse(call.words);
  const auto timeout = grace(call, time);
  const int given = signal.empty() ? 0 : parse_signal(signal);
  return for_each(words, [&](const std::string& word) {
    const container_record c = find(call, word);
    kit::stop(call.engine(), c.id, given ? given : stop_signal(call.engine(), c), timeout);
    fmt::print("{}\n", word);
  });
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

int rename(invocation& call) {
  const arguments words =
      options(call.command(), "CONTAINER NAME", "Give a container another name.").takes(2, 2).parse(call.words);
  check_container_name(words[1]);
  call.engine().records().rename(find(call, words[0]).id, words[1]);
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

int logs(invocation& call) {
  log_options options_of_log;
  bool timestamps = false;
  std::string tail = "all", since, until;
  const arguments words = options(call.command(), "CONTAINER",
                                  "Show what a container has written: its stdout on stdout, its stderr on stderr.")
                              .flag("-f,--follow", options_of_log.follow, "Go on until the container exits")
                              .flag("-t,--timestamps", timestamps, "Begin each line with its time")
                              .value("-n,--tail", tail, "LINES", "Only the last lines (all)")
                              .value("--since", since, "TIME", "Only what came after: 2024-01-02T03:04:05Z, or 10m ago")
                              .value("--until", until, "TIME", "Only what came before")
                              .takes(1, 1)
                              .example("kit logs -f web")
                              .example("kit logs --tail 20 -t web")
                              .parse(call.words);
  if (tail != "all") options_of_log.tail = std::max<std::int64_t>(integer(call, "--tail", tail), -1);
  options_of_log.since = moment(call, "--since", since);
  options_of_log.until = moment(call, "--until", until);
  const container_record c = find(call, words.front());
  read_log(call.engine(), c.id, options_of_log, [&](const log_entry& entry) {
    const int to = entry.is_stderr ? STDERR_FILENO : STDOUT_FILENO;
    write_all(to, timestamps ? entry.time + " " + entry.text : entry.text, entry.is_stderr ? "stderr" : "stdout");
  });
  return 0;
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

int stats(invocation& call) {
  listing list({{"ID", "CONTAINER ID"},
                {"Name", "NAME"},
                {"CPUPerc", "CPU %"},
                {"MemUsage", "MEM USAGE / LIMIT"},
                {"MemPerc", "MEM %"},
                {"BlockIO", "BLOCK I/O"},
                {"PIDs", "PIDS"}});
  bool no_stream = false;
  options o(call.command(), "[CONTAINER...]",
            "Show once what running containers use; the processor's share is taken over half a second.");
  list.bind(o);
  o.flag("--no-stream", no_stream, "As Docker's: one look is all there is here").takes(0, SIZE_MAX);
  const arguments words = o.parse(call.words);
  kit::engine& engine = call.engine();
  std::vector<container_record> containers;
  for (const std::string& word : words) containers.push_back(current(engine, find(call, word)));
  if (words.empty()) containers = engine.records().live_containers();

  struct sample {
    container_stats figures;
    std::chrono::steady_clock::time_point at;
  };
  const auto look = [&](const container_record& c) -> std::optional<sample> {
    try {
      return sample{kit::stats(engine, c.id), std::chrono::steady_clock::now()};
    } catch (const error& e) {
      if (e.code() != errc::not_found || !words.empty()) throw;
      return std::nullopt;  // has exited since the list was read
    }
  };
  std::vector<std::optional<sample>> first;
  for (const container_record& c : containers) first.push_back(look(c));
  if (!containers.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(500));
  for (std::size_t i = 0; i < containers.size(); ++i) {
    const std::optional<sample> now = look(containers[i]);
    if (!first[i] || !now) continue;
    const container_stats& s = now->figures;
    const double passed = std::chrono::duration<double, std::nano>(now->at - first[i]->at).count();
    const double cpu = static_cast<double>(s.cpu_ns - first[i]->figures.cpu_ns) / passed * 100;
    const std::uint64_t host =
        static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const std::uint64_t limit = s.memory_limit_bytes && s.memory_limit_bytes < host ? s.memory_limit_bytes : host;
    list.add({std::string(list.full_ids() ? containers[i].id.text() : containers[i].id.brief()), containers[i].name,
              fmt::format("{:.2f}%", cpu), human_memory(s.memory_bytes) + " / " + human_memory(limit),
              fmt::format("{:.2f}%", 100.0 * static_cast<double>(s.memory_bytes) / static_cast<double>(limit)),
              human_size(s.read_bytes) + " / " + human_size(s.write_bytes), fmt::format("{}", s.pids)});
  }
  list.print();
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
