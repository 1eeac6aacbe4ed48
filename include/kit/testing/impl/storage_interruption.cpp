// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <utility>

#include "kit/system/error.hpp"
#include "kit/testing/impl/storage_checks.hpp"

namespace kit::testing::detail {
namespace {

using state = layer_state::state;
using clock = std::chrono::steady_clock;

/// A forked process that runs `work` with a driver object of its own, and ends without unwinding ours.
class worker {
 public:
  static constexpr auto never = clock::duration::max();

  /// `killed_after`: the kernel kills it that long after its work began, wherever it is then.
  worker(storage_fixture& f, function_ref<void(storage_subject&)> work, clock::duration killed_after = never) {
    auto [read_end, write_end] = make_pipe();
    pid_ = ::fork();
    if (pid_ < 0) fail_errno(errno, "fork");
    if (pid_ == 0) {
      int status = 1;
      std::string said;
      try {
        const auto driver = f.another();
        if (killed_after != never) arm(killed_after);
        const auto begin = clock::now();
        work(*driver);
        said = std::to_string((clock::now() - begin).count());
        status = 0;
      } catch (const std::exception& e) {
        said = e.what();
      } catch (...) {}
      (void)!::write(write_end.get(), said.data(), said.size());
      ::_exit(status);
    }
    from_ = std::move(read_end);
  }
  worker(const worker&) = delete;
  worker& operator=(const worker&) = delete;
  ~worker() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    wait();
  }

  /// Answers whether it finished its work before it was killed; fails the check if the work failed.
  bool finished() {
    const std::string said = read_all(from_.get(), "pipe");
    const int status = wait();
    expect(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL), "in a process of its own: {}",
           said.empty() ? "it died" : said);
    return status == 0;
  }
  /// How long its work took; fails the check if it failed.
  clock::duration join() {
    const std::string said = read_all(from_.get(), "pipe");
    expect(wait() == 0, "in a process of its own: {}", said.empty() ? "it died" : said);
    return clock::duration(std::stoll(said));
  }

 private:
  /// A timer of its own rather than our kill(2): on a busy host we might wake long after the work is done.
  static void arm(clock::duration after) {
    sigevent kill_me{};
    kill_me.sigev_notify = SIGEV_SIGNAL;
    kill_me.sigev_signo = SIGKILL;
    timer_t timer{};
    itimerspec when{};
    when.it_value.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(after).count();
    when.it_value.tv_nsec = (after % std::chrono::seconds(1)).count() + 1;  // 0 would disarm it
    if (::timer_create(CLOCK_MONOTONIC, &kill_me, &timer) != 0 || ::timer_settime(timer, 0, &when, nullptr) != 0)
      fail_errno(errno, "set a timer");
  }
  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
    pid_ = -1;
    return status;
  }
  pid_t pid_ = -1;
  unique_fd from_;
};

constexpr auto many_files = [](int root) {
  for (int d = 0; d < 10; ++d) {
    put_directory(root, fmt::format("d{}", d));
    for (int i = 0; i < 20; ++i) put_file(root, fmt::format("d{}/file{}", d, i), "content");
  }
};

/// The moments at which a call is killed: spread over all of its duration and a little beyond.
constexpr int moments = 16;
clock::duration moment(clock::duration whole, int i) { return whole * 5 / 4 * i / moments; }

/// Creates l in a process killed `after` it began. Answers whether create had returned by then.
bool create_killed(storage_fixture& f, const stacked_layer& l, clock::duration after) {
  auto create = [&](storage_subject& d) { d.create(l); };
  return worker(f, create, after).finished();
}

void expect_not_handed_out(storage_fixture& f, const stacked_layer& l) {
  const auto driver = f.another();
  for (access a : {access::read_write, access::read_only, access::live})
    expect_error(errc::not_found, "mounts of a partial layer", [&] { driver->mounts(l, a); });
  expect_error(errc::not_found, "freeze of a partial layer", [&] { driver->freeze(l.id); });
  expect_error(errc::not_found, "usage of a partial layer", [&] { driver->usage(l); });
  const stacked_layer child = f.named_above(l);
  expect_error(errc::not_found, "create over a partial parent", [&] { driver->create(child); });
}

void expect_reads_as(storage_fixture& f, const stacked_layer& l, const tree_snapshot& expected, const char* when) {
  const std::string difference = first_difference(expected, f.read(l));
  expect(difference.empty(), "{}: {}", when, difference);
}

/// Trash may be deleted off the critical path, and what a crash left of it by layers().
void expect_footprint(storage_fixture& f, std::size_t wanted, const char* when) {
  for (int i = 0; i < 200 && f.footprint() != wanted; ++i) {
    f.layers();
    ::usleep(10'000);
  }
  expect(f.footprint() == wanted, "{} the driver's directory holds {} entries, not {}", when, f.footprint(), wanted);
}

struct interruption {
  explicit interruption(storage_fixture& f) : parent(f.frozen_base(many_files)), expected(f.read(parent)) {
    for (int i = 0; i < 2; ++i) {
      const stacked_layer l = f.named_above(parent);
      create_time = std::max(create_time, worker(f, [&](storage_subject& d) { d.create(l); }).join());
      remove_time = std::max(remove_time, worker(f, [&](storage_subject& d) { d.remove(l.id); }).join());
    }
    for (std::size_t before = 0;;) {  // the trash of these is still going, perhaps
      f.layers();
      footprint = f.footprint();
      if (footprint == std::exchange(before, footprint)) break;
      ::usleep(50'000);
    }
  }
  stacked_layer parent;
  tree_snapshot expected;
  clock::duration create_time{}, remove_time{};
  std::size_t footprint = 0;  ///< with the parent alone
};

void killed_create_is_completed_by_the_next(storage_fixture& f) {
  const interruption given(f);
  for (int i = 0; i < moments; ++i) {
    const stacked_layer l = f.named_above(given.parent);
    const bool finished = create_killed(f, l, moment(given.create_time, i));
    const auto is = f.state(l.id);
    expect(!finished || is == state::writable, "a finished create is not listed as writable");
    if (is == state::writable) expect_reads_as(f, l, given.expected, "killed late in create");
    f.another()->create(l);
    expect(f.state(l.id) == state::writable, "repeated after a kill, create does not make the layer writable");
    expect_reads_as(f, l, given.expected, "killed in create, and created again");
    f.driver().remove(l.id);
  }
}

void partial_layers_are_listed(storage_fixture& f) {
  const interruption given(f);
  for (int i = 0; i < moments; ++i) {
    const stacked_layer l = f.named_above(given.parent);
    create_killed(f, l, moment(given.create_time, i));
    if (!f.state(l.id)) expect_footprint(f, given.footprint, "with the killed layer not listed");
    f.driver().remove(l.id);
  }
}

void partial_layers_are_not_handed_out(storage_fixture& f) {
  const interruption given(f);
  for (int i = 0; i < moments; ++i) {
    const stacked_layer l = f.named_above(given.parent);
    create_killed(f, l, moment(given.create_time, i));
    if (f.state(l.id) == state::partial) expect_not_handed_out(f, l);
    f.driver().remove(l.id);
  }
}

void partial_layers_are_removed_whole(storage_fixture& f) {
  const interruption given(f);
  for (int i = 0; i < moments; ++i) {
    const stacked_layer l = f.named_above(given.parent);
    create_killed(f, l, moment(given.create_time, i));
    f.another()->remove(l.id);
    expect(!f.state(l.id), "a partial layer is listed after remove");
    expect_footprint(f, given.footprint, "after a partial layer was removed");
  }
}

void partial_layers_may_get_other_parents(storage_fixture& f) {
  const interruption given(f);
  for (int i = 0; i < moments; ++i) {
    stacked_layer l = f.named_above(given.parent);
    create_killed(f, l, moment(given.create_time, i));
    if (f.state(l.id).value_or(state::partial) == state::partial) {
      l.parents.clear();
      f.driver().create(l);
      expect(f.read(l).size() == 1, "made whole without parents, a partial layer shows remains");
    }
    f.driver().remove(l.id);
  }
}

void killed_remove_is_completed_by_the_next(storage_fixture& f) {
  const interruption given(f);
  for (int i = 0; i < moments; ++i) {
    const stacked_layer l = f.above(given.parent);
    f.write(l, [](int root) {
      put_directory(root, "mine");
      for (int k = 0; k < 20; ++k) put_file(root, fmt::format("mine/{}", k), "1");
    });
    if (i % 2 == 0) f.driver().freeze(l.id);
    const tree_snapshot written = f.read(l);
    auto remove = [&](storage_subject& d) { d.remove(l.id); };
    worker(f, remove, moment(given.remove_time, i)).finished();
    const auto is = f.state(l.id);
    if (is == state::partial) expect_not_handed_out(f, l);
    if (is == state::writable || is == state::frozen) expect_reads_as(f, l, written, "killed early in remove");
    if (i % 4 < 2) {
      f.another()->remove(l.id);
      expect(!f.state(l.id), "removed again after a kill, a layer is listed");
      expect_footprint(f, given.footprint, "after a killed remove was repeated");
    } else if (!is || is == state::partial) {
      f.another()->create(l);
      expect_reads_as(f, l, given.expected, "created again after a killed remove");
    }
    f.driver().remove(l.id);
  }
}

void killed_freeze_is_completed_by_the_next(storage_fixture& f) {
  const interruption given(f);
  stacked_layer l = f.above(given.parent);
  const auto freeze_time = worker(f, [&](storage_subject& d) { d.freeze(l.id); }).join();
  f.driver().remove(l.id);
  for (int i = 0; i < moments / 2; ++i) {
    l = f.above(given.parent);
    auto freeze = [&](storage_subject& d) { d.freeze(l.id); };
    worker(f, freeze, moment(freeze_time, 2 * i)).finished();
    const auto is = f.state(l.id);
    expect(is == state::writable || is == state::frozen, "killed in freeze, a layer is neither writable nor frozen");
    f.another()->freeze(l.id);
    expect(f.state(l.id) == state::frozen, "frozen again after a kill, a layer is not frozen");
    expect_reads_as(f, l, given.expected, "killed in freeze");
    f.driver().remove(l.id);
  }
}

void killed_rebase_is_of_none_or_all(storage_fixture& f) {
  if (!f.driver().can(storage_ability::rebases)) skip("{} does not model rebases here", f.driver().name());
  const interruption given(f);
  const stacked_layer top = f.frozen_above(given.parent, [](int root) { put_file(root, "top", "1"); });
  const auto loose = [&] {
    const stacked_layer l = f.base();
    f.write(l, [](int root) { put_file(root, "mine", "1"), set_time(root, "mine", 1'000'000'000); });
    return stacked_layer{l.id, f.named_above(top).parents};
  };
  stacked_layer l = loose();
  const auto rebase_time = worker(f, [&](storage_subject& d) { d.rebase(l); }).join();
  const tree_snapshot after = f.read(l);
  expect(after.size() == given.expected.size() + 2, "rebased, a layer shows {} entries", after.size());
  for (int i = 0; i < moments; ++i) {
    l = loose();
    auto rebase = [&](storage_subject& d) { d.rebase(l); };
    const bool finished = worker(f, rebase, moment(rebase_time, i)).finished();
    expect(f.state(l.id) == state::writable, "killed in rebase, a layer is not writable");
    bool stands = true;
    try {
      f.another()->create(l);
    } catch (const error& e) {
      expect(e.code() == errc::conflict, "killed in rebase, a layer cannot be asked for: {}", e.what());
      stands = false;
      f.another()->create(layer{l.id, {}});
    }
    expect(stands || !finished, "a finished rebase is lost");
    f.another()->rebase(l);
    f.driver().freeze(l.id);
    expect_reads_as(f, l, after, "rebased again after a kill");
    f.driver().remove(l.id);
  }
}

/// What each of many workers does at once with layers of its own: creates all, keeps the even ones.
void make_and_unmake(storage_subject& driver, const std::vector<stacked_layer>& mine, std::size_t entries) {
  for (std::size_t i = 0; i < mine.size(); ++i) {
    driver.create(mine[i]);
    if (!driver.can(storage_ability::activates)) {
      const auto seen = read_tree(make_detached(driver.mounts(mine[i], access::live)).get()).size();
      expect(seen == entries, "a layer made beside others shows {} entries, not {}", seen, entries);
    }
    if (i % 4 == 2) driver.freeze(mine[i].id);
    if (i % 2 == 1) driver.remove(mine[i].id);
  }
}

void many_at_once_do_not_meet(storage_fixture& f) {
  constexpr std::size_t workers = 8, each = 6;  // the first half processes, the second half threads
  const stacked_layer parent = f.frozen_base([](int root) {
    for (int i = 0; i < 30; ++i) put_file(root, std::to_string(i), "1");
  });
  std::set<layer_id> known{parent.id};
  std::vector<std::vector<stacked_layer>> layers(workers);
  for (auto& mine : layers)
    for (std::size_t i = 0; i < each; ++i) known.insert(mine.emplace_back(f.named_above(parent)).id);

  std::vector<std::unique_ptr<worker>> processes;
  for (std::size_t w = 0; w < workers / 2; ++w)
    processes.push_back(std::make_unique<worker>(f, [&](storage_subject& d) { make_and_unmake(d, layers[w], 31); }));

  std::vector<std::string> reasons(workers);
  std::vector<std::thread> threads;
  std::atomic<std::size_t> running = workers / 2;
  for (std::size_t w = workers / 2; w < workers; ++w)
    threads.emplace_back([&, w] {
      try {
        make_and_unmake(f.driver(), layers[w], 31);
      } catch (const std::exception& e) {
        reasons[w] = e.what();
      }
      --running;
    });
  std::string listing;
  do {
    try {
      f.driver().layers([&](const layer_state& found) {
        if (!known.contains(found.id)) listing = fmt::format("layers() lists the unknown {}", found.id.brief());
      });
    } catch (const std::exception& e) {
      listing = e.what();
    }
  } while (running > 0 && listing.empty());
  for (std::thread& t : threads) t.join();

  for (const auto& process : processes) process->join();
  for (const std::string& why : reasons) expect(why.empty(), "in a thread beside others: {}", why);
  expect(listing.empty(), "layers() during other calls: {}", listing);
  std::size_t kept = 1;
  for (const auto& mine : layers)
    for (std::size_t i = 0; i < each; i += 2, ++kept)
      expect(f.state(mine[i].id) == (i % 4 == 2 ? state::frozen : state::writable),
             "a layer made beside others is lost");
  expect(f.layers().size() == kept, "layers() lists {} layers, {} are there", f.layers().size(), kept);
}

void first_use_by_many_at_once(storage_fixture& f) {
  std::vector<stacked_layer> layers;
  for (int i = 0; i < 6; ++i) layers.push_back(f.named());
  std::vector<std::unique_ptr<worker>> processes;
  auto [gate, shut] = make_pipe();  // open once nobody holds it shut: when all are there
  const int gate_fd = gate.get(), shut_fd = shut.get();
  for (const stacked_layer& l : layers)
    processes.push_back(std::make_unique<worker>(f, [&l, gate_fd, shut_fd](storage_subject& d) {
      ::close(shut_fd);
      char none = 0;
      (void)!::read(gate_fd, &none, 1);
      d.create(l);
      d.freeze(l.id);
    }));
  shut.reset();
  for (const auto& process : processes) process->join();
  expect(f.layers().size() == layers.size(), "{} layers of {} are there", f.layers().size(), layers.size());
}

constexpr check<storage_fixture> checks[] = {
    {"killed_create_is_completed_by_the_next", "all: killed at any instruction; repeating it completes it",
     killed_create_is_completed_by_the_next},
    {"partial_layers_are_listed", "6: partial ones too, so that reconcile can remove them", partial_layers_are_listed},
    {"partial_layers_are_not_handed_out", "2, 3, 5: partial: not_found", partial_layers_are_not_handed_out},
    {"partial_layers_are_removed_whole", "4: writable, frozen or partial alike", partial_layers_are_removed_whole},
    {"partial_layers_may_get_other_parents", "1: partial remains are of no value and may be thrown away",
     partial_layers_may_get_other_parents},
    {"killed_remove_is_completed_by_the_next", "all: killed at any instruction; repeating it completes it",
     killed_remove_is_completed_by_the_next},
    {"killed_freeze_is_completed_by_the_next", "all: killed at any instruction; repeating it completes it",
     killed_freeze_is_completed_by_the_next},
    {"killed_rebase_is_of_none_or_all", "rebases: killed anywhere, it stands over none of the parents or over all",
     killed_rebase_is_of_none_or_all},
    {"many_at_once_do_not_meet", "all: calls on different ids may run at once, from any thread or process",
     many_at_once_do_not_meet},
    {"first_use_by_many_at_once", "all: calls on different ids may run at once, from any thread or process",
     first_use_by_many_at_once},
};

}  // namespace

storage_checks_part storage_interruption_checks() { return checks; }

}  // namespace kit::testing::detail
