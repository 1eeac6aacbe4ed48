// SPDX-License-Identifier: Apache-2.0
#include "kit/driver.hpp"

#include <cctype>
#include <limits>

#include "kit/system/error.hpp"

namespace kit {
namespace {
call_context nobody;
thread_local call_context* current = nullptr;
}  // namespace

void tell_step(std::string_view name, step_edge edge) {
  if (const int e = this_call().step(name, edge); e != 0) [[unlikely]]
    fail_errno(e, "{} {}", edge == step_edge::begin ? "begin" : "end", name);
}

void call_context::check() const {
  if (cancelled()) throw error(errc::cancelled, "the call was cancelled", ECANCELED);
  if (deadline != std::chrono::steady_clock::time_point::max() && std::chrono::steady_clock::now() > deadline)
    throw error(errc::cancelled, "the call ran past its deadline", ETIMEDOUT);
}

call_context& this_call() noexcept { return current != nullptr ? *current : nobody; }

std::uint64_t parse_size(std::string_view text) {
  const auto bad = [&](std::string_view why) -> std::uint64_t {
    fail(errc::invalid, "invalid size: '{}': {}; write it as 512m, 1.5g or bytes", text, why);
  };
  std::size_t digits = 0, points = 0;
  while (digits < text.size() && (std::isdigit(static_cast<unsigned char>(text[digits])) != 0 || text[digits] == '.'))
    points += text[digits++] == '.';
  if (digits == points || points > 1) return bad("no number");
  std::string unit(text.substr(digits));
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (unit.size() > 1 && unit.back() == 'b') unit.pop_back();
  if (unit.size() > 1 && unit.back() == 'i') unit.pop_back();
  const std::string_view units = "bkmgtp";
  const auto power = unit.empty() ? 0 : units.find(unit);
  if (unit.size() > 1 || power == std::string_view::npos) return bad("unknown unit");
  const double bytes = std::stod(std::string(text.substr(0, digits))) * static_cast<double>(1ull << (10 * power));
  if (bytes >= static_cast<double>(std::numeric_limits<std::int64_t>::max())) return bad("too large");
  return static_cast<std::uint64_t>(bytes);
}

call_scope::call_scope(call_context& c) noexcept : outer_(current) { current = &c; }
call_scope::~call_scope() { current = outer_; }

}  // namespace kit
