// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "host.hpp"

/// \file
/// What a benchmark saw, for people. It is given as one JSON object, of which everything but `benchmark` may be absent:
///
///     benchmark, title            "startup", "How long does a container take to start?"
///     about                       a paragraph for who knows nothing of it; absent: what a container is
///     machine                     {name: value ...}
///     load_before, load_after     "0.12 0.30 0.25"
///     cases                       [{id, title, explain, at_once, cold, contenders: [{name, what, wall_ms: [...],
///                                   gone_ms, cpu_ms, each_ms, peak_kb, phases: [{name, ms: [...]}]}],
///                                   left_out: [{name, reason}]}]
///                                 contenders' figures stand in turns (null: none in that turn); the first is what the
///                                 others are compared with
///     curves                      [{title, explain, x, y, logarithmic, series: [{name, points: [[x, y] ...]}]}]
///     tables                      [{title, explain, columns: [...], rows: [[...] ...]}]
///     left_out                    [{name, reason}]
///     notes                       what the figures leave out

namespace kit::bench {

/// Tables, as `kit bench` prints them.
std::string to_markdown(const json& seen);
/// One page that needs nothing else: plots are inline SVG.
std::string to_html(const json& seen);
/// Writes `base`.json, .md and .html.
void write_report(const json& seen, const std::string& base);

/// `kit-bench report`.
int report_command(const command& words);

}  // namespace kit::bench
