// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <thread>

#include "kit/system/namespace.hpp"
#include "kit/testing/impl/isolation_fixture.hpp"

namespace kit::testing::detail {
namespace {

// Programs that say "ready" and go on until they are ended. A shell as process 1 ignores what it has no trap for.
constexpr const char* idle = "echo ready; while :; do sleep 0.05; done";
constexpr const char* ticking = "echo ready; while :; do echo tick; usleep 5000; done";

/// Runs `script` and waits for its "ready".
void run_until_ready(specimen& x, const char* script) {
  x.script(script);
  x.create();
  x.start();
  expect(x.out.until("ready").find("ready") != std::string::npos, "the program does not run; its output: \"{}\"",
         x.out.now());
}

/// Does `body` in a child of this process and answers its exit code; 99 if it threw.
template <class Body>
int in_child(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    int code = 99;
    try {
      code = body();
    } catch (const std::exception& e) {
      fmt::print(stderr, "{}\n", e.what());
    }
    ::_exit(code);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool ticks(specimen& x, milliseconds patience) {
  x.out.forget();
  return x.out.until("tick", patience).find("tick") != std::string::npos;
}

// ---- 1 ------------------------------------------------------------------------------------------

void traits_are_constant(isolation_fixture& f) {
  expect(f.driver().traits().needs_rootfs_path == f.another()->traits().needs_rootfs_path,
         "two objects of one driver answer different traits");
  expect(!f.driver().name().empty(), "the driver has no name");
}

// ---- 2 ------------------------------------------------------------------------------------------

void create_blocks_before_the_program(isolation_fixture& f) {
  specimen x(f);
  x.script("echo ran; touch /ran").create();
  std::this_thread::sleep_for(milliseconds(80));
  expect(x.out.now().empty(), "something ran before start: \"{}\"", x.out.now());
  expect(::access((x.rootfs() + "/ran").c_str(), F_OK) != 0, "the program ran before start");
  expect(!has_ended(x.s.init.get()), "the init ended before start");
}

void create_lends_the_network_namespace(isolation_fixture& f) {
  specimen x(f);
  int calls = 0;
  std::string lent;
  const auto look = [&](int netns) {
    ++calls;
    lent = link_of(fmt::format("/proc/self/fd/{}", netns));
  };
  const function_ref<void(int)> on_netns = look;
  x.script("true").create({-1, x.out.writer(), x.out.writer(), -1, &on_netns});
  if (calls == 0) skip("the driver does not lend it early");
  expect(calls == 1, "on_netns was called {} times", calls);
  const std::string answered = link_of(fmt::format("/proc/self/fd/{}", x.s.netns.get()));
  expect(lent == answered, "{} was lent, and create answered {}", lent, answered);
}

void create_fails_with_what_on_netns_throws(isolation_fixture& f) {
  specimen x(f);
  bool called = false;
  const auto refuse = [&](int) {
    called = true;
    fail(errc::no_space, "no address is left");
  };
  const function_ref<void(int)> on_netns = refuse;
  const stdio io{-1, x.out.writer(), x.out.writer(), -1, &on_netns};
  x.script("true");
  try {
    x.create(io);
  } catch (const error& e) {
    if (!called) throw;
    expect(e.code() == errc::no_space, "create threw \"{}\" instead", e.what());
    expect_no_traces(x.c, "create failed");
    return;
  }
  if (!called) skip("the driver does not lend it early");
  throw failed("create succeeded although on_netns threw");
}

void create_answers_who_runs(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, idle);
  expect(x.s.pid > 0 && x.s.start_time == process_start_time(x.s.pid), "pid {} began at {}, and create answered {}",
         x.s.pid, process_start_time(x.s.pid), x.s.start_time);
  expect(x.s.init && x.s.waiter && x.s.netns, "create left a descriptor out");
  expect(send_signal(x.s.init.get(), 0), "the init's pidfd names no living process");
  const auto fdinfo = read_file(fmt::format("/proc/self/fdinfo/{}", x.s.init.get()));
  expect(status_word("\n" + fdinfo, "Pid") == std::to_string(x.s.pid), "the init's pidfd is of another process");
  const auto children = own_children();
  expect(std::find(children.begin(), children.end(), x.s.waiter_pid) != children.end(),
         "the waiter {} is not a child of the caller", x.s.waiter_pid);
  expect(same_namespace(x.s.netns.get(), open_namespace(x.s.pid, namespace_kind::net).get()),
         "netns is not the network namespace of the init");
  for (int fd : {x.s.init.get(), x.s.waiter.get(), x.s.netns.get()})
    expect((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0, "a descriptor that create answered is not O_CLOEXEC");
}

void namespaces_are_its_own(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, idle);
  for (const char* kind : {"mnt", "uts", "ipc", "net", "pid", "cgroup"}) {
    const auto inside = link_of(fmt::format("/proc/{}/ns/{}", x.s.pid, kind));
    expect(!inside.empty() && inside != link_of(fmt::format("/proc/self/ns/{}", kind)),
           "the container is in the host's {} namespace ({})", kind, inside);
  }
}

void namespaces_not_listed_are_the_callers(isolation_fixture& f) {
  specimen x(f);
  auto& list = x.config["linux"]["namespaces"];
  list = {{{"type", "pid"}}, {{"type", "mount"}}, {{"type", "uts"}}};
  run_until_ready(x, idle);
  for (const char* kind : {"ipc", "net"})
    expect(link_of(fmt::format("/proc/{}/ns/{}", x.s.pid, kind)) == link_of(fmt::format("/proc/self/ns/{}", kind)),
           "the container has a {} namespace of its own, and did not ask for one", kind);
}

void named_network_namespace_is_joined(isolation_fixture& f) {
  specimen first(f), second(f);
  run_until_ready(first, idle);
  second.config["linux"]["namespaces"][1] = {{"type", "network"},
                                             {"path", fmt::format("/proc/{}/ns/net", first.s.pid)}};
  run_until_ready(second, idle);
  expect(same_namespace(first.s.netns.get(), second.s.netns.get()), "the named network namespace was not joined");
}

void rootfs_is_the_mounts(isolation_fixture& f) {
  specimen x(f), y(f);
  if (f.driver().traits().needs_rootfs_path) skip("the driver takes a path");
  // config.json's root is x's own, the description is y's: the description wins.
  const mount root = mount::bind(y.rootfs(), false);
  x.script("cat /etc/mark; ls /");
  x.create({-1, x.out.writer(), x.out.writer(), -1}, std::span(&root, 1));
  x.start();
  x.wait();
  const auto text = x.out.all();
  expect(text.find(y.c.id.str()) == 0, "the root file system is not what the mounts describe: \"{}\"", text);
  expect(text.find("usr") == std::string::npos && text.find(f.scratch()) == std::string::npos,
         "the host's root is visible: \"{}\"", text);
}

void without_mounts_the_root_is_root_path(isolation_fixture& f) {
  specimen x(f);
  x.script("cat /etc/mark");
  x.create({-1, x.out.writer(), x.out.writer(), -1}, {});
  x.start();
  x.wait();
  expect(x.out.all() == x.c.id.str(), "the root file system is not root.path: \"{}\"", x.out.now());
}

void malformed_config_is_invalid(isolation_fixture& f) {
  struct malformed {
    const char* member;
    void (*spoil)(json&);
  };
  static constexpr malformed all[] = {
      {"process.args", [](json& c) { c["process"]["args"] = "sh"; }},
      {"process.args", [](json& c) { c["process"]["args"] = json::array(); }},
      {"process.cwd", [](json& c) { c["process"]["cwd"] = 7; }},
      {"process.cwd", [](json& c) { c["process"]["cwd"] = "not/absolute"; }},
      {"process.user.uid", [](json& c) { c["process"]["user"]["uid"] = "root"; }},
      {"process.env[1]", [](json& c) { c["process"]["env"][1] = 5; }},
      {"root.path", [](json& c) { c["root"]["path"] = json::object(); }},
      {"mounts[0].destination", [](json& c) { c["mounts"][0].erase("destination"); }},
      {"linux.namespaces[0].type", [](json& c) { c["linux"]["namespaces"][0]["type"] = "space"; }},
      {"linux.resources.pids.limit", [](json& c) { c["linux"]["resources"]["pids"]["limit"] = "many"; }},
  };
  for (const auto& m : all) {
    specimen x(f);
    m.spoil(x.config);
    expect_error(errc::invalid, fmt::format("create with a wrong {}", m.member), {m.member}, [&] { x.create(); });
    expect_no_traces(x.c, fmt::format("create refused a wrong {}", m.member));
  }
  specimen x(f);
  x.write_config("{\"process\": ");
  expect_error(errc::invalid, "create with half a config.json", {}, [&] {
    const mount root = mount::bind(x.rootfs(), false);
    f.driver().create(x.c, f.driver().traits().needs_rootfs_path ? std::span<const mount>() : std::span(&root, 1), {});
  });
}

void what_the_kernel_lacks_is_unsupported(isolation_fixture& f) {
  specimen x(f);
  x.config["linux"]["resources"]["hugepageLimits"] = {{{"pageSize", "3KB"}, {"limit", 0}}};
  expect_error(errc::unsupported, "create with a limit on pages of 3 KB", {"hugepageLimits"}, [&] { x.create(); });
  expect_no_traces(x.c, "create refused a limit");
}

void limits_are_set(isolation_fixture& f) {
  specimen x(f);
  x.config["linux"]["resources"] = {{"pids", {{"limit", 19}}}, {"memory", {{"limit", 64 << 20}}}};
  run_until_ready(x, idle);
  const auto stats = f.driver().stats(x.c);
  expect(stats.pids_limit == 19, "pids.limit is {}, not 19", stats.pids_limit);
  expect(stats.memory_limit_bytes == 64 << 20, "memory.limit is {}, not 64 MiB", stats.memory_limit_bytes);
  const auto limited = read_file(fmt::format("/proc/{}/cgroup", x.s.pid));
  expect(limited.find(x.c.id.str()) != std::string::npos, "the init is in no cgroup of its own: {}", limited);
}

void absent_program_is_not_found(isolation_fixture& f) {
  for (const char* program : {"/bin/no-such-program", "no-such-program"}) {
    specimen x(f);
    x.args({program});
    expect_error(errc::not_found, "create of a program that is not there", {"no-such-program"}, [&] { x.create(); });
    expect_no_traces(x.c, "create did not find the program");
  }
}

void program_that_cannot_be_executed_is_permission(isolation_fixture& f) {
  for (const char* program : {"/etc/plain", "/etc"}) {
    specimen x(f);
    x.put("/etc/plain", "#!/bin/sh\n", 0644);
    x.args({program});
    expect_error(errc::permission, fmt::format("create of the program {}", program), {program}, [&] { x.create(); });
    expect_no_traces(x.c, "create could not execute the program");
  }
}

void create_twice_is_exists(isolation_fixture& f) {
  specimen x(f);
  x.script("echo first").create();
  container again = x.c;
  again.pid = 0;
  again.start_time = 0;
  capture out;
  expect_error(errc::exists, "create of a container that exists", {}, [&] {
    const mount root = mount::bind(x.rootfs(), false);
    (void)f.another()->create(again,
                              f.driver().traits().needs_rootfs_path ? std::span<const mount>() : std::span(&root, 1),
                              {-1, out.writer(), out.writer(), -1});
  });
  x.start();
  expect(x.wait() == 0, "the first container was broken by the second create");
  expect(x.out.all() == "first\n", "the first container was broken by the second create: \"{}\"", x.out.now());
}

void failed_create_leaves_nothing(isolation_fixture& f) {
  const auto descriptors = own_descriptors();
  const auto children = own_children();
  {
    specimen x(f);
    x.config["linux"]["resources"]["hugepageLimits"] = {{{"pageSize", "3KB"}, {"limit", 0}}};
    expect_error(errc::unsupported, "create with an impossible limit", {}, [&] { x.create(); });
    expect_no_traces(x.c, "a create that failed at a limit");
  }
  {
    specimen x(f);
    x.config["mounts"].push_back(
        {{"destination", "/mnt"}, {"type", "nosuchfs"}, {"source", "none"}, {"options", json::array()}});
    try {
      x.create();
      throw failed("create mounted a file system that does not exist");
    } catch (const error&) {  // which word fits is the kernel's affair
    }
    expect_no_traces(x.c, "a create that failed at a mount");
  }
  expect(own_descriptors() == descriptors, "a create that failed left descriptors open in its caller");
  const auto left = own_children();
  expect(left == children, "a create that failed left a child: {}", left.empty() ? 0 : left.front());
}

void init_dies_with_the_caller_before_start(isolation_fixture& f) {
  specimen x(f);
  auto [r, w] = make_pipe();
  const int writer = w.get();  // clang 14 captures no structured binding
  const int code = in_child([&] {
    x.script("touch /ran").create();
    const std::string line = fmt::format("{}", x.s.pid);
    write_all(writer, line, "a pipe");
    return 0;
  });
  w.reset();
  expect(code == 0, "create failed in a child of this process");
  const auto pid = static_cast<pid_t>(std::stol(read_all(r.get(), "a pipe")));
  // This process is the subreaper the orphans come to: a zombie is dead enough.
  const bool ended = eventually([&] {
    std::string state;
    try {
      state = status_word(read_file(fmt::format("/proc/{}/status", pid)), "State");
    } catch (const error&) {}
    return state.empty() || state[0] == 'Z' || state[0] == 'X';
  });
  expect(ended, "the init {} lives on after its caller died before start", pid);
  expect(::access((x.rootfs() + "/ran").c_str(), F_OK) != 0, "the program ran after its caller died");
  end_own_children();
  x.c.pid = pid;
  x.remove();
  expect_no_traces(x.c, "remove of a container whose caller died");
}

// ---- 3 ------------------------------------------------------------------------------------------

void start_runs_the_program(isolation_fixture& f) {
  specimen x(f);
  x.args({"/bin/echo", "one", "two words", ""});
  const ending e = x.run();
  expect(e.out == "one two words \n" && e.status == 0, "the program's output is \"{}\", its status {}", e.out,
         e.status);
}

void start_from_another_process(isolation_fixture& f) {
  specimen x(f);
  x.script("echo started").create();
  const int code = in_child([&] {
    f.another()->start(x.c);
    return 0;
  });
  expect(code == 0, "start from a process that did not create the container failed");
  expect(x.wait() == 0 && x.out.all() == "started\n", "the program did not run: \"{}\"", x.out.now());
}

void start_says_what_execve_said(isolation_fixture& f) {
  specimen x(f);
  x.put("/bin/garbage",
        std::string("\x7f"
                    "ELF is not what this is\n"),
        0755);
  x.args({"/bin/garbage"}).create();
  expect_error(errc::invalid, "start of a file that is no program", {}, [&] { x.start(); });
  expect(has_ended(x.s.waiter.get(), milliseconds(3000)), "the waiter goes on after start failed");
}

void start_of_a_missing_interpreter_is_not_found(isolation_fixture& f) {
  specimen x(f);
  x.put("/bin/script", "#!/no/such/interpreter\n", 0755);
  x.args({"/bin/script"}).create();
  expect_error(errc::not_found, "start of a script whose interpreter is missing", {}, [&] { x.start(); });
}

void start_twice_is_conflict(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, idle);
  expect_error(errc::conflict, "start of a running container", {}, [&] { x.start(); });
  expect(!has_ended(x.s.init.get()), "the second start ended the container");
}

void start_of_the_absent_is_not_found(isolation_fixture& f) {
  specimen x(f);
  expect_error(errc::not_found, "start of a container that was never created", {}, [&] { x.start(); });
}

// ---- 4 ------------------------------------------------------------------------------------------

constexpr const char* two_processes =
    "trap 'echo init-hup' HUP; sh -c \"trap 'echo child-hup' HUP; echo child; while :; do usleep 20000; done\" & "
    "sleep 0.1; echo ready; while :; do usleep 20000; done";

void signal_reaches_the_init_alone(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, two_processes);
  f.driver().signal(x.c, SIGHUP, reach::init);
  x.out.until("init-hup");
  std::this_thread::sleep_for(milliseconds(100));
  const auto& text = x.out.now();
  expect(text.find("init-hup") != std::string::npos, "the init did not get the signal: \"{}\"", text);
  expect(text.find("child-hup") == std::string::npos, "a signal for the init reached its child");
}

void signal_reaches_all(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, two_processes);
  f.another()->signal(x.c, SIGHUP, reach::all);
  x.out.until("init-hup");
  expect(x.out.until("child-hup").find("child-hup") != std::string::npos,
         "a signal for all did not reach the init's child: \"{}\"", x.out.now());
}

void signal_spares_a_stranger(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, idle);
  std::this_thread::sleep_for(milliseconds(30));  // start times are told apart by the clock tick
  const pid_t stranger = ::fork();
  if (stranger == 0) {
    ::pause();
    ::_exit(0);
  }
  container confused = x.c;
  confused.pid = stranger;  // with the start time of another process: a pid that was given away again
  std::string problem;
  try {
    expect_error(errc::not_found, "signal to a pid that is another process's by now", {},
                 [&] { f.driver().signal(confused, SIGKILL, reach::init); });
  } catch (const failed& e) {
    problem = e.what();
  }
  std::this_thread::sleep_for(milliseconds(20));
  int status = 0;
  const bool spared = ::waitpid(stranger, &status, WNOHANG) == 0;
  ::kill(stranger, SIGKILL);
  if (spared) ::waitpid(stranger, nullptr, 0);
  expect(spared, "a process that is not the container's got the signal");
  expect(problem.empty(), "{}", problem);
}

void signal_to_the_stopped_is_not_found(isolation_fixture& f) {
  specimen absent(f), stopped(f);
  expect_error(errc::not_found, "signal to a container that was never created", {},
               [&] { f.driver().signal(absent.c, SIGTERM, reach::init); });
  stopped.run();
  expect_error(errc::not_found, "signal to a stopped container", {},
               [&] { f.driver().signal(stopped.c, SIGTERM, reach::init); });
}

void sigkill_works_on_the_paused(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, idle);
  f.driver().pause(x.c);
  f.driver().signal(x.c, SIGKILL, reach::init);
  expect(x.wait() == 128 + SIGKILL, "the paused container did not end by SIGKILL");
}

// ---- 5 ------------------------------------------------------------------------------------------

void remove_ends_everything(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x,
                  "(while :; do sleep 1; done) & setsid sh -c 'while :; do sleep 1; done' & echo ready; "
                  "while :; do sleep 1; done");
  x.remove();
  expect(has_ended(x.s.waiter.get(), milliseconds(300)), "the waiter lives on after remove");
  expect_no_traces(x.c, "remove of a running container");
}

void remove_of_the_absent_succeeds(isolation_fixture& f) {
  specimen x(f);
  x.remove();
  x.run();
  x.remove();
  expect_no_traces(x.c, "remove of a stopped container");
  x.remove();
}

void remove_of_the_created_and_the_paused(isolation_fixture& f) {
  specimen created(f);
  created.script(idle).create();
  created.remove();
  expect_no_traces(created.c, "remove of a created container");
  specimen paused(f);
  run_until_ready(paused, idle);
  f.driver().pause(paused.c);
  paused.remove();
  expect_no_traces(paused.c, "remove of a paused container");
}

void remove_takes_what_exec_added(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, idle);
  capture out;
  const auto p = x.process("echo added; while :; do sleep 1; done").dump();
  started e = f.driver().exec(x.c, p, {-1, out.writer(), out.writer(), -1});
  out.until("added");
  x.remove();
  expect(has_ended(e.waiter.get(), milliseconds(1000)), "what exec added lives on after remove");
  // The init of a pid namespace ends only when every process in it was reaped (pid_namespaces(7)).
  (void)reap(e.waiter.get());
  expect_no_traces(x.c, "remove of a container with a process of exec");
}

void removed_may_be_created_again(isolation_fixture& f) {
  specimen x(f);
  x.script("echo first").run();
  x.remove();
  x.c.pid = 0;
  x.c.start_time = 0;
  x.out = capture();
  const ending e = x.script("echo second").run();
  expect(e.out == "second\n" && e.status == 0, "the second container of this name answers \"{}\"", e.out);
}

// ---- 6 ------------------------------------------------------------------------------------------

void exec_runs_inside(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, idle);
  const ending e =
      x.exec("for n in mnt uts ipc net pid cgroup; do readlink /proc/self/ns/$n; done; cat /etc/mark; echo; echo $$");
  std::string expected;
  for (const char* kind : {"mnt", "uts", "ipc", "net", "pid", "cgroup"})
    expected += link_of(fmt::format("/proc/{}/ns/{}", x.s.pid, kind)) + "\n";
  expected += x.c.id.str() + "\n";
  expect(e.status == 0, "exec's status is {}: \"{}\"", e.status, e.out);
  expect(e.out.substr(0, expected.size()) == expected, "exec is not in the container's namespaces: \"{}\", not \"{}\"",
         e.out, expected);
  expect(trimmed(e.out.substr(expected.size())) != "1", "the process of exec is process 1");
}

void exec_is_in_the_cgroup(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, idle);
  capture out;
  const auto p = x.process(idle).dump();
  started e = f.another()->exec(x.c, p, {-1, out.writer(), out.writer(), -1});
  out.until("ready");
  expect(read_file(fmt::format("/proc/{}/cgroup", e.pid)) == read_file(fmt::format("/proc/{}/cgroup", x.s.pid)),
         "the process of exec is in other cgroups than the init");
  expect(!e.netns, "exec answered a network namespace");
  expect(e.start_time == process_start_time(e.pid), "exec answered a wrong start time");
}

void exec_takes_its_own_process(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, idle);
  json p = x.process("echo $0 $OWN $SPECIMEN; pwd; id -u; id -g; read line; echo got $line; exit 42");
  p["env"] = {"PATH=/bin", "OWN=yes"};
  p["cwd"] = "/tmp";
  p["user"] = {{"uid", 7}, {"gid", 8}};
  capture out;
  auto [r, w] = make_pipe();
  started e = f.driver().exec(x.c, p.dump(), {r.get(), out.writer(), out.writer(), -1});
  r.reset();
  write_all(w.get(), "input\n", "a pipe");
  w.reset();
  expect(has_ended(e.waiter.get(), milliseconds(5000)), "exec does not end: \"{}\"", out.now());
  expect(reap(e.waiter.get()) == 42, "exec's status is not its program's");
  expect(out.all() == "/bin/sh yes\n/tmp\n7\n8\ngot input\n", "exec's process is not as asked: \"{}\"", out.now());
  expect(!has_ended(x.s.init.get()), "the container ended with the process of exec");
}

void exec_errors_are_those_of_start(isolation_fixture& f) {
  specimen x(f);
  x.put("/etc/plain", "text");
  run_until_ready(x, idle);
  const auto attempt = [&](std::vector<std::string> args) {
    return [&f, &x, p = x.process(std::move(args)).dump()] { (void)f.driver().exec(x.c, p, {}); };
  };
  auto absent = attempt({"no-such-program"});
  expect_error(errc::not_found, "exec of a program that is not there", {"no-such-program"}, absent);
  auto plain = attempt({"/etc/plain"});
  expect_error(errc::permission, "exec of a file that is no program", {"/etc/plain"}, plain);
  expect_error(errc::invalid, "exec of a malformed process", {"args"},
               [&] { (void)f.driver().exec(x.c, R"({"args": 5, "cwd": "/"})", {}); });
  expect(own_children() == std::vector<pid_t>{x.s.waiter_pid}, "an exec that failed left a child");
}

void exec_needs_a_running_container(isolation_fixture& f) {
  specimen x(f);
  const auto p = x.process("echo hello").dump();
  expect_error(errc::not_found, "exec in a container that was never created", {},
               [&] { (void)f.driver().exec(x.c, p, {}); });
  run_until_ready(x, idle);
  f.driver().pause(x.c);
  expect_error(errc::busy, "exec in a paused container", {}, [&] { (void)f.driver().exec(x.c, p, {}); });
  f.driver().resume(x.c);
  f.driver().signal(x.c, SIGKILL, reach::init);
  x.wait();
  expect_error(errc::not_found, "exec in a stopped container", {}, [&] { (void)f.driver().exec(x.c, p, {}); });
}

// ---- 7 ------------------------------------------------------------------------------------------

void pause_stops_and_resume_goes_on(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, ticking);
  expect(ticks(x, milliseconds(3000)), "the program does not tick");
  f.driver().pause(x.c);
  f.driver().pause(x.c);
  expect(!ticks(x, milliseconds(200)), "a process runs after pause returned");
  f.another()->resume(x.c);
  expect(ticks(x, milliseconds(3000)), "the program does not go on after resume");
  f.driver().resume(x.c);
}

void pause_needs_a_running_container(isolation_fixture& f) {
  specimen x(f);
  for (const char* when : {"absent", "stopped"}) {
    expect_error(errc::not_found, fmt::format("pause of an {} container", when), {}, [&] { f.driver().pause(x.c); });
    expect_error(errc::not_found, fmt::format("resume of an {} container", when), {}, [&] { f.driver().resume(x.c); });
    if (std::string_view(when) == "absent") x.run();
  }
}

// ---- 8 ------------------------------------------------------------------------------------------

void update_changes_what_is_given(isolation_fixture& f) {
  specimen x(f);
  x.config["linux"]["resources"] = {{"pids", {{"limit", 20}}}, {"memory", {{"limit", 64 << 20}}}};
  run_until_ready(x, idle);
  f.another()->update(x.c, R"({"pids": {"limit": 30}})");
  const auto stats = f.driver().stats(x.c);
  expect(stats.pids_limit == 30, "update left pids.limit at {}", stats.pids_limit);
  expect(stats.memory_limit_bytes == 64 << 20, "update changed memory.limit to {}, which it was not given",
         stats.memory_limit_bytes);
}

void update_is_all_or_an_error(isolation_fixture& f) {
  specimen x(f);
  x.config["linux"]["resources"] = {{"pids", {{"limit", 20}}}};
  run_until_ready(x, idle);
  expect_error(errc::unsupported, "update of a limit that no kernel has", {"hugepageLimits"}, [&] {
    f.driver().update(x.c, R"({"pids": {"limit": 30}, "hugepageLimits": [{"pageSize": "3KB", "limit": 0}]})");
  });
  expect_error(errc::invalid, "update of a malformed limit", {"pids.limit"},
               [&] { f.driver().update(x.c, R"({"pids": {"limit": "x"}})"); });
  expect(f.driver().stats(x.c).pids_limit == 20, "an update that failed changed pids.limit");
}

void update_of_the_absent_is_not_found(isolation_fixture& f) {
  specimen x(f);
  expect_error(errc::not_found, "update of a container that was never created", {},
               [&] { f.driver().update(x.c, R"({"pids": {"limit": 30}})"); });
}

// ---- 9 ------------------------------------------------------------------------------------------

void stats_are_of_now(isolation_fixture& f) {
  specimen x(f);
  run_until_ready(x, "echo ready; while :; do :; done");
  expect(eventually([&] { return f.driver().stats(x.c).cpu_ns > 20'000'000; }), "cpu_ns does not grow: {}",
         f.driver().stats(x.c).cpu_ns);
  const auto stats = f.driver().stats(x.c);
  expect(stats.pids >= 1 && stats.pids < 10, "pids is {}", stats.pids);
  expect(stats.memory_bytes > 0 && stats.memory_bytes < (1ull << 30), "memory_bytes is {}", stats.memory_bytes);
}

void stats_of_the_absent_is_not_found(isolation_fixture& f) {
  specimen x(f);
  expect_error(errc::not_found, "stats of a container that was never created", {}, [&] { f.driver().stats(x.c); });
}

}  // namespace

isolation_checks_part isolation_call_checks() {
  static constexpr check<isolation_fixture> list[] = {
      {"traits_are_constant", "1: constants of the driver", traits_are_constant},
      {"create_blocks_before_the_program", "2: blocks before it executes the program",
       create_blocks_before_the_program},
      {"create_lends_the_network_namespace", "2: on_netns gets, once, the network namespace create will answer",
       create_lends_the_network_namespace},
      {"create_fails_with_what_on_netns_throws", "2: what on_netns throws is what create throws, and nothing is left",
       create_fails_with_what_on_netns_throws},
      {"create_answers_who_runs", "2: c's init exists; started is its pid, pidfd, waiter and network namespace",
       create_answers_who_runs},
      {"namespaces_are_its_own", "2: in its own namespaces", namespaces_are_its_own},
      {"namespaces_not_listed_are_the_callers", "2: unless config.json asks for none",
       namespaces_not_listed_are_the_callers},
      {"named_network_namespace_is_joined", "2: unless config.json names one", named_network_namespace_is_joined},
      {"rootfs_is_the_mounts", "2: the root file system is m, made by the driver", rootfs_is_the_mounts},
      {"without_mounts_the_root_is_root_path", "2: if m is empty it is root.path of config.json",
       without_mounts_the_root_is_root_path},
      {"malformed_config_is_invalid", "2: malformed config.json invalid, naming the member by its JSON path",
       malformed_config_is_invalid},
      {"what_the_kernel_lacks_is_unsupported", "2: something asked for that the kernel lacks: unsupported",
       what_the_kernel_lacks_is_unsupported},
      {"limits_are_set", "2: in its own cgroups; a limit is never ignored", limits_are_set},
      {"absent_program_is_not_found", "2: the program absent: not_found, naming it", absent_program_is_not_found},
      {"program_that_cannot_be_executed_is_permission", "2: not executable or a directory: permission, naming it",
       program_that_cannot_be_executed_is_permission},
      {"create_twice_is_exists", "2: c exists already: exists", create_twice_is_exists},
      {"failed_create_leaves_nothing", "2: on any failure nothing is left: no process, cgroup, mount, file",
       failed_create_leaves_nothing},
      {"init_dies_with_the_caller_before_start", "2: if the caller dies before start, the container's init dies too",
       init_dies_with_the_caller_before_start},
      {"start_runs_the_program", "3: the program runs", start_runs_the_program},
      {"start_from_another_process", "3: from any process, not only the one that created c",
       start_from_another_process},
      {"start_says_what_execve_said", "3: throws what execve said, and the waiter ends", start_says_what_execve_said},
      {"start_of_a_missing_interpreter_is_not_found", "3: throws what execve said: not_found",
       start_of_a_missing_interpreter_is_not_found},
      {"start_twice_is_conflict", "3: started already: conflict", start_twice_is_conflict},
      {"start_of_the_absent_is_not_found", "3: absent: not_found", start_of_the_absent_is_not_found},
      {"signal_reaches_the_init_alone", "4: to the init", signal_reaches_the_init_alone},
      {"signal_reaches_all", "4: or to all processes", signal_reaches_all},
      {"signal_spares_a_stranger", "4: a process that is not c's gets nothing", signal_spares_a_stranger},
      {"signal_to_the_stopped_is_not_found", "4: stopped or absent: not_found", signal_to_the_stopped_is_not_found},
      {"sigkill_works_on_the_paused", "4: SIGKILL works on a paused container too", sigkill_works_on_the_paused},
      {"remove_ends_everything", "5: all processes of c are killed and gone, and so are its cgroups",
       remove_ends_everything},
      {"remove_of_the_absent_succeeds", "5: absent: success", remove_of_the_absent_succeeds},
      {"remove_of_the_created_and_the_paused", "5: all processes of c are killed and gone, whatever its state",
       remove_of_the_created_and_the_paused},
      {"remove_takes_what_exec_added", "5: all processes of c are killed and gone", remove_takes_what_exec_added},
      {"removed_may_be_created_again", "5: what the driver kept in state_dir is gone", removed_may_be_created_again},
      {"exec_runs_inside", "6: same namespaces as c", exec_runs_inside},
      {"exec_is_in_the_cgroup", "6: same cgroups and limits as c; pid and waiter are its own", exec_is_in_the_cgroup},
      {"exec_takes_its_own_process", "6: by an OCI process object", exec_takes_its_own_process},
      {"exec_errors_are_those_of_start", "6: errors of the program as in start", exec_errors_are_those_of_start},
      {"exec_needs_a_running_container", "6: not running: not_found; paused: busy", exec_needs_a_running_container},
      {"pause_stops_and_resume_goes_on", "7: no process of c runs after pause returns; repeated: success",
       pause_stops_and_resume_goes_on},
      {"pause_needs_a_running_container", "7: not running: not_found", pause_needs_a_running_container},
      {"update_changes_what_is_given", "8: the members given change, the others stay", update_changes_what_is_given},
      {"update_is_all_or_an_error", "8: all or an error; what the kernel lacks is unsupported, naming the member",
       update_is_all_or_an_error},
      {"update_of_the_absent_is_not_found", "8: absent: not_found", update_of_the_absent_is_not_found},
      {"stats_are_of_now", "9: figures now", stats_are_of_now},
      {"stats_of_the_absent_is_not_found", "9: absent: not_found", stats_of_the_absent_is_not_found},
  };
  return list;
}

}  // namespace kit::testing::detail
