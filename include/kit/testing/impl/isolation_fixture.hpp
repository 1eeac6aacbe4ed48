// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/testing/isolation.hpp"

namespace kit::testing {

using json = nlohmann::json;
using std::chrono::milliseconds;

/// One check's own driver, its directories, and the world as it was before.
class isolation_fixture {
 public:
  /// Throws skipped where the suite or the driver cannot run.
  explicit isolation_fixture(make_isolation make);
  ~isolation_fixture();
  isolation_fixture(const isolation_fixture&) = delete;
  isolation_fixture& operator=(const isolation_fixture&) = delete;

  isolation_subject& driver() { return *driver_; }
  /// A new object over the same directories, as the next command makes one.
  std::unique_ptr<isolation_subject> another() { return make_(config_); }
  [[nodiscard]] const std::string& scratch() const { return scratch_; }
  /// A copy of busybox to link to. Written once, before any process is made: one that inherits the descriptor of a
  /// program being written makes its execution fail, with ETXTBSY.
  [[nodiscard]] std::string busybox() const { return scratch_ + "/busybox"; }
  /// First part of every container's cgroup path.
  [[nodiscard]] const std::string& tag() const { return config_.root_tag; }

 private:
  make_isolation make_;
  std::string scratch_;
  driver_config config_;
  std::unique_ptr<isolation_subject> driver_;
};

/// What a process left: all it wrote, and its exit code, or 128 + the signal that ended it.
struct ending {
  std::string out;
  int status = -1;
};

/// A pipe whose write end goes to a container and whose read end is read here.
class capture {
 public:
  capture();
  [[nodiscard]] int writer() const { return write_.get(); }
  void close_writer() { write_.reset(); }
  /// Reads until `text` has come, or all writers have closed, or `patience` is over; answers all read so far.
  const std::string& until(std::string_view text, milliseconds patience = milliseconds(5000));
  /// All until the last writer closed. Fails the check if that takes longer.
  const std::string& all(milliseconds patience = milliseconds(5000));
  /// What is there now, without waiting.
  const std::string& now();
  /// Empties what was read; later answers begin here.
  void forget();

 private:
  bool read_some(int timeout_ms);
  unique_fd read_, write_;
  std::string text_;
  bool closed_ = false;
};

/// One container: a bundle with a root file system of busybox, a configuration to be changed before create, and
/// whatever runs; removed at the end.
class specimen {
 public:
  explicit specimen(isolation_fixture& f);
  ~specimen();
  specimen(const specimen&) = delete;
  specimen& operator=(const specimen&) = delete;

  json config;
  container c;
  started s;
  capture out;

  /// The program becomes `sh -c script`.
  specimen& script(std::string text);
  specimen& args(std::vector<std::string> list);
  /// config.json of these bytes instead.
  void write_config(std::string_view text) const;
  void write_config() const { write_config(config.dump(1)); }

  [[nodiscard]] std::string rootfs() const { return c.bundle + "/rootfs"; }
  /// Writes a file of the root file system.
  void put(const std::string& path, std::string_view text, unsigned mode = 0644) const;

  void create();
  void create(const stdio& io);
  void create(const stdio& io, std::span<const mount> mounts);
  void start() { fixture_.driver().start(c); }
  /// create, start, wait.
  ending run();
  /// The waiter's status; fails the check if it does not end in time.
  int wait(milliseconds patience = milliseconds(10000));
  void remove() { fixture_.driver().remove(c); }

  /// A `process` object as exec takes it: like the container's, but for args.
  [[nodiscard]] json process(std::vector<std::string> list) const;
  [[nodiscard]] json process(const std::string& script) const { return process({"/bin/sh", "-c", script}); }
  ending exec_process(const json& process);
  ending exec(const std::string& script) { return exec_process(process(script)); }

 private:
  isolation_fixture& fixture_;
};

/// What of a container can be seen from the host; empty when nothing is left.
struct traces {
  std::vector<std::string> cgroups;
  std::vector<pid_t> processes;  ///< alive: zombies are for their parents to reap
  std::vector<std::string> mounts;
  std::vector<std::string> files;  ///< in state_dir
};
traces traces_of(const container& c);
/// Fails the check if anything of c is left within a moment; `after` says after what.
void expect_no_traces(const container& c, std::string_view after);

/// Processes whose parent this one is, zombies included.
std::vector<pid_t> own_children();
/// The descriptors this process has open.
std::set<int> own_descriptors();
/// Kills and reaps every child of this process.
void end_own_children();

/// Fails the check unless `call` throws kit::error of `code`; answers the message, in which every one of `words` stands.
std::string expect_error(errc code, std::string_view what, std::initializer_list<std::string_view> words,
                         function_ref<void()> call);

/// The value of "Word:\t" in a /proc/PID/status text, "" if there is none.
std::string status_word(const std::string& status, const std::string& word);
std::string link_of(const std::string& path);
std::string trimmed(std::string text);

/// Whether `condition` becomes true in time.
bool eventually(function_ref<bool()> condition, milliseconds patience = milliseconds(3000));

namespace detail {
using isolation_checks_part = std::span<const check<isolation_fixture>>;
isolation_checks_part isolation_call_checks();    // isolation_calls.cpp: what the calls answer, requirements 1 to 9
isolation_checks_part isolation_inside_checks();  // isolation_inside.cpp: what the program finds, 10 and 11
isolation_checks_part isolation_crash_checks();   // isolation_crashes.cpp: killed calls, many at once, nothing left
}  // namespace detail

}  // namespace kit::testing
