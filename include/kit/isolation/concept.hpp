// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/isolation/types.hpp"

/// \file
/// # The isolation driver
///
/// ## Model
///
/// An isolation driver turns a *bundle* (OCI runtime specification 1.x: config.json and a root file
/// system) into processes that see their own root, process ids, mounts, network, host name, ipc and cgroups and
/// can use only what they were given. It knows no image, no layer, no address, no log.
///
/// It is shaped after the OCI runtime's own life cycle, so that runc, crun, lxc and the native driver
/// all fit it. The one addition is the *waiter*: a child of the caller that ends when the container's init
/// ends, with its exit status, whatever process tree the driver makes. Whoever called create (the
/// container's monitor) waits for it.
///
/// ## Life of a container
///
///     create --> created --start--> running <--pause/resume--> paused
///                   |                  |                          |
///                   +------------------+--- signal(SIGKILL) ------+--> stopped --remove--> absent
///
/// Between create and start the container's namespaces exist and nothing of the image has run: this is when the
/// network is attached and hooks see it.
///
/// ## Requirements
///
/// For a driver d, a container c, its mounts m (storage's description of the root file system):
///
///  1. `d.traits()`: constants of the driver.
///  2. `d.create(c, m, io)`: after it returns c's init exists in its own namespaces, cgroups and root file
///     system, holds `io`, and blocks before it executes the program. The root file system is `m`, made
///     by the driver where it needs it; if m is empty it is root.path of config.json. The network namespace is made
///     by the driver with, or after, the user namespace (it must belong to it), unless config.json names one or asks for none.
///     - What can be checked before start is: malformed config.json **invalid**, naming the member by its JSON path;
///       something asked for that the kernel lacks **unsupported**. A limit that cannot be set is an error, never ignored.
///     - The program itself is looked for in create: absent **not_found**, not executable or a directory
///       **permission**, both naming it. What only execve(2) can find out, start reports.
///     - c exists already: **exists**. On any failure nothing is left: no process, cgroup, mount, file.
///     - `io.on_netns`, if set, may be called on the way, once, with the network namespace create will answer; if it
///       throws, create has failed with that.
///     - If the caller dies before start, the container's init dies too.
///  3. `d.start(c)`: the program runs. From any process, not only the one that created c, by c alone. Returns once execve(2)
///     succeeded, or throws what it said (**not_found**, **permission**, **invalid**), and the waiter ends.
///     Started already: **conflict**. Absent: **not_found**.
///  4. `d.signal(c, n, reach)`: to the init, or to all processes. c.pid and c.start_time are verified by a pidfd
///     first: a process that is not c's gets nothing. Stopped or absent: **not_found**. SIGKILL works on a
///     paused container too.
///  5. `d.remove(c)`: all processes of c are killed and gone, and so are its cgroups and what the driver kept in
///     state_dir. Absent or half made: success. Returns only when the cgroup is empty (bounded: **busy** names the process that stays).
///  6. `d.exec(c, process, io)`: one more process in c, by an OCI `process` object (JSON text); it runs when exec
///     returns, and pid and waiter are its own. Same namespaces, cgroups and limits as c. Errors of
///     the program as in start. Not running: **not_found**. Paused: **busy**.
///  7. `d.pause(c)`, `d.resume(c)`: no process of c runs after pause returns; repeated: success. Not running: **not_found**.
///  8. `d.update(c, resources)`: an OCI `linux.resources` object (JSON text): the members given change, the others stay;
///     all or an error. What the kernel lacks: **unsupported**, naming the member.
///  9. `d.stats(c)`: figures now. Absent: **not_found**.
/// 10. Inside, the program finds exactly: descriptors 0, 1, 2; the environment, user, groups, capabilities,
///     rlimits, working directory, masks and mounts that config.json says; an empty session keyring; no
///     signal blocked or ignored; its own pid is 1 (unless the pid namespace is joined); and nothing of the host's
///     binary can be written through /proc/self/exe.
/// 11. The exit status of the waiter is the program's: its code, or the signal that ended it (128+n by
///     the shell's convention when a shim stands between).
///
/// For all of them: the call may be killed at any instruction; remove then leaves nothing. Calls on different containers
/// may run at once; calls on one do not overlap, save that signal, stats and exec may.
/// A driver forks only in create and exec.
///
/// Prove it: `kit plugin check ./kit-isolation-NAME.so`, or kit/testing/isolation.hpp in your own tests.

namespace kit {

template <class D>
concept isolation_driver = driver<D> && requires(D& d, const container& c, std::span<const mount> mounts,
                                                 const stdio& io, std::string_view json, int signal, reach r) {
  { d.traits() } -> std::same_as<isolation_traits>;
  { d.create(c, mounts, io) } -> std::same_as<started>;
  d.start(c);
  d.signal(c, signal, r);
  d.remove(c);
  { d.exec(c, json, io) } -> std::same_as<started>;
  d.pause(c);
  d.resume(c);
  d.update(c, json);
  { d.stats(c) } -> std::same_as<container_stats>;
};

}  // namespace kit
