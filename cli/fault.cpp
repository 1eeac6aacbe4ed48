// SPDX-License-Identifier: Apache-2.0
#include "fault.hpp"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <map>

#include "kit/system/error.hpp"
#include "kit/system/process.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

constexpr const char* variable = "KIT_FAULT";
constexpr std::array edges{step_edge::begin, step_edge::end, step_edge::call};

[[noreturn]] void refuse(const std::string& text, std::string_view why) {
  fail(errc::invalid, "{} \"{}\": {}; write STEP:before|after|call[@PROCESS][,N]=kill|stop|slow:MS|errno:NAME",
       variable, text, why);
}

int number_in(std::string_view digits, const std::string& text) {
  int value = 0;
  const auto [end, wrong] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (wrong != std::errc{} || end != digits.data() + digits.size() || value < 0)
    refuse(text, fmt::format("\"{}\" is no number", digits));
  return value;
}

int errno_named(std::string_view name, const std::string& text) {
  constexpr int most = 200;
  for (int e = 1; e < most; ++e)
    if (const char* known = ::strerrorname_np(e); known != nullptr && name == known) return e;
  refuse(text, fmt::format("there is no errno {}", name));
}

/// What stands before the last `mark`; the rest is moved to `after`, which is "" without one.
std::string split_off(const std::string& from, char mark, std::string& after) {
  const auto at = from.rfind(mark);
  after = at == std::string::npos ? "" : from.substr(at + 1);
  return from.substr(0, at);
}

[[noreturn]] void die() noexcept {
  ::kill(::getpid(), SIGKILL);
  // The init of a pid namespace is spared its own signals, not the end of those who leave strict mode.
  ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
  for (;;) ::getpid();
}

void sleep_ms(int ms) noexcept {
  timespec left{ms / 1000, ms % 1000 * 1000000L};
  while (::nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

}  // namespace

std::string_view to_string(step_edge edge) noexcept {
  switch (edge) {
    case step_edge::begin: return "before";
    case step_edge::end: return "after";
    case step_edge::call: return "call";
  }
  return "";
}

std::optional<fault_plan> fault_plan::of_environment(const char* program) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return std::nullopt;
  return fault_plan(text, program);
}

fault_plan::fault_plan(const std::string& text, const char* program) : process_of_(program) {
  if (text.starts_with("list:")) {
    list_to_ = text.substr(5);
    list_ = std::make_unique<step_log>(program);
    return;
  }
  std::string what, nth, edge;
  std::string point = split_off(text, '=', what);
  point = split_off(point, ',', nth);
  point = split_off(point, '@', process_);
  step_ = split_off(point, ':', edge);
  if (step_.empty()) refuse(text, "no step is named");
  const auto known = std::find_if(edges.begin(), edges.end(), [&](step_edge e) { return to_string(e) == edge; });
  if (known == edges.end()) refuse(text, fmt::format("\"{}\" is no edge of a step", edge));
  edge_ = *known;
  if (!nth.empty()) nth_ = static_cast<std::uint32_t>(number_in(nth, text));
  if (what == "kill") {
    action_ = action::kill;
  } else if (what == "stop") {
    action_ = action::stop;
  } else if (what.starts_with("slow:")) {
    action_ = action::slow;
    value_ = number_in(what.substr(5), text);
  } else if (what.starts_with("errno:")) {
    action_ = action::fail;
    value_ = errno_named(what.substr(6), text);
  } else {
    refuse(text, fmt::format("\"{}\" is no action", what));
  }
}

fault_plan::~fault_plan() {
  if (!list_) return;
  std::string lines;
  for (const step_log::entry& e : list_->entries())
    lines += fmt::format("{}:{}@{}\n", e.name, to_string(e.edge), e.process);
  try {
    write_all(open_file(list_to_, O_WRONLY | O_CREAT | O_APPEND, 0600).get(), lines, list_to_);
  } catch (const std::exception& e) {
    report(e);
  }
}

int fault_plan::at(std::string_view step, step_edge edge) noexcept {
  if (list_) return list_->add(step, edge), 0;
  const std::string_view process = process_of_.at(step);
  if (edge != edge_ || step != step_ || (!process_.empty() && process != process_)) return 0;
  const std::uint32_t time = passed_->fetch_add(1, std::memory_order_relaxed) + 1;
  if (nth_ != 0 && time != nth_) return 0;
  switch (action_) {
    case action::kill: die();
    case action::stop: return ::kill(::getpid(), SIGSTOP), 0;
    case action::slow: return sleep_ms(value_), 0;
    case action::fail: return value_;
  }
  return 0;
}

int internal_faults(invocation& call) {
  const arguments words =
      options(call.command(), "COMMAND [ARG...]",
              "Run a kit command, and list the points it passes at which KIT_FAULT can cut it short,\n"
              "each with how many times. What the command prints goes to stderr.")
          .takes(1)
          .then_verbatim()
          .example("kit internal faults run --rm busybox true")
          .parse(call.words);
  char file[] = "/tmp/kit-faults.XXXXXX";
  const unique_fd made(::mkostemp(file, O_CLOEXEC));
  if (!made) fail_errno(errno, "make a file in /tmp");
  ::setenv(variable, fmt::format("list:{}", file).c_str(), 1);
  arguments all = {call.argv[0], "--root", call.config.root, "--run-dir", call.config.run_dir};
  all.insert(all.end(), words.begin(), words.end());
  const std::vector<char*> argv = argument_vector(all);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
  pid_t pid = 0;
  const int refused = ::posix_spawn(&pid, "/proc/self/exe", &files, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  int status = 0;
  while (refused == 0 && ::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  const std::string lines = read_file(file);
  ::unlink(file);
  if (refused != 0) fail_errno(refused, "execute kit");

  std::vector<std::string> order;
  std::map<std::string, int> times;
  for (std::size_t begin = 0, end = 0; (end = lines.find('\n', begin)) != std::string::npos; begin = end + 1) {
    const std::string point = lines.substr(begin, end - begin);
    if (++times[point] == 1) order.push_back(point);
  }
  for (const std::string& point : order) fmt::print("{} {}\n", point, times[point]);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

}  // namespace kit::cli
