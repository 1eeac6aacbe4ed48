// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <set>

#include "reference_storage.hpp"

namespace kit::testing {

/// What faulty_storage does wrong.
enum class storage_fault {
  none,
  constructing_makes_its_directory,
  directory_open_to_all,
  create_twice_fails,
  create_twice_empties,
  create_twice_thaws,
  conflict_not_noticed,
  absent_parent_accepted,
  writable_parent_accepted,
  unknown_option_accepted,
  cancel_leaves_a_torn_layer,
  parents_ignored,
  parents_shared_with_the_child,
  frozen_handed_out_writable,
  writable_handed_out_read_only,
  absent_handed_out,
  read_only_view_is_writable,
  live_view_is_writable,
  freeze_twice_fails,
  freeze_of_the_unknown_succeeds,
  freeze_not_remembered_by_another_object,
  remove_of_the_unknown_throws,
  remove_keeps_the_bytes,
  remove_of_frozen_does_nothing,
  id_used_again_shows_old_files,
  usage_counts_the_parents,
  usage_of_the_unknown_is_zero,
  layers_forgets_partial,
  layers_invents_one,
  layers_swallows_the_sinks_stop,
  partial_taken_for_whole,
  partial_cannot_be_created,
  partial_cannot_be_removed,
  deleted_file_reappears,
  removed_directory_shows_through,
  whiteout_visible,
  times_lost,
  capability_lost,
  root_mode_lost,
  links_broken,
  holes_filled,
  name_with_newline_lost,
  first_use_races,
  changes_list_the_untouched,
  changes_unsorted,
  changes_list_below_a_deleted_directory,
  changes_forget_the_root,
};

/// The reference driver with one fault, chosen at run time.
class faulty_storage {
 public:
  faulty_storage(const driver_config& config, storage_fault fault);

  static std::string_view name() { return "faulty"; }
  static probe_report probe() { return reference_storage::probe(); }

  void create(const layer& l, std::span<const option> options);
  std::vector<mount> mounts(const layer& l, access a);
  void freeze(const layer_id& id);
  void remove(const layer_id& id);
  disk_usage usage(const layer& l);
  void layers(layer_sink out);
  void changes(const layer& l, change_sink out);

 private:
  bool is(storage_fault f) const { return fault_ == f; }
  std::string tree(const layer_id& id) const { return config_.directory + "/" + id.str() + "/tree"; }
  bool there(const layer_id& id) const;
  layer_state::state state(const layer_id& id);
  void spoil(const layer& l);

  driver_config config_;
  storage_fault fault_;
  reference_storage right_;
  std::set<layer_id> frozen_here_;
};

}  // namespace kit::testing
