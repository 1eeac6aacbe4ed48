// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/copy.hpp"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <thread>

#include "kit/engine/lifecycle.hpp"
#include "kit/engine/locks.hpp"
#include "kit/engine/open_layer.hpp"
#include "kit/engine/spec.hpp"
#include "kit/engine/volumes.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/pidfd.hpp"

namespace kit {
namespace {

// ---- the container's files -----------------------------------------------------------------------------------------

/// `path` inside `root`, made as a directory if nothing is there.
unique_fd open_or_make_in_root(int root, const std::string& path, bool directory) {
  unique_fd fd(try_open_in_root(root, path.c_str(), O_PATH));
  if (fd || errno != ENOENT) return fd;
  const auto slash = path.rfind('/');
  const unique_fd parent = slash == 0 ? unique_fd(try_open_in_root(root, "/", O_PATH))
                                      : open_or_make_in_root(root, path.substr(0, slash), true);
  const std::string last = path.substr(slash + 1);
  if (!parent) return {};
  if (directory)
    ::mkdirat(parent.get(), last.c_str(), 0755);
  else
    unique_fd(::openat(parent.get(), last.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  return unique_fd(try_open_in_root(root, path.c_str(), O_PATH));
}

unsigned depth(const std::string& path) { return static_cast<unsigned>(std::count(path.begin(), path.end(), '/')); }

/// What a program in the container sees, whether it runs or not.
class container_files {
 public:
  container_files(engine& e, const container_id& id) {
    for (;;) {
      const container_record r = current(e, e.records().container(id.text()));
      if (is_live(r)) {
        const unique_fd init = open_process(r.init.pid, r.init.start_time);
        root_ = unique_fd(::open(fmt::format("/proc/{}/root", r.init.pid).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (root_ && init && !has_ended(init.get())) return;
        continue;  // it has ended just now
      }
      lock_ = lock_container(e, id);
      const container_record held = e.records().container(id.text());
      if (is_live(held)) continue;
      mount_in_own_namespace(e, held);
      return;
    }
  }
  [[nodiscard]] int root() const { return root_.get(); }

 private:
  /// The layer, and upon it what else the container would see. Nobody sees these mounts, and they end with this process.
  void mount_in_own_namespace(engine& e, const container_record& r) {
    const container_spec spec = spec_from_json(r.spec);
    if (::unshare(CLONE_NEWNS) != 0) fail_errno(errno, "unshare the mount namespace");
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0) fail_errno(errno, "make mounts slaves");
    const layer own{layer_id::from(r.id.text()), r.chain};
    const unique_fd tree = open_layer(e.storage(r.storage), own, access::read_write);
    const std::string place = e.container_dir(r.id);
    attach(tree.get(), open_file(place, O_PATH | O_DIRECTORY).get(), place);
    root_ = open_file(place, O_PATH | O_DIRECTORY);
    std::vector<mount_request> mounts = spec.mounts;
    std::stable_sort(mounts.begin(), mounts.end(),
                     [](const auto& a, const auto& b) { return depth(a.target) < depth(b.target); });
    for (const mount_request& m : mounts) {
      const std::string source = m.what == mount_request::kind::volume ? volume_path(e, m.source) : m.source;
      const unique_fd clone(::open_tree(AT_FDCWD, source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
      if (!clone) continue;  // a host path that start would make
      struct stat st {};
      const unique_fd target = ::fstat(clone.get(), &st) == 0
                                   ? open_or_make_in_root(root_.get(), m.target, S_ISDIR(st.st_mode))
                                   : unique_fd();
      if (!target) fail_errno(errno, "mount {} at {}", source, m.target);
      if (m.has("ro")) make_read_only(clone.get(), m.target);
      attach(clone.get(), target.get(), m.target);
    }
    if (spec.read_only) make_read_only(root_.get(), "/");
  }

  static void attach(int tree, int target, const std::string& where) {
    if (const int e = attach_mount(tree, target); e != 0) fail_errno(-e, "mount at {}", where);
  }
  static void make_read_only(int mount, const std::string& where) {
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    if (::mount_setattr(mount, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
      fail_errno(errno, "make {} read-only", where);
  }

  file_lock lock_;
  unique_fd root_;
};

// ---- the two ends --------------------------------------------------------------------------------------------------

/// One end of a copy: a path of the host, or one in a container.
struct place {
  std::string name;  ///< for people: "web:/etc"
  int root = -1;     ///< of the container; -1: of the host
  std::string path;  ///< absolute

  [[nodiscard]] unique_fd open(const std::string& at, int flags) const {
    return unique_fd(root < 0 ? ::open(at.c_str(), flags | O_CLOEXEC) : try_open_in_root(root, at.c_str(), flags));
  }
  /// "/a/b/" is "/a" and "b"; "/a/." is "/a" and "."; "/" is "/" and ".".
  [[nodiscard]] std::pair<std::string, std::string> split() const {
    std::string clean = std::filesystem::path(path).lexically_normal().string();
    const bool content = path.ends_with("/.") || clean == "/";
    while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
    if (content) return {clean, "."};
    const auto slash = clean.rfind('/');
    return {slash == 0 ? "/" : clean.substr(0, slash), clean.substr(slash + 1)};
  }
};

struct source {
  unique_fd fd;  ///< O_PATH
  std::string base;
  bool is_directory = false;
};

source open_source(const place& from, bool follow_link) {
  const auto [parent, base] = from.split();
  const std::string path = base == "." ? parent : parent == "/" ? "/" + base : parent + "/" + base;
  source s{from.open(path, O_PATH | (base == "." || follow_link ? 0 : O_NOFOLLOW)), base};
  struct stat st {};
  if (!s.fd && errno == ENOENT && from.root >= 0) fail(errc::not_found, "no such container path: {}", from.name);
  if (!s.fd) fail_errno(errno, "copy {}", from.name);
  if (::fstat(s.fd.get(), &st) != 0) fail_errno(errno, "copy {}", from.name);
  s.is_directory = S_ISDIR(st.st_mode);
  const bool as_directory = base == "." || (from.path.ends_with('/') && !S_ISLNK(st.st_mode));
  if (as_directory && !s.is_directory) fail(errc::invalid, "copy {}: not a directory", from.name);
  return s;
}

/// Where a copy goes: into `directory` of the place, under the name `as`.
struct destination {
  std::string directory, as;
};

/// A symlink is followed, one after the other: what it leads to is the destination, and need not be there.
std::string follow_links(const place& to) {
  std::string path = to.path;
  for (int links = 0; links < 40; ++links) {
    const place at{to.name, to.root, path};
    const auto [parent, base] = at.split();
    if (base == ".") return path;
    const unique_fd fd = to.open(parent + "/" + base, O_PATH | O_NOFOLLOW);
    char target[PATH_MAX];
    const ssize_t size = fd ? ::readlinkat(fd.get(), "", target, sizeof target) : -1;
    if (size <= 0) return path;
    const std::string led(target, static_cast<std::size_t>(size));
    path = led.starts_with('/') ? led : parent + "/" + led;
  }
  fail(errc::invalid, "copy to {}: too many levels of symbolic links", to.name);
}

destination find_destination(const place& given, const source& from) {
  const place to{given.name, given.root, follow_links(given)};
  const auto [parent, base] = to.split();
  const std::string whole = base == "." ? parent : parent + "/" + base;
  const unique_fd fd = to.open(whole, O_PATH);
  struct stat st {};
  if (!fd && errno != ENOENT) fail_errno(errno, "copy to {}", to.name);
  if (fd && ::fstat(fd.get(), &st) != 0) fail_errno(errno, "copy to {}", to.name);
  if (fd && S_ISDIR(st.st_mode)) return {whole, from.base};
  if (fd && from.is_directory) fail(errc::conflict, "cannot copy directory to {}: it is a file", to.name);
  if (fd && given.path.ends_with('/')) fail(errc::invalid, "copy to {}: not a directory", to.name);
  if (fd && !S_ISREG(st.st_mode))
    fail(errc::invalid, "destination \"{}\" must be a directory or a regular file", to.name);
  if (!fd && !from.is_directory && (given.path.ends_with('/') || base == "."))
    fail(errc::not_found, "copy to {}: no such directory", to.name);
  const unique_fd above = to.open(parent, O_PATH | O_DIRECTORY);
  if (!above && errno == ENOENT && to.root >= 0)
    fail(errc::not_found, "no such container path: {}:{}", to.name.substr(0, to.name.find(':')), parent);
  if (!above) fail_errno(errno, "copy to {}: open {}", to.name, parent);
  return {parent, base};
}

// ---- from one to the other -----------------------------------------------------------------------------------------

/// Packs on a thread, and unpacks here what comes.
void transfer(const source& from, const std::string& as, const entry_target& to) {
  unique_fd read_end, write_end;
  std::tie(read_end, write_end) = make_pipe();
  std::exception_ptr failure;
  std::thread packer([&, to_pipe = std::move(write_end)] {
    // A write that nobody reads any more is to fail, not to end the process.
    sigset_t broken_pipe;
    ::sigemptyset(&broken_pipe);
    ::sigaddset(&broken_pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
    try {
      pack_entry(from.fd.get(), as, to_pipe.get());
    } catch (...) {
      failure = std::current_exception();
    }
    const_cast<unique_fd&>(to_pipe).reset();
  });
  try {
    unpack_entries(read_end.get(), to);
  } catch (...) {
    read_end.reset();
    packer.join();
    throw;
  }
  packer.join();
  if (failure) std::rethrow_exception(failure);
}

place in_container(engine& e, const container_id& id, const container_files& files, const std::string& path) {
  return {fmt::format("{}:{}", e.records().container(id.text()).name, path), files.root(), "/" + path};
}
place on_host(const std::string& path) { return {path, -1, std::filesystem::absolute(path).string()}; }

}  // namespace

void copy_from_container(engine& e, const container_id& id, const std::string& path, const std::string& host_path,
                         const copy_options& options) {
  const container_files files(e, id);
  const source from = open_source(in_container(e, id, files, path), options.follow_link);
  const destination at = find_destination(on_host(host_path), from);
  const unique_fd directory = open_file(at.directory, O_PATH | O_DIRECTORY);
  transfer(from, at.as, {.root = directory.get(), .directory = ".", .follows_links = false, .owners = options.owners});
}

void copy_to_container(engine& e, const container_id& id, const std::string& host_path, const std::string& path,
                       const copy_options& options) {
  const source from = open_source(on_host(host_path), options.follow_link);
  const container_files files(e, id);
  const destination at = find_destination(in_container(e, id, files, path), from);
  transfer(from, at.as, {.root = files.root(), .directory = at.directory, .follows_links = true, .owners = true});
}

void copy_from_container(engine& e, const container_id& id, const std::string& path, int to,
                         const copy_options& options) {
  const container_files files(e, id);
  const source from = open_source(in_container(e, id, files, path), options.follow_link);
  pack_entry(from.fd.get(), from.base, to);
}

void copy_to_container(engine& e, const container_id& id, int from, const std::string& path) {
  const container_files files(e, id);
  const place to = in_container(e, id, files, path);
  const std::string directory = follow_links(to);
  if (!to.open(directory, O_PATH | O_DIRECTORY)) fail(errc::invalid, "destination \"{}\" must be a directory", to.name);
  unpack_entries(from, {.root = files.root(), .directory = directory, .follows_links = true, .owners = true});
}

}  // namespace kit
