// SPDX-License-Identifier: Apache-2.0
#include "drivers/isolation/native.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "conformance/bundle.hpp"
#include "kit/system/error.hpp"
#include "kit/system/pidfd.hpp"
#include "kit/system/process.hpp"
#include "kit/system/pty.hpp"
#include "kit/system/socket.hpp"

using namespace std::chrono_literals;
using kit::errc;
using kit::reach;

namespace {

bool runs_here() {
  const std::string why = kit::testing::why_no_bundle();
  if (!why.empty()) WARN("skipped: " << why);
  return why.empty();
}

kit::driver_config driver_config(const std::string& directory) {
  kit::driver_config c;
  c.directory = directory + "/driver";
  c.run_dir = directory + "/run";
  const char* bin = std::getenv("KIT_TEST_BIN");
  c.libexec = bin != nullptr ? bin : "bin";
  c.root_tag = "test";
  return c;
}

/// One container in its bundle: what it wrote comes back as text, and it is removed at the end.
struct native_box : kit::testing::busybox_bundle {
  kit::drivers::native driver{driver_config(directory)};
  kit::unique_fd output;
  kit::started running;

  ~native_box() {
    try {
      driver.remove(box);
      if (running.waiter) kit::reap(running.waiter.get());
    } catch (const kit::error&) {}
  }

  void command(const std::string& script) { config["process"]["args"] = {"sh", "-c", script}; }
  void create(std::span<const kit::mount> mounts = {}) {
    write();
    auto [read_end, write_end] = kit::make_pipe();
    output = std::move(read_end);
    kit::stdio io;
    io.out = io.err = write_end.get();
    running = driver.create(box, mounts, io);
    box.pid = running.pid;
    box.start_time = running.start_time;
  }
  int wait() {
    const int ended = kit::reap(running.waiter.get());
    running.waiter.reset();
    return ended;
  }
  std::string text() { return kit::read_all(output.get(), "output"); }

  /// From nothing to the end of `script`: what it wrote; its status in `status`.
  std::string run(const std::string& script) {
    command(script);
    create();
    driver.start(box);
    std::string out = text();
    status = wait();
    return out;
  }
  int status = -1;
};

template <class F>
kit::error error_of(F f) {
  try {
    f();
  } catch (const kit::error& e) {
    return e;
  }
  throw std::runtime_error("no error was thrown");
}

}  // namespace

TEST_CASE("a program runs as process 1 of its own root") {
  if (!runs_here()) return;
  native_box b;
  const std::string mounts = kit::read_file("/proc/self/mountinfo");
  CHECK(b.run("echo $$; hostname; ls /; ls /proc/self/fd | wc -l; exit 7") ==
        "1\nbox\nbin\ndev\netc\nproc\nsys\ntmp\n4\n");
  CHECK(b.status == 7);
  CHECK(kit::read_file("/proc/self/mountinfo") == mounts);
}
