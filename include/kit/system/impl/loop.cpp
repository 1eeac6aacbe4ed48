// SPDX-License-Identifier: Apache-2.0
#include "kit/system/loop.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "kit/system/error.hpp"

namespace kit {
namespace {

constexpr unsigned loop_major = 7;
constexpr int most_races = 64;

unique_fd open_node(unsigned index) {
  const std::string path = fmt::format("/dev/loop{}", index);
  unique_fd fd = open_file(path, O_RDWR);
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) fail_errno(errno, "stat {}", path);
  if (!S_ISBLK(st.st_mode) || st.st_rdev != makedev(loop_major, index))
    fail(errc::invalid, "{} is not loop device {}", path, index);
  return fd;
}

}  // namespace

loop_device loop_device::attach(int backing) {
  const unique_fd control = open_file("/dev/loop-control", O_RDWR);
  loop_config config{};
  config.fd = static_cast<__u32>(backing);
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
  for (int i = 0; i < most_races; ++i) {
    const int index = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (index < 0) fail_errno(errno, "find a free loop device");
    unique_fd fd = open_node(static_cast<unsigned>(index));
    if (::ioctl(fd.get(), LOOP_CONFIGURE, &config) == 0)
      return {std::move(fd), makedev(loop_major, static_cast<unsigned>(index))};
    if (errno != EBUSY) fail_errno(errno, "set up /dev/loop{}", index);
  }
  fail(errc::busy, "find a free loop device: others took {} of them first", most_races);
}

loop_device loop_device::open(dev_t number) {
  if (major(number) != loop_major) fail(errc::invalid, "{}:{} is no loop device", major(number), minor(number));
  return {open_node(minor(number)), number};
}

void loop_device::grow() const {
  if (::ioctl(fd_.get(), LOOP_SET_CAPACITY) != 0) fail_errno(errno, "grow /dev/loop{}", minor(number_));
}

std::uint64_t block_device_size(int device) {
  std::uint64_t bytes = 0;
  if (::ioctl(device, BLKGETSIZE64, &bytes) != 0) fail_errno(errno, "ask the size of a block device");
  return bytes;
}

}  // namespace kit
