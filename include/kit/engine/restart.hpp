// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

#include "kit/engine/lifecycle.hpp"

/// \file
/// # Restart policies
///
/// Who records a container's end (finish) decides, in the same transaction, whether it is to run again: its state is then
/// `restarting`, in place of `exited`. The process that the monitor becomes, `kit internal finish`, puts its own stamp on
/// it, sleeps, and starts it with a new monitor. Should it die meanwhile, the next command that looks at the container
/// sends another. A container that somebody stopped stays so; what a reboot ended is brought back by `kit system start`.

namespace kit {

struct restart_policy {
  enum class when { no, on_failure, always, unless_stopped };
  when which = when::no;
  int most = 0;  ///< restarts on failure; 0: no limit
};
/// Docker's notation: "no", "on-failure:3", "always", "unless-stopped"; empty: no. Throws invalid, quoting it.
restart_policy parse_restart_policy(const std::string& text);
std::string_view to_string(restart_policy::when) noexcept;
/// Of a container, without parsing its specification if it has none.
restart_policy restart_policy_of(const container_record&);

/// Makes of a record that ended, before it is written, one that is to restart, if its policy wants that: 0.1 s later,
/// twice as long after each, a minute at most; anew once it ran for ten seconds.
void plan_restart(container_record& ended);

/// Waits until the container is due, and starts it; returns at once if it is not restarting, or another is at it.
void restart_when_due(engine&, const container_id&);
/// The same, by a process of its own that nobody waits for.
void restart_beside(engine&, const container_id&);
/// Whether it is restarting, and of this boot nobody is at it.
bool restart_is_orphaned(const container_record&);
/// Somebody wants its end: it is not restarted until the next start. The caller holds no lock of it.
void forgo_restart(engine&, const container_id&);

/// Starts what does not run and should by its policy: after a boot. Answers the containers and, of those that could not be
/// started, why.
struct brought_back {
  container_record container;
  std::string error;
};
std::vector<brought_back> start_what_should_run(engine&);

}  // namespace kit
