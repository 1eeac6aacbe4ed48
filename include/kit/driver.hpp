// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <chrono>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "kit/detail/function_ref.hpp"

/// \file
/// What the three families of drivers have in common: the concept `driver`, the answer of probe, the
/// way a driver is configured, and the context of the call that is being served.

namespace kit {

/// A pair of texts: a driver option, a fact, a label.
struct option {
  std::string key;
  std::string value;
  bool operator==(const option&) const = default;
};

/// The value of `key` in `list`, or `otherwise`. The last one given wins.
template <class List>
std::string_view option_or(const List& list, std::string_view key, std::string_view otherwise) {
  std::string_view found = otherwise;
  for (const option& o : list)
    if (o.key == key) found = o.value;
  return found;
}

/// One option a driver understands, so that help, errors and `kit driver` can name it.
struct option_schema {
  enum class type : std::uint32_t { text = 1, size, integer, boolean, path };
  std::string key;
  type kind = type::text;
  std::string default_value;
  std::string help;
};

/// The bytes that a size option means: "64m", "1.5g", "4096"; b k m g t p, binary. Throws invalid, quoting the text.
std::uint64_t parse_size(std::string_view text);

/// What a driver can do on this host now. `reason` and `remedy` are one lower-case line each, both
/// empty when the driver is usable without reserve; `facts` are what was seen (kernel, backing file
/// system, limits), in the driver's own words, for people. A fact `differs` tells one way in which what programs see
/// differs from a plain file system, network or host; there may be several.
struct probe_report {
  bool usable = false;
  std::string reason;
  std::string remedy;
  std::vector<option> facts;
};

/// Where a driver's bytes live and how the operator wants it. The driver makes its directories on
/// first use; `directory` is kept, `run_dir` is lost at boot. `libexec` holds kit's helper programs.
/// `root_tag` tells two kits on one host apart and is part of every global name made.
struct driver_config {
  std::string directory;
  std::string run_dir;
  std::string libexec;
  std::string root_tag;
  std::vector<option> options;
};

/// The common base of all drivers:
///
///  1. `d.name()` is the word users say, [a-z][a-z0-9-]{0,31}, and never changes.
///  2. `d.probe()` looks at this host, changes nothing that outlives the call, and answers rather
///     than throws: "no" is a report with a reason and a remedy.
///  3. Constructing a driver touches nothing: no file, no kernel object, no thread. The engine makes
///     one per command, often only to ask its name.
///  4. One object may be called from several threads at once, and several processes may hold one
///     driver over the same directory at once.
template <class D>
concept driver = requires(const D& d) {
  { d.name() } -> std::convertible_to<std::string_view>;
  { d.probe() } -> std::same_as<probe_report>;
};

/// A driver that KIT_PLUGIN can export: made from its configuration, and telling its options. Its name is
/// `static constexpr`.
template <class D>
concept configurable_driver = driver<D> && std::constructible_from<D, const driver_config&> && requires {
  { D::options() } -> std::same_as<std::vector<option_schema>>;
};

/// The two edges of a step; and a system call about to be made, which has but one (kit/system/seam.hpp).
enum class step_edge : std::uint32_t { begin = 1, end = 2, call = 3 };

/// Levels of call_context::log.
enum class log_level : std::int32_t { debug = 0, info = 1, warning = 2 };

/// Whom a long call answers to while it runs. The engine puts one in place around a call into a
/// driver (call_scope); a driver asks this_call(). Outside any scope this_call() answers a context
/// that is never cancelled and drops what it is told, so drivers need no special case.
class call_context {
 public:
  virtual ~call_context() = default;
  /// Whether the caller no longer wants the answer.
  [[nodiscard]] virtual bool cancelled() const noexcept { return false; }
  /// Bytes done of `total` (0: unknown). Cheap enough to call once per file.
  virtual void progress(std::uint64_t done, std::uint64_t total) noexcept { (void)done, (void)total; }
  virtual void log(log_level level, std::string_view line) noexcept { (void)level, (void)line; }
  /// A named step of an operation begins or ended: what a trace shows, and where a test stops, kills or fails the
  /// process. Answers 0, or the errno the step is to fail with. Also called between clone and exec, where nothing may
  /// allocate, lock or throw: so an override does none of these. `name` has the life of a literal.
  virtual int step(std::string_view name, step_edge edge) noexcept { return (void)name, (void)edge, 0; }
  /// Throws error{errc::cancelled} if cancelled() or past the deadline. Call it between the files of
  /// a copy, the entries of an archive, the retries of a wait.
  void check() const;
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

/// The context of the call this thread is serving.
call_context& this_call() noexcept;

/// Makes `c` this thread's context until the end of the scope; nests.
class call_scope {
 public:
  explicit call_scope(call_context& c) noexcept;
  ~call_scope();
  call_scope(const call_scope&) = delete;
  call_scope& operator=(const call_scope&) = delete;

 private:
  call_context* outer_;
};

/// Tells this_call() of one edge of a step. Throws what it was told to fail with, as an error that names the step.
void tell_step(std::string_view name, step_edge edge);

/// Runs `work` as a step. An exception passes through, and the step has ended.
template <class Work>
decltype(auto) in_step(std::string_view name, Work&& work) {
  struct ends_anyhow {
    std::string_view name;
    ~ends_anyhow() {
      if (!name.empty()) this_call().step(name, step_edge::end);
    }
  };
  tell_step(name, step_edge::begin);
  ends_anyhow failed{name};
  const auto ended = [&] { tell_step(std::exchange(failed.name, {}), step_edge::end); };
  if constexpr (std::is_void_v<decltype(work())>) {
    work();
    ended();
  } else {
    decltype(auto) result = work();
    ended();
    return result;
  }
}

/// "launch.make_group(x)" is "make_group".
constexpr std::string_view step_name(std::string_view call) {
  call = call.substr(0, call.find('('));
  const auto before = call.find_last_of(".>: ");
  return before == std::string_view::npos ? call : call.substr(before + 1);
}

/// Evaluates the call in a step of the called function's name, and is its result: KIT_STEP(make_group(plan)).
#define KIT_STEP(...) ::kit::in_step(::kit::step_name(#__VA_ARGS__), [&]() -> decltype(auto) { return __VA_ARGS__; })

}  // namespace kit
