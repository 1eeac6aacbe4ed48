// SPDX-License-Identifier: Apache-2.0
// What is and what is not a storage driver: this file compiles or it does not.
#include <catch2/catch.hpp>

#include "drivers/storage/overlayfs.hpp"
#include "drivers/storage/vfs.hpp"
#include "kit/storage/any_storage.hpp"
#include "kit/storage/concept.hpp"

// Inside kit, because outside it `access` is also access(2).
namespace kit {
namespace {

/// The least there can be; each non-model below spoils one part of it.
struct least {
  std::string_view name() const { return "least"; }
  probe_report probe() const { return {}; }
  void create(const layer&, std::span<const option>) {}
  std::vector<mount> mounts(const layer&, access) { return {}; }
  void freeze(const layer_id&) {}
  void remove(const layer_id&) {}
  disk_usage usage(const layer&) { return {}; }
  void layers(layer_sink) {}
};
static_assert(storage_driver<least>);
static_assert(!configurable_driver<least>, "it has no options and cannot be made from a configuration");
static_assert(!reports_changes<least> && !limits_size<least> && !activates<least> && !settles<least> &&
              !rebases<least>);

static_assert(!storage_driver<int>);
static_assert(!storage_driver<const least>, "a driver one cannot write with");
struct nameless : least {
  int name() const { return 7; }
};
static_assert(!storage_driver<nameless>, "a name is text");
struct unprobed : least {
  bool probe() const { return true; }
};
static_assert(!storage_driver<unprobed>, "probe answers a report");
struct probing_changes : least {
  probe_report probe() { return {}; }
};
static_assert(!storage_driver<probing_changes>, "probe is asked of a const driver");
struct by_id_alone : least {
  void create(const layer_id&, std::span<const option>) {}
};
static_assert(!storage_driver<by_id_alone>, "every call carries the parents");
struct greedy : least {
  void create(layer&, std::span<const option>) {}
};
static_assert(!storage_driver<greedy>, "a driver does not change what it is given");
struct edits_options : least {
  void create(const layer&, std::span<option>) {}
};
static_assert(!storage_driver<edits_options>, "nor its options");
struct mounts_itself : least {
  std::string mounts(const layer&, access) { return "/mnt"; }
};
static_assert(!storage_driver<mounts_itself>, "a driver describes mounts, it does not make them");
struct one_access : least {
  std::vector<mount> mounts(const layer&) { return {}; }
};
static_assert(!storage_driver<one_access>);
struct freezes_containers : least {
  void freeze(const container_id&) {}
};
static_assert(!storage_driver<freezes_containers>, "a layer is no container");
struct measures_bytes : least {
  std::uint64_t usage(const layer&) { return 0; }
};
static_assert(!storage_driver<measures_bytes>, "usage is bytes and inodes");
struct returns_a_list : least {
  std::vector<layer_state> layers() { return {}; }
};
static_assert(!storage_driver<returns_a_list>, "lists come through sinks");
struct lists_ids : least {
  void layers(function_ref<void(const layer_id&)>) {}
};
static_assert(!storage_driver<lists_ids>, "each with its state");
struct hidden_remove : least {
 private:
  void remove(const layer_id&) {}
};
static_assert(!storage_driver<hidden_remove>);

/// Each refinement is asked for alone, and only of a whole driver.
struct reporting : least {
  void changes(const layer&, change_sink) {}
};
static_assert(reports_changes<reporting> && !limits_size<reporting>);
struct reports_at_once : least {
  std::vector<change> changes(const layer&) { return {}; }
};
static_assert(storage_driver<reports_at_once> && !reports_changes<reports_at_once>);
struct reports_nothing_else {
  void changes(const layer&, change_sink) {}
};
static_assert(!reports_changes<reports_nothing_else>);

struct limiting : least {
  void limit(const layer_id&, std::uint64_t) {}
};
static_assert(limits_size<limiting> && !reports_changes<limiting>);
struct limits_all : least {
  void limit(std::uint64_t) {}
};
static_assert(!limits_size<limits_all>, "a limit is a layer's");

struct waking : least {
  void activate(const layer&, access) {}
  void release(const layer&) {}
};
static_assert(activates<waking>);
struct never_sleeping : least {
  void activate(const layer&, access) {}
};
static_assert(!activates<never_sleeping>, "what is activated is released");

struct settling : least {
  void settle(const layer_id&, int) {}
};
static_assert(settles<settling>);
struct settles_a_path : least {
  void settle(const layer_id&, const std::string&) {}
};
static_assert(!settles<settles_a_path>, "the root is a descriptor");

struct rebasing : least {
  void rebase(const layer&) {}
  whiteouts deletions() { return whiteouts::aufs; }
};
static_assert(rebases<rebasing>);
struct rebases_silently : least {
  void rebase(const layer&) {}
};
static_assert(!rebases<rebases_silently>, "how deletions are written is told");

template <class D>
constexpr bool does_all = reports_changes<D>&& limits_size<D>&& activates<D>&& settles<D>&& rebases<D>;
static_assert(storage_driver<any_storage> && does_all<any_storage>, "by its type; can() tells");
static_assert(!std::copyable<any_storage> && std::movable<any_storage>);

static_assert(configurable_driver<drivers::vfs> && storage_driver<drivers::vfs>);
static_assert(configurable_driver<drivers::overlayfs> && reports_changes<drivers::overlayfs>);

/// Models an ability and denies it on this host.
struct denying : limiting {
  bool can(storage_ability) const noexcept { return false; }
};
/// Grants what its type does not model.
struct boasting : least {
  bool can(storage_ability) const noexcept { return true; }
};

}  // namespace

TEST_CASE("can() is what the type models less what the object denies") {
  CHECK(can(limiting(), storage_ability::limits_size));
  CHECK_FALSE(can(limiting(), storage_ability::reports_changes));
  CHECK_FALSE(can(denying(), storage_ability::limits_size));
  for (storage_ability a : storage_abilities) CHECK_FALSE(can(boasting(), a));
}

TEST_CASE("an erased driver can what the driver inside can") {
  for (storage_ability a : storage_abilities) {
    CHECK(can(any_storage(limiting()), a) == (a == storage_ability::limits_size));
    CHECK_FALSE(can(any_storage(denying()), a));
    CHECK_FALSE(can(any_storage(boasting()), a));
  }
}

}  // namespace kit
