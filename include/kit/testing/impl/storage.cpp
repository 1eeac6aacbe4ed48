// SPDX-License-Identifier: Apache-2.0
#include "kit/testing/storage.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "kit/system/error.hpp"
#include "kit/testing/impl/storage_checks.hpp"

namespace kit::testing {
namespace {

std::string temporary_directory(const std::string& parent) {
  std::string path = parent + "/kit-storage-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) fail_errno(errno, "make a directory in {}", parent);
  return path;
}

}  // namespace

storage_fixture::storage_fixture(make_storage make, const std::string& scratch) : make_(make) {
  if (::geteuid() != 0) skip("needs root");
  scratch_ = temporary_directory(scratch);
  config_.directory = scratch_ + "/driver";
  config_.run_dir = scratch_ + "/run";
  config_.root_tag = scratch_.substr(scratch_.size() - 6);
  try {
    driver_ = make_(config_);
    if (const probe_report report = driver_->probe(); !report.usable)
      skip("{} is not usable here: {}", driver_->name(), report.reason);
  } catch (...) {
    remove_tree(scratch_);
    throw;
  }
}

storage_fixture::~storage_fixture() {
  try {
    // Some drivers keep what only they can remove: subvolumes, devices.
    for (const layer_state& found : layers()) driver_->remove(found.id);
  } catch (const std::exception&) {
    // The driver under test may be broken; its directory goes all the same.
  }
  try {
    remove_tree(scratch_);
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}\n", e.what());
  }
}

stacked_layer storage_fixture::named_above(const stacked_layer& parent) {
  stacked_layer l{random_id<layer_id>(), {parent.id}};
  l.parents.insert(l.parents.end(), parent.parents.begin(), parent.parents.end());
  return l;
}

stacked_layer storage_fixture::base() {
  stacked_layer l = named();
  driver_->create(l);
  return l;
}

stacked_layer storage_fixture::above(const stacked_layer& parent) {
  stacked_layer l = named_above(parent);
  driver_->create(l);
  return l;
}

stacked_layer storage_fixture::frozen_base(function_ref<void(int)> write_it) {
  stacked_layer l = base();
  write(l, write_it);
  driver_->freeze(l.id);
  return l;
}

stacked_layer storage_fixture::frozen_above(const stacked_layer& parent, function_ref<void(int)> write_it) {
  stacked_layer l = above(parent);
  write(l, write_it);
  driver_->freeze(l.id);
  return l;
}

unique_fd storage_fixture::open(const stacked_layer& l, access a) {
  if (!driver_->can(storage_ability::activates)) return make_detached(driver_->mounts(l, a));
  driver_->activate(l, a);
  unique_fd tree = make_detached(driver_->mounts(l, a));
  driver_->release(l);
  return tree;
}

void storage_fixture::write(const stacked_layer& l, function_ref<void(int)> write_it) {
  const unique_fd root = open(l, access::read_write);
  write_it(root.get());
  if (driver_->can(storage_ability::settles)) driver_->settle(l.id, root.get());
}

tree_snapshot storage_fixture::read(const stacked_layer& l, access a) { return read_tree(open(l, a).get()); }

std::vector<layer_state> storage_fixture::layers_of(storage_subject& driver) {
  std::vector<layer_state> list;
  driver.layers([&](const layer_state& found) { list.push_back(found); });
  return list;
}

std::optional<layer_state::state> storage_fixture::state(const layer_id& id) {
  for (const layer_state& found : layers())
    if (found.id == id) return found.is;
  return std::nullopt;
}

std::size_t storage_fixture::footprint() const {
  std::error_code ignored;
  std::size_t count = 0;
  // A driver may be deleting in the background: what vanishes meanwhile ends the walk early, and the caller asks again.
  for (std::filesystem::recursive_directory_iterator at(config_.directory, ignored), end; at != end;
       at.increment(ignored))
    ++count;
  return count;
}

void expect_error(errc code, std::string_view call_text, function_ref<void()> call) {
  try {
    call();
  } catch (const error& e) {
    expect(e.code() == code, "{} failed with {} ({}), not {}", call_text, to_string(e.code()), e.what(),
           to_string(code));
    return;
  }
  throw failed(fmt::format("{} succeeded; it must fail with {}", call_text, to_string(code)));
}

std::span<const check<storage_fixture>> storage_checks() {
  static const std::vector<check<storage_fixture>> all = [] {
    std::vector<check<storage_fixture>> list;
    for (auto part : {detail::storage_call_checks(), detail::storage_tree_checks(), detail::storage_history_checks(),
                      detail::storage_ability_checks(), detail::storage_interruption_checks()})
      list.insert(list.end(), part.begin(), part.end());
    return list;
  }();
  return all;
}

std::string default_scratch() {
  const char* told = std::getenv("TMPDIR");
  return told != nullptr && *told != '\0' ? told : "/tmp";
}

int run_storage_checks(make_storage make, outcome_sink out, std::string_view only, const std::string& scratch) {
  return run_checks(
      storage_checks(), [&] { return storage_fixture(make, scratch); }, out, only);
}

}  // namespace kit::testing
