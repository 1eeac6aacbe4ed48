// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "trace.hpp"

namespace kit::cli {

/// What KIT_FAULT asks for, to try what becomes of an operation that is cut short at a step. One fault:
///
///     STEP:EDGE[@PROCESS][,N]=ACTION
///
///     STEP     a step's name, as `kit run --trace` shows it; or a system call of kit/system/seam.hpp
///     EDGE     before, after; call for a system call
///     PROCESS  kit, image (kit-image), monitor (kit internal finish), launcher, child; any if left out
///     N        the N-th time (1); 0: every time
///     ACTION   kill        die as by SIGKILL
///              stop        SIGSTOP itself; not for a child, whom the kernel does not let
///              slow:MS     sleep
///              errno:NAME  fail: ENOSPC, EIO, EINTR ...
///
/// or, in place of a fault, list:FILE: appends a line "STEP:EDGE@PROCESS" for each point that is passed.
class fault_plan {
 public:
  /// KIT_FAULT's, none if it is not set. Throws invalid.
  static std::optional<fault_plan> of_environment(const char* program);
  fault_plan(fault_plan&&) = default;
  fault_plan& operator=(fault_plan&&) = delete;
  ~fault_plan();

  /// As call_context::step.
  int at(std::string_view step, step_edge edge) noexcept;

 private:
  fault_plan(const std::string& text, const char* program);
  enum class action { kill, stop, slow, fail };

  process_role process_of_;
  std::string step_, process_;
  step_edge edge_{};
  action action_{};
  int value_ = 0;  ///< milliseconds, or the errno
  std::uint32_t nth_ = 1;
  shared_memory<std::atomic<std::uint32_t>> passed_;
  std::string list_to_;
  std::unique_ptr<step_log> list_;
};

/// "before", "after" or "call".
std::string_view to_string(step_edge) noexcept;

}  // namespace kit::cli
