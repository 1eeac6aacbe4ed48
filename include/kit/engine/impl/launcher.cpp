// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/launcher.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "kit/engine/clock.hpp"
#include "kit/engine/launch.hpp"
#include "kit/engine/monitor_protocol.hpp"
#include "kit/engine/networks.hpp"
#include "kit/system/error.hpp"
#include "kit/system/namespace.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/system/process.hpp"
#include "kit/system/seam.hpp"
#include "kit/system/socket.hpp"

namespace kit {
namespace {
constexpr char tag_created = 'C', tag_started = 'S', tag_failed = 'F';
}  // namespace

// ---- reports: one packet each, a tag and JSON ---------------------------------------------------------

namespace {
/// One packet; no SIGPIPE. False if kit is dead.
bool send_report(int socket, const std::string& packet) {
  if (::send(socket, packet.data(), packet.size(), MSG_NOSIGNAL) >= 0) return true;
  if (errno != EPIPE && errno != ECONNRESET) fail_errno(errno, "report to kit");
  return false;
}
}  // namespace

report_channel::report_channel() { std::tie(read_, write_) = make_socket_pair(); }

void report_channel::created(pid_t pid, std::uint64_t start_time, const std::optional<attachment>& attached) {
  nlohmann::json j = {{"pid", pid}, {"start_time", start_time}};
  if (attached) j["attachment"] = to_json(*attached);
  if (!send_report(write_.get(), tag_created + j.dump()))
    fail(errc::cancelled, "start the container: the kit that asked for it is dead");
}

// Should kit be dead by now, the container runs all the same: the next command records it.
void report_channel::started() { send_report(write_.get(), std::string(1, tag_started)); }

void report_channel::failed(const std::exception& e) noexcept {
  try {
    const auto* known = dynamic_cast<const error*>(&e);
    const nlohmann::json j = {{"code", static_cast<int>(known ? known->code() : errc::io)},
                              {"errno", known ? known->sys_errno() : 0},
                              {"message", e.what()}};
    send_report(write_.get(), tag_failed + j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } catch (...) {  // kit will see the launcher end without a word
  }
}

std::string report_channel::receive(char expected) {
  // Its size first: memory is dear beside a fork.
  ssize_t n = 0;
  do n = ::recv(read_.get(), nullptr, 0, MSG_PEEK | MSG_TRUNC);
  while (n < 0 && errno == EINTR);
  std::string packet(static_cast<std::size_t>(std::max<ssize_t>(n, 0)), '\0');
  if (n > 0) n = ::recv(read_.get(), packet.data(), packet.size(), 0);
  if (n <= 0) fail(errc::io, "start the container: its launcher ended without a word (killed?)");
  packet.resize(static_cast<std::size_t>(n));
  if (packet[0] == tag_failed) {
    const auto j = nlohmann::json::parse(packet.substr(1));
    throw error(static_cast<errc>(j.at("code").get<int>()), j.at("message"), j.at("errno"));
  }
  if (packet[0] != expected) fail(errc::io, "start the container: its launcher reported out of order");
  return packet.substr(1);
}

launched report_channel::wait_created_in_kit() {
  const auto j = nlohmann::json::parse(receive(tag_created));
  launched l;
  l.pid = j.at("pid");
  l.start_time = j.at("start_time");
  if (j.contains("attachment")) l.attached = attachment_from_json(j.at("attachment").get_ref<const std::string&>());
  return l;
}

void report_channel::wait_started_in_kit() { receive(tag_started); }

// ---- the two processes ---------------------------------------------------------------------------------

bool fork_launcher_in_kit(report_channel& report) {
  const pid_t pid = seam("fork", [] { return ::fork(); });
  if (pid < 0) fail_errno(errno, "fork the container's launcher");
  (pid == 0 ? report.read_ : report.write_).reset();
  return pid == 0;
}

void run_launcher(report_channel& report, function_ref<void()> work) noexcept {
  try {
    work();
  } catch (const std::exception& e) {
    report.failed(e);
  } catch (...) {
    report.failed(error(errc::io, "start the container: a driver threw what is no exception"));
  }
  ::_exit(1);
}

void leave_the_terminal_in_launcher() {
  ::setsid();
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::umask(022);
  if (::chdir("/") != 0) fail_errno(errno, "change to /");
  const unique_fd null = open_file("/dev/null", O_RDWR);
  for (int fd : {0, 1, 2})
    if (::dup2(null.get(), fd) < 0) fail_errno(errno, "open /dev/null as {}", fd);
}

stdio streams_of_launch::for_program() const noexcept {
  return {program_in.get(), program_out.get(), program_err.get(), console.get()};
}

streams_of_launch open_streams_in_launcher(bool tty, bool stdin_open) {
  streams_of_launch s;
  if (tty) {
    std::tie(s.console_received, s.console) = make_socket_pair();
    return s;
  }
  const auto output_pipe = [](unique_fd& ours, unique_fd& programs) {
    unique_fd write_only;
    std::tie(ours, write_only) = make_pipe();
    programs = open_file(fmt::format("/proc/self/fd/{}", write_only.get()), O_RDWR);
  };
  output_pipe(s.output, s.program_out);
  output_pipe(s.errors, s.program_err);
  if (stdin_open)
    std::tie(s.program_in, s.input) = make_pipe();
  else
    s.program_in = open_file("/dev/null", O_RDONLY);
  return s;
}

streams_of_launch open_again_in_launcher(pid_t program) {
  const auto pipe_of = [&](int number) {
    // Looked at before it is opened: the program may have put anything there.
    const unique_fd at(::open(fmt::format("/proc/{}/fd/{}", program, number).c_str(), O_PATH | O_CLOEXEC));
    struct stat st {};
    const bool is_pipe = at && ::fstat(at.get(), &st) == 0 && S_ISFIFO(st.st_mode);
    return open_file(is_pipe ? fmt::format("/proc/self/fd/{}", at.get()) : "/dev/null", O_RDONLY | O_NONBLOCK);
  };
  streams_of_launch s;
  s.output = pipe_of(STDOUT_FILENO);
  s.errors = pipe_of(STDERR_FILENO);
  return s;
}

void save_state_in_launcher(const std::string& run_dir, const started& made) {
  const pid_t self = ::getpid();
  replace_file(run_dir + "/state.json",
               fmt::format(R"({{"pid":{},"start_time":{},"monitor":{},"monitor_start_time":{},"boot_id":"{}"}})",
                           made.pid, made.start_time, self, process_start_time(self), boot_id()),
               0600);
}

std::optional<launch_state> read_state(const std::string& run_dir) {
  const unique_fd fd(::open((run_dir + "/state.json").c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  const auto j = nlohmann::json::parse(read_all(fd.get(), run_dir + "/state.json"), nullptr, false);
  if (!j.is_object()) return std::nullopt;
  return launch_state{j.value("pid", 0), j.value("start_time", std::uint64_t{0}), j.value("monitor", 0),
                      j.value("monitor_start_time", std::uint64_t{0}), j.value("boot_id", "")};
}

void mount_root_in_own_namespace(std::span<const mount> mounts, const std::string& target) {
  if (::unshare(CLONE_NEWNS) != 0) fail_errno(errno, "unshare the launcher's mount namespace");
  // Slave: what the host mounts later is seen, what is mounted here is not.
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
    fail_errno(errno, "make the launcher's mounts slaves");
  // A driver with a shim leaves processes to whoever started it.
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) fail_errno(errno, "become a subreaper");
  const unique_fd tree = make_detached(mounts);
  const unique_fd directory = open_file(target, O_PATH | O_DIRECTORY);
  if (const int e = attach_mount(tree.get(), directory.get()); e != 0)
    fail_errno(-e, "mount the root file system at {}", target);
}

monitor_descriptors::monitor_descriptors(launch_plan& plan, const started& made, streams_of_launch& streams,
                                         unique_fd session) {
  // Above every number the monitor expects, so that filling one never overwrites another.
  const auto hold = [&](int number, unique_fd fd) {
    if (!fd) return;
    const int high = ::fcntl(fd.get(), F_DUPFD_CLOEXEC, monitor::first_free + 16);
    if (high < 0) fail_errno(errno, "duplicate descriptor {} for the monitor", number);
    held_.emplace_back(number, unique_fd(high));
  };
  const auto keep = [](int fd) { return unique_fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); };
  streams.program_in.reset();
  streams.program_out.reset();
  streams.program_err.reset();
  streams.console.reset();
  if (streams.console_received) {
    const int master = receive_descriptor(streams.console_received.get());
    if (master < 0) fail_errno(-master, "receive the container's terminal from its isolation driver");
    streams.output.reset(master);
  }
  hold(monitor::waiter, keep(made.waiter.get()));
  hold(monitor::output, std::move(streams.output));
  hold(monitor::errors, std::move(streams.errors));
  hold(monitor::input, std::move(streams.input));
  if (plan.log) hold(monitor::log, open_file(plan.container_dir, O_RDONLY | O_DIRECTORY));
  hold(monitor::listener, listen_at(plan.run_dir, "attach", SOCK_STREAM));
  hold(monitor::starter, std::move(session));
  hold(monitor::directory, open_file(plan.run_dir, O_RDONLY | O_DIRECTORY));
  hold(monitor::namespaces, open_namespace(made.pid, namespace_kind::mnt));
  hold(monitor::presence, std::move(plan.presence));
}

void monitor_descriptors::become_monitor_in_launcher(std::vector<std::string> monitor) {
  for (int number = monitor::waiter; number < monitor::first_free; ++number) ::close(number);
  for (const auto& [number, fd] : held_)
    if (::dup2(fd.get(), number) < 0) fail_errno(errno, "hand descriptor {} to the monitor", number);
  ::close_range(monitor::first_free, ~0u, CLOSE_RANGE_CLOEXEC);
  const std::vector<char*> argv = argument_vector(monitor);
  ::execv(argv[0], argv.data());
  fail_errno(errno, "execute the container's monitor {}", monitor[0]);
}

}  // namespace kit
