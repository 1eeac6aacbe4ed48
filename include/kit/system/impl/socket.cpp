// SPDX-License-Identifier: Apache-2.0
#include "kit/system/socket.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "kit/system/error.hpp"
#include "kit/system/seam.hpp"

namespace kit {

namespace {

/// "/proc/self/fd/N/NAME": the directory's descriptor stands for its path.
sockaddr_un address_in(int directory, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", directory, name);
  if (path.size() >= sizeof address.sun_path) fail(errc::invalid, "socket name {}: longer than 80 bytes", name);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

unique_fd new_socket(int type) {
  const int fd = ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
  if (fd < 0) fail_errno(errno, "make a local socket");
  return unique_fd(fd);
}

union rights {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

}  // namespace

std::pair<unique_fd, unique_fd> make_socket_pair(int type) {
  int ends[2];
  if (seam("socketpair", [&] { return ::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends); }) != 0)
    fail_errno(errno, "socketpair");
  return {unique_fd(ends[0]), unique_fd(ends[1])};
}

unique_fd listen_at(const std::string& directory, const std::string& name, int type) {
  const unique_fd at = open_file(directory, O_PATH | O_DIRECTORY);
  const sockaddr_un address = address_in(at.get(), name);
  unique_fd fd = new_socket(type);
  // The inode takes its mode from the socket's: no moment in which others could connect.
  if (::fchmod(fd.get(), 0600) != 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EADDRINUSE) fail(errc::exists, "bind {}/{}: it exists already", directory, name);
    fail_errno(errno, "bind {}/{}", directory, name);
  }
  if (::listen(fd.get(), 8) != 0) fail_errno(errno, "listen on {}/{}", directory, name);
  return fd;
}

unique_fd connect_at(const std::string& directory, const std::string& name, int type) {
  const int opened = ::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (opened < 0 && errno == ENOENT) return {};
  if (opened < 0) fail_errno(errno, "open {}", directory);
  const unique_fd at(opened);
  const sockaddr_un address = address_in(at.get(), name);
  unique_fd fd = new_socket(type);
  while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) return {};
    if (errno != EINTR) fail_errno(errno, "connect to {}/{}", directory, name);
  }
  return fd;
}

int send_descriptor(int socket, int fd) noexcept {
  rights control{};
  char byte = 0;
  iovec data{&byte, 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  control.header.cmsg_level = SOL_SOCKET;
  control.header.cmsg_type = SCM_RIGHTS;
  control.header.cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
  while (::sendmsg(socket, &message, MSG_NOSIGNAL) < 0)
    if (errno != EINTR) return -errno;
  return 0;
}

int receive_descriptor(int socket) noexcept {
  rights control{};
  char byte = 0;
  iovec data{&byte, 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  while (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) < 0)
    if (errno != EINTR) return -errno;
  int fd = -1;
  const cmsghdr* first = CMSG_FIRSTHDR(&message);
  if (first == nullptr || first->cmsg_level != SOL_SOCKET || first->cmsg_type != SCM_RIGHTS ||
      first->cmsg_len != CMSG_LEN(sizeof fd))
    return -ENODATA;
  std::memcpy(&fd, CMSG_DATA(first), sizeof fd);
  return fd;
}

}  // namespace kit
