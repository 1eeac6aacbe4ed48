// SPDX-License-Identifier: Apache-2.0
#include "measure.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kit/system/error.hpp"

namespace kit::bench {

namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();
constexpr unsigned patience_s = 60;  // for one sample

double milliseconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_usec) / 1e3;
}

/// User and system time of a process and its waited-for children: fields 14 to 17 of /proc/PID/stat.
double cpu_of(pid_t pid) {
  std::string text;
  try {
    text = read_file(fmt::format("/proc/{}/stat", pid));
  } catch (const error&) {
    return 0;
  }
  const char* at = text.c_str() + text.rfind(')') + 2;
  unsigned long ticks = 0;
  for (int field = 3; field <= 17; ++field) {
    if (field >= 14) ticks += std::strtoul(at, nullptr, 10);
    at = std::strchr(at, ' ');
    if (at == nullptr) break;
    ++at;
  }
  return static_cast<double>(ticks) * 1000 / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

struct prepared {
  std::vector<std::vector<char*>> commands;
  std::size_t next = 0;
  pid_t pid = -1;
};

/// One sample, run by a process of its own: whatever its commands leave behind is handed to that one, which waits for
/// all of it, so that its children's resources are this sample's alone.
class runner {
 public:
  runner(const contender& c, unsigned at_once, unsigned first_serial) : contender_(c) {
    for (unsigned i = 0; i < at_once; ++i) texts_.push_back(c.timed(first_serial + i));
    for (auto& commands : texts_) {
      prepared p;
      for (command& words : commands) {
        std::vector<char*> args;
        for (std::string& word : words) args.push_back(word.data());
        args.push_back(nullptr);
        p.commands.push_back(std::move(args));
      }
      starts_.push_back(std::move(p));
    }
  }

  struct result {
    double wall = none, gone = none, cpu = none;
    long peak_kb = 0;
    std::vector<double> each;
    std::string failure;
  };

  result operator()() {
    auto [from, to] = make_pipe();
    const int raw = ::memfd_create("kit-bench-errors", MFD_CLOEXEC);
    if (raw < 0) fail_errno(errno, "make a file for errors");
    const unique_fd errors(raw);
    double daemons = 0;
    for (const pid_t pid : contender_.daemons) daemons -= cpu_of(pid);
    const pid_t pid = ::fork();
    if (pid < 0) fail_errno(errno, "fork");
    if (pid == 0) run_samples(to.get(), errors.get());
    to.reset();
    const std::string bytes = read_all(from.get(), "a sample");
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    for (const pid_t d : contender_.daemons) daemons += cpu_of(d);

    result r;
    std::vector<double> figures(bytes.size() / sizeof(double));
    std::memcpy(figures.data(), bytes.data(), figures.size() * sizeof(double));
    if (figures.size() < 4 || status != 0) {
      char text[4096];
      const ssize_t size = ::pread(errors.get(), text, sizeof text, 0);
      r.failure = why({WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), "",
                       std::string(text, size > 0 ? static_cast<std::size_t>(size) : 0)});
      return r;
    }
    r.wall = figures[0];
    r.gone = figures[1];
    r.cpu = figures[2] + daemons;
    r.peak_kb = static_cast<long>(figures[3]);
    r.each.assign(figures.begin() + 4, figures.end());
    return r;
  }

 private:
  void start(prepared& p, int null, int errors, const int (&gate)[2]) {
    p.pid = ::fork();
    if (p.pid != 0) return;
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    ::dup2(errors, STDERR_FILENO);
    // So that all begin at once, and none of them late because the others were forked first.
    if (char word = 0; gate[0] >= 0) {
      ::close(gate[1]);
      (void)!::read(gate[0], &word, 1);
    }
    ::execvp(p.commands[p.next][0], p.commands[p.next].data());
    ::dprintf(STDERR_FILENO, "execute %s: %s\n", p.commands[p.next][0], ::strerror(errno));
    ::_exit(127);
  }

  [[noreturn]] void give_up(int errors, const std::string& words, int status) {
    for (const prepared& p : starts_)
      if (p.pid > 0) ::kill(p.pid, SIGKILL);
    (void)!::write(errors, words.data(), words.size());
    ::_exit(status);
  }

  [[noreturn]] void run_samples(int to, int errors) {
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    for (int n : {SIGHUP, SIGINT, SIGTERM}) ::sigaction(n, &standard, nullptr);
    // Without SA_RESTART: a wait ends by it.
    struct sigaction late {};
    late.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &late, nullptr);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (contender_.network >= 0 && ::setns(contender_.network, CLONE_NEWNET) != 0) ::_exit(120);
    if (contender_.mounts >= 0 && ::setns(contender_.mounts, CLONE_NEWNS) != 0) ::_exit(121);
    int gate[2] = {-1, -1};
    if (starts_.size() > 1 && ::pipe2(gate, O_CLOEXEC) != 0) ::_exit(122);

    ::alarm(patience_s);
    double begin = now_ms();
    for (prepared& p : starts_) start(p, null, errors, gate);
    if (gate[0] >= 0) {
      ::close(gate[0]);
      begin = now_ms();
      ::close(gate[1]);
      gate[0] = -1;
    }
    std::vector<double> figures(4 + (starts_.size() > 1 ? starts_.size() : 0));
    for (std::size_t left = starts_.size(); left > 0;) {
      int status = 0;
      const pid_t ended = ::waitpid(-1, &status, 0);
      if (ended < 0) give_up(errors, fmt::format("no answer within {} seconds", patience_s), 124);
      const auto p = std::find_if(starts_.begin(), starts_.end(), [&](const prepared& s) { return s.pid == ended; });
      if (p == starts_.end()) continue;
      p->pid = -1;
      if (status != 0) give_up(errors, "", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
      if (++p->next < p->commands.size()) {
        start(*p, null, errors, gate);
        continue;
      }
      if (starts_.size() > 1) figures[4 + static_cast<std::size_t>(p - starts_.begin())] = now_ms() - begin;
      --left;
    }
    figures[0] = now_ms() - begin;
    if (!contender_.leaves_processes)
      while (::wait(nullptr) > 0) continue;
    figures[1] = contender_.leaves_processes ? none : now_ms() - begin;
    rusage used{};
    ::getrusage(RUSAGE_CHILDREN, &used);
    figures[2] = milliseconds(used.ru_utime) + milliseconds(used.ru_stime);
    figures[3] = static_cast<double>(used.ru_maxrss);
    const std::size_t size = figures.size() * sizeof(double);
    ::_exit(::write(to, figures.data(), size) == static_cast<ssize_t>(size) ? 0 : 124);
  }

  const contender& contender_;
  std::vector<std::vector<command>> texts_;
  std::vector<prepared> starts_;
};

void drop_caches() {
  ::sync();
  write_all(open_file("/proc/sys/vm/drop_caches", O_WRONLY).get(), "3", "/proc/sys/vm/drop_caches");
}

}  // namespace

progress::progress(double whole) : on_terminal_(::isatty(STDERR_FILENO) == 1), whole_(whole), begun_(now_ms()) {}

progress::~progress() { clear(); }

void progress::clear() const {
  if (on_terminal_) std::fputs("\r\033[K", stderr);
}

void progress::step(const std::string& what, double by) {
  done_ += by;
  if (!on_terminal_) return;
  winsize size{};
  ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
  const double part = std::clamp(done_ / whole_, 0.0, 1.0);
  const int width = 30, full = static_cast<int>(part * width);
  const double left_s = part > 0.02 ? (now_ms() - begun_) * (1 - part) / part / 1000 : 0;
  std::string line = fmt::format("[{:#<{}}{:.<{}}] {:3.0f} %{}  {}", "", full, "", width - full, part * 100,
                                 left_s > 0 ? fmt::format(", {:.0f} s left", left_s) : "", what);
  if (size.ws_col > 1 && line.size() >= size.ws_col) line.resize(size.ws_col - 1);
  std::fprintf(stderr, "\r\033[K%s", line.c_str());
}

void in_turns(const std::vector<std::string>& names, const measuring& how, progress& bar, const std::string& title,
              const std::function<double(std::size_t, bool)>& take, const std::function<void(std::size_t)>& pass,
              const std::function<bool(std::size_t)>& out) {
  std::vector<unsigned> wanted(names.size(), how.samples);
  for (std::size_t i = 0; i < names.size(); ++i) {
    bar.step(title + ": " + names[i] + ", warming up", 0);
    double cost = 1e12;
    for (unsigned k = 0; k < how.warmup && !out(i); ++k) cost = std::min(cost, take(i, false));
    if (how.warmup > 0)
      wanted[i] = std::clamp(static_cast<unsigned>(how.budget_ms / cost),
                             std::min(how.at_once > 8 ? 2U : how.least, how.samples), how.samples);
  }
  std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same orders each time
  std::vector<std::size_t> order(names.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (unsigned turn = 0; turn < how.samples; ++turn) {
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t i : order) {
      // Spread over the whole time, whatever their number.
      const bool now = static_cast<std::uint64_t>(turn + 1) * wanted[i] / how.samples !=
                       static_cast<std::uint64_t>(turn) * wanted[i] / how.samples;
      if (now && !out(i)) {
        bar.step(fmt::format("{}: {}", title, names[i]), 0);
        take(i, true);
      } else {
        pass(i);
      }
    }
    bar.step(title, 1.0 / how.samples);
  }
}

std::vector<samples> measure(const std::vector<contender>& contenders, const measuring& how, progress& bar,
                             const std::string& title) {
  static unsigned serial = 0;
  std::vector<samples> all(contenders.size());
  const auto take = [&](std::size_t i, bool counts) {
    stop_if_interrupted();
    const contender& c = contenders[i];
    samples& s = all[i];
    const unsigned first = serial;
    serial += how.at_once;
    const double begin = now_ms();
    runner::result r;
    try {
      if (c.before)
        for (unsigned k = 0; k < how.at_once; ++k) c.before(first + k);
      runner sample(c, how.at_once, first);
      if (how.cold) drop_caches();
      r = sample();
      if (c.after)
        for (unsigned k = 0; k < how.at_once; ++k) c.after(first + k);
    } catch (const error& e) {
      if (e.code() == errc::cancelled) throw;
      r.failure = e.what();
    }
    // An interrupt goes to the whole terminal: the contender's failure is then none of its own.
    stop_if_interrupted();
    if (!r.failure.empty()) s.failure = r.failure;
    if (counts) {
      s.wall.push_back(r.wall);
      s.gone.push_back(r.gone);
      s.cpu.push_back(r.cpu);
      s.each.insert(s.each.end(), r.each.begin(), r.each.end());
      s.peak_kb = std::max(s.peak_kb, r.peak_kb);
    }
    ::usleep(static_cast<useconds_t>(how.rest_ms * 1000));
    return now_ms() - begin;
  };
  const auto pass = [&](std::size_t i) {
    for (auto* figures : {&all[i].wall, &all[i].gone, &all[i].cpu}) figures->push_back(none);
  };
  std::vector<std::string> names;
  for (const contender& c : contenders) names.push_back(c.name);
  in_turns(names, how, bar, title, take, pass, [&](std::size_t i) { return !all[i].failure.empty(); });
  return all;
}

double time_one(const contender& c, unsigned serial) {
  const runner::result r = runner(c, 1, serial)();
  if (!r.failure.empty()) fail(errc::io, "{}: {}", c.name, r.failure);
  return r.wall;
}

json to_json(const contender& c, const samples& s) {
  // NaN is null in JSON.
  json out{{"name", c.name},    {"what", c.what},  {"wall_ms", s.wall},
           {"gone_ms", s.gone}, {"cpu_ms", s.cpu}, {"peak_kb", s.peak_kb}};
  if (!s.each.empty()) out["each_ms"] = s.each;
  return out;
}

}  // namespace kit::bench
