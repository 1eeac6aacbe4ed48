// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/mman.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kit/driver.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace kit::cli {

/// Which of kit's processes a step is in: the program's own (kit, image, monitor), the launcher that it forked, or the
/// child that a driver cloned, whose steps are called `..._in_child`. For use between clone and exec, too.
class process_role {
 public:
  explicit process_role(const char* program) noexcept;
  const char* at(std::string_view step) noexcept;

 private:
  pid_t first_;
  const char* role_;
};

/// A T that this process and those it forks share, all zero at first.
template <class T>
class shared_memory {
 public:
  shared_memory() : at_(::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    if (at_ == MAP_FAILED) fail_errno(errno, "map memory that forks share");
    new (at_) T;
  }
  shared_memory(shared_memory&& other) noexcept : at_(std::exchange(other.at_, MAP_FAILED)) {}
  shared_memory& operator=(shared_memory&&) = delete;
  ~shared_memory() {
    if (at_ != MAP_FAILED) ::munmap(at_, sizeof(T));
  }
  T* operator->() const noexcept { return static_cast<T*>(at_); }

 private:
  void* at_;
};

/// Steps as they are told, by this process and those it forks: kept in memory they share, so that a record needs no
/// allocation, lock or system call but for the clock. What exceeds its room is left out.
class step_log {
 public:
  explicit step_log(const char* program) : process_(program) {}
  void add(std::string_view name, step_edge edge) noexcept;

  struct entry {
    std::int64_t time_ns;  ///< CLOCK_MONOTONIC
    const char* process;
    step_edge edge;
    char name[44];
  };
  /// Those told so far, in the order of telling.
  [[nodiscard]] std::vector<entry> entries() const;

 private:
  static constexpr std::uint32_t most = 32768;
  struct shared {
    std::atomic<std::uint32_t> count;
    struct {
      std::atomic<bool> written;
      entry e;
    } slots[most];
  };
  shared_memory<shared> shared_;
  process_role process_;
};

/// `--trace FILE`: while it lives, the steps of this call are noted; its end writes them as Chrome trace JSON
/// (chrome://tracing, Perfetto), one row per process; or, if FILE is "-", as a table on stderr. Nothing if FILE is empty.
/// Throws if the file cannot be made.
class tracer : public call_context {
 public:
  explicit tracer(const std::string& file);
  ~tracer() override;
  [[nodiscard]] bool cancelled() const noexcept override { return outer_.cancelled(); }
  void progress(std::uint64_t done, std::uint64_t total) noexcept override { outer_.progress(done, total); }
  void log(log_level level, std::string_view line) noexcept override { outer_.log(level, line); }
  int step(std::string_view name, step_edge edge) noexcept override;

 private:
  std::string file_;
  unique_fd fd_;
  call_context& outer_;
  std::optional<step_log> log_;
  std::optional<call_scope> scope_;
};

}  // namespace kit::cli
