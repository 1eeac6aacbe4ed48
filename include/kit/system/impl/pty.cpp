// SPDX-License-Identifier: Apache-2.0
#include "kit/system/pty.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>

namespace kit {

int open_pty(const char* ptmx, pty_pair& out) noexcept {
  // O_NONBLOCK for the open alone: were it a FIFO of the image, open would wait for ever.
  const int master = ::open(ptmx, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (master < 0) return -errno;
  struct statfs fs {};
  int unlocked = 0;
  int slave = -1;
  if (::fstatfs(master, &fs) != 0 || fs.f_type != DEVPTS_SUPER_MAGIC)
    errno = ENODEV;
  else if (::fcntl(master, F_SETFL, O_RDWR) == 0 && ::ioctl(master, TIOCSPTLCK, &unlocked) == 0)
    slave = ::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (slave < 0) {
    const int e = errno;
    ::close(master);
    return -e;
  }
  out = {master, slave};
  return 0;
}

int set_terminal_size(int terminal, std::uint16_t rows, std::uint16_t columns) noexcept {
  winsize size{};
  if (rows == 0 || columns == 0) return 0;
  size.ws_row = rows;
  size.ws_col = columns;
  return ::ioctl(terminal, TIOCSWINSZ, &size) == 0 ? 0 : -errno;
}

int take_controlling_terminal(int terminal) noexcept {
  if (::setsid() < 0) return -errno;
  return ::ioctl(terminal, TIOCSCTTY, 0) == 0 ? 0 : -errno;
}

}  // namespace kit
