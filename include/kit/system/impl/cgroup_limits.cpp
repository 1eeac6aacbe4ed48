// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kit/system/error.hpp"
#include "kit/system/impl/cgroup_file.hpp"

namespace kit {

using namespace detail;

namespace {

/// Version 1's shares (2 ... 262144, 1024 the default) as version 2's weight (1 ... 10000, 100 the default): the curve
/// through all three points that OCI runtimes agreed on (opencontainers/cgroups, crun).
std::uint64_t weight_of_shares(std::uint64_t shares) {
  if (shares == 0) return 100;
  const double l = std::log2(static_cast<double>(std::clamp<std::uint64_t>(shares, 2, 262144)));
  return static_cast<std::uint64_t>(std::ceil(std::pow(10.0, (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0)));
}

/// blkio's 10 ... 1000 as io.weight's 1 ... 10000.
std::uint64_t io_weight_of(std::uint16_t weight) { return 1 + (std::uint64_t{weight} - 10) * 9999 / 990; }

std::string or_max(std::int64_t n) { return n < 0 ? "max" : std::to_string(n); }

/// One value to be written.
struct setting {
  std::string member;  // OCI's word for it
  std::string file;
  std::string value;
  bool restorable = true;  // its file holds one value, and reading gives what writing took
};

/// What apply() is about to write, in order; every add looks for its file first.
class plan {
 public:
  plan(const std::string& path, const cgroup_layout& layout) : path_(path), layout_(layout) {}

  /// Where `controller` is for this group; throws unsupported if the host lacks it.
  const cgroup_hierarchy& home(std::string_view member, std::string_view v1, std::string_view v2) const {
    if (const auto* h = layout_.with(v1); h != nullptr && !h->v2) return *h;
    if (const auto* h = layout_.with(v2); h != nullptr && h->v2) return *h;
    fail(errc::unsupported, "set {} of cgroup {}: this host has no {} controller; enable it at boot", member, path_,
         v2.empty() ? v1 : v2);
  }

  void add(std::string_view member, const cgroup_hierarchy& h, std::string_view file, std::string value,
           bool restorable = true) {
    if (file.empty())
      fail(errc::unsupported, "set {} of cgroup {}: cgroup {} has no such limit", member, path_,
           h.v2 ? "version 2" : "version 1");
    std::string whole = fmt::format("{}/{}/{}", h.mount_point, path_, file);
    if (settings_.empty() || settings_.back().file != whole) require(member, h, file, whole);
    settings_.push_back({std::string(member), std::move(whole), std::move(value), restorable});
  }

  /// The common case: a controller of one name, a file per version, a value per version.
  void add(std::string_view member, std::string_view controller, std::string_view v1_file, std::string v1_value,
           std::string_view v2_file, std::string v2_value) {
    const auto& h = home(member, controller, controller);
    h.v2 ? add(member, h, v2_file, std::move(v2_value)) : add(member, h, v1_file, std::move(v1_value));
  }

  /// What a file holds now; empty if it is not there.
  [[nodiscard]] std::string current(const cgroup_hierarchy& h, std::string_view file) const {
    return trimmed(try_read(fmt::format("{}/{}/{}", h.mount_point, path_, file)).value_or(""));
  }

  void write() const {
    std::vector<std::pair<const setting*, std::string>> before;
    unique_fd out;
    const std::string* opened = nullptr;
    for (const auto& s : settings_) {
      const auto old = s.restorable ? try_read(s.file) : std::nullopt;
      // One descriptor for a list's many lines.
      if (opened == nullptr || *opened != s.file) out.reset(::open(s.file.c_str(), O_WRONLY | O_CLOEXEC));
      opened = &s.file;
      if (int e = out ? try_write(out.get(), s.value) : errno; e != 0) {
        for (auto it = before.rbegin(); it != before.rend(); ++it) (void)try_write(it->first->file, it->second);
        // EINVAL and ERANGE are about the value; EBUSY says that the group uses more now.
        throw error(e == ERANGE ? errc::invalid : errc_of(e),
                    fmt::format("set {} by writing \"{}\" to {}: {}", s.member, s.value, s.file, errno_text(e)), e);
      }
      if (old) before.emplace_back(&s, trimmed(*old));
    }
  }

 private:
  /// The file is there, if need be once its controller is switched on; else throws what is missing.
  void require(std::string_view member, const cgroup_hierarchy& h, std::string_view file,
               const std::string& whole) const {
    if (::access(whole.c_str(), F_OK) == 0) return;
    if (h.v2) {
      const std::string_view controller[] = {file.substr(0, file.find('.'))};
      enable_controllers(h, path_, controller);
      if (::access(whole.c_str(), F_OK) == 0) return;
    }
    if (::access(fmt::format("{}/{}", h.mount_point, path_).c_str(), F_OK) != 0)
      fail(errc::not_found, "set {} of cgroup {}: the group does not exist", member, path_);
    fail(errc::unsupported, "set {} of cgroup {}: this kernel has no {}", member, path_, file);
  }

  const std::string& path_;
  const cgroup_layout& layout_;
  std::vector<setting> settings_;
};

void plan_memory(plan& p, const cgroup_limits& l) {
  if (l.memory || l.memory_swap) {
    const char* member = l.memory ? "memory.limit" : "memory.swap";
    const auto& h = p.home(member, "memory", "memory");
    if (h.v2) {
      if (l.memory) p.add("memory.limit", h, "memory.max", or_max(*l.memory));
      if (l.memory_swap) {
        // Version 2 counts swap alone, OCI both together.
        std::int64_t memory = -1;
        if (l.memory)
          memory = *l.memory;
        else if (const auto now = p.current(h, "memory.max"); now != "max")
          memory = static_cast<std::int64_t>(number(now));
        if (*l.memory_swap >= 0 && memory < 0)
          fail(errc::invalid, "set memory.swap to {}: it includes memory, which has no limit; set memory.limit too",
               *l.memory_swap);
        if (*l.memory_swap >= 0 && *l.memory_swap < memory)
          fail(errc::invalid, "set memory.swap to {}: it includes memory, and is below memory.limit {}", *l.memory_swap,
               memory);
        p.add("memory.swap", h, "memory.swap.max", *l.memory_swap < 0 ? "max" : or_max(*l.memory_swap - memory));
      }
    } else {
      // At no moment may memory exceed memory and swap together.
      const bool grows =
          l.memory && l.memory_swap &&
          (*l.memory < 0 || static_cast<std::uint64_t>(*l.memory) > number(p.current(h, "memory.limit_in_bytes")));
      if (l.memory_swap && grows)
        p.add("memory.swap", h, "memory.memsw.limit_in_bytes", std::to_string(*l.memory_swap));
      if (l.memory) p.add("memory.limit", h, "memory.limit_in_bytes", std::to_string(*l.memory));
      if (l.memory_swap && !grows)
        p.add("memory.swap", h, "memory.memsw.limit_in_bytes", std::to_string(*l.memory_swap));
    }
  }
  if (l.memory_reservation)
    p.add("memory.reservation", "memory", "memory.soft_limit_in_bytes", std::to_string(*l.memory_reservation),
          "memory.low", or_max(*l.memory_reservation));
  if (l.memory_swappiness)
    p.add("memory.swappiness", "memory", "memory.swappiness", std::to_string(*l.memory_swappiness), "", "");
  if (l.disable_oom_killer)
    p.add("memory.disableOOMKiller", "memory", "memory.oom_control", *l.disable_oom_killer ? "1" : "0", "", "");
}

void plan_cpu(plan& p, const cgroup_limits& l) {
  if (l.cpu_idle)
    p.add("cpu.idle", "cpu", "cpu.idle", std::to_string(*l.cpu_idle), "cpu.idle", std::to_string(*l.cpu_idle));
  if (l.cpu_shares)
    p.add("cpu.shares", "cpu", "cpu.shares", std::to_string(*l.cpu_shares), "cpu.weight",
          std::to_string(weight_of_shares(*l.cpu_shares)));
  if (l.cpu_quota || l.cpu_period) {
    const char* member = l.cpu_quota ? "cpu.quota" : "cpu.period";
    const auto& h = p.home(member, "cpu", "cpu");
    if (h.v2) {
      std::string quota = "max";
      if (l.cpu_quota)
        quota = or_max(*l.cpu_quota);
      else if (const auto now = p.current(h, "cpu.max"); !now.empty())
        quota = now.substr(0, now.find(' '));
      // A period left out keeps its present value.
      p.add(member, h, "cpu.max", l.cpu_period ? fmt::format("{} {}", quota, *l.cpu_period) : quota);
    } else {
      if (l.cpu_period) p.add("cpu.period", h, "cpu.cfs_period_us", std::to_string(*l.cpu_period));
      if (l.cpu_quota) p.add("cpu.quota", h, "cpu.cfs_quota_us", std::to_string(*l.cpu_quota));
    }
  }
  if (l.cpu_burst)
    p.add("cpu.burst", "cpu", "cpu.cfs_burst_us", std::to_string(*l.cpu_burst), "cpu.max.burst",
          std::to_string(*l.cpu_burst));
  if (l.cpu_realtime_period)
    p.add("cpu.realtimePeriod", "cpu", "cpu.rt_period_us", std::to_string(*l.cpu_realtime_period), "", "");
  if (l.cpu_realtime_runtime)
    p.add("cpu.realtimeRuntime", "cpu", "cpu.rt_runtime_us", std::to_string(*l.cpu_realtime_runtime), "", "");
  if (l.cpuset_cpus) p.add("cpu.cpus", "cpuset", "cpuset.cpus", *l.cpuset_cpus, "cpuset.cpus", *l.cpuset_cpus);
  if (l.cpuset_mems) p.add("cpu.mems", "cpuset", "cpuset.mems", *l.cpuset_mems, "cpuset.mems", *l.cpuset_mems);
}

bool file_in(const cgroup_hierarchy& h, const std::string& path, std::string_view file) {
  return ::access(fmt::format("{}/{}/{}", h.mount_point, path, file).c_str(), F_OK) == 0;
}

void plan_io(plan& p, const std::string& path, const cgroup_limits& l) {
  auto weight = [&](std::string_view member, std::uint16_t w, const std::string& device) {
    if (w < 10 || w > 1000) fail(errc::invalid, "set {} to {}: it is 10 to 1000", member, w);
    const auto& h = p.home(member, "blkio", "io");
    const std::string name = device.empty() && h.v2 ? "default" : device;
    const std::string prefix = name.empty() ? "" : name + " ";
    const bool restorable = name.empty();
    if (h.v2 && file_in(h, path, "io.weight"))
      p.add(member, h, "io.weight", prefix + std::to_string(io_weight_of(w)), restorable);
    else if (h.v2)
      p.add(member, h, "io.bfq.weight", prefix + std::to_string(w), restorable);
    else if (file_in(h, path, device.empty() ? "blkio.weight" : "blkio.weight_device"))
      p.add(member, h, device.empty() ? "blkio.weight" : "blkio.weight_device", prefix + std::to_string(w), restorable);
    else
      p.add(member, h, device.empty() ? "blkio.bfq.weight" : "blkio.bfq.weight_device", prefix + std::to_string(w),
            restorable);
  };
  if (l.io_weight) weight("blockIO.weight", *l.io_weight, "");
  for (const auto& d : l.io_device_weights)
    weight("blockIO.weightDevice", d.weight, fmt::format("{}:{}", d.major, d.minor));

  static constexpr struct {
    const char *member, *v1, *v2;
  } throttles[] = {
      {"blockIO.throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"},
      {"blockIO.throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"},
      {"blockIO.throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"},
      {"blockIO.throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"},
  };
  for (const auto& t : l.io_throttles) {
    const auto& words = throttles[static_cast<std::size_t>(t.what)];
    const auto& h = p.home(words.member, "blkio", "io");
    if (h.v2)
      p.add(words.member, h, "io.max",
            fmt::format("{}:{} {}={}", t.major, t.minor, words.v2, t.rate == 0 ? "max" : std::to_string(t.rate)),
            false);
    else
      p.add(words.member, h, words.v1, fmt::format("{}:{} {}", t.major, t.minor, t.rate), false);
  }
}

void plan_rest(plan& p, const cgroup_layout& layout, const cgroup_limits& l) {
  if (l.pids) p.add("pids.limit", "pids", "pids.max", or_max(*l.pids), "pids.max", or_max(*l.pids));
  for (const auto& [size, bytes] : l.hugepages) {
    if (size.find('/') != std::string::npos) fail(errc::invalid, "hugepageLimits: no page size is \"{}\"", size);
    p.add("hugepageLimits", "hugetlb", fmt::format("hugetlb.{}.limit_in_bytes", size), std::to_string(bytes),
          fmt::format("hugetlb.{}.max", size), std::to_string(bytes));
  }
  for (const auto& [file, value] : l.unified) {
    if (file.find('/') != std::string::npos || file.find('.') == std::string::npos || file.substr(0, 7) == "cgroup.")
      fail(errc::invalid, "unified: \"{}\" is no limit; it names a file of a controller, as memory.high does", file);
    const auto* h = layout.unified();
    if (h == nullptr) fail(errc::unsupported, "unified: {}: this host does not mount cgroup version 2", file);
    p.add("unified", *h, file, value, value.find('\n') == std::string::npos && value.find('=') == std::string::npos);
  }
}

// ---- devices ------------------------------------------------------------------------------------

std::string access_of(const cgroup_device_rule& r) {
  return fmt::format("{}{}{}", r.read ? "r" : "", r.write ? "w" : "", r.make ? "m" : "");
}

void plan_devices_v1(plan& p, const cgroup_hierarchy& h, const std::vector<cgroup_device_rule>& rules) {
  for (const auto& r : rules) {
    const char* file = r.allow ? "devices.allow" : "devices.deny";
    const auto which = [](const std::optional<std::uint32_t>& n) { return n ? std::to_string(*n) : "*"; };
    if (r.type == 'a' && !r.major && !r.minor && r.read && r.write && r.make) {
      p.add("devices", h, file, "a", false);
      continue;
    }
    for (const char type : {'c', 'b'})  // the kernel's own "a" ignores numbers and access
      if (r.type == type || r.type == 'a')
        p.add("devices", h, file, fmt::format("{} {}:{} {}", type, which(r.major), which(r.minor), access_of(r)),
              false);
  }
}

constexpr bpf_insn insn(unsigned code, unsigned dst, unsigned src, int offset, std::int32_t imm) {
  bpf_insn i{};
  i.code = static_cast<std::uint8_t>(code);
  i.dst_reg = dst & 0xf;
  i.src_reg = src & 0xf;
  i.off = static_cast<std::int16_t>(offset);
  i.imm = imm;
  return i;
}

/// The rules as a BPF_PROG_TYPE_CGROUP_DEVICE program: last rule first, the first match answers, and what
/// nothing matches is allowed, as in a new group of version 1. An allowing rule matches if it covers all of the
/// access asked for, a denying one if it covers any of it.
std::vector<bpf_insn> device_program(const std::vector<cgroup_device_rule>& rules) {
  enum : unsigned { answer = 0, context = 1, type = 2, access = 3, major = 4, minor = 5 };
  std::vector<bpf_insn> program = {
      insn(BPF_LDX | BPF_MEM | BPF_W, type, context, offsetof(bpf_cgroup_dev_ctx, access_type), 0),
      insn(BPF_ALU64 | BPF_MOV | BPF_X, access, type, 0, 0),
      insn(BPF_ALU64 | BPF_AND | BPF_K, type, 0, 0, 0xffff),
      insn(BPF_ALU64 | BPF_RSH | BPF_K, access, 0, 0, 16),
      insn(BPF_LDX | BPF_MEM | BPF_W, major, context, offsetof(bpf_cgroup_dev_ctx, major), 0),
      insn(BPF_LDX | BPF_MEM | BPF_W, minor, context, offsetof(bpf_cgroup_dev_ctx, minor), 0),
  };
  bool every_path_answered = false;
  for (auto r = rules.rbegin(); r != rules.rend() && !every_path_answered; ++r) {
    std::vector<std::size_t> to_next;  // jumps to the rule after this one
    auto skip_if = [&](unsigned op, unsigned reg, std::uint32_t value) {
      to_next.push_back(program.size());
      program.push_back(insn(BPF_JMP32 | op | BPF_K, reg, 0, 0, static_cast<std::int32_t>(value)));
    };
    unsigned mask = 0;
    if (r->make) mask |= BPF_DEVCG_ACC_MKNOD;
    if (r->read) mask |= BPF_DEVCG_ACC_READ;
    if (r->write) mask |= BPF_DEVCG_ACC_WRITE;
    constexpr unsigned all = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;
    if (r->type != 'a') skip_if(BPF_JNE, type, r->type == 'c' ? BPF_DEVCG_DEV_CHAR : BPF_DEVCG_DEV_BLOCK);
    if (mask != all) {
      program.push_back(insn(BPF_ALU64 | BPF_MOV | BPF_X, context, access, 0, 0));
      program.push_back(
          insn(BPF_ALU64 | BPF_AND | BPF_K, context, 0, 0, static_cast<std::int32_t>(r->allow ? all & ~mask : mask)));
      skip_if(r->allow ? BPF_JNE : BPF_JEQ, context, 0);
    }
    if (r->major) skip_if(BPF_JNE, major, *r->major);
    if (r->minor) skip_if(BPF_JNE, minor, *r->minor);
    every_path_answered = to_next.empty();  // the verifier refuses what cannot be reached
    program.push_back(insn(BPF_ALU64 | BPF_MOV | BPF_K, answer, 0, 0, r->allow ? 1 : 0));
    program.push_back(insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    for (std::size_t jump : to_next) program[jump].off = static_cast<std::int16_t>(program.size() - jump - 1);
  }
  if (!every_path_answered) {
    program.push_back(insn(BPF_ALU64 | BPF_MOV | BPF_K, answer, 0, 0, 1));
    program.push_back(insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
  }
  return program;
}

int bpf(int command, bpf_attr& attr) { return static_cast<int>(::syscall(SYS_bpf, command, &attr, sizeof attr)); }

template <class T>
std::uint64_t address(const T* p) {
  return reinterpret_cast<std::uintptr_t>(p);
}

/// Attaches the rules to a version 2 group, beside what its parents have, instead of what it had. The old program goes after the
/// new one stands: in between both must allow.
void set_devices_v2(const std::string& directory, const std::vector<cgroup_device_rule>& rules) {
  const auto program = device_program(rules);
  bpf_attr load{};
  load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  load.insns = address(program.data());
  load.insn_cnt = static_cast<std::uint32_t>(program.size());
  load.license = address("Apache-2.0");
  const unique_fd fd(bpf(BPF_PROG_LOAD, load));
  if (!fd)
    throw error(errno == EINVAL || errno == ENOSYS || errno == EPERM ? errc::unsupported : errc_of(errno),
                fmt::format("set devices of cgroup {}: load a BPF_PROG_TYPE_CGROUP_DEVICE program: {}; it needs "
                            "CONFIG_CGROUP_BPF, CAP_BPF and CAP_SYS_ADMIN",
                            directory, errno_text(errno)),
                errno);
  const unique_fd group = open_file(directory, O_RDONLY | O_DIRECTORY);

  std::array<std::uint32_t, 64> old{};
  bpf_attr query{};
  query.query.target_fd = static_cast<std::uint32_t>(group.get());
  query.query.attach_type = BPF_CGROUP_DEVICE;
  query.query.prog_ids = address(old.data());
  query.query.prog_cnt = old.size();
  if (bpf(BPF_PROG_QUERY, query) != 0) fail_errno(errno, "set devices of cgroup {}: ask for its programs", directory);

  bpf_attr attach{};
  attach.target_fd = static_cast<std::uint32_t>(group.get());
  attach.attach_bpf_fd = static_cast<std::uint32_t>(fd.get());
  attach.attach_type = BPF_CGROUP_DEVICE;
  attach.attach_flags = BPF_F_ALLOW_MULTI;
  if (bpf(BPF_PROG_ATTACH, attach) != 0) fail_errno(errno, "set devices of cgroup {}: attach the program", directory);

  for (std::uint32_t i = 0; i < query.query.prog_cnt; ++i) {
    bpf_attr get{};
    get.prog_id = old[i];
    const unique_fd one(bpf(BPF_PROG_GET_FD_BY_ID, get));
    bpf_attr detach{};
    detach.target_fd = static_cast<std::uint32_t>(group.get());
    detach.attach_bpf_fd = static_cast<std::uint32_t>(one.get());
    detach.attach_type = BPF_CGROUP_DEVICE;
    if (!one || bpf(BPF_PROG_DETACH, detach) != 0)
      fail_errno(errno, "set devices of cgroup {}: detach its old program", directory);
  }
}

}  // namespace

void cgroup::apply(const cgroup_limits& limits) const {
  plan p(path_, *layout_);
  plan_memory(p, limits);
  plan_cpu(p, limits);
  plan_io(p, path_, limits);
  plan_rest(p, *layout_, limits);
  const cgroup_hierarchy* by_program = nullptr;
  if (limits.devices) {
    for (const auto& r : *limits.devices)
      if (r.type != 'a' && r.type != 'b' && r.type != 'c')
        fail(errc::invalid, "devices: type \"{}\" is none of a, b, c", r.type);
    if (const auto* h = layout_->with("devices"))
      plan_devices_v1(p, *h, *limits.devices);
    else if ((by_program = layout_->unified()) == nullptr)
      fail(errc::unsupported, "set devices of cgroup {}: neither the devices controller nor version 2 is mounted",
           path_);
  }
  p.write();
  if (by_program != nullptr) set_devices_v2(directory(*by_program), *limits.devices);
}

}  // namespace kit
