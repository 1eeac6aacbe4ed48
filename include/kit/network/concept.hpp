// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/network/types.hpp"

/// \file
/// # The network driver
///
/// ## Model
///
/// A *network* is something containers can be put on: a bridge with a subnet, a parent link. An
/// *endpoint* is one container on one network: an interface in the container's network namespace and,
/// usually, something on the host that carries it. An *attachment* is what attach answered: the words
/// of a CNI result, which the engine stores and hands back.
///
/// The engine owns names, subnets and address leases and makes none of them twice; the driver owns
/// kernel objects: links, addresses, routes, rules. It remembers nothing between calls: all it needs
/// comes with the call, and what it made carries the owner's mark (network::owner, endpoint::owner),
/// so that whatever a crash left can be found and told from other people's links.
///
/// ## Life of an endpoint in a start
///
///     lease addresses -> isolation.create (namespace exists, nothing runs in it) -> network.attach
///       -> start ... container ends, its namespace dies -> network.detach -> lease released
///
/// The namespace dies before detach: whatever lives inside it goes with it, and the kernel takes a
/// veth's host end along, up to 60 ms later. So detach is usually called with netns == -1, must not
/// wait for that, and endpoint::link is never the name of an endpoint that ended shortly before.
///
/// ## Requirements
///
/// For a driver d, a network n, an endpoint e, the attachment a that attach answered:
///
///  1. `d.traits()`: constants of the driver.
///  2. `d.create(n)`: after it returns n can be attached to. Present as asked: success, nothing changed.
///     Half made: made whole. A link of n's name that does not bear n's owner: **conflict**, untouched.
///     A subnet that the driver cannot serve, an unknown option: **invalid**, nothing made. The kernel lacks
///     what it takes: **unsupported**, saying what.
///  3. `d.remove(n)`: every object that bears n's owner is gone. Absent: success. There is no endpoint on it
///     (the engine's duty). An object of that name that bears another owner is left alone.
///  4. `d.attach(n, e)`: after it returns e's namespace has an interface e.interface_name that is up,
///     bears e's addresses, and reaches the network; the default route is set if n has a gateway, and
///     the answer says all that was done. On failure nothing of e is left. n not made: **not_found** (the engine
///     then creates it and attaches again: so a reboot heals itself). Repeated for the same e: the same
///     answer, nothing doubled. An address that is not in a subnet of n: **invalid**.
///     It sets `lo` up too.
///     It never forks, and touches no namespace but the host's and e's.
///  5. `d.detach(n, e, a)`: every object that bears e's owner on the host is gone or going (deferred by
///     the kernel, without help). Absent, half made, n removed, namespace gone: success.
///     Inside a namespace still alive the interface is removed.
///  6. `d.check(n, e, a)`: returns if e is as a says; throws **conflict**, naming the first difference,
///     or **not_found**. Changes nothing.
///  7. `d.collect(n, valid)`: detaches every endpoint of n that is not in `valid`; the valid ones never
///     notice. What it removes is found by the owner's mark.
///  8. `d.status(n)`: returns if a new endpoint could be attached now; throws saying why not.
///     Changes nothing.
///
/// For all of them: the call may be killed at any instruction; repeating it completes it. Calls on
/// different endpoints of one network may run at once from any thread or process; calls on one
/// endpoint do not overlap.
///
/// ## A driver in twenty lines
///
///     class lonely {  // an own namespace with nothing but lo: drivers/network/none.hpp
///      public:
///       explicit lonely(const kit::driver_config&) {}
///       static constexpr std::string_view name() { return "lonely"; }
///       static kit::network_traits traits() { return {}; }
///       kit::probe_report probe() const { return {.usable = true}; }
///       void create(const kit::network&) {}
///       void remove(const kit::network&) {}
///       kit::attachment attach(const kit::network&, const kit::endpoint& e);  // sets lo up
///       void detach(const kit::network&, const kit::endpoint&, const kit::attachment&) {}
///       void check(const kit::network&, const kit::endpoint&, const kit::attachment&);
///       void collect(const kit::network&, std::span<const kit::endpoint_id>) {}
///       void status(const kit::network&) {}
///     };
///     static_assert(kit::network_driver<lonely>);
///
/// Prove it: `kit plugin check ./kit-network-lonely.so`, or kit/testing/network.hpp in your own tests.

namespace kit {

template <class D>
concept network_driver = driver<D> &&
    requires(D& d, const network& n, const endpoint& e, const attachment& a, std::span<const endpoint_id> valid) {
  { d.traits() } -> std::same_as<network_traits>;
  d.create(n);
  d.remove(n);
  { d.attach(n, e) } -> std::same_as<attachment>;
  d.detach(n, e, a);
  d.check(n, e, a);
  d.collect(n, valid);
  d.status(n);
};

}  // namespace kit
