// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>

#include "kit/system/error.hpp"
#include "kit/testing/impl/storage_checks.hpp"

namespace kit::testing::detail {
void need_attributes(storage_fixture& f) {
  const stacked_layer l = f.base();
  const unique_fd root = f.open(l, access::read_write);
  put_file(root.get(), "a", "");
  try {
    put_attribute(root.get(), "a", "user.kit", "1");
  } catch (const error& e) {
    if (e.sys_errno() == EOPNOTSUPP) skip("the file system below has no user attributes");
    throw;
  }
}

namespace {

constexpr std::int64_t long_ago = 1'234'567'890'123'456'789;  // 2009, with nanoseconds

/// `low` written and frozen, `high` written over it: then the writer's view, the live view, the frozen view, the view
/// of another object and that of a child must all be what the writer saw.
void expect_kept(storage_fixture& f, function_ref<void(int)> low, function_ref<void(int)> high,
                 function_ref<void(int)> judge) {
  const stacked_layer parent = f.frozen_base(low);
  const tree_snapshot parent_before = f.read(parent, access::read_only);
  const stacked_layer l = f.above(parent);
  tree_snapshot written;
  {
    const unique_fd root = f.open(l, access::read_write);
    high(root.get());
    judge(root.get());
    written = read_tree(root.get());
  }
  auto expect_same = [&](const char* view, const tree_snapshot& seen) {
    const std::string difference = first_difference(written, seen);
    expect(difference.empty(), "{}: {}", view, difference);
  };
  expect_same("opened again for writing", f.read(l, access::read_write));
  expect_same("opened live", f.read(l, access::live));
  f.driver().freeze(l.id);
  expect_same("frozen", f.read(l, access::read_only));
  judge(f.open(l, access::read_only).get());
  const stacked_layer child = f.above(l);
  expect_same("as a parent", f.read(child, access::read_write));
  judge(f.open(child, access::read_write).get());
  const std::string difference = first_difference(parent_before, f.read(parent, access::read_only), true);
  expect(difference.empty(), "the parent below changed: {}", difference);
}

/// The judge for checks in which the comparison of the views says all.
constexpr auto as_written = [](int) {};

// ---- deletions --------------------------------------------------------------------------------------

void deleted_files_stay_deleted(storage_fixture& f) {
  expect_kept(
      f,
      [](int root) {
        put_file(root, "file", "1");
        put_directory(root, "d");
        put_file(root, "d/file", "1");
        put_symlink(root, "link", "file");
      },
      [](int root) {
        erase(root, "file");
        erase(root, "d/file");
        erase(root, "link");
      },
      [](int root) {
        expect(names(root) == std::vector<std::string>{"d"}, "a deleted file is back");
        expect(names(root, "d").empty(), "a deleted file is back in its directory");
      });
}

void deleted_directories_stay_deleted(storage_fixture& f) {
  expect_kept(
      f,
      [](int root) {
        put_directory(root, "d");
        put_directory(root, "d/e");
        put_file(root, "d/e/file", "1");
      },
      [](int root) { erase(root, "d"); }, [](int root) { expect(names(root).empty(), "a deleted directory is back"); });
}

void deleted_and_made_again_is_new(storage_fixture& f) {
  expect_kept(
      f,
      [](int root) {
        put_file(root, "file", "old", 0600);
        set_owner(root, "file", 7, 8);
      },
      [](int root) {
        erase(root, "file");
        put_file(root, "file", "new", 0644);
      },
      [](int root) {
        const auto st = status(root, "file");
        expect(get_file(root, "file") == "new" && (st.st_mode & 07777) == 0644 && st.st_uid == 0,
               "a file made anew keeps something of the deleted one");
      });
}

void directory_made_again_is_empty(storage_fixture& f) {
  std::string deep = "d0";
  for (int i = 1; i < 10; ++i) deep += fmt::format("/d{}", i);
  auto make_all = [&](int root, const std::string& file) {
    for (std::size_t at = deep.find('/'); at != std::string::npos; at = deep.find('/', at + 1)) {
      put_directory(root, deep.substr(0, at));
      put_file(root, deep.substr(0, at) + "/" + file, "1");
    }
    put_directory(root, deep);
    put_file(root, deep + "/" + file, "1");
  };
  expect_kept(
      f, [&](int root) { make_all(root, "old"); },
      [&](int root) {
        erase(root, "d0");
        make_all(root, "new");
      },
      [&](int root) {
        for (const auto& [path, entry] : read_tree(root))
          expect(path.find("old") == std::string::npos, "{} of a removed directory is back in its successor", path);
        expect(exists(root, deep + "/new"), "a file ten directories deep is lost");
      });
}

void directory_replaced_by_file_and_back(storage_fixture& f) {
  const stacked_layer low = f.frozen_base([](int root) {
    put_directory(root, "x");
    put_file(root, "x/inside", "1");
  });
  const stacked_layer middle = f.frozen_above(low, [](int root) {
    erase(root, "x");
    put_file(root, "x", "a file now");
  });
  expect(get_file(f.open(middle, access::read_only).get(), "x") == "a file now", "the file is not there");
  const stacked_layer high = f.frozen_above(middle, [](int root) {
    erase(root, "x");
    put_directory(root, "x");
    put_file(root, "x/other", "2");
  });
  const unique_fd root = f.open(high, access::read_only);
  expect(names(root.get(), "x") == std::vector<std::string>{"other"},
         "a directory that was a file in between shows what lay below");
  expect(exists(f.open(low, access::read_only).get(), "x/inside"), "the lowest layer changed");
}

void whiteouts_are_never_visible(storage_fixture& f) {
  stacked_layer l = f.frozen_base([](int root) {
    put_directory(root, "d");
    for (int i = 0; i < 8; ++i) put_file(root, fmt::format("d/{}", i), "1");
  });
  for (int i = 0; i < 4; ++i) {
    l = f.frozen_above(l, [&](int root) {
      erase(root, fmt::format("d/{}", i));
      put_file(root, fmt::format("d/again{}", i), "1");
      if (i > 0) erase(root, fmt::format("d/again{}", i - 1));
    });
    for (access a : {access::read_only, access::live}) {
      const unique_fd root = f.open(l, a);
      std::vector<std::string> expected;
      for (int k = i + 1; k < 8; ++k) expected.push_back(std::to_string(k));
      expected.push_back(fmt::format("again{}", i));
      expect(names(root.get(), "d") == expected, "{} names in a directory that should show {}",
             names(root.get(), "d").size(), expected.size());
      for (const auto& [path, entry] : read_tree(root.get()))
        expect(!S_ISCHR(entry.mode) && path.find(".wh.") == std::string::npos, "{} is visible", path);
    }
  }
  const stacked_layer child = f.above(l);
  f.write(child, [](int root) { erase(root, "d"); });  // a directory with whiteouts in it can be removed
  expect(f.read(child).size() == 1, "the directory is back");
}

// ---- changes of what lies below ---------------------------------------------------------------------

void lower_files_can_be_written(storage_fixture& f) {
  expect_kept(
      f,
      [](int root) {
        put_file(root, "appended", "1");
        put_file(root, "truncated", "12345");
        put_file(root, "middle", std::string(300000, 'a'));
      },
      [](int root) {
        append_file(root, "appended", "2");
        expect(::ftruncate(open_at(root, "truncated", O_WRONLY).get(), 2) == 0, "truncate");
        expect(::pwrite(open_at(root, "middle", O_WRONLY).get(), "b", 1, 150000) == 1, "write");
      },
      [](int root) {
        expect(get_file(root, "appended") == "12" && get_file(root, "truncated") == "12", "a write is lost");
        std::string expected(300000, 'a');
        expected[150000] = 'b';
        expect(get_file(root, "middle") == expected, "a write into the middle of a file is lost");
      });
}

void lower_files_can_be_renamed(storage_fixture& f) {
  expect_kept(
      f,
      [](int root) {
        put_file(root, "one", "1");
        put_file(root, "two", "2");
        put_directory(root, "d");
      },
      [](int root) {
        move(root, "one", "d/one");
        move(root, "two", "one");
      },
      [](int root) {
        expect(get_file(root, "d/one") == "1" && get_file(root, "one") == "2" && !exists(root, "two"),
               "a rename is lost");
      });
}

void lower_directories_rename_whole_or_say_exdev(storage_fixture& f) {
  expect_kept(
      f,
      [](int root) {
        put_directory(root, "d");
        put_file(root, "d/file", "1");
      },
      [](int root) {
        // EXDEV is what overlay file systems answer (rename(2) allows it); mv(1) then copies.
        if (::renameat(root, "d", root, "e") != 0) expect(errno == EXDEV, "rename: {}", errno_text(errno));
      },
      [](int root) {
        const std::string at = exists(root, "d") ? "d" : "e";
        expect(names(root) == std::vector<std::string>{at} && get_file(root, at + "/file") == "1",
               "a renamed directory is torn");
      });
}

void lower_modes_and_owners_change(storage_fixture& f) {
  expect_kept(
      f,
      [](int root) {
        put_file(root, "file", "content");
        put_directory(root, "d");
        put_file(root, "d/inside", "1");
        put_symlink(root, "link", "file");
      },
      [](int root) {
        set_owner(root, "file", 1000, 1001);
        set_mode(root, "file", 04755);
        set_owner(root, "d", 70000, 70001);
        set_mode(root, "d", 02770 | S_ISVTX);
        set_owner(root, "link", 5, 6);
      },
      [](int root) {
        expect((status(root, "file").st_mode & 07777) == 04755 && status(root, "file").st_uid == 1000, "file");
        expect((status(root, "d").st_mode & 07777) == 03770 && status(root, "d").st_gid == 70001, "directory");
        expect(status(root, "link").st_uid == 5, "symlink");
        expect(get_file(root, "file") == "content" && exists(root, "d/inside"), "contents are lost");
      });
}

void attributes_are_kept(storage_fixture& f) {
  need_attributes(f);
  const std::string binary("a\0b", 3);
  expect_kept(
      f,
      [&](int root) {
        put_file(root, "file", "1");
        put_directory(root, "d");
        put_attribute(root, "file", "user.kept", binary);
        put_attribute(root, "d", "user.kept", "d");
      },
      [&](int root) {
        put_attribute(root, "file", "user.added", "2");
        put_attribute(root, "d", "user.added", "");
        put_file(root, "new", "1");
        put_attribute(root, "new", "user.new", std::string(1000, 'x'));
      },
      [&](int root) {
        expect(get_attribute(root, "file", "user.kept") == binary, "an attribute from below is lost");
        expect(get_attribute(root, "file", "user.added") == "2", "an attribute is lost");
        expect(get_attribute(root, "d", "user.kept") == "d", "a directory's attribute from below is lost");
        expect(get_attribute(root, "new", "user.new").size() == 1000, "a new file's attribute is lost");
      });
}

void attributes_can_be_removed(storage_fixture& f) {
  need_attributes(f);
  expect_kept(
      f,
      [](int root) {
        put_file(root, "file", "1");
        put_directory(root, "d");
        for (const char* path : {"file", "d"}) put_attribute(root, path, "user.kept", "1");
        for (const char* path : {"file", "d"}) put_attribute(root, path, "user.gone", "1");
      },
      [](int root) {
        for (const char* path : {"file", "d"})
          expect(::fremovexattr(open_at(root, path, O_RDONLY).get(), "user.gone") == 0, "remove an attribute: {}",
                 errno_text(errno));
      },
      [](int root) {
        for (const char* path : {"file", "d"}) {
          expect(get_attribute(root, path, "user.gone").empty(), "a removed attribute of {} is back", path);
          expect(get_attribute(root, path, "user.kept") == "1", "an attribute of {} is lost", path);
        }
      });
}

void file_capabilities_survive_copying_up(storage_fixture& f) {
  vfs_cap_data net_raw{};
  net_raw.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  net_raw.data[0].permitted = 1u << CAP_NET_RAW;
  const std::string value(reinterpret_cast<const char*>(&net_raw), XATTR_CAPS_SZ_2);
  expect_kept(
      f,
      [&](int root) {
        for (const char* name : {"untouched", "timed", "opened", "linked"}) {
          put_file(root, name, "program", 0755);
          put_attribute(root, name, "security.capability", value);
        }
      },
      [](int root) {
        set_time(root, "timed", long_ago);
        open_at(root, "opened", O_RDWR);
        put_link(root, "link", "linked");
      },
      [&](int root) {
        for (const char* name : {"untouched", "timed", "opened", "linked", "link"})
          expect(get_attribute(root, name, "security.capability") == value, "{} has lost its capability", name);
      });
}

void times_are_kept_to_the_nanosecond(storage_fixture& f) {
  auto judge = [](int root) {
    for (const char* path : {"file", "link", "d", "d/file", "fifo", "after"}) {
      const auto st = status(root, path);
      expect(st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec == long_ago, "the time of {} is lost", path);
    }
  };
  expect_kept(
      f,
      [](int root) {
        put_file(root, "file", "1");
        put_symlink(root, "link", "file");
        put_directory(root, "d");
        put_file(root, "d/file", "1");
        put_node(root, "fifo", S_IFIFO | 0644);
        put_file(root, "after", "1");
        for (const char* path : {"file", "link", "d/file", "d", "fifo"}) set_time(root, path, long_ago);
      },
      [](int root) {
        set_mode(root, "file", 0600);
        set_time(root, "after", long_ago);
      },
      judge);
}

// ---- every type of file -----------------------------------------------------------------------------

void hard_links_share_one_file(storage_fixture& f) {
  expect_kept(
      f, [](int root) { put_file(root, "low", "1"); },
      [](int root) {
        put_file(root, "one", "1");
        put_link(root, "two", "one");
        append_file(root, "two", "2");
        put_link(root, "low2", "low");
        append_file(root, "low2", "2");
      },
      [](int root) {
        expect(status(root, "one").st_ino == status(root, "two").st_ino && status(root, "one").st_nlink == 2,
               "two links to a new file are two files");
        expect(get_file(root, "one") == "12", "a write through one link is not seen through the other");
        expect(status(root, "low").st_ino == status(root, "low2").st_ino && get_file(root, "low") == "12",
               "a link made to a file from below is another file");
      });
}

void sparse_files_stay_sparse(storage_fixture& f) {
  constexpr off_t size = off_t{256} * 1048576;
  const stacked_layer parent = f.frozen_base([&](int root) {
    put_file(root, "sparse", "begin");
    expect(::pwrite(open_at(root, "sparse", O_WRONLY).get(), "end", 3, size - 3) == 3, "write");
  });
  const stacked_layer l = f.frozen_above(parent, [](int root) { append_file(root, "sparse", "more"); });
  const unique_fd root = f.open(l, access::read_only);
  const unique_fd file = open_at(root.get(), "sparse", O_RDONLY);
  char text[8] = {};
  expect(status(root.get(), "sparse").st_size == size + 4 && ::pread(file.get(), text, 7, size - 3) == 7 &&
             std::string_view(text) == "endmore",
         "the end of a sparse file is lost");
  for (const stacked_layer& each : {parent, l})
    expect(f.driver().usage(each).bytes < 16777216, "a sparse file takes {} bytes", f.driver().usage(each).bytes);
}

void special_files_are_kept(storage_fixture& f) {
  expect_kept(
      f,
      [](int root) {
        put_node(root, "null", S_IFCHR | 0666, makedev(1, 3));
        put_node(root, "loop", S_IFBLK | 0660, makedev(7, 0));
        put_node(root, "fifo", S_IFIFO | 0600);
        put_node(root, "socket", S_IFSOCK | 0755);
      },
      [](int root) {
        for (const char* path : {"null", "loop", "fifo", "socket"}) set_owner(root, path, 3, 4);
        put_node(root, "zero", S_IFCHR | 0666, makedev(1, 5));
        put_node(root, "fifo2", S_IFIFO | 0600);
      },
      [](int root) {
        expect(S_ISCHR(status(root, "null").st_mode) && status(root, "null").st_rdev == makedev(1, 3), "null");
        expect(S_ISBLK(status(root, "loop").st_mode) && status(root, "loop").st_rdev == makedev(7, 0), "loop");
        expect(S_ISFIFO(status(root, "fifo").st_mode) && S_ISSOCK(status(root, "socket").st_mode), "fifo, socket");
        expect(status(root, "zero").st_rdev == makedev(1, 5) && status(root, "null").st_uid == 3, "zero");
      });
}

void symlinks_are_not_followed(storage_fixture& f) {
  expect_kept(
      f,
      [](int root) {
        put_symlink(root, "outside", "/etc/passwd");
        put_symlink(root, "up", "../../../..");
        put_symlink(root, "nowhere", std::string(1000, 'x'));  // xfs takes 1,024
        put_symlink(root, "d", "/");
      },
      [](int root) { put_symlink(root, "self", "self"); }, as_written);
}

void any_name_is_allowed(storage_fixture& f) {
  const std::string odd[] = {
      std::string(255, 'n'),        "new\nline", "\xff\xfe not UTF-8",  " ", "-rf", "back\\slash",
      "colon:comma,equals=quote\"", "...",       "\xc3\xa4\xe2\x82\xac"};
  expect_kept(
      f,
      [&](int root) {
        for (const std::string& name : odd) {
          put_directory(root, name);
          put_file(root, name + "/" + name, name);
        }
      },
      [&](int root) {
        for (const std::string& name : odd) append_file(root, name + "/" + name, "2");
        erase(root, odd[1] + "/" + odd[1]);
        put_file(root, odd[1] + "/" + odd[1], "again");
      },
      [&](int root) {
        expect(names(root).size() == std::size(odd), "{} names of {} are left", names(root).size(), std::size(odd));
      });
}

void big_files_are_kept(storage_fixture& f) {
  std::string data(std::size_t{9} * 1048576 + 17, '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 2654435761u >> 13);
  expect_kept(
      f, [&](int root) { put_file(root, "big", data); }, [](int root) { append_file(root, "big", "x"); },
      [&](int root) { expect(get_file(root, "big") == data + "x", "the content of a large file is lost"); });
}

// ---- the root directory -----------------------------------------------------------------------------

void root_of_a_base_is_plain(storage_fixture& f) {
  const unique_fd root = f.open(f.base(), access::read_write);
  const auto st = status(root.get(), "");
  expect(S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0755 && st.st_uid == 0 && st.st_gid == 0,
         "the root of a layer without parents is {:o}, owner {}:{}", st.st_mode & 07777, st.st_uid, st.st_gid);
  expect(names(root.get()).empty(), "the root of a layer without parents is not empty");
}

void root_keeps_mode_owner_and_attributes(storage_fixture& f) {
  need_attributes(f);
  const stacked_layer low = f.frozen_base([](int root) {
    set_mode(root, ".", 01711);
    set_owner(root, ".", 12, 34);
    put_attribute(root, ".", "user.kit", "root");
  });
  auto judge = [](int root, const char* where) {
    const auto st = status(root, "");
    expect((st.st_mode & 07777) == 01711 && st.st_uid == 12 && st.st_gid == 34, "the {} root is {:o}, owner {}:{}",
           where, st.st_mode & 07777, st.st_uid, st.st_gid);
    expect(get_attribute(root, ".", "user.kit") == "root", "the {} root lost its attribute", where);
  };
  judge(f.open(low, access::read_only).get(), "frozen");
  const stacked_layer middle = f.frozen_above(low, [](int root) { put_file(root, "a", "1"); });
  judge(f.open(middle, access::read_only).get(), "child's");
  judge(f.open(f.above(middle), access::read_write).get(), "grandchild's");
  const stacked_layer changed = f.frozen_above(middle, [](int root) { set_mode(root, ".", 0700); });
  expect((status(f.open(f.above(changed), access::live).get(), "").st_mode & 07777) == 0700,
         "the root's mode is not that of the nearest parent");
}

constexpr check<storage_fixture> checks[] = {
    {"deleted_files_stay_deleted", "2: the tree is the layer's; a deletion is part of it", deleted_files_stay_deleted},
    {"deleted_directories_stay_deleted", "2: the tree is the layer's; a deletion is part of it",
     deleted_directories_stay_deleted},
    {"deleted_and_made_again_is_new", "2: full POSIX semantics: unlink and create", deleted_and_made_again_is_new},
    {"directory_made_again_is_empty", "2: full POSIX semantics: a new directory hides the old one's contents",
     directory_made_again_is_empty},
    {"directory_replaced_by_file_and_back", "2: full POSIX semantics: a path changes its type",
     directory_replaced_by_file_and_back},
    {"whiteouts_are_never_visible", "2: whiteouts are never visible", whiteouts_are_never_visible},
    {"lower_files_can_be_written", "2: full POSIX semantics: write, truncate", lower_files_can_be_written},
    {"lower_files_can_be_renamed", "2: full POSIX semantics: rename", lower_files_can_be_renamed},
    {"lower_directories_rename_whole_or_say_exdev", "2: full POSIX semantics: rename of a directory",
     lower_directories_rename_whole_or_say_exdev},
    {"lower_modes_and_owners_change", "2: full POSIX semantics: chmod, chown", lower_modes_and_owners_change},
    {"attributes_are_kept", "2: full POSIX semantics: extended attributes", attributes_are_kept},
    {"attributes_can_be_removed", "2: full POSIX semantics: extended attributes", attributes_can_be_removed},
    {"file_capabilities_survive_copying_up", "2: full POSIX semantics: file capabilities",
     file_capabilities_survive_copying_up},
    {"times_are_kept_to_the_nanosecond", "2: full POSIX semantics: utimensat", times_are_kept_to_the_nanosecond},
    {"hard_links_share_one_file", "2: full POSIX semantics: link", hard_links_share_one_file},
    {"sparse_files_stay_sparse", "2: full POSIX semantics: holes, and 5: bytes as allocated", sparse_files_stay_sparse},
    {"special_files_are_kept", "2: full POSIX semantics: devices, fifos, sockets", special_files_are_kept},
    {"symlinks_are_not_followed", "2: full POSIX semantics: symlinks", symlinks_are_not_followed},
    {"any_name_is_allowed", "2: full POSIX semantics: any bytes but NUL and slash name a file", any_name_is_allowed},
    {"big_files_are_kept", "2: full POSIX semantics: content", big_files_are_kept},
    {"root_of_a_base_is_plain", "2: the root directory is 0755 root:root if there is no parent",
     root_of_a_base_is_plain},
    {"root_keeps_mode_owner_and_attributes", "2: the root keeps its mode, owner and xattrs from the nearest parent",
     root_keeps_mode_owner_and_attributes},
};

}  // namespace

storage_checks_part storage_tree_checks() { return checks; }

}  // namespace kit::testing::detail
