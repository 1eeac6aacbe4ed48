// SPDX-License-Identifier: Apache-2.0
#include "kit/system/seccomp.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "kit/id.hpp"
#include "kit/isolation/default_seccomp.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace {

struct scratch {
  std::string path = "/tmp/kit-test-" + kit::hex(kit::random_bits().data(), 8);
  scratch() = default;
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  ~scratch() { std::filesystem::remove_all(path); }
};

/// What `body` answers in a child under `filter`; 1000 + the signal if one ended it.
template <class Body>
int under(const kit::seccomp_filter& filter, Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (kit::install_seccomp(filter) != 0) ::_exit(125);
    ::_exit(body());
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

int errno_of(long result) { return result < 0 ? errno : 0; }

bool same(const kit::seccomp_filter& a, const kit::seccomp_filter& b) {
  return a.flags == b.flags && a.program.size() == b.program.size() &&
         std::equal(a.program.begin(), a.program.end(), b.program.begin(), [](const auto& x, const auto& y) {
           return x.code == y.code && x.jt == y.jt && x.jf == y.jf && x.k == y.k;
         });
}

std::string only_file_in(const std::string& directory) {
  std::string found;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    CHECK(found.empty());
    found = entry.path();
  }
  return found;
}

/// Allows everything but what the test is about.
kit::seccomp_profile permissive() {
  kit::seccomp_profile p;
  p.default_action = kit::seccomp_action::allow;
  return p;
}

}  // namespace

TEST_CASE("the specification's words are read and written") {
  CHECK(kit::seccomp_action_of("SCMP_ACT_ERRNO") == kit::seccomp_action::error);
  CHECK(kit::seccomp_action_of("SCMP_ACT_KILL") == kit::seccomp_action::kill_thread);
  CHECK(kit::to_string(kit::seccomp_action::kill_process) == "SCMP_ACT_KILL_PROCESS");
  CHECK(kit::seccomp_compare_of("SCMP_CMP_MASKED_EQ") == kit::seccomp_compare::masked_equal);
  CHECK_THROWS_WITH(kit::seccomp_action_of("SCMP_ACT_NOTIFY"), Catch::Contains("agent"));
  CHECK_THROWS_WITH(kit::seccomp_compare_of("SCMP_CMP_SOMEHOW"), Catch::Contains("SCMP_CMP_SOMEHOW"));
}

TEST_CASE("a rule answers its errno, by argument, or kills") {
  auto p = permissive();
  p.rules.push_back({{"getppid"}, kit::seccomp_action::error, 42, {}});
  p.rules.push_back({{"socket"}, kit::seccomp_action::error, {}, {{0, AF_UNIX, 0, kit::seccomp_compare::equal}}});
  p.rules.push_back({{"getpgid", "no_such_call_anywhere"}, kit::seccomp_action::kill_process, {}, {}});
  const auto filter = kit::compile_seccomp(p);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_getppid)); }) == 42);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0)); }) == EPERM);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0)); }) == 0);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_getpgid, 0)); }) == 1000 + SIGSYS);
}

TEST_CASE("what cannot be compiled is named") {
  auto p = permissive();
  p.architectures = {"SCMP_ARCH_PDP11"};
  CHECK_THROWS_WITH(kit::compile_seccomp(p), Catch::Contains("SCMP_ARCH_PDP11"));
  p = permissive();
  p.flags = {"SECCOMP_FILTER_FLAG_WAIT"};
  CHECK_THROWS_WITH(kit::compile_seccomp(p), Catch::Contains("SECCOMP_FILTER_FLAG_WAIT"));
  p = permissive();
  p.rules.push_back({{"read"}, kit::seccomp_action::error, {}, {{6, 0, 0, kit::seccomp_compare::equal}}});
  CHECK_THROWS_AS(kit::compile_seccomp(p), kit::error);
}

TEST_CASE("the cache answers what compiling answers, from a file only its owner may write") {
  scratch s;
  auto p = permissive();
  p.rules.push_back({{"getppid"}, kit::seccomp_action::error, 42, {}});
  const auto compiled = kit::compile_seccomp(p);
  int asked = 0;
  const auto cached = [&](std::string_view text = "getppid answers 42") {
    return kit::cached_seccomp(text, s.path, [&] { return ++asked, p; });
  };
  CHECK(same(cached(), compiled));
  const auto file = only_file_in(s.path);
  const auto bytes = kit::read_file(file);
  struct stat st {};
  REQUIRE(::stat(file.c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0600);
  const auto inode = st.st_ino;

  SECTION("a hit leaves the file as it is") {
    CHECK(same(cached(), compiled));
    CHECK(asked == 1);
    REQUIRE(::stat(file.c_str(), &st) == 0);
    CHECK(st.st_ino == inode);
  }
  SECTION("another text is another profile") {
    p = permissive();
    CHECK_FALSE(same(cached("all is allowed"), compiled));
    CHECK(asked == 2);
  }
  SECTION("the answer comes from the file") {
    auto other = bytes;
    other.back() = static_cast<char>(other.back() ^ 1);
    kit::replace_file(file, other, 0600);
    CHECK_FALSE(same(cached(), compiled));
  }
  SECTION("a damaged file is replaced") {
    for (std::size_t keep : {std::size_t{0}, std::size_t{10}, bytes.size() / 2, bytes.size() - 1}) {
      kit::replace_file(file, bytes.substr(0, keep), 0600);
      CHECK(same(cached(), compiled));
      CHECK(kit::read_file(file) == bytes);
    }
  }
  SECTION("another profile's file under this name is replaced") {
    auto other = bytes;
    other[other.find("getppid")] = 'G';
    kit::replace_file(file, other, 0600);
    CHECK(same(cached(), compiled));
    CHECK(kit::read_file(file) == bytes);
  }
  SECTION("what another libseccomp compiled is replaced") {
    auto other = bytes;
    const auto inode_of_compiler = 32;  // behind magic, four numbers and the device
    other[inode_of_compiler] = static_cast<char>(other[inode_of_compiler] ^ 1);
    other.back() = static_cast<char>(other.back() ^ 1);
    kit::replace_file(file, other, 0600);
    CHECK(same(cached(), compiled));
    CHECK(kit::read_file(file) == bytes);
  }
  SECTION("a file others may write, or a link, is not believed") {
    auto other = bytes;
    other.back() = static_cast<char>(other.back() ^ 1);
    kit::replace_file(file, other, 0600);
    REQUIRE(::chmod(file.c_str(), 0666) == 0);
    CHECK(same(cached(), compiled));
    kit::replace_file(s.path + "/elsewhere", other, 0600);
    REQUIRE(::unlink(file.c_str()) == 0);
    REQUIRE(::symlink("elsewhere", file.c_str()) == 0);
    CHECK(same(cached(), compiled));
  }
}

TEST_CASE("a cache that cannot be written costs nothing but time") {
  CHECK(same(kit::cached_seccomp("all", "/proc/kit-cannot-be-made", [] { return permissive(); }),
             kit::compile_seccomp(permissive())));
}

TEST_CASE("the default profile lets programs work and keeps the kernel's back doors shut") {
  const auto filter = kit::compile_seccomp(kit::default_seccomp(kit::capability_set()));
  INFO(filter.program.size() << " instructions");
  CHECK(filter.program.size() < 2048);
  CHECK(under(filter, [] {
          const pid_t child = ::fork();
          if (child == 0) ::_exit(9);
          int status = 0;
          return ::waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : 1;
        }) == 9);
  CHECK(under(filter, [] { return ::open("/dev/null", O_RDWR | O_CLOEXEC) >= 0 ? 0 : errno; }) == 0);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0)); }) == 0);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_socket, AF_NETLINK, SOCK_RAW, 0)); }) == 0);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0)); }) == EPERM);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_socket, 38 /* AF_ALG */, SOCK_SEQPACKET, 0)); }) == EPERM);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_unshare, CLONE_NEWUSER)); }) == EPERM);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)); }) == EPERM);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_clone3, nullptr, 0)); }) == ENOSYS);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_personality, 0xffffffff)); }) == 0);
  CHECK(under(filter, [] { return errno_of(::syscall(SYS_personality, 0x40000)); }) == EPERM);
  for (const long number : {SYS_mount, SYS_keyctl, SYS_bpf, SYS_kexec_load, SYS_init_module, SYS_io_uring_setup,
                            SYS_userfaultfd, SYS_perf_event_open, SYS_open_by_handle_at, SYS_reboot, SYS_swapon})
    CHECK(under(filter, [&] { return errno_of(::syscall(number, -1, -1, -1, -1, -1)); }) == EPERM);
}

TEST_CASE("a granted capability opens its own calls and no others") {
  const auto with = [](unsigned capability) {
    kit::capability_set set;
    set.insert(capability);
    return kit::compile_seccomp(kit::default_seccomp(set));
  };
  const auto admin = with(CAP_SYS_ADMIN);
  CHECK(under(admin, [] { return errno_of(::syscall(SYS_unshare, 0)); }) == 0);
  CHECK(under(admin, [] { return errno_of(::syscall(SYS_clone3, nullptr, 0)); }) == EINVAL);
  CHECK(under(admin, [] { return errno_of(::syscall(SYS_init_module, nullptr, 0, nullptr)); }) == EPERM);
  const auto time = with(CAP_SYS_TIME);
  CHECK(under(time, [] { return errno_of(::syscall(SYS_clock_settime, -1, nullptr)); }) != EPERM);
  CHECK(under(time, [] { return errno_of(::syscall(SYS_unshare, 0)); }) == EPERM);
}
