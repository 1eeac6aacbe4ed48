// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/logs.hpp"

#include <charconv>
#include <cstdlib>

#include "kit/engine/clock.hpp"
#include "moment.hpp"
#include "verbs.hpp"

namespace kit::cli {
std::string moment(invocation& call, const char* option, const std::string& text) {
  if (text.empty() || text.find('T') != text.npos) return text;
  if (text.find_first_not_of("0123456789.") == text.npos)
    return rfc3339(static_cast<std::int64_t>(std::strtod(text.c_str(), nullptr) * 1e9));
  if (text.size() == 10 && text[4] == '-' && text[7] == '-') return text + "T00:00:00Z";
  double seconds = 0;
  for (const char* at = text.data(); *at;) {
    double value = 0;
    const auto [end, failed] = std::from_chars(at, text.data() + text.size(), value);
    const double unit = *end == 'h' ? 3600 : *end == 'm' ? 60 : *end == 's' ? 1 : 0;
    if (failed != std::errc{} || unit == 0)
      throw usage_error(
          call.command(),
          fmt::format("{} \"{}\": a time (2024-01-02T03:04:05Z) or a time ago (10m) is expected", option, text));
    seconds += value * unit;
    at = end + 1;
  }
  return rfc3339(now_ns() - static_cast<std::int64_t>(seconds * 1e9));
}

int logs(invocation& call) {
  log_options which;
  bool timestamps = false, details = false;
  std::string tail = "all", since, until;
  const arguments words =
      options(call.command(), "CONTAINER",
              "Show what a container has written: its stdout on stdout, its stderr on stderr.")
          .flag("-f,--follow", which.follow, "Go on until the container exits")
          .flag("-t,--timestamps", timestamps, "Begin each line with its time")
          .flag("--details", details, "Begin each line with what --log-opt added to it: as Docker's, here nothing")
          .value("-n,--tail", tail, "LINES", "Only the last lines (all)")
          .value("--since", since, "TIME", "Only what came after: 2024-01-02T03:04:05Z, a Unix time, or 10m ago")
          .value("--until", until, "TIME", "Only what came before; with -f: until then")
          .takes(1, 1)
          .example("kit logs -f web")
          .example("kit logs --tail 20 -t web")
          .parse(call.words);
  if (tail != "all") which.tail = std::max<std::int64_t>(parse_integer(call, "--tail", tail), -1);
  which.since = moment(call, "--since", since);
  which.until = moment(call, "--until", until);
  // Written in large pieces; in order where the stream changes.
  struct stream {
    int fd;
    const char* name;
    bool in_line = false;  // its last entry had no newline: the next goes on with that line
    std::string text{};
    void flush() {
      write_all(fd, text, name);
      text.clear();
    }
  };
  stream streams[] = {{STDOUT_FILENO, "stdout"}, {STDERR_FILENO, "stderr"}};
  const auto show = [&](const log_entry& entry) {
    stream& to = streams[entry.is_stderr];
    if (stream& other = streams[!entry.is_stderr]; !other.text.empty()) other.flush();
    if (!to.in_line && timestamps) to.text += entry.time + ' ';
    if (!to.in_line && details) to.text += ' ';
    to.text += entry.text;
    to.in_line = !entry.text.ends_with('\n');
    if (to.text.size() > 64 * 1024) to.flush();
  };
  read_log(call.engine(), call.engine().records().container(words.front()).id, which, show, [&] {
    for (stream& s : streams)
      if (!s.text.empty()) s.flush();
  });
  for (stream& s : streams)
    if (!s.text.empty()) s.flush();
  return 0;
}

}  // namespace kit::cli
