// SPDX-License-Identifier: Apache-2.0
// kit-init: what a container's first process is until its program runs, and process 1 beside it if the
// container asks for one. It runs from a read-only mount outside every container, so nothing inside can write
// the file behind /proc/PID/exe (CVE-2019-5736). Static, no libstdc++, no allocation.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drivers/isolation/native/init.hpp"

namespace {

using namespace kit::drivers::detail;

init_plan* plan;
int report_to = -1;

template <class T>
T* at(uint32_t offset) {
  return reinterpret_cast<T*>(reinterpret_cast<char*>(plan) + offset);
}

/// Turns the slots' offsets into pointers: an argument vector without an allocation.
char** texts(init_list list) {
  auto* slots = at<uint64_t>(list.offset);
  auto** pointers = at<char*>(list.offset);
  for (uint32_t i = 0; i < list.count; ++i) pointers[i] = at<char>(static_cast<uint32_t>(slots[i]));
  pointers[list.count] = nullptr;
  return pointers;
}

[[noreturn]] void die(launch_step step, int error, uint32_t item = 0, const char* text = "") {
  launch_report report;
  strncpy(report.text, text, sizeof report.text - 1);
  report.step = step;
  report.error = error;
  report.item = item;
  // Without a listener there is nobody to tell; the exit status says that it was not the program.
  (void)!send(report_to, &report, sizeof report, MSG_NOSIGNAL);
  _exit(error == ENOENT ? 127 : 126);
}

void need(bool done, launch_step step, uint32_t item = 0) {
  if (!done) die(step, errno, item);
}

void read_plan(const char* number) {
  const int fd = atoi(number);
  struct stat st;
  if (fstat(fd, &st) != 0 || st.st_size < static_cast<off_t>(sizeof *plan)) _exit(126);
  void* bytes = mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  if (bytes == MAP_FAILED) _exit(126);
  plan = static_cast<init_plan*>(bytes);
  report_to = plan->report;
  close(fd);
  need(syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0, launch_step::read_plan);
}

// Signals by the kernel's own calls: a C library keeps some of the real-time ones to itself.
constexpr int most_signals = 64;
constexpr uint64_t no_signal = 0, all_signals = ~no_signal;

void block(uint64_t signals) { syscall(SYS_rt_sigprocmask, SIG_SETMASK, &signals, nullptr, sizeof signals); }

/// What the caller ignores (SIGPIPE, or SIGHUP by nohup), a new program must not.
void reset_signals() {
  static const unsigned long standard[4] = {};  // struct kernel_sigaction: SIG_DFL, no flags
  for (int n = 1; n <= most_signals; ++n) syscall(SYS_rt_sigaction, n, standard, nullptr, sizeof all_signals);
}

/// An empty one of its own: no key of the host's session is in reach.
void make_keyring() {
  need(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr) >= 0 || errno == ENOSYS, launch_step::make_keyring);
}

void take_session() {
  setsid();
  if ((plan->flags & init_has_terminal) != 0) need(ioctl(STDIN_FILENO, TIOCSCTTY, 0) == 0, launch_step::take_terminal);
}

void make_directories(char* path) {
  for (char* slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
    if (slash != nullptr) *slash = '\0';
    need(mkdir(path, 0755) == 0 || errno == EEXIST, launch_step::enter_directory);
    if (slash == nullptr) return;
    *slash = '/';
  }
}

/// Makes what is missing of the working directory, as image builders expect. Answers whether the user must go
/// there himself: where this process, root, is refused (a network file system, a user's mount).
bool enter_directory() {
  static char here[4096];
  char* cwd = at<char>(plan->cwd);
  bool entered = chdir(cwd) == 0;
  if (!entered && errno == ENOENT) {
    make_directories(cwd);
    entered = chdir(cwd) == 0;
  }
  if (!entered && errno == EACCES) return true;
  need(entered, launch_step::enter_directory);
  // A directory outside the root, reached by a descriptor that leaked (CVE-2024-21626), has no path.
  const long size = syscall(SYS_getcwd, here, sizeof here);
  if (size > 0 && here[0] != '/') die(launch_step::enter_directory, EXDEV);
  return false;
}

const char* find_program(const char* name) {
  char** candidates = texts(plan->programs);
  int error = ENOENT;
  for (uint32_t i = 0; i < plan->programs.count; ++i) {
    struct stat st;
    if (stat(candidates[i], &st) != 0) {
      if (errno != ENOENT && errno != ENOTDIR) error = errno;
    } else if (!S_ISREG(st.st_mode) || faccessat(AT_FDCWD, candidates[i], X_OK, AT_EACCESS) != 0) {
      error = EACCES;
    } else {
      return candidates[i];
    }
  }
  die(launch_step::find_program, error, 0, name);
}

/// Ends when the launcher does. Returns connected to whoever called start.
int wait_for_start() {
  // From now on the launcher may execute another program and let its thread go: only its own end counts.
  prctl(PR_SET_PDEATHSIG, 0);
  launch_report ready;
  need(send(plan->report, &ready, sizeof ready, MSG_NOSIGNAL) == sizeof ready, launch_step::wait_for_start);
  close(plan->report);
  report_to = -1;
  int caller = -1;
  for (;;) {
    pollfd events[2] = {{plan->launcher, POLLIN, 0}, {caller >= 0 ? caller : plan->listener, POLLIN, 0}};
    if (poll(events, 2, -1) < 0) continue;
    if (events[0].revents != 0) _exit(126);
    if (events[1].revents == 0) continue;
    if (caller < 0) {
      caller = accept4(plan->listener, nullptr, nullptr, SOCK_CLOEXEC);
      continue;
    }
    char word = 0;
    if (recv(caller, &word, 1, 0) == 1 && word == start_go) break;
    // Someone only asked whether this process still waits.
    close(caller);
    caller = -1;
  }
  close(plan->listener);
  close(plan->launcher);
  (void)!send(caller, &start_accepted, 1, MSG_NOSIGNAL);
  return caller;
}

void set_rlimits() {
  const auto* limits = at<init_rlimit>(plan->rlimits.offset);
  for (uint32_t i = 0; i < plan->rlimits.count; ++i) {
    const uint64_t value[2] = {limits[i].soft, limits[i].hard};
    need(syscall(SYS_prlimit64, 0, limits[i].resource, value, nullptr) == 0, launch_step::set_rlimit, i);
  }
}

/// So that the user can open /dev/stdout: pipes, sockets and terminals made for this process alone.
void own_stdio() {
  for (int fd = 0; fd <= 2; ++fd) {
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_uid == plan->uid) continue;
    const bool terminal = S_ISCHR(st.st_mode) && isatty(fd) != 0;
    if (!terminal && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)) continue;
    need(fchown(fd, plan->uid, static_cast<gid_t>(-1)) == 0 || errno == EPERM || errno == EINVAL || errno == EROFS,
         launch_step::own_stdio);
  }
}

void install_seccomp() {
  if (plan->filter.count == 0) return;
  sock_fprog program = {};
  program.len = static_cast<unsigned short>(plan->filter.count);
  program.filter = at<sock_filter>(plan->filter.offset);
  need(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, plan->filter_flags, &program) == 0, launch_step::install_seccomp);
}

void limit_bounding_set() {
  for (unsigned n = 0; prctl(PR_CAPBSET_READ, n) >= 0; ++n)
    if ((plan->bounding >> n & 1) == 0) need(prctl(PR_CAPBSET_DROP, n) == 0, launch_step::limit_bounding_set, n);
  need(prctl(PR_SET_KEEPCAPS, 1) == 0, launch_step::limit_bounding_set);
}

void become_user() {
  need(setgroups(plan->groups.count, at<gid_t>(plan->groups.offset)) == 0, launch_step::set_groups);
  need(setresgid(plan->gid, plan->gid, plan->gid) == 0, launch_step::set_groups);
  need(setresuid(plan->uid, plan->uid, plan->uid) == 0, launch_step::set_user);
}

void set_capabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  for (int i = 0; i < 2; ++i) {
    data[i].effective = static_cast<uint32_t>(plan->effective >> (32 * i));
    data[i].permitted = static_cast<uint32_t>(plan->permitted >> (32 * i));
    data[i].inheritable = static_cast<uint32_t>(plan->inheritable >> (32 * i));
  }
  need(syscall(SYS_capset, &header, data) == 0, launch_step::set_capabilities);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  for (unsigned n = 0; n < 64; ++n)
    if ((plan->ambient >> n & 1) != 0)
      need(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, n, 0, 0) == 0, launch_step::set_capabilities, n);
}

/// Whatever needs privilege first. The filter comes last if it may, so that it need not allow these calls; without
/// no_new_privs its installation is itself privileged.
void take_identity(bool must_enter_directory) {
  const bool filter_last = (plan->flags & init_no_new_privileges) != 0;
  own_stdio();
  umask(plan->umask);
  set_rlimits();
  if (!filter_last) install_seccomp();
  if ((plan->flags & init_sets_capabilities) != 0) limit_bounding_set();
  become_user();
  if (must_enter_directory) need(chdir(at<char>(plan->cwd)) == 0, launch_step::enter_directory);
  if ((plan->flags & init_sets_capabilities) != 0) set_capabilities();
  if (filter_last) {
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, launch_step::forbid_privileges);
    install_seccomp();
  }
}

[[noreturn]] void execute(const char* program, char** args, char** env) {
  block(no_signal);
  execve(program, args, env);
  die(launch_step::execute_program, errno, 0, program);
}

/// Process 1 beside the program: signals go on to it, orphans are reaped, its end is this one's.
[[noreturn]] void stand_by(pid_t program) {
  for (;;) {
    const auto signal =
        static_cast<int>(syscall(SYS_rt_sigtimedwait, &all_signals, nullptr, nullptr, sizeof all_signals));
    if (signal > 0 && signal != SIGCHLD && signal != SIGTTIN && signal != SIGTTOU) kill(program, signal);
    if (signal != SIGCHLD) continue;
    int status = 0;
    for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;)
      if (ended == program) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  }
}

[[noreturn]] void execute_beside(const char* program, char** args, char** env) {
  block(all_signals);
  if (getpid() != 1) prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t pid = fork();
  need(pid >= 0, launch_step::start_program);
  if (pid == 0) {
    // A job of its own, in the foreground, so that the terminal's signals reach it and not process 1.
    setpgid(0, 0);
    if ((plan->flags & init_has_terminal) != 0) tcsetpgrp(STDIN_FILENO, getpid());
    execute(program, args, env);
  }
  close(report_to);
  prctl(PR_SET_NAME, "kit-init");
  stand_by(pid);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 126;
  read_plan(argv[1]);
  prctl(PR_SET_DUMPABLE, 0);
  reset_signals();
  make_keyring();
  take_session();
  const bool must_enter_directory = enter_directory();
  char** args = texts(plan->args);
  const char* program = find_program(args[0]);
  char** env = texts(plan->env);
  if ((plan->flags & init_waits) != 0)
    report_to = wait_for_start();
  else
    prctl(PR_SET_PDEATHSIG, 0);  // what exec adds outlives whoever added it, and execve(2) would keep it
  take_identity(must_enter_directory);
  if ((plan->flags & init_reaps) != 0) execute_beside(program, args, env);
  execute(program, args, env);
}
