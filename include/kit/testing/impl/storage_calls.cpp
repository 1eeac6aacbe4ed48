// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "kit/system/error.hpp"
#include "kit/testing/impl/storage_checks.hpp"

namespace kit::testing::detail {
namespace {

using state = layer_state::state;

constexpr auto nothing = [](int) {};

void expect_state(storage_fixture& f, const layer_id& id, state wanted) {
  const auto is = f.state(id);
  expect(is.has_value(), "layers() does not list {}", id.brief());
  expect(*is == wanted, "layers() gives {} the state {}, not {}", id.brief(), static_cast<int>(*is),
         static_cast<int>(wanted));
}

void expect_absent(storage_fixture& f, const layer_id& id) {
  expect(!f.state(id).has_value(), "layers() lists {}", id.brief());
}

/// What a writer of l must not find changed.
void expect_file(storage_fixture& f, const stacked_layer& l, const std::string& path, std::string_view content) {
  const unique_fd root = f.open(l, access::live);
  expect(exists(root.get(), path), "{} is missing in layer {}", path, l.id.brief());
  expect(get_file(root.get(), path) == content, "{} reads as something else", path);
}

// ---- the driver -----------------------------------------------------------------------------------

void name_is_a_word(storage_fixture& f) {
  const std::string name = f.driver().name();
  expect(!name.empty() && name.size() <= 32 && name[0] >= 'a' && name[0] <= 'z', "{:?} is no driver name", name);
  for (char c : name)
    expect((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-', "{:?} is no driver name", name);
  expect(name == f.another()->name(), "the name changes from object to object");
}

void constructing_touches_nothing(storage_fixture& f) {
  f.another();
  f.driver().probe();
  expect(names(open_file(f.scratch(), O_RDONLY | O_DIRECTORY).get()).empty(),
         "constructing or probing left something in {}", f.scratch());
}

void directory_is_private(storage_fixture& f) {
  f.base();
  struct ::stat st {};
  if (::stat(f.config().directory.c_str(), &st) != 0) skip("the driver keeps nothing in its directory");
  expect((st.st_mode & 07777) == 0700 && st.st_uid == 0, "the driver's directory is {:o}", st.st_mode & 07777);
}

// ---- 1. create ------------------------------------------------------------------------------------

void create_makes_a_writable_layer(storage_fixture& f) {
  const stacked_layer l = f.base();
  expect_state(f, l.id, state::writable);
  f.write(l, [](int root) { put_file(root, "a", "1"); });
  expect_file(f, l, "a", "1");
}

void create_reads_as_its_chain(storage_fixture& f) {
  const stacked_layer low = f.frozen_base([](int root) {
    put_file(root, "low", "1");
    put_file(root, "both", "1");
  });
  const stacked_layer middle = f.frozen_above(low, [](int root) {
    put_file(root, "middle", "2");
    put_file(root, "both", "22");
  });
  const tree_snapshot expected = f.read(middle, access::read_only);
  expect(expected.size() == 4, "the parent has {} entries, not 4", expected.size());
  const std::string difference = first_difference(expected, f.read(f.above(middle)));
  expect(difference.empty(), "{}", difference);
}

void create_repeated_succeeds(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base(nothing);
  const stacked_layer l = f.above(parent);
  f.driver().create(l);
  f.another()->create(l);
  expect_state(f, l.id, state::writable);
}

void create_repeated_keeps_contents(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base([](int root) { put_file(root, "gone", "1"); });
  const stacked_layer l = f.above(parent);
  f.write(l, [](int root) {
    put_file(root, "mine", "2");
    erase(root, "gone");
  });
  const tree_snapshot before = f.read(l);
  f.driver().create(l);
  const std::string difference = first_difference(before, f.read(l), true);
  expect(difference.empty(), "after a repeated create: {}", difference);
}

void create_repeated_keeps_frozen(storage_fixture& f) {
  const stacked_layer l = f.frozen_base([](int root) { put_file(root, "a", "1"); });
  f.driver().create(l);
  expect_state(f, l.id, state::frozen);
  expect_file(f, l, "a", "1");
}

void create_with_other_parents_conflicts(storage_fixture& f) {
  const stacked_layer one = f.frozen_base(nothing);
  const stacked_layer two = f.frozen_above(one, nothing);
  const stacked_layer l = f.above(two);
  f.write(l, [](int root) { put_file(root, "a", "1"); });
  stacked_layer other{l.id, {}};
  expect_error(errc::conflict, "create without the parents it has", [&] { f.driver().create(other); });
  other.parents = {one.id};
  expect_error(errc::conflict, "create over another parent", [&] { f.driver().create(other); });
  expect_file(f, l, "a", "1");
}

void create_over_absent_parent_is_not_found(storage_fixture& f) {
  f.base();
  const stacked_layer l = f.named_above(f.named());
  expect_error(errc::not_found, "create over a parent that is absent", [&] { f.driver().create(l); });
  expect(f.state(l.id).value_or(state::partial) == state::partial, "the refused layer is there");
}

void create_over_removed_parent_is_not_found(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base(nothing);
  f.driver().remove(parent.id);
  expect_error(errc::not_found, "create over a removed parent", [&] { f.driver().create(f.named_above(parent)); });
}

void create_over_writable_parent_is_invalid(storage_fixture& f) {
  const stacked_layer l = f.named_above(f.base());
  expect_error(errc::invalid, "create over a parent that is not frozen", [&] { f.driver().create(l); });
  expect(f.state(l.id).value_or(state::partial) == state::partial, "the refused layer is there");
}

void create_with_unknown_option_is_invalid(storage_fixture& f) {
  const stacked_layer l = f.named();
  const option unknown{"kit-suite-unknown", "1"};
  try {
    f.driver().create(l, {&unknown, 1});
  } catch (const error& e) {
    expect(e.code() == errc::invalid, "an unknown option is answered with {}, not invalid", to_string(e.code()));
    expect(std::string_view(e.what()).find(unknown.key) != std::string_view::npos, "{:?} does not name the option",
           e.what());
    expect_absent(f, l.id);
    return;
  }
  throw failed("create accepted an option it cannot know");
}

void create_cancelled_is_absent_or_partial(storage_fixture& f) {
  struct cancelling : call_context {
    bool cancelled() const noexcept override { return true; }
  } impatient;
  const stacked_layer parent = f.frozen_base([](int root) {
    for (int i = 0; i < 50; ++i) put_file(root, fmt::format("file{}", i), "1");
  });
  const stacked_layer l = f.named_above(parent);
  bool finished = false;
  try {
    const call_scope scope(impatient);
    f.driver().create(l);
    finished = true;
  } catch (const error& e) {
    expect(e.code() == errc::cancelled, "a cancelled create fails with {}", to_string(e.code()));
  }
  if (!finished)
    expect(f.state(l.id).value_or(state::partial) == state::partial, "the cancelled layer counts as whole");
  f.driver().create(l);
  const std::string difference = first_difference(f.read(parent), f.read(l));
  expect(difference.empty(), "created again after a cancelled create: {}", difference);
}

// ---- 2. mounts ------------------------------------------------------------------------------------

void mounts_change_nothing(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base([](int root) { put_file(root, "a", "1"); });
  const stacked_layer l = f.above(parent);
  if (f.driver().can(storage_ability::activates)) skip("the driver activates");
  const std::size_t before = f.footprint();
  const auto described = f.driver().mounts(l, access::read_write);
  f.driver().mounts(l, access::live);
  f.driver().mounts(parent, access::read_only);
  expect(!described.empty(), "mounts() describes nothing");
  expect(described.back().what != mount::action::reconfigure || described.size() > 1, "mounts() makes nothing");
  expect(f.footprint() == before, "mounts() left something in the driver's directory");
}

void mounts_may_be_asked_again(storage_fixture& f) {
  const stacked_layer l = f.base();
  for (int i = 0; i < 3; ++i) f.write(l, [&](int root) { put_file(root, fmt::format("{}", i), "1"); });
  const unique_fd root = f.open(l, access::live);
  expect(names(root.get()).size() == 3, "files of one writer are lost to the next");
}

void read_write_of_frozen_is_invalid(storage_fixture& f) {
  const stacked_layer l = f.frozen_base(nothing);
  expect_error(errc::invalid, "mounts(read_write) of a frozen layer",
               [&] { f.driver().mounts(l, access::read_write); });
}

void read_only_of_writable_is_invalid(storage_fixture& f) {
  const stacked_layer l = f.base();
  expect_error(errc::invalid, "mounts(read_only) of a writable layer",
               [&] { f.driver().mounts(l, access::read_only); });
}

void live_is_accepted_of_both(storage_fixture& f) {
  const stacked_layer l = f.base();
  f.write(l, [](int root) { put_file(root, "a", "1"); });
  expect_file(f, l, "a", "1");
  f.driver().freeze(l.id);
  expect_file(f, l, "a", "1");
}

void mounts_of_absent_are_not_found(storage_fixture& f) {
  f.base();
  for (access a : {access::read_write, access::read_only, access::live})
    expect_error(errc::not_found, fmt::format("mounts of an absent layer, access {}", static_cast<int>(a)),
                 [&] { f.driver().mounts(f.named(), a); });
}

void expect_refuses_writes(int root) {
  int made = ::openat(root, "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  expect(made < 0 && errno == EROFS, "a file can be made in a read-only view");
  made = ::openat(root, "a", O_WRONLY | O_CLOEXEC);
  expect(made < 0 && errno == EROFS, "a file can be opened for writing in a read-only view");
  expect(::unlinkat(root, "a", 0) != 0 && errno == EROFS, "a file can be removed in a read-only view");
  expect(::fchmodat(root, "a", 0600, 0) != 0 && errno == EROFS, "a mode can be changed in a read-only view");
}

void read_only_view_refuses_writes(storage_fixture& f) {
  const stacked_layer l = f.frozen_base([](int root) { put_file(root, "a", "1"); });
  expect_refuses_writes(f.open(l, access::read_only).get());
  const stacked_layer upper = f.frozen_above(l, nothing);
  expect_refuses_writes(f.open(upper, access::read_only).get());
}

void live_view_refuses_writes(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base([](int root) { put_file(root, "a", "1"); });
  expect_refuses_writes(f.open(f.above(parent), access::live).get());
}

void live_view_opens_beside_a_writer(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base([](int root) {
    put_file(root, "changed", "1");
    put_file(root, "deleted", "1");
  });
  const stacked_layer l = f.above(parent);
  const unique_fd writer = f.open(l, access::read_write);
  put_file(writer.get(), "changed", "22");
  put_file(writer.get(), "added", "3");
  erase(writer.get(), "deleted");
  const unique_fd reader = f.open(l, access::live);
  expect(get_file(reader.get(), "changed") == "22" && get_file(reader.get(), "added") == "3" &&
             !exists(reader.get(), "deleted"),
         "a live view does not show what was written before it was opened");
  put_file(writer.get(), "later", "4");
  expect(get_file(writer.get(), "later") == "4", "the writer is disturbed by a live view");
}

void siblings_do_not_see_each_other(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base([](int root) { put_file(root, "a", "1"); });
  const tree_snapshot before = f.read(parent);
  const stacked_layer one = f.above(parent);
  const stacked_layer two = f.above(parent);
  f.write(one, [](int root) {
    append_file(root, "a", "2");
    put_file(root, "b", "2");
  });
  std::string difference = first_difference(before, f.read(two));
  expect(difference.empty(), "a layer shows what was written to its sibling: {}", difference);
  difference = first_difference(before, f.read(parent), true);
  expect(difference.empty(), "a parent shows what was written to its child: {}", difference);
}

// ---- 3. freeze ------------------------------------------------------------------------------------

void freeze_keeps_contents(storage_fixture& f) {
  const stacked_layer l = f.base();
  f.write(l, [](int root) { put_file(root, "a", "1"); });
  const tree_snapshot before = f.read(l);
  f.driver().freeze(l.id);
  expect_state(f, l.id, state::frozen);
  const std::string difference = first_difference(before, f.read(l, access::read_only), true);
  expect(difference.empty(), "{}", difference);
}

void freeze_repeated_succeeds(storage_fixture& f) {
  const stacked_layer l = f.base();
  f.driver().freeze(l.id);
  f.driver().freeze(l.id);
  f.another()->freeze(l.id);
  expect_state(f, l.id, state::frozen);
}

void freeze_of_absent_is_not_found(storage_fixture& f) {
  f.base();
  expect_error(errc::not_found, "freeze of an absent layer", [&] { f.driver().freeze(f.named().id); });
}

void freeze_is_seen_by_every_object(storage_fixture& f) {
  const stacked_layer l = f.frozen_base(nothing);
  const auto other = f.another();
  expect_error(errc::invalid, "mounts(read_write) by another object", [&] { other->mounts(l, access::read_write); });
  const stacked_layer upper = f.named_above(l);
  other->create(upper);
  for (const layer_state& found : f.layers_of(*other))
    expect(found.id != l.id || found.is == state::frozen, "another object's layers() does not say frozen");
}

// ---- 4. remove ------------------------------------------------------------------------------------

void remove_of_absent_succeeds(storage_fixture& f) {
  const stacked_layer never = f.named();
  f.driver().remove(never.id);
  const stacked_layer l = f.base();
  f.driver().remove(never.id);
  f.driver().remove(l.id);
  f.driver().remove(l.id);
  f.another()->remove(l.id);
}

void remove_takes_writable_and_frozen(storage_fixture& f) {
  const stacked_layer writable = f.base();
  const stacked_layer frozen = f.frozen_base([](int root) { put_file(root, "a", "1"); });
  f.driver().remove(writable.id);
  f.driver().remove(frozen.id);
  expect_absent(f, writable.id);
  expect_absent(f, frozen.id);
  expect_error(errc::not_found, "mounts of a removed layer", [&] { f.driver().mounts(frozen, access::live); });
}

void remove_leaves_parent_and_sibling(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base([](int root) { put_file(root, "a", "1"); });
  const stacked_layer sibling = f.above(parent);
  const stacked_layer l = f.above(parent);
  f.driver().remove(l.id);
  expect_file(f, parent, "a", "1");
  expect_file(f, sibling, "a", "1");
}

void remove_gives_the_space_back(storage_fixture& f) {
  f.driver().remove(f.base().id);  // what the driver makes on first use is there now
  const std::size_t before = f.footprint();
  const stacked_layer l = f.frozen_base([](int root) {
    put_directory(root, "d");
    for (int i = 0; i < 100; ++i) put_file(root, fmt::format("d/{}", i), "1");
  });
  f.driver().remove(l.id);
  for (int i = 0; i < 200 && f.footprint() != before; ++i) {
    f.layers();
    ::usleep(10'000);
  }
  expect(f.footprint() == before, "two seconds after remove the driver's directory holds {} entries, before it {}",
         f.footprint(), before);
}

void id_is_free_at_once(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base([](int root) { put_file(root, "low", "1"); });
  stacked_layer l = f.above(parent);
  f.write(l, [](int root) { put_file(root, "old", "1"); });
  f.driver().freeze(l.id);
  f.driver().remove(l.id);
  f.driver().create(l);
  expect_state(f, l.id, state::writable);
  std::string difference = first_difference(f.read(parent), f.read(l));
  expect(difference.empty(), "an id used again shows: {}", difference);
  f.driver().remove(l.id);
  l.parents.clear();
  f.driver().create(l);
  expect(f.read(l).size() == 1, "an id used again without parents is not empty");
}

// ---- 5. usage -------------------------------------------------------------------------------------

std::string blob(std::size_t mebibytes) {
  std::string data(mebibytes * 1048576, '\0');
  std::uint64_t seed = 88172645463325252ull;  // does not compress, not even into a hole
  for (char& c : data) c = static_cast<char>((seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17));
  return data;
}

void usage_grows_with_the_layer(storage_fixture& f) {
  const stacked_layer l = f.base();
  const disk_usage before = f.driver().usage(l);
  f.write(l, [](int root) {
    put_file(root, "big", blob(4));
    for (int i = 0; i < 50; ++i) put_file(root, fmt::format("{}", i), "1");
  });
  f.driver().freeze(l.id);
  const disk_usage after = f.driver().usage(l);
  expect(after.bytes >= before.bytes + 4194304, "4 MiB written, usage went from {} to {} bytes", before.bytes,
         after.bytes);
  expect(after.bytes < before.bytes + 8388608, "4 MiB written, usage went from {} to {} bytes", before.bytes,
         after.bytes);
  expect(after.inodes >= before.inodes + 51, "51 files made, usage went from {} to {} inodes", before.inodes,
         after.inodes);
  const disk_usage other = f.another()->usage(l);
  expect(other.bytes == after.bytes && other.inodes == after.inodes, "two objects measure one layer differently");
}

void usage_shrinks_with_the_layer(storage_fixture& f) {
  const stacked_layer l = f.base();
  f.write(l, [](int root) { put_file(root, "kept", blob(1)); });
  const disk_usage before = f.driver().usage(l);
  f.write(l, [](int root) {
    put_file(root, "gone", blob(4));
    put_link(root, "link", "gone");
  });
  const disk_usage linked = f.driver().usage(l);
  expect(linked.bytes < before.bytes + 2 * 4194304, "a file of 4 MiB with two names takes {} bytes",
         linked.bytes - before.bytes);
  f.write(l, [](int root) {
    erase(root, "gone");
    erase(root, "link");
  });
  f.driver().freeze(l.id);
  const disk_usage after = f.driver().usage(l);
  expect(after.bytes < before.bytes + 65536 && after.inodes == before.inodes,
         "after all that was added went, usage is {} bytes and {} inodes, and was {} and {}", after.bytes, after.inodes,
         before.bytes, before.inodes);
}

void usage_leaves_out_the_parents(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base([](int root) {
    put_directory(root, "d");
    put_file(root, "d/big", blob(16));
    for (int i = 0; i < 200; ++i) put_file(root, fmt::format("d/{}", i), "1");
  });
  // A driver that copies takes its parents' size for a child that shows it all; for one that deleted it none does.
  const stacked_layer l = f.frozen_above(parent, [](int root) { erase(root, "d"); });
  const disk_usage alone = f.driver().usage(l);
  expect(alone.bytes < 8388608, "a layer that shows nothing takes {} bytes over a parent of 16 MiB", alone.bytes);
  expect(alone.inodes < 100, "a layer that shows nothing takes {} inodes over a parent of 200", alone.inodes);
}

void usage_of_absent_is_not_found(storage_fixture& f) {
  f.base();
  expect_error(errc::not_found, "usage of an absent layer", [&] { f.driver().usage(f.named()); });
}

// ---- 6. layers ------------------------------------------------------------------------------------

void layers_lists_exactly_what_is_there(storage_fixture& f) {
  expect(f.layers().empty(), "a fresh driver lists layers");
  const stacked_layer one = f.frozen_base(nothing);
  const stacked_layer two = f.frozen_above(one, nothing);
  const stacked_layer three = f.above(two);
  f.driver().remove(f.above(two).id);
  auto by_id = [](const layer_state& a, const layer_state& b) { return a.id < b.id; };
  std::vector<layer_state> expected{{one.id, state::frozen}, {two.id, state::frozen}, {three.id, state::writable}};
  std::sort(expected.begin(), expected.end(), by_id);
  for (const auto& driver : {f.another(), f.another()}) {
    auto seen = f.layers_of(*driver);
    std::sort(seen.begin(), seen.end(), by_id);
    expect(seen == expected, "layers() lists {} layers or other states; 3 are there", seen.size());
  }
}

void layers_stops_when_the_sink_throws(storage_fixture& f) {
  f.base();
  f.base();
  struct enough {};
  int told = 0;
  try {
    f.driver().layers([&](const layer_state&) {
      ++told;
      throw enough{};
    });
    throw failed("layers() swallowed what its sink threw");
  } catch (const enough&) {}
  expect(told == 1, "layers() went on after its sink threw");
  expect(f.layers().size() == 2, "layers() is not whole after a sink threw");
}

// ---- a new object ---------------------------------------------------------------------------------

void new_object_sees_the_same(storage_fixture& f) {
  const stacked_layer parent = f.frozen_base([](int root) { put_file(root, "a", "1"); });
  const stacked_layer l = f.above(parent);
  f.write(l, [](int root) { put_file(root, "b", "2"); });
  const tree_snapshot before = f.read(l);
  const auto other = f.another();
  other->create(l);
  if (other->can(storage_ability::activates)) other->activate(l, access::live);
  const tree_snapshot after = read_tree(make_detached(other->mounts(l, access::live)).get());
  if (other->can(storage_ability::activates)) other->release(l);
  const std::string difference = first_difference(before, after, true);
  expect(difference.empty(), "{}", difference);
  other->freeze(l.id);
  expect_state(f, l.id, state::frozen);
  other->remove(l.id);
  expect_absent(f, l.id);
}

constexpr check<storage_fixture> checks[] = {
    {"name_is_a_word", "driver 1: name() is [a-z][a-z0-9-]{0,31} and never changes", name_is_a_word},
    {"constructing_touches_nothing", "driver 2, 3: constructing and probing leave nothing behind",
     constructing_touches_nothing},
    {"directory_is_private", "the driver's directory is 0700", directory_is_private},

    {"create_makes_a_writable_layer", "1: after it returns the layer is whole and writable",
     create_makes_a_writable_layer},
    {"create_reads_as_its_chain", "1: a new layer reads as its chain does", create_reads_as_its_chain},
    {"create_repeated_succeeds", "1: present with the same parents and options: success", create_repeated_succeeds},
    {"create_repeated_keeps_contents", "1: present with the same parents: contents untouched",
     create_repeated_keeps_contents},
    {"create_repeated_keeps_frozen", "1: success, contents untouched, even when frozen", create_repeated_keeps_frozen},
    {"create_with_other_parents_conflicts", "1: present with others: conflict, contents untouched",
     create_with_other_parents_conflicts},
    {"create_over_absent_parent_is_not_found", "1: a parent that is absent is not_found",
     create_over_absent_parent_is_not_found},
    {"create_over_removed_parent_is_not_found", "1: a parent that is absent is not_found",
     create_over_removed_parent_is_not_found},
    {"create_over_writable_parent_is_invalid", "1: a parent that is not frozen is invalid",
     create_over_writable_parent_is_invalid},
    {"create_with_unknown_option_is_invalid", "1: an unknown option is invalid, named, and nothing is made",
     create_with_unknown_option_is_invalid},
    {"create_cancelled_is_absent_or_partial", "1: not possible: throws, and the layer is absent or partial",
     create_cancelled_is_absent_or_partial},

    {"mounts_change_nothing", "2: mounts changes nothing", mounts_change_nothing},
    {"mounts_may_be_asked_again", "2: the mounts show the layer, one writer after the other",
     mounts_may_be_asked_again},
    {"read_write_of_frozen_is_invalid", "2: read_write of a frozen layer: invalid", read_write_of_frozen_is_invalid},
    {"read_only_of_writable_is_invalid", "2: read_only of a layer that is not frozen: invalid",
     read_only_of_writable_is_invalid},
    {"live_is_accepted_of_both", "2: live is accepted of both", live_is_accepted_of_both},
    {"mounts_of_absent_are_not_found", "2: absent: not_found", mounts_of_absent_are_not_found},
    {"read_only_view_refuses_writes", "2: a read_only view refuses writes", read_only_view_refuses_writes},
    {"live_view_refuses_writes", "2: a live view refuses writes", live_view_refuses_writes},
    {"live_view_opens_beside_a_writer", "access: live is a moment's view while somebody writes",
     live_view_opens_beside_a_writer},
    {"siblings_do_not_see_each_other", "model: a layer is stored as its own difference",
     siblings_do_not_see_each_other},

    {"freeze_keeps_contents", "3: a frozen layer is accepted for read_only, and reads as before",
     freeze_keeps_contents},
    {"freeze_repeated_succeeds", "3: frozen already: success", freeze_repeated_succeeds},
    {"freeze_of_absent_is_not_found", "3: absent: not_found", freeze_of_absent_is_not_found},
    {"freeze_is_seen_by_every_object", "3: from now on refused for read_write, accepted as a parent",
     freeze_is_seen_by_every_object},

    {"remove_of_absent_succeeds", "4: absent: success", remove_of_absent_succeeds},
    {"remove_takes_writable_and_frozen", "4: the layer is gone from layers(), writable or frozen",
     remove_takes_writable_and_frozen},
    {"remove_leaves_parent_and_sibling", "4: the layer is gone, and nothing else", remove_leaves_parent_and_sibling},
    {"remove_gives_the_space_back", "4: its space comes back soon", remove_gives_the_space_back},
    {"id_is_free_at_once", "4: an id may be used again at once", id_is_free_at_once},

    {"usage_grows_with_the_layer", "5: bytes and inodes of this layer, exact when nobody writes",
     usage_grows_with_the_layer},
    {"usage_shrinks_with_the_layer", "5: bytes and inodes of this layer, exact when nobody writes",
     usage_shrinks_with_the_layer},
    {"usage_leaves_out_the_parents", "5: of this layer alone, without its parents", usage_leaves_out_the_parents},
    {"usage_of_absent_is_not_found", "5: absent: not_found", usage_of_absent_is_not_found},

    {"layers_lists_exactly_what_is_there", "6: every id the driver holds, with its state, and never another",
     layers_lists_exactly_what_is_there},
    {"layers_stops_when_the_sink_throws", "6: a sink that throws ends the call", layers_stops_when_the_sink_throws},
    {"new_object_sees_the_same", "driver 4: several objects may stand over one directory", new_object_sees_the_same},
};

}  // namespace

storage_checks_part storage_call_checks() { return checks; }

}  // namespace kit::testing::detail
