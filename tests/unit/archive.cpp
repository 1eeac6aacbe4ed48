// SPDX-License-Identifier: Apache-2.0
#include "kit/image/archive.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <catch2/catch.hpp>
#include <cstring>

#include "kit/system/error.hpp"
#include "kit/system/tree.hpp"
#include "scratch.hpp"
#include "tar.hpp"

using namespace kit;
using namespace kit::testing;

namespace {

// ---- places ----------------------------------------------------------------------------------------

/// DIR/root to unpack into, and DIR/outside, which nothing may touch.
struct place {
  scratch directory;
  std::string root = directory / "root";
  std::string outside = directory / "outside";

  place() {
    make_directories(root);
    make_directories(outside);
    replace_file(outside + "/victim", "whole");
  }
  [[nodiscard]] unique_fd open() const { return open_file(root, O_RDONLY | O_DIRECTORY); }
  unpacked unpack(const std::string& bytes, const unpack_limits& limits = {}) const {
    const std::string blob = directory / "blob";
    replace_file(blob, bytes);
    return unpack_archive(open_file(blob, O_RDONLY).get(), open().get(), limits);
  }
  [[nodiscard]] std::string read(const std::string& name) const { return read_file(root + '/' + name); }
  [[nodiscard]] bool has(const std::string& name) const {
    struct stat st {};
    return ::lstat((root + '/' + name).c_str(), &st) == 0;
  }
  [[nodiscard]] struct stat status(const std::string& name) const {
    struct stat st {};
    REQUIRE(::lstat((root + '/' + name).c_str(), &st) == 0);
    return st;
  }
  [[nodiscard]] bool outside_is_whole() const {
    struct stat st {};
    const unique_fd dir = open_file(outside, O_RDONLY | O_DIRECTORY);
    int differences = 0;
    const scratch reference;
    replace_file(reference / "victim", "whole");
    compare_trees(open_file(reference.path(), O_RDONLY | O_DIRECTORY).get(), dir.get(),
                  [&](difference d, const std::string& path) {
                    if (!path.empty() && !(path == "victim" && d == difference::modified)) ++differences;
                  });
    return differences == 0 && ::stat((outside + "/victim").c_str(), &st) == 0 && st.st_nlink == 1 &&
           read_file(outside + "/victim") == "whole";
  }
};

std::vector<std::string> differences(const std::string& before, const std::string& after) {
  std::vector<std::string> list;
  compare_trees(open_file(before, O_RDONLY | O_DIRECTORY).get(), open_file(after, O_RDONLY | O_DIRECTORY).get(),
                [&](difference, const std::string& path) { list.push_back(path); });
  return list;
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

}  // namespace

// ---- reading ---------------------------------------------------------------------------------------

TEST_CASE("the diff id is that of the uncompressed bytes, padding included, however they came") {
  // More zeros than a reader of archives needs to see.
  const std::string bytes = tar({{"a", '0', std::string(100'000, 'a')}}) + std::string(9'000, '\0');
  const std::pair<const char*, std::string> rows[] = {
      {"plain", bytes},
      {"gzip", compressed(bytes, ::archive_write_add_filter_gzip)},
      {"zstd", compressed(bytes, ::archive_write_add_filter_zstd)},
      {"gzip in two members", compressed(bytes.substr(0, 700), ::archive_write_add_filter_gzip) +
                                  compressed(bytes.substr(700), ::archive_write_add_filter_gzip)},
  };
  for (const auto& [what, blob] : rows) {
    CAPTURE(what);
    place p;
    const unpacked u = p.unpack(blob);
    CHECK(u.diff_id == sha256(bytes));
    CHECK(u.digest == sha256(blob));
    CHECK(u.bytes_read == blob.size());
    CHECK(u.entries == 1);
    CHECK(p.read("a") == std::string(100'000, 'a'));
  }
}

TEST_CASE("owner, mode, time, type and links are kept") {
  place p;
  std::vector<entry> entries = {{"./dir/", '5', "", "", 01555, 7},
                                {"dir/suid", '0', "x", "", 04755, 1000},
                                {"dir/hard", '1', "", "dir/suid"},
                                {"abs", '1', "", "/dir/suid"},
                                {"soft", '2', "", "/etc/nothing", 0777, 5},
                                {"null", '3', "", "", 0666, 0, 1, 3},
                                {"fifo", '6', "", "", 0622}};
  p.unpack(tar(entries));
  CHECK((p.status("dir").st_mode & 07777) == 01555);
  CHECK(p.status("dir").st_uid == 7);
  CHECK(p.status("dir").st_mtime == 1'000'000'000);
  CHECK((p.status("dir/suid").st_mode & 07777) == 04755);
  CHECK(p.status("dir/suid").st_uid == 1000);
  CHECK(p.status("dir/suid").st_mtime == 1'000'000'000);
  CHECK(p.status("dir/hard").st_ino == p.status("dir/suid").st_ino);
  CHECK(p.status("abs").st_nlink == 3);
  CHECK(S_ISLNK(p.status("soft").st_mode));
  CHECK(p.status("soft").st_uid == 5);
  CHECK(S_ISCHR(p.status("null").st_mode));
  CHECK(p.status("null").st_rdev == makedev(1, 3));
  CHECK((p.status("null").st_mode & 07777) == 0666);
  CHECK(S_ISFIFO(p.status("fifo").st_mode));
  // Again, over itself.
  p.unpack(tar(entries));
  CHECK(p.status("abs").st_nlink == 3);
}

TEST_CASE("whiteouts delete what lies below, not what the same archive brings") {
  place p;
  p.unpack(tar({{"a", '0', "1"},
                {"d/", '5', "", "", 0755},
                {"d/x", '0', "1"},
                {"d/y", '0', "1"},
                {"d/e/z", '0', "1"},
                {"gone/deep/er", '0', "1"},
                {"l", '2', "", "d"}}));
  p.unpack(tar({{".wh.a"},
                {".wh.never"},
                {"absent/.wh.x"},
                {".wh.gone"},
                {"d/y", '0', "2"},
                {"d/e/new", '0', "2"},
                {"d/.wh..wh..opq"},
                {"b", '0', "2"},
                {".wh.b"}}));
  CHECK_FALSE(p.has("a"));
  CHECK_FALSE(p.has("gone"));
  CHECK_FALSE(p.has("absent"));
  CHECK_FALSE(p.has("d/x"));
  CHECK(p.read("d/y") == "2");
  CHECK_FALSE(p.has("d/e/z"));
  CHECK(p.read("d/e/new") == "2");
  CHECK(p.read("b") == "2");
  CHECK_FALSE(p.has(".wh.a"));
  CHECK(p.has("l"));
}

TEST_CASE("an entry replaces what is in its way, whatever it is") {
  place p;
  p.unpack(tar({{"file", '0', "1"}, {"dir/below", '0', "1"}, {"link", '2', "", "file"}, {"todir", '2', "", "dir"}}));
  p.unpack(tar({{"file/", '5', "", "", 0755},
                {"dir", '0', "2"},
                {"link", '0', "2"},
                {"todir/", '5', "", "", 0755},
                {"todir/in", '0', "2"}}));
  CHECK(S_ISDIR(p.status("file").st_mode));
  CHECK(p.read("dir") == "2");
  CHECK(p.read("link") == "2");
  CHECK(S_ISDIR(p.status("todir").st_mode));
  CHECK(p.read("todir/in") == "2");
}

TEST_CASE("a parent that is a symlink is followed within the root") {
  place p;
  p.unpack(tar({{"usr/lib/", '5', "", "", 0755},
                {"lib", '2', "", "/usr/lib"},
                {"up", '2', "", "../../../../usr"},
                {"lib/a", '0', "a"},
                {"up/lib/b", '0', "b"},
                {"hard", '1', "", "lib/a"}}));
  CHECK(p.read("usr/lib/a") == "a");
  CHECK(p.read("usr/lib/b") == "b");
  CHECK(p.status("hard").st_ino == p.status("usr/lib/a").st_ino);
}

TEST_CASE("names that are not UTF-8, and long ones, survive") {
  const std::string long_name = std::string(200, 'n') + "/" + std::string(250, 'm');
  for (const std::string& name :
       {std::string("latin-\xe9\xff"), std::string("\xc3\xa9t\xc3\xa9"), long_name, "x/" + std::string(120, '\xe9')}) {
    CAPTURE(name);
    place p;
    p.unpack(tar({{name, '0', "1"}}));
    CHECK(p.read(name) == "1");
    scratch s;
    {
      const unique_fd out = open_file(s / "tar", O_WRONLY | O_CREAT, 0600);
      pack_archive(p.open().get(), out.get());
    }
    place q;
    q.unpack(read_file(s / "tar"));
    CHECK(q.read(name) == "1");
  }
}

// ---- hostile archives ------------------------------------------------------------------------------

TEST_CASE("hostile archives are refused or contained, and touch nothing outside") {
  const auto deep = [](std::size_t size) {
    std::string path;
    while (path.size() < size) path += "aaaaaaa/";
    return path + "x";
  };
  const std::string outside = "OUTSIDE";  // replaced by the directory beside the root
  struct row {
    const char* what;
    std::vector<entry> entries;
    bool refused;
  };
  const row rows[] = {
      {"dot dot", {{"../outside/new", '0', "x"}}, true},
      {"dot dot within", {{"a/../../outside/new", '0', "x"}}, true},
      {"dot dot at the end", {{"a/..", '5'}}, true},
      {"absolute name", {{"/OUTSIDE/victim", '0', "x"}}, false},
      {"symlink out, then through it", {{"l", '2', "", "OUTSIDE"}, {"l/victim", '0', "x"}}, true},
      {"relative symlink out, then through it", {{"l", '2', "", "../outside"}, {"l/victim", '0', "x"}}, true},
      {"chain of symlinks",
       {{"a", '2', "", "b"}, {"b", '2', "", "/c/../../.."}, {"c/", '5'}, {"a/OUTSIDE/victim", '0', "x"}},
       false},
      {"symlink as last component", {{"l", '2', "", "OUTSIDE/victim"}, {"l", '0', "x"}}, false},
      {"directory over a symlink out", {{"l", '2', "", "OUTSIDE"}, {"l/", '5', "", "", 0}, {"l/new", '0', "x"}}, false},
      {"parent swapped for a symlink after use",
       {{"d/", '5', "", "", 0755}, {"d/a", '0', "x"}, {"d", '2', "", "OUTSIDE"}, {"d/victim", '0', "x"}},
       true},
      {"hard link out", {{"h", '1', "", "../outside/victim"}}, true},
      {"absolute hard link out", {{"h", '1', "", "OUTSIDE/victim"}}, true},
      {"hard link through a symlink out", {{"l", '2', "", "OUTSIDE"}, {"h", '1', "", "l/victim"}}, true},
      {"hard link to a symlink out, then written",
       {{"l", '2', "", "OUTSIDE/victim"}, {"h", '1', "", "l"}, {"h", '0', "x"}},
       false},
      {"hard link to a directory", {{"d/", '5'}, {"h", '1', "", "d"}}, true},
      {"hard link to the root", {{"h", '1', "", "/"}}, true},
      {"hard link to itself", {{"h", '1', "", "h"}}, true},
      {"symlink loop as parent", {{"l", '2', "", "l"}, {"l/x", '0', "x"}}, true},
      {"file as parent", {{"f", '0', "x"}, {"f/x", '0', "x"}}, true},
      {"whiteout of dot dot", {{".wh..."}}, true},
      {"whiteout of dot dot in a directory", {{"d/", '5'}, {"d/.wh..."}}, true},
      {"whiteout of dot", {{".wh.."}}, true},
      {"whiteout of nothing", {{".wh."}}, true},
      {"whiteout of a mark", {{".wh..wh.plnk"}}, true},
      {"whiteout as a directory", {{".wh.d/x", '0', "x"}}, true},
      {"whiteout through a symlink out", {{"l", '2', "", "OUTSIDE"}, {"l/.wh.victim"}}, false},
      {"whiteout of a symlink out", {{"l", '2', "", "OUTSIDE"}, {"x/", '5'}, {"l/.wh..wh..opq"}}, false},
      {"overlayfs's own whiteout", {{"w", '3'}}, true},
      {"through /proc", {{"l", '2', "", "/proc/self/root"}, {"l/OUTSIDE/victim", '0', "x"}}, true},
      {"a name of 4096 bytes", {{deep(4088), '0', "x"}}, false},
      {"a name of 5000 bytes", {{deep(5000), '0', "x"}}, true},
      {"a component of 256 bytes", {{std::string(256, 'n'), '0', "x"}}, true},
      {"a symlink target of 5000 bytes", {{"l", '2', "", std::string(5000, 't')}}, true},
      {"no name", {{"", '0', "x"}}, true},
      {"the root as a file", {{".", '0', ""}}, true},
      {"the root as a symlink", {{".", '2', "", "OUTSIDE"}}, true},
      {"an owner of -1", {{"f", '0', "x", "", 0644, 07777777}}, false},
  };
  for (const row& r : rows) {
    CAPTURE(r.what);
    place p;
    std::vector<entry> entries = r.entries;
    for (entry& e : entries)
      for (std::string* text : {&e.name, &e.link})
        if (const auto at = text->find(outside); at != std::string::npos) text->replace(at, outside.size(), p.outside);
    const errc answer = code_of([&] { p.unpack(tar(entries)); });
    CHECK((answer == errc{}) == !r.refused);
    if (r.refused) CHECK(answer == errc::invalid);
    CHECK(p.outside_is_whole());
    for (const whiteouts how : {whiteouts::overlay, whiteouts::aufs}) {
      make_directories(p.directory / "alone");
      make_directories(p.directory / "below");
      replace_file(p.directory / "blob", tar(entries));
      bool done = false;
      const errc alone_answer = code_of([&] {
        archive_unpacked_alone alone(open_directory(p.directory / "alone").get(), how);
        done = alone.unpack(open_file(p.directory / "blob", O_RDONLY).get()) &&
               alone.complete(open_directory(p.directory / "below").get());
      });
      CHECK((alone_answer == errc{} || alone_answer == errc::invalid));
      CHECK_FALSE((done && r.refused));
      CHECK(p.outside_is_whole());
      remove_tree(p.directory / "alone");
    }
  }
}

TEST_CASE("damaged archives are refused") {
  const std::string good = tar({{"a", '0', std::string(5'000, 'a')}, {"b", '0', "b"}});
  const std::string gzip = compressed(good, ::archive_write_add_filter_gzip);
  const std::string zstd = compressed(good, ::archive_write_add_filter_zstd);
  std::string checksum = good;
  checksum[150] ^= 1;
  std::string later = good;
  later[512 + 5120 + 3] ^= 1;
  std::string corrupt = gzip;
  corrupt[gzip.size() / 2] = static_cast<char>(corrupt[gzip.size() / 2] ^ 0x55);
  const std::pair<const char*, std::string> rows[] = {
      {"nothing", ""},
      {"noise", std::string(2'000, 'x')},
      {"half a header", good.substr(0, 300)},
      {"cut in content", good.substr(0, 3'000)},
      {"cut in padding", good.substr(0, 512 + 5'050)},
      {"cut between entries", good.substr(0, 512 + 5'120)},
      {"no end marker", good.substr(0, good.size() - 1024)},
      {"half an end marker block", good.substr(0, good.size() - 1024 + 100)},
      {"checksum", checksum},
      {"checksum of the second", later},
      {"gzip cut", gzip.substr(0, gzip.size() / 2)},
      {"gzip trailer cut", gzip.substr(0, gzip.size() - 4)},
      {"gzip corrupt", corrupt},
      {"zstd cut", zstd.substr(0, zstd.size() - 3)},
  };
  for (const auto& [what, bytes] : rows) {
    CAPTURE(what);
    place p;
    CHECK(code_of([&, &blob = bytes] { p.unpack(blob); }) == errc::invalid);
  }
}

TEST_CASE("bombs meet the limits") {
  place p;
  unpack_limits limits;
  limits.entries = 2;
  CHECK(code_of([&] { p.unpack(tar({{"a"}, {"b"}, {"c"}}), limits); }) == errc::no_space);
  limits = {};
  limits.bytes = 10;
  CHECK(code_of([&] { p.unpack(tar({{"a", '0', "12345"}, {"b", '0', "123456"}}), limits); }) == errc::no_space);
  // A file that claims eight exbibytes is refused before it is made.
  std::string huge = header({"huge"}, 0);
  huge.replace(124, 12, std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12));
  unsigned sum = 8 * ' ';
  for (std::size_t i = 0; i < 512; ++i)
    if (i < 148 || i >= 156) sum += static_cast<unsigned char>(huge[i]);
  huge.replace(148, 8, fmt::format("{:06o}", sum) + '\0' + ' ');
  CHECK_FALSE(code_of([&] { p.unpack(huge + end_marker); }) == errc{});
  CHECK_FALSE(p.has("huge"));
}

TEST_CASE("a file of ten gigabytes of nothing costs nothing") {
  // As GNU tar writes a sparse file: the map and the real size stand in a pax header.
  const std::string records = pax_record("GNU.sparse.major", "1") + pax_record("GNU.sparse.minor", "0") +
                              pax_record("GNU.sparse.name", "bomb") +
                              pax_record("GNU.sparse.realsize", std::to_string(10ull << 30));
  std::string map = "1\n" + std::to_string((10ull << 30) - 1) + "\n1\n";
  map.resize(512, '\0');
  const std::string bytes = header({"pax", 'x'}, records.size()) + padded(records) +
                            bytes_of({"GNUSparseFile.0/bomb", '0', map + "x"}) + end_marker;
  place p;
  p.unpack(bytes);
  CHECK(p.status("bomb").st_size == 10ll << 30);
  CHECK(p.status("bomb").st_blocks * 512 < 1 << 20);
  unpack_limits limits;
  limits.bytes = 1ull << 30;
  place q;
  CHECK(code_of([&] { q.unpack(bytes, limits); }) == errc::no_space);
  CHECK_FALSE(q.has("bomb"));
}

TEST_CASE("a million entries are stopped at the limit, before they are all read") {
  std::string bytes;
  for (int i = 0; i < 1'000'000 / 500; ++i) bytes += header({std::to_string(i)}, 0);
  std::string all;
  for (int i = 0; i < 500; ++i) all += bytes;
  unpack_limits limits;
  limits.entries = 1'000;
  place p;
  CHECK(code_of([&] { p.unpack(compressed(all + end_marker, ::archive_write_add_filter_zstd), limits); }) ==
        errc::no_space);
  CHECK_FALSE(p.has("1001"));
}

TEST_CASE("zstd:chunked is zstd: its table of contents, in frames to be skipped, is skipped") {
  const std::string plain = tar({{"a", '0', "1"}});
  const std::string table = "a table of contents that kit does not read";
  std::string skippable("\x50\x2a\x4d\x18", 4);
  for (int byte = 0; byte < 4; ++byte) skippable += static_cast<char>(table.size() >> (8 * byte));
  skippable += table;
  const std::string half = compressed(plain.substr(0, 700), ::archive_write_add_filter_zstd);
  const std::string rest = compressed(plain.substr(700), ::archive_write_add_filter_zstd);
  for (const std::string& bytes : {half + rest + skippable + skippable, half + skippable + rest}) {
    place p;
    CHECK(p.unpack(bytes).diff_id == sha256(plain));
    CHECK(p.read("a") == "1");
  }
}

TEST_CASE("the digests of an archive are told without unpacking it") {
  const std::string plain = tar({{"a", '0', "1"}});
  const std::string packed = compressed(plain, ::archive_write_add_filter_gzip);
  scratch s;
  replace_file(s / "packed", packed);
  const unpacked seen = digest_archive(open_file(s / "packed", O_RDONLY).get());
  CHECK(seen.diff_id == sha256(plain));
  CHECK(seen.digest == sha256(packed));
}

TEST_CASE("a stream that expands without end is stopped by its ratio") {
  // Behind the end marker, where only the digest looks: frames of zstd that each stand for 64 MiB of zeros.
  const std::string frame = compressed(std::string(64 << 20, '\0'), ::archive_write_add_filter_zstd);
  std::string bomb = compressed(end_marker, ::archive_write_add_filter_zstd);
  for (int i = 0; i < 40; ++i) bomb += frame;
  place p;
  CHECK(code_of([&] { p.unpack(bomb); }) == errc::no_space);
}

// ---- writing ---------------------------------------------------------------------------------------

namespace {

/// One of everything that an archive can hold.
void furnish(const std::string& root) {
  make_directories(root + "/dir/sub");
  replace_file(root + "/dir/file", "content");
  replace_file(root + "/dir/empty", "");
  REQUIRE(::chmod((root + "/dir/file").c_str(), 06755) == 0);
  REQUIRE(::chown((root + "/dir/empty").c_str(), 3'000'000, 70'000) == 0);
  REQUIRE(::link((root + "/dir/file").c_str(), (root + "/a-hard").c_str()) == 0);
  REQUIRE(::symlink("../nowhere", (root + "/soft").c_str()) == 0);
  REQUIRE(::mknod((root + "/null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0);
  REQUIRE(::mkfifo((root + "/fifo").c_str(), 0600) == 0);
  REQUIRE(::chmod((root + "/dir/sub").c_str(), 01777) == 0);
  // cap_net_raw=ep, revision 2.
  const unsigned char capability[20] = {1, 0, 0, 2, 0, 0x20};
  const unique_fd capable = open_file(root + "/capable", O_WRONLY | O_CREAT, 0755);
  REQUIRE(::fsetxattr(capable.get(), "security.capability", capability, sizeof capability, 0) == 0);
  REQUIRE(::lsetxattr((root + "/dir").c_str(), "trusted.kit", "a\0b", 3, 0) == 0);
  const unique_fd sparse = open_file(root + "/sparse", O_WRONLY | O_CREAT, 0644);
  REQUIRE(::ftruncate(sparse.get(), 64 << 20) == 0);
  REQUIRE(::pwrite(sparse.get(), "middle", 6, 32 << 20) == 6);
  const unique_fd holes = open_file(root + "/holes", O_WRONLY | O_CREAT, 0644);
  REQUIRE(::ftruncate(holes.get(), 10'000'000) == 0);
  const timespec times[2] = {{1, 0}, {1'234'567'890, 123'456'789}};
  for (const char* name : {"/dir/sub", "/dir/file", "/soft", "/dir", ""})
    REQUIRE(::utimensat(AT_FDCWD, (root + name).c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

packed pack_to(const std::string& root, const std::string& file) {
  const unique_fd out = open_file(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  return pack_archive(open_file(root, O_RDONLY | O_DIRECTORY).get(), out.get());
}

}  // namespace

TEST_CASE("a tree survives the way through an archive, and gives the same bytes again") {
  place p, q;
  furnish(p.root);
  scratch s;
  const packed first = pack_to(p.root, s / "1");
  const std::string bytes = read_file(s / "1");
  CHECK(first.diff_id == sha256(bytes));
  CHECK(first.bytes == bytes.size());
  CHECK(bytes.size() < 100'000);  // holes are not written

  CHECK(q.unpack(bytes).diff_id == first.diff_id);
  CHECK(differences(p.root, q.root).empty());
  CHECK(q.status("a-hard").st_ino == q.status("dir/file").st_ino);
  CHECK(q.status("sparse").st_blocks * 512 < 1 << 20);
  CHECK(q.status("holes").st_blocks == 0);
  CHECK(q.status("dir").st_mtim.tv_nsec == 123'456'789);
  CHECK(q.status("").st_mtime == 1'234'567'890);

  CHECK(pack_to(p.root, s / "2").diff_id == first.diff_id);
  CHECK(pack_to(q.root, s / "3").diff_id == first.diff_id);
}

TEST_CASE("small holes are written as zeros, for those who cannot read a map") {
  const auto sparse_mark = [](off_t size, const std::vector<off_t>& data) {
    place p;
    const unique_fd file = open_file(p.root + "/file", O_WRONLY | O_CREAT, 0644);
    REQUIRE(::ftruncate(file.get(), size) == 0);
    for (const off_t at : data) REQUIRE(::pwrite(file.get(), "data", 4, at) == 4);
    scratch s;
    pack_to(p.root, s / "tar");
    const std::string bytes = read_file(s / "tar");
    place q;
    q.unpack(bytes);
    CHECK(differences(p.root, q.root).empty());
    return bytes.find("GNU.sparse") != std::string::npos;
  };
  constexpr off_t mib = 1 << 20;
  CHECK_FALSE(sparse_mark(mib / 2, {}));
  CHECK_FALSE(sparse_mark(mib, {mib / 2}));
  CHECK_FALSE(sparse_mark(3 * mib, {mib / 2, mib, 2 * mib - 4, 5 * mib / 2}));
  CHECK(sparse_mark(2 * mib, {}));
  CHECK(sparse_mark(4 * mib, {0}));
  CHECK(sparse_mark(4 * mib, {4 * mib - 4}));
  CHECK(sparse_mark(8 * mib, {mib / 2, 6 * mib}));
}

TEST_CASE("changes make a layer that turns the old tree into the new one") {
  place before, after;
  furnish(before.root);
  make_directories(before.root + "/old/tree");
  replace_file(before.root + "/old/tree/x", "x");
  replace_file(before.root + "/turns", "file");
  scratch s;
  pack_to(before.root, s / "base");
  after.unpack(read_file(s / "base"));

  remove_tree(after.root + "/old");
  remove_tree(after.root + "/turns");
  make_directories(after.root + "/turns/to");
  replace_file(after.root + "/turns/to/directory", "1");
  remove_tree(after.root + "/dir/empty");
  replace_file(after.root + "/dir/sub/new", "1");
  REQUIRE(::chmod((after.root + "/capable").c_str(), 0700) == 0);

  std::vector<change> changes;
  compare_trees(before.open().get(), after.open().get(), [&](difference what, const std::string& path) {
    changes.push_back({static_cast<change::kind>(what), path});
  });
  const auto layer = [&](const std::string& file) {
    const unique_fd out = open_file(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    return pack_changes(after.open().get(), changes, out.get());
  };
  const packed first = layer(s / "layer");
  std::reverse(changes.begin(), changes.end());
  CHECK(layer(s / "again").diff_id == first.diff_id);

  // Alone, as other tools unpack it: parents keep their modes, deletions are whiteouts.
  place alone;
  const std::string bytes = read_file(s / "layer");
  alone.unpack(bytes);
  CHECK((alone.status("dir/sub").st_mode & 07777) == 01777);
  CHECK(alone.status("").st_mtime == after.status("").st_mtime);
  CHECK(bytes.find("dir/.wh.empty") != std::string::npos);
  CHECK_FALSE(alone.has("dir/file"));

  before.unpack(bytes);
  CHECK(differences(after.root, before.root).empty());
}

TEST_CASE("a directory of a lower layer keeps no attribute that its entry does not have") {
  place before, after;
  make_directories(before.root + "/dir");
  REQUIRE(::lsetxattr((before.root + "/dir").c_str(), "trusted.old", "1", 1, 0) == 0);
  REQUIRE(::lsetxattr(before.root.c_str(), "trusted.old", "1", 1, 0) == 0);
  make_directories(after.root + "/dir");
  REQUIRE(::lsetxattr((after.root + "/dir").c_str(), "trusted.new", "1", 1, 0) == 0);
  scratch s;
  {
    const unique_fd out = open_file(s / "tar", O_WRONLY | O_CREAT, 0600);
    pack_changes(after.open().get(), {{change::kind::modified, "dir"}, {change::kind::modified, ""}}, out.get());
  }
  before.unpack(read_file(s / "tar"));
  CHECK(differences(after.root, before.root).empty());
}

TEST_CASE("a directory's default ACL is not inherited by what is unpacked into it") {
  // Version 2: user::rwx user:7:rwx group::r-x mask::rwx other::---
  const auto acl = [] {
    std::string bytes("\2\0\0\0", 4);
    const auto add = [&](int tag, int permissions, int id) {
      for (const int part : {tag, permissions}) bytes += {static_cast<char>(part), '\0'};
      for (int byte = 0; byte < 4; ++byte) bytes += static_cast<char>(id >> (8 * byte));
    };
    add(1, 7, -1), add(2, 7, 7), add(4, 5, -1), add(16, 7, -1), add(32, 0, -1);
    return bytes;
  }();
  place p, q;
  make_directories(p.root + "/dir");
  const int set = ::lsetxattr((p.root + "/dir").c_str(), "system.posix_acl_default", acl.data(), acl.size(), 0);
  if (set != 0 && errno == EOPNOTSUPP) return;  // this file system keeps no ACLs
  REQUIRE(set == 0);
  for (const char* name : {"/dir/file", "/dir/sub"}) {
    const std::string path = p.root + name;
    if (path.ends_with("file"))
      replace_file(path, "x");
    else
      make_directories(path);
    ::lremovexattr(path.c_str(), "system.posix_acl_access");
    ::lremovexattr(path.c_str(), "system.posix_acl_default");
  }
  REQUIRE(::mkfifo((p.root + "/dir/fifo").c_str(), 0600) == 0);
  ::lremovexattr((p.root + "/dir/fifo").c_str(), "system.posix_acl_access");
  scratch s;
  pack_to(p.root, s / "tar");
  q.unpack(read_file(s / "tar"));
  CHECK(differences(p.root, q.root).empty());
}

TEST_CASE("no changes make an archive without entries") {
  place p;
  furnish(p.root);
  scratch s;
  {
    const unique_fd out = open_file(s / "tar", O_WRONLY | O_CREAT, 0600);
    pack_changes(p.open().get(), {}, out.get());
  }
  place q;
  CHECK(q.unpack(read_file(s / "tar")).entries == 0);
  CHECK(read_file(s / "tar") == end_marker);
}

TEST_CASE("a full disk or a closed pipe is told") {
  place p;
  replace_file(p.root + "/a", std::string(1'000'000, 'a'));
  const unique_fd full = open_file("/dev/full", O_WRONLY);
  CHECK(code_of([&] { pack_archive(p.open().get(), full.get()); }) == errc::no_space);
}

TEST_CASE("unpacking can be cancelled") {
  struct cancelled_call : call_context {
    [[nodiscard]] bool cancelled() const noexcept override { return true; }
  } call;
  const call_scope scope(call);
  place p;
  CHECK(code_of([&] { p.unpack(tar({{"a"}})); }) == errc::cancelled);
}
