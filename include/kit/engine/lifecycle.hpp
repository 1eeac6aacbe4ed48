// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kit/engine/engine.hpp"
#include "kit/engine/spec.hpp"

namespace kit {

struct launch_state;

/// Makes a container from an image: its record, writable layer and address, no process. The image's layers are unpacked in
/// the chosen storage driver first if they are not yet. Throws not_found ("no such image: X"), conflict (name in
/// use), invalid; then nothing of it is left.
container_record create(engine&, const container_spec&);

/// What start answers: the connection to the container's monitor, if it was asked for.
struct session {
  unique_fd monitor;  ///< see attach.hpp
  bool tty = false;
};

struct start_options {
  bool attach = false;     ///< hand out the session; output waits for its reader (no byte is lost)
  bool by_policy = false;  ///< as restart_when_due() does, whose stamp the container has; else nothing happens
};

/// Runs a created or exited container. Returns once its program runs (execve succeeded). Throws: conflict if it runs
/// already; not_found / permission if the program is absent or cannot be executed (the caller exits 127
/// / 126); the record then says exited with that code.
session start(engine&, const container_id&, const start_options&);

/// Sends `signal`, then SIGKILL after `timeout`; returns when the container has exited. Not running: success.
void stop(engine&, const container_id&, int signal, std::chrono::milliseconds timeout);
/// Throws not_found ("container X is not running") if there is nothing to signal.
void kill(engine&, const container_id&, int signal);
/// Blocks until the container is not running; answers its exit code. Never started: waits for it.
int wait(engine&, const container_id&);
/// After an exit: reads exit.json, releases cgroups, endpoints and mounts, records the exit, and removes
/// the container if it was asked to be (--rm). Safe to repeat, and from several processes at once: one does it.
/// `init`: a pidfd of its init, if the caller holds one. Should the monitor be dead, the exit code is asked of that.
container_record finish(engine&, const container_id&, int init = -1);
/// Of a container that runs, or ran to its end, and is not recorded so because the kit that started it was killed: what
/// its launcher left word of. Nothing if it is no such container. The caller holds the container's lock.
std::optional<launch_state> lost_start(engine&, const container_record&);
/// Records such a container as running. False if it is none. The caller holds the container's lock.
bool record_lost_start(engine&, container_record&);
/// Gives a running container whose monitor died a new one: it takes up the log where the streams' pipes stand, serves
/// attach, and learns the exit from the kernel (Linux 6.15), or says that it is unknown. The terminal of a container goes
/// with its monitor, and does not come back. The caller holds the container's lock.
void adopt(engine&, const container_record&);
/// Takes away what a run leaves: processes, cgroups, endpoints; then, in one transaction with their leases, does what
/// `record` says; then the bundle. The caller holds the container's lock. Repeatable.
void end_run(engine&, const container_record&, function_ref<void()> record);
/// Removes the container and its layer, and its anonymous volumes if that is asked for or it was to remove itself.
/// Running: conflict, unless `force` (SIGKILL first). Absent: not_found.
void remove(engine&, const container_id&, bool force, bool with_volumes = false);

/// Takes a container that does not run to another storage driver, with all that it has changed; unpacks its image there
/// first. Already there: success. Throws conflict if it runs, unsupported if the driver does not work here; then, and
/// wherever it was killed, the container is whole by the old driver or by the new one, and reconcile removes the other's
/// remains.
container_record move_container(engine&, const container_id&, const std::string& storage);

/// What starts and exits leave for later: moves the records' log into the database. Off the path of any start: `kit
/// internal finish` ends with it. needs_tidying() says, cheaply, whether there is enough of it.
void tidy(engine&);
bool needs_tidying(engine&);
/// The same by a process of its own, which nobody waits for, if there is enough and no other is at it: for commands that
/// leave containers behind. A thousand starts without an end would leave the next to read a log of 60 MiB.
void tidy_beside(engine&);

/// The record, its state checked against the kernel: a container recorded as running whose process is gone is finished
/// first (reconcile.hpp).
container_record current(engine&, container_record);
/// Figures now; throws not_found if it does not run.
container_stats stats(engine&, const container_id&);
/// Changes the specification by `change`, for every start from now on; if the container runs, its limits become those of
/// `limits` where that says something. Throws invalid, as create.
void update(engine&, const container_id&, function_ref<void(container_spec&)> change, const container_spec& limits);
void pause(engine&, const container_id&);
void resume(engine&, const container_id&);

/// The stop signal: the spec's, the image's, or SIGTERM.
int stop_signal(engine&, const container_record&);

}  // namespace kit
