// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/socket.h>

#include <string>
#include <utility>

#include "kit/system/fd.hpp"

/// \file
/// Local sockets (unix(7)): pairs, names in a directory however long its path is, and descriptors passed through.

namespace kit {

/// Two connected ends, O_CLOEXEC. SOCK_SEQPACKET: a message arrives whole, an end that closes is read as 0.
std::pair<unique_fd, unique_fd> make_socket_pair(int type = SOCK_SEQPACKET);

/// A listening socket named `name` in `directory`, mode 0600. The address goes through a descriptor of the
/// directory, so the 107 bytes of sun_path limit `name` only. Throws; what has the name already: exists.
unique_fd listen_at(const std::string& directory, const std::string& name, int type = SOCK_SEQPACKET);
/// Connects to it. Empty if there is no such name or nobody listens any more.
unique_fd connect_at(const std::string& directory, const std::string& name, int type = SOCK_SEQPACKET);

/// One byte with the descriptor `fd` (SCM_RIGHTS). Async-signal-safe; 0 or -errno.
int send_descriptor(int socket, int fd) noexcept;
/// Its counterpart: the descriptor (O_CLOEXEC), or -errno; -ENODATA if the other side closed or sent none.
int receive_descriptor(int socket) noexcept;

}  // namespace kit
