// SPDX-License-Identifier: Apache-2.0
#include "kit/system/library.hpp"

#include <catch2/catch.hpp>

#include "kit/system/error.hpp"

using namespace kit;

TEST_CASE("a function of a shared library is found and called") {
  library math("libm.so.6", "libc6");
  CHECK(math.function<double(double)>("floor")(1.5) == 1.0);
  library moved = std::move(math);
  CHECK(moved.function<double(double)>("ceil")(1.5) == 2.0);
}

TEST_CASE("an absent library or function is told with what to install") {
  try {
    library absent("libabsent.so.7", "libabsent7");
    FAIL("an absent library was loaded");
  } catch (const error& e) {
    CHECK(e.code() == errc::unsupported);
    CHECK(std::string(e.what()).find("libabsent.so.7") != std::string::npos);
    CHECK(std::string(e.what()).find("install the package libabsent7") != std::string::npos);
  }
  library math("libm.so.6", "libc6");
  CHECK_THROWS_AS(math.function<void()>("no_such_function"), error);
}
