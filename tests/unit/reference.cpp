// SPDX-License-Identifier: Apache-2.0
#include "kit/image/reference.hpp"

#include <catch2/catch.hpp>

#include "kit/system/error.hpp"

using kit::reference;

namespace {
const std::string hex_64(64, 'a');
const std::string digest = "sha256:" + hex_64;
}  // namespace

TEST_CASE("references as people write them, their full names, and the form that is kept") {
  struct row {
    std::string written, name, tag, digest, text;
  };
  const row rows[] = {
      {"debian", "docker.io/library/debian", "latest", "", "debian:latest"},
      {"debian:12", "docker.io/library/debian", "12", "", "debian:12"},
      {"docker.io/library/debian:12", "docker.io/library/debian", "12", "", "debian:12"},
      {"index.docker.io/debian", "docker.io/library/debian", "latest", "", "debian:latest"},
      {"library/debian", "docker.io/library/debian", "latest", "", "debian:latest"},
      {"user/app", "docker.io/user/app", "latest", "", "user/app:latest"},
      {"library/a/b", "docker.io/library/a/b", "latest", "", "library/a/b:latest"},
      {"docker.io/localhost/a", "docker.io/localhost/a", "latest", "", "docker.io/localhost/a:latest"},
      {"Docker.IO/debian", "docker.io/library/debian", "latest", "", "debian:latest"},
      {"localhost", "docker.io/library/localhost", "latest", "", "localhost:latest"},
      {"localhost/app", "localhost/app", "latest", "", "localhost/app:latest"},
      {"localhost:5000/app:v1", "localhost:5000/app", "v1", "", "localhost:5000/app:v1"},
      {"Registry.Example.org/a/b", "registry.example.org/a/b", "latest", "", "registry.example.org/a/b:latest"},
      {"[::1]:5000/app", "[::1]:5000/app", "latest", "", "[::1]:5000/app:latest"},
      {"quay.io/a/b__c/d---e/f.g:Tag_1.0-x", "quay.io/a/b__c/d---e/f.g", "Tag_1.0-x", "",
       "quay.io/a/b__c/d---e/f.g:Tag_1.0-x"},
      {"debian@" + digest, "docker.io/library/debian", "", digest, "debian@" + digest},
      {"debian:12@" + digest, "docker.io/library/debian", "12", digest, "debian:12@" + digest},
      {hex_64 + "b", "docker.io/library/" + hex_64 + "b", "latest", "", hex_64 + "b:latest"},
  };
  for (const row& r : rows) {
    CAPTURE(r.written);
    const reference parsed = reference::parse(r.written);
    CHECK(parsed.name == r.name);
    CHECK(parsed.tag == r.tag);
    CHECK(parsed.digest == r.digest);
    CHECK(parsed.text() == r.text);
    CHECK(reference::parse(parsed.text()) == parsed);
  }
}

TEST_CASE("what is no reference is refused") {
  const std::string rows[] = {
      "",
      ":",
      "@",
      "/",
      "a/",
      "/a",
      "a//b",
      "Debian",
      "a:",
      "a:.x",
      "a:-x",
      "a:" + std::string(129, 'x'),
      "a:b c",
      "a@sha256:abc",
      "a@md5:" + hex_64,
      "a@" + digest + "0",
      "a@sha256:" + std::string(64, 'A'),
      hex_64,
      "docker.io/" + hex_64,
      "a..b",
      "a._b",
      "a___b",
      "-a",
      "a-",
      ".a",
      "a b",
      "a\n",
      std::string("a\0b", 3),
      "\xff",
      "http://a.b/c",
      "a.b:x/c",
      "a.b:/c",
      "-a.b/c",
      "a..b/c",
      "[::1/c",
      "[]/c",
      "a.b/C",
      "a.b/" + std::string(252, 'x'),
  };
  for (const std::string& row : rows) {
    CAPTURE(row);
    try {
      reference::parse(row);
      FAIL_CHECK("it was taken");
    } catch (const kit::error& e) {
      CHECK(e.code() == kit::errc::invalid);
      CHECK(std::string(e.what()).rfind("invalid reference format", 0) == 0);
    }
  }
}
