// SPDX-License-Identifier: Apache-2.0
#include "limits.hpp"

#include <algorithm>

namespace kit::cli {

void limit_options::bind(options& o) {
  o.value("-m,--memory", memory, "SIZE", "Memory limit: 64m, 1.5g")
      .value("--memory-swap", memory_swap, "SIZE", "Limit of memory and swap together (twice the memory; -1: none)")
      .value("--memory-reservation", memory_reservation, "SIZE", "What it is held to while memory is short")
      .value("--cpus", cpus, "NUMBER", "How many processors' time it may use: 0.5")
      .value("-c,--cpu-shares", cpu_shares, "NUMBER", "Its share of a busy processor (1024)")
      .value("--cpu-period", cpu_period, "MICROSECONDS", "Over which --cpu-quota counts")
      .value("--cpu-quota", cpu_quota, "MICROSECONDS", "Of processor time in each period")
      .value("--cpuset-cpus", cpuset_cpus, "LIST", "Processors it may run on: 0-2,5")
      .value("--cpuset-mems", cpuset_mems, "LIST", "Memory nodes it may use")
      .value("--blkio-weight", blkio_weight, "NUMBER", "Its share of a busy disk: 10 to 1000")
      .value("--pids-limit", pids_limit, "NUMBER", "Limit of processes and threads (-1: none)");
}

void limit_options::apply(container_spec& spec) const {
  const auto number = [](const std::string& text, const char* option, auto& into, auto least) {
    using type = std::remove_reference_t<decltype(into)>;
    if (!text.empty()) into = parse_number<type>(text, option, static_cast<type>(least));
  };
  if (!memory.empty()) spec.memory = parse_size(memory);
  if (!memory_swap.empty())
    spec.memory_swap = memory_swap == "-1" ? -1 : static_cast<std::int64_t>(parse_size(memory_swap));
  if (!memory_reservation.empty()) spec.memory_reservation = parse_size(memory_reservation);
  if (!cpus.empty()) {
    spec.cpus = parse_number<double>(cpus, "--cpus", -1e9);
    if (!(spec.cpus < 1e9)) fail(errc::invalid, "--cpus \"{}\": a number is expected", cpus);
  }
  number(cpu_shares, "--cpu-shares", spec.cpu_shares, 0);
  number(cpu_period, "--cpu-period", spec.cpu_period, 0);
  number(cpu_quota, "--cpu-quota", spec.cpu_quota, -1);
  number(blkio_weight, "--blkio-weight", spec.blkio_weight, 0);
  if (!cpuset_cpus.empty()) spec.cpuset_cpus = cpuset_cpus;
  if (!cpuset_mems.empty()) spec.cpuset_mems = cpuset_mems;
  if (!pids_limit.empty()) {
    number(pids_limit, "--pids-limit", spec.pids_limit, -1);
    if (spec.pids_limit == 0) spec.pids_limit = -1;
  }
}

}  // namespace kit::cli
