// SPDX-License-Identifier: Apache-2.0
// What is and what is not an isolation driver: this file compiles or it does not.
#include <catch2/catch.hpp>

#include "drivers/isolation/native.hpp"
#include "kit/isolation/any_isolation.hpp"
#include "kit/isolation/concept.hpp"

namespace kit {
namespace {

/// The least there can be; each non-model below spoils one part of it.
struct least {
  std::string_view name() const { return "least"; }
  probe_report probe() const { return {}; }
  isolation_traits traits() { return {}; }
  started create(const container&, std::span<const mount>, const stdio&) { return {}; }
  void start(const container&) {}
  void signal(const container&, int, reach) {}
  void remove(const container&) {}
  started exec(const container&, std::string_view, const stdio&) { return {}; }
  void pause(const container&) {}
  void resume(const container&) {}
  void update(const container&, std::string_view) {}
  container_stats stats(const container&) { return {}; }
};
static_assert(isolation_driver<least>);
static_assert(!configurable_driver<least>, "it has no options and cannot be made from a configuration");
static_assert(!isolation_driver<int>);
static_assert(!isolation_driver<const least>, "a driver one cannot write with");

struct without_traits : least {
  void traits() {}
};
static_assert(!isolation_driver<without_traits>, "a driver tells its traits");
struct answers_a_pid : least {
  pid_t create(const container&, std::span<const mount>, const stdio&) { return 1; }
};
static_assert(!isolation_driver<answers_a_pid>, "a pid alone is no identity: create answers started");
struct edits_the_container : least {
  started create(container&, std::span<const mount>, const stdio&) { return {}; }
};
static_assert(!isolation_driver<edits_the_container>, "a driver does not change what it is given");
struct edits_mounts : least {
  started create(const container&, std::span<mount>, const stdio&) { return {}; }
};
static_assert(!isolation_driver<edits_mounts>, "nor the mounts");
struct remembers : least {
  void start() {}
};
static_assert(!isolation_driver<remembers>, "start names its container: the driver remembers nothing");
struct by_id : least {
  void remove(const container_id&) {}
};
static_assert(!isolation_driver<by_id>, "remove is given the container, not its id alone");
struct signals_all_or_none : least {
  void signal(const container&, int) {}
};
static_assert(!isolation_driver<signals_all_or_none>, "signal is told whom to reach");
struct exec_answers_nothing : least {
  void exec(const container&, std::string_view, const stdio&) {}
};
static_assert(!isolation_driver<exec_answers_nothing>, "whoever runs a process must be able to wait for it");
struct cannot_resume : least {
 private:
  void resume(const container&);
};
static_assert(!isolation_driver<cannot_resume>, "what can be paused can be resumed");
struct counts_nothing : least {
  bool stats(const container&) { return true; }
};
static_assert(!isolation_driver<counts_nothing>, "stats answers figures");

static_assert(isolation_driver<drivers::native> && configurable_driver<drivers::native>);
static_assert(isolation_driver<any_isolation>, "what erases drivers is a driver");
static_assert(!std::copy_constructible<started>, "descriptors have one owner");

}  // namespace
}  // namespace kit

TEST_CASE("models and non-models of isolation_driver are told apart by the compiler") { SUCCEED(); }
