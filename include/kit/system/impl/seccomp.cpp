// SPDX-License-Identifier: Apache-2.0
#include "kit/system/seccomp.hpp"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/library.hpp"

namespace kit {

namespace {

template <class Value>
struct word {
  std::string_view name;
  Value value;
};

constexpr word<seccomp_action> actions[] = {
    {"SCMP_ACT_KILL_PROCESS", seccomp_action::kill_process},
    {"SCMP_ACT_KILL_THREAD", seccomp_action::kill_thread},
    {"SCMP_ACT_KILL", seccomp_action::kill_thread},
    {"SCMP_ACT_TRAP", seccomp_action::trap},
    {"SCMP_ACT_ERRNO", seccomp_action::error},
    {"SCMP_ACT_TRACE", seccomp_action::trace},
    {"SCMP_ACT_LOG", seccomp_action::log},
    {"SCMP_ACT_ALLOW", seccomp_action::allow},
};

constexpr word<seccomp_compare> compares[] = {
    {"SCMP_CMP_NE", seccomp_compare::not_equal},           {"SCMP_CMP_LT", seccomp_compare::less},
    {"SCMP_CMP_LE", seccomp_compare::less_or_equal},       {"SCMP_CMP_EQ", seccomp_compare::equal},
    {"SCMP_CMP_GE", seccomp_compare::greater_or_equal},    {"SCMP_CMP_GT", seccomp_compare::greater},
    {"SCMP_CMP_MASKED_EQ", seccomp_compare::masked_equal},
};

/// Filters are installed by a thread that is its process's only one: SECCOMP_FILTER_FLAG_TSYNC, which the
/// specification names too, has nothing to do.
constexpr word<unsigned> flags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", 0},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
};

constexpr word<std::uint32_t> architectures[] = {
    {"SCMP_ARCH_X86", SCMP_ARCH_X86},
    {"SCMP_ARCH_X86_64", SCMP_ARCH_X86_64},
    {"SCMP_ARCH_X32", SCMP_ARCH_X32},
    {"SCMP_ARCH_ARM", SCMP_ARCH_ARM},
    {"SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64},
    {"SCMP_ARCH_MIPS", SCMP_ARCH_MIPS},
    {"SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64},
    {"SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32},
    {"SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL},
    {"SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64},
    {"SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32},
    {"SCMP_ARCH_PPC", SCMP_ARCH_PPC},
    {"SCMP_ARCH_PPC64", SCMP_ARCH_PPC64},
    {"SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE},
    {"SCMP_ARCH_S390", SCMP_ARCH_S390},
    {"SCMP_ARCH_S390X", SCMP_ARCH_S390X},
    {"SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64},
};

template <class Value, std::size_t N>
Value value_named(const word<Value> (&list)[N], std::string_view name, errc otherwise, const char* what) {
  for (const auto& w : list)
    if (w.name == name) return w.value;
  fail(otherwise, "seccomp profile: \"{}\" is no {} known here", name, what);
}

template <class Value, std::size_t N>
std::string_view name_of(const word<Value> (&list)[N], Value value) {
  for (const auto& w : list)
    if (w.value == value) return w.name;
  return "?";
}

/// libseccomp, of which only the types and constants come from its header.
struct libseccomp {
  library lib{"libseccomp.so.2", "libseccomp2"};
  decltype(::seccomp_init)* init = lib.function<decltype(::seccomp_init)>("seccomp_init");
  decltype(::seccomp_release)* release = lib.function<decltype(::seccomp_release)>("seccomp_release");
  decltype(::seccomp_arch_add)* arch_add = lib.function<decltype(::seccomp_arch_add)>("seccomp_arch_add");
  decltype(::seccomp_attr_set)* attr_set = lib.function<decltype(::seccomp_attr_set)>("seccomp_attr_set");
  decltype(::seccomp_syscall_resolve_name)* resolve =
      lib.function<decltype(::seccomp_syscall_resolve_name)>("seccomp_syscall_resolve_name");
  decltype(::seccomp_rule_add_array)* rule_add =
      lib.function<decltype(::seccomp_rule_add_array)>("seccomp_rule_add_array");
  decltype(::seccomp_export_bpf)* export_bpf = lib.function<decltype(::seccomp_export_bpf)>("seccomp_export_bpf");
};

std::uint32_t native_action(seccomp_action a, std::optional<unsigned> errno_value) {
  const unsigned e = errno_value.value_or(EPERM);
  if (e > 4095 && a == seccomp_action::error) fail(errc::invalid, "seccomp profile: {} is no errno", e);
  switch (a) {
    case seccomp_action::kill_process: return SCMP_ACT_KILL_PROCESS;
    case seccomp_action::kill_thread: return SCMP_ACT_KILL_THREAD;
    case seccomp_action::trap: return SCMP_ACT_TRAP;
    case seccomp_action::error: return SCMP_ACT_ERRNO(e);
    case seccomp_action::trace: return SCMP_ACT_TRACE(e);
    case seccomp_action::log: return SCMP_ACT_LOG;
    case seccomp_action::allow: return SCMP_ACT_ALLOW;
  }
  fail(errc::invalid, "seccomp profile: unknown action {}", static_cast<unsigned>(a));
}

scmp_compare native_compare(seccomp_compare c) {
  switch (c) {
    case seccomp_compare::not_equal: return SCMP_CMP_NE;
    case seccomp_compare::less: return SCMP_CMP_LT;
    case seccomp_compare::less_or_equal: return SCMP_CMP_LE;
    case seccomp_compare::equal: return SCMP_CMP_EQ;
    case seccomp_compare::greater_or_equal: return SCMP_CMP_GE;
    case seccomp_compare::greater: return SCMP_CMP_GT;
    case seccomp_compare::masked_equal: return SCMP_CMP_MASKED_EQ;
  }
  fail(errc::invalid, "seccomp profile: unknown comparison {}", static_cast<unsigned>(c));
}

std::vector<sock_filter> exported_program(const libseccomp& s, scmp_filter_ctx context) {
  unique_fd memory(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!memory) fail_errno(errno, "memfd_create");
  if (int e = s.export_bpf(context, memory.get()); e != 0) fail_errno(-e, "export a seccomp filter");
  if (::lseek(memory.get(), 0, SEEK_SET) != 0) fail_errno(errno, "read a seccomp filter");
  const std::string bytes = read_all(memory.get(), "a seccomp filter");
  std::vector<sock_filter> program(bytes.size() / sizeof(sock_filter));
  std::memcpy(program.data(), bytes.data(), program.size() * sizeof(sock_filter));
  return program;
}

}  // namespace

seccomp_action seccomp_action_of(std::string_view oci) {
  if (oci == "SCMP_ACT_NOTIFY")
    fail(errc::unsupported, "seccomp profile: SCMP_ACT_NOTIFY needs an agent that answers; none is supported");
  return value_named(actions, oci, errc::invalid, "action");
}

seccomp_compare seccomp_compare_of(std::string_view oci) {
  return value_named(compares, oci, errc::invalid, "comparison");
}

std::string_view to_string(seccomp_action a) noexcept { return name_of(actions, a); }
std::string_view to_string(seccomp_compare c) noexcept { return name_of(compares, c); }

namespace {
const libseccomp& compiler() {
  static const libseccomp s;
  return s;
}
}  // namespace

seccomp_filter compile_seccomp(const seccomp_profile& profile) {
  const libseccomp& s = compiler();
  seccomp_filter filter;
  for (const auto& f : profile.flags) filter.flags |= value_named(flags, f, errc::unsupported, "flag");

  const std::uint32_t by_default = native_action(profile.default_action, profile.default_errno);
  struct context_owner {
    scmp_filter_ctx c;
    ~context_owner() { compiler().release(c); }
  } context{s.init(by_default)};
  if (context.c == nullptr)
    fail(errc::unsupported, "seccomp profile: libseccomp knows no default action {}",
         to_string(profile.default_action));
  // A search by halving: a filter of 400 names costs each system call 9 comparisons instead of 200.
  (void)s.attr_set(context.c, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (const auto& a : profile.architectures) {
    const auto token = value_named(architectures, a, errc::unsupported, "architecture");
    if (int e = s.arch_add(context.c, token); e != 0 && e != -EEXIST)
      fail_errno(-e, "seccomp profile: add architecture {}", a);
  }
  for (const auto& r : profile.rules) {
    const std::uint32_t action = native_action(r.action, r.errno_value);
    if (action == by_default) continue;  // libseccomp refuses what changes nothing
    std::array<scmp_arg_cmp, 6> arguments{};
    if (r.arguments.size() > arguments.size())
      fail(errc::invalid, "seccomp profile: {} arguments of one system call; there are six", r.arguments.size());
    for (std::size_t i = 0; i < r.arguments.size(); ++i) {
      const auto& a = r.arguments[i];
      if (a.index > 5) fail(errc::invalid, "seccomp profile: argument {}; there are 0 to 5", a.index);
      arguments[i] = {a.index, native_compare(a.compare), a.value, a.value_two};
    }
    for (const auto& name : r.names) {
      const int number = s.resolve(name.c_str());
      if (number == __NR_SCMP_ERROR) continue;
      const int e = s.rule_add(context.c, action, number, static_cast<unsigned>(r.arguments.size()), arguments.data());
      // EDOM: the call does not exist on one of the architectures and cannot be emulated there.
      if (e != 0 && e != -EDOM) fail_errno(-e, "seccomp profile: add the rule for {}", name);
    }
  }
  filter.program = exported_program(s, context.c);
  return filter;
}

// ---- the cache ----------------------------------------------------------------------------------

namespace {

/// Which file a path leads to, without reading it: an upgraded library is another one.
struct file_identity {
  std::uint64_t device = 0, inode = 0, size = 0;
  std::int64_t modified_ns = 0;
  bool operator==(const file_identity&) const = default;
};

file_identity identity_of(const std::string& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return {};
  return {st.st_dev, st.st_ino, static_cast<std::uint64_t>(st.st_size),
          st.st_mtim.tv_sec * std::int64_t{1'000'000'000} + st.st_mtim.tv_nsec};
}

/// A file of the cache: this header, the key, the path of the library that compiled it, the program.
struct cache_header {
  std::array<char, 8> magic{'k', 'i', 't', 'b', 'p', 'f', '2', '\n'};
  std::uint32_t key_bytes = 0;
  std::uint32_t compiler_bytes = 0;
  std::uint32_t instructions = 0;
  std::uint32_t flags = 0;
  file_identity compiler;
};

/// Names a file only; what is in it is compared whole.
std::uint64_t fnv1a(std::string_view text) {
  std::uint64_t h = 14695981039346656037ull;
  for (unsigned char c : text) h = (h ^ c) * 1099511628211ull;
  return h;
}

/// Empty: not there, or not what it should be.
std::optional<seccomp_filter> read_cached(const std::string& path, const std::string& key) {
  unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 022) != 0)
    return std::nullopt;
  const std::string bytes = read_all(fd.get(), path);
  cache_header h;
  const auto magic = h.magic;
  if (bytes.size() < sizeof h) return std::nullopt;
  std::memcpy(&h, bytes.data(), sizeof h);
  const std::size_t text_bytes = key.size() + h.compiler_bytes;
  if (h.magic != magic || h.key_bytes != key.size() || h.instructions == 0 || h.instructions > BPF_MAXINSNS ||
      bytes.size() != sizeof h + text_bytes + h.instructions * sizeof(sock_filter) ||
      bytes.compare(sizeof h, key.size(), key) != 0 ||
      h.compiler != identity_of(bytes.substr(sizeof h + key.size(), h.compiler_bytes)))
    return std::nullopt;
  seccomp_filter filter;
  filter.flags = h.flags;
  filter.program.resize(h.instructions);
  std::memcpy(filter.program.data(), bytes.data() + sizeof h + text_bytes, h.instructions * sizeof(sock_filter));
  return filter;
}

void write_cached(const std::string& path, const std::string& key, const seccomp_filter& filter) {
  const std::string compiled_by = compiler().lib.path();
  cache_header h;
  h.key_bytes = static_cast<std::uint32_t>(key.size());
  h.compiler_bytes = static_cast<std::uint32_t>(compiled_by.size());
  h.instructions = static_cast<std::uint32_t>(filter.program.size());
  h.flags = filter.flags;
  h.compiler = identity_of(compiled_by);
  std::string bytes(reinterpret_cast<const char*>(&h), sizeof h);
  bytes += key;
  bytes += compiled_by;
  bytes.append(reinterpret_cast<const char*>(filter.program.data()), filter.program.size() * sizeof(sock_filter));
  replace_file(path, bytes, 0600);
}

}  // namespace

seccomp_filter cached_seccomp(std::string_view text, const std::string& directory,
                              function_ref<seccomp_profile()> profile) {
  utsname host{};
  (void)::uname(&host);
  const std::string key = fmt::format("{} {}\n{}", host.release, host.machine, text);
  const std::string path = fmt::format("{}/{:016x}.bpf", directory, fnv1a(key));
  if (auto hit = read_cached(path, key)) return *std::move(hit);
  auto filter = compile_seccomp(profile());
  try {
    make_directories(directory, 0700);
    write_cached(path, key, filter);
  } catch (const error&) {  // a cache that cannot be kept is only slow
  }
  return filter;
}

int install_seccomp(const seccomp_filter& filter) noexcept {
  sock_fprog program{};
  program.len = static_cast<unsigned short>(filter.program.size());
  program.filter = const_cast<sock_filter*>(filter.program.data());
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, filter.flags, &program) == 0 ? 0 : -errno;
}

}  // namespace kit
