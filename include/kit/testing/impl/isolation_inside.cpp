// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kit/system/capability.hpp"
#include "kit/system/socket.hpp"
#include "kit/testing/impl/isolation_fixture.hpp"

namespace kit::testing::detail {
namespace {

/// What the program finds in /proc/self/status.
std::string status_inside(specimen& x) {
  const ending e = x.args({"/bin/cat", "/proc/self/status"}).run();
  expect(e.status == 0, "cat /proc/self/status ends with {}: {}", e.status, e.out);
  return e.out;
}

void descriptors_are_0_1_2(isolation_fixture& f) {
  specimen x(f);
  // Neither is O_CLOEXEC: only care keeps them out.
  const unique_fd low(::fcntl(::open("/", O_RDONLY | O_CLOEXEC), F_DUPFD, 5));
  const unique_fd high(::fcntl(low.get(), F_DUPFD, 200));
  const char* list = "for f in /proc/$$/fd/*; do [ -L $f ] && echo -n \"${f##*/} \"; done";
  const ending e = x.script(fmt::format("echo ready; read x; {}", list)).run();
  expect(e.out == "ready\n0 1 2 ", "the program's descriptors are not 0, 1, 2: \"{}\"", e.out);
  specimen y(f);
  y.script("echo ready; while :; do sleep 1; done").create();
  y.start();
  y.out.until("ready");
  const ending added = y.exec(list);
  expect(added.out == "0 1 2 ", "the descriptors of a process of exec are not 0, 1, 2: \"{}\"", added.out);
}

void stdio_is_in_place(isolation_fixture& f) {
  specimen x(f);
  capture err;
  auto [r, w] = make_pipe();
  x.script("read line; echo out $line; echo err $line >&2").create({r.get(), x.out.writer(), err.writer(), -1});
  r.reset();
  write_all(w.get(), "hello\n", "a pipe");
  x.start();
  x.wait();
  expect(x.out.all() == "out hello\n", "standard output is \"{}\"", x.out.now());
  expect(err.all() == "err hello\n", "standard error is \"{}\"", err.now());
}

void environment_is_exact(isolation_fixture& f) {
  ::setenv("KIT_SUITE_HOST_VARIABLE", "leaked", 1);
  specimen x(f);
  x.config["process"]["env"] = {"PATH=/bin", "A=1", "EMPTY=", "B=two words"};
  const ending e = x.args({"/bin/env"}).run();
  ::unsetenv("KIT_SUITE_HOST_VARIABLE");
  expect(e.out == "PATH=/bin\nA=1\nEMPTY=\nB=two words\n", "the environment is \"{}\"", e.out);
}

void user_and_groups_are_as_asked(isolation_fixture& f) {
  specimen x(f);
  x.config["process"]["user"] = {{"uid", 1234}, {"gid", 2345}, {"additionalGids", {5, 6}}, {"umask", 027}};
  const ending e = x.script("cat /proc/self/status; umask").run();
  expect(status_word(e.out, "Uid") == "1234\t1234\t1234\t1234", "Uid is {}", status_word(e.out, "Uid"));
  expect(status_word(e.out, "Gid") == "2345\t2345\t2345\t2345", "Gid is {}", status_word(e.out, "Gid"));
  const auto groups = status_word(e.out, "Groups");
  expect(groups == "5 6" || groups == "5 6 2345", "Groups is {}", groups);
  expect(e.out.find("\n0027\n") != std::string::npos, "umask is not 0027: {}", e.out);
}

void groups_of_the_caller_are_gone(isolation_fixture& f) {
  specimen x(f);
  const auto groups = status_word(status_inside(x), "Groups");
  expect(groups.empty() || groups == "0", "Groups is {}, and none was asked for", groups);
}

std::string mask_of(const json& names) {
  return fmt::format("{:016x}", capabilities_from_names(names.get<std::vector<std::string>>()).bits());
}

void capabilities_are_as_asked(isolation_fixture& f) {
  specimen x(f);
  const json few = {"CAP_CHOWN", "CAP_KILL"};
  const json more = {"CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  x.config["process"]["capabilities"] = {{"bounding", more}, {"effective", few}, {"permitted", few}};
  const auto status = status_inside(x);
  expect(status_word(status, "CapBnd") == mask_of(more), "the bounding set is {}, not {}",
         status_word(status, "CapBnd"), mask_of(more));
  // noNewPrivileges keeps execve from giving root its bounding set back (capabilities(7)).
  for (const char* set : {"CapPrm", "CapEff"})
    expect(status_word(status, set) == mask_of(few), "{} is {}, not {}", set, status_word(status, set), mask_of(few));
  expect(status_word(status, "CapInh") == mask_of(json::array()), "the inheritable set is {}",
         status_word(status, "CapInh"));
}

void capabilities_of_a_user_are_the_ambient(isolation_fixture& f) {
  specimen x(f);
  const json one = {"CAP_NET_BIND_SERVICE"};
  x.config["process"]["user"] = {{"uid", 1000}, {"gid", 1000}};
  x.config["process"]["capabilities"] = {
      {"bounding", one}, {"effective", one}, {"permitted", one}, {"inheritable", one}, {"ambient", one}};
  const auto status = status_inside(x);
  for (const char* set : {"CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"})
    expect(status_word(status, set) == mask_of(one), "{} is {}, not {}", set, status_word(status, set), mask_of(one));
}

void no_new_privileges_is_set(isolation_fixture& f) {
  specimen with(f), without(f);
  without.config["process"]["noNewPrivileges"] = false;
  expect(status_word(status_inside(with), "NoNewPrivs") == "1", "noNewPrivileges was asked for and is not set");
  expect(status_word(status_inside(without), "NoNewPrivs") == "0", "noNewPrivileges is set and was not asked for");
}

void rlimits_are_as_asked(isolation_fixture& f) {
  specimen x(f);
  x.config["process"]["rlimits"] = {{{"type", "RLIMIT_NOFILE"}, {"soft", 111}, {"hard", 222}},
                                    {{"type", "RLIMIT_CORE"}, {"soft", 0}, {"hard", 0}}};
  const ending e = x.script("ulimit -Sn; ulimit -Hn; ulimit -c").run();
  expect(e.out == "111\n222\n0\n", "the limits are \"{}\"", e.out);
}

void working_directory_is_as_asked(isolation_fixture& f) {
  specimen x(f);
  x.config["process"]["cwd"] = "/tmp";
  const ending e = x.args({"/bin/pwd"}).run();
  expect(e.out == "/tmp\n", "the working directory is \"{}\"", e.out);
}

void hostname_is_as_asked(isolation_fixture& f) {
  char before[256] = {}, after[256] = {};
  ::gethostname(before, sizeof before - 1);
  specimen x(f);
  const ending e = x.args({"/bin/hostname"}).run();
  ::gethostname(after, sizeof after - 1);
  expect(e.out == "specimen\n", "the host name is \"{}\"", e.out);
  expect(std::string_view(before) == after, "the host's own name was changed");
}

void paths_are_masked_and_read_only(isolation_fixture& f) {
  specimen x(f);
  make_directories(x.rootfs() + "/secret");
  make_directories(x.rootfs() + "/fixed");
  x.put("/secret/file", "treasure");
  x.put("/etc/secret", "treasure");
  x.config["linux"]["maskedPaths"] = {"/secret", "/etc/secret", "/no/such/path"};
  x.config["linux"]["readonlyPaths"] = {"/fixed", "/no/such/path"};
  const ending e =
      x.script("ls /secret; cat /etc/secret; touch /fixed/new 2>/dev/null && echo written; touch /tmp/new && echo free")
          .run();
  expect(e.out == "free\n", "masked or read-only paths are not: \"{}\"", e.out);
}

void root_is_read_only_if_asked(isolation_fixture& f) {
  specimen x(f);
  x.config["root"]["readonly"] = true;
  const ending e = x.script("touch /new 2>/dev/null && echo written; touch /dev/new && echo mounts-are-not").run();
  expect(e.out == "mounts-are-not\n", "the read-only root is not: \"{}\"", e.out);
}

void mounts_are_as_asked(isolation_fixture& f) {
  specimen x(f);
  const std::string volume = f.scratch() + "/volume";
  make_directories(volume);
  replace_file(volume + "/file", "from the host\n");
  x.config["mounts"].push_back(
      {{"destination", "/volume"}, {"type", "bind"}, {"source", volume}, {"options", {"rbind", "ro"}}});
  x.config["mounts"].push_back(
      {{"destination", "/scratch/deep"}, {"type", "tmpfs"}, {"source", "tmpfs"}, {"options", {"size=1m", "mode=700"}}});
  const ending e = x.script(
                        "cat /volume/file; touch /volume/new 2>/dev/null && echo written; touch /scratch/deep/new && "
                        "echo deep; grep -c ' /volume .*ro' /proc/self/mountinfo")
                       .run();
  expect(e.out.substr(0, 19) == "from the host\ndeep\n", "the mounts are not as asked: \"{}\"", e.out);
  expect(::access((volume + "/new").c_str(), F_OK) != 0, "a read-only volume was written");
  expect(::access((x.rootfs() + "/scratch/deep/new").c_str(), F_OK) != 0, "a mount inside is not a mount");
}

void mounts_stay_inside_the_root(isolation_fixture& f) {
  specimen x(f);
  const std::string victim = f.scratch() + "/victim";
  make_directories(victim);
  // The image leads a mount's destination out of its root.
  if (::symlink((std::string("/../../../../../../../../..") + victim).c_str(), (x.rootfs() + "/trap").c_str()) != 0)
    fail_errno(errno, "make a link");
  x.config["mounts"].push_back(
      {{"destination", "/trap/inner"}, {"type", "tmpfs"}, {"source", "tmpfs"}, {"options", {"mode=755"}}});
  try {
    x.script("touch /trap/inner/file").run();
  } catch (const error&) {  // refusing such an image is right as well
  }
  expect(::access((victim + "/inner").c_str(), F_OK) != 0, "a mount's destination led out of the root file system");
}

void session_keyring_is_empty(isolation_fixture& f) {
  if (::access("/proc/keys", R_OK) != 0) skip("this kernel has no /proc/keys");
  // In a child, whose new session keyring dies with it: a key only its possessor may see.
  const std::string secret = "kit-suite-" + hex(random_bits().data(), 6);
  auto [r, w] = make_pipe();
  const pid_t pid = ::fork();
  if (pid == 0) {
    std::string text;
    try {
      if (::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) < 0) ::_exit(77);
      const long key = ::syscall(SYS_add_key, "user", secret.c_str(), "x", 1, KEY_SPEC_SESSION_KEYRING);
      if (key < 0 || ::syscall(SYS_keyctl, KEYCTL_SETPERM, key, 0x3f000000) != 0) ::_exit(77);
      specimen x(f);
      text = x.args({"/bin/cat", "/proc/keys"}).run().out;
    } catch (const std::exception& e) {
      text = e.what();
    }
    write_all(w.get(), text, "a pipe");
    ::_exit(0);
  }
  w.reset();
  const auto keys = read_all(r.get(), "a pipe");
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip("this process may not make keys");
  expect(keys.find(secret) == std::string::npos, "the caller's session keyring is the container's");
}

void signals_are_as_by_default(isolation_fixture& f) {
  sigset_t blocked, before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  const auto hup = ::signal(SIGHUP, SIG_IGN);
  const auto pipe = ::signal(SIGPIPE, SIG_IGN);
  const auto first_realtime = ::signal(SIGRTMIN, SIG_IGN);
  std::string status, problem;
  try {
    specimen x(f);
    status = status_inside(x);
  } catch (const std::exception& e) {
    problem = e.what();
  }
  ::signal(SIGRTMIN, first_realtime);
  ::signal(SIGPIPE, pipe);
  ::signal(SIGHUP, hup);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  expect(problem.empty(), "{}", problem);
  expect(status_word(status, "SigBlk") == "0000000000000000", "signals are blocked: {}", status_word(status, "SigBlk"));
  expect(status_word(status, "SigIgn") == "0000000000000000", "signals are ignored: {}", status_word(status, "SigIgn"));
}

void own_pid_is_1(isolation_fixture& f) {
  specimen x(f);
  const ending e = x.script("echo $$; ls -d /proc/[0-9]*").run();
  expect(e.out.substr(0, 2) == "1\n", "the program's pid is \"{}\"", e.out);
  expect(e.out.find("/proc/1\n") != std::string::npos, "/proc is another pid namespace's: \"{}\"", e.out);
}

void hosts_binary_is_out_of_reach(isolation_fixture& f) {
  // An image whose program is /proc/self/exe would run, under its own control, whatever the init ran before it.
  specimen x(f);
  x.args({"/proc/self/exe"});
  try {
    x.create();
  } catch (const error&) {
    return;  // refused
  }
  const unique_fd exe(::open(fmt::format("/proc/{}/exe", x.s.pid).c_str(), O_RDONLY | O_CLOEXEC));
  struct statvfs where {};
  expect(exe && ::fstatvfs(exe.get(), &where) == 0, "the init has no executable that can be looked at");
  const int seals = ::fcntl(exe.get(), F_GET_SEALS);
  const bool sealed = seals >= 0 && (seals & F_SEAL_WRITE) != 0;
  expect(sealed || (where.f_flag & ST_RDONLY) != 0,
         "{} can be written through /proc/self/exe once nothing runs it: it is on a writable mount and not sealed",
         link_of(fmt::format("/proc/{}/exe", x.s.pid)));
}

void system_calls_are_filtered(isolation_fixture& f) {
  specimen x(f);
  x.config["linux"]["seccomp"] = {
      {"defaultAction", "SCMP_ACT_ALLOW"},
      {"syscalls", {{{"names", {"mkdir", "mkdirat"}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", 95}}}}};
  const ending e = x.script("mkdir /tmp/new 2>&1; echo done; cat /proc/self/status").run();
  expect(e.out.find("not supported") != std::string::npos && e.out.find("done") != std::string::npos,
         "mkdir met no filter: \"{}\"", e.out);
  expect(status_word(e.out, "Seccomp") == "2", "no seccomp filter is in place");
}

void terminal_is_given(isolation_fixture& f) {
  specimen x(f);
  x.config["process"]["terminal"] = true;
  x.config["process"]["consoleSize"] = {{"height", 33}, {"width", 101}};
  x.script("tty; stty size; readlink /proc/self/fd/2; read line; echo got $line; exit 5");
  auto [ours, theirs] = make_socket_pair();
  x.create({-1, -1, -1, theirs.get()});
  theirs.reset();
  const unique_fd master(receive_descriptor(ours.get()));
  expect(static_cast<bool>(master) && ::isatty(master.get()) == 1, "no terminal came over console_socket");
  x.start();
  write_all(master.get(), "input\n", "a terminal");
  std::string text;
  char buffer[512];
  for (ssize_t n = 0; (n = ::read(master.get(), buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  expect(x.wait() == 5, "the program on the terminal ended otherwise; it said \"{}\"", text);
  expect(text.find("/dev/") != std::string::npos && text.find("not a tty") == std::string::npos,
         "standard input is no terminal: \"{}\"", text);
  expect(text.find("33 101") != std::string::npos, "the terminal's size is not 33 101: \"{}\"", text);
  expect(text.find("got input") != std::string::npos, "the terminal brings no input: \"{}\"", text);
}

// ---- 11 -----------------------------------------------------------------------------------------

void exit_code_is_the_waiters(isolation_fixture& f) {
  for (const int code : {0, 1, 2, 42, 125, 126, 127, 128, 137, 200, 255}) {
    specimen x(f);
    const ending e = x.script(fmt::format("exit {}", code)).run();
    expect(e.status == code, "the program exited with {}, and the waiter with {}", code, e.status);
  }
}

void ending_signal_is_the_waiters(isolation_fixture& f) {
  specimen x(f);
  x.script("echo ready; while :; do sleep 0.05; done").create();
  x.start();
  x.out.until("ready");
  const ending added = x.exec("kill -TERM $$; sleep 5");
  expect(added.status == 128 + SIGTERM, "SIGTERM ended a process of exec, and its waiter says {}", added.status);
  f.driver().signal(x.c, SIGKILL, reach::init);
  const int status = x.wait();
  expect(status == 128 + SIGKILL, "SIGKILL ended the program, and the waiter says {}", status);
}

void exit_code_of_exec_is_its_waiters(isolation_fixture& f) {
  specimen x(f);
  x.script("echo ready; while :; do sleep 0.05; done").create();
  x.start();
  x.out.until("ready");
  for (const int code : {0, 1, 77, 255}) {
    const ending e = x.exec(fmt::format("exit {}", code));
    expect(e.status == code, "a process of exec exited with {}, and its waiter with {}", code, e.status);
  }
}

}  // namespace

isolation_checks_part isolation_inside_checks() {
  static constexpr check<isolation_fixture> list[] = {
      {"descriptors_are_0_1_2", "10: descriptors 0, 1, 2", descriptors_are_0_1_2},
      {"stdio_is_in_place", "2: holds io", stdio_is_in_place},
      {"environment_is_exact", "10: the environment that config.json says", environment_is_exact},
      {"user_and_groups_are_as_asked", "10: user, groups", user_and_groups_are_as_asked},
      {"groups_of_the_caller_are_gone", "10: exactly the groups that config.json says", groups_of_the_caller_are_gone},
      {"capabilities_are_as_asked", "10: capabilities", capabilities_are_as_asked},
      {"capabilities_of_a_user_are_the_ambient", "10: capabilities", capabilities_of_a_user_are_the_ambient},
      {"no_new_privileges_is_set", "10: what config.json says", no_new_privileges_is_set},
      {"rlimits_are_as_asked", "10: rlimits", rlimits_are_as_asked},
      {"working_directory_is_as_asked", "10: working directory", working_directory_is_as_asked},
      {"hostname_is_as_asked", "model: its own host name", hostname_is_as_asked},
      {"paths_are_masked_and_read_only", "10: masks", paths_are_masked_and_read_only},
      {"root_is_read_only_if_asked", "10: mounts", root_is_read_only_if_asked},
      {"mounts_are_as_asked", "10: mounts", mounts_are_as_asked},
      {"mounts_stay_inside_the_root", "model: can use only what it was given", mounts_stay_inside_the_root},
      {"session_keyring_is_empty", "10: an empty session keyring", session_keyring_is_empty},
      {"signals_are_as_by_default", "10: no signal blocked or ignored", signals_are_as_by_default},
      {"own_pid_is_1", "10: its own pid is 1", own_pid_is_1},
      {"hosts_binary_is_out_of_reach", "10: nothing of the host's binary can be written through /proc/self/exe",
       hosts_binary_is_out_of_reach},
      {"system_calls_are_filtered", "10: what config.json says", system_calls_are_filtered},
      {"terminal_is_given", "stdio: the terminal's master comes over console_socket", terminal_is_given},
      {"exit_code_is_the_waiters", "11: the exit status of the waiter is the program's code", exit_code_is_the_waiters},
      {"ending_signal_is_the_waiters", "11: or the signal that ended it", ending_signal_is_the_waiters},
      {"exit_code_of_exec_is_its_waiters", "6, 11: the waiter of exec is its own", exit_code_of_exec_is_its_waiters},
  };
  return list;
}

}  // namespace kit::testing::detail
