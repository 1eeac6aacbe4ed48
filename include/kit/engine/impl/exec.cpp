// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/exec.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <optional>

#include "kit/engine/bundle.hpp"
#include "kit/engine/terminal.hpp"
#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/system/pty.hpp"
#include "kit/system/socket.hpp"

namespace kit {
namespace {

/// One direction of the relay between this process and the program.
struct flow {
  int from = -1, to = -1;
  bool open = false;
  /// Moves what is there; its end closes it.
  void move() {
    char buffer[32 * 1024];
    const ssize_t n = ::read(from, buffer, sizeof buffer);
    if (n > 0)
      write_all(to, {buffer, static_cast<std::size_t>(n)}, "the program's streams");
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
      open = false;
  }
};

process_plan plan_process(engine& e, const container_record& r, const exec_spec& x) {
  const container_spec spec = spec_from_json(r.spec);
  const auto manifest = e.records().manifest(r.image_digest);
  const image_config image = manifest ? parse_image_config(manifest->config) : image_config{};
  container_spec as = spec;  // the container's own, with what exec was told on top
  as.tty = x.tty;
  as.env.insert(as.env.end(), x.env.begin(), x.env.end());
  if (x.privileged) as.privileged = true;

  const std::string& user = !x.user.empty() ? x.user : !spec.user.empty() ? spec.user : image.user;
  process_plan plan;
  // The running root file system, whatever the image was: /proc/PID/root leads there (proc(5)).
  const std::string root = fmt::format("/proc/{}/root", r.init.pid);
  plan.user = user.empty() ? image_user{} : resolve_user(user, open_file(root, O_PATH | O_DIRECTORY).get());
  plan.args = x.command;
  plan.env =
      environment_of(as, image, spec.hostname.empty() ? r.id.brief() : std::string_view(spec.hostname), plan.user.home);
  plan.cwd = !x.workdir.empty()           ? x.workdir
             : !spec.workdir.empty()      ? spec.workdir
             : !image.working_dir.empty() ? image.working_dir
                                          : "/";
  plan.terminal = x.tty;
  plan.capabilities = capabilities_of(as);
  if (x.tty) std::tie(plan.rows, plan.columns) = terminal_size(0);
  return plan;
}

/// Relays until the program has ended and its output is drained; answers its exit code.
int relay(const started& process, flow in, flow out, flow err, unique_fd& program_stdin, int terminal,
          const exec_spec& x) {
  signal_reader signals;
  std::optional<raw_terminal> raw;
  if (terminal >= 0 && in.open && ::isatty(0) == 1) raw.emplace(0);
  detach_matcher detach(terminal >= 0 ? parse_detach_keys(x.detach_keys) : "");
  bool ended = false;
  // What the program has not read yet. Written without waiting: it may itself wait for its output to be read.
  std::string typed_ahead;
  if (in.open) ::fcntl(in.to, F_SETFL, ::fcntl(in.to, F_GETFL) | O_NONBLOCK);
  const auto no_more_stdin = [&] {
    in.open = false;
    if (typed_ahead.empty()) program_stdin.reset();
  };
  while (!ended || out.open || err.open) {
    constexpr std::size_t enough = 256 * 1024;
    pollfd polls[6] = {{ended ? -1 : process.waiter.get(), POLLIN, 0},
                       {signals.fd(), POLLIN, 0},
                       {in.open && !ended && typed_ahead.size() < enough ? in.from : -1, POLLIN, 0},
                       {out.open ? out.from : -1, POLLIN, 0},
                       {err.open ? err.from : -1, POLLIN, 0},
                       {!typed_ahead.empty() && !ended ? in.to : -1, POLLOUT, 0}};
    // A process it left behind may hold the streams open: not waited for.
    const int ready = ::poll(polls, 6, ended ? 50 : -1);
    if (ready < 0 && errno != EINTR) fail_errno(errno, "poll");
    if (ready == 0 && ended) break;
    while (const int n = signals.next()) {
      if (n == SIGWINCH && terminal >= 0) {
        const auto [rows, columns] = terminal_size(0);
        set_terminal_size(terminal, static_cast<std::uint16_t>(rows), static_cast<std::uint16_t>(columns));
      } else if (n == SIGCONT) {
        if (raw) raw.emplace(0);
      } else if (n != SIGWINCH) {
        send_signal(process.init.get(), n);
      }
    }
    if ((polls[3].revents & (POLLIN | POLLHUP)) != 0) out.move();
    if ((polls[4].revents & (POLLIN | POLLHUP)) != 0) err.move();
    if ((polls[2].revents & (POLLIN | POLLHUP)) != 0) {
      char typed[32 * 1024];
      const ssize_t n = ::read(in.from, typed, sizeof typed);
      if (n > 0) {
        std::string through;
        const bool detached = detach.feed({typed, static_cast<std::size_t>(n)}, through);
        typed_ahead += through;
        if (detached) return 0;
      } else if (n == 0) {
        no_more_stdin();
      }
    }
    if (!typed_ahead.empty()) {
      const ssize_t n = ::write(in.to, typed_ahead.data(), typed_ahead.size());
      if (n > 0)
        typed_ahead.erase(0, static_cast<std::size_t>(n));
      else if (n < 0 && errno != EAGAIN && errno != EINTR)
        typed_ahead.clear(), in.open = false;  // it closed its stdin: the rest has no reader
      if (typed_ahead.empty() && !in.open) program_stdin.reset();
    }
    if ((polls[0].revents & POLLIN) != 0) ended = true;
  }
  return reap(process.waiter.get());
}

}  // namespace

int exec(engine& e, const container_id& id, const exec_spec& x) {
  const container_record r = current(e, e.records().container(id.text()));
  if (r.state == container_state::paused)
    fail(errc::conflict, "container {} is paused, unpause it before exec", r.name);
  if (r.state != container_state::running) fail(errc::conflict, "container {} is not running", r.name);
  any_isolation& isolation = e.isolation(r.isolation);
  const std::string process = KIT_STEP(process_json(plan_process(e, r, x)));
  const container c = e.as_container(r);
  const auto exec_process = [&](const stdio& io) {
    try {
      return in_step("exec_process", [&] { return isolation.exec(c, process, io); });
    } catch (const error&) {
      // A container that ends meanwhile loses its namespaces a moment before its process.
      const unique_fd init = open_process(r.init.pid, r.init.start_time);
      if (init && !has_ended(init.get(), std::chrono::milliseconds(100))) throw;
    }
    fail(errc::conflict, "container {} is not running", r.name);
  };
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, nullptr);

  if (x.tty) {
    auto [ours, drivers] = make_socket_pair();
    const started p = exec_process({-1, -1, -1, drivers.get()});
    const int received = receive_descriptor(ours.get());
    if (received < 0) fail_errno(-received, "receive the program's terminal");
    unique_fd terminal(received), none;
    return relay(p, {0, terminal.get(), x.interactive}, {terminal.get(), 1, true}, {}, none, terminal.get(), x);
  }
  // Always pipes: the program gets neither the user's terminal nor a file of the host to open again.
  auto [out_read, out_write] = make_pipe();
  auto [err_read, err_write] = make_pipe();
  unique_fd in_read, in_write;
  if (x.interactive)
    std::tie(in_read, in_write) = make_pipe();
  else
    in_read = open_file("/dev/null", O_RDONLY);
  if (x.detach) {
    const unique_fd null = open_file("/dev/null", O_WRONLY);
    (void)exec_process({in_read.get(), null.get(), null.get(), -1});
    return 0;
  }
  const started p = exec_process({in_read.get(), out_write.get(), err_write.get(), -1});
  in_read.reset();
  out_write.reset();
  err_write.reset();
  return relay(p, {0, in_write.get(), x.interactive}, {out_read.get(), 1, true}, {err_read.get(), 2, true}, in_write,
               -1, x);
}

}  // namespace kit
