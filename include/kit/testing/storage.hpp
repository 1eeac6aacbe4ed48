// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kit/storage/concept.hpp"
#include "kit/system/error.hpp"
#include "kit/testing/suite.hpp"
#include "kit/testing/tree.hpp"

/// \file
/// The conformance suite of storage drivers: one check per sentence of kit/storage/concept.hpp.
///
///     int failures = kit::testing::check_storage(
///         [](const kit::driver_config& c) { return copies(c); },
///         [](const kit::testing::outcome& o) { fmt::print("{}: {}\n", o.check, o.reason); });
///
/// It needs root, and leaves nothing behind but what a driver that fails it leaves. It forks and kills what it
/// forked, so it is called while the process has one thread.

namespace kit::testing {

/// A storage driver behind virtual functions, so that the checks are compiled once. It adds nothing and catches
/// nothing: what a check sees is what the driver did.
class storage_subject {
 public:
  virtual ~storage_subject() = default;
  virtual std::string name() const = 0;
  virtual probe_report probe() const = 0;
  virtual void create(const layer&, std::span<const option> = {}) = 0;
  virtual std::vector<mount> mounts(const layer&, access) = 0;
  virtual void freeze(const layer_id&) = 0;
  virtual void remove(const layer_id&) = 0;
  virtual disk_usage usage(const layer&) = 0;
  virtual void layers(layer_sink) = 0;
  virtual bool can(storage_ability) const = 0;
  virtual void changes(const layer&, change_sink) = 0;
  virtual void limit(const layer_id&, std::uint64_t bytes) = 0;
  virtual void activate(const layer&, access) = 0;
  virtual void release(const layer&) = 0;
  virtual void settle(const layer_id&, int rootfs_fd) = 0;
  virtual void rebase(const layer&) = 0;
  virtual whiteouts deletions() = 0;
};

/// Makes a new driver object; called several times with one configuration, also in forked children.
using make_storage = function_ref<std::unique_ptr<storage_subject>(const driver_config&)>;

/// A layer that owns its ids.
struct stacked_layer {
  layer_id id;
  std::vector<layer_id> parents;
  operator layer() const { return {id, parents}; }  // NOLINT(*-explicit-constructor): it is one
};

/// One check's own driver, over a directory of its own that goes with it.
class storage_fixture {
 public:
  /// Throws skipped where the suite or the driver cannot run.
  storage_fixture(make_storage make, const std::string& scratch);
  ~storage_fixture();
  storage_fixture(const storage_fixture&) = delete;
  storage_fixture& operator=(const storage_fixture&) = delete;

  storage_subject& driver() { return *driver_; }
  /// A new object over the same directory, as the next command makes one.
  std::unique_ptr<storage_subject> another() { return make_(config_); }
  const driver_config& config() const { return config_; }
  /// A directory of the check's own, on the driver's file system.
  const std::string& scratch() const { return scratch_; }

  /// A random id over `parent`'s chain, or over none; only named.
  static stacked_layer named_above(const stacked_layer& parent);
  static stacked_layer named() { return {random_id<layer_id>(), {}}; }
  /// Created, writable.
  stacked_layer base();
  stacked_layer above(const stacked_layer& parent);
  /// Created, written by `write(root descriptor)`, frozen.
  stacked_layer frozen_base(function_ref<void(int)> write);
  stacked_layer frozen_above(const stacked_layer& parent, function_ref<void(int)> write);

  /// The root of l, mounted detached.
  unique_fd open(const stacked_layer& l, access a);
  void write(const stacked_layer& l, function_ref<void(int)> write);
  tree_snapshot read(const stacked_layer& l, access a = access::live);

  std::vector<layer_state> layers() { return layers_of(*driver_); }
  static std::vector<layer_state> layers_of(storage_subject& driver);
  std::optional<layer_state::state> state(const layer_id& id);

  /// Names in the driver's directory, at any depth: what its layers take, as the host sees it.
  std::size_t footprint() const;

 private:
  make_storage make_;
  std::string scratch_;
  driver_config config_;
  std::unique_ptr<storage_subject> driver_;
};

/// Fails the check unless `call` throws kit::error of `code`.
void expect_error(errc code, std::string_view call_text, function_ref<void()> call);

std::span<const check<storage_fixture>> storage_checks();

/// Where a suite keeps its directories unless told: $TMPDIR or /tmp.
std::string default_scratch();

int run_storage_checks(make_storage make, outcome_sink out, std::string_view only, const std::string& scratch);

namespace detail {

template <class Made>
auto& driver_in(Made& made) {
  if constexpr (storage_driver<std::remove_const_t<Made>>)
    return made;
  else
    return *made;
}

template <class Made>
class storage_subject_of final : public storage_subject {
 public:
  template <class Make>
  storage_subject_of(Make& make, const driver_config& config) : made_(make(config)) {}

  std::string name() const override { return std::string(driver_in(made_).name()); }
  probe_report probe() const override { return driver_in(made_).probe(); }
  void create(const layer& l, std::span<const option> options) override { d().create(l, options); }
  std::vector<mount> mounts(const layer& l, access a) override { return d().mounts(l, a); }
  void freeze(const layer_id& id) override { d().freeze(id); }
  void remove(const layer_id& id) override { d().remove(id); }
  disk_usage usage(const layer& l) override { return d().usage(l); }
  void layers(layer_sink out) override { d().layers(out); }
  bool can(storage_ability a) const override { return kit::can(driver_in(made_), a); }
  void changes(const layer& l, change_sink out) override {
    if constexpr (reports_changes<driver_type>) d().changes(l, out);
  }
  void limit(const layer_id& id, std::uint64_t bytes) override {
    if constexpr (limits_size<driver_type>) d().limit(id, bytes);
  }
  void activate(const layer& l, access a) override {
    if constexpr (activates<driver_type>) d().activate(l, a);
  }
  void release(const layer& l) override {
    if constexpr (activates<driver_type>) d().release(l);
  }
  void settle(const layer_id& id, int rootfs_fd) override {
    if constexpr (settles<driver_type>) d().settle(id, rootfs_fd);
  }
  void rebase(const layer& l) override {
    if constexpr (rebases<driver_type>) d().rebase(l);
  }
  whiteouts deletions() override {
    if constexpr (rebases<driver_type>) return d().deletions();
    return whiteouts{};
  }

 private:
  using driver_type = std::remove_cvref_t<decltype(driver_in(std::declval<Made&>()))>;
  static_assert(storage_driver<driver_type>, "make(config) answers a storage driver or a pointer to one");
  driver_type& d() { return driver_in(made_); }
  Made made_;
};

}  // namespace detail

/// Runs the suite, or the one check named `only`, each against a fresh `make(const driver_config&)`: a driver or a
/// pointer that owns one, movable or not. Directories are made below `scratch`; `make` may put the driver elsewhere
/// (a file system of its own) by changing its copy of the configuration. Answers how many checks failed.
template <class Make>
int check_storage(Make make, outcome_sink out, std::string_view only = {},
                  const std::string& scratch = default_scratch()) {
  auto made = [&](const driver_config& config) -> std::unique_ptr<storage_subject> {
    return std::make_unique<detail::storage_subject_of<decltype(make(config))>>(make, config);
  };
  return run_storage_checks(made, out, only, scratch);
}

}  // namespace kit::testing
