// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <functional>
#include <string>

#include "kit/storage/types.hpp"

namespace kit::drivers::detail {

/// What drivers have in common that keep each layer as one directory of files: its life from absent to
/// removed, so that a crash at any instruction leaves a state that the next call understands.
///
///     DIRECTORY/           0700
///       layers/ID/         a whole layer; the symlink ID/state tells its nearest parent and its options,
///                          ID/frozen marks it frozen
///       new/ID/            being made: renamed into layers/ when whole; what is found here is partial
///       trash/RANDOM/      renamed here by remove, then deleted
///
/// Every step from one place to the next is one rename(2), so there is no state between.
class layer_store {
 public:
  /// What a driver keeps for a layer beside its files (a device, a subvolume): given back here, before the directory
  /// that knows of it is deleted. False: it is still in use; the directory stays in the trash for a later try.
  using give_back = std::function<bool(const std::string& directory)>;

  explicit layer_store(std::string directory, give_back let_go = {})
      : directory_(std::move(directory)), let_go_(std::move(let_go)) {}

  [[nodiscard]] const std::string& directory() const { return directory_; }
  /// Of a whole layer.
  [[nodiscard]] std::string path(const layer_id& id) const;

  /// storage/concept.hpp, 1: `fill` makes what the driver keeps in the directory it is given. If it throws,
  /// the layer is absent. `options` are kept, in the driver's own words: at most 900 bytes, no spaces at the ends.
  void create(const layer& l, const std::string& options, function_ref<void(const std::string& directory)> fill);
  /// What create was given. Throws not_found unless the layer is whole.
  [[nodiscard]] std::string options_of(const layer_id& id) const;
  /// Answers the layer's path if it may be shown in this way; throws not_found or invalid (2).
  [[nodiscard]] std::string require(const layer& l, access how) const;
  /// Throws not_found unless the layer is whole.
  [[nodiscard]] std::string require(const layer_id& id) const;
  [[nodiscard]] bool frozen(const layer_id& id) const;
  /// syncfs(2), then the mark, so that a frozen layer is on disk; answers whether it was not frozen before.
  bool freeze(const layer_id& id);
  /// storage/concept.hpp, rebases.
  void rebase(const layer& l);
  /// Into the trash in one step; then deletes from the trash for a hundredth of a second:
  /// what is left goes with the next remove, or with layers().
  void remove(const layer_id& id);
  /// Deletes the trash, then tells every layer.
  void layers(layer_sink out);
  /// Whether there is no layer, whole or partial.
  [[nodiscard]] bool empty() const;

 private:
  /// Empty: there is no such layer.
  [[nodiscard]] std::string state(const layer_id& id) const;
  [[nodiscard]] bool stands_over(const layer& l) const;
  void require_frozen_parents(const layer& l) const;
  void make_own_directories();
  void discard(const std::string& path);
  bool delete_until(const std::string& path, std::chrono::steady_clock::time_point until);
  void empty_trash(std::chrono::steady_clock::time_point until);

  std::string directory_;
  give_back let_go_;
};

/// Throws invalid, naming it, for an option that is not in `known`, or a boolean that is neither true nor false.
void check_options(std::string_view driver, std::span<const option> options, std::span<const option_schema> known);

/// What probe looks at: the running kernel, and the file system that holds, or would hold, a directory.
std::string kernel_release();
std::string nearest_existing(std::string path);
/// "ext4"; in hexadecimal if it is not one of those that people put layers on.
std::string file_system_of(const std::string& path);

/// A directory for probe to try things in, gone at the end of the scope.
class temporary_directory {
 public:
  explicit temporary_directory(const std::string& parent);
  temporary_directory(const temporary_directory&) = delete;
  temporary_directory& operator=(const temporary_directory&) = delete;
  ~temporary_directory();
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace kit::drivers::detail
