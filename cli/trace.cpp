// SPDX-License-Identifier: Apache-2.0
#include "trace.hpp"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <nlohmann/json.hpp>

#include "kit/system/error.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

std::int64_t monotonic_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * std::int64_t{1000000000} + now.tv_nsec;
}

/// A step with both its edges. One whose end was never told (its process executed a program) takes no time.
struct span_of_step {
  std::string name;
  const char* process;
  std::size_t depth;
  std::int64_t begin_ns, end_ns;
};

std::vector<span_of_step> spans_of(const std::vector<step_log::entry>& entries) {
  std::vector<span_of_step> spans;
  std::map<const char*, std::vector<std::size_t>> open_of;  // by process
  for (const step_log::entry& e : entries) {
    auto& open = open_of[e.process];
    if (e.edge == step_edge::begin) {
      open.push_back(spans.size());
      spans.push_back({e.name, e.process, open.size() - 1, e.time_ns, e.time_ns});
      continue;
    }
    // The step that forks ends in both processes, and only one of them began it.
    if (open.empty() || spans[open.back()].name != e.name) continue;
    spans[open.back()].end_ns = e.time_ns;
    open.pop_back();
  }
  return spans;
}

double microseconds(std::int64_t ns) { return static_cast<double>(ns) / 1000; }

/// The "JSON object format" of the Trace Event Format; its unit is the microsecond.
std::string to_chrome_json(const std::vector<span_of_step>& spans) {
  nlohmann::ordered_json events = nlohmann::ordered_json::array();
  std::vector<const char*> rows;
  for (const span_of_step& s : spans) {
    auto row = std::find(rows.begin(), rows.end(), s.process);
    if (row == rows.end()) {
      row = rows.insert(row, s.process);
      events.push_back({{"ph", "M"}, {"name", "process_name"}, {"pid", rows.size()}, {"args", {{"name", s.process}}}});
    }
    events.push_back({{"ph", "X"},
                      {"name", s.name},
                      {"pid", row - rows.begin() + 1},
                      {"tid", 1},
                      {"ts", microseconds(s.begin_ns - spans.front().begin_ns)},
                      {"dur", microseconds(s.end_ns - s.begin_ns)}});
  }
  return nlohmann::ordered_json{{"traceEvents", std::move(events)}}.dump(1) + "\n";
}

std::string to_table(const std::vector<span_of_step>& spans) {
  std::string text =
      fmt::format("{:<9} {:>10} {:>10} {:>9}  {}\n", "PROCESS", "BEGIN us", "END us", "TAKES us", "STEP");
  for (const span_of_step& s : spans) {
    const std::int64_t first = spans.front().begin_ns;
    text += fmt::format("{:<9} {:>10.1f} {:>10.1f} {:>9.1f}  {:>{}}{}\n", s.process, microseconds(s.begin_ns - first),
                        microseconds(s.end_ns - first), microseconds(s.end_ns - s.begin_ns), "", 2 * s.depth, s.name);
  }
  return text;
}

}  // namespace

// ---- processes -------------------------------------------------------------------------------------------

process_role::process_role(const char* program) noexcept : first_(::getpid()), role_(program) {}

const char* process_role::at(std::string_view step) noexcept {
  // A child knows only its own pid namespace, where its number says nothing.
  if (step.ends_with("_in_child")) {
    first_ = 0;
    role_ = "child";
  } else if (first_ != 0 && ::getpid() != first_) {
    first_ = 0;
    role_ = "launcher";
  }
  return role_;
}

// ---- the log ---------------------------------------------------------------------------------------------

void step_log::add(std::string_view name, step_edge edge) noexcept {
  const std::uint32_t at = shared_->count.fetch_add(1, std::memory_order_relaxed);
  if (at >= most) return;
  auto& slot = shared_->slots[at];
  slot.e.process = process_.at(name);
  slot.e.edge = edge;
  name = name.substr(0, sizeof slot.e.name - 1);
  std::memcpy(slot.e.name, name.data(), name.size());
  slot.e.time_ns = monotonic_ns();
  slot.written.store(true, std::memory_order_release);
}

std::vector<step_log::entry> step_log::entries() const {
  std::vector<entry> list;
  const std::uint32_t count = std::min(shared_->count.load(), most);
  for (std::uint32_t i = 0; i < count; ++i)
    if (shared_->slots[i].written.load(std::memory_order_acquire)) list.push_back(shared_->slots[i].e);
  return list;
}

// ---- --trace ---------------------------------------------------------------------------------------------

tracer::tracer(const std::string& file) : file_(file), outer_(this_call()) {
  if (file_.empty()) return;
  if (file_ != "-") fd_ = open_file(file_, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  log_.emplace("kit");
  scope_.emplace(*this);
}

int tracer::step(std::string_view name, step_edge edge) noexcept {
  if (edge == step_edge::call) return outer_.step(name, edge);
  // What a watcher around this one does at an edge belongs to no step.
  if (edge == step_edge::end) log_->add(name, edge);
  const int result = outer_.step(name, edge);
  if (edge == step_edge::begin) log_->add(name, edge);
  return result;
}

tracer::~tracer() {
  if (!log_) return;
  scope_.reset();
  try {
    const auto spans = spans_of(log_->entries());
    if (fd_)
      write_all(fd_.get(), to_chrome_json(spans), file_);
    else
      write_all(STDERR_FILENO, to_table(spans), "stderr");
  } catch (const std::exception& e) {
    report(e);
  }
}

}  // namespace kit::cli
