// SPDX-License-Identifier: Apache-2.0
// Every member of what the network and isolation families pass arrives on the other side of the table; growing structs
// of another size are read as far as they go; what a driver may throw ends at the boundary.
#include <fcntl.h>

#include <catch2/catch.hpp>
#include <new>
#include <system_error>

#include "kit/isolation/any_isolation.hpp"
#include "kit/network/any_network.hpp"
#include "kit/storage/any_storage.hpp"

namespace {

/// Keeps what it was handed, and answers what it is told to.
struct recorder {
  kit::network n;
  kit::endpoint e;
  kit::attachment a, answer;
  std::vector<kit::endpoint_id> valid;
  int throws = 0;
};

class recording_network {
 public:
  explicit recording_network(recorder& r) : r_(r) {}
  std::string name() const { return "recording"; }
  kit::probe_report probe() const { throw kit::error(kit::errc::io, "probe broke its promise"); }
  kit::network_traits traits() const { return {kit::netns::host, true, true}; }
  void create(const kit::network& n) { r_.n = n; }
  void remove(const kit::network&) {
    switch (r_.throws) {
      case 1: throw std::bad_alloc();
      case 2: throw std::system_error(EBUSY, std::generic_category(), "device");
      case 3: throw std::logic_error("a slip");
      case 4: throw 4;
    }
  }
  kit::attachment attach(const kit::network& n, const kit::endpoint& e) {
    r_.n = n;
    r_.e = e;
    return r_.answer;
  }
  void detach(const kit::network&, const kit::endpoint&, const kit::attachment& a) { r_.a = a; }
  void check(const kit::network&, const kit::endpoint&, const kit::attachment& a) { r_.a = a; }
  void collect(const kit::network&, std::span<const kit::endpoint_id> valid) {
    r_.valid.assign(valid.begin(), valid.end());
  }
  void status(const kit::network&) {}

 private:
  recorder& r_;
};

struct isolation_record {
  kit::container c;
  std::vector<kit::mount> mounts;
  kit::stdio io;
  std::string json;
  int signal = 0;
  kit::reach reach{};
  int opened = -1;
};

class recording_isolation {
 public:
  explicit recording_isolation(isolation_record& r) : r_(r) {}
  std::string_view name() const { return "recording"; }
  kit::probe_report probe() const { return {true, {}, {}, {}}; }
  kit::isolation_traits traits() const { return {true}; }
  kit::started create(const kit::container& c, std::span<const kit::mount> m, const kit::stdio& io) {
    r_.c = c;
    r_.mounts.assign(m.begin(), m.end());
    r_.io = io;
    kit::started s;
    s.pid = 77;
    s.start_time = 88;
    s.init = kit::open_file("/dev/null", O_RDONLY);
    r_.opened = s.init.get();
    s.waiter_pid = 99;
    return s;
  }
  void start(const kit::container&) {}
  void signal(const kit::container&, int signal, kit::reach reach) {
    r_.signal = signal;
    r_.reach = reach;
  }
  void remove(const kit::container&) {}
  kit::started exec(const kit::container&, std::string_view json, const kit::stdio&) {
    r_.json = json;
    return {};
  }
  void pause(const kit::container&) {}
  void resume(const kit::container&) {}
  void update(const kit::container&, std::string_view json) { r_.json = json; }
  kit::container_stats stats(const kit::container&) { return {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}; }

 private:
  isolation_record& r_;
};

kit::network some_network() {
  kit::network n;
  n.id = kit::network_id::from(std::string(64, '1'));
  n.name = "blue";
  n.link = "kit-b1";
  n.owner = "kit:tag:1";
  n.subnets = {{"10.1.0.0/20", "10.1.0.1"}, {"fd00::/64", ""}};
  n.options = {{"mtu", "1400"}};
  return n;
}

}  // namespace

TEST_CASE("a network, an endpoint and an attachment cross whole") {
  recorder r;
  kit::any_network d{recording_network(r)};
  CHECK(d.name() == "recording");
  CHECK(d.traits().network_namespace == kit::netns::host);
  CHECK(d.traits().assigns_addresses);
  CHECK(d.traits().publishes_ports);

  const kit::network n = some_network();
  kit::endpoint e;
  e.id = kit::endpoint_id::from(std::string(64, '2'));
  e.owner = "kit:tag:2";
  e.netns = 5;
  e.interface_name = "eth0";
  e.link = "kit-e2";
  e.mac = "02:00:00:00:00:01";
  e.addresses = {"10.1.0.5/20", "fd00::5/64"};
  e.options = {{"alias", "db"}};
  r.answer.interfaces = {{"eth0", "02:00:00:00:00:01", 1400, true}, {"kit-e2", "", 0, false}};
  r.answer.ips = {{"10.1.0.5/20", "10.1.0.1", 1}};
  r.answer.routes = {{"0.0.0.0/0", "10.1.0.1"}};
  r.answer.nameservers = {"10.1.0.1"};
  r.answer.search = {"local"};
  r.answer.driver_data = std::string("any\0bytes", 9);

  const kit::attachment a = d.attach(n, e);
  CHECK(a == r.answer);
  CHECK(r.n.id == n.id);
  CHECK(r.n.name == n.name);
  CHECK(r.n.link == n.link);
  CHECK(r.n.owner == n.owner);
  CHECK(r.n.subnets == n.subnets);
  CHECK(r.n.options == n.options);
  CHECK(r.e.id == e.id);
  CHECK(r.e.owner == e.owner);
  CHECK(r.e.netns == e.netns);
  CHECK(r.e.interface_name == e.interface_name);
  CHECK(r.e.link == e.link);
  CHECK(r.e.mac == e.mac);
  CHECK(r.e.addresses == e.addresses);
  CHECK(r.e.options == e.options);
  d.check(n, e, a);
  CHECK(r.a == a);
  d.detach(n, e, {});
  CHECK(r.a == kit::attachment{});
  const kit::endpoint_id ids[] = {e.id, kit::endpoint_id{}};
  d.collect(n, ids);
  CHECK(r.valid == std::vector(std::begin(ids), std::end(ids)));
}

TEST_CASE("whatever a driver throws becomes an error of this side") {
  recorder r;
  kit::any_network d{recording_network(r)};
  const auto thrown = [&](int kind) {
    r.throws = kind;
    try {
      d.remove(some_network());
    } catch (const kit::error& e) {
      return std::string(kit::to_string(e.code())) + " " + std::to_string(e.sys_errno()) + " " + e.what();
    }
    return std::string();
  };
  CHECK(thrown(0).empty());
  CHECK(thrown(1) == "io 12 out of memory");
  CHECK_THAT(thrown(2), Catch::StartsWith("busy 16 device"));
  CHECK(thrown(3) == "io 0 a slip");
  CHECK_THAT(thrown(4), Catch::StartsWith("io 0 "));
  CHECK(d.probe().reason == "probe broke its promise");
}

TEST_CASE("a container, its mounts and what it was started as cross whole") {
  isolation_record r;
  kit::any_isolation d{std::make_unique<recording_isolation>(r)};
  CHECK(d.traits().needs_rootfs_path);
  kit::container c;
  c.id = kit::container_id::from(std::string(64, '3'));
  c.bundle = "/bundle";
  c.state_dir = "/state";
  c.owner = "kit:tag:3";
  c.pid = 12;
  c.start_time = 1ull << 40;
  const std::vector<kit::mount> mounts = {kit::mount::bind("/a", true), kit::mount::bind("/b", false)};
  const kit::started s = d.create(c, mounts, {3, 4, 5, 6});
  CHECK(s.pid == 77);
  CHECK(s.start_time == 88);
  CHECK(s.init.get() == r.opened);
  CHECK(::fcntl(s.init.get(), F_GETFD) >= 0);
  CHECK(s.waiter_pid == 99);
  CHECK_FALSE(s.waiter);
  CHECK_FALSE(s.netns);
  CHECK(r.c.id == c.id);
  CHECK(r.c.bundle == c.bundle);
  CHECK(r.c.state_dir == c.state_dir);
  CHECK(r.c.owner == c.owner);
  CHECK(r.c.pid == c.pid);
  CHECK(r.c.start_time == c.start_time);
  CHECK(r.io.in == 3);
  CHECK(r.io.out == 4);
  CHECK(r.io.err == 5);
  CHECK(r.io.console_socket == 6);
  REQUIRE(r.mounts.size() == 2);
  CHECK(r.mounts[1].source == "/b");
  d.signal(c, 15, kit::reach::all);
  CHECK(r.signal == 15);
  CHECK(r.reach == kit::reach::all);
  d.signal(c, 9, kit::reach::init);
  CHECK(r.reach == kit::reach::init);
  (void)d.exec(c, "{\"args\":[]}", {});
  CHECK(r.json == "{\"args\":[]}");
  d.update(c, "{}");
  CHECK(r.json == "{}");
  const auto stats = d.stats(c);
  CHECK(stats.cpu_ns == 1);
  CHECK(stats.memory_bytes == 4);
  CHECK(stats.pids_limit == 8);
  CHECK(stats.oom_kills == 11);
}

TEST_CASE("a struct is read and written as far as its maker knew it") {
  kit_endpoint e{};
  e.size = offsetof(kit_endpoint, netns);  // a caller from before `netns`
  std::memset(e.id.hex, 'a', sizeof e.id.hex);
  e.netns = 12;
  e.mac = {"x", 1};
  const kit::endpoint read = kit::detail::from_abi(&e);
  CHECK(read.id.text() == std::string(64, 'a'));
  CHECK(read.netns == -1);
  CHECK(read.mac.empty());

  kit_stdio io{sizeof(std::size_t) + 4, 7, 8, 9, 10, {}};
  CHECK(kit::detail::from_abi(&io).in == 7);
  CHECK(kit::detail::from_abi(&io).console_socket == -1);

  kit_usage out{offsetof(kit_usage, inodes), 0, 5};
  kit::detail::give(&out, kit_usage{sizeof(kit_usage), 1, 2});
  CHECK(out.size == offsetof(kit_usage, inodes));
  CHECK(out.bytes == 1);
  CHECK(out.inodes == 5);
}

TEST_CASE("an id that is none does not pass") {
  kit_id id;
  std::memset(id.hex, '/', sizeof id.hex);
  CHECK_THROWS_AS(kit::detail::from_abi<kit::layer_id>(id), kit::error);
}

TEST_CASE("an erased driver moves") {
  recorder r;
  kit::any_network a{recording_network(r)};
  kit::any_network b(std::move(a));
  recorder other;
  a = kit::any_network(recording_network(other));
  a = std::move(b);
  a.create(some_network());
  CHECK(r.n.name == "blue");
}
