// SPDX-License-Identifier: Apache-2.0
// Layers unpacked in sight of those below them, and alone: the same trees.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>
#include <optional>
#include <random>

#include "drivers/storage/overlayfs.hpp"
#include "kit/engine/open_layer.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/error.hpp"
#include "kit/testing/tree.hpp"
#include "scratch.hpp"
#include "tar.hpp"

using namespace kit;
using namespace kit::testing;

namespace {

// ---- archives ----------------------------------------------------------------------------------------

std::string with_pax(const std::string& records, const entry& e) {
  return header({"pax", 'x'}, records.size()) + padded(records) + bytes_of(e);
}

/// Archives of few names, so that they meet: below each other, instead of each other, deleted and brought in all orders.
class archives {
 public:
  explicit archives(unsigned seed) : random_(seed) {}

  std::string next(bool base) {
    std::string all;
    if (base || one_in(4)) all += timed({"./", '5', "", "", one_in(2) ? 0755u : 0711u});
    for (unsigned n = 1 + below(base ? 12 : 7); n > 0; --n) all += timed(any(base));
    return all + end_marker;
  }

 private:
  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }
  bool one_in(unsigned n) { return below(n) == 0; }
  std::string name() { return std::string(1, static_cast<char>('a' + below(3))); }
  std::string path() {
    std::string p = name();
    while (p.size() < 6 && !one_in(3)) p += '/' + name();
    return p;
  }

  entry any(bool base) {
    const unsigned mode = one_in(2) ? 0750 : 02705;
    switch (below(base ? 8 : 12)) {
      case 0:
      case 1:
      case 2: return {path() + '/', '5', "", "", mode, below(3)};
      case 3: return {path(), '1', "", path()};
      case 4: return {path(), '2', "", one_in(2) ? '/' + path() : name()};
      case 5: return {path(), '6', "", "", 0600};
      case 6:
      case 7: return {path(), '0', std::to_string(random_()), "", mode, below(3)};
      case 8: {
        std::string p = path();
        return {p + (one_in(5) ? "" : "/") + ".wh..wh..opq"};
      }
      default: {
        const std::string p = path();
        const auto last = p.rfind('/') + 1;
        return {p.substr(0, last) + ".wh." + p.substr(last)};
      }
    }
  }

  std::string timed(const entry& e) {
    std::string records = pax_record("mtime", std::to_string(1'000'000'000 + below(1000)) + ".25");
    if (e.type != '1' && one_in(4)) records += pax_record("SCHILY.xattr.trusted.kit", std::to_string(below(9)));
    return with_pax(records, e);
  }

  std::mt19937 random_;
};

unique_fd blob_of(const scratch& at, const std::string& bytes) {
  replace_file(at / "blob", bytes);
  return open_file(at / "blob", O_RDONLY);
}

// ---- trees -------------------------------------------------------------------------------------------

/// A tree, and which of its names are one file.
struct whole_tree {
  tree_snapshot entries;
  std::map<std::string, std::string> links;

  static whole_tree of(int root) {
    whole_tree t{read_tree(root), {}};
    std::map<std::pair<dev_t, ino_t>, std::string> first;
    for (const auto& [path, e] : t.entries)
      if (const auto st = status(root, path.empty() ? "." : path); !S_ISDIR(st.st_mode) && st.st_nlink > 1)
        t.links[path] = first.emplace(std::pair(st.st_dev, st.st_ino), path).first->second;
    return t;
  }
};

std::string unlike(const whole_tree& a, const whole_tree& b) {
  std::string text = first_difference(a.entries, b.entries, true);
  if (text.empty() && a.links != b.links) text = "the hard links differ";
  return text;
}

/// A tree of differences, its marks in words, whichever way they are written.
std::map<std::string, std::string> in_words(int root, whiteouts how) {
  std::map<std::string, std::string> words;
  for (const auto& [path, e] : read_tree(root)) {
    const auto name = path.rfind('/') + 1;
    const std::string parent = path.substr(0, name), last = path.substr(name);
    if (how == whiteouts::aufs && last == ".wh..wh..opq") {
      words[parent.substr(0, name == 0 ? 0 : name - 1)] += " opaque";
    } else if (how == whiteouts::aufs && last.starts_with(".wh.")) {
      words[parent + last.substr(4)] += " deleted";
    } else if (how == whiteouts::overlay && S_ISCHR(e.mode)) {
      words[path] += " deleted";
    } else {
      std::string& word = words[path];
      word += fmt::format(" {:o} {} {} {} {}", e.mode, e.uid, e.size, e.mtime_ns, e.content);
      for (const auto& [attribute, value] : e.attributes)
        word += attribute == "trusted.overlay.opaque" ? " opaque" : fmt::format(" {}={}", attribute, value);
    }
  }
  return words;
}

// ---- both ways ---------------------------------------------------------------------------------------

/// In memory: freezing a layer syncs its file system.
scratch place() { return scratch("/dev/shm/kit-test-XXXXXX"); }

struct stack {
  scratch at = place();
  drivers::overlayfs driver{{.directory = at / "storage", .run_dir = {}, .libexec = {}, .root_tag = {}, .options = {}}};
  std::vector<layer_id> chain;

  layer top() const { return {chain.front(), std::span(chain).subspan(1)}; }
  void add(const layer_id& id) { chain.insert(chain.begin(), id); }
  unique_fd view() { return open_layer(driver, top(), access::read_only); }

  /// In sight of what is below. Throws as unpack_archive.
  void unpack(const std::string& bytes) {
    const auto id = random_id<layer_id>();
    const layer l{id, chain};
    driver.create(l, {});
    unpack_archive(blob_of(at, bytes).get(), open_layer(driver, l, access::read_write).get());
    driver.freeze(id);
    add(id);
  }

  /// Answers whether it could be done.
  bool unpack_alone(const std::string& bytes) {
    const auto id = random_id<layer_id>();
    driver.create({id, {}}, {});
    {
      archive_unpacked_alone alone(open_layer(driver, {id, {}}, access::read_write).get(), driver.deletions());
      if (!alone.unpack(blob_of(at, bytes).get()) || !alone.complete(view().get())) return false;
    }
    driver.rebase({id, chain});
    driver.freeze(id);
    add(id);
    return true;
  }
};

/// The differences as a layer would keep them; nothing if they cannot be told alone, or the archive is refused.
std::optional<std::map<std::string, std::string>> differences(const std::string& bytes, int below, whiteouts how) {
  const scratch at = place();
  make_directories(at / "root");
  const unique_fd root = open_directory(at / "root");
  set_time(root.get(), ".", 1);
  archive_unpacked_alone alone(root.get(), how);
  try {
    if (alone.unpack(blob_of(at, bytes).get()) && alone.complete(below)) return in_words(root.get(), how);
  } catch (const error&) {}
  return std::nullopt;
}

bool overlay_works() {
  const stack s;
  if (s.driver.probe().usable) return true;
  WARN("skipped: " << s.driver.probe().reason);
  return false;
}

errc code_of(function_ref<void()> work) {
  try {
    work();
  } catch (const error& e) {
    UNSCOPED_INFO(e.what());
    return e.code();
  }
  return errc{};
}

unsigned number_in(const char* variable, unsigned otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : static_cast<unsigned>(std::atoi(text));
}

}  // namespace

TEST_CASE("random stacks of layers are the same tree, unpacked in sight of what is below, or alone") {
  if (!overlay_works()) return;
  const unsigned first = number_in("KIT_TEST_SEED", 1), stacks = std::getenv("KIT_TEST_LONG") != nullptr ? 20000 : 250;
  unsigned alone = 0, layers = 0;
  for (unsigned seed = first; seed < first + stacks; ++seed) {
    CAPTURE(seed);
    archives make(seed);
    stack seen, apart;
    const scratch plain = place();
    make_directories(plain / "root");
    const unique_fd merged = open_directory(plain / "root");
    const auto merge = [&](const std::string& bytes) { unpack_archive(blob_of(plain, bytes).get(), merged.get()); };
    const std::string base = make.next(true);
    if (code_of([&] { seen.unpack(base); }) != errc{}) continue;
    apart.unpack(base);
    merge(base);
    for (int n = 0; n < 4; ++n) {
      CAPTURE(n);
      const std::string bytes = make.next(false);
      const bool good = code_of([&] { seen.unpack(bytes); }) == errc{};
      const auto marks = differences(bytes, apart.view().get(), whiteouts::overlay);
      REQUIRE(marks == differences(bytes, apart.view().get(), whiteouts::aufs));
      bool done = false;
      const errc refused = code_of([&] { done = apart.unpack_alone(bytes); });
      ++layers;
      if (!good) {
        REQUIRE_FALSE(done);
        continue;
      }
      REQUIRE(refused == errc{});
      if (done)
        ++alone;
      else
        apart.unpack(bytes);
      merge(bytes);
      const whole_tree expected = whole_tree::of(seen.view().get());
      REQUIRE(unlike(expected, whole_tree::of(apart.view().get())) == "");
      // But for its hard links: a union parts those of its lower layers.
      REQUIRE(first_difference(read_tree(merged.get()), expected.entries, true).empty());
    }
  }
  CHECK(alone > layers / 5);
}

TEST_CASE("what can be told without the layers below, and what cannot") {
  if (!overlay_works()) return;
  struct row {
    const char* what;
    std::vector<entry> base, above;
    bool alone;
  };
  const row rows[] = {
      {"a directory on the way keeps what it had", {{"d/", '5', "", "", 02710, 7}}, {{"d/new", '0', "2"}}, true},
      {"a directory on the way that is not there is made", {}, {{"d/e/new", '0', "2"}}, true},
      {"a directory on the way is a symlink below", {{"d/", '5'}, {"l", '2', "", "d"}}, {{"l/new", '0', "2"}}, false},
      {"a directory on the way is a file below", {{"f", '0', "1"}}, {{"f/new", '0', "2"}}, false},
      {"through a symlink of its own", {{"d/", '5'}}, {{"l", '2', "", "d"}, {"l/new", '0', "2"}}, false},
      {"a hard link to a file below", {{"f", '0', "1"}}, {{"h", '1', "", "f"}}, false},
      {"a hard link to a file of its own", {{"f", '0', "1"}}, {{"f", '0', "2"}, {"h", '1', "", "f"}}, true},
      {"a hard link to what it deleted", {{"f", '0', "1"}}, {{".wh.f"}, {"h", '1', "", "f"}}, false},
      {"deleted, then brought", {{"f", '0', "1"}}, {{".wh.f"}, {"f", '0', "2"}}, true},
      {"brought, then deleted", {{"f", '0', "1"}}, {{"f", '0', "2"}, {".wh.f"}}, true},
      {"a directory deleted, then brought", {{"d/f", '0', "1"}}, {{".wh.d"}, {"d/", '5', "", "", 0700}}, true},
      {"a directory deleted, then on the way", {{"d/f", '0', "1"}}, {{".wh.d"}, {"d/new", '0', "2"}}, true},
      {"a file for a directory", {{"d/f", '0', "1"}}, {{"d", '0', "2"}}, true},
      {"a directory for a file", {{"f", '0', "1"}}, {{"f/", '5', "", "", 0755}}, true},
      {"a directory for a symlink", {{"d/f", '0'}, {"l", '2', "", "d"}}, {{"l/", '5', "", "", 0755}}, true},
      {"a file, then a directory, for a directory", {{"d/f", '0', "1"}}, {{"d", '0', "2"}, {"d/", '5'}}, true},
      {"emptied before it is filled", {{"d/f", '0'}}, {{"d/.wh..wh..opq"}, {"d/new", '0', "2"}}, true},
      {"emptied after it was filled", {{"d/f", '0'}}, {{"d/new", '0', "2"}, {"d/.wh..wh..opq"}}, true},
      {"emptied beside what is on the way", {{"d/e/f"}}, {{"d/e/new"}, {"d/.wh..wh..opq"}}, false},
      {"emptied, and it is not there", {}, {{"d/.wh..wh..opq"}}, true},
      {"emptied, and it is a file", {{"d", '0', "1"}}, {{"d/.wh..wh..opq"}}, false},
      {"the root emptied", {{"f", '0', "1"}}, {{".wh..wh..opq"}}, false},
      {"deletions of nothing", {{"d/", '5'}}, {{".wh.x"}, {"d/.wh.x"}, {"e/.wh.x"}, {"n/", '5'}, {"n/.wh.x"}}, true},
      {"a deletion below a deletion", {{"d/e/f", '0', "1"}}, {{"d/e/.wh.f"}, {".wh.d"}}, true},
      {"a deletion below what was deleted", {{"d/e/f", '0', "1"}}, {{".wh.d"}, {"d/e/.wh.f"}}, true},
  };
  for (const row& r : rows) {
    CAPTURE(r.what);
    stack seen, apart;
    std::vector<entry> base = r.base;
    base.insert(base.begin(), {"./", '5', "", "", 0755});
    for (stack* s : {&seen, &apart}) s->unpack(tar(base));
    CHECK(apart.unpack_alone(tar(r.above)) == r.alone);
    if (!r.alone) continue;
    seen.unpack(tar(r.above));
    CHECK(unlike(whole_tree::of(seen.view().get()), whole_tree::of(apart.view().get())) == "");
    // Nor do marks show where there is nothing to merge.
    const auto list = names(apart.view().get(), ".");
    CHECK(list == names(seen.view().get(), "."));
  }
}
