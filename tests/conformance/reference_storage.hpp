// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <optional>

#include "kit/storage/concept.hpp"

namespace kit::testing {

/// The plainest driver there is: every layer a full copy of its nearest parent. DIRECTORY/ID/tree holds the copy;
/// DIRECTORY/ID/record, written last and removed first, makes the layer whole. It exists to prove the conformance
/// suite and shares no code with the project's drivers.
class reference_storage {
 public:
  explicit reference_storage(const driver_config& config) : directory_(config.directory) {}

  static std::string_view name() { return "reference"; }
  static probe_report probe() { return {.usable = true, .reason = {}, .remedy = {}, .facts = {}}; }

  void create(const layer& l, std::span<const option> options);
  std::vector<mount> mounts(const layer& l, access a);
  void freeze(const layer_id& id);
  void remove(const layer_id& id);
  disk_usage usage(const layer& l);
  void layers(layer_sink out);
  void changes(const layer& l, change_sink out);

 private:
  struct record {
    bool frozen = false;
    std::string parents;  ///< ids, one a line
  };
  std::string path(const layer_id& id) const { return directory_ + "/" + id.str(); }
  std::string tree(const layer_id& id) const { return path(id) + "/tree"; }
  std::optional<record> find(const layer_id& id) const;
  record get(const layer_id& id, const char* verb) const;
  void keep(const layer_id& id, const record& r) const;

  std::string directory_;
};

}  // namespace kit::testing
