// SPDX-License-Identifier: Apache-2.0
//
// kit-monitor: one per container, for the container's whole life. It holds the program's standard
// streams, writes the log, serves attached clients, waits for the exit, writes exit.json, and then asks
// `kit internal finish` to do what needs records and drivers.
//
//   kit-monitor [-t] [-s] [-x] [-m BYTES] [-n FILES] [-z] [-b BYTES] -- ID COMMAND [ARG...]
//     -t  descriptor `output` is a terminal's master: stdin goes there too, and window sizes apply
//     -s  the log does not keep all: while the starter is behind, the program is not read from
//     -x  the log is plain text, -m, -n, -z, -b: how it is rotated, and buffered (log.hpp)
//     COMMAND ARG... VERB ID does what is not the monitor's work: `finish` is executed after the exit unless a client
//     promised to finish, and did; `compress`, when an old file of the log is to be compressed
//
// The launcher executes it in its own pid, so the container's init stays its child. It is static and
// links no C++ library: what an idle container costs is this program. Its descriptors are those of
// kit/engine/monitor_protocol.hpp.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kit/engine/monitor_protocol.hpp"
#include "kit/system/pidfd_info.hpp"
#include "log.hpp"
#include "queue.hpp"

namespace {

using namespace kit::monitor;

constexpr size_t chunk = 32 * 1024;         // one read of the program's output
constexpr size_t client_mark = 256 * 1024;  // a client this far behind: it will read the rest in the log
constexpr size_t input_mark = 64 * 1024;    // the program this far behind: stop reading clients
constexpr int most_clients = 32;
constexpr int drain_ms = 100;  // after the exit: silence on a stream that a stranger still holds open

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

struct client {
  int fd = -1;
  bool paces = false;  // the program waits for it
  bool finishes = false;
  bool told_exit = false;
  queue out;
  uint64_t skipped = 0;  // bytes it was not sent,
  log_position from;     // and where in the log they begin
  frame_head head{};     // of the frame being received
  size_t head_got = 0;
  uint32_t left = 0;        // of its body
  unsigned char body[8]{};  // of small frames
  size_t body_got = 0;
};

client clients[most_clients];
bool terminal = false;
bool input_ends = false;  // a client sent stdin_end: close input once the queue is empty
queue to_program;
// A number that is closed may come back as a client's, so absence is remembered here, not asked again: -1.
int streams[2] = {output, errors};
int clients_in = listener, to_stdin = input;
char** helper = nullptr;       // COMMAND ARG... VERB ID,
char** helper_verb = nullptr;  // and in it the verb

int program_input() { return terminal ? output : to_stdin; }

void drop(client& c) {
  if (c.fd >= 0) close(c.fd);
  c.out.clear();
  c.fd = -1;
}

void send_frame(client& c, unsigned char type, const void* bytes, uint32_t length) {
  const frame_head head{type,
                        {0, 0, 0},
                        {static_cast<unsigned char>(length >> 24), static_cast<unsigned char>(length >> 16),
                         static_cast<unsigned char>(length >> 8), static_cast<unsigned char>(length)}};
  if (!c.out.push(&head, sizeof head) || !c.out.push(bytes, length) || !c.out.flush(c.fd)) drop(c);
}

/// A client that reads too slowly holds up nobody, and costs no memory: what it is not sent, it finds in the log.
void send_output(client& c, unsigned char type, const void* bytes, uint32_t length, const log_position& at) {
  if (c.paces || (c.skipped == 0 && c.out.size() <= client_mark)) return send_frame(c, type, bytes, length);
  if (c.skipped == 0) c.from = at;
  c.skipped += length;
}

/// Writes what the client takes. Once it took all, it is told what it missed.
void serve(client& c) {
  if (!c.out.flush(c.fd)) return drop(c);
  if (c.skipped == 0 || c.out.size() > 0) return;
  const behind_body missed{c.skipped, c.from, next_log_position()};
  c.skipped = 0;
  send_frame(c, behind, &missed, sizeof missed);
}

// ---- helpers, and what is done now and then --------------------------------------------------------

alignas(4096) unsigned char buffer[chunk];  // of what was just read

int64_t now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

/// Something that is due at a time; `never` until it is asked for.
struct timer {
  static constexpr int64_t never = INT64_MAX;
  int64_t due = never;
  void in(int64_t ms) { due = now_ms() + ms; }
  bool rings() {
    if (due == never || now_ms() < due) return false;
    due = never;
    return true;
  }
};

timer to_rest, to_publish, to_probe;
int64_t probe_every_ms = 0;
pid_t probe = -1;
uint64_t published_loss = 0;

/// RUN/log-lost: how many bytes, for who looks while the container runs; exit.json has it afterwards.
void publish_loss() {
  char text[32];
  published_loss = log_bytes_lost();
  const int n = snprintf(text, sizeof text, "%llu\n", static_cast<unsigned long long>(published_loss));
  const int fd = openat(directory, ".log-lost.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;
  const bool whole = write(fd, text, static_cast<size_t>(n)) == n;
  close(fd);
  if (whole) renameat(directory, ".log-lost.tmp", directory, "log-lost");
}

/// Milliseconds until something is due, -1: nothing is.
int until_due() {
  int64_t first = timer::never;
  const timer* const all[] = {&to_rest, &to_publish, &to_probe};
  for (const timer* t : all)
    if (t->due < first) first = t->due;
  if (first == timer::never) return -1;
  const int64_t left = first - now_ms();
  return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : static_cast<int>(left);
}

void do_what_is_due() {
  if (to_rest.rings()) {
    rest_log();
    madvise(buffer, sizeof buffer, MADV_DONTNEED);
  }
  if (to_publish.rings()) publish_loss();
  if (to_publish.due == timer::never && published_loss != log_bytes_lost()) to_publish.in(500);
  if (to_probe.rings()) probe = run_helper("health");
}

// ---- moving bytes ----------------------------------------------------------------------------------

/// Reads once from stream i (0 stdout, 1 stderr).
void read_stream(int i) {
  const ssize_t n = read(streams[i], buffer, sizeof buffer);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) {  // its end; a terminal whose other side closed answers EIO
    streams[i] = -1;
    return;
  }
  to_rest.in(1000);
  log_position before;
  for (const client& c : clients)
    if (c.fd >= 0 && c.skipped == 0 && c.out.size() > client_mark) before = next_log_position();
  log_output(buffer, static_cast<size_t>(n), i == 1);
  for (client& c : clients)
    if (c.fd >= 0) send_output(c, i == 1 ? stderr_data : stdout_data, buffer, static_cast<uint32_t>(n), before);
}

void feed_program() {
  if (program_input() < 0 || !to_program.flush(program_input()))
    to_program.clear();  // it closed its stdin: the rest has no reader
  if (input_ends && to_program.size() == 0 && to_stdin >= 0) {
    close(to_stdin);
    to_stdin = -1;
  }
}

void small_frame_done(client& c) {
  if (c.head.type == stdin_end) {
    input_ends = !terminal;
    const char end_of_file = 4;  // what a terminal's user would type
    if (terminal) to_program.push(&end_of_file, 1);
  } else if (c.head.type == window_size && terminal) {
    winsize size{};
    size.ws_row = static_cast<unsigned short>(c.body[0] << 8 | c.body[1]);
    size.ws_col = static_cast<unsigned short>(c.body[2] << 8 | c.body[3]);
    ioctl(output, TIOCSWINSZ, &size);
  } else if (c.head.type == will_finish) {
    c.finishes = true;
  }
}

/// Takes in what a client sent. A client that breaks the protocol is dropped.
void read_client(client& c) {
  const ssize_t got = read(c.fd, buffer, sizeof buffer);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) return drop(c);
  const unsigned char* p = buffer;
  auto n = static_cast<size_t>(got);
  while (n > 0) {
    if (c.head_got < sizeof c.head) {
      const size_t take = sizeof c.head - c.head_got < n ? sizeof c.head - c.head_got : n;
      memcpy(reinterpret_cast<char*>(&c.head) + c.head_got, p, take);
      c.head_got += take;
      p += take;
      n -= take;
      if (c.head_got < sizeof c.head) return;
      c.left = static_cast<uint32_t>(c.head.length[0]) << 24 | static_cast<uint32_t>(c.head.length[1]) << 16 |
               static_cast<uint32_t>(c.head.length[2]) << 8 | c.head.length[3];
      c.body_got = 0;
      if (c.left > largest_frame || (c.head.type != stdin_data && c.left > sizeof c.body)) return drop(c);
    }
    const size_t take = c.left < n ? c.left : n;
    if (c.head.type != stdin_data && take > 0)
      memcpy(c.body + c.body_got, p, take);
    else if (program_input() >= 0 && !input_ends)
      to_program.push(p, take);
    c.body_got += take;
    p += take;
    n -= take;
    c.left -= static_cast<uint32_t>(take);
    if (c.left > 0) continue;
    if (c.head.type != stdin_data) small_frame_done(c);
    c.head_got = 0;
  }
  feed_program();
}

void accept_client() {
  const int fd = accept4(clients_in, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  for (client& c : clients)
    if (c.fd < 0) {
      c = client{};
      c.fd = fd;
      return;
    }
  close(fd);
}

// ---- the exit --------------------------------------------------------------------------------------

/// Helpers, and orphans of the container that came to us: drivers with a shim of their own need a subreaper.
void reap_children() {
  siginfo_t main_child{};
  waitid(static_cast<idtype_t>(P_PIDFD), waiter, &main_child, WEXITED | WNOHANG | WNOWAIT);
  for (;;) {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
    if (info.si_pid == main_child.si_pid) return;
    waitpid(info.si_pid, nullptr, WNOHANG);
    if (info.si_pid == probe) to_probe.in(probe_every_ms);
  }
}

/// How the container ended: in `info`, as waitid(2) puts it, without reaping it: a zombie's pid is not given to a stranger.
/// Whoever took over from a monitor that died is not its parent: the pidfd remembers once another has reaped it
/// (Linux 6.15). False if that is not told, or not soon.
bool learn_exit(siginfo_t* info) {
  if (waitid(static_cast<idtype_t>(P_PIDFD), waiter, info, WEXITED | WNOWAIT) == 0) return true;
  for (int tries = 0; tries < 100; ++tries, usleep(1000)) {
    int32_t status = 0;
    const int told = kit::wait_status_of(waiter, &status);
    if (told < 0) return false;
    if (told == 0) continue;
    info->si_code = WIFEXITED(status) ? CLD_EXITED : CLD_KILLED;
    info->si_status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    return true;
  }
  return false;
}

void write_exit(int code, int signal_number) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  char text[256];
  const int n =
      snprintf(text, sizeof text, "{\"exit_code\":%d,\"signal\":%d,\"finished_ns\":%lld,\"log_bytes_lost\":%llu}\n",
               code, signal_number, static_cast<long long>(now.tv_sec) * 1000000000LL + now.tv_nsec,
               static_cast<unsigned long long>(log_bytes_lost()));
  const int fd = openat(directory, ".exit.json.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;
  const bool whole = write(fd, text, static_cast<size_t>(n)) == n;
  close(fd);
  if (whole) renameat(directory, ".exit.json.tmp", directory, "exit.json");
}

unsigned char exit_code[4];  // as the last frame has it
bool exit_is_known = false;

/// Gives clients that still read what is left, and the exit: as long as they take some of it every ten seconds; who is to
/// finish the container has all the time in the world.
void flush_clients() {
  for (int quiet = 0;;) {
    pollfd polls[most_clients];
    nfds_t count = 0;
    bool finisher = false;
    for (client& c : clients) {
      if (c.fd >= 0) serve(c);
      if (c.fd >= 0 && c.out.size() == 0 && !c.told_exit) {
        c.told_exit = true;
        if (exit_is_known) send_frame(c, exited, exit_code, sizeof exit_code);
      }
      if (c.fd < 0 || c.out.size() == 0) continue;
      finisher = finisher || c.finishes;
      polls[count++] = {c.fd, POLLOUT, 0};
    }
    if (count == 0 || (quiet == 20 && !finisher)) return;
    quiet = poll(polls, count, 500) == 0 ? quiet + (quiet < 20) : 0;
  }
}

/// Waits for the client that promised to finish: its last byte says that it did, its end without one
/// that it died.
bool client_finished(client& c) {
  fcntl(c.fd, F_SETFL, fcntl(c.fd, F_GETFL) & ~O_NONBLOCK);
  char words[512];
  bool done = false;
  for (;;) {
    const ssize_t n = read(c.fd, words, sizeof words);
    if (n > 0)
      done = words[n - 1] == static_cast<char>(will_finish);
    else if (n == 0 || errno != EINTR)
      return done;
  }
}

[[noreturn]] void become_helper() {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  execv(helper[0], helper);
  _exit(1);
}

volatile sig_atomic_t child_ended = 0;
void on_child(int) { child_ended = 1; }

bool take_options(int argc, char** argv) {
  for (int option = 0; (option = getopt(argc, argv, "+tsxm:n:zb:i:")) != -1;) {
    switch (option) {
      case 't': terminal = true; break;
      case 's': clients[0].paces = true; break;
      case 'x': log_how.format = log_format::text; break;
      case 'm': log_how.max_size = strtoull(optarg, nullptr, 10); break;
      case 'n': log_how.max_files = strtoull(optarg, nullptr, 10); break;
      case 'z': log_how.compress = true; break;
      case 'b': log_how.buffer_size = strtoull(optarg, nullptr, 10); break;
      case 'i': probe_every_ms = strtoll(optarg, nullptr, 10); break;
      default: return false;
    }
  }
  if (argc - optind < 3) return false;
  helper = argv + optind;
  helper_verb = argv + argc - 2;
  return true;
}

}  // namespace

int kit::monitor::run_helper(const char* verb) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  *helper_verb = const_cast<char*>(verb);
  become_helper();
}

int main(int argc, char** argv) {
  if (!take_options(argc, argv) || !is_open(waiter) || !is_open(output) || !is_open(directory)) {
    dprintf(2, "kit-monitor: started by hand; `kit start` starts it\n");
    return 2;
  }
  for (int fd = waiter; fd < first_free; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  prctl(PR_SET_NAME, "kit-monitor");
  signal(SIGPIPE, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = on_child;
  sigaction(SIGCHLD, &action, nullptr);
  sigset_t children, none;  // taken only within ppoll: none ends unseen between a look and the wait
  sigemptyset(&none);
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, nullptr);

  if (!is_open(errors)) streams[1] = -1;
  log_how.kept = is_open(log);
  if (!is_open(listener)) clients_in = -1;
  if (!is_open(input)) to_stdin = -1;
  for (int fd = output; fd <= starter; ++fd)
    if (fd != log && is_open(fd)) set_nonblocking(fd);
  if (is_open(starter)) clients[0].fd = starter;
  begin_log();
  if (probe_every_ms > 0) to_probe.in(probe_every_ms);

  siginfo_t init{};
  bool known = false;
  for (bool ended = false; !ended || streams[0] >= 0 || streams[1] >= 0;) {
    bool behind = false;
    for (const client& c : clients) behind = behind || (c.fd >= 0 && c.paces && c.out.size() > client_mark);

    enum : int { of_waiter = -1, of_listener = -2, of_input = -3, of_streams = -5, of_log = -6 };
    pollfd polls[most_clients + 6];
    int owner[most_clients + 6];  // one of the above, of_streams + i, or the index of a client
    nfds_t count = 0;
    const auto watch = [&](int fd, int events, int whose) {
      polls[count] = {fd, static_cast<short>(events), 0};
      owner[count++] = whose;
    };
    if (!ended) watch(waiter, POLLIN, of_waiter);
    if (clients_in >= 0) watch(clients_in, POLLIN, of_listener);
    if (to_program.size() > 0) watch(program_input(), POLLOUT, of_input);
    if (log_waits_for() >= 0) watch(log_waits_for(), POLLOUT, of_log);
    for (int i = 0; i < 2; ++i)
      if (streams[i] >= 0 && !behind) watch(streams[i], POLLIN, of_streams + i);
    for (int i = 0; i < most_clients; ++i)
      if (clients[i].fd >= 0)
        watch(clients[i].fd, (to_program.size() < input_mark ? POLLIN : 0) | (clients[i].out.size() > 0 ? POLLOUT : 0),
              i);

    // After the exit: silence means that a stranger keeps a stream open without a word.
    const bool draining = ended && !behind;
    const int patience = draining ? drain_ms : until_due();
    const timespec wait{patience / 1000, patience % 1000 * 1000000L};
    const int ready = ppoll(polls, count, patience < 0 ? nullptr : &wait, &none);
    if (child_ended) {
      child_ended = 0;
      reap_children();
    }
    do_what_is_due();
    if (ready < 0) continue;
    if (ready == 0 && draining) break;
    for (nfds_t k = 0; k < count; ++k) {
      if (polls[k].revents == 0) continue;
      switch (owner[k]) {
        case of_waiter:
          known = learn_exit(&init);
          ended = true;
          break;
        case of_listener: accept_client(); break;
        case of_input: feed_program(); break;
        case of_log: flush_log(); break;
        case of_streams: read_stream(0); break;
        case of_streams + 1: read_stream(1); break;
        default:
          client& c = clients[owner[k]];
          if ((polls[k].revents & POLLOUT) != 0) serve(c);
          if (c.fd >= 0 && (polls[k].revents & (POLLIN | POLLHUP | POLLERR)) != 0) read_client(c);
      }
    }
  }

  const bool by_signal = init.si_code != CLD_EXITED;
  const int code = by_signal ? 128 + init.si_status : init.si_status;
  end_log();
  if (published_loss != log_bytes_lost()) publish_loss();
  write_exit(known ? code : -1, known && by_signal ? init.si_status : 0);
  waitid(static_cast<idtype_t>(P_PIDFD), waiter, &init, WEXITED);

  exit_is_known = known;
  for (int i = 0; i < 4; ++i) exit_code[i] = static_cast<unsigned char>(static_cast<unsigned>(code) >> (24 - 8 * i));
  flush_clients();
  close(namespaces);
  for (client& c : clients)
    if (c.fd >= 0 && c.finishes && client_finished(c)) return 0;
  become_helper();
}
