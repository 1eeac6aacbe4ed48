// SPDX-License-Identifier: Apache-2.0
#include "kit/system/pidfd.hpp"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "kit/system/error.hpp"

namespace {

/// A process that ends when told to, by code 7 or by SIGKILL, and is reaped when told to.
class stranger {
 public:
  explicit stranger(bool kills_itself) {
    auto [told, tell] = kit::make_pipe();
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      char c = 0;
      tell.reset();
      (void)!::read(told.get(), &c, 1);
      if (kills_itself) ::kill(::getpid(), SIGKILL);
      ::_exit(7);
    }
    pid_ = pid;
    process = kit::open_pidfd(pid);
    tell_ = std::move(tell);
  }
  ~stranger() { ::waitpid(pid_, nullptr, 0); }
  stranger(const stranger&) = delete;
  stranger& operator=(const stranger&) = delete;
  void end() {
    tell_.reset();
    REQUIRE(kit::has_ended(process.get(), std::chrono::milliseconds(5000)));
  }
  void reap() { REQUIRE(::waitpid(pid_, nullptr, 0) == pid_); }
  kit::unique_fd process;

 private:
  pid_t pid_ = 0;
  kit::unique_fd tell_;
};

}  // namespace

TEST_CASE("the exit code of a process nobody has reaped is that of the zombie") {
  for (const bool killed : {false, true}) {
    stranger s(killed);
    s.end();
    CHECK(kit::exit_code_of(s.process.get()) == (killed ? 128 + SIGKILL : 7));
  }
}

TEST_CASE("a pidfd that was opened before the end knows the exit code after it was reaped, or says that it does not") {
  for (const bool killed : {false, true}) {
    stranger s(killed);
    s.end();
    s.reap();
    if (const auto code = kit::exit_code_of(s.process.get())) CHECK(*code == (killed ? 128 + SIGKILL : 7));
  }
}
