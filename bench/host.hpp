// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kit/system/fd.hpp"

/// \file
/// What every benchmark needs of the host: a place that is gone afterwards, programs, namespaces of its own, and words
/// for the machine.

namespace kit::bench {

using command = std::vector<std::string>;
using json = nlohmann::ordered_json;

/// From now on HUP, INT and TERM only set a mark.
void catch_interrupts();
/// Throws cancelled if one came. Between samples, so that everything made is removed.
void stop_if_interrupted();

/// CLOCK_MONOTONIC in milliseconds.
double now_ms();

/// The directory of this program: kit's others are beside it.
std::string own_directory();
/// The absolute path of a program in PATH, or beside this one; empty: there is none.
std::string find_program(const std::string& name);

/// A command that was waited for, and all it wrote.
struct outcome {
  int status = 0;  ///< exit code, or 128 + signal
  std::string out, err;
};
/// With nothing on stdin; `directory` is where it runs, if given.
outcome run(const command& c, const std::string& directory = {});
/// Throws io with what it wrote on stderr unless it ended with 0. Answers its stdout, without the last newline.
std::string must_run(const command& c, const std::string& directory = {});
/// The last lines that say why: on one line, not too long.
std::string why(const outcome& o);

/// Two directories of this run alone: `disk` in `base`, or $TMPDIR (/tmp), where images and layers are, and `run` on the tmpfs
/// /dev/shm, as /run is one on hosts. Both are gone at the end, with what was mounted in them.
class scratch {
 public:
  explicit scratch(const std::string& base = {});
  ~scratch();
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  [[nodiscard]] const std::string& disk() const noexcept { return disk_; }
  [[nodiscard]] const std::string& run() const noexcept { return run_; }

 private:
  std::string disk_, run_;
};

/// A root file system of Debian's busybox with the applets named, and the mount points a container needs. Throws
/// not_found if there is no static busybox.
void make_rootfs(const std::string& directory);

/// This process gets a network namespace of its own, with lo up: no link and no rule of the host is touched or in the way.
void leave_network();
/// Another one, for whoever sets it: the caller stays where it was.
unique_fd other_network();

/// Whether this process may make containers.
bool is_root();

/// The name of the file system that holds `path`.
std::string file_system_of(const std::string& path);
/// Processors, memory, kernel, control groups, file systems.
json describe_machine(const scratch& where);
/// The three figures of /proc/loadavg.
std::string load_average();

}  // namespace kit::bench
