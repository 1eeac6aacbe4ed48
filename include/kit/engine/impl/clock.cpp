// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/clock.hpp"

#include <cstdio>
#include <ctime>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/pidfd.hpp"

namespace kit {
namespace {
constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t most_seconds = INT64_MAX / second - 1;
constexpr std::string_view never = "0001-01-01T00:00:00Z";
}  // namespace

std::int64_t now_ns() noexcept {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * second + t.tv_nsec;
}

std::string rfc3339(std::int64_t ns) {
  if (ns == 0) return std::string(never);
  const std::time_t seconds = ns / second;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                     utc.tm_hour, utc.tm_min, utc.tm_sec, ns % second);
}

std::int64_t parse_rfc3339(std::string_view text) {
  std::tm t{};
  int used = 0;
  const std::string s(text);
  const auto bad = [&]() -> std::int64_t {
    fail(errc::invalid, "invalid time '{}': write it as 2026-01-31T12:00:00Z", text);
  };
  if (std::sscanf(s.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min,
                  &t.tm_sec, &used) != 6 ||
      used == 0)
    return bad();
  t.tm_year -= 1900;
  t.tm_mon -= 1;
  auto at = static_cast<std::size_t>(used);
  std::int64_t fraction = 0;
  if (at < s.size() && s[at] == '.') {
    std::int64_t unit = second / 10;
    for (++at; at < s.size() && s[at] >= '0' && s[at] <= '9'; ++at, unit /= 10) fraction += (s[at] - '0') * unit;
  }
  std::int64_t offset = 0;
  if (int h = 0, m = 0, n = 0; at < s.size() && (s[at] == '+' || s[at] == '-')) {
    if (std::sscanf(s.c_str() + at + 1, "%2d:%2d%n", &h, &m, &n) != 2 ||
        at + 1 + static_cast<std::size_t>(n) != s.size())
      return bad();
    offset = (s[at] == '+' ? 1 : -1) * (h * 3600 + m * 60);
  } else if (at + 1 != s.size() || s[at] != 'Z') {
    return bad();
  }
  const std::int64_t seconds = ::timegm(&t) - offset;
  if (text == never) return 0;
  if (seconds < -most_seconds || seconds > most_seconds) return bad();
  return seconds * second + fraction;
}

const std::string& boot_id() {
  static const std::string id = [] {
    std::string text = read_file("/proc/sys/kernel/random/boot_id");
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }();
  return id;
}

bool process_lives(pid_t pid, std::uint64_t start_time, std::string_view boot) {
  if (boot != boot_id()) return false;
  const unique_fd process = open_process(pid, start_time);
  return process && !has_ended(process.get());
}

}  // namespace kit
