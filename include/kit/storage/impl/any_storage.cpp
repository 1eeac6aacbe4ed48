// SPDX-License-Identifier: Apache-2.0
#include "kit/storage/any_storage.hpp"

namespace kit {

using detail::call;
using detail::from_abi;
using detail::to_abi;

static_assert(storage_driver<any_storage> && reports_changes<any_storage> && limits_size<any_storage> &&
              activates<any_storage> && settles<any_storage> && rebases<any_storage>);

const kit_storage& any_storage::table() const noexcept { return *static_cast<const kit_storage*>(any_driver::table()); }

void any_storage::create(const layer& l, std::span<const option> options) {
  call c(name(), "create");
  const kit_layer raw = to_abi(l, c.memory);
  c.check(table().create(c, self(), &raw, to_abi(options, c.memory), options.size()));
}

std::vector<mount> any_storage::mounts(const layer& l, access a) {
  call c(name(), "mounts");
  const kit_layer raw = to_abi(l, c.memory);
  std::vector<mount> mounts;
  auto sink = c.each<kit_mount>([&](const kit_mount& m) { mounts.push_back(from_abi(m)); });
  c.check(table().mounts(c, self(), &raw, static_cast<std::uint32_t>(a), sink));
  return mounts;
}

void any_storage::freeze(const layer_id& id) {
  call c(name(), "freeze");
  const kit_id raw = to_abi(id);
  c.check(table().freeze(c, self(), &raw));
}

void any_storage::remove(const layer_id& id) {
  call c(name(), "remove");
  const kit_id raw = to_abi(id);
  c.check(table().remove(c, self(), &raw));
}

disk_usage any_storage::usage(const layer& l) {
  call c(name(), "usage");
  const kit_layer raw = to_abi(l, c.memory);
  kit_usage out{sizeof out, 0, 0};
  c.check(table().usage(c, self(), &raw, &out));
  return {out.bytes, out.inodes};
}

void any_storage::layers(layer_sink out) {
  call c(name(), "layers");
  auto sink = c.each<kit_id_state>([&](const kit_id_state& s) {
    out({from_abi<layer_id>(s.id), detail::known_enum(s.state, layer_state::state::frozen, "a layer's state")});
  });
  c.check(table().layers(c, self(), sink));
}

namespace {

// The driver's sub-table for ability A; one that ends before its function `Last` counts as none.
template <storage_ability A, class Table, auto Last>
struct sub_table {
  static const Table* find(const kit_storage& table, void* self) noexcept {
    const auto* found = static_cast<const Table*>(table.ability(self, to_string(A).data()));
    if (found == nullptr) return nullptr;
    const auto* end = reinterpret_cast<const char*>(&(found->*Last) + 1);
    return found->size >= static_cast<std::size_t>(end - reinterpret_cast<const char*>(found)) ? found : nullptr;
  }
  static const Table& need(const kit_storage& table, void* self, std::string_view driver) {
    const Table* found = find(table, self);
    if (found == nullptr)
      fail(errc::unsupported, "storage driver {}: {} is not available on this host", driver, to_string(A));
    return *found;
  }
};

using ability = storage_ability;
using reporting = sub_table<ability::reports_changes, kit_reports_changes, &kit_reports_changes::changes>;
using limiting = sub_table<ability::limits_size, kit_limits_size, &kit_limits_size::limit>;
using activating = sub_table<ability::activates, kit_activates, &kit_activates::release>;
using settling = sub_table<ability::settles, kit_settles, &kit_settles::settle>;
using rebasing = sub_table<ability::rebases, kit_rebases, &kit_rebases::deletions>;

}  // namespace

bool any_storage::can(storage_ability a) const noexcept {
  switch (a) {
    case ability::reports_changes: return reporting::find(table(), self()) != nullptr;
    case ability::limits_size: return limiting::find(table(), self()) != nullptr;
    case ability::activates: return activating::find(table(), self()) != nullptr;
    case ability::settles: return settling::find(table(), self()) != nullptr;
    case ability::rebases: return rebasing::find(table(), self()) != nullptr;
  }
  return false;
}

void any_storage::changes(const layer& l, change_sink out) {
  call c(name(), "changes");
  const kit_layer raw = to_abi(l, c.memory);
  auto sink = c.each<kit_change>([&](const kit_change& x) {
    out({detail::known_enum(x.kind, change::kind::deleted, "a change's kind"), detail::text(x.path)});
  });
  c.check(reporting::need(table(), self(), name()).changes(c, self(), &raw, sink));
}

void any_storage::limit(const layer_id& id, std::uint64_t bytes) {
  call c(name(), "limit");
  const kit_id raw = to_abi(id);
  c.check(limiting::need(table(), self(), name()).limit(c, self(), &raw, bytes));
}

void any_storage::activate(const layer& l, access a) {
  call c(name(), "activate");
  const kit_layer raw = to_abi(l, c.memory);
  c.check(activating::need(table(), self(), name()).activate(c, self(), &raw, static_cast<std::uint32_t>(a)));
}

void any_storage::release(const layer& l) {
  call c(name(), "release");
  const kit_layer raw = to_abi(l, c.memory);
  c.check(activating::need(table(), self(), name()).release(c, self(), &raw));
}

void any_storage::settle(const layer_id& id, int rootfs_fd) {
  call c(name(), "settle");
  const kit_id raw = to_abi(id);
  c.check(settling::need(table(), self(), name()).settle(c, self(), &raw, rootfs_fd));
}

void any_storage::rebase(const layer& l) {
  call c(name(), "rebase");
  const kit_layer raw = to_abi(l, c.memory);
  c.check(rebasing::need(table(), self(), name()).rebase(c, self(), &raw));
}

whiteouts any_storage::deletions() {
  call c(name(), "deletions");
  std::uint32_t raw = 0;
  c.check(rebasing::need(table(), self(), name()).deletions(c, self(), &raw));
  return detail::known_enum(raw, whiteouts::aufs, "a way to write deletions");
}

}  // namespace kit
