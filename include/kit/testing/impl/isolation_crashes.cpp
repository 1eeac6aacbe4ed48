// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/wait.h>

#include <thread>

#include "kit/testing/impl/isolation_fixture.hpp"

namespace kit::testing::detail {
namespace {

void a_life_leaves_nothing(isolation_fixture& f) {
  const auto descriptors = own_descriptors();
  container c;
  {
    specimen x(f);
    c = x.c;
    x.script("echo ready; while :; do sleep 0.05; done").create();
    traces t = traces_of(x.c);
    expect(t.mounts.empty(), "a mount of the container is visible on the host: {}",
           t.mounts.empty() ? "" : t.mounts.front());
    x.start();
    x.out.until("ready");
    x.exec("true");
    t = traces_of(x.c);
    expect(t.mounts.empty(), "a mount of the container is visible on the host: {}",
           t.mounts.empty() ? "" : t.mounts.front());
    f.driver().signal(x.c, SIGKILL, reach::init);
    x.wait();
    x.remove();
  }
  expect_no_traces(c, "a whole life");
  expect(own_descriptors() == descriptors, "descriptors are left open in the caller");
  expect(own_children().empty(), "a child is left: {}", own_children().empty() ? 0 : own_children().front());
}

/// Kills a process that runs `work` after each of several delays, and calls `after`.
template <class Work, class After>
void kill_at_many_instants(Work work, After after) {
  for (int step = 0; step < 24; ++step) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      try {
        work();
        ::pause();
      } catch (const std::exception&) {}
      ::_exit(0);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(150 * step));
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    after();
  }
}

void a_create_killed_anywhere_can_be_removed(isolation_fixture& f) {
  specimen x(f);
  x.script("while :; do sleep 1; done");
  kill_at_many_instants([&] { x.create(); },
                        [&] {
                          x.remove();  // with no pid: create never answered
                          end_own_children();
                          expect_no_traces(x.c, "a create that was killed, and remove");
                        });
}

void a_remove_killed_anywhere_can_be_repeated(isolation_fixture& f) {
  specimen x(f);
  x.script("sleep 100 & echo ready; while :; do sleep 1; done");
  x.create();
  x.start();
  x.out.until("ready");
  kill_at_many_instants([&] { x.remove(); }, [] {});
  x.remove();
  expect_no_traces(x.c, "removes that were killed, and one that was not");
}

void many_containers_live_at_once(isolation_fixture& f) {
  std::vector<std::string> problems(4);
  std::vector<std::thread> threads;
  for (auto& problem : problems)
    threads.emplace_back([&f, &problem] {
      try {
        for (int round = 0; round < 3; ++round) {
          specimen x(f);
          const ending e = x.script("cat /etc/mark; exit 9").run();
          expect(e.status == 9 && e.out == x.c.id.str(), "a container among others answers {} and \"{}\"", e.status,
                 e.out);
          x.remove();
          expect_no_traces(x.c, "a life among others");
        }
      } catch (const std::exception& e) {
        problem = e.what();
      }
    });
  for (auto& t : threads) t.join();
  for (const auto& problem : problems) expect(problem.empty(), "{}", problem);
}

void one_container_does_not_touch_another(isolation_fixture& f) {
  specimen a(f), b(f);
  for (specimen* x : {&a, &b}) {
    x->script("echo ready; while :; do echo tick; usleep 10000; done").create();
    x->start();
    x->out.until("ready");
  }
  f.driver().pause(a.c);
  b.out.forget();
  expect(b.out.until("tick").find("tick") != std::string::npos, "pause of one container stopped another");
  a.remove();
  expect(!has_ended(b.s.init.get()), "remove of one container ended another");
  b.out.forget();
  expect(b.out.until("tick").find("tick") != std::string::npos, "remove of one container stopped another");
}

}  // namespace

isolation_checks_part isolation_crash_checks() {
  static constexpr check<isolation_fixture> list[] = {
      {"a_life_leaves_nothing", "5 and the model: nothing is left, and no mount is seen on the host",
       a_life_leaves_nothing},
      {"a_create_killed_anywhere_can_be_removed",
       "the call may be killed at any instruction; remove then leaves nothing",
       a_create_killed_anywhere_can_be_removed},
      {"a_remove_killed_anywhere_can_be_repeated",
       "the call may be killed at any instruction; remove then leaves nothing",
       a_remove_killed_anywhere_can_be_repeated},
      {"many_containers_live_at_once", "calls on different containers may run at once", many_containers_live_at_once},
      {"one_container_does_not_touch_another", "calls on different containers may run at once",
       one_container_does_not_touch_another},
  };
  return list;
}

}  // namespace kit::testing::detail
