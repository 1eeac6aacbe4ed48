// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "kit/storage/types.hpp"

namespace kit::drivers::detail {

/// What drivers have in common that keep each layer as one directory of files: its life from absent to
/// removed, so that a crash at any instruction leaves a state that the next call understands.
///
///     DIRECTORY/           0700
///       layers/ID/         a whole layer; ID/state names its parents, ID/frozen marks it frozen
///       new/ID/            being made: renamed into layers/ when whole; what is found here is partial
///       trash/RANDOM/      renamed here by remove, then deleted
///
/// Every step from one place to the next is one rename(2), so there is no state between.
class layer_store {
 public:
  explicit layer_store(std::string directory) : directory_(std::move(directory)) {}

  [[nodiscard]] const std::string& directory() const { return directory_; }
  /// Of a whole layer.
  [[nodiscard]] std::string path(const layer_id& id) const;

  /// storage/concept.hpp, 1: `fill` makes what the driver keeps in the directory it is given. If it throws,
  /// the layer is absent.
  void create(const layer& l, function_ref<void(const std::string& directory)> fill);
  /// Answers the layer's path if it may be shown in this way; throws not_found or invalid (2).
  [[nodiscard]] std::string require(const layer& l, access how) const;
  /// Throws not_found unless the layer is whole.
  [[nodiscard]] std::string require(const layer_id& id) const;
  [[nodiscard]] bool frozen(const layer_id& id) const;
  /// syncfs(2), then the mark, so that a frozen layer is on disk; answers whether it was not frozen before.
  bool freeze(const layer_id& id);
  /// Into the trash in one step; deletes for a twentieth of a second and leaves the rest to layers().
  void remove(const layer_id& id);
  /// Deletes the trash, then tells every layer.
  void layers(layer_sink out);

 private:
  enum class condition { absent, torn, whole };
  [[nodiscard]] condition condition_of(const layer_id& id, std::string* state = nullptr) const;
  void require_frozen_parents(const layer& l) const;
  void make_own_directories();
  void discard(const std::string& path);
  void empty_trash();

  std::string directory_;
};

/// Throws invalid, naming the first of `options`: for drivers whose layers have none.
void refuse_options(std::string_view driver, std::span<const option> options);
/// The same for drivers that are configured by nothing.
void refuse_configuration(std::string_view driver, std::span<const option> options);

/// What probe looks at: the running kernel, and the file system that holds, or would hold, a directory.
std::string kernel_release();
std::string nearest_existing(std::string path);
/// "ext4"; in hexadecimal if it is not one of those that people put layers on.
std::string file_system_of(const std::string& path);

}  // namespace kit::drivers::detail
