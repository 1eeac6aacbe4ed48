// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/attach.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "kit/engine/logs.hpp"
#include "kit/engine/monitor_protocol.hpp"
#include "kit/engine/terminal.hpp"
#include "kit/system/error.hpp"
#include "kit/system/socket.hpp"

namespace kit {

namespace {

/// For the handler: the terminal to be restored by who dies of a signal that nobody takes.
struct {
  int fd;
  termios settings;
} to_restore;
constexpr int fatal_signals[] = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGABRT, SIGTRAP,
                                 SIGSYS,  SIGPIPE, SIGALRM, SIGXCPU, SIGXFSZ, SIGVTALRM};

/// Its disposition was reset as it came (SA_RESETHAND): this time it ends the process.
void restore_and_die(int signal) {
  ::tcsetattr(to_restore.fd, TCSANOW, &to_restore.settings);
  ::raise(signal);
}

[[noreturn]] void die_of(int signal) {
  ::signal(signal, SIG_DFL);
  sigset_t only;
  ::sigemptyset(&only);
  ::sigaddset(&only, signal);
  ::sigprocmask(SIG_UNBLOCK, &only, nullptr);
  ::raise(signal);
  ::_exit(128 + signal);
}

}  // namespace

raw_terminal::raw_terminal(int fd) : fd_(fd) {
  termios raw{};
  if (::tcgetattr(fd, &raw) != 0) fail_errno(errno, "read the terminal's settings");
  saved_ = raw;
  to_restore = {fd, saved_};
  struct sigaction action {};
  action.sa_handler = restore_and_die;
  action.sa_flags = SA_RESETHAND;
  for (const int n : fatal_signals) ::sigaction(n, &action, nullptr);
  ::cfmakeraw(&raw);
  if (::tcsetattr(fd, TCSANOW, &raw) != 0) fail_errno(errno, "set the terminal to raw mode");
}
raw_terminal::~raw_terminal() {
  ::tcsetattr(fd_, TCSANOW, &saved_);
  for (const int n : fatal_signals) ::signal(n, SIG_DFL);
}

std::pair<unsigned, unsigned> terminal_size(int fd) noexcept {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0) return {0, 0};
  return {size.ws_row, size.ws_col};
}

signal_reader::signal_reader() {
  ::sigemptyset(&taken_);
  for (int n : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT}) ::sigaddset(&taken_, n);
  ::sigprocmask(SIG_BLOCK, &taken_, &before_);
  fd_.reset(::signalfd(-1, &taken_, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd_) {
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    fail_errno(errno, "signalfd");
  }
}
signal_reader::~signal_reader() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

int signal_reader::next() noexcept {
  signalfd_siginfo info{};
  return ::read(fd_.get(), &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
}

std::string parse_detach_keys(const std::string& text) {
  std::string keys;
  for (std::size_t at = 0; at <= text.size();) {
    const auto comma = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, comma - at);
    if (word.size() == 1) {
      keys += word;
    } else if (word.size() == 6 && word.starts_with("ctrl-") &&
               ((word[5] >= 'a' && word[5] <= 'z') || std::strchr("@[\\]^_", word[5]) != nullptr)) {
      keys += static_cast<char>(word[5] & 0x1f);
    } else {
      fail(errc::invalid, "invalid detach keys '{}': '{}' is no key; write them as ctrl-p,ctrl-q", text, word);
    }
    at = comma + 1;
  }
  return keys;
}

bool detach_matcher::feed(std::string_view typed, std::string& through) {
  for (char c : typed) {
    if (!keys_.empty() && c == keys_[matched_]) {
      if (++matched_ == keys_.size()) return true;
      continue;
    }
    // What looked like the beginning of the keys was typed for the program after all.
    through.append(keys_, 0, matched_);
    matched_ = 0;
    if (!keys_.empty() && c == keys_[0] && keys_.size() > 1)
      matched_ = 1;
    else
      through += c;
  }
  return false;
}

namespace {

using namespace monitor;

std::string frame_of(unsigned char type, std::string_view body) {
  const std::uint32_t length = htonl(static_cast<std::uint32_t>(body.size()));
  std::string frame(8, '\0');
  frame[0] = static_cast<char>(type);
  std::memcpy(frame.data() + 4, &length, 4);
  frame += body;
  return frame;
}

std::string window_frame(int terminal) {
  const auto [rows, columns] = terminal_size(terminal);
  const char body[4] = {static_cast<char>(rows >> 8), static_cast<char>(rows), static_cast<char>(columns >> 8),
                        static_cast<char>(columns)};
  return frame_of(window_size, {body, 4});
}

/// Takes frames out of a stream of bytes.
class frame_reader {
 public:
  void add(std::string_view bytes) { buffer_ += bytes; }
  /// The next whole frame's type; its body in `body`, which holds until the next call.
  std::optional<unsigned char> next(std::string_view& body) {
    buffer_.erase(0, used_);
    used_ = 0;
    if (buffer_.size() < 8) return std::nullopt;
    std::uint32_t length = 0;
    std::memcpy(&length, buffer_.data() + 4, 4);
    length = ntohl(length);
    if (length > largest_frame) fail(errc::io, "the container's monitor sent a malformed frame");
    if (buffer_.size() < 8 + length) return std::nullopt;
    used_ = 8 + length;
    body = std::string_view(buffer_).substr(8, length);
    return static_cast<unsigned char>(buffer_[0]);
  }

 private:
  std::string buffer_;
  std::size_t used_ = 0;
};

/// Shows from the log what the monitor did not send, because this process read too slowly.
void catch_up(engine& e, const container_id& id, const behind_body& missed) {
  const bool found =
      missed.from.number > 0 && read_log_range(e, id, missed.from, missed.to, [](const log_entry& entry) {
        write_all(entry.is_stderr ? 2 : 1, entry.text, entry.is_stderr ? "stderr" : "stdout");
      });
  if (!found)
    this_call().log(
        log_level::warning,
        fmt::format("output of container {} was read too slowly: some of its next {} bytes are missing here",
                    id.brief(), missed.bytes));
}

}  // namespace

session attach(engine& e, const container_id& id) {
  session s;
  s.monitor = connect_at(e.bundle_dir(id), "attach", SOCK_STREAM);
  s.tty = spec_from_json(e.records().container(id.text()).spec).tty;
  return s;
}

stream_end stream(engine& e, const container_id& id, session& s, const stream_options& options, bool finishing) {
  if (!s.monitor) fail(errc::not_found, "attach to container {}: it is not running", id.brief());
  const int monitor = s.monitor.get();
  ::fcntl(monitor, F_SETFL, ::fcntl(monitor, F_GETFL) | O_NONBLOCK);
  signal_reader signals;
  std::optional<raw_terminal> raw;
  if (options.tty && options.stdin_open && ::isatty(0) == 1) raw.emplace(0);
  detach_matcher detach(options.tty && !options.detach_keys.empty() ? parse_detach_keys(options.detach_keys) : "");

  std::string to_monitor;
  if (finishing) to_monitor += frame_of(will_finish, "");
  if (options.tty && ::isatty(1) == 1) to_monitor += window_frame(1);
  bool reading_stdin = options.stdin_open;
  frame_reader frames;
  for (;;) {
    constexpr std::size_t enough = 256 * 1024;
    pollfd polls[3] = {
        {monitor, static_cast<short>(POLLIN | (to_monitor.empty() ? 0 : POLLOUT)), 0},
        {signals.fd(), POLLIN, 0},
        {reading_stdin && to_monitor.size() < enough ? 0 : -1, POLLIN, 0},
    };
    if (::poll(polls, 3, -1) < 0 && errno != EINTR) fail_errno(errno, "poll");

    while (const int n = signals.next()) {
      if (n == SIGWINCH) {
        if (options.tty && ::isatty(1) == 1) to_monitor += window_frame(1);
      } else if (n == SIGCONT) {
        if (raw) raw.emplace(0);  // the shell gave the terminal its own settings while we were stopped
      } else if (!options.signal_proxy || options.tty) {
        // As Docker does: a terminal's user has keys, and who closes it leaves the container running.
        raw.reset();
        die_of(n);
      } else {
        try {
          kill(e, id, n);
        } catch (const error& x) {  // it ended at this very moment; its exit is on the way
          if (x.code() != errc::not_found) throw;
        }
      }
    }
    if ((polls[2].revents & (POLLIN | POLLHUP)) != 0) {
      char typed[32 * 1024];
      const ssize_t n = ::read(0, typed, sizeof typed);
      if (n > 0) {
        std::string through;
        const bool detached = detach.feed({typed, static_cast<std::size_t>(n)}, through);
        if (!through.empty()) to_monitor += frame_of(stdin_data, through);
        if (detached) return {.detached = true};
      } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
        reading_stdin = false;
        to_monitor += frame_of(stdin_end, "");
      }
    }
    if (!to_monitor.empty()) {
      const ssize_t n = ::send(monitor, to_monitor.data(), to_monitor.size(), MSG_NOSIGNAL);
      if (n > 0)
        to_monitor.erase(0, static_cast<std::size_t>(n));
      else if (errno != EAGAIN && errno != EINTR)
        to_monitor.clear();  // its end is read below
    }
    if ((polls[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    char bytes[64 * 1024];
    const ssize_t n = ::read(monitor, bytes, sizeof bytes);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) return {};
    frames.add({bytes, static_cast<std::size_t>(n)});
    for (std::string_view body; auto type = frames.next(body);) {
      if (*type == exited && body.size() == 4) {
        std::uint32_t code = 0;
        std::memcpy(&code, body.data(), 4);
        return {.exited = true, .exit_code = static_cast<int>(ntohl(code))};
      }
      if (options.output && *type == behind && body.size() == sizeof(behind_body)) {
        behind_body missed{};
        std::memcpy(&missed, body.data(), sizeof missed);
        catch_up(e, id, missed);
      }
      if (options.output && (*type == stdout_data || *type == stderr_data))
        write_all(*type == stdout_data ? 1 : 2, body, *type == stdout_data ? "stdout" : "stderr");
    }
  }
}

int conclude(engine& e, const container_id& id, session& s, const stream_end& end) {
  bool restarts = false;
  try {
    restarts = KIT_STEP(finish(e, id)).state == container_state::restarting;
  } catch (const error& x) {
    if (x.code() != errc::not_found) throw;  // somebody else removed it meanwhile
  }
  // Without this word the monitor goes on as `kit internal finish`, which tidies up beside the user's next command, and
  // restarts what is to be.
  const char word = static_cast<char>(will_finish);
  if (!restarts && !needs_tidying(e)) ::send(s.monitor.get(), &word, 1, MSG_NOSIGNAL);
  s.monitor.reset();
  return end.exit_code;
}

}  // namespace kit
