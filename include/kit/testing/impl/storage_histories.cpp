// SPDX-License-Identifier: Apache-2.0
// Chains of layers beside a flat tree to which the same was done.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstdlib>
#include <random>

#include "kit/system/error.hpp"
#include "kit/testing/impl/storage_checks.hpp"

namespace kit::testing::detail {
namespace {

/// A layer that grows into a chain, and a plain directory that is its reference: what is done to the one is done to the
/// other.
class history {
 public:
  explicit history(storage_fixture& f) : f_(f) {
    put_directory(open_file(f.scratch(), O_RDONLY | O_DIRECTORY).get(), "reference");
    reference_ = open_file(f.scratch() + "/reference", O_RDONLY | O_DIRECTORY);
    top_ = f.base();
  }
  /// `work` is called with the root of the layer, then with that of the reference.
  void both(function_ref<void(int)> work) {
    f_.write(top_, work);
    work(reference_.get());
  }
  /// `work` is called with both.
  void beside(function_ref<void(int layer, int reference)> work) {
    f_.write(top_, [&](int root) { work(root, reference_.get()); });
  }
  /// Freezes the layer, and goes on with one above it; false if the driver has reached its limit.
  bool next() {
    f_.driver().freeze(top_.id);
    const stacked_layer l = f_.named_above(top_);
    try {
      f_.driver().create(l);
    } catch (const error& e) {
      expect(e.code() == errc::unsupported, "a chain of {} layers is refused: {}", l.parents.size() + 1, e.what());
      return false;
    }
    below_ = std::exchange(top_, l);
    return true;
  }
  /// Modification times are those of two moments, and not compared.
  void compare(access how, std::string_view when) {
    tree_snapshot wanted = read_tree(reference_.get()), seen = f_.read(top_, how);
    for (tree_snapshot* tree : {&wanted, &seen})
      for (auto& [path, entry] : *tree) entry.mtime_ns = 0;
    // The root of a layer is its own.
    wanted[""] = seen[""];
    const std::string difference = first_difference(wanted, seen);
    expect(difference.empty(), "{}: {}", when, difference);
  }
  void compare_changes(std::string_view when) {
    if (!f_.driver().can(storage_ability::reports_changes) || below_.parents.size() == top_.parents.size()) return;
    std::vector<change> seen;
    f_.driver().changes(top_, [&](const change& c) { seen.push_back(c); });
    const auto wanted = changes_between(f_.read(below_, access::read_only), f_.read(top_));
    expect(seen == wanted, "{}, the changes are [{}], not [{}]", when, to_text(seen), to_text(wanted));
  }
  [[nodiscard]] const stacked_layer& top() const { return top_; }

 private:
  storage_fixture& f_;
  unique_fd reference_;
  stacked_layer top_, below_;
};

// ---- long chains ------------------------------------------------------------------------------------

/// Each layer adds, changes and deletes; the tree stays small.
void grow(history& h, int i) {
  h.both([i](int root) {
    const std::string directory = fmt::format("d{}", i % 10);
    if (i < 10) put_directory(root, directory);
    put_file(root, fmt::format("{}/file{}", directory, i), fmt::format("of layer {}", i));
    put_file(root, "shared", std::string(static_cast<std::size_t>(i), 's'));
    // A directory made anew, over what all layers below have in it.
    if (i >= 60 && i % 20 == 0) {
      erase(root, directory);
      put_directory(root, directory);
      put_file(root, fmt::format("{}/file{}", directory, i), "again");
    }
    if (const std::string old = fmt::format("d{}/file{}", (i + 1) % 10, i - 29); i >= 30 && exists(root, old))
      erase(root, old);
  });
}

void hundred_and_twenty_eight_layers_read_as_one(storage_fixture& f) {
  history h(f);
  for (int i = 0; i < 128; ++i) {
    grow(h, i);
    h.compare(access::live, fmt::format("at layer {}", i + 1));
    if (!h.next()) {
      expect(i >= 99, "a chain of {} layers is refused", i + 2);
      return;
    }
  }
  h.compare(access::read_write, "above 128 layers");
}

void five_hundred_layers_read_as_one(storage_fixture& f) {
  if (std::getenv("KIT_TEST_LONG") == nullptr) skip("takes long; KIT_TEST_LONG=1 runs it");
  history h(f);
  for (int i = 0; i < 499; ++i) {
    grow(h, i);
    h.compare(access::live, fmt::format("at layer {}", i + 1));
    if (!h.next()) {
      expect(i >= 99, "a chain of {} layers is refused", i + 2);
      return;
    }
  }
  grow(h, 499);
  f.driver().freeze(h.top().id);
  h.compare(access::read_only, "of 500 layers");
}

void directories_made_again_at_each_depth(storage_fixture& f) {
  constexpr int depth = 10;
  const auto path_to = [](int level) {
    std::string path = "d0";
    for (int i = 1; i <= level; ++i) path += fmt::format("/d{}", i);
    return path;
  };
  const auto fill = [&](int root, int from, const char* file) {
    for (int level = from; level < depth; ++level) {
      put_directory(root, path_to(level));
      put_file(root, path_to(level) + "/" + file, file);
    }
  };
  history h(f);
  h.both([&](int root) { fill(root, 0, "first"); });
  for (int level = depth - 1; level >= 0; --level) {
    expect(h.next(), "a chain of {} layers is refused", depth - level + 1);
    h.both([&](int root) {
      erase(root, path_to(level));
      fill(root, level, fmt::format("of{}", level).c_str());
    });
    h.compare(access::live, fmt::format("made again at depth {}", level));
    h.compare_changes(fmt::format("made again at depth {}", level));
  }
  // The other way round: what was made again goes for good, deepest last.
  for (int level = depth / 2; level < depth; ++level) {
    expect(h.next(), "a chain of {} layers is refused", depth + level);
    h.both([&](int root) {
      if (exists(root, path_to(level))) erase(root, path_to(level));
      put_file(root, path_to(level), "a file now");
      erase(root, path_to(level));
      fill(root, level, "last");
    });
    h.compare(access::live, fmt::format("replaced at depth {}", level));
  }
}

// ---- random operations ------------------------------------------------------------------------------

/// One operation on a tree, drawn at random; every draw is made before anything is done, so that it is the same for
/// whatever tree. Answers 0 or an errno.
class operation {
 public:
  explicit operation(std::mt19937& random) {
    const auto draw = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
    kind_ = draw(16);
    for (std::string* path : {&path_, &other_}) {
      const unsigned parts = 1 + draw(3);
      for (unsigned i = 0; i < parts; ++i)
        *path += (i == 0 ? "" : "/") + std::string(1, static_cast<char>('a' + draw(5)));
    }
    offset_ = draw(30'000);
    text_ = std::string(draw(4) == 0 ? draw(20'000) : draw(200), static_cast<char>('A' + draw(26)));
    number_ = draw(512);
  }
  [[nodiscard]] std::string text() const { return fmt::format("{} {} {}", kind_, path_, other_); }

  int run(int root) const {
    switch (kind_) {
      case 0:
      case 1: return write(root, O_CREAT | O_TRUNC, 0);
      case 2: return write(root, O_CREAT | O_EXCL, 0);
      case 3: return write(root, O_APPEND, -1);
      case 4: return write(root, 0, offset_);
      case 5: return with(root, [&](int fd) { return ::ftruncate(fd, offset_); });
      case 6: return with(root, [&](int fd) { return write_mapped(fd); });
      case 7: return code(::unlinkat(root, path_.c_str(), 0));
      case 8:
      case 9: return code(::mkdirat(root, path_.c_str(), 0700 | number_));
      case 10: return code(::unlinkat(root, path_.c_str(), AT_REMOVEDIR));
      case 11: return code(::renameat(root, path_.c_str(), root, other_.c_str()));
      case 12: return code(::symlinkat(other_.c_str(), root, path_.c_str()));
      case 13: return code(::fchmodat(root, path_.c_str(), number_, 0));
      case 14: return code(::fchownat(root, path_.c_str(), number_, number_ / 2, AT_SYMLINK_NOFOLLOW));
      default: return code(::mknodat(root, path_.c_str(), S_IFIFO | 0600, 0));
    }
  }

 private:
  static int code(long result) { return result < 0 ? errno : 0; }
  int with(int root, function_ref<long(int)> work, int flags = 0) const {
    const unique_fd fd(::openat(root, path_.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC | flags, 0644));
    if (!fd) return errno;
    struct ::stat st {};
    if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return EINVAL;
    return code(work(fd.get()));
  }
  int write(int root, int flags, off_t at) const {
    return with(
        root,
        [&](int fd) {
          return at < 0 ? ::write(fd, text_.data(), text_.size()) : ::pwrite(fd, text_.data(), text_.size(), at);
        },
        flags);
  }
  long write_mapped(int fd) const {
    struct ::stat st {};
    if (::fstat(fd, &st) != 0 || st.st_size == 0) return 0;
    const auto size = static_cast<std::size_t>(st.st_size);
    void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return -1;
    static_cast<char*>(memory)[static_cast<std::size_t>(offset_) % size] = text_.empty() ? 'x' : text_[0];
    return ::munmap(memory, size);
  }

  unsigned kind_ = 0, number_ = 0;
  off_t offset_ = 0;
  std::string path_, other_, text_;
};

void random_operations_leave_what_they_leave_elsewhere(storage_fixture& f) {
  constexpr int layers = 8, operations = 250;
  for (const unsigned seed : {1u, 2u}) {
    std::mt19937 random(seed);
    history h(f);
    for (int i = 0; i < layers; ++i) {
      const std::string where = fmt::format("seed {}, layer {}", seed, i + 1);
      h.beside([&](int layer, int reference) {
        for (int k = 0; k < operations; ++k) {
          const operation next(random);
          const int e = next.run(layer);
          // A union may leave the renaming of a lower directory to the program: rename(2).
          if (e == EXDEV) continue;
          const int wanted = next.run(reference);
          expect((e == 0) == (wanted == 0), "{}, operation {} ({}): {}, elsewhere {}", where, k, next.text(),
                 errno_text(e), errno_text(wanted));
        }
      });
      h.compare(access::live, where);
      h.compare_changes(where);
      expect(h.next(), "a chain of {} layers is refused", i + 2);
      h.compare(access::read_write, where + ", seen from above");
    }
    remove_tree(f.scratch() + "/reference");
  }
}

constexpr check<storage_fixture> checks[] = {
    {"hundred_and_twenty_eight_layers_read_as_one", "model: a root file system is what one sees through a chain",
     hundred_and_twenty_eight_layers_read_as_one},
    {"five_hundred_layers_read_as_one", "model: a root file system is what one sees through a chain",
     five_hundred_layers_read_as_one},
    {"directories_made_again_at_each_depth", "2: full POSIX semantics: a new directory hides the old one's contents",
     directories_made_again_at_each_depth},
    {"random_operations_leave_what_they_leave_elsewhere", "2: full POSIX semantics, whatever is done in whatever order",
     random_operations_leave_what_they_leave_elsewhere},
};

}  // namespace

storage_checks_part storage_history_checks() { return checks; }

}  // namespace kit::testing::detail
