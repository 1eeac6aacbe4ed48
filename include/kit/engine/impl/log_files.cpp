// SPDX-License-Identifier: Apache-2.0
#include "log_files.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "kit/system/error.hpp"
#include "kit/system/process.hpp"

namespace kit::detail {
namespace {

constexpr std::size_t block = 256 * 1024;

/// RFC 4648. What is no digit ends it.
std::string from_base64(std::string_view digits) {
  static constexpr auto values = [] {
    std::array<signed char, 256> table{};
    for (auto& v : table) v = -1;
    constexpr std::string_view all = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (std::size_t i = 0; i < all.size(); ++i)
      table[static_cast<unsigned char>(all[i])] = static_cast<signed char>(i);
    return table;
  }();
  std::string bytes;
  bytes.reserve(digits.size() * 3 / 4);
  unsigned bits = 0, held = 0;
  for (const char c : digits) {
    const int value = values[static_cast<unsigned char>(c)];
    if (value < 0) break;
    bits = bits << 6 | static_cast<unsigned>(value);
    if ((held += 6) < 8) continue;
    held -= 8;
    bytes += static_cast<char>(bits >> held & 0xff);
  }
  return bytes;
}

bool take(std::string_view& from, std::string_view word) {
  if (!from.starts_with(word)) return false;
  from.remove_prefix(word.size());
  return true;
}

/// What the monitor writes, in the order in which it writes it: several times as fast as any JSON. None: it is something
/// else.
std::optional<log_entry> parse_own_json(std::string_view line) {
  log_entry entry;
  if (!take(line, R"({"log":")")) return std::nullopt;
  for (;;) {
    const auto special = line.find_first_of("\"\\");
    if (special == line.npos || special + 1 >= line.size()) return std::nullopt;
    entry.text.append(line.substr(0, special));
    const char what = line[special], next = line[special + 1];
    line.remove_prefix(special + 1);
    if (what == '"') break;
    line.remove_prefix(1);
    unsigned code = 0;
    switch (next) {
      case 'n': entry.text += '\n'; break;
      case 'r': entry.text += '\r'; break;
      case 't': entry.text += '\t'; break;
      case '"':
      case '\\': entry.text += next; break;
      case 'u':
        if (line.size() < 4 || std::from_chars(line.data(), line.data() + 4, code, 16).ptr != line.data() + 4 ||
            code > 127)
          return std::nullopt;
        entry.text += static_cast<char>(code);
        line.remove_prefix(4);
        break;
      default: return std::nullopt;
    }
  }
  if (take(line, R"(,"base64":")")) {
    const auto quote = line.find('"');
    if (quote == line.npos) return std::nullopt;
    entry.text = from_base64(line.substr(0, quote));
    line.remove_prefix(quote + 1);
  }
  if (!take(line, R"(,"stream":"std)") || line.size() < 3) return std::nullopt;
  entry.is_stderr = line[0] == 'e';
  line.remove_prefix(3);
  if (!take(line, R"(","time":")") || line.size() < 2 || !line.ends_with("\"}")) return std::nullopt;
  entry.time = line.substr(0, line.size() - 2);
  return entry;
}

std::optional<log_entry> parse_json(std::string_view line) {
  if (auto entry = parse_own_json(line)) return entry;
  const auto j = nlohmann::json::parse(line, nullptr, false);
  if (!j.is_object() || !j.contains("log") || !j.at("log").is_string()) return std::nullopt;
  return log_entry{j.at("log").get<std::string>(), j.value("stream", "") == "stderr", j.value("time", "")};
}

std::optional<log_entry> parse_text(std::string_view line) {
  const auto space = line.find(' ');
  if (space == line.npos) return std::nullopt;
  log_entry entry;
  entry.time = line.substr(0, space);
  line.remove_prefix(space + 1);
  entry.is_stderr = line.starts_with("stderr ");
  if (!entry.is_stderr && !line.starts_with("stdout ")) return std::nullopt;
  line.remove_prefix(7);
  if (line.size() < 2 || line[1] != ' ') return std::nullopt;
  entry.text = line.substr(2);
  if (line[0] == 'F') entry.text += '\n';
  return entry;
}

bool same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

std::int64_t changed_ns(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return 0;
  return std::int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
}

/// The read end of the command's stdout. It is nobody's to wait for: it ends with its output, or with its reader.
unique_fd output_of(std::vector<std::string> args) {
  auto [read, write] = make_pipe();
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, write.get(), STDOUT_FILENO);
  pid_t pid = 0;
  const int failed = ::posix_spawn(&pid, args[0].c_str(), &files, nullptr, argument_vector(args).data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  if (failed != 0) fail_errno(failed, "execute {}", args[0]);
  return std::move(read);
}

}  // namespace

std::optional<log_entry> parse_log_line(std::string_view line, monitor::log_format format) {
  return format == monitor::log_format::json ? parse_json(line) : parse_text(line);
}

log_reader::log_reader(std::string directory, const log_settings& how, std::vector<std::string> unpack)
    : directory_(std::move(directory)), how_(how), unpack_(std::move(unpack)) {}

std::vector<old_log_file> old_log_files(const std::string& directory, const log_settings& how) {
  std::vector<old_log_file> list;
  const std::string prefix = how.file_name() + ".";
  for (const std::string& name : names_in(directory)) {
    std::string_view rest = name;
    if (!take(rest, prefix)) continue;
    std::uint64_t number = 0;
    const char* const end = std::from_chars(rest.data(), rest.data() + rest.size(), number).ptr;
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    if (number == 0 || (!rest.empty() && rest != ".gz")) continue;
    list.push_back({number, !rest.empty()});
  }
  // Killed between the two, who compressed one leaves both: the plain one is taken.
  const auto before = [](const old_log_file& a, const old_log_file& b) {
    return a.number != b.number ? a.number < b.number : !a.packed && b.packed;
  };
  std::sort(list.begin(), list.end(), before);
  const auto same = [](const old_log_file& a, const old_log_file& b) { return a.number == b.number; };
  list.erase(std::unique(list.begin(), list.end(), same), list.end());
  return list;
}

std::string log_reader::path_of(const old_file& f) const {
  return fmt::format("{}/{}.{}{}", directory_, how_.file_name(), f.number, f.packed ? ".gz" : "");
}

bool log_reader::open_old(const old_file& f) {
  const std::string path = path_of(f);
  fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd_) {
    if (errno != ENOENT) fail_errno(errno, "open {}", path);
    return false;
  }
  if (f.packed) {
    std::vector<std::string> command = unpack_;
    command.push_back(path);
    fd_ = output_of(std::move(command));
  }
  live_ = false;
  number_ = f.number;
  offset_ = used_ = 0;
  buffer_.clear();
  return true;
}

/// The file that is written, and its number; false if it is not there.
bool log_reader::open_live() {
  const std::string path = fmt::format("{}/{}", directory_, how_.file_name());
  for (;;) {
    unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
      if (errno != ENOENT) fail_errno(errno, "open {}", path);
      return false;
    }
    const auto old = old_files();
    struct stat opened {};
    struct stat there {};
    if (::fstat(fd.get(), &opened) != 0) fail_errno(errno, "look at {}", path);
    if (::stat(path.c_str(), &there) != 0 || !same_file(opened, there)) continue;  // rotated in between
    fd_ = std::move(fd);
    live_ = true;
    number_ = old.empty() ? 1 : old.back().number + 1;
    offset_ = used_ = 0;
    buffer_.clear();
    return true;
  }
}

/// Opens number_, or, if that is gone, what came next. False if that is still to be made.
bool log_reader::open_next() {
  const std::uint64_t wanted = number_;
  for (int attempt = 0;; ++attempt) {
    if (open_old({wanted, false}) || open_old({wanted, true})) return true;
    const bool live = open_live();
    if (live && number_ == wanted) return true;
    const auto old = old_files();
    const auto next = std::find_if(old.begin(), old.end(), [&](const old_file& f) { return f.number >= wanted; });
    if (live && number_ < wanted && next == old.end()) {  // somebody removed all of it, and it was begun again
      missed_ = true;
      return true;
    }
    fd_.reset();
    number_ = wanted;
    if (!live && next == old.end()) return false;
    if (attempt < 3) continue;  // it was renamed, or compressed, between two looks
    missed_ = true;
    if (next == old.end() ? open_live() : open_old(*next)) return true;
    number_ = wanted;
  }
}

/// At the end of a file: whether there is more to read, there or in the next.
bool log_reader::go_on() {
  if (!fd_) return open_next();
  if (!live_) {
    fd_.reset();
    ++number_;
    offset_ = used_ = 0;
    buffer_.clear();  // what a crash cut short
    return open_next();
  }
  struct stat opened {};
  struct stat there {};
  if (::fstat(fd_.get(), &opened) != 0) fail_errno(errno, "look at the log");
  if (::stat(fmt::format("{}/{}", directory_, how_.file_name()).c_str(), &there) != 0 || !same_file(opened, there)) {
    live_ = false;  // nobody writes it any more: once more to its end, and on
    return true;
  }
  if (static_cast<std::uint64_t>(opened.st_size) >= offset_) return false;
  ::lseek(fd_.get(), 0, SEEK_SET);  // somebody emptied it; what comes now begins it
  offset_ = used_ = 0;
  buffer_.clear();
  return true;
}

std::optional<log_entry> log_reader::next() {
  for (;;) {
    if (const auto newline = buffer_.find('\n', used_); newline != std::string::npos) {
      auto entry = parse_log_line(std::string_view(buffer_).substr(used_, newline - used_), how_.format);
      used_ = newline + 1;
      if (entry) return entry;
      continue;
    }
    buffer_.erase(0, used_);
    used_ = 0;
    ssize_t n = 0;
    if (fd_) {
      const auto had = buffer_.size();
      buffer_.resize(had + block);
      n = ::read(fd_.get(), buffer_.data() + had, block);
      buffer_.resize(had + static_cast<std::size_t>(n > 0 ? n : 0));
      offset_ += static_cast<std::uint64_t>(n > 0 ? n : 0);
    }
    if (n <= 0 && !go_on()) return std::nullopt;
  }
}

void log_reader::to_begin(std::int64_t since_ns) {
  const auto old = old_files();
  number_ = old.empty() ? 1 : old.back().number + 1;
  for (auto f = old.rbegin(); f != old.rend() && changed_ns(path_of(*f)) >= since_ns; ++f) number_ = f->number;
  fd_.reset();
}

void log_reader::to(monitor::log_position at) {
  number_ = at.number;
  fd_.reset();
  if (!open_next() || number_ != at.number) return;
  // A compressed one cannot be sought in.
  while (offset_ < at.offset) {
    buffer_.resize(std::min<std::uint64_t>(block, at.offset - offset_));
    const ssize_t n = ::read(fd_.get(), buffer_.data(), buffer_.size());
    if (n <= 0) break;
    offset_ += static_cast<std::uint64_t>(n);
  }
  missed_ = missed_ || offset_ < at.offset;
  buffer_.clear();
}

/// Where in a plain file the last `lines` lines begin. What it finds is taken from `lines`; above zero, it needs more than
/// this file. `last`: the log's last line, which may have no newline, was not seen yet.
std::uint64_t log_reader::tail_in(const std::string& path, std::int64_t& lines, bool& last,
                                  function_ref<bool(const log_entry&)> wanted) {
  const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0) return 0;
  std::uint64_t at = static_cast<std::uint64_t>(st.st_size), begin = at;
  std::string text;  // from `at` to the end of what was not looked at yet
  for (;;) {
    // Entries, last one first; what is before the first newline may be the end of one that begins further up.
    while (!text.empty()) {
      const auto newline = text.size() < 2 ? text.npos : text.rfind('\n', text.size() - 2);
      if (newline == text.npos && at > 0) break;
      const std::size_t start = newline == text.npos ? 0 : newline + 1;
      const auto entry = parse_log_line(std::string_view(text).substr(start, text.size() - start - 1), how_.format);
      if (entry && wanted(*entry) && text.back() == '\n') {
        if ((last || entry->text.ends_with('\n')) && --lines < 0) return begin;
        last = false;
      }
      begin = at + start;
      text.resize(start);
    }
    if (at == 0) return 0;
    const std::uint64_t step = std::min<std::uint64_t>(at, block);
    std::string more(step, '\0');
    at -= step;
    const ssize_t n = ::pread(fd.get(), more.data(), step, static_cast<off_t>(at));
    if (n != static_cast<ssize_t>(step)) return at + step;
    text = more + text;
  }
}

void log_reader::to_last_lines(std::int64_t lines, function_ref<bool(const log_entry&)> wanted) {
  const std::string live = fmt::format("{}/{}", directory_, how_.file_name());
  const std::int64_t asked = lines;
  std::vector<old_file> files;
  monitor::log_position found;
  bool last = true;
  do {  // again, if it was rotated meanwhile
    files = old_files();
    found.number = files.empty() ? 1 : files.back().number + 1;
    lines = asked;
    last = true;
    found.offset = tail_in(live, lines, last, wanted);
  } while (old_files().size() > files.size());
  while (lines > 0 && !files.empty()) {
    const old_file f = files.back();
    files.pop_back();
    found = {f.number, 0};
    if (!f.packed) {
      found.offset = tail_in(path_of(f), lines, last, wanted);
      continue;
    }
    // Forward only: counted, then gone to.
    std::int64_t has = 0;
    const auto ends_line = [&](const log_entry& e) { return wanted(e) && e.text.ends_with('\n'); };
    log_reader count(directory_, how_, unpack_);
    for (count.to({f.number, 0}); count.number_ == f.number;)
      if (const auto entry = count.next(); !entry || count.number_ != f.number)
        break;
      else
        has += ends_line(*entry);
    if (has <= lines) {
      lines -= has;
      continue;
    }
    to({f.number, 0});
    for (std::int64_t skip = has - lines; skip > 0;)
      if (const auto entry = next(); !entry)
        break;
      else
        skip -= ends_line(*entry);
    return;
  }
  to(found);
}

}  // namespace kit::detail
