// SPDX-License-Identifier: Apache-2.0
#include "drivers/isolation/native/plan.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <cstring>

#include "kit/system/error.hpp"
#include "kit/system/process.hpp"

namespace kit::drivers::detail {

namespace {

class writer {
 public:
  explicit writer(std::size_t begin) : bytes_(begin, '\0') {}

  template <class T>
  init_list array(const std::vector<T>& values) {
    const std::uint32_t offset = room(values.size() * sizeof(T), alignof(T));
    if (!values.empty()) std::memcpy(&bytes_[offset], values.data(), values.size() * sizeof(T));
    return {offset, static_cast<std::uint32_t>(values.size())};
  }
  std::uint32_t text(const std::string& s) {
    const std::uint32_t offset = room(s.size() + 1, 1);
    std::memcpy(&bytes_[offset], s.c_str(), s.size() + 1);
    return offset;
  }
  init_list texts(const std::vector<std::string>& values) {
    std::vector<std::uint64_t> slots;
    slots.reserve(values.size() + 1);
    for (const std::string& s : values) slots.push_back(text(s));
    slots.push_back(0);
    return {array(slots).offset, static_cast<std::uint32_t>(values.size())};
  }
  std::string& bytes() noexcept { return bytes_; }

 private:
  std::uint32_t room(std::size_t size, std::size_t alignment) {
    const std::size_t offset = (bytes_.size() + alignment - 1) / alignment * alignment;
    if (offset + size > std::size_t{64} << 20) fail(errc::invalid, "process.args and process.env: more than 64 MiB");
    bytes_.resize(offset + size);
    return static_cast<std::uint32_t>(offset);
  }
  std::string bytes_;
};

}  // namespace

std::vector<std::string> program_candidates(const bundle_process& process) {
  const std::string& name = process.args.at(0);
  if (name.find('/') != name.npos) return {name};
  std::string_view path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (std::string_view variable : process.env)
    if (variable.starts_with("PATH=")) path = variable.substr(5);
  std::vector<std::string> out;
  for (std::size_t at = 0; at <= path.size();) {
    const std::size_t end = std::min(path.find(':', at), path.size());
    const std::string_view directory = path.substr(at, end - at);
    out.push_back(directory.empty() ? "./" + name : fmt::format("{}/{}", directory, name));
    at = end + 1;
  }
  return out;
}

unique_fd make_init_plan(init_plan plan, const bundle_process& process, const std::optional<seccomp_filter>& filter) {
  writer out(sizeof plan);
  plan.uid = process.user.uid;
  plan.gid = process.user.gid;
  plan.umask = process.user.umask.value_or(022);
  if (process.terminal) plan.flags |= init_has_terminal;
  if (process.no_new_privileges) plan.flags |= init_no_new_privileges;
  if (const auto& c = process.capabilities) {
    plan.flags |= init_sets_capabilities;
    plan.bounding = c->bounding.bits();
    plan.effective = c->effective.bits();
    plan.permitted = c->permitted.bits();
    plan.inheritable = c->inheritable.bits();
    plan.ambient = c->ambient.bits();
  }
  std::vector<init_rlimit> limits;
  for (const bundle_rlimit& r : process.rlimits)
    limits.push_back({static_cast<std::uint32_t>(r.resource), 0, r.value.rlim_cur, r.value.rlim_max});
  plan.rlimits = out.array(limits);
  plan.groups = out.array(process.user.additional_gids);
  if (filter) {
    plan.filter = out.array(filter->program);
    plan.filter_flags = filter->flags;
  }
  plan.args = out.texts(process.args);
  plan.env = out.texts(process.env);
  plan.programs = out.texts(program_candidates(process));
  plan.cwd = out.text(process.cwd);
  plan.size = static_cast<std::uint32_t>(out.bytes().size());
  std::memcpy(out.bytes().data(), &plan, sizeof plan);

  const int fd = ::memfd_create("kit-init-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) fail_errno(errno, "make the plan of kit-init");
  unique_fd memory = above_stdio(unique_fd(fd), "the plan of kit-init");
  write_all(memory.get(), out.bytes(), "the plan of kit-init");
  if (::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
    fail_errno(errno, "seal the plan of kit-init");
  return memory;
}

}  // namespace kit::drivers::detail
