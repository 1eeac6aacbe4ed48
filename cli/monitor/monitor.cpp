// SPDX-License-Identifier: Apache-2.0
//
// kit-monitor: one per container, for the container's whole life. It holds the program's standard
// streams, writes the log, serves attached clients, waits for the exit, writes exit.json, and then asks
// `kit internal finish` to do what needs records and drivers.
//
//   kit-monitor [-t] [-s] -- COMMAND [ARG...]
//     -t  descriptor `output` is a terminal's master: stdin goes there too, and window sizes apply
//     -s  the starter reads all output: while it is behind, the program is not read from
//     COMMAND is executed after the exit unless a client promised to finish, and did
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kit/engine/monitor_protocol.hpp"
#include "kit/system/pidfd_info.hpp"

namespace {

using namespace kit::monitor;

constexpr size_t chunk = 32 * 1024;          // one read of the program's output
constexpr size_t starter_mark = 256 * 1024;  // the starter this far behind: stop reading the program
constexpr size_t client_limit = 4 << 20;     // any other client this far behind: dropped
constexpr size_t input_mark = 64 * 1024;     // the program this far behind: stop reading clients
constexpr int most_clients = 32;
constexpr int drain_ms = 100;  // after the exit: silence on a stream that a stranger still holds open

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

/// Bytes on their way out. Gives its memory back when it runs empty.
struct queue {
  char* data = nullptr;
  size_t begin = 0, end = 0, capacity = 0;

  [[nodiscard]] size_t size() const { return end - begin; }
  bool push(const void* bytes, size_t count) {
    if (end + count > capacity && begin > 0) {
      memmove(data, data + begin, size());
      end -= begin;
      begin = 0;
    }
    if (end + count > capacity) {
      const size_t wanted = (end + count) * 2;
      char* grown = static_cast<char*>(realloc(data, wanted));
      if (grown == nullptr) return false;
      data = grown;
      capacity = wanted;
    }
    memcpy(data + end, bytes, count);
    end += count;
    return true;
  }
  void pop(size_t count) {
    begin += count;
    if (begin == end) clear();
  }
  void clear() {
    free(data);
    *this = queue{};
  }
  /// Writes what `fd` takes now. False: fd is broken.
  bool flush(int fd) {
    while (size() > 0) {
      const ssize_t n = write(fd, data + begin, size());
      if (n > 0)
        pop(static_cast<size_t>(n));
      else if (n < 0 && errno == EINTR)
        continue;
      else
        return n < 0 && errno == EAGAIN;
    }
    return true;
  }
};

struct client {
  int fd = -1;
  bool paces = false;  // the program waits for it
  bool finishes = false;
  queue out;
  frame_head head{};  // of the frame being received
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
int log_file = -1, clients_in = listener, to_stdin = input;
bool keeps_log = true;
size_t log_lost = 0;  // bytes the log could not take,
size_t log_gap = 0;   // and of them those it does not tell of yet

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
  if (!c.out.push(&head, sizeof head) || !c.out.push(bytes, length) || !c.out.flush(c.fd))
    drop(c);
  else if (!c.paces && c.out.size() > client_limit)
    drop(c);
}

// ---- the log: Docker's json-file, one object a line -----------------------------------------------

/// Length of the UTF-8 sequence at s, 0 if there is none (RFC 3629).
size_t utf8_length(const unsigned char* s, size_t n) {
  if (s[0] < 0x80) return 1;
  const size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
  if (s[0] < 0xc2 || s[0] > 0xf4 || n < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((s[i] & 0xc0) != 0x80) return 0;
  const bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
  const bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
  return overlong || outside ? 0 : length;
}

char* put(char* to, const char* text) { return stpcpy(to, text); }

char* put_hex(char* to, unsigned char c) {
  static const char digits[] = "0123456789abcdef";
  *to++ = digits[c >> 4];
  *to++ = digits[c & 15];
  return to;
}

char* put_json(char* to, const unsigned char* bytes, size_t count, bool* exact) {
  for (size_t i = 0; i < count;) {
    const unsigned char c = bytes[i];
    const size_t length = utf8_length(bytes + i, count - i);
    if (length > 1) {
      memcpy(to, bytes + i, length);
      to += length;
      i += length;
      continue;
    }
    ++i;
    if (length == 0) {
      *exact = false;
      to = put(to, "\\ufffd");
    } else if (c == '"' || c == '\\') {
      *to++ = '\\';
      *to++ = static_cast<char>(c);
    } else if (c == '\n') {
      to = put(to, "\\n");
    } else if (c == '\r') {
      to = put(to, "\\r");
    } else if (c == '\t') {
      to = put(to, "\\t");
    } else if (c < 0x20 || c == 0x7f) {
      to = put_hex(put(to, "\\u00"), c);
    } else {
      *to++ = static_cast<char>(c);
    }
  }
  return to;
}

/// One entry. Bytes that are not UTF-8 become U+FFFD in "log", and the entry then has a member "hex" with
/// the exact bytes, which other readers skip.
char* put_entry(char* to, const unsigned char* bytes, size_t count, bool is_stderr) {
  bool exact = true;
  to = put_json(put(to, "{\"log\":\""), bytes, count, &exact);
  if (!exact) {
    to = put(to, "\",\"hex\":\"");
    for (size_t i = 0; i < count; ++i) to = put_hex(to, bytes[i]);
  }
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  gmtime_r(&now.tv_sec, &utc);
  return to + sprintf(to, "\",\"stream\":\"%s\",\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ\"}\n",
                      is_stderr ? "stderr" : "stdout", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
                      utc.tm_min, utc.tm_sec, now.tv_nsec);
}

/// Appends what the disk takes, in whole lines: half a line would spoil the next one. Answers how much that was.
size_t append_lines(const char* lines, size_t size) {
  if (size == 0) return 0;
  const off_t end = lseek(log_file, 0, SEEK_END);
  const ssize_t written = write(log_file, lines, size);
  size_t whole = written > 0 ? static_cast<size_t>(written) : 0;
  if (whole == size) return size;
  while (whole > 0 && lines[whole - 1] != '\n') --whole;
  if (end >= 0) (void)!ftruncate(log_file, end + static_cast<off_t>(whole));
  return whole;
}

/// Where bytes were lost the log says so, once it can.
bool write_gap() {
  char text[128], entry[512];
  const int n = snprintf(text, sizeof text, "kit: %zu bytes of the log are missing here: its disk was full\n", log_gap);
  const char* end = put_entry(entry, reinterpret_cast<const unsigned char*>(text), static_cast<size_t>(n), true);
  if (append_lines(entry, static_cast<size_t>(end - entry)) == 0) return false;
  log_gap = 0;
  return true;
}

void write_entries(const char* entries, size_t size) {
  if (log_file < 0)  // made by the first byte: most short programs have none
    log_file = openat(log, "log.json", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
  if (log_gap > 0 && !write_gap()) {
    log_gap += size;
    log_lost += size;
    return;
  }
  const size_t left = size - append_lines(entries, size);
  log_gap += left;
  log_lost += left;
}

/// Writes the chunk as entries, one a line. A last line without a newline is an entry of its own, and so is
/// its rest when that comes: readers join on the missing newline, as with Docker's long lines.
void write_log(const unsigned char* bytes, size_t count, bool is_stderr) {
  constexpr size_t worst_of_byte = 8, frame_of_entry = 128;  // \u00xx and two hex digits; the members' names
  static char entries[chunk * worst_of_byte + frame_of_entry];
  size_t used = 0;
  while (count > 0) {
    const void* newline = memchr(bytes, '\n', count);
    const size_t length = newline ? static_cast<size_t>(static_cast<const unsigned char*>(newline) - bytes) + 1 : count;
    if (used + length * worst_of_byte + frame_of_entry > sizeof entries) {
      write_entries(entries, used);
      used = 0;
    }
    used = static_cast<size_t>(put_entry(entries + used, bytes, length, is_stderr) - entries);
    bytes += length;
    count -= length;
  }
  write_entries(entries, used);
}

// ---- moving bytes ----------------------------------------------------------------------------------

/// Reads once from stream i (0 stdout, 1 stderr).
void read_stream(int i) {
  static unsigned char buffer[chunk];
  const ssize_t n = read(streams[i], buffer, sizeof buffer);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) {  // its end; a terminal whose other side closed answers EIO
    streams[i] = -1;
    return;
  }
  if (keeps_log) write_log(buffer, static_cast<size_t>(n), i == 1);
  for (client& c : clients)
    if (c.fd >= 0) send_frame(c, i == 1 ? stderr_data : stdout_data, buffer, static_cast<uint32_t>(n));
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
  static unsigned char buffer[chunk];
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

/// Orphans of the container that came to us: drivers with a shim of their own need a subreaper.
void reap_orphans() {
  siginfo_t main_child{};
  waitid(static_cast<idtype_t>(P_PIDFD), waiter, &main_child, WEXITED | WNOHANG | WNOWAIT);
  for (;;) {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return;
    if (info.si_pid == main_child.si_pid) return;
    waitpid(info.si_pid, nullptr, WNOHANG);
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
      snprintf(text, sizeof text, "{\"exit_code\":%d,\"signal\":%d,\"finished_ns\":%lld,\"log_bytes_lost\":%zu}\n",
               code, signal_number, static_cast<long long>(now.tv_sec) * 1000000000LL + now.tv_nsec, log_lost);
  const int fd = openat(directory, ".exit.json.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;
  const bool whole = write(fd, text, static_cast<size_t>(n)) == n;
  close(fd);
  if (whole) renameat(directory, ".exit.json.tmp", directory, "exit.json");
}

/// Gives clients that still read what is left, as long as they take some of it every ten seconds.
void flush_clients() {
  for (int quiet = 0; quiet < 20;) {
    pollfd polls[most_clients];
    nfds_t count = 0;
    for (const client& c : clients)
      if (c.fd >= 0 && c.out.size() > 0) polls[count++] = {c.fd, POLLOUT, 0};
    if (count == 0) return;
    quiet = poll(polls, count, 500) == 0 ? quiet + 1 : 0;
    for (client& c : clients)
      if (c.fd >= 0 && c.out.size() > 0 && !c.out.flush(c.fd)) drop(c);
  }
}

/// Waits for the client that promised to finish: its last byte says that it did, its end without one
/// that it died.
bool client_finished(client& c) {
  fcntl(c.fd, F_SETFL, fcntl(c.fd, F_GETFL) & ~O_NONBLOCK);
  char buffer[512];
  bool done = false;
  for (;;) {
    const ssize_t n = read(c.fd, buffer, sizeof buffer);
    if (n > 0)
      done = buffer[n - 1] == static_cast<char>(will_finish);
    else if (n == 0 || errno != EINTR)
      return done;
  }
}

void on_child(int) {}

}  // namespace

int main(int argc, char** argv) {
  bool starter_paces = false;
  for (int option = 0; (option = getopt(argc, argv, "+ts")) != -1;) {
    if (option == 't')
      terminal = true;
    else if (option == 's')
      starter_paces = true;
    else
      return 2;
  }
  if (!is_open(waiter) || !is_open(output) || !is_open(directory)) {
    dprintf(2, "kit-monitor: started by hand; `kit start` starts it\n");
    return 2;
  }
  for (int fd = waiter; fd < first_free; ++fd) fcntl(fd, F_SETFD, FD_CLOEXEC);
  prctl(PR_SET_NAME, "kit-monitor");
  signal(SIGPIPE, SIG_IGN);
  struct sigaction action {};
  action.sa_handler = on_child;  // so that a child's end interrupts poll
  sigaction(SIGCHLD, &action, nullptr);

  if (!is_open(errors)) streams[1] = -1;
  if (!is_open(log)) keeps_log = false;
  if (!is_open(listener)) clients_in = -1;
  if (!is_open(input)) to_stdin = -1;
  for (int fd = output; fd <= starter; ++fd)
    if (fd != log && is_open(fd)) set_nonblocking(fd);
  if (is_open(starter)) {
    clients[0].fd = starter;
    clients[0].paces = starter_paces;
  }

  siginfo_t init{};
  bool known = false;
  for (bool ended = false; !ended || streams[0] >= 0 || streams[1] >= 0;) {
    bool behind = false;
    for (const client& c : clients) behind = behind || (c.fd >= 0 && c.paces && c.out.size() > starter_mark);

    enum : int { of_waiter = -1, of_listener = -2, of_input = -3, of_streams = -5 };
    pollfd polls[most_clients + 5];
    int owner[most_clients + 5];  // one of the above, of_streams + i, or the index of a client
    nfds_t count = 0;
    const auto watch = [&](int fd, int events, int whose) {
      polls[count] = {fd, static_cast<short>(events), 0};
      owner[count++] = whose;
    };
    if (!ended) watch(waiter, POLLIN, of_waiter);
    if (clients_in >= 0) watch(clients_in, POLLIN, of_listener);
    if (to_program.size() > 0) watch(program_input(), POLLOUT, of_input);
    for (int i = 0; i < 2; ++i)
      if (streams[i] >= 0 && !behind) watch(streams[i], POLLIN, of_streams + i);
    for (int i = 0; i < most_clients; ++i)
      if (clients[i].fd >= 0)
        watch(clients[i].fd, (to_program.size() < input_mark ? POLLIN : 0) | (clients[i].out.size() > 0 ? POLLOUT : 0),
              i);

    const int ready = poll(polls, count, ended && !behind ? drain_ms : -1);
    if (ready < 0) {
      reap_orphans();
      continue;
    }
    if (ready == 0) break;  // the exit is known and a stranger keeps a stream open without a word
    for (nfds_t k = 0; k < count; ++k) {
      if (polls[k].revents == 0) continue;
      switch (owner[k]) {
        case of_waiter:
          known = learn_exit(&init);
          ended = true;
          break;
        case of_listener: accept_client(); break;
        case of_input: feed_program(); break;
        case of_streams: read_stream(0); break;
        case of_streams + 1: read_stream(1); break;
        default:
          client& c = clients[owner[k]];
          if ((polls[k].revents & POLLOUT) != 0 && !c.out.flush(c.fd)) drop(c);
          if (c.fd >= 0 && (polls[k].revents & (POLLIN | POLLHUP | POLLERR)) != 0) read_client(c);
      }
    }
  }

  const bool by_signal = init.si_code != CLD_EXITED;
  const int code = by_signal ? 128 + init.si_status : init.si_status;
  if (log_gap > 0) write_entries(nullptr, 0);
  write_exit(known ? code : -1, known && by_signal ? init.si_status : 0);
  waitid(static_cast<idtype_t>(P_PIDFD), waiter, &init, WEXITED);

  const unsigned char body[4] = {static_cast<unsigned char>(code >> 24), static_cast<unsigned char>(code >> 16),
                                 static_cast<unsigned char>(code >> 8), static_cast<unsigned char>(code)};
  for (client& c : clients)
    if (c.fd >= 0 && known) send_frame(c, exited, body, sizeof body);
  flush_clients();
  close(namespaces);
  for (client& c : clients)
    if (c.fd >= 0 && c.finishes && client_finished(c)) return 0;
  if (optind >= argc) return 0;
  signal(SIGPIPE, SIG_DFL);
  execv(argv[optind], argv + optind);
  return 1;
}
