// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "kit/driver.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/impl/tree_entry.hpp"
#include "kit/system/tree.hpp"

namespace kit {
namespace {

using namespace detail;  // NOLINT(google-build-using-namespace)

constexpr unsigned most_threads = 8;
constexpr std::size_t entries_worth_threads = 200;

/// Where the last step of a path is not followed, this names `name` in `directory`, whatever it is.
std::string by_name(int directory, const std::string& name) { return by_descriptor(directory) + "/" + name; }

bool kept_by_overlayfs(const std::string& attribute) { return attribute.rfind("trusted.overlay.", 0) == 0; }

void copy_attributes(int from, const std::string& to) {
  for (const auto& [name, value] : extended_attributes(from))
    if (!kept_by_overlayfs(name) && ::lsetxattr(to.c_str(), name.c_str(), value.data(), value.size(), 0) != 0)
      fail_errno(errno, "copy extended attribute {}", name);
}

/// One copy of a tree. Its unit of work is a directory with all in it but what is in directories below, which wait in a
/// pile. The calling thread works it off; if there is much to do, others help. The last directory piled is the first
/// taken: so open descriptors are as many as the tree is deep, for each thread.
class copying {
 public:
  copying(int from, int to) : from_(from), to_(to) {}
  copying(const copying&) = delete;
  copying& operator=(const copying&) = delete;
  ~copying() {
    stop(nullptr);
    for (std::thread& t : helpers_) t.join();
  }

  /// One entry of a directory, which is none, with its links to those that were copied before.
  void one(unique_fd from, unique_fd to, std::string path, const std::string& name) {
    auto d = std::make_shared<directory>();
    d->from = std::move(from);
    d->to = std::move(to);
    d->path = std::move(path);
    entry(d, name);
  }

  void run() {
    auto root = std::make_shared<directory>();
    root->from = open_at(from_, ".", O_RDONLY | O_DIRECTORY);
    root->to = open_at(to_, ".", O_RDONLY | O_DIRECTORY);
    do_one([&] { fill(root); });
    {
      const std::lock_guard guard(mutex_);
      --busy_;
    }
    work();
    for (std::thread& t : helpers_) t.join();
    helpers_.clear();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  struct directory {
    unique_fd from, to;
    std::string path;  ///< "", or "a/b/"
  };
  /// A directory that was made, and is to be filled.
  struct job {
    std::shared_ptr<const directory> above;
    std::string name;
  };

  // ---- the pile -------------------------------------------------------------------------------------------

  /// Whatever is or comes on the pile, until nobody can add to it any more.
  void work() {
    std::unique_lock guard(mutex_);
    while (!stopped_) {
      if (!pile_.empty()) {
        const job next = std::move(pile_.back());
        pile_.pop_back();
        ++busy_;
        guard.unlock();
        do_one([&] { descend(next); });
        guard.lock();
        if (--busy_ == 0 && pile_.empty()) changed_.notify_all();
      } else if (busy_ == 0) {
        return;
      } else {
        changed_.wait_for(guard, std::chrono::milliseconds(20));
        guard.unlock();
        do_one([this] { check(); });
        guard.lock();
      }
    }
  }

  void do_one(function_ref<void()> task) noexcept {
    try {
      task();
    } catch (...) {
      stop(std::current_exception());
    }
  }

  void stop(std::exception_ptr why) noexcept {
    const std::lock_guard guard(mutex_);
    if (!failure_) failure_ = std::move(why);
    stopped_ = true;
    changed_.notify_all();
  }

  void add(job j) {
    {
      const std::lock_guard guard(mutex_);
      pile_.push_back(std::move(j));
    }
    changed_.notify_one();
    if (std::this_thread::get_id() != caller_ || !helpers_.empty() || entries_ < entries_worth_threads) return;
    const unsigned threads = std::min(std::thread::hardware_concurrency(), most_threads);
    try {
      while (helpers_.size() + 1 < threads) helpers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      // A limit on threads: those that there are will do.
    }
  }

  /// Between two files, and two pieces of a large one.
  void check() {
    if (stopped_) fail(errc::cancelled, "copy a tree: cancelled");
    if (std::this_thread::get_id() != caller_) return;
    this_call().check();
    this_call().progress(done_, 0);
  }

  // ---- one directory --------------------------------------------------------------------------------------

  void descend(const job& j) {
    auto d = std::make_shared<directory>();
    d->from = open_at(j.above->from.get(), j.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    d->to = open_at(j.above->to.get(), j.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    d->path = j.above->path + j.name + '/';
    fill(d);
    set_status(d->from.get(), status_of(d->from.get()), *j.above, j.name);
  }

  void fill(const std::shared_ptr<const directory>& d) {
    for (const std::string& name : names_in(d->from.get())) {
      check();
      ++entries_;
      entry(d, name);
    }
  }

  void entry(const std::shared_ptr<const directory>& d, const std::string& name) {
    const unique_fd from = open_at(d->from.get(), name, O_PATH | O_NOFOLLOW);
    const auto st = status_of(from.get());
    if (S_ISDIR(st.st_mode)) {
      if (::mkdirat(d->to.get(), name.c_str(), 0700) != 0) fail_errno(errno, "make directory {}{}", d->path, name);
      return add({d, name});  // its status comes last
    }
    unique_fd to;
    if (st.st_nlink == 1)
      to = make(from.get(), st, *d, name);
    else if (!make_or_link(from.get(), st, *d, name, to))
      return;
    if (S_ISREG(st.st_mode) && st.st_size > 0)
      content(open_at(d->from.get(), name, O_RDONLY | O_NOFOLLOW | O_NOCTTY).get(), to.get(), st.st_size,
              d->path + name);
    set_status(from.get(), st, *d, name);
  }

  /// Answers false for another link to what was made before.
  bool make_or_link(int from, const struct ::stat& st, const directory& d, const std::string& name, unique_fd& to) {
    const std::lock_guard guard(links_mutex_);
    const auto [known, first] = links_.emplace(std::pair(st.st_dev, st.st_ino), d.path + name);
    if (first) {
      to = make(from, st, d, name);
    } else if (::linkat(to_, known->second.c_str(), d.to.get(), name.c_str(), 0) != 0) {
      fail_errno(errno, "link {}{}", d.path, name);
    }
    return first;
  }

  /// Still empty; open for writing if it is a regular file.
  static unique_fd make(int from, const struct ::stat& st, const directory& d, const std::string& name) {
    if (S_ISREG(st.st_mode)) return open_at(d.to.get(), name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (S_ISLNK(st.st_mode)) {
      if (::symlinkat(target_of(from).c_str(), d.to.get(), name.c_str()) != 0)
        fail_errno(errno, "make symlink {}{}", d.path, name);
    } else if (::mknodat(d.to.get(), name.c_str(), st.st_mode, st.st_rdev) != 0) {
      fail_errno(errno, "make node {}{}", d.path, name);
    }
    return unique_fd();
  }

  static void set_status(int from, const struct ::stat& st, const directory& in, const std::string& name) {
    const int directory = in.to.get();
    if (::fchownat(directory, name.c_str(), st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) != 0)
      fail_errno(errno, "set the owner of {}{}", in.path, name);
    if (!S_ISLNK(st.st_mode) && ::fchmodat(directory, name.c_str(), st.st_mode & 07777, 0) != 0)
      fail_errno(errno, "set the mode of {}{}", in.path, name);
    // After the owner: changing it drops file capabilities.
    copy_attributes(from, by_name(directory, name));
    const timespec times[2] = {st.st_atim, st.st_mtim};
    if (::utimensat(directory, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
      fail_errno(errno, "set the times of {}{}", in.path, name);
  }

  // ---- content --------------------------------------------------------------------------------------------

  void content(int from, int to, off_t size, const std::string& path) {
    if (clones_) {
      if (::ioctl(to, FICLONE, from) == 0) {
        done_ += static_cast<std::uint64_t>(size);
        return;
      }
      // Others may be: of two files one may have no checksums (chattr +C on btrfs).
      if (errno != EINVAL) clones_ = false;
    }
    if (::ftruncate(to, size) != 0) fail_errno(errno, "size {}", path);
    for (off_t at = next_data(from, 0, size); at < size; at = next_data(from, at, size)) {
      off_t hole = ::lseek(from, at, SEEK_HOLE);
      if (hole < 0) hole = size;
      range(from, to, at, std::min(hole, size), path);
      at = hole;
    }
  }

  void range(int from, int to, off_t at, off_t end, const std::string& path) {
    constexpr off_t chunk = off_t{8} << 20;
    while (at < end) {
      check();
      const auto want = static_cast<std::size_t>(std::min(chunk, end - at));
      ssize_t n = -1;
      if (copies_) {
        off_t in = at, out = at;
        n = ::copy_file_range(from, &in, to, &out, want, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS)
          fail_errno(errno, "copy {}", path);
      }
      if (n < 0) {
        copies_ = false;
        n = by_hand(from, to, at, want, path);
      }
      if (n == 0) fail(errc::io, "copy {}: it shrank while it was read", path);
      at += n;
      done_ += static_cast<std::uint64_t>(n);
    }
  }

  static ssize_t by_hand(int from, int to, off_t at, std::size_t want, const std::string& path) {
    std::vector<char> buffer(std::min(want, std::size_t{1} << 20));
    const std::size_t n = read_at(from, buffer.data(), buffer.size(), at);
    for (std::size_t done = 0; done < n;) {
      const ssize_t m = ::pwrite(to, buffer.data() + done, n - done, at + static_cast<off_t>(done));
      if (m < 0 && errno != EINTR) fail_errno(errno, "copy {}", path);
      if (m > 0) done += static_cast<std::size_t>(m);
    }
    return static_cast<ssize_t>(n);
  }

  const int from_, to_;
  const std::thread::id caller_ = std::this_thread::get_id();
  std::vector<std::thread> helpers_;  // of the calling thread alone

  std::mutex mutex_;  // for what follows
  std::condition_variable changed_;
  std::vector<job> pile_;
  int busy_ = 1;  ///< directories being filled: at first the root
  std::exception_ptr failure_;

  std::mutex links_mutex_;  // for links_, and until the first link is made
  std::map<std::pair<dev_t, ino_t>, std::string> links_;

  std::atomic<bool> stopped_ = false, clones_ = true, copies_ = true;
  std::atomic<std::size_t> entries_ = 0;
  std::atomic<std::uint64_t> done_ = 0;
};

class carrying {
 public:
  carrying(int from, int to) : from_(from), to_(to), copying_(from, to) {}

  void change(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string above = slash == path.npos ? "" : path.substr(0, slash + 1);
    const std::string name = path.substr(above.size());
    unique_fd from = below(from_, above), to = below(to_, above);
    struct ::stat was {
    }, is{};
    const bool present = look(from.get(), name, is), in_the_way = look(to.get(), name, was);
    if (present && S_ISDIR(is.st_mode) && in_the_way && S_ISDIR(was.st_mode)) return;  // its status comes last
    if (in_the_way) remove_tree(by_name(to.get(), name));
    if (!present) return;
    if (!S_ISDIR(is.st_mode))
      copying_.one(std::move(from), std::move(to), above, name);
    else if (::mkdirat(to.get(), name.c_str(), 0700) != 0)
      fail_errno(errno, "make directory {}", path);
  }

  /// Links, and what directories are: they change with their entries. Again, if a link was made: a union copies the file
  /// it is made to, and parts it from its other names. A second time at most, for then all names are copies.
  void finish() {
    relinked_ = true;
    for (int pass = 0; relinked_ && pass < 3; ++pass) {
      linked_.clear();
      belongs_to_.clear();
      relinked_ = false;
      finish(open_at(from_, ".", O_RDONLY | O_DIRECTORY).get(), open_at(to_, ".", O_RDONLY | O_DIRECTORY).get(), "");
    }
  }

 private:
  void finish(int from, int to, const std::string& path) {
    for (const std::string& name : names_in(from)) {
      this_call().check();
      struct ::stat is {};
      if (!look(from, name, is)) fail(errc::io, "carry changes: {}{} vanished meanwhile", path, name);
      if (S_ISDIR(is.st_mode))
        finish(open_at(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).get(),
               open_at(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).get(), path + name + '/');
      else
        links(from, to, path, name, is);
    }
    status(from, to);
  }

  using inode = std::pair<dev_t, ino_t>;
  static inode of(const struct ::stat& st) { return {st.st_dev, st.st_ino}; }

  static bool look(int directory, const std::string& name, struct ::stat& st) {
    if (::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) return true;
    if (errno != ENOENT) fail_errno(errno, "stat {}", name);
    return false;
  }

  /// The directory at "", or "a/b/", below `root`.
  static unique_fd below(int root, const std::string& path) {
    unique_fd at = open_at(root, ".", O_RDONLY | O_DIRECTORY);
    for (std::size_t begin = 0; begin < path.size();) {
      const std::size_t end = path.find('/', begin);
      at = open_at(at.get(), path.substr(begin, end - begin), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      begin = end + 1;
    }
    return at;
  }

  void links(int from, int to, const std::string& path, const std::string& name, const struct ::stat& is) {
    struct ::stat has {};
    if (!look(to, name, has)) fail(errc::io, "carry changes: {}{} is not there", path, name);
    if (is.st_nlink > 1) {
      const auto [first, is_first] = linked_.try_emplace(of(is), path + name);
      struct ::stat same {};
      if (!is_first && (!look(to_, first->second, same) || of(same) != of(has))) {
        relinked_ = true;
        remove_tree(by_name(to, name));
        if (::linkat(to_, first->second.c_str(), to, name.c_str(), 0) != 0) fail_errno(errno, "link {}{}", path, name);
        return;
      }
    }
    // One file here, and two there: this name was parted from the others.
    if (has.st_nlink > 1 && belongs_to_.try_emplace(of(has), of(is)).first->second != of(is)) {
      remove_tree(by_name(to, name));
      copying_.one(open_at(from, ".", O_RDONLY | O_DIRECTORY), open_at(to, ".", O_RDONLY | O_DIRECTORY), path, name);
    }
  }

  static void status(int from, int to) {
    const auto is = status_of(from), has = status_of(to);
    const auto wanted = extended_attributes(from), there = extended_attributes(to);
    const bool alike = is.st_mode == has.st_mode && is.st_uid == has.st_uid && is.st_gid == has.st_gid &&
                       is.st_mtim.tv_sec == has.st_mtim.tv_sec && is.st_mtim.tv_nsec == has.st_mtim.tv_nsec &&
                       wanted == there;
    if (alike) return;
    for (const auto& [name, value] : there)
      if (!wanted.contains(name) && !kept_by_overlayfs(name) && ::fremovexattr(to, name.c_str()) != 0)
        fail_errno(errno, "remove extended attribute {}", name);
    copy_status(from, to);
  }

  const int from_, to_;
  copying copying_;
  bool relinked_ = false;
  std::map<inode, std::string> linked_;  ///< files of `from` that have several names: the first of them
  std::map<inode, inode> belongs_to_;    ///< files of `to` that have several names, and what they are in `from`
};

}  // namespace

void carry_changes(int from, int to, std::span<const std::string> paths) {
  carrying c(from, to);
  for (const std::string& path : paths) {
    this_call().check();
    if (!path.empty()) c.change(path);
  }
  c.finish();
}

void copy_status(int from, int to) {
  const auto st = status_of(from);
  if (::fchown(to, st.st_uid, st.st_gid) != 0) fail_errno(errno, "set the owner of a directory");
  if (::fchmod(to, st.st_mode & 07777) != 0) fail_errno(errno, "set the mode of a directory");
  copy_attributes(from, by_descriptor(to) + "/.");
  const timespec times[2] = {st.st_atim, st.st_mtim};
  if (::futimens(to, times) != 0) fail_errno(errno, "set the times of a directory");
}

void copy_tree(int from, int to) {
  copying(from, to).run();
  copy_status(from, to);
}

}  // namespace kit
