// SPDX-License-Identifier: Apache-2.0
#include "kit/testing/isolation.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "kit/system/cgroup.hpp"
#include "kit/testing/impl/isolation_fixture.hpp"

namespace kit::testing {

namespace fs = std::filesystem;

namespace {

constexpr const char* hosts_busybox = "/bin/busybox";

void skip_unless_host_can() {
  if (::geteuid() != 0) skip("needs root");
  // A dynamic busybox would need its libraries inside; ELF's PT_INTERP (3) tells.
  const std::string image = fs::exists(hosts_busybox) ? read_file(hosts_busybox) : "";
  if (image.size() < 64) skip("needs {}: apt-get install busybox-static", hosts_busybox);
  const auto at = [&](std::size_t offset, auto value) {
    std::memcpy(&value, image.data() + offset, sizeof value);
    return value;
  };
  const auto table = at(0x20, std::uint64_t{});
  const auto size = at(0x36, std::uint16_t{});
  const auto count = at(0x38, std::uint16_t{});
  for (unsigned i = 0; i < count; ++i)
    if (at(table + i * size, std::uint32_t{}) == 3)
      skip("{} is not static: apt-get install busybox-static", hosts_busybox);
  if (cgroup_layout::here().hierarchies().empty()) skip("no cgroup hierarchy is mounted");
}

template <class Each>
void each_process(Each each) {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos) each(static_cast<pid_t>(std::stol(name)));
  }
}

/// The whole file, or "" if it went away.
std::string peek(const std::string& path) {
  try {
    return read_file(path);
  } catch (const error&) {
    return {};
  }
}

}  // namespace

// ---- fixture ------------------------------------------------------------------------------------

isolation_fixture::isolation_fixture(make_isolation make) : make_(make) {
  skip_unless_host_can();
  scratch_ = "/tmp/kit-isolation-XXXXXX";
  if (::mkdtemp(scratch_.data()) == nullptr) fail_errno(errno, "make a directory in /tmp");
  config_.directory = scratch_ + "/driver";
  config_.run_dir = scratch_ + "/run";
  config_.root_tag = "suite" + scratch_.substr(scratch_.size() - 6);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  try {
    fs::copy_file(hosts_busybox, busybox());
    fs::permissions(busybox(), fs::perms(0755));
    driver_ = make_(config_);
    if (const probe_report report = driver_->probe(); !report.usable)
      skip("{} is not usable here: {}", driver_->name(), report.reason);
  } catch (...) {
    remove_tree(scratch_);
    throw;
  }
}

isolation_fixture::~isolation_fixture() {
  end_own_children();
  ::prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  try {
    // What a broken driver left; a good one left at most the parents.
    const cgroup group("kit-" + config_.root_tag);
    group.kill();
    group.remove();
    end_own_children();
    remove_tree(scratch_);
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
  }
}

int run_isolation_checks(make_isolation make, outcome_sink out, std::string_view only) {
  return run_checks(
      isolation_checks(), [&] { return isolation_fixture(make); }, out, only);
}

std::span<const check<isolation_fixture>> isolation_checks() {
  static const auto all = [] {
    std::vector<check<isolation_fixture>> list;
    for (auto part :
         {detail::isolation_call_checks(), detail::isolation_inside_checks(), detail::isolation_crash_checks()})
      list.insert(list.end(), part.begin(), part.end());
    return list;
  }();
  return all;
}

// ---- capture ------------------------------------------------------------------------------------

capture::capture() {
  auto [r, w] = make_pipe();
  read_ = std::move(r);
  write_ = std::move(w);
  ::fcntl(read_.get(), F_SETFL, O_NONBLOCK);
}

bool capture::read_some(int timeout_ms) {
  if (closed_) return false;
  pollfd p{read_.get(), POLLIN, 0};
  if (::poll(&p, 1, timeout_ms) <= 0) return false;
  char buffer[4096];
  const ssize_t n = ::read(read_.get(), buffer, sizeof buffer);
  if (n > 0) text_.append(buffer, static_cast<std::size_t>(n));
  if (n == 0) closed_ = true;
  return n > 0;
}

const std::string& capture::until(std::string_view text, milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (text_.find(text) == std::string::npos && !closed_ && std::chrono::steady_clock::now() < end) read_some(20);
  return text_;
}

const std::string& capture::all(milliseconds patience) {
  close_writer();
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!closed_ && std::chrono::steady_clock::now() < end) read_some(20);
  expect(closed_, "the output of a container that ended is still held open by somebody; so far \"{}\"", text_);
  return text_;
}

const std::string& capture::now() {
  while (read_some(0)) continue;
  return text_;
}

void capture::forget() {
  now();
  text_.clear();
}

// ---- specimen -----------------------------------------------------------------------------------

specimen::specimen(isolation_fixture& f) : fixture_(f) {
  c.id = random_id<container_id>();
  c.owner = fmt::format("kit:{}:{}", f.tag(), c.id.text());
  const std::string home = fmt::format("{}/{}", f.scratch(), c.id.brief());
  c.bundle = home + "/bundle";
  c.state_dir = home + "/state";
  make_directories(c.state_dir, 0700);
  for (const char* directory : {"bin", "dev", "etc", "proc", "sys", "tmp", "root"})
    make_directories(rootfs() + "/" + directory);
  fs::create_hard_link(f.busybox(), rootfs() + "/bin/busybox");
  for (const char* applet : {"sh", "cat", "echo", "env", "hostname", "id", "kill", "ls", "mkdir", "pwd", "readlink",
                             "sleep", "stty", "touch", "true", "tty", "usleep"})
    fs::create_symlink("busybox", rootfs() + "/bin/" + applet);
  put("/etc/mark", c.id.text());

  const json capabilities = {"CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE"};
  config = {
      {"ociVersion", "1.0.2"},
      {"root", {{"path", "rootfs"}, {"readonly", false}}},
      {"hostname", "specimen"},
      {"process",
       {{"terminal", false},
        {"user", {{"uid", 0}, {"gid", 0}}},
        {"args", {"/bin/true"}},
        {"env", {"PATH=/bin", "SPECIMEN=1"}},
        {"cwd", "/"},
        {"capabilities", {{"bounding", capabilities}, {"effective", capabilities}, {"permitted", capabilities}}},
        {"noNewPrivileges", true}}},
      {"mounts",
       {{{"destination", "/proc"}, {"type", "proc"}, {"source", "proc"}, {"options", {"nosuid", "noexec", "nodev"}}},
        {{"destination", "/dev"}, {"type", "tmpfs"}, {"source", "tmpfs"}, {"options", {"nosuid", "mode=755"}}},
        {{"destination", "/dev/pts"},
         {"type", "devpts"},
         {"source", "devpts"},
         {"options", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}}}}},
      {"linux",
       {{"namespaces",
         {{{"type", "pid"}},
          {{"type", "network"}},
          {{"type", "ipc"}},
          {{"type", "uts"}},
          {{"type", "mount"}},
          {{"type", "cgroup"}}}},
        {"cgroupsPath", fmt::format("/kit-{}/{}", f.tag(), c.id.text())},
        {"resources", json::object()}}},
  };
}

specimen::~specimen() {
  try {
    fixture_.driver().remove(c);
  } catch (const std::exception&) {
    // The driver under test may be broken; the fixture ends what is left.
  }
}

specimen& specimen::script(std::string text) { return args({"/bin/sh", "-c", std::move(text)}); }

specimen& specimen::args(std::vector<std::string> list) {
  config["process"]["args"] = std::move(list);
  return *this;
}

void specimen::write_config(std::string_view text) const { replace_file(c.bundle + "/config.json", text); }

void specimen::put(const std::string& path, std::string_view text, unsigned mode) const {
  replace_file(rootfs() + path, text, mode);
  ::chmod((rootfs() + path).c_str(), mode);
}

void specimen::create() {
  const unique_fd null = open_file("/dev/null", O_RDONLY);
  create({null.get(), out.writer(), out.writer(), -1});
  out.close_writer();
}

void specimen::create(const stdio& io) {
  const mount root = mount::bind(rootfs(), false);
  create(io, fixture_.driver().traits().needs_rootfs_path ? std::span<const mount>() : std::span(&root, 1));
}

void specimen::create(const stdio& io, std::span<const mount> mounts) {
  write_config();
  s = fixture_.driver().create(c, mounts, io);
  c.pid = s.pid;
  c.start_time = s.start_time;
}

ending specimen::run() {
  create();
  start();
  ending e;
  e.status = wait();
  e.out = out.all();
  return e;
}

int specimen::wait(milliseconds patience) {
  expect(has_ended(s.waiter.get(), patience),
         "the waiter still runs {} ms after the program should have ended; output: {}", patience.count(), out.now());
  return reap(s.waiter.get());
}

json specimen::process(std::vector<std::string> list) const {
  json p = config["process"];
  p["args"] = std::move(list);
  return p;
}

ending specimen::exec_process(const json& process) {
  capture output;
  const unique_fd null = open_file("/dev/null", O_RDONLY);
  started e = fixture_.driver().exec(c, process.dump(), {null.get(), output.writer(), output.writer(), -1});
  output.close_writer();
  expect(has_ended(e.waiter.get(), milliseconds(10000)), "the waiter of exec does not end; output: {}", output.now());
  ending result;
  result.status = reap(e.waiter.get());
  result.out = output.all();
  return result;
}

// ---- traces -------------------------------------------------------------------------------------

traces traces_of(const container& c) {
  traces t;
  const std::string id = c.id.str();
  for (const auto& h : cgroup_layout::here().hierarchies()) {
    std::error_code ignored;
    for (auto it = fs::recursive_directory_iterator(h.mount_point, ignored); it != fs::recursive_directory_iterator();
         it.increment(ignored))
      if (it->path().filename().string().find(id) != std::string::npos) t.cgroups.push_back(it->path());
  }
  each_process([&](pid_t pid) {
    if (peek(fmt::format("/proc/{}/cgroup", pid)).find(id) == std::string::npos) return;
    const auto state = status_word(peek(fmt::format("/proc/{}/status", pid)), "State");
    if (!state.empty() && state[0] != 'Z' && state[0] != 'X') t.processes.push_back(pid);
  });
  const std::string mounts = read_file("/proc/self/mountinfo");
  const std::string home = c.bundle.substr(0, c.bundle.rfind('/'));
  for (std::size_t at = 0; at < mounts.size();) {
    const auto end = std::min(mounts.find('\n', at), mounts.size());
    const auto line = mounts.substr(at, end - at);
    if (line.find(home) != std::string::npos || line.find(id) != std::string::npos) t.mounts.push_back(line);
    at = end + 1;
  }
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(c.state_dir, ignored)) t.files.push_back(entry.path().filename());
  return t;
}

void expect_no_traces(const container& c, std::string_view after) {
  traces t = traces_of(c);
  // Who was killed may be a moment away from being a zombie.
  if (!t.processes.empty()) {
    eventually([&] { return traces_of(c).processes.empty(); }, milliseconds(300));
    t = traces_of(c);
  }
  if (!t.processes.empty()) {
    const pid_t pid = t.processes.front();
    throw failed(fmt::format("after {} process {} is left: state {}, parent {}, {}", after, pid,
                             status_word(peek(fmt::format("/proc/{}/status", pid)), "State"),
                             status_word(peek(fmt::format("/proc/{}/status", pid)), "PPid"),
                             peek(fmt::format("/proc/{}/cgroup", pid))));
  }
  expect(t.cgroups.empty(), "after {} a cgroup is left: {}", after, t.cgroups.empty() ? "" : t.cgroups.front());
  expect(t.mounts.empty(), "after {} a mount is left on the host: {}", after, t.mounts.empty() ? "" : t.mounts.front());
  expect(t.files.empty(), "after {} a file is left in state_dir: {}", after, t.files.empty() ? "" : t.files.front());
}

std::vector<pid_t> own_children() {
  std::vector<pid_t> list;
  const std::string parent = std::to_string(::getpid());
  each_process([&](pid_t pid) {
    if (status_word(peek(fmt::format("/proc/{}/status", pid)), "PPid") == parent) list.push_back(pid);
  });
  return list;
}

std::set<int> own_descriptors() {
  std::set<int> list;
  DIR* stream = ::opendir("/proc/self/fd");
  if (stream == nullptr) return list;
  while (dirent* entry = ::readdir(stream))
    if (entry->d_name[0] != '.' && std::atoi(entry->d_name) != ::dirfd(stream)) list.insert(std::atoi(entry->d_name));
  ::closedir(stream);
  return list;
}

void end_own_children() {
  for (int round = 0; round < 100; ++round) {
    const auto children = own_children();
    if (children.empty()) return;
    for (pid_t pid : children) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, round < 50 ? WNOHANG : 0);
    }
    std::this_thread::sleep_for(milliseconds(2));
  }
}

// ---- words --------------------------------------------------------------------------------------

std::string expect_error(errc code, std::string_view what, std::initializer_list<std::string_view> words,
                         function_ref<void()> call) {
  try {
    call();
  } catch (const error& e) {
    std::string message = e.what();
    expect(e.code() == code, "{}: answered {} ({}), not {}", what, to_string(e.code()), message, to_string(code));
    for (auto word : words)
      expect(message.find(word) != std::string::npos, "{}: the message \"{}\" does not name {}", what, message, word);
    return message;
  }
  throw failed(fmt::format("{}: succeeded, and should have answered {}", what, to_string(code)));
}

std::string status_word(const std::string& status, const std::string& word) {
  auto at = status.rfind("\n" + word + ":");
  if (at == std::string::npos) return {};
  at = status.find_first_not_of(" \t", at + word.size() + 2);
  return trimmed(status.substr(at, status.find('\n', at) - at));
}

std::string link_of(const std::string& path) {
  std::error_code e;
  return fs::read_symlink(path, e);
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ' || text.back() == '\t'))
    text.pop_back();
  return text;
}

bool eventually(function_ref<bool()> condition, milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    if (condition()) return true;
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(milliseconds(5));
  }
}

}  // namespace kit::testing
