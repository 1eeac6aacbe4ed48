// SPDX-License-Identifier: Apache-2.0
#include "kit/image/store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>

#include "kit/image/archive.hpp"
#include "kit/system/error.hpp"
#include "kit/system/nameless_file.hpp"
#include "scratch.hpp"

using namespace kit;
using testing::scratch;

namespace {

errc code_of(function_ref<void()> work) {
  try {
    work();
  } catch (const error& e) {
    return e.code();
  }
  return errc{};
}

// FIPS 180-2, appendix B.1.
const std::string abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const std::string nothing = "sha256:" + std::string(64, '0');

}  // namespace

TEST_CASE("blobs are stored under their digest") {
  scratch root;
  image_store store(root / "images");
  CHECK(store.blobs().empty());
  CHECK_FALSE(store.has_blob(abc));
  for (int repeat = 0; repeat < 2; ++repeat) {
    const descriptor d = store.put_blob("abc", "text");
    CHECK(d.digest == abc);
    CHECK(d.size == 3);
    CHECK(d.media_type == "text");
  }
  CHECK(store.read_blob(abc) == "abc");
  CHECK(store.blobs() == std::vector{abc});
  CHECK(read_file(root / "images/blobs/sha256/" + abc.substr(7)) == "abc");
  store.remove_blob(abc);
  store.remove_blob(abc);
  CHECK(code_of([&] { (void)store.read_blob(abc); }) == errc::not_found);
}

TEST_CASE("a stream is stored only if it is what was expected") {
  scratch root;
  image_store store(root.path());
  replace_file(root / "source", "abc");
  const auto source = [&] { return open_file(root / "source", O_RDONLY); };
  CHECK(code_of([&] { store.put_blob(source().get(), "text", nothing); }) == errc::conflict);
  CHECK(store.blobs().empty());
  CHECK(store.put_blob(source().get(), "text", abc).digest == abc);
  CHECK(store.put_blob(source().get(), "text").size == 3);
  CHECK(store.read_blob(abc) == "abc");
  CHECK(code_of([&] { store.put_blob(open_file(root.path(), O_RDONLY).get(), "text"); }) == errc::invalid);
}

TEST_CASE("a file has no name until it is whole") {
  scratch root;
  const std::string path = root / "file";
  const auto write = [&](const char* text, bool replace, bool finish = true) {
    nameless_file file(root.path(), 0640);
    write_all(file.get(), text, path);
    CHECK(names_in(root.path()).size() == (::access(path.c_str(), F_OK) == 0 ? 1 : 0));
    if (finish) replace ? file.replace(path) : file.publish(path);
  };
  write("never", false, false);
  CHECK(names_in(root.path()).empty());
  write("first", false);
  write("second", false);
  CHECK(read_file(path) == "first");
  write("third", true);
  CHECK(read_file(path) == "third");
  ::unlink(path.c_str());
  write("fourth", true);
  CHECK(read_file(path) == "fourth");
  CHECK(names_in(root.path()) == std::vector<std::string>{"file"});
  CHECK_THROWS_AS(nameless_file(root / "absent"), error);
}

TEST_CASE("what is no digest names no file") {
  image_store store("/nowhere");
  for (const char* bad : {"", "sha256:", "sha256:../../etc/passwd", "../x", "sha512:aa"})
    CHECK(code_of([&] { (void)store.blob_path(bad); }) == errc::invalid);
  CHECK(code_of([&] { (void)store.has_blob("sha256:" + std::string(64, 'A')); }) == errc::invalid);
}

TEST_CASE("a symlink in a blob's place is not followed") {
  scratch root;
  image_store store(root.path());
  store.put_blob("abc", "text");
  REQUIRE(::symlink("/etc/passwd", store.blob_path(nothing).c_str()) == 0);
  CHECK(code_of([&] { (void)store.read_blob(nothing); }) == errc::invalid);
}

TEST_CASE("index.json lists the images") {
  scratch root;
  image_store store(root.path());
  const descriptor d = store.put_blob("{}", media_type_manifest);
  store.write_index({{d, "debian:12"}, {d, ""}});
  const auto index = parse_index(read_file(root / "index.json"));
  REQUIRE(index.size() == 2);
  CHECK(index[0].reference == "debian:12");
  CHECK(index[0].manifest.digest == d.digest);
  CHECK(read_file(root / "oci-layout") == R"({"imageLayoutVersion":"1.0.0"})");
  store.write_index({});
  CHECK(parse_index(read_file(root / "index.json")).empty());
}

TEST_CASE("chain ids follow the specification") {
  CHECK(chain_ids({}).empty());
  const std::vector<std::string> chain = chain_ids({abc, nothing, abc});
  REQUIRE(chain.size() == 3);
  CHECK(chain[0] == abc);
  CHECK(chain[1] == sha256(abc + " " + nothing));
  CHECK(chain[2] == sha256(chain[1] + " " + abc));
}
