// SPDX-License-Identifier: Apache-2.0
#include "kit/testing/network_lab.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>

#include "kit/system/error.hpp"
#include "kit/system/netlink.hpp"
#include "kit/system/nftables.hpp"
#include "kit/testing/suite.hpp"

namespace kit::testing {
namespace {

constexpr int patience_ms = 3000;

std::string make_directory() {
  std::string name = "/tmp/kit-network-XXXXXX";
  if (!::mkdtemp(name.data())) throw_errno(errno, "make a directory for the test");
  return name;
}

/// An address with a port, as the socket calls want it.
struct socket_name {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);
  socket_name() = default;
  socket_name(const ip_address& a, std::uint16_t port) {
    if (a.v6) {
      auto* to = reinterpret_cast<sockaddr_in6*>(&storage);
      to->sin6_family = AF_INET6;
      to->sin6_port = htons(port);
      std::memcpy(&to->sin6_addr, a.bytes.data(), 16);
      length = sizeof *to;
    } else {
      auto* to = reinterpret_cast<sockaddr_in*>(&storage);
      to->sin_family = AF_INET;
      to->sin_port = htons(port);
      std::memcpy(&to->sin_addr, a.bytes.data(), 4);
      length = sizeof *to;
    }
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  ip_address address() const {
    ip_address a;
    a.v6 = storage.ss_family == AF_INET6;
    if (a.v6)
      std::memcpy(a.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr, 16);
    else
      std::memcpy(a.bytes.data(), &reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr, 4);
    return a;
  }
};

unique_fd socket_in(int netns, const ip_address& a, int type) {
  namespace_scope there(netns, namespace_kind::net);
  unique_fd s(::socket(a.family(), type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!s) throw_errno(errno, "open a socket");
  return s;
}

void wait_for(int fd, short events, const ip_address& a, const char* step) {
  pollfd p{fd, events, 0};
  if (::poll(&p, 1, patience_ms) != 1)
    throw failed(fmt::format("{} {}: nothing came within {} ms", step, a.str(), patience_ms));
}

/// A socket of the server, bound to `a` and a free port.
std::pair<unique_fd, socket_name> bind_in(int netns, const ip_address& a, int type) {
  unique_fd s = socket_in(netns, a, type);
  socket_name name(a, 0);
  if (::bind(s.get(), name.get(), name.length) != 0)
    throw failed(fmt::format("listen on {}: {}", a.str(), errno_text(errno)));
  if (::getsockname(s.get(), name.get(), &name.length) != 0) throw_errno(errno, "ask for a socket's port");
  return {std::move(s), name};
}

void pass(int from, int to, const ip_address& a, const char* step) {
  if (::send(from, "kit", 3, MSG_NOSIGNAL) != 3)
    throw failed(fmt::format("{} {}: {}", step, a.str(), errno_text(errno)));
  wait_for(to, POLLIN, a, step);
  char got[8];
  if (::recv(to, got, sizeof got, 0) != 3) throw failed(fmt::format("{} {}: other bytes came", step, a.str()));
}

/// {client, server, the client's address as the server sees it}
struct connected {
  unique_fd client, server;
  ip_address seen;
};
connected connect_tcp(int client, int server, const ip_address& a) {
  auto [listening, name] = bind_in(server, a, SOCK_STREAM);
  if (::listen(listening.get(), 1) != 0) throw_errno(errno, "listen");
  connected c;
  c.client = socket_in(client, a, SOCK_STREAM);
  if (::connect(c.client.get(), name.get(), name.length) != 0 && errno != EINPROGRESS)
    throw failed(fmt::format("connect to {}: {}", a.str(), errno_text(errno)));
  wait_for(listening.get(), POLLIN, a, "connect to");
  socket_name peer;
  c.server.reset(::accept4(listening.get(), peer.get(), &peer.length, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!c.server) throw_errno(errno, "accept");
  c.seen = peer.address();
  wait_for(c.client.get(), POLLOUT, a, "connect to");
  return c;
}

}  // namespace

network_lab::network_lab()
    : directory_(make_directory()), host_(make_network_namespace()), inside_(host_.get(), namespace_kind::net) {
  netlink_batch b;
  b.set_link("lo", {.up = true});
  netlink().commit(b);
  // A new namespace takes over what the machine forwards.
  for (const char* key : {"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"})
    if (::access(key, F_OK) == 0) write_all(open_file(key, O_WRONLY).get(), "0", key);
}

network_lab::~network_lab() {
  try {
    remove_tree(directory_);
  } catch (const std::exception&) {  // a directory in /tmp is not worth the test's answer
  }
}

std::vector<std::string> network_lab::inventory(int netns) {
  netlink n(netns);
  std::vector<std::string> all;
  for (const net_link& l : n.links()) {
    all.push_back(fmt::format("link {} {} \"{}\" {} mtu {} master {} {}", l.name, l.kind, l.alias, l.mac, l.mtu,
                              l.master, l.up ? "up" : "down"));
    for (const ip_prefix& a : n.addresses(l.index))
      if (!a.address.v6 || !ip_prefix::parse("fe80::/10").contains(a.address))  // comes when the kernel likes
        all.push_back(fmt::format("address {} {}", l.name, a.str()));
  }
  for (const net_route& r : n.routes())
    if (!r.destination.address.v6 || r.gateway)
      all.push_back(
          fmt::format("route {} by {} link {}", r.destination.str(), r.gateway ? r.gateway->str() : "-", r.link));
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<std::string> network_lab::host_inventory() const {
  auto all = inventory(host_.get());
  try {
    all.push_back(nftables().run("list ruleset"));
  } catch (const error& e) {
    if (e.code() != errc::unsupported) throw;
  }
  return all;
}

bool network_lab::becomes(const std::vector<std::string>& wanted) const {
  for (int tenth = 0; tenth < 200; ++tenth) {
    if (host_inventory() == wanted) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return host_inventory() == wanted;
}

void network_lab::make_link(int netns, const std::string& name, const std::string& alias) {
  netlink_batch b;
  b.add_link(name, bridge_link{}, {.alias = alias});
  netlink(netns).commit(b);
}

ip_address network_lab::talk_tcp(int client, int server, const ip_address& address) {
  connected c = connect_tcp(client, server, address);
  pass(c.client.get(), c.server.get(), address, "send to");
  pass(c.server.get(), c.client.get(), address, "answer from");
  return c.seen;
}

ip_address network_lab::talk_udp(int client, int server, const ip_address& address) {
  auto [listening, name] = bind_in(server, address, SOCK_DGRAM);
  unique_fd asking = socket_in(client, address, SOCK_DGRAM);
  if (::connect(asking.get(), name.get(), name.length) != 0 || ::send(asking.get(), "kit", 3, 0) != 3)
    throw failed(fmt::format("send to {}: {}", address.str(), errno_text(errno)));
  wait_for(listening.get(), POLLIN, address, "send to");
  char got[8];
  socket_name peer;
  if (::recvfrom(listening.get(), got, sizeof got, 0, peer.get(), &peer.length) != 3 ||
      ::sendto(listening.get(), "kit", 3, 0, peer.get(), peer.length) != 3)
    throw failed(fmt::format("answer from {}: {}", address.str(), errno_text(errno)));
  wait_for(asking.get(), POLLIN, address, "answer from");
  if (::recv(asking.get(), got, sizeof got, 0) != 3)
    throw failed(fmt::format("answer from {}: other bytes came", address.str()));
  return peer.address();
}

bool network_lab::reaches(int client, const ip_address& address, std::chrono::milliseconds patience) {
  unique_fd s = socket_in(client, address, SOCK_STREAM);
  socket_name name(address, 9);  // discard: nobody listens, so the answer is a reset
  if (::connect(s.get(), name.get(), name.length) == 0) return true;
  if (errno == ECONNREFUSED) return true;
  if (errno != EINPROGRESS) return false;
  pollfd p{s.get(), POLLOUT, 0};
  if (::poll(&p, 1, static_cast<int>(patience.count())) != 1) return false;
  int why = 0;
  socklen_t size = sizeof why;
  ::getsockopt(s.get(), SOL_SOCKET, SO_ERROR, &why, &size);
  return why == 0 || why == ECONNREFUSED;
}

network_connection::network_connection(int client, int server, const ip_address& address) {
  connected c = connect_tcp(client, server, address);
  client_ = std::move(c.client);
  server_ = std::move(c.server);
}

void network_connection::use() {
  pass(client_.get(), server_.get(), {}, "use a connection that stood before");
  pass(server_.get(), client_.get(), {}, "use a connection that stood before");
}

traced_run run_until(unsigned stop, function_ref<void()> work) {
  pid_t child = ::fork();
  if (child < 0) throw_errno(errno, "fork");
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    ::raise(SIGSTOP);
    try {
      work();
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  traced_run run;
  int status = 0;
  auto next = [&](int signal) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, signal);
    return ::waitpid(child, &status, __WALL) == child;
  };
  ::waitpid(child, &status, __WALL);
  if (!WIFSTOPPED(status)) skip("ptrace is not allowed here");
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr,
           PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE);
  int deliver = 0;
  while (next(std::exchange(deliver, 0))) {
    if (WIFEXITED(status) || WIFSIGNALED(status)) {
      run.finished = WIFEXITED(status);
      run.failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
      return run;
    }
    if (status >> 16) {
      run.forked = true;
      unsigned long born = 0;
      ::ptrace(PTRACE_GETEVENTMSG, child, nullptr, &born);
      ::kill(static_cast<pid_t>(born), SIGKILL);
      ::waitpid(static_cast<pid_t>(born), nullptr, __WALL);
    } else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
      if (++run.stops >= stop) break;
    } else {
      deliver = WSTOPSIG(status);
    }
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, __WALL);
  return run;
}

}  // namespace kit::testing
