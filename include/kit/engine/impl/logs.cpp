// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/logs.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <deque>
#include <nlohmann/json.hpp>
#include <optional>

#include "kit/engine/clock.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace {

std::string from_hex(const std::string& digits) {
  const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
    bytes += static_cast<char>(value(digits[i]) << 4 | value(digits[i + 1]));
  return bytes;
}

/// A line of log.json; empty if it is none (a write that a full disk cut short).
std::optional<log_entry> parse_line(std::string_view line) {
  const auto j = nlohmann::json::parse(line, nullptr, false);
  if (!j.is_object() || !j.contains("log")) return std::nullopt;
  return log_entry{j.contains("hex") ? from_hex(j.at("hex")) : j.at("log").get<std::string>(),
                   j.value("stream", "") == "stderr", j.value("time", "")};
}

/// Reads entries from a file that may grow.
class log_reader {
 public:
  explicit log_reader(std::string path) : path_(std::move(path)) {}
  /// The next whole entry; empty at what is the end now.
  std::optional<log_entry> next() {
    for (;;) {
      if (const auto newline = buffer_.find('\n', used_); newline != std::string::npos) {
        auto entry = parse_line(std::string_view(buffer_).substr(used_, newline - used_));
        used_ = newline + 1;
        if (entry) return entry;
        continue;
      }
      buffer_.erase(0, used_);
      used_ = 0;
      const auto had = buffer_.size();
      buffer_.resize(had + 64 * 1024);
      if (!fd_) open();
      const ssize_t n = fd_ ? ::read(fd_.get(), buffer_.data() + had, 64 * 1024) : 0;
      buffer_.resize(had + static_cast<std::size_t>(n > 0 ? n : 0));
      if (n <= 0) return std::nullopt;
    }
  }

 private:
  /// The monitor makes the file when there is something to log.
  void open() {
    fd_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd_ && errno != ENOENT) fail_errno(errno, "open {}", path_);
  }

  std::string path_;
  unique_fd fd_;
  std::string buffer_;
  std::size_t used_ = 0;
};

bool runs(engine& e, const container_id& id) {
  const auto r = e.records().find_container(id.text());
  return r && is_live(current(e, *r));
}

}  // namespace

void read_log(engine& e, const container_id& id, const log_options& options, function_ref<void(const log_entry&)> out) {
  const std::string path = e.container_dir(id) + "/log.json";
  const std::int64_t since = options.since.empty() ? 0 : parse_rfc3339(options.since);
  const std::int64_t until = options.until.empty() ? 0 : parse_rfc3339(options.until);
  const auto wanted = [&](const log_entry& entry) {
    if (since == 0 && until == 0) return true;
    const std::int64_t t = parse_rfc3339(entry.time);
    return t >= since && (until == 0 || t <= until);
  };

  // Watched before it is read: what is written in between is not missed.
  unique_fd watch;
  if (options.follow) {
    watch.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!watch) fail_errno(errno, "inotify");
    ::inotify_add_watch(watch.get(), e.container_dir(id).c_str(), IN_MODIFY | IN_CREATE | IN_DELETE_SELF);
    ::inotify_add_watch(watch.get(), e.bundle_dir(id).c_str(), IN_MOVED_TO | IN_DELETE_SELF);  // exit.json
  }
  log_reader reader(path);
  if (options.tail >= 0) {
    std::deque<log_entry> last;
    std::int64_t lines = 0;  // a line without its newline yet is continued by the next entry of its stream
    while (auto entry = reader.next()) {
      if (!wanted(*entry)) continue;
      lines += !entry->text.empty() && entry->text.back() == '\n';
      last.push_back(std::move(*entry));
      while (!last.empty() && lines > options.tail) {
        lines -= !last.front().text.empty() && last.front().text.back() == '\n';
        last.pop_front();
      }
    }
    if (options.tail == 0) last.clear();
    for (const log_entry& entry : last) out(entry);
  }
  for (;;) {
    // Asked before the read: the monitor writes the last entry before the exit can be known.
    const bool more_to_come = options.follow && runs(e, id);
    while (auto entry = reader.next())
      if (wanted(*entry)) out(*entry);
    if (!more_to_come) return;
    pollfd event{watch.get(), POLLIN, 0};
    ::poll(&event, 1, 1000);
    char events[4096];
    while (::read(watch.get(), events, sizeof events) > 0) continue;
  }
}

}  // namespace kit
