// SPDX-License-Identifier: Apache-2.0
#include "conformance/bundle.hpp"
#include "kit/system/cgroup.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "kit/system/cgroup.hpp"
#include "kit/system/error.hpp"

namespace kit::testing {

namespace {

nlohmann::json standard_config() {
  return nlohmann::json::parse(R"({
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "hostname": "box",
    "process": {
      "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin", "HOME=/"],
      "user": {"uid": 0, "gid": 0},
      "noNewPrivileges": true,
      "capabilities": {"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL", "CAP_CHOWN"],
                       "permitted": ["CAP_KILL", "CAP_CHOWN"]}
    },
    "mounts": [
      {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
      {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
      {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
       "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
      {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
      {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
      {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
      {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}
    ],
    "linux": {
      "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"}],
      "resources": {"devices": [{"allow": false, "access": "rwm"}]},
      "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
      "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
    }
  })");
}

}  // namespace

std::string why_no_bundle() {
  if (::geteuid() != 0) return "not root";
  if (::access("/bin/busybox", X_OK) != 0) return "no /bin/busybox: install busybox-static";
  return {};
}

busybox_bundle::busybox_bundle() : config(standard_config()) {
  char name[] = "/tmp/kit-bundle-XXXXXX";
  if (::mkdtemp(name) == nullptr) fail_errno(errno, "make a directory in /tmp");
  directory = name;
  box.id = random_id<container_id>();
  box.bundle = directory + "/bundle";
  box.state_dir = directory + "/state";
  box.owner = fmt::format("kit:test:{}", box.id.text());
  make_directories(box.state_dir, 0700);
  for (const char* place : {"/bin", "/tmp", "/etc"}) make_directories(rootfs() + place);
  std::filesystem::copy_file("/bin/busybox", rootfs() + "/bin/busybox");
  for (const char* applet :
       {"sh",  "true",  "false", "cat",   "ls", "id",   "sleep", "kill", "grep",     "hostname", "touch", "pwd",
        "env", "mount", "ps",    "mkdir", "dd", "stat", "tty",   "stty", "readlink", "head",     "wc",    "test"})
    std::filesystem::create_symlink("busybox", rootfs() + "/bin/" + applet);
  config["linux"]["cgroupsPath"] = fmt::format("kit-test-{}/box", box.id.brief());
}

busybox_bundle::~busybox_bundle() {
  try {
    remove_tree(directory);
    cgroup(fmt::format("kit-test-{}/box", box.id.brief())).remove_parents();
  } catch (const std::exception&) {
    // The test that left something mounted or busy has failed by itself.
  }
}

void busybox_bundle::write() const { replace_file(box.bundle + "/config.json", config.dump(1)); }

}  // namespace kit::testing
