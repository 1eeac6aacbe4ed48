// SPDX-License-Identifier: Apache-2.0
#include "kit/system/namespace.hpp"

#include <catch2/catch.hpp>
#include <thread>

#include "kit/system/error.hpp"

using namespace kit;

TEST_CASE("a scope enters a namespace for this thread alone and comes back") {
  unique_fd home = open_namespace(0, namespace_kind::net);
  unique_fd made = make_network_namespace();
  CHECK_FALSE(same_namespace(home.get(), made.get()));
  CHECK(same_namespace(home.get(), open_namespace(0, namespace_kind::net).get()));
  {
    namespace_scope there(made.get(), namespace_kind::net);
    CHECK(same_namespace(made.get(), open_namespace(0, namespace_kind::net).get()));
    CHECK(same_namespace(home.get(), open_namespace(::getppid(), namespace_kind::net).get()));
    bool elsewhere = false;
    std::thread([&] { elsewhere = same_namespace(made.get(), open_namespace(0, namespace_kind::net).get()); }).join();
    CHECK(elsewhere);  // a thread is born where its maker is
  }
  CHECK(same_namespace(home.get(), open_namespace(0, namespace_kind::net).get()));
}

TEST_CASE("what is not a namespace of that kind is refused, at home") {
  unique_fd home = open_namespace(0, namespace_kind::net);
  unique_fd uts = open_namespace(0, namespace_kind::uts);
  CHECK_THROWS_AS(namespace_scope(uts.get(), namespace_kind::net), error);
  CHECK(same_namespace(home.get(), open_namespace(0, namespace_kind::net).get()));
  CHECK_THROWS_AS(open_namespace(0x7ffffff0, namespace_kind::net), error);
}
