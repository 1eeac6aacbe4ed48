// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kit/system/error.hpp"
#include "kit/system/tree.hpp"
#include "kit/testing/impl/storage_checks.hpp"

namespace kit::testing::detail {
namespace {

void need(storage_fixture& f, storage_ability a) {
  if (!f.driver().can(a)) skip("{} does not model {} here", f.driver().name(), to_string(a));
}

// ---- reports_changes --------------------------------------------------------------------------------

std::vector<change> reported(storage_fixture& f, const stacked_layer& l) {
  std::vector<change> list;
  f.driver().changes(l, [&](const change& c) { list.push_back(c); });
  return list;
}

/// What the driver reports must be, entry for entry, what two readings of the trees give and what the engine's generic
/// way gives: for the writable layer and for the frozen one.
void expect_exact_changes(storage_fixture& f, const stacked_layer& parent, const stacked_layer& l) {
  const auto expected = changes_between(f.read(parent, access::read_only), f.read(l));
  auto judge = [&](const char* when) {
    const auto seen = reported(f, l);
    expect(seen == expected, "{}, the changes are [{}], not [{}]", when, to_text(seen), to_text(expected));
  };
  judge("while writable");
  f.driver().freeze(l.id);
  judge("frozen");
  std::vector<change> generic;
  compare_trees(f.open(parent, access::read_only).get(), f.open(l, access::read_only).get(),
                [&](difference what, const std::string& path) {
                  generic.push_back({static_cast<change::kind>(what), path});
                });
  expect(generic == expected, "compared generically, the changes are [{}], not [{}]", to_text(generic),
         to_text(expected));
}

void expect_exact_changes(storage_fixture& f, function_ref<void(int)> low, function_ref<void(int)> high) {
  need(f, storage_ability::reports_changes);
  const stacked_layer parent = f.frozen_base(low);
  const stacked_layer l = f.above(parent);
  f.write(l, high);
  expect_exact_changes(f, parent, l);
}

constexpr auto tree_with_a_bit_of_everything = [](int root) {
  put_directory(root, "d");
  put_directory(root, "d/e");
  put_file(root, "d/e/file", "1");
  put_file(root, "d/file", "1");
  put_file(root, "d-e", "1");  // stands between "d" and "d/" bytewise
  put_file(root, "file", "1");
  put_file(root, "other", "1");
  put_symlink(root, "link", "file");
  put_node(root, "null", S_IFCHR | 0666, makedev(1, 3));
};

void changes_of_an_untouched_layer_are_none(storage_fixture& f) {
  expect_exact_changes(f, tree_with_a_bit_of_everything, [](int) {});
}

void changes_leave_out_what_was_only_touched(storage_fixture& f) {
  expect_exact_changes(f, tree_with_a_bit_of_everything, [](int root) {
    open_at(root, "file", O_RDWR);
    set_mode(root, "other", 0600);
    set_mode(root, "other", 0644);
    put_file(root, "d/e/new", "1");
    erase(root, "d/e/new");  // leaves but a directory's time
  });
}

void changes_name_each_kind_sorted(storage_fixture& f) {
  expect_exact_changes(f, tree_with_a_bit_of_everything, [](int root) {
    put_file(root, "added", "1");
    put_file(root, "d/added", "1");
    put_file(root, "d-e", "2");
    erase(root, "file");
    erase(root, "link");
    append_file(root, "d/e/file", "2");
  });
}

void changes_see_all_that_counts(storage_fixture& f) {
  expect_exact_changes(
      f,
      [](int root) {
        for (const char* path : {"mode", "owner", "time", "content", "longer", "type", "same"}) {
          put_file(root, path, "1");
          set_time(root, path, 1'000'000'000);
        }
        put_directory(root, "directory_mode");
        put_directory(root, "directory_time");
        put_symlink(root, "target", "a");
        put_node(root, "device", S_IFCHR | 0600, makedev(1, 3));
      },
      [](int root) {
        set_mode(root, "mode", 0600);
        set_owner(root, "owner", 1, 1);
        set_time(root, "time", 1'000'000'001);
        put_file(root, "content", "2");
        set_time(root, "content", 1'000'000'000);
        put_file(root, "longer", "22");
        erase(root, "type");
        put_symlink(root, "type", "1");
        set_mode(root, "directory_mode", 0700);
        set_time(root, "directory_time", 1);
        erase(root, "target");
        put_symlink(root, "target", "b");
        erase(root, "device");
        put_node(root, "device", S_IFCHR | 0600, makedev(1, 5));
      });
}

void changes_see_attributes(storage_fixture& f) {
  need_attributes(f);
  expect_exact_changes(
      f,
      [](int root) {
        for (const char* path : {"added", "changed", "same"}) put_file(root, path, "1");
        put_directory(root, "d");
        put_attribute(root, "changed", "user.kit", "1");
        put_attribute(root, "same", "user.kit", "1");
      },
      [](int root) {
        put_attribute(root, "added", "user.kit", "1");
        put_attribute(root, "changed", "user.kit", "2");
        put_attribute(root, "same", "user.kit", "1");
        put_attribute(root, "d", "user.kit", "1");
      });
}

void changes_name_a_deleted_directory_alone(storage_fixture& f) {
  expect_exact_changes(f, tree_with_a_bit_of_everything, [](int root) { erase(root, "d"); });
}

void changes_name_everything_added(storage_fixture& f) {
  expect_exact_changes(f, tree_with_a_bit_of_everything, [](int root) {
    put_directory(root, "n");
    put_directory(root, "n/m");
    put_file(root, "n/m/file", "1");
    put_file(root, "n-m", "1");
    put_link(root, "n/link", "n-m");
  });
}

void changes_of_a_directory_made_again(storage_fixture& f) {
  expect_exact_changes(f, tree_with_a_bit_of_everything, [](int root) {
    erase(root, "d");
    put_directory(root, "d");
    put_file(root, "d/other", "1");
    put_directory(root, "d/e");
  });
}

void changes_of_a_path_that_changed_its_type(storage_fixture& f) {
  expect_exact_changes(f, tree_with_a_bit_of_everything, [](int root) {
    erase(root, "d");
    put_file(root, "d", "a file now");
    erase(root, "file");
    put_directory(root, "file");
    put_file(root, "file/inside", "1");
  });
}

void changes_of_a_rename_are_two(storage_fixture& f) {
  expect_exact_changes(f, tree_with_a_bit_of_everything, [](int root) {
    move(root, "file", "renamed");
    move(root, "d/file", "file");
  });
}

void changes_of_the_root_are_the_empty_path(storage_fixture& f) {
  expect_exact_changes(f, tree_with_a_bit_of_everything, [](int root) { set_mode(root, ".", 0700); });
}

void changes_of_a_base_are_all_of_it(storage_fixture& f) {
  need(f, storage_ability::reports_changes);
  const stacked_layer l = f.base();
  const auto empty = f.read(l);
  f.write(l, tree_with_a_bit_of_everything);
  const auto expected = changes_between(empty, f.read(l));
  const auto seen = reported(f, l);
  expect(seen == expected, "the changes are [{}], not [{}]", to_text(seen), to_text(expected));
}

void changes_leave_out_those_of_the_parents(storage_fixture& f) {
  need(f, storage_ability::reports_changes);
  const stacked_layer low = f.frozen_base(tree_with_a_bit_of_everything);
  const stacked_layer middle = f.frozen_above(low, [](int root) {
    erase(root, "d");
    put_file(root, "file", "2");
    erase(root, "other");
  });
  const stacked_layer l = f.above(middle);
  f.write(l, [](int root) {
    put_directory(root, "d");
    put_file(root, "d/file", "1");
    put_file(root, "file", "33");
    put_file(root, "other", "1");
  });
  expect_exact_changes(f, middle, l);
}

void changes_of_absent_are_not_found(storage_fixture& f) {
  need(f, storage_ability::reports_changes);
  f.base();
  expect_error(errc::not_found, "changes of an absent layer", [&] { reported(f, f.named()); });
}

// ---- limits_size ------------------------------------------------------------------------------------

/// Bytes written until the file system refused, of at most `mebibytes`.
std::size_t fill(int root, const std::string& path, int mebibytes) {
  const unique_fd fd = open_at(root, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const std::string data(1048576, 'x');
  std::size_t written = 0;
  for (int i = 0; i < mebibytes; ++i) {
    const ssize_t n = ::write(fd.get(), data.data(), data.size());
    if (n < 0) {
      expect(errno == ENOSPC || errno == EDQUOT, "a full layer answers {}", errno_text(errno));
      break;
    }
    written += static_cast<std::size_t>(n);
    // A file system that allocates late says so late.
    if (::fdatasync(fd.get()) != 0 && (errno == ENOSPC || errno == EDQUOT)) break;
  }
  return written;
}

void limit_is_kept_and_lifted(storage_fixture& f) {
  need(f, storage_ability::limits_size);
  const stacked_layer parent = f.frozen_base([](int root) { fill(root, "below", 8); });
  const stacked_layer l = f.above(parent);
  f.driver().limit(l.id, 16 * 1048576);
  f.driver().limit(l.id, 16 * 1048576);
  const unique_fd root = f.open(l, access::read_write);
  const std::size_t written = fill(root.get(), "a", 64);
  expect(written <= 16 * 1048576, "{} bytes fit a layer limited to 16 MiB", written);
  expect(written >= 12 * 1048576, "only {} bytes fit a layer limited to 16 MiB", written);
  f.driver().limit(l.id, 0);
  expect(fill(root.get(), "b", 32) == 32 * 1048576, "the lifted limit still holds");
}

void limited_layer_recovers(storage_fixture& f) {
  need(f, storage_ability::limits_size);
  const stacked_layer l = f.above(f.frozen_base([](int root) { put_file(root, "below", "1"); }));
  f.driver().limit(l.id, 16 * 1048576);
  const unique_fd root = f.open(l, access::read_write);
  fill(root.get(), "a", 64);
  expect(get_file(root.get(), "below") == "1", "in a full layer a file of a parent cannot be read");
  erase(root.get(), "a");
  // Space may come back with the next commit.
  expect(::syncfs(open_at(root.get(), ".", O_RDONLY | O_DIRECTORY).get()) == 0, "sync a layer that was full");
  const std::size_t written = fill(root.get(), "b", 8);
  expect(written == 8 * 1048576, "after a full layer was emptied, {} bytes of 8 MiB fit", written);
}

void limit_is_the_layers_own(storage_fixture& f) {
  need(f, storage_ability::limits_size);
  const stacked_layer parent = f.frozen_base([](int root) { put_file(root, "below", "1"); });
  const stacked_layer l = f.above(parent);
  f.driver().limit(l.id, 16 * 1048576);
  f.driver().create(l);
  const stacked_layer sibling = f.above(parent);
  expect(fill(f.open(sibling, access::read_write).get(), "a", 32) == 32 * 1048576, "a sibling's limit holds here");
  // By another object, and in directories made later.
  const auto other = f.another();
  if (other->can(storage_ability::activates)) other->activate(l, access::read_write);
  const unique_fd root = make_detached(other->mounts(l, access::read_write));
  if (other->can(storage_ability::activates)) other->release(l);
  put_directory(root.get(), "d");
  put_directory(root.get(), "d/e");
  const std::size_t written = fill(root.get(), "d/e/a", 64);
  expect(written <= 16 * 1048576, "{} bytes fit a layer that another object limited to 16 MiB", written);
}

void limit_goes_with_the_layer(storage_fixture& f) {
  need(f, storage_ability::limits_size);
  const stacked_layer parent = f.frozen_base([](int root) { put_file(root, "below", "1"); });
  const stacked_layer l = f.above(parent);
  f.driver().limit(l.id, 8 * 1048576);
  f.driver().remove(l.id);
  f.driver().create(l);
  expect(fill(f.open(l, access::read_write).get(), "a", 16) == 16 * 1048576, "a removed layer's limit holds the next");
}

void limit_of_absent_is_not_found(storage_fixture& f) {
  need(f, storage_ability::limits_size);
  f.base();
  expect_error(errc::not_found, "limit of an absent layer", [&] { f.driver().limit(f.named().id, 1048576); });
}

// ---- activates --------------------------------------------------------------------------------------

void activate_and_release_may_be_repeated(storage_fixture& f) {
  need(f, storage_ability::activates);
  const stacked_layer l = f.base();
  f.driver().activate(l, access::read_write);
  f.driver().activate(l, access::read_write);
  const unique_fd root = make_detached(f.driver().mounts(l, access::read_write));
  f.driver().release(l);
  f.driver().release(l);
  put_file(root.get(), "a", "1");
  expect(get_file(root.get(), "a") == "1", "a mounted tree is lost with the release of its layer");
}

// ---- rebases ----------------------------------------------------------------------------------------

void put_deletion(int root, const std::string& directory, const std::string& name, whiteouts how) {
  if (how == whiteouts::overlay) return put_node(root, directory + name, S_IFCHR);
  put_file(root, directory + ".wh." + name, "");
}

void put_opaque(int root, const std::string& directory, whiteouts how) {
  if (how == whiteouts::overlay) return put_attribute(root, directory, "trusted.overlay.opaque", "y");
  put_file(root, directory + "/.wh..wh..opq", "");
}

/// Without parents, filled with what makes a difference of it.
stacked_layer loose(storage_fixture& f) {
  const stacked_layer l = f.base();
  const whiteouts how = f.driver().deletions();
  f.write(l, [how](int root) {
    set_mode(root, ".", 0711);
    put_directory(root, "d", 0700);
    put_file(root, "d/added", "1");
    put_deletion(root, "d/", "file", how);
    put_deletion(root, "", "other", how);
    put_directory(root, "opaque");
    put_file(root, "opaque/added", "1");
    put_opaque(root, "opaque", how);
    put_file(root, "file", "2");
    for (const char* path : {"d/added", "opaque/added", "file"}) set_time(root, path, 1'000'000'000);
  });
  return l;
}

stacked_layer parent_of_loose(storage_fixture& f) {
  return f.frozen_base([](int root) {
    tree_with_a_bit_of_everything(root);
    put_directory(root, "opaque");
    put_file(root, "opaque/file", "1");
  });
}

stacked_layer over(const stacked_layer& parent, const stacked_layer& l) {
  return {l.id, storage_fixture::named_above(parent).parents};
}

/// As a layer that was written in sight of its parent.
void expect_rebased(storage_fixture& f, const stacked_layer& parent, const stacked_layer& l) {
  const stacked_layer alike = f.above(parent);
  f.write(alike, [](int root) {
    set_mode(root, ".", 0711);
    set_mode(root, "d", 0700);
    put_file(root, "d/added", "1");
    erase(root, "d/file");
    erase(root, "other");
    erase(root, "opaque/file");
    put_file(root, "opaque/added", "1");
    put_file(root, "file", "2");
    for (const char* path : {"d/added", "opaque/added", "file"}) set_time(root, path, 1'000'000'000);
  });
  const std::string difference = first_difference(f.read(alike), f.read(l));
  expect(difference.empty(), "rebased, a layer differs from one written over its parents: {}", difference);
}

void rebased_reads_as_written_over_its_parents(storage_fixture& f) {
  need(f, storage_ability::rebases);
  const stacked_layer parent = parent_of_loose(f), below = loose(f), l = over(parent, below);
  f.driver().rebase(l);
  expect_rebased(f, parent, l);
  f.write(l, [](int root) { erase(root, "d/added"), put_file(root, "d/added", "1"); });
  f.write(l, [](int root) { set_time(root, "d/added", 1'000'000'000); });
  f.driver().freeze(l.id);
  expect_rebased(f, parent, l);
  const stacked_layer child = f.above(l);
  expect(first_difference(f.read(l), f.read(child)).empty(), "a child of a rebased layer does not read as it does");
}

void rebase_may_be_repeated(storage_fixture& f) {
  need(f, storage_ability::rebases);
  const stacked_layer parent = parent_of_loose(f), l = over(parent, loose(f));
  f.driver().rebase(l);
  f.another()->rebase(l);
  f.another()->create(l);
  f.driver().freeze(l.id);
  f.another()->rebase(l);
  expect(f.state(l.id) == layer_state::state::frozen, "rebased again, a frozen layer is not frozen");
  expect_rebased(f, parent, l);
}

void rebase_over_others_conflicts(storage_fixture& f) {
  need(f, storage_ability::rebases);
  const stacked_layer parent = parent_of_loose(f), l = over(parent, loose(f)),
                      other = f.frozen_above(parent, [](int) {});
  f.driver().rebase(l);
  expect_error(errc::conflict, "rebase over another chain", [&] { f.driver().rebase(over(other, l)); });
  expect_error(errc::conflict, "create without parents after rebase", [&] { f.driver().create(layer{l.id, {}}); });
  const stacked_layer born = f.above(other);
  expect_error(errc::conflict, "rebase of a layer made over others", [&] { f.driver().rebase(over(parent, born)); });
  expect_rebased(f, parent, l);
}

void rebase_of_frozen_is_invalid(storage_fixture& f) {
  need(f, storage_ability::rebases);
  const stacked_layer parent = parent_of_loose(f), below = loose(f);
  f.driver().freeze(below.id);
  expect_error(errc::invalid, "rebase of a frozen layer", [&] { f.driver().rebase(over(parent, below)); });
  f.driver().create(below);
}

void rebase_needs_frozen_parents(storage_fixture& f) {
  need(f, storage_ability::rebases);
  const stacked_layer below = loose(f), writable = f.base(), absent = f.named();
  expect_error(errc::not_found, "rebase over an absent parent", [&] { f.driver().rebase(over(absent, below)); });
  expect_error(errc::invalid, "rebase over a writable parent", [&] { f.driver().rebase(over(writable, below)); });
  f.driver().create(below);
  expect_error(errc::not_found, "rebase of an absent layer",
               [&] { f.driver().rebase(over(parent_of_loose(f), f.named())); });
}

constexpr check<storage_fixture> checks[] = {
    {"changes_of_an_untouched_layer_are_none", "reports_changes: a file left alike is none",
     changes_of_an_untouched_layer_are_none},
    {"changes_leave_out_what_was_only_touched",
     "reports_changes: a file copied up and left alike is none, nor is a directory's time",
     changes_leave_out_what_was_only_touched},
    {"changes_name_each_kind_sorted", "reports_changes: sorted by path, bytewise, each path once",
     changes_name_each_kind_sorted},
    {"changes_see_all_that_counts",
     "reports_changes: type, mode, owner, device number, size, time, link target, content",
     changes_see_all_that_counts},
    {"changes_see_attributes", "reports_changes: extended attributes", changes_see_attributes},
    {"changes_name_a_deleted_directory_alone", "reports_changes: of a deleted directory only itself",
     changes_name_a_deleted_directory_alone},
    {"changes_name_everything_added", "reports_changes: of an added directory everything",
     changes_name_everything_added},
    {"changes_of_a_directory_made_again", "reports_changes: the difference, however it came about",
     changes_of_a_directory_made_again},
    {"changes_of_a_path_that_changed_its_type",
     "reports_changes: a directory that was something else before is modified, everything in it added",
     changes_of_a_path_that_changed_its_type},
    {"changes_of_a_rename_are_two", "reports_changes: the difference, however it came about",
     changes_of_a_rename_are_two},
    {"changes_of_the_root_are_the_empty_path", "reports_changes: the root itself is the empty path",
     changes_of_the_root_are_the_empty_path},
    {"changes_of_a_base_are_all_of_it", "reports_changes: between a layer and its chain, here none",
     changes_of_a_base_are_all_of_it},
    {"changes_leave_out_those_of_the_parents", "reports_changes: between a layer and its chain",
     changes_leave_out_those_of_the_parents},
    {"changes_of_absent_are_not_found", "reports_changes: absent: not_found", changes_of_absent_are_not_found},
    {"limit_is_kept_and_lifted", "limits_size: at most `bytes` more than its parents; 0 lifts it; repeatable",
     limit_is_kept_and_lifted},
    {"limited_layer_recovers", "limits_size: a writer beyond gets ENOSPC or EDQUOT, and no worse",
     limited_layer_recovers},
    {"limit_is_the_layers_own", "limits_size: the layer takes at most `bytes`: by whatever object, wherever in it",
     limit_is_the_layers_own},
    {"limit_goes_with_the_layer", "4: the layer is gone, and an id may be used again at once",
     limit_goes_with_the_layer},
    {"limit_of_absent_is_not_found", "limits_size: absent: not_found", limit_of_absent_is_not_found},
    {"activate_and_release_may_be_repeated", "activates: repeatable, and the kernel keeps what is mounted",
     activate_and_release_may_be_repeated},
    {"rebased_reads_as_written_over_its_parents", "rebases: its tree is its difference from its parents",
     rebased_reads_as_written_over_its_parents},
    {"rebase_may_be_repeated", "rebases: over these already: success, even when frozen", rebase_may_be_repeated},
    {"rebase_over_others_conflicts", "rebases: over others: conflict", rebase_over_others_conflicts},
    {"rebase_of_frozen_is_invalid", "rebases: frozen: invalid", rebase_of_frozen_is_invalid},
    {"rebase_needs_frozen_parents", "rebases: a parent absent: not_found, not frozen: invalid; nothing is changed",
     rebase_needs_frozen_parents},
};

}  // namespace

storage_checks_part storage_ability_checks() { return checks; }

}  // namespace kit::testing::detail
