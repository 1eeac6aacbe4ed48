// SPDX-License-Identifier: Apache-2.0
#include "kit/testing/storage.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "drivers/storage/aufs.hpp"
#include "drivers/storage/btrfs.hpp"
#include "drivers/storage/devicemapper.hpp"
#include "drivers/storage/overlayfs.hpp"
#include "drivers/storage/reflink.hpp"
#include "drivers/storage/vfs.hpp"
#include "faulty_storage.hpp"
#include "kit/plugin/loader.hpp"
#include "kit/storage/any_storage.hpp"
#include "kit/system/error.hpp"
#include "reference_storage.hpp"
#include "show.hpp"

namespace {

using namespace kit;
using namespace kit::testing;

void need_root() {
  if (::geteuid() == 0) return;
  std::puts("skipped: the storage suite mounts, and needs root");
  std::exit(77);
}

/// `prefix`: of the names of the checks that are run.
template <class Make>
void conforms(Make make, std::string_view prefix = {}) {
  need_root();
  std::vector<check<storage_fixture>> chosen;
  for (const auto& c : storage_checks())
    if (c.name.substr(0, prefix.size()) == prefix) chosen.push_back(c);
  show(chosen, [&](std::string_view name, outcome_sink out) { CHECK(check_storage(make, out, name) == 0); });
}

template <class D>
constexpr auto direct = [](const driver_config& c) { return D(c); };
/// Through the C table that a plugin would export.
template <class D>
constexpr auto erased = [](const driver_config& c) { return any_storage(std::make_unique<D>(c)); };
/// From the plugin's file, found in $KIT_PLUGIN_PATH.
auto plugged(std::string_view name) {
  return [name](const driver_config& c) { return open_storage(name, c); };
}

// One line per form of a driver; those that need a file system of their kind run where they are named.
TEST_CASE("reference") { conforms(direct<reference_storage>); }
TEST_CASE("reference, erased") { conforms(erased<reference_storage>); }
TEST_CASE("vfs") { conforms(direct<drivers::vfs>); }
TEST_CASE("vfs, erased") { conforms(erased<drivers::vfs>); }
TEST_CASE("vfs, as a plugin") { conforms(plugged("vfs")); }
TEST_CASE("overlayfs") { conforms(direct<drivers::overlayfs>); }
TEST_CASE("overlayfs, erased") { conforms(erased<drivers::overlayfs>); }
TEST_CASE("overlayfs, as a plugin") { conforms(plugged("overlayfs")); }
TEST_CASE("limits of overlayfs", "[.]") { conforms(direct<drivers::overlayfs>, "limit"); }
TEST_CASE("aufs") { conforms(direct<drivers::aufs>); }
TEST_CASE("aufs, erased") { conforms(erased<drivers::aufs>); }
TEST_CASE("aufs, as a plugin") { conforms(plugged("aufs")); }
TEST_CASE("btrfs", "[.]") { conforms(direct<drivers::btrfs>); }
TEST_CASE("btrfs, erased", "[.]") { conforms(erased<drivers::btrfs>); }
TEST_CASE("btrfs, as a plugin", "[.]") { conforms(plugged("btrfs")); }
TEST_CASE("btrfs with quotas", "[.]") {
  conforms([](driver_config c) {
    c.options.push_back({"quotas", "true"});
    return drivers::btrfs(c);
  });
}
TEST_CASE("reflink", "[.]") { conforms(direct<drivers::reflink>); }
TEST_CASE("reflink, erased", "[.]") { conforms(erased<drivers::reflink>); }
TEST_CASE("reflink, as a plugin", "[.]") { conforms(plugged("reflink")); }
TEST_CASE("devicemapper") { conforms(direct<drivers::devicemapper>); }
TEST_CASE("devicemapper, erased") { conforms(erased<drivers::devicemapper>); }
TEST_CASE("devicemapper, as a plugin") { conforms(plugged("devicemapper")); }
TEST_CASE("the faulty driver without a fault") {
  conforms([](const driver_config& c) { return faulty_storage(c, storage_fault::none); });
}

/// Each fault, and the check that names it.
constexpr std::pair<storage_fault, std::string_view> faults[] = {
    {storage_fault::constructing_makes_its_directory, "constructing_touches_nothing"},
    {storage_fault::directory_open_to_all, "directory_is_private"},
    {storage_fault::create_twice_fails, "create_repeated_succeeds"},
    {storage_fault::create_twice_empties, "create_repeated_keeps_contents"},
    {storage_fault::create_twice_thaws, "create_repeated_keeps_frozen"},
    {storage_fault::conflict_not_noticed, "create_with_other_parents_conflicts"},
    {storage_fault::absent_parent_accepted, "create_over_absent_parent_is_not_found"},
    {storage_fault::absent_parent_accepted, "create_over_removed_parent_is_not_found"},
    {storage_fault::writable_parent_accepted, "create_over_writable_parent_is_invalid"},
    {storage_fault::unknown_option_accepted, "create_with_unknown_option_is_invalid"},
    {storage_fault::cancel_leaves_a_torn_layer, "create_cancelled_is_absent_or_partial"},
    {storage_fault::parents_ignored, "create_reads_as_its_chain"},
    {storage_fault::parents_shared_with_the_child, "siblings_do_not_see_each_other"},
    {storage_fault::frozen_handed_out_writable, "read_write_of_frozen_is_invalid"},
    {storage_fault::writable_handed_out_read_only, "read_only_of_writable_is_invalid"},
    {storage_fault::absent_handed_out, "mounts_of_absent_are_not_found"},
    {storage_fault::read_only_view_is_writable, "read_only_view_refuses_writes"},
    {storage_fault::live_view_is_writable, "live_view_refuses_writes"},
    {storage_fault::freeze_twice_fails, "freeze_repeated_succeeds"},
    {storage_fault::freeze_of_the_unknown_succeeds, "freeze_of_absent_is_not_found"},
    {storage_fault::freeze_not_remembered_by_another_object, "freeze_is_seen_by_every_object"},
    {storage_fault::remove_of_the_unknown_throws, "remove_of_absent_succeeds"},
    {storage_fault::remove_keeps_the_bytes, "remove_gives_the_space_back"},
    {storage_fault::remove_of_frozen_does_nothing, "remove_takes_writable_and_frozen"},
    {storage_fault::id_used_again_shows_old_files, "id_is_free_at_once"},
    {storage_fault::usage_counts_the_parents, "usage_leaves_out_the_parents"},
    {storage_fault::usage_of_the_unknown_is_zero, "usage_of_absent_is_not_found"},
    {storage_fault::layers_forgets_partial, "partial_layers_are_listed"},
    {storage_fault::layers_invents_one, "layers_lists_exactly_what_is_there"},
    {storage_fault::layers_swallows_the_sinks_stop, "layers_stops_when_the_sink_throws"},
    {storage_fault::partial_taken_for_whole, "partial_layers_are_not_handed_out"},
    {storage_fault::partial_taken_for_whole, "killed_create_is_completed_by_the_next"},
    {storage_fault::partial_cannot_be_created, "partial_layers_may_get_other_parents"},
    {storage_fault::partial_cannot_be_removed, "partial_layers_are_removed_whole"},
    {storage_fault::partial_cannot_be_removed, "killed_remove_is_completed_by_the_next"},
    {storage_fault::deleted_file_reappears, "deleted_files_stay_deleted"},
    {storage_fault::removed_directory_shows_through, "directory_made_again_is_empty"},
    {storage_fault::deleted_file_reappears, "hundred_and_twenty_eight_layers_read_as_one"},
    {storage_fault::deleted_file_reappears, "directories_made_again_at_each_depth"},
    {storage_fault::deleted_file_reappears, "random_operations_leave_what_they_leave_elsewhere"},
    {storage_fault::whiteout_visible, "whiteouts_are_never_visible"},
    {storage_fault::times_lost, "times_are_kept_to_the_nanosecond"},
    {storage_fault::capability_lost, "file_capabilities_survive_copying_up"},
    {storage_fault::root_mode_lost, "root_keeps_mode_owner_and_attributes"},
    {storage_fault::links_broken, "hard_links_share_one_file"},
    {storage_fault::holes_filled, "sparse_files_stay_sparse"},
    {storage_fault::name_with_newline_lost, "any_name_is_allowed"},
    {storage_fault::first_use_races, "first_use_by_many_at_once"},
    {storage_fault::changes_list_the_untouched, "changes_of_an_untouched_layer_are_none"},
    {storage_fault::changes_unsorted, "changes_name_each_kind_sorted"},
    {storage_fault::changes_list_below_a_deleted_directory, "changes_name_a_deleted_directory_alone"},
    {storage_fault::changes_forget_the_root, "changes_of_the_root_are_the_empty_path"},
};

TEST_CASE("each seeded fault fails the check that names it") {
  need_root();
  for (const auto& row : faults) {
    DYNAMIC_SECTION(row.second << ", fault " << static_cast<int>(row.first)) {
      auto make = [&](const driver_config& c) { return faulty_storage(c, row.first); };
      int failed = 0;
      check_storage(
          make, [&](const outcome& o) { failed += o.is == verdict::failed ? 1 : 0; }, row.second);
      CHECK(failed == 1);
    }
  }
}

/// A driver that rebases, but for one fault: the reference driver copies, and cannot.
using rebase_fault = void (*)(drivers::overlayfs& right, const layer&);

class faulty_rebase : public drivers::overlayfs {
 public:
  faulty_rebase(const driver_config& c, rebase_fault fault) : overlayfs(c), fault_(fault) {}
  void rebase(const layer& l) { fault_(*this, l); }

 private:
  rebase_fault fault_;
};

template <errc Ignored>
void rebase_ignoring(drivers::overlayfs& right, const layer& l) {
  try {
    right.rebase(l);
  } catch (const error& e) {
    if (e.code() != Ignored) throw;
  }
}

constexpr std::pair<rebase_fault, std::string_view> rebase_faults[] = {
    {[](drivers::overlayfs& right, const layer& l) { right.remove(l.id), right.create(l, {}); },
     "rebased_reads_as_written_over_its_parents"},
    {[](drivers::overlayfs&, const layer&) {}, "rebase_may_be_repeated"},
    {[](drivers::overlayfs& right, const layer& l) {
       right.rebase({l.id, l.parents.last(1)});
     },
     "killed_rebase_is_of_none_or_all"},
    {rebase_ignoring<errc::conflict>, "rebase_over_others_conflicts"},
    {rebase_ignoring<errc::invalid>, "rebase_of_frozen_is_invalid"},
    {rebase_ignoring<errc::not_found>, "rebase_needs_frozen_parents"},
};

TEST_CASE("each seeded fault in rebasing fails the check that names it") {
  need_root();
  for (const auto& [fault, check] : rebase_faults) {
    const auto make = [wrong = fault](const driver_config& c) { return faulty_rebase(c, wrong); };
    int failed = 0, skipped = 0;
    const auto judge = [&](const outcome& o) {
      failed += o.is == verdict::failed ? 1 : 0;
      skipped += o.is == verdict::skipped ? 1 : 0;
    };
    check_storage(make, judge, check);
    CAPTURE(check);
    CHECK(failed + skipped == 1);
    CHECK((skipped == 0 || !drivers::overlayfs({default_scratch() + "/kit", {}, {}, {}, {}}).probe().usable));
  }
}

}  // namespace
