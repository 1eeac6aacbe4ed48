// SPDX-License-Identifier: Apache-2.0
// What crosses the ABI in a call, both ways: over a class of this program, its plugin by this compiler and by the
// other one, and a plugin in C of ABI 1.0. All behave as fixtures/talker.hpp.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <functional>
#include <optional>
#include <thread>

#include "kit/plugin/loader.hpp"
#include "unit/fixtures/talker.hpp"

namespace {

struct subject {
  std::string label;
  std::function<kit::any_storage()> open;
};

std::vector<subject> subjects() {
  const auto plugin = [](std::string label, std::string file) {
    return subject{std::move(label),
                   [file] { return kit::load_plugin_file(KIT_TEST_PLUGINS "/" + file).open_storage({}); }};
  };
  std::vector<subject> list{{"class in this program", [] { return kit::any_storage(talker(kit::driver_config{})); }},
                            plugin("plugin by this compiler", "kit-storage-talker.so"),
                            plugin("plugin of ABI 1.0 in C", "kit-storage-frozen.so")};
  if (::access(KIT_TEST_PLUGINS "/other/kit-storage-talker.so", F_OK) == 0)
    list.push_back(plugin("plugin by the other compiler", "other/kit-storage-talker.so"));
  else
    WARN("skipped: no other compiler was installed when this was built");
  return list;
}

const kit::layer_id id = kit::layer_id::from(std::string(64, 'b'));

/// An exception of the host that no plugin has heard of.
struct private_to_the_host {
  int value;
};

class watcher : public kit::call_context {
 public:
  bool cancelled() const noexcept override { return cancel_after != 0 && reported >= cancel_after; }
  void progress(std::uint64_t done, std::uint64_t) noexcept override { reported = done; }
  void log(kit::log_level level, std::string_view line) noexcept override {
    logged = line;
    logged_level = level;
    thread = std::this_thread::get_id();
  }
  int step(std::string_view name, kit::step_edge edge) noexcept override {
    (edge == kit::step_edge::begin ? begun : ended) = name;
    return edge == fails_at ? EMFILE : 0;
  }
  std::uint64_t cancel_after = 0, reported = 0;
  std::string_view begun, ended;
  kit::step_edge fails_at{};
  std::string logged;
  kit::log_level logged_level{};
  std::thread::id thread;
};

}  // namespace

TEST_CASE("an error keeps its code, its errno and its words") {
  for (const auto& s : subjects()) {
    INFO(s.label);
    auto d = s.open();
    for (int code = KIT_NOT_FOUND; code <= KIT_CANCELLED; ++code) {
      const std::string message = "try " + std::to_string(code) + ": \xc3\xa4 and\nmore";
      const kit::option options[] = {{"status", std::to_string(code)}, {"errno", "28"}, {"message", message}};
      try {
        d.create({id, {}}, options);
        FAIL("no error");
      } catch (const kit::error& e) {
        CHECK(static_cast<int>(e.code()) == code);
        CHECK(e.sys_errno() == 28);
        CHECK(e.what() == message);
      }
    }
    CHECK_NOTHROW(d.create({id, {}}, {}));
    const kit::option no_reason[] = {{"status", "4"}};
    CHECK_THROWS_WITH(d.create({id, {}}, no_reason), Catch::Contains("no reason"));
  }
}

TEST_CASE("mounts cross with every kind of value") {
  for (const auto& s : subjects()) {
    INFO(s.label);
    auto d = s.open();
    std::vector<kit::layer_id> parents(500, kit::layer_id{});
    parents.back() = kit::layer_id::from(std::string(64, 'c'));
    const auto mounts = d.mounts({id, parents}, kit::access::read_write);
    REQUIRE(mounts.size() == 2);
    const kit::mount& m = mounts[0];
    CHECK(m.fstype == "overlay");
    CHECK(m.source == id.text());
    CHECK(m.target == parents.back().text());
    CHECK(m.attributes == 1);
    CHECK(m.what == kit::mount::action::make);
    CHECK(mounts[1].what == kit::mount::action::reconfigure);
    using o = kit::mount_option;
    REQUIRE(m.options.size() == 5);
    CHECK(m.options[0].key == "ro");
    CHECK(std::holds_alternative<o::flag>(m.options[0].value));
    CHECK(std::get<std::string>(m.options[1].value) == "off");
    CHECK(std::get<o::path>(m.options[2].value).value == "/u");
    CHECK(std::get<o::paths>(m.options[3].value).values == std::vector<std::string>{"/a", "/b"});
    CHECK(std::get<o::result>(m.options[4].value).entry == 1);

    CHECK(d.mounts({id, {}}, kit::access::live)[0].target.empty());
    try {
      (void)d.mounts({id, {}}, kit::access(9));
      FAIL("an unknown access was accepted");
    } catch (const kit::error& e) {
      CHECK(e.code() == kit::errc::unsupported);
    }
  }
}

TEST_CASE("a list that is read to its end has all elements") {
  for (const auto& s : subjects()) {
    INFO(s.label);
    auto d = s.open();
    std::vector<kit::layer_state::state> states;
    d.layers([&](const kit::layer_state& l) {
      CHECK(l.id.text() == std::string(64, 'a'));
      states.push_back(l.is);
    });
    using state = kit::layer_state::state;
    CHECK(states == std::vector{state::partial, state::writable, state::frozen});
  }
}

TEST_CASE("a sink that throws stops the driver, and the exception comes out as it was") {
  for (const auto& s : subjects()) {
    INFO(s.label);
    auto d = s.open();
    const auto before = d.usage({id, {}}).bytes;
    try {
      d.layers([](const kit::layer_state&) { throw private_to_the_host{42}; });
      FAIL("the exception was lost");
    } catch (const private_to_the_host& e) {
      CHECK(e.value == 42);
    }
    CHECK(d.usage({id, {}}).bytes == before + 1);
  }
}

TEST_CASE("cancellation, progress and log lines reach the context of the calling thread") {
  for (const auto& s : subjects()) {
    INFO(s.label);
    auto d = s.open();
    watcher w;
    w.cancel_after = 100;
    const kit::call_scope scope(w);
    try {
      d.freeze(id);
      FAIL("not cancelled");
    } catch (const kit::error& e) {
      CHECK(e.code() == kit::errc::cancelled);
      CHECK(e.sys_errno() == ECANCELED);
    }
    CHECK(w.reported == 100);
    CHECK(w.logged == "freezing");
    CHECK(w.logged_level == kit::log_level::info);
    CHECK(w.thread == std::this_thread::get_id());
    CHECK(&kit::this_call() == &w);
  }
}

TEST_CASE("steps reach the context of the calling thread, which may make them fail") {
  for (const auto& s : subjects()) {
    if (s.label == "plugin of ABI 1.0 in C") continue;  // it knows no steps
    INFO(s.label);
    auto d = s.open();
    watcher w;
    const kit::call_scope scope(w);
    d.remove(id);
    CHECK(w.begun == "rename_away");
    CHECK(w.ended == "rename_away");
    for (auto edge : {kit::step_edge::begin, kit::step_edge::end}) {
      w.fails_at = edge;
      w.ended = "";
      try {
        d.remove(id);
        FAIL("did not fail");
      } catch (const kit::error& e) {
        CHECK(e.sys_errno() == EMFILE);
        CHECK(std::string(e.what()).find("rename_away") != std::string::npos);
      }
      CHECK(w.ended.empty() == (edge == kit::step_edge::begin));
    }
  }
}

TEST_CASE("a step that throws has ended, and its exception passes") {
  watcher w;
  const kit::call_scope scope(w);
  const auto breaks = [](int n) -> int { throw n; };
  CHECK_THROWS_AS(KIT_STEP(breaks(3)), int);
  CHECK(w.ended == "breaks");
  int n = 1;
  const auto same = [](int& i) -> int& { return i; };
  CHECK(&KIT_STEP(same(n)) == &n);
}

TEST_CASE("a deadline ends a call") {
  for (const auto& s : subjects()) {
    INFO(s.label);
    auto d = s.open();
    watcher w;
    const auto begin = std::chrono::steady_clock::now();
    w.deadline = begin + std::chrono::milliseconds(20);
    const kit::call_scope scope(w);
    try {
      d.freeze(id);
      FAIL("the deadline passed unnoticed");
    } catch (const kit::error& e) {
      CHECK(e.code() == kit::errc::cancelled);
      CHECK(e.sys_errno() == ETIMEDOUT);
    }
    CHECK(std::chrono::steady_clock::now() >= w.deadline);
  }
}

TEST_CASE("abilities are asked of the object, not of its type") {
  for (const auto& s : subjects()) {
    INFO(s.label);
    auto d = s.open();
    CHECK(can(d, kit::storage_ability::reports_changes));
    CHECK_FALSE(can(d, kit::storage_ability::limits_size));  // talker models it and denies it here
    CHECK_FALSE(can(d, kit::storage_ability::activates));
    CHECK_FALSE(can(d, kit::storage_ability::settles));
    std::vector<kit::change> changes;
    d.changes({id, {}}, [&](const kit::change& c) { changes.push_back(c); });
    CHECK(changes == std::vector<kit::change>{{kit::change::kind::deleted, "etc/motd"}});
    try {
      d.limit(id, 1);
      FAIL("limited");
    } catch (const kit::error& e) {
      CHECK(e.code() == kit::errc::unsupported);
      CHECK_THAT(e.what(), Catch::Contains("limits_size"));
    }
  }
}

TEST_CASE("probe crosses whole") {
  for (const auto& s : subjects()) {
    INFO(s.label);
    const auto report = s.open().probe();
    CHECK_FALSE(report.usable);
    CHECK(report.reason == "asleep");
    CHECK(report.remedy == "wake it");
    CHECK(report.facts == std::vector<kit::option>{{"kernel", "any"}});
  }
}

TEST_CASE("one object serves many threads") {
  for (const auto& s : subjects()) {
    INFO(s.label);
    auto d = s.open();
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        watcher w;
        w.cancel_after = 10 + static_cast<unsigned>(t);
        const kit::call_scope scope(w);
        for (int i = 0; i < 50; ++i) {
          w.reported = 0;
          try {
            d.freeze(id);
            ++wrong;
          } catch (const kit::error&) {
            if (w.reported != w.cancel_after) ++wrong;
          }
        }
      });
    for (auto& t : threads) t.join();
    CHECK(wrong == 0);
  }
}
