// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "kit/storage/types.hpp"
#include "kit/system/tree.hpp"

/// \file
/// # The storage driver
///
/// ## Model
///
/// A *layer* is a directory tree stored as its difference from the layers below it, its *chain* of
/// parents. A layer is born writable, may be frozen once, and is then a parent for others. A root
/// file system is what one sees through the top layer of a chain: an image is a chain of frozen
/// layers, a container is one writable layer over them.
///
/// A driver keeps the bytes of layers under ids that the engine chooses. It keeps no names, counts no
/// references, knows no image and no container. It does not mount: it *describes* mounts (kit::mount,
/// system/mount.hpp), and whoever needs the tree has them made, detached, in the namespace where
/// they are needed. So a crash of kit can never leave a mount behind, and one driver serves every
/// isolation driver.
///
/// ## Life of a layer
///
///     absent --create--> writable --freeze--> frozen
///        ^                  |                    |
///        +------------------+------ remove ------+
///
/// `partial` is the state between: what is found after a crash in create or remove. It is never
/// handed out; create makes it whole, remove takes it away.
///
/// ## Requirements
///
/// For a driver d, a layer l = {id, parents}:
///
///  1. `d.create(l, options)`. After it returns the layer is whole and writable, and reads as its
///     chain does. A parent that is absent is **not_found**, one that is not frozen is **invalid**.
///     - Absent or partial: it is made. Partial remains are of no value and may be thrown away.
///     - Present with the same parents and options: success, contents untouched, even when frozen.
///       The engine repeats a create whenever it cannot know that an earlier one finished.
///     - Present with others: **conflict**, contents untouched.
///     - Not possible (no space, cancelled): throws, and the layer is absent or partial.
///     - An option the driver does not know: **invalid**, naming it. Nothing is made.
///  2. `d.mounts(l, access)` describes, in order, the mounts that show l. It changes nothing (a driver
///     that must wake a device first models `activates`). The result of the last `make` entry is
///     the root of the tree.
///     - read_write of a frozen layer: **invalid**. The driver need not notice two writers: that is
///       the engine's duty, which holds the layer's lease.
///     - read_only of a layer that is not frozen: **invalid**. `live` is accepted of both.
///     - absent, or partial: **not_found**.
///     The tree has full POSIX semantics where the driver says so in its page of facts; whiteouts are
///     never visible; the root directory keeps its mode, owner and xattrs from the nearest parent
///     (0755 root:root if there is none).
///  3. `d.freeze(id)`: from now on refused for read_write, accepted as a parent. There is no writer (the
///     engine's duty). Frozen already: success. Absent or partial: **not_found**.
///     Contents are on disk as far as the file system promises after syncfs(2), which freeze calls.
///  4. `d.remove(id)`: the layer is gone from layers(), and its space comes back soon. Absent: success.
///     Writable, frozen or partial alike. It may answer **busy** (the kernel still holds a mount of
///     it); the engine tries again. That nobody is above it is the engine's rule, not checked here.
///     It returns in a time that does not grow with the layer: rename within the driver's directory,
///     then delete; what a crash leaves in the trash, layers() finds and deletes.
///     An id may be used again at once.
///  5. `d.usage(l)`: bytes and inodes of this layer alone, without its parents. Exact for a layer
///     nobody writes. Absent or partial: **not_found**.
///  6. `d.layers()`: every id the driver holds, in any order, each with its state; partial ones too,
///     so that reconcile can remove them. Never an id it was not given.
///
/// For all of them: the call may be killed at any instruction; repeating it completes it. Calls on
/// different ids may run at once, from any thread or process. Calls on one id do not overlap, save
/// that `layers` may run during any other. A driver may keep one small file per layer in its own
/// directory, named by the id, written before the kernel object and deleted after it: its parents,
/// its options, the frozen mark live there. Everything is made with the mode, and on the file system,
/// that an unprivileged user cannot reach: the driver's directory is 0700.
///
/// ## Abilities
///
/// What not every driver can is a refinement of the concept, and besides an answer of the object on
/// this host: `can(d, storage_ability::limits_size)`. One function of the engine per ability asks,
/// and holds the generic way for drivers without it; nobody else asks. For all: absent or partial is **not_found**.
///
///  - `reports_changes`: `d.changes(l, sink)` reports the difference between l and its chain, sorted
///    by path, bytewise, each path once. A *change* is a path whose type, mode, owner, device number, size,
///    modification time, link target, extended attributes or content differ; a file copied up and left alike
///    is none; of a deleted directory only itself is reported, of an added one everything; a directory that was
///    something else before is modified and everything in it added. A directory whose only difference is its
///    modification time or size is none. The root itself, if its mode, owner or attributes changed, is the empty path.
///  - `limits_size`: `d.limit(id, bytes)`: the writable layer takes at most `bytes` more than its parents;
///    a writer beyond gets ENOSPC or EDQUOT. 0 lifts the limit. Takes effect at once, may be repeated.
///  - `activates`: `d.activate(l, access)` before mounts(l, access) means anything (a device to be woken),
///    `d.release(l)` right after the mounts were made: the kernel keeps what is mounted. Both repeatable.
///  - `settles`: `d.settle(id, rootfs_fd)` after the last process of a container ended and before its
///    mount namespace goes.
///  - `rebases`: a layer can be filled before its parents are there. `d.rebase(l)`: the writable layer l.id, made
///    without parents and open nowhere, stands over l.parents from now on, and its tree is its difference from them, in
///    which deletions stand as `d.deletions()` tells (whiteouts, kit/system/tree.hpp): they can be written into the
///    view of a layer without parents like any other entry. Its root keeps its own mode, owner and attributes. Killed
///    anywhere, it stands over none of the parents or over all. Over these already: success, even when frozen. Over
///    others: **conflict**. Frozen: **invalid**. A parent that is absent is **not_found**, one that is not frozen
///    **invalid**; a chain longer than create takes, what create answers; then nothing is changed.
///
/// ## A driver in thirty lines
///
/// Copying the nearest parent is all it takes (drivers/storage/vfs.hpp is this, grown up):
///
///     class copies {
///      public:
///       explicit copies(const kit::driver_config& c) : root_(c.directory) {}
///       static constexpr std::string_view name() { return "copies"; }
///       kit::probe_report probe() const { return {.usable = true}; }
///       void create(const kit::layer& l, std::span<const kit::option>);   // mkdir ID.tmp, copy, rename
///       std::vector<kit::mount> mounts(const kit::layer& l, kit::access a) {
///         return {kit::mount::bind(path(l.id), a != kit::access::read_write)};
///       }
///       void freeze(const kit::layer_id& id);                            // touch ID.frozen
///       void remove(const kit::layer_id& id);                            // rename to trash, delete
///       kit::disk_usage usage(const kit::layer& l);
///       void layers(kit::layer_sink out);
///     };
///     static_assert(kit::storage_driver<copies>);
///
/// Prove it: `kit plugin check ./kit-storage-copies.so`, or kit/testing/storage.hpp in your own tests.

namespace kit {

template <class D>
concept storage_driver = driver<D> &&
    requires(D& d, const layer& l, const layer_id& id, access a, std::span<const option> options, layer_sink out) {
  d.create(l, options);
  { d.mounts(l, a) } -> std::same_as<std::vector<mount>>;
  d.freeze(id);
  d.remove(id);
  { d.usage(l) } -> std::same_as<disk_usage>;
  d.layers(out);
};

template <class D>
concept reports_changes = storage_driver<D> && requires(D& d, const layer& l, change_sink out) {
  d.changes(l, out);
};

template <class D>
concept limits_size = storage_driver<D> && requires(D& d, const layer_id& id, std::uint64_t bytes) {
  d.limit(id, bytes);
};

template <class D>
concept activates = storage_driver<D> && requires(D& d, const layer& l, access a) {
  d.activate(l, a);
  d.release(l);
};

template <class D>
concept settles = storage_driver<D> && requires(D& d, const layer_id& id, int rootfs_fd) {
  d.settle(id, rootfs_fd);
};

template <class D>
concept rebases = storage_driver<D> && requires(D& d, const layer& l) {
  d.rebase(l);
  { d.deletions() } -> std::same_as<whiteouts>;
};

/// One word per refinement; to_string gives the name under which it crosses the plugin ABI.
enum class storage_ability { reports_changes, limits_size, activates, settles, rebases };

constexpr std::string_view to_string(storage_ability a) noexcept {
  switch (a) {
    case storage_ability::reports_changes: return "reports_changes";
    case storage_ability::limits_size: return "limits_size";
    case storage_ability::activates: return "activates";
    case storage_ability::settles: return "settles";
    case storage_ability::rebases: return "rebases";
  }
  return "";
}
inline constexpr storage_ability storage_abilities[] = {storage_ability::reports_changes, storage_ability::limits_size,
                                                        storage_ability::activates, storage_ability::settles,
                                                        storage_ability::rebases};

/// What d can do *here*: what its type models, less what the object denies. A driver denies by a
/// member `bool can(storage_ability) const noexcept`; without one it does all that it models.
template <storage_driver D>
bool can(const D& d, storage_ability a) noexcept {
  bool modelled = false;
  switch (a) {
    case storage_ability::reports_changes: modelled = reports_changes<D>; break;
    case storage_ability::limits_size: modelled = limits_size<D>; break;
    case storage_ability::activates: modelled = activates<D>; break;
    case storage_ability::settles: modelled = settles<D>; break;
    case storage_ability::rebases: modelled = rebases<D>; break;
  }
  if constexpr (requires {
                  { d.can(a) }
                  noexcept->std::same_as<bool>;
                })
    return modelled && d.can(a);
  else
    return modelled;
}

}  // namespace kit
