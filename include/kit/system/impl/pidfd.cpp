// SPDX-License-Identifier: Apache-2.0
#include "kit/system/pidfd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string>
#include <thread>

#include "kit/system/error.hpp"
#include "kit/system/pidfd_info.hpp"

namespace kit {

std::uint64_t process_start_time(pid_t pid) {
  if (pid <= 0) return 0;
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  unique_fd stat(fd);
  char buffer[1024];
  const ssize_t size = ::read(fd, buffer, sizeof buffer);
  if (size <= 0) return 0;
  const std::string_view text(buffer, static_cast<std::size_t>(size));
  // The second field, the command's name, may itself hold spaces and parentheses: count from its end.
  std::size_t at = text.rfind(')');
  for (int field = 2; field < 22 && at != text.npos; ++field) at = text.find(' ', at + 1);
  if (at == text.npos) return 0;
  std::uint64_t ticks = 0;
  std::from_chars(text.data() + at + 1, text.data() + text.size(), ticks);
  return ticks;
}

unique_fd open_pidfd(pid_t pid) {
  const int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) fail_errno(errno, "open process {}", pid);
  return unique_fd(fd);
}

unique_fd open_process(pid_t pid, std::uint64_t start_time) {
  if (pid <= 0 || start_time == 0) return {};
  unique_fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  // In this order: once the descriptor is held, the pid cannot pass to another process that began at that time.
  if (fd && process_start_time(pid) != start_time) fd.reset();
  return fd;
}

bool has_ended(int pidfd, std::chrono::milliseconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    pollfd p{pidfd, POLLIN, 0};
    const int n = ::poll(&p, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (n >= 0) return n > 0;
    if (errno != EINTR) fail_errno(errno, "poll a process");
  }
}

bool send_signal(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) == 0) return true;
  if (errno == ESRCH) return false;
  fail_errno(errno, "send signal {}", signal);
}

namespace {

int code_of(int wait_status) { return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status); }

/// Field 52 of /proc/PID/stat: the wait status of a zombie.
std::optional<int> status_of_zombie(int pidfd) {
  const std::string info = read_file("/proc/self/fdinfo/" + std::to_string(pidfd));
  const auto at = info.find("\nPid:");
  const pid_t pid = at == info.npos ? -1 : std::atoi(info.c_str() + at + 5);
  if (pid <= 0) return std::nullopt;
  const unique_fd file(::open(fmt::format("/proc/{}/stat", pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  char text[1024];
  const ssize_t size = ::read(file.get(), text, sizeof text);
  if (size <= 0) return std::nullopt;
  const std::string_view stat(text, static_cast<std::size_t>(size));
  const auto name_end = stat.rfind(')');
  if (name_end == stat.npos || stat.substr(name_end, 3) != ") Z") return std::nullopt;
  int status = 0;
  const auto last = stat.rfind(' ');
  std::from_chars(stat.data() + last + 1, stat.data() + stat.size(), status);
  return status;
}

}  // namespace

std::optional<int> exit_code_of(int pidfd) {
  using namespace std::chrono_literals;
  for (const auto until = std::chrono::steady_clock::now() + 100ms;;) {
    if (std::int32_t told = 0; wait_status_of(pidfd, &told) == 1) return code_of(told);
    if (const auto status = status_of_zombie(pidfd)) return code_of(*status);
    if (std::chrono::steady_clock::now() > until) return std::nullopt;
    std::this_thread::sleep_for(1ms);
  }
}

int reap(int pidfd) {
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED) != 0)
    if (errno != EINTR)
      throw error(errno == ECHILD ? errc::not_found : errc_of(errno),
                  fmt::format("wait for a process: {}", errno_text(errno)), errno);
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}

}  // namespace kit
