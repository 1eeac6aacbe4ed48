// SPDX-License-Identifier: Apache-2.0
#include "kit/system/cgroup.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <thread>

#include "kit/system/error.hpp"
#include "kit/system/impl/cgroup_file.hpp"

namespace kit {

using namespace detail;

namespace {

using clock = std::chrono::steady_clock;

/// The controllers every group on version 2 gets.
constexpr std::string_view usual_controllers[] = {"cpu", "cpuset", "io", "memory", "pids"};

std::vector<std::string> words(std::string_view text, char separator) {
  std::vector<std::string> list;
  while (!text.empty()) {
    const auto end = std::min(text.find(separator), text.size());
    if (end > 0) list.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return list;
}

/// Undoes the octal escapes of proc_pid_mountinfo(5): space, tab, newline, backslash.
std::string unescape(std::string_view field) {
  std::string path;
  for (std::size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      path += static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 + (field[i + 3] - '0'));
      i += 3;
    } else {
      path += field[i];
    }
  }
  return path;
}

bool contains(const std::vector<std::string>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

/// Waits with growing pauses: 0.1 ms at first, 10 ms at most. False once `until` has passed.
class patient {
 public:
  explicit patient(clock::time_point until) : until_(until) {}
  bool wait() {
    if (clock::now() >= until_) return false;
    std::this_thread::sleep_for(pause_);
    pause_ = std::min(pause_ * 2, std::chrono::microseconds(10000));
    return true;
  }

 private:
  clock::time_point until_;
  std::chrono::microseconds pause_{100};
};

/// Calls `each` with the path of every group directly below `directory`.
template <class Each>
void groups_below(const std::string& directory, Each&& each) {
  DIR* stream = ::opendir(directory.c_str());
  if (stream == nullptr) return;
  std::vector<std::string> names;
  while (dirent* entry = ::readdir(stream))
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  ::closedir(stream);
  for (const auto& name : names) each(directory + "/" + name);
}

void collect_processes(const std::string& directory, std::vector<pid_t>& pids) {
  if (auto text = try_read(directory + "/cgroup.procs"))
    for (const auto& line : words(*text, '\n')) pids.push_back(static_cast<pid_t>(std::stol(line)));
  groups_below(directory, [&](const std::string& below) { collect_processes(below, pids); });
}

/// 0, or the errno of what could not be removed.
int remove_groups(const std::string& directory) {
  if (::rmdir(directory.c_str()) == 0 || errno == ENOENT) return 0;
  if (errno != EBUSY && errno != ENOTEMPTY) return errno;
  int problem = 0;
  groups_below(directory, [&](const std::string& below) {
    if (int e = remove_groups(below); e != 0) problem = e;
  });
  if (problem != 0) return problem;
  return ::rmdir(directory.c_str()) == 0 || errno == ENOENT ? 0 : errno;
}

/// Version 1 lets nobody into a cpuset without cpus and memory nodes: a new one takes its parent's. Who made that a moment
/// ago may not have filled it yet. The hierarchy's top is never empty.
void fill_cpuset(const std::string& directory) {
  const std::string parent = directory.substr(0, directory.rfind('/'));
  for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) {
    if (!trimmed(read_file(directory + file)).empty()) continue;
    std::string value = trimmed(read_file(parent + file));
    if (value.empty()) {
      fill_cpuset(parent);
      value = trimmed(read_file(parent + file));
    }
    write_value(directory + file, value);
  }
}

std::string who_stays(const std::vector<pid_t>& pids) {
  if (pids.empty()) return "a process that is ending";
  const auto comm = try_read(fmt::format("/proc/{}/comm", pids.front()));
  return fmt::format("process {} ({})", pids.front(), comm ? trimmed(*comm) : "gone");
}

/// Waits until `word` in the group's cgroup.events has `value`; poll(2) tells of each change.
bool wait_event(const std::string& directory, std::string_view word, std::uint64_t value, clock::time_point until) {
  const int raw = ::open((directory + "/cgroup.events").c_str(), O_RDONLY | O_CLOEXEC);
  if (raw < 0) return errno == ENOENT;
  unique_fd events(raw);
  for (;;) {
    char text[256];
    const ssize_t n = ::pread(raw, text, sizeof text, 0);
    if (n < 0) return errno == ENODEV;  // removed meanwhile
    if (value_of({text, static_cast<std::size_t>(n)}, word) == value) return true;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - clock::now()).count();
    if (left <= 0) return false;
    pollfd p{raw, POLLPRI, 0};
    (void)::poll(&p, 1, static_cast<int>(std::min<long long>(left, 1000)));
  }
}

}  // namespace

namespace detail {

std::optional<std::string> try_read(const std::string& path) {
  const int raw = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (raw < 0) return std::nullopt;
  unique_fd fd(raw);
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(raw, buffer, sizeof buffer);
    if (n == 0) return text;
    if (n > 0)
      text.append(buffer, static_cast<std::size_t>(n));
    else if (errno != EINTR)
      return std::nullopt;
  }
}

int try_write(int file, std::string_view value) noexcept {
  while (::write(file, value.data(), value.size()) < 0)
    if (errno != EINTR) return errno;
  return 0;
}

int try_write(const std::string& path, std::string_view value) noexcept {
  const unique_fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return file ? try_write(file.get(), value) : errno;
}

void write_value(const std::string& path, std::string_view value) {
  if (int e = try_write(path, value); e != 0) fail_errno(e, "write \"{}\" to {}", value, path);
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

std::uint64_t number(std::string_view text) noexcept {
  std::uint64_t n = 0;
  for (char c : text) {
    if (c < '0' || c > '9') break;
    n = n * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return n;
}

std::optional<std::uint64_t> value_of(std::string_view text, std::string_view word) noexcept {
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    if (line.size() > word.size() && line.substr(0, word.size()) == word && line[word.size()] == ' ')
      return number(line.substr(word.size() + 1));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return std::nullopt;
}

void enable_controllers(const cgroup_hierarchy& h, const std::string& path, std::span<const std::string_view> wanted) {
  std::string directory = h.mount_point;
  for (std::size_t slash = 0; slash != std::string::npos; slash = path.find('/', slash + 1)) {
    if (slash > 0) directory = h.mount_point + "/" + path.substr(0, slash);
    const auto available = words(trimmed(read_file(directory + "/cgroup.controllers")), ' ');
    const auto enabled = words(trimmed(read_file(directory + "/cgroup.subtree_control")), ' ');
    for (std::string_view controller : wanted) {
      if (!contains(available, controller) || contains(enabled, controller)) continue;
      const int e = try_write(directory + "/cgroup.subtree_control", fmt::format("+{}", controller));
      // Anything else leaves the controller off, and apply() says so of the limit that needs it.
      if (e == EBUSY || e == EOPNOTSUPP)
        fail(errc::busy,
             "enable controller {} in cgroup {}: {} is in that group itself, and version 2 wants processes in leaves; "
             "move them to a group below it",
             controller, directory, who_stays([&] {
               std::vector<pid_t> pids;
               collect_processes(directory, pids);
               return pids;
             }()));
    }
  }
}

}  // namespace detail

// ---- layout -------------------------------------------------------------------------------------

const cgroup_layout& cgroup_layout::here() {
  static const cgroup_layout layout(read_file("/proc/self/mountinfo"));
  return layout;
}

cgroup_layout::cgroup_layout(std::string_view mountinfo) {
  for (const auto& line : words(mountinfo, '\n')) {
    // 36 35 98:0 ROOT MOUNT_POINT options [optional...] - FSTYPE source SUPER_OPTIONS
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    const auto left = words(std::string_view(line).substr(0, dash), ' ');
    const auto right = words(std::string_view(line).substr(dash + 3), ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    cgroup_hierarchy h{unescape(left[4]), right[0] == "cgroup2", {}};
    if (h.v2) {
      if (unified() != nullptr) continue;
      if (auto text = try_read(h.mount_point + "/cgroup.controllers")) h.controllers = words(trimmed(*text), ' ');
    } else if (right[0] == "cgroup") {
      for (auto& option : words(right[2], ','))
        if (option != "rw" && option != "ro" && option != "xattr" && option != "clone_children" &&
            option != "noprefix" && option != "cpuset_v2_mode" && option.substr(0, 14) != "release_agent=")
          h.controllers.push_back(std::move(option));
      if (h.controllers.empty() || with(h.controllers.front()) != nullptr) continue;
    } else {
      continue;
    }
    hierarchies_.push_back(std::move(h));
  }
  // Version 2 first: a child that enters it first can be found and killed from then on.
  std::stable_partition(hierarchies_.begin(), hierarchies_.end(), [](const cgroup_hierarchy& h) { return h.v2; });
}

const cgroup_hierarchy* cgroup_layout::with(std::string_view controller) const noexcept {
  for (const auto& h : hierarchies_)
    if (contains(h.controllers, controller)) return &h;
  return nullptr;
}

const cgroup_hierarchy* cgroup_layout::unified() const noexcept {
  for (const auto& h : hierarchies_)
    if (h.v2) return &h;
  return nullptr;
}

std::string_view cgroup_layout::kind() const noexcept {
  if (hierarchies_.empty()) return "none";
  if (unified() == nullptr) return "v1";
  return hierarchies_.size() == 1 ? "v2" : "hybrid";
}

// ---- entering -----------------------------------------------------------------------------------

int cgroup_entry::enter(bool cloned_into) const noexcept {
  if (procs_ && !cloned_into && ::write(procs_.get(), "0", 1) != 1) return -errno;
  for (std::size_t i = 0; i < count_; ++i)
    if (::write(tasks_[i].get(), "0", 1) != 1) return -errno;
  return 0;
}

// ---- one group ----------------------------------------------------------------------------------

cgroup::cgroup(std::string path, const cgroup_layout& layout) : path_(std::move(path)), layout_(&layout) {
  const auto parts = words(path_, '/');
  bool plain = !parts.empty() && path_.front() != '/' && path_.back() != '/' && path_.find("//") == std::string::npos;
  for (const auto& part : parts) plain = plain && part != "." && part != "..";
  if (!plain) fail(errc::invalid, "cgroup path \"{}\": it must be relative and plain, as in kit/name", path_);
  if (layout_->hierarchies().size() > cgroup_entry::most)
    fail(errc::unsupported, "cgroup {}: this host mounts {} hierarchies, at most {} are supported", path_,
         layout_->hierarchies().size(), cgroup_entry::most);
}

const cgroup_hierarchy* cgroup::membership() const noexcept {
  if (const auto* h = layout_->unified()) return h;
  if (const auto* h = layout_->with("freezer")) return h;
  return layout_->hierarchies().empty() ? nullptr : &layout_->hierarchies().front();
}

bool cgroup::make() const {
  if (layout_->hierarchies().empty())
    fail(errc::unsupported, "make cgroup {}: no cgroup hierarchy is mounted; mount cgroup2 on /sys/fs/cgroup", path_);
  std::vector<std::string> made;
  try {
    for (const auto& h : layout_->hierarchies()) {
      const bool cpuset = !h.v2 && contains(h.controllers, "cpuset");
      // Again if remove_parents of another process took a parent away in between.
      for (int attempt = 0;; ++attempt) {
        // The parents are nearly always there.
        if (::mkdir(directory(h).c_str(), 0755) == 0) {
          made.push_back(directory(h));
          break;
        }
        if (errno == EEXIST) break;
        if (errno != ENOENT || attempt == 8) fail_errno(errno, "make cgroup {}", directory(h));
        for (auto slash = path_.find('/'); slash != std::string::npos; slash = path_.find('/', slash + 1)) {
          const std::string parent = h.mount_point + "/" + path_.substr(0, slash);
          if (::mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST) fail_errno(errno, "make cgroup {}", parent);
          if (cpuset) fill_cpuset(parent);
        }
      }
      if (cpuset) fill_cpuset(directory(h));
      if (h.v2) enable_controllers(h, path_, usual_controllers);
    }
  } catch (...) {
    for (const auto& directory : made) ::rmdir(directory.c_str());
    throw;
  }
  return !made.empty();
}

bool cgroup::exists() const {
  return std::any_of(layout_->hierarchies().begin(), layout_->hierarchies().end(),
                     [this](const cgroup_hierarchy& h) { return ::access(directory(h).c_str(), F_OK) == 0; });
}

bool cgroup::remove_if_empty() const noexcept {
  return std::all_of(layout_->hierarchies().begin(), layout_->hierarchies().end(), [this](const cgroup_hierarchy& h) {
    return ::rmdir(directory(h).c_str()) == 0 || errno == ENOENT;
  });
}

void cgroup::remove(milliseconds patience) const {
  patient again(clock::now() + patience);
  for (const auto& h : layout_->hierarchies()) {
    while (int e = remove_groups(directory(h))) {
      if (e != EBUSY) fail_errno(e, "remove cgroup {}", directory(h));
      if (!again.wait()) fail(errc::busy, "remove cgroup {}: {} is still in it", directory(h), who_stays(processes()));
    }
  }
}

void cgroup::remove_parents() const noexcept {
  for (const auto& h : layout_->hierarchies()) {
    for (auto slash = path_.rfind('/'); slash != std::string::npos && slash > 0; slash = path_.rfind('/', slash - 1))
      if (::rmdir((h.mount_point + "/" + path_.substr(0, slash)).c_str()) != 0 && errno != ENOENT) break;
  }
}

cgroup_entry cgroup::prepare() const {
  cgroup_entry entry;
  for (const auto& h : layout_->hierarchies()) {
    if (h.v2) {
      entry.into_ = open_file(directory(h), O_PATH | O_DIRECTORY);
      entry.procs_ = open_file(directory(h) + "/cgroup.procs", O_WRONLY);
    } else {
      entry.tasks_[entry.count_++] = open_file(directory(h) + "/tasks", O_WRONLY);
    }
  }
  return entry;
}

namespace {

/// Puts `pid` into the first group at or below `directory` that takes it. 0, or an errno.
int put_into_leaf(const std::string& directory, const std::string& pid) {
  int e = try_write(directory + "/cgroup.procs", pid);
  if (e != EBUSY && e != EOPNOTSUPP) return e;
  groups_below(directory, [&](const std::string& below) {
    std::vector<pid_t> inside;
    if (e == EBUSY || e == EOPNOTSUPP) collect_processes(below, inside);
    if (!inside.empty()) e = put_into_leaf(below, pid);
  });
  return e;
}

}  // namespace

void cgroup::enter(pid_t pid) const {
  const std::string text = std::to_string(pid);
  for (const auto& h : layout_->hierarchies()) {
    const int e = h.v2 ? put_into_leaf(directory(h), text) : try_write(directory(h) + "/cgroup.procs", text);
    if (e != 0) fail_errno(e, "move process {} into cgroup {}", pid, directory(h));
  }
}

// ---- freezing -----------------------------------------------------------------------------------

namespace {

/// Version 1's FREEZING may stay forever if a process forks at the wrong moment; a thaw lets it get over it.
bool freeze_v1(const std::string& state_file, clock::time_point until) {
  patient again(until);
  for (int attempt = 1;; ++attempt) {
    write_value(state_file, "FROZEN");
    if (trimmed(read_file(state_file)) == "FROZEN") return true;
    if (attempt % 50 == 0) write_value(state_file, "THAWED");
    if (!again.wait()) return false;
  }
}

}  // namespace

void cgroup::freeze(milliseconds patience) const {
  const auto until = clock::now() + patience;
  bool done = false;
  const auto* h = membership();
  if (h != nullptr && h->v2 && ::access((directory(*h) + "/cgroup.freeze").c_str(), W_OK) == 0) {
    write_value(directory(*h) + "/cgroup.freeze", "1");
    done = wait_event(directory(*h), "frozen", 1, until);
  } else if ((h = layout_->with("freezer")) != nullptr) {
    done = freeze_v1(directory(*h) + "/freezer.state", until);
  } else if (!exists()) {
    fail(errc::not_found, "freeze cgroup {}: it does not exist", path_);
  } else {
    fail(errc::unsupported,
         "freeze cgroup {}: neither version 2 nor the freezer controller is mounted; mount cgroup2 or enable "
         "cgroup_freezer",
         path_);
  }
  if (done) return;
  thaw();
  fail(errc::busy, "freeze cgroup {}: a process resists, perhaps in an uninterruptible sleep ({})", path_,
       who_stays(processes()));
}

void cgroup::thaw() const {
  int thawed = 0;
  const auto* h = membership();
  if (h != nullptr && h->v2 && ::access((directory(*h) + "/cgroup.freeze").c_str(), W_OK) == 0) {
    thawed = try_write(directory(*h) + "/cgroup.freeze", "0");
    (void)wait_event(directory(*h), "frozen", 0, clock::now() + milliseconds(1000));
  } else if ((h = layout_->with("freezer")) != nullptr) {
    thawed = try_write(directory(*h) + "/freezer.state", "THAWED");
  }
  // A group that is gone, or half removed, holds nobody.
  if (thawed != 0 && thawed != ENOENT && thawed != ENODEV) fail_errno(thawed, "thaw cgroup {}", path_);
}

bool cgroup::frozen() const {
  const auto* h = membership();
  if (h != nullptr && h->v2)
    if (auto asked = try_read(directory(*h) + "/cgroup.freeze")) return number(*asked) == 1;
  h = layout_->with("freezer");
  const auto state = h != nullptr ? try_read(directory(*h) + "/freezer.state") : std::nullopt;
  return state && trimmed(*state) != "THAWED";
}

// ---- processes ----------------------------------------------------------------------------------

std::vector<pid_t> cgroup::processes() const {
  std::vector<pid_t> pids;
  // All hierarchies, for a process killed on its way in may be in some only.
  for (const auto& h : layout_->hierarchies()) collect_processes(directory(h), pids);
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

void cgroup::signal(int signal) const {
  if (!exists()) return;
  const auto* h = membership();
  const bool killed = signal == SIGKILL && h->v2 && try_write(directory(*h) + "/cgroup.kill", "1") == 0;
  const bool was_frozen = frozen();
  if (!killed && !was_frozen) {
    try {
      freeze(milliseconds(500));
    } catch (const error&) {  // who cannot be frozen can still be signalled
    }
  }
  for (pid_t pid : processes())
    if (pid > 0) (void)::kill(pid, signal);
  // Version 1 lets nobody die frozen.
  if (signal == SIGKILL || !was_frozen) thaw();
}

bool cgroup::wait_empty(milliseconds patience) const {
  const auto until = clock::now() + patience;
  const auto* h = membership();
  if (h == nullptr) return true;
  if (h->v2 && !wait_event(directory(*h), "populated", 0, until)) return false;
  for (patient again(until); !processes().empty();)
    if (!again.wait()) return false;
  return true;
}

void cgroup::kill(milliseconds patience) const {
  const auto until = clock::now() + patience;
  for (milliseconds once(100);; once = std::min(once * 2, milliseconds(2000))) {
    if (!exists()) return;
    signal(SIGKILL);
    if (wait_empty(once)) return;
    if (clock::now() >= until)
      fail(errc::busy, "kill all in cgroup {}: {} does not end", path_, who_stays(processes()));
  }
}

// ---- figures ------------------------------------------------------------------------------------

namespace {

std::uint64_t read_number(const std::string& path) {
  const auto text = try_read(path);
  return text ? number(*text) : 0;  // "max" is 0: no limit
}

/// Version 1 says "no limit" by a number no machine has.
std::uint64_t limit_v1(std::uint64_t bytes) { return bytes >= std::uint64_t{1} << 62 ? 0 : bytes; }

void memory_stats(const cgroup_hierarchy& h, const std::string& directory, cgroup_stats& s) {
  const auto stat = try_read(directory + "/memory.stat");
  const auto cache = stat ? value_of(*stat, h.v2 ? "inactive_file" : "total_inactive_file").value_or(0) : 0;
  s.memory_bytes = read_number(directory + (h.v2 ? "/memory.current" : "/memory.usage_in_bytes"));
  s.memory_bytes -= std::min(s.memory_bytes, cache);
  s.memory_peak_bytes = read_number(directory + (h.v2 ? "/memory.peak" : "/memory.max_usage_in_bytes"));
  s.memory_limit_bytes = limit_v1(read_number(directory + (h.v2 ? "/memory.max" : "/memory.limit_in_bytes")));
  if (const auto events = try_read(directory + (h.v2 ? "/memory.events" : "/memory.oom_control")))
    s.oom_kills = value_of(*events, "oom_kill").value_or(0);
}

void cpu_stats(const cgroup_hierarchy& h, const std::string& directory, cgroup_stats& s) {
  if (h.v2) {
    const auto stat = try_read(directory + "/cpu.stat").value_or("");
    s.cpu_ns = value_of(stat, "usage_usec").value_or(0) * 1000;
    s.cpu_user_ns = value_of(stat, "user_usec").value_or(0) * 1000;
    s.cpu_system_ns = value_of(stat, "system_usec").value_or(0) * 1000;
  } else {
    s.cpu_ns = read_number(directory + "/cpuacct.usage");
    s.cpu_user_ns = read_number(directory + "/cpuacct.usage_user");
    s.cpu_system_ns = read_number(directory + "/cpuacct.usage_sys");
  }
}

void io_stats(const cgroup_hierarchy& h, const std::string& directory, cgroup_stats& s) {
  const auto text = try_read(directory + (h.v2 ? "/io.stat" : "/blkio.throttle.io_service_bytes_recursive"));
  if (!text) return;
  for (const auto& line : words(*text, '\n')) {
    const auto fields = words(line, ' ');
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const std::string_view f = fields[i];
      if (f.substr(0, 7) == "rbytes=") s.read_bytes += number(f.substr(7));
      if (f.substr(0, 7) == "wbytes=") s.write_bytes += number(f.substr(7));
      if (i + 1 < fields.size() && f == "Read") s.read_bytes += number(fields[i + 1]);
      if (i + 1 < fields.size() && f == "Write") s.write_bytes += number(fields[i + 1]);
    }
  }
}

}  // namespace

cgroup_stats cgroup::stats() const {
  if (!exists()) fail(errc::not_found, "read figures of cgroup {}: it does not exist", path_);
  cgroup_stats s;
  if (const auto* h = layout_->with("memory")) memory_stats(*h, directory(*h), s);
  const auto* cpu = layout_->with("cpuacct");
  if (cpu == nullptr) cpu = layout_->unified();  // version 2 counts time without any controller
  if (cpu != nullptr) cpu_stats(*cpu, directory(*cpu), s);
  if (const auto* h = layout_->with("pids")) {
    s.pids = read_number(directory(*h) + "/pids.current");
    s.pids_limit = read_number(directory(*h) + "/pids.max");
  }
  const auto* io = layout_->with("blkio");
  if (io == nullptr) io = layout_->with("io");
  if (io != nullptr) io_stats(*io, directory(*io), s);
  return s;
}

}  // namespace kit
