// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <ios>
#include <new>
#include <system_error>

#include "kit/detail/abi.hpp"

namespace kit {
namespace detail {

static_assert(static_cast<kit_status>(errc::not_found) == KIT_NOT_FOUND &&
              static_cast<kit_status>(errc::cancelled) == KIT_CANCELLED);
static_assert(sizeof(kit_id) == layer_id::size);

// ---- values ------------------------------------------------------------------------------------

const kit_text* to_abi(const std::vector<std::string>& list, scratch& memory) {
  return memory.each<kit_text>(list, [](const std::string& s) { return to_abi(s); });
}

std::vector<std::string> from_abi(const kit_text* list, std::size_t count) {
  std::vector<std::string> texts(count);
  std::transform(list, list + count, texts.begin(), text);
  return texts;
}

const kit_option* to_abi(std::span<const option> list, scratch& memory) {
  return memory.each<kit_option>(list, [](const option& o) { return kit_option{to_abi(o.key), to_abi(o.value)}; });
}

std::vector<option> from_abi(const kit_option* list, std::size_t count) {
  std::vector<option> options(count);
  std::transform(list, list + count, options.begin(), [](const kit_option& o) {
    return option{text(o.key), text(o.value)};
  });
  return options;
}

static kit_mount_option to_abi(const mount_option& o, scratch& memory) {
  kit_mount_option raw{};
  raw.size = sizeof raw;
  raw.key = to_abi(o.key);
  if (const auto* s = std::get_if<std::string>(&o.value)) {
    raw.kind = KIT_VALUE_TEXT;
    raw.value = to_abi(*s);
  } else if (const auto* path = std::get_if<mount_option::path>(&o.value)) {
    raw.kind = KIT_VALUE_PATH;
    raw.value = to_abi(path->value);
  } else if (const auto* paths = std::get_if<mount_option::paths>(&o.value)) {
    raw.kind = KIT_VALUE_PATHS;
    raw.values = to_abi(paths->values, memory);
    raw.value_count = paths->values.size();
  } else if (const auto* result = std::get_if<mount_option::result>(&o.value)) {
    raw.kind = KIT_VALUE_RESULT;
    raw.result = static_cast<std::uint32_t>(result->entry);
  } else {
    raw.kind = KIT_VALUE_FLAG;
  }
  return raw;
}

static mount_option from_abi(const kit_mount_option& raw) {
  mount_option o;
  o.key = text(raw.key);
  switch (raw.kind) {
    case KIT_VALUE_FLAG: o.value = mount_option::flag{}; break;
    case KIT_VALUE_TEXT: o.value = text(raw.value); break;
    case KIT_VALUE_PATH: o.value = mount_option::path{text(raw.value)}; break;
    case KIT_VALUE_PATHS: o.value = mount_option::paths{from_abi(raw.values, raw.value_count)}; break;
    case KIT_VALUE_RESULT: o.value = mount_option::result{raw.result}; break;
    default:
      fail(errc::unsupported, "mount option {}: a value of kind {} is of a later version of the plugin interface",
           o.key, raw.kind);
  }
  return o;
}

kit_mount to_abi(const mount& m, scratch& memory) {
  kit_mount raw{};
  raw.size = sizeof raw;
  raw.fstype = to_abi(m.fstype);
  raw.source = to_abi(m.source);
  raw.target = to_abi(m.target);
  raw.attributes = m.attributes;
  raw.action = static_cast<std::uint32_t>(m.what);
  raw.options = memory.pointers<kit_mount_option>(m.options, [&](const mount_option& o) { return to_abi(o, memory); });
  raw.option_count = m.options.size();
  return raw;
}

mount from_abi(const kit_mount& m) {
  mount result;
  result.fstype = text(m.fstype);
  result.source = text(m.source);
  result.target = text(m.target);
  result.attributes = m.attributes;
  if (m.action != 0) result.what = known_enum(m.action, mount::action::reconfigure, "a mount's action");
  result.options.reserve(m.option_count);
  for (std::size_t i = 0; i < m.option_count; ++i) result.options.push_back(from_abi(known(m.options[i])));
  return result;
}

kit_config to_abi(const driver_config& c, scratch& memory) {
  kit_config raw{};
  raw.size = sizeof raw;
  raw.directory = to_abi(c.directory);
  raw.run_dir = to_abi(c.run_dir);
  raw.libexec = to_abi(c.libexec);
  raw.root_tag = to_abi(c.root_tag);
  raw.options = to_abi(std::span(c.options), memory);
  raw.option_count = c.options.size();
  return raw;
}

driver_config from_abi(const kit_config& c) {
  driver_config result;
  result.directory = text(c.directory);
  result.run_dir = text(c.run_dir);
  result.libexec = text(c.libexec);
  result.root_tag = text(c.root_tag);
  result.options = from_abi(c.options, c.option_count);
  return result;
}

// ---- the callee --------------------------------------------------------------------------------

kit_status to_status(const kit_call* call) noexcept {
  const kit_call to = known(call);
  auto answer = [&](errc code, int sys_errno, std::string_view message) {
    if (to.fail != nullptr) to.fail(to.to, sys_errno, to_abi(message));
    return static_cast<kit_status>(code);
  };
  try {
    throw;
  } catch (const stopped&) {
    return KIT_STOPPED;
  } catch (const error& e) {
    return answer(e.code(), e.sys_errno(), e.what());
  } catch (const std::bad_alloc&) {
    return answer(errc::io, ENOMEM, "out of memory");
  } catch (const std::system_error& e) {
    bool is_errno = e.code().category() == std::generic_category() || e.code().category() == std::system_category();
    int sys_errno = is_errno ? e.code().value() : 0;
    return answer(errc_of(sys_errno), sys_errno, e.what());
  } catch (const std::exception& e) {
    return answer(errc::io, 0, e.what());
  } catch (...) {
    return answer(errc::io, 0, "the driver threw something that is no std::exception");
  }
}

caller::caller(const kit_call* call) noexcept : call_(known(call)) {
  if (call_.deadline_ns != 0)
    deadline = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(call_.deadline_ns));
}
bool caller::cancelled() const noexcept { return call_.cancelled != nullptr && call_.cancelled(call_.to) != 0; }
void caller::progress(std::uint64_t done, std::uint64_t total) noexcept {
  if (call_.progress != nullptr) call_.progress(call_.to, done, total);
}
void caller::log(log_level level, std::string_view line) noexcept {
  if (call_.log != nullptr) call_.log(call_.to, static_cast<std::int32_t>(level), to_abi(line));
}
int caller::step(std::string_view name, step_edge edge) noexcept {
  return call_.step != nullptr ? call_.step(call_.to, to_abi(name), static_cast<std::uint32_t>(edge)) : 0;
}

void emit_probe(const kit_sink& sink, const probe_report& report) {
  scratch memory;
  kit_probe raw{};
  raw.size = sizeof raw;
  raw.usable = report.usable ? 1 : 0;
  raw.reason = to_abi(report.reason);
  raw.remedy = to_abi(report.remedy);
  raw.facts = to_abi(std::span(report.facts), memory);
  raw.fact_count = report.facts.size();
  emit(sink, raw);
}

void emit_schema(const kit_sink& sink, const std::vector<option_schema>& options) {
  for (const option_schema& o : options) {
    kit_option_schema raw{};
    raw.size = sizeof raw;
    raw.key = to_abi(o.key);
    raw.default_value = to_abi(o.default_value);
    raw.help = to_abi(o.help);
    raw.type = static_cast<std::uint32_t>(o.kind);
    emit(sink, raw);
  }
}

// ---- the caller --------------------------------------------------------------------------------

call::call(std::string_view driver, std::string_view function) noexcept
    : raw_{}, context_(this_call()), driver_(driver), function_(function) {
  raw_.size = sizeof raw_;
  raw_.to = this;
  raw_.fail = [](void* to, std::int32_t sys_errno, kit_text message) noexcept {
    auto& me = *static_cast<call*>(to);
    me.sys_errno_ = sys_errno;
    try {
      me.message_ = text(message);
    } catch (const std::bad_alloc&) {
      me.message_.clear();
    }
  };
  raw_.cancelled = [](void* to) noexcept -> std::int32_t {
    return static_cast<call*>(to)->context_.cancelled() ? 1 : 0;
  };
  raw_.progress = [](void* to, std::uint64_t done, std::uint64_t total) noexcept {
    static_cast<call*>(to)->context_.progress(done, total);
  };
  raw_.log = [](void* to, std::int32_t level, kit_text line) noexcept {
    auto known_level = static_cast<log_level>(std::clamp(level, 0, static_cast<std::int32_t>(log_level::warning)));
    static_cast<call*>(to)->context_.log(known_level, from_abi(line));
  };
  raw_.step = [](void* to, kit_text name, std::uint32_t edge) noexcept -> std::int32_t {
    if (edge < static_cast<std::uint32_t>(step_edge::begin) || edge > static_cast<std::uint32_t>(step_edge::call))
      return 0;
    return static_cast<call*>(to)->context_.step(from_abi(name), static_cast<step_edge>(edge));
  };
  using std::chrono::steady_clock;
  if (context_.deadline != steady_clock::time_point::max())
    raw_.deadline_ns = std::max<std::int64_t>(
        1, std::chrono::duration_cast<std::chrono::nanoseconds>(context_.deadline.time_since_epoch()).count());
}

void call::raise(kit_status status) const {
  if (thrown_) std::rethrow_exception(thrown_);
  bool is_known = status >= KIT_NOT_FOUND && status <= KIT_CANCELLED;
  errc code = is_known ? static_cast<errc>(status) : errc::io;
  if (message_.empty()) fail(code, "{} {}: the driver answered {} and no reason", driver_, function_, status);
  throw error(code, message_, sys_errno_);
}

}  // namespace detail

probe_report any_driver::probe() const {
  probe_report report;
  try {
    detail::call c(name_, "probe");
    auto sink = c.each<kit_probe>([&](const kit_probe& p) {
      report.usable = p.usable != 0;
      report.reason = detail::text(p.reason);
      report.remedy = detail::text(p.remedy);
      report.facts = detail::from_abi(p.facts, p.fact_count);
    });
    c.check(probe_(c, self_, sink));
  } catch (const error& e) {
    report = {};
    report.reason = e.what();
  }
  return report;
}

}  // namespace kit
