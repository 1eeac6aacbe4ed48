// SPDX-License-Identifier: Apache-2.0
#include "log.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "queue.hpp"

namespace kit::monitor {

log_options log_how;

namespace {

constexpr size_t piece = 8 * 1024;  // of a longer line; readers join what has no newline with what follows
constexpr size_t worst_of_byte = 8, frame_of_entry = 128;  // \u00xx and base64; the members' names
alignas(4096) char entries[(piece * worst_of_byte + frame_of_entry + 4095) / 4096 * 4096];

const char* const file_names[] = {"log.json", "log.txt"};
const char* file_name() { return file_names[static_cast<int>(log_how.format)]; }

int file = -1;
uint64_t file_size = 0;
uint64_t file_number = 0;  // of the file that is written: one more than the newest old one's; 0: not looked up yet
pid_t compressor = -1;
bool is_writer = false;  // this process is the writer of the non-blocking mode

/// Bytes the log could not take, of both processes of the non-blocking mode.
uint64_t own_lost = 0;
volatile uint64_t* lost_in_writer = nullptr;
void count_lost(size_t bytes) {
  if (is_writer)
    *lost_in_writer = *lost_in_writer + bytes;
  else
    own_lost += bytes;
}

// ---- one entry --------------------------------------------------------------------------------------

/// Length of the UTF-8 sequence at s, 0 if there is none (RFC 3629).
size_t utf8_length(const unsigned char* s, size_t n) {
  if (s[0] < 0x80) return 1;
  const size_t length = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
  if (s[0] < 0xc2 || s[0] > 0xf4 || n < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if ((s[i] & 0xc0) != 0x80) return 0;
  const bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
  const bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
  return overlong || outside ? 0 : length;
}

char* put(char* to, const char* text) { return stpcpy(to, text); }

char* put_json(char* to, const unsigned char* bytes, size_t count, bool* exact) {
  static const char digits[] = "0123456789abcdef";
  for (size_t i = 0; i < count;) {
    const unsigned char c = bytes[i];
    if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
      *to++ = static_cast<char>(c);
      ++i;
      continue;
    }
    const size_t length = utf8_length(bytes + i, count - i);
    if (length > 1) {
      memcpy(to, bytes + i, length);
      to += length;
      i += length;
      continue;
    }
    ++i;
    if (length == 0) {
      *exact = false;
      to = put(to, "\xef\xbf\xbd");
    } else if (c == '"' || c == '\\') {
      *to++ = '\\';
      *to++ = static_cast<char>(c);
    } else if (c == '\n') {
      to = put(to, "\\n");
    } else if (c == '\r') {
      to = put(to, "\\r");
    } else if (c == '\t') {
      to = put(to, "\\t");
    } else {
      to = put(to, "\\u00");
      *to++ = digits[c >> 4];
      *to++ = digits[c & 15];
    }
  }
  return to;
}

char* put_base64(char* to, const unsigned char* bytes, size_t count) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < count; i += 3) {
    const unsigned second = i + 1 < count ? bytes[i + 1] : 0, third = i + 2 < count ? bytes[i + 2] : 0;
    *to++ = digits[bytes[i] >> 2];
    *to++ = digits[(bytes[i] & 3) << 4 | second >> 4];
    *to++ = i + 1 < count ? digits[(second & 15) << 2 | third >> 6] : '=';
    *to++ = i + 2 < count ? digits[third & 63] : '=';
  }
  return to;
}

/// RFC 3339, UTC, nanoseconds.
char* put_time(char* to, const timespec& at) {
  static time_t second = -1;
  static char text[96];
  if (at.tv_sec != second) {
    second = at.tv_sec;
    tm utc{};
    gmtime_r(&second, &utc);
    snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
             utc.tm_hour, utc.tm_min, utc.tm_sec);
  }
  to = put(to, text);
  long left = at.tv_nsec;
  for (int i = 8; i >= 0; --i, left /= 10) to[i] = static_cast<char>('0' + left % 10);
  to[9] = 'Z';
  return to + 10;
}

/// One entry, in Docker's form or in that of the Kubernetes CRI. Bytes that are not UTF-8 become U+FFFD in Docker's
/// "log", and the entry then has a member "base64" with the exact bytes, which other readers skip.
char* put_entry(char* to, const unsigned char* bytes, size_t count, bool is_stderr, const timespec& at) {
  if (log_how.format == log_format::text) {
    const bool ends = count > 0 && bytes[count - 1] == '\n';
    to = put(put_time(to, at), is_stderr ? " stderr " : " stdout ");
    to = put(to, ends ? "F " : "P ");
    memcpy(to, bytes, count);
    to += count;
    if (!ends) *to++ = '\n';
    return to;
  }
  bool exact = true;
  to = put_json(put(to, "{\"log\":\""), bytes, count, &exact);
  if (!exact) to = put_base64(put(to, "\",\"base64\":\""), bytes, count);
  to = put(to, is_stderr ? "\",\"stream\":\"stderr\",\"time\":\"" : "\",\"stream\":\"stdout\",\"time\":\"");
  return put(put_time(to, at), "\"}\n");
}

// ---- the files --------------------------------------------------------------------------------------

/// The number in "log.json.12" or "log.json.12.gz"; 0 if it is another name.
uint64_t number_of(const char* name) {
  const size_t length = strlen(file_name());
  if (strncmp(name, file_name(), length) != 0 || name[length] != '.') return 0;
  char* end = nullptr;
  const uint64_t number = strtoull(name + length + 1, &end, 10);
  return *end == '\0' || strcmp(end, ".gz") == 0 ? number : 0;
}

template <class Visit>
void each_old_file(Visit visit) {
  const int fd = openat(log, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* list = fd < 0 ? nullptr : fdopendir(fd);
  if (list == nullptr) {
    if (fd >= 0) close(fd);
    return;
  }
  while (const dirent* entry = readdir(list))
    if (const uint64_t number = number_of(entry->d_name); number > 0) visit(entry->d_name, number);
  closedir(list);
}

uint64_t number_of_file() {
  if (file_number == 0) {
    file_number = 1;
    each_old_file([](const char*, uint64_t number) {
      if (number >= file_number) file_number = number + 1;
    });
  }
  return file_number;
}

/// Made by the first byte: most short programs have none.
bool open_log_file() {
  if (file >= 0) return true;
  file = openat(log, file_name(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
  struct stat st {};
  if (file >= 0 && fstat(file, &st) == 0) file_size = static_cast<uint64_t>(st.st_size);
  return file >= 0;
}

void old_name(char (&to)[64], uint64_t number) {
  snprintf(to, sizeof to, "%s.%llu", file_name(), static_cast<unsigned long long>(number));
}

/// What is too old goes. The newest old one keeps at least its name, empty: the number of the next is read from it.
void remove_old_files() {
  each_old_file([](const char* name, uint64_t number) {
    if (number + log_how.max_files > file_number) return;
    if (number + 1 < file_number) {
      unlinkat(log, name, 0);
      return;
    }
    const int empty = openat(log, ".log.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (empty >= 0) close(empty);
    if (empty < 0 || renameat(log, ".log.tmp", log, name) != 0) unlinkat(log, name, 0);
  });
}

/// An old file's name never changes, but for ".gz": readers find the next by its number. Killed in between, the next
/// byte makes the new file.
void rotate() {
  char name[64];
  old_name(name, number_of_file());
  if (renameat(log, file_name(), log, name) != 0) return;
  close(file);
  file = -1;
  file_size = 0;
  ++file_number;
  remove_old_files();
  const bool busy = compressor > 0 && waitpid(compressor, nullptr, WNOHANG) == 0;
  if (log_how.compress && !busy) compressor = run_helper("compress");
}

/// Appends what the disk takes, in whole lines: half a line would spoil the next one. Answers how much that was.
size_t append_lines(const char* lines, size_t size) {
  if (size == 0 || file < 0) return 0;
  const off_t end = lseek(file, 0, SEEK_END);  // others may truncate it
  const ssize_t written = write(file, lines, size);
  size_t whole = written > 0 ? static_cast<size_t>(written) : 0;
  if (whole != size) {
    while (whole > 0 && lines[whole - 1] != '\n') --whole;
    if (end >= 0) (void)!ftruncate(file, end + static_cast<off_t>(whole));
  }
  file_size = static_cast<uint64_t>(end) + whole;
  return whole;
}

uint64_t gap = 0;  // bytes lost that the log does not tell of yet

/// Where bytes were lost the log says so, once it can.
bool write_gap(uint64_t bytes, const char* why) {
  char text[128], entry[512];
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const int n = snprintf(text, sizeof text, "kit: %llu bytes of the log are missing here: its %s was full\n",
                         static_cast<unsigned long long>(bytes), why);
  const char* end = put_entry(entry, reinterpret_cast<const unsigned char*>(text), static_cast<size_t>(n), true, now);
  return append_lines(entry, static_cast<size_t>(end - entry)) != 0;
}

void write_entries(const char* from, size_t size) {
  open_log_file();
  if (gap > 0) {
    if (!write_gap(gap, "disk")) {
      gap += size;
      count_lost(size);
      return;
    }
    gap = 0;
  }
  const size_t left = size - append_lines(from, size);
  gap += left;
  if (left > 0) count_lost(left);
  if (log_how.max_size > 0 && file_size >= log_how.max_size) rotate();
}

/// Writes the chunk as entries, one a line. A last line without a newline is an entry of its own, and so is
/// its rest when that comes: readers join on the missing newline, as with Docker's long lines.
void write_log(const unsigned char* bytes, size_t count, bool is_stderr, const timespec& at) {
  size_t used = 0;
  while (count > 0) {
    const size_t most = count < piece ? count : piece;
    const void* newline = memchr(bytes, '\n', most);
    const size_t length = newline ? static_cast<size_t>(static_cast<const unsigned char*>(newline) - bytes) + 1 : most;
    const bool full = used + length * worst_of_byte + frame_of_entry > sizeof entries;
    const bool file_full = log_how.max_size > 0 && open_log_file() && file_size + used >= log_how.max_size;
    if (used > 0 && (full || file_full)) {
      write_entries(entries, used);
      used = 0;
    }
    used = static_cast<size_t>(put_entry(entries + used, bytes, length, is_stderr, at) - entries);
    bytes += length;
    count -= length;
  }
  write_entries(entries, used);
}

// ---- the non-blocking mode: a process that may wait for the disk, behind a bounded queue -------------

struct parcel {
  timespec at;
  uint64_t lost;    // before this one
  uint32_t length;  // of the bytes that follow
  uint32_t is_stderr;
};
queue to_writer;
int writer_pipe = -1;
pid_t writer = -1;
uint64_t dropped = 0;  // since the last parcel

bool read_whole(int fd, void* to, size_t size) {
  for (auto* at = static_cast<char*>(to); size > 0;) {
    const ssize_t n = read(fd, at, size);
    if (n == 0 || (n < 0 && errno != EINTR)) return false;
    if (n > 0) {
      at += n;
      size -= static_cast<size_t>(n);
    }
  }
  return true;
}

[[noreturn]] void be_the_writer(int from) {
  is_writer = true;
  static unsigned char bytes[32 * 1024];
  for (parcel p{}; read_whole(from, &p, sizeof p);) {
    if (p.length > sizeof bytes || !read_whole(from, bytes, p.length)) break;
    if (p.lost > 0 && open_log_file()) write_gap(p.lost, "buffer");
    if (p.length > 0) write_log(bytes, p.length, p.is_stderr != 0, p.at);
  }
  if (gap > 0) write_entries(nullptr, 0);
  _exit(0);
}

void send_to_writer(const parcel& p, const void* bytes) {
  to_writer.push(&p, sizeof p);
  to_writer.push(bytes, p.length);
  flush_log();
}

}  // namespace

void begin_log() {
  if (!log_how.kept || log_how.buffer_size == 0) return;
  void* shared = mmap(nullptr, sizeof *lost_in_writer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int ends[2];
  if (shared == MAP_FAILED || pipe2(ends, O_CLOEXEC) != 0) return;
  lost_in_writer = static_cast<volatile uint64_t*>(shared);
  writer = fork();
  if (writer == 0) {
    for (int fd = waiter; fd < first_free; ++fd)
      if (fd != log && fd != ends[0]) close(fd);
    close(ends[1]);
    be_the_writer(ends[0]);
  }
  close(ends[0]);
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  writer_pipe = ends[1];
}

void log_output(const unsigned char* bytes, size_t count, bool is_stderr) {
  if (!log_how.kept) return;
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  if (writer_pipe < 0) return write_log(bytes, count, is_stderr, now);
  const parcel p{now, dropped, static_cast<uint32_t>(count), is_stderr};
  if (to_writer.size() > 0 && to_writer.size() + sizeof p + count > log_how.buffer_size) {
    dropped += count;
    count_lost(count);
    return;
  }
  dropped = 0;
  send_to_writer(p, bytes);
}

int log_waits_for() { return to_writer.size() > 0 ? writer_pipe : -1; }

void flush_log() {
  if (to_writer.flush(writer_pipe)) return;
  count_lost(to_writer.size());
  to_writer.clear();
}

void end_log() {
  if (writer_pipe >= 0) {
    if (dropped > 0) send_to_writer({{}, dropped, 0, 0}, "");
    // A writer that stands still for ten seconds is not waited for.
    for (int quiet = 0; to_writer.size() > 0 && quiet < 1000; ++quiet) {
      const size_t before = to_writer.size();
      flush_log();
      if (to_writer.size() != before) quiet = 0;
      if (to_writer.size() > 0) usleep(10 * 1000);
    }
    count_lost(to_writer.size());
    close(writer_pipe);
    for (int i = 0; waitpid(writer, nullptr, WNOHANG) == 0 && i < 1000; ++i) usleep(10 * 1000);
  } else if (gap > 0) {
    write_entries(nullptr, 0);
  }
}

log_position next_log_position() {
  if (!log_how.kept || writer_pipe >= 0) return {};
  if (struct stat st{}; file < 0)
    file_size = fstatat(log, file_name(), &st, AT_SYMLINK_NOFOLLOW) == 0 ? static_cast<uint64_t>(st.st_size) : 0;
  return {number_of_file(), file_size};
}

uint64_t log_bytes_lost() { return own_lost + (lost_in_writer ? *lost_in_writer : 0); }

void rest_log() { madvise(entries, sizeof entries, MADV_DONTNEED); }

}  // namespace kit::monitor
