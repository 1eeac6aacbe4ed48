// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/logs.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "kit/engine/clock.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/system/error.hpp"
#include "log_files.hpp"

namespace kit {
namespace {

std::uint64_t count_of(const option& o) {
  std::uint64_t value = 0;
  const char* const end = o.value.data() + o.value.size();
  if (std::from_chars(o.value.data(), end, value).ptr != end || value < 1)
    fail(errc::invalid, "log option {} \"{}\": a number of at least 1 is expected", o.key, o.value);
  return value;
}

/// As Docker reads it here: "10k" is 10,000 bytes.
std::uint64_t decimal_size(const option& o) {
  std::string_view text = o.value;
  while (!text.empty() && (text.back() == 'b' || text.back() == 'B')) text.remove_suffix(1);
  std::uint64_t unit = 1;
  if (!text.empty()) switch (text.back() | 0x20) {
      case 'k': unit = 1000; break;
      case 'm': unit = 1000 * 1000; break;
      case 'g': unit = 1000 * 1000 * 1000; break;
      default: break;
    }
  if (unit > 1) text.remove_suffix(1);
  double value = 0;
  const char* const end = text.data() + text.size();
  if (std::from_chars(text.data(), end, value).ptr != end || !(value * static_cast<double>(unit) >= 1) || value > 1e15)
    fail(errc::invalid, "log option {} \"{}\": a size is expected: 500k, 10m, 1g", o.key, o.value);
  return static_cast<std::uint64_t>(value * static_cast<double>(unit));
}

bool boolean_of(const option& o) {
  if (o.value != "true" && o.value != "false")
    fail(errc::invalid, "log option {} \"{}\": true or false is expected", o.key, o.value);
  return o.value == "true";
}

detail::log_reader reader_of(engine& e, const container_id& id) {
  const log_settings how = log_settings_of(spec_from_json(e.records().container(id.text()).spec));
  if (!how.kept)
    fail(errc::unsupported, "read the log of container {}: its log driver is \"none\", which keeps nothing",
         id.brief());
  const engine_config& c = e.config();
  return {e.container_dir(id), how, {c.libexec + "/kit-image", "internal", "unpack-log"}};
}

/// Whether more may come: it runs, or is about to.
bool goes_on(engine& e, const container_id& id) {
  const auto r = e.records().find_container(id.text());
  if (!r) return false;
  const container_record now = current(e, *r);
  return is_live(now) || now.state == container_state::restarting;
}

}  // namespace

log_settings log_settings_of(const container_spec& spec) {
  constexpr std::string_view no_log = "none";  // a word that network drivers know, too
  log_settings s;
  const std::string driver = spec.log_driver.empty() ? "json-file" : spec.log_driver;
  if (driver == no_log)
    s.kept = false;
  else if (driver == "file")
    s.format = monitor::log_format::text;
  else if (driver != "json-file")
    fail(errc::invalid, "unknown log driver '{}': json-file, file and none are known", driver);
  bool non_blocking = false, said_files = false;
  std::uint64_t buffer = 1024 * 1024;
  for (const option& o : spec.log_options) {
    if (o.key == "mode" && (o.value == "blocking" || o.value == "non-blocking"))
      non_blocking = o.value == "non-blocking";
    else if (o.key == "max-buffer-size")
      buffer = parse_size(o.value);
    else if (o.key == "max-size" && s.kept)
      s.max_size = o.value == "-1" ? 0 : decimal_size(o);
    else if (o.key == "max-file" && s.kept)
      s.max_files = count_of(o), said_files = true;
    else if (o.key == "compress" && s.kept)
      s.compress = boolean_of(o);
    else if (o.key == "mode")
      fail(errc::invalid, "log option mode \"{}\": blocking or non-blocking is expected", o.value);
    else
      fail(errc::invalid, "unknown log opt '{}' for {} log driver", o.key, driver);
  }
  if (said_files && s.max_files > 1 && s.max_size == 0)
    fail(errc::invalid, "log option max-file: it needs max-size, too");
  if (s.compress && (s.max_files < 2 || s.max_size == 0))
    fail(errc::invalid, "compress cannot be true when max-file is less than 2 or max-size is not set");
  if (non_blocking && s.kept) s.buffer_size = std::max<std::uint64_t>(buffer, 1);
  return s;
}

void read_log(engine& e, const container_id& id, const log_options& options, function_ref<void(const log_entry&)> out,
              function_ref<void()> pause) {
  const std::int64_t since = options.since.empty() ? 0 : parse_rfc3339(options.since);
  const std::int64_t until = options.until.empty() ? INT64_MAX : parse_rfc3339(options.until);
  const bool all = since == 0 && until == INT64_MAX;
  const auto time_of = [&](const log_entry& entry) { return all ? 0 : parse_rfc3339(entry.time); };

  // Watched before it is read: what is written in between is not missed.
  detail::log_reader reader = reader_of(e, id);
  unique_fd watch;
  int bundle = -1;
  const auto watch_bundle = [&] {  // where exit.json will be; a new one at each start
    bundle = ::inotify_add_watch(watch.get(), e.bundle_dir(id).c_str(), IN_MOVED_TO | IN_DELETE_SELF | IN_ONLYDIR);
  };
  if (options.follow) {
    watch.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!watch) fail_errno(errno, "inotify");
    ::inotify_add_watch(watch.get(), e.container_dir(id).c_str(),
                        IN_MODIFY | IN_CREATE | IN_MOVED_FROM | IN_DELETE_SELF);
  }
  if (options.tail >= 0)
    reader.to_last_lines(options.tail, [&](const log_entry& entry) {
      const std::int64_t t = time_of(entry);
      return t >= since && t <= until;
    });
  else
    reader.to_begin(since);
  for (bool look = options.follow, more_to_come = options.follow;;) {
    // Asked before the read: the monitor writes the last entry before the exit can be known.
    if (look) {
      watch_bundle();
      more_to_come = goes_on(e, id);
    }
    while (auto entry = reader.next()) {
      const std::int64_t t = time_of(*entry);
      if (t > until) return;
      if (t >= since) out(*entry);
    }
    pause();
    if (!more_to_come) return;
    std::int64_t wait_ms = 1000;
    if (until != INT64_MAX) {
      const std::int64_t left = (until - now_ns()) / 1'000'000;
      if (left < 0) return;
      wait_ms = std::min(wait_ms, left + 1);
    }
    pollfd event{watch.get(), POLLIN, 0};
    look = ::poll(&event, 1, static_cast<int>(wait_ms)) == 0;
    alignas(inotify_event) char events[4096];
    for (ssize_t n = 0; (n = ::read(watch.get(), events, sizeof events)) > 0;)
      for (ssize_t at = 0; at < n;) {
        const auto* one = reinterpret_cast<const inotify_event*>(events + at);
        look = look || one->wd == bundle || (one->mask & (IN_DELETE_SELF | IN_IGNORED)) != 0;
        at += static_cast<ssize_t>(sizeof *one + one->len);
      }
  }
}

bool read_log_range(engine& e, const container_id& id, monitor::log_position from, monitor::log_position to,
                    function_ref<void(const log_entry&)> out) {
  detail::log_reader reader = reader_of(e, id);
  reader.to(from);
  const auto before = [](const monitor::log_position& a, const monitor::log_position& b) {
    return a.number != b.number ? a.number < b.number : a.offset < b.offset;
  };
  while (before(reader.position(), to)) {
    const auto entry = reader.next();
    if (!entry) return false;
    if (before(to, reader.position())) break;
    out(*entry);
  }
  return !reader.missed();
}

std::uint64_t log_bytes_lost(engine& e, const container_record& r) {
  if (!is_live(r)) return r.log_bytes_lost;
  const std::string path = e.bundle_dir(r.id) + "/log-lost";
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  return fd ? std::strtoull(read_all(fd.get(), path).c_str(), nullptr, 10) : 0;
}

}  // namespace kit
