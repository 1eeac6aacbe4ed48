// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kit/detail/function_ref.hpp"
#include "kit/isolation/types.hpp"
#include "kit/network/types.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/mount.hpp"

/// \file
/// The steps of the launch path (launch.hpp) that depend on no driver.

namespace kit {

struct launch_plan;
struct launched;

/// The way back from the launcher to kit: first what was created, then that it runs, or an error instead.
class report_channel {
 public:
  report_channel();

  // in the launcher
  void created(pid_t pid, std::uint64_t start_time, const std::optional<attachment>& attached);
  void started();
  void failed(const std::exception& e) noexcept;

  // in kit: these throw what failed() said, or io if the launcher died without a word
  launched wait_created_in_kit();
  void wait_started_in_kit();

 private:
  friend bool fork_launcher_in_kit(report_channel&);
  std::string receive(char expected);
  unique_fd read_, write_;
};

/// fork(2): true in the launcher. The launcher ends by exec or _exit; it does not return to the caller of launch.
bool fork_launcher_in_kit(report_channel& report);
/// Runs `work` in the launcher and ends the process; an exception goes to kit.
[[noreturn]] void run_launcher(report_channel& report, function_ref<void()> work) noexcept;

/// A session of its own, no signal blocked, "/" as the working directory, nothing open but what is O_CLOEXEC:
/// what happens to the user's terminal does not concern a container.
void leave_the_terminal_in_launcher();

/// Both ends of a program's standard streams.
class streams_of_launch {
 public:
  [[nodiscard]] stdio for_program() const noexcept;
  unique_fd program_in, program_out, program_err;  ///< the program's; or, with a terminal,
  unique_fd console;                               ///< where the driver sends the terminal's master
  unique_fd input, output, errors;                 ///< the monitor's
  unique_fd console_received;                      ///< the other end of console
};
/// Pipes whose program side is open for reading and writing: should the monitor die, the program blocks when a pipe is full
/// and is not killed by SIGPIPE.
streams_of_launch open_streams_in_launcher(bool tty, bool stdin_open);

/// The monitor's side of a running program's streams, once more: its stdout and stderr, if they still are pipes.
streams_of_launch open_again_in_launcher(pid_t program);

/// RUN/state.json: who the container's init and monitor are, for whoever finds them after a crash.
void save_state_in_launcher(const std::string& run_dir, const started& made);

/// For drivers that need a path: a mount namespace of the launcher's own (MS_SLAVE), with the root attached at `target`.
void mount_root_in_own_namespace(std::span<const mount> mounts, const std::string& target);

/// Everything the monitor is to hold, opened before the program starts so that nothing can fail after it.
class monitor_descriptors {
 public:
  monitor_descriptors(launch_plan& plan, const started& made, streams_of_launch& streams, unique_fd session);
  /// execve(2) of kit-monitor, in this pid: the container's init stays its child. Does not return; throws if
  /// the program cannot be executed.
  [[noreturn]] void become_monitor_in_launcher(std::vector<std::string> monitor);

 private:
  std::vector<std::pair<int, unique_fd>> held_;  // the number it gets, and it
};

/// What RUN/state.json says.
struct launch_state {
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  pid_t monitor = 0;
  std::uint64_t monitor_start_time = 0;
  std::string boot_id;
};
std::optional<launch_state> read_state(const std::string& run_dir);

}  // namespace kit
