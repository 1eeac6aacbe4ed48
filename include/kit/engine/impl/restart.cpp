// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/restart.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <thread>

#include "beside.hpp"
#include "kit/engine/clock.hpp"
#include "kit/engine/locks.hpp"
#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"

namespace kit {
namespace {
constexpr std::string_view words[] = {"no", "on-failure", "always", "unless-stopped"};
}

std::string_view to_string(restart_policy::when w) noexcept { return words[static_cast<std::size_t>(w)]; }

restart_policy parse_restart_policy(const std::string& text) {
  restart_policy p;
  if (text.empty()) return p;
  const auto colon = std::min(text.find(':'), text.size());
  const auto* const word = std::find(std::begin(words), std::end(words), std::string_view(text).substr(0, colon));
  if (word == std::end(words))
    fail(errc::invalid, "invalid restart policy '{}': no, on-failure[:MOST], always or unless-stopped is expected",
         text);
  p.which = static_cast<restart_policy::when>(word - std::begin(words));
  if (colon == text.size()) return p;
  if (p.which != restart_policy::when::on_failure)
    fail(errc::invalid, "maximum retry count cannot be used with restart policy '{}'", *word);
  const char* const end = text.data() + text.size();
  if (std::from_chars(text.data() + colon + 1, end, p.most).ptr != end || colon + 1 == text.size() || p.most < 0)
    fail(errc::invalid, "restart policy '{}': maximum retry count must be a number of at least 0", text);
  return p;
}

restart_policy restart_policy_of(const container_record& r) {
  if (r.spec.find("\"restart\"") == std::string::npos) return {};
  return parse_restart_policy(spec_from_json(r.spec).restart);
}

void plan_restart(container_record& ended) {
  const restart_policy p = restart_policy_of(ended);
  const bool failed = ended.exit_code != 0 && (p.most == 0 || ended.restarts < p.most);
  if (ended.stopped || p.which == restart_policy::when::no || (p.which == restart_policy::when::on_failure && !failed))
    return;
  constexpr std::int64_t first = 100, longest = 60 * 1000, sound_ns = 10'000'000'000;
  const bool was_sound = ended.finished_ns - ended.started_ns >= sound_ns;
  ended.restart_delay_ms = was_sound ? first : std::clamp(ended.restart_delay_ms * 2, first, longest);
  ++ended.restarts;
  ended.state = container_state::restarting;
}

bool restart_is_orphaned(const container_record& r) {
  if (r.state != container_state::restarting) return false;
  if (!r.init.boot_id.empty() && r.init.boot_id != boot_id()) return false;
  return !process_lives(r.init.pid, r.init.start_time, r.init.boot_id);
}

void restart_when_due(engine& e, const container_id& id) {
  const process_stamp self{::getpid(), process_start_time(::getpid()), boot_id()};
  std::int64_t due = 0;
  {
    const auto lock = lock_container(e, id);
    auto r = e.records().find_container(id.text());
    if (!r || !restart_is_orphaned(*r)) return;
    r->init = self;
    e.records().update(*r);
    due = r->finished_ns + r->restart_delay_ms * 1'000'000;
  }
  // No longer than planned, should the clock have been set back.
  const std::int64_t left = std::clamp<std::int64_t>(due - now_ns(), 0, 60'000'000'000);
  std::this_thread::sleep_for(std::chrono::nanoseconds(left));
  start(e, id, {.by_policy = true});
}

void restart_beside(engine& e, const container_id& id) {
  const engine_config& c = e.config();
  run_beside({c.program, "--root", c.root, "--run-dir", c.run_dir, "internal", "finish", id.str()});
}

void forgo_restart(engine& e, const container_id& id) {
  const auto lock = lock_container(e, id);
  auto r = e.records().find_container(id.text());
  if (!r || restart_policy_of(*r).which == restart_policy::when::no) return;
  if (r->stopped && r->state != container_state::restarting) return;
  const process_stamp waiter = r->init;
  const bool waits = r->state == container_state::restarting;
  r->stopped = true;
  if (waits) {
    r->state = container_state::exited;
    r->init = {};
  }
  e.records().update(*r);
  // It does nothing but sleep, or wait for the lock that is held here.
  if (waits && waiter.boot_id == boot_id())
    if (const unique_fd process = open_process(waiter.pid, waiter.start_time)) send_signal(process.get(), SIGKILL);
}

std::vector<brought_back> start_what_should_run(engine& e) {
  std::vector<brought_back> list;
  auto all = e.records().containers();
  std::reverse(all.begin(), all.end());  // oldest first
  for (const container_record& was : all) {
    const restart_policy::when policy = restart_policy_of(was).which;
    if (policy == restart_policy::when::no) continue;
    try {
      const container_record r = current(e, was);
      const bool waits =
          r.state == container_state::restarting && !process_lives(r.init.pid, r.init.start_time, r.init.boot_id);
      if ((r.state != container_state::exited && !waits) || r.started_ns == 0) continue;
      if (policy != restart_policy::when::always && r.stopped) continue;
      if (policy == restart_policy::when::on_failure && r.exit_code == 0) continue;
      list.push_back({r, ""});
      start(e, r.id, {});
    } catch (const error& x) {
      if (x.code() != errc::not_found || (!list.empty() && list.back().container.id == was.id))
        list.back().error = x.what();
    }
  }
  return list;
}

}  // namespace kit
