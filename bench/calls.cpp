// SPDX-License-Identifier: Apache-2.0
#include "calls.hpp"

#include <fmt/core.h>

#include "drivers/storage/overlayfs.hpp"
#include "kit/plugin/loader.hpp"
#include "kit/system/error.hpp"
#include "statistics.hpp"

namespace kit::bench {
namespace {

layer_id id_of(unsigned n) { return layer_id::from(fmt::format("{:064x}", n + 1)); }

/// Nanoseconds of one call: the median of batches.
template <class Work>
double ns_of(Work work) {
  constexpr int batches = 31, calls = 200;
  std::vector<double> ns;
  for (int b = 0; b < batches; ++b) {
    const double begin = now_ms();
    for (int c = 0; c < calls; ++c) work();
    ns.push_back((now_ms() - begin) * 1e6 / calls);
  }
  return summarize(ns).p50;
}

/// A driver whose calls do nothing: what is left is the call.
struct idle_driver {
  static constexpr std::string_view name() { return "idle"; }
  [[nodiscard]] probe_report probe() const { return {true, {}, {}, {}}; }
  void create(const layer&, std::span<const option>) {}
  std::vector<mount> mounts(const layer&, access) { return {}; }
  void freeze(const layer_id&) { asm volatile(""); }
  void remove(const layer_id&) {}
  disk_usage usage(const layer&) { return {}; }
  void layers(layer_sink) {}
};

}  // namespace

json calls_of_drivers(const std::string& directory) {
  constexpr unsigned most = 128;
  driver_config config;
  config.directory = config.run_dir = directory;
  config.libexec = own_directory();
  drivers::overlayfs direct(config);
  any_storage erased{drivers::overlayfs(config)};
  any_storage loaded = open_storage("overlayfs", config);
  std::vector<layer_id> chain;  // nearest first
  for (unsigned i = 0; i < most; ++i) {
    const layer_id id = id_of(i);
    direct.create({id, chain}, {});
    direct.freeze(id);
    chain.insert(chain.begin(), id);
  }
  const layer_id top_id = id_of(most), shallow_id = id_of(most + 1), absent = id_of(most + 2);
  const layer top{top_id, chain}, shallow{shallow_id, std::span(chain).last(1)};
  direct.create(top, {});
  direct.create(shallow, {});

  json table{{"title", "What a call of a driver costs"},
             {"explain",
              "Nanoseconds, medians: the driver overlayfs as a class of the program, the same behind type erasure, and "
              "loaded from its plugin. The last row is a driver whose call does nothing: what is left is the call."},
             {"columns", {"", "class ns", "erased ns", "plugin ns"}},
             {"rows", json::array()}};
  const auto row = [&](const char* what, const auto& call) {
    table["rows"].push_back(
        {what, ns_of([&] { call(direct); }), ns_of([&] { call(erased); }), ns_of([&] { call(loaded); })});
  };
  row("mounts of a layer with 1 parent", [&](auto& d) { (void)d.mounts(shallow, access::read_write); });
  row("mounts of a layer with 128 parents", [&](auto& d) { (void)d.mounts(top, access::read_write); });
  row("an error: no such layer", [&](auto& d) {
    try {
      d.freeze(absent);
    } catch (const error&) {  // not_found
    }
  });
  idle_driver nothing;
  any_storage erased_nothing{idle_driver()};
  table["rows"].push_back(
      {"nothing", ns_of([&] { nothing.freeze(top_id); }), ns_of([&] { erased_nothing.freeze(top_id); }), nullptr});
  return table;
}

}  // namespace kit::bench
