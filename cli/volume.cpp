// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/volumes.hpp"

#include <range/v3/algorithm/all_of.hpp>
#include <range/v3/algorithm/any_of.hpp>

#include "kit/engine/clock.hpp"
#include "kit/system/fd.hpp"
#include "kit/system/tree.hpp"
#include "labels.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {

int volume_create(invocation& call) {
  std::string driver = "local";
  std::vector<std::string> labels;
  const arguments words = options(call.command(), "[VOLUME]",
                                  "Make a directory that outlives containers, and print its name. One that is there is "
                                  "left as it is.")
                              .values("--label", labels, "KEY=VALUE", "Mark the volume")
                              .value("-d,--driver", driver, "DRIVER", "local: a directory below kit's root")
                              .takes(0, 1)
                              .example("kit volume create data")
                              .example("kit run --rm -v data:/srv debian:12 ls /srv")
                              .parse(call.words);
  if (driver != "local") fail(errc::not_found, "volume driver {}: not found; there is local", driver);
  const volume_record v = create_volume(call.engine(), words.empty() ? "" : words.front(), parse_labels({}, labels));
  fmt::print("{}\n", v.name);
  return 0;
}

int volume_ls(invocation& call) {
  listing list({{"Name", nullptr},
                {"Driver", "DRIVER"},
                {"Name", "VOLUME NAME"},
                {"Scope", nullptr},
                {"Mountpoint", nullptr},
                {"Labels", nullptr}});
  std::vector<std::string> filter_texts;
  options o(call.command(), "", "List volumes.");
  list.bind(o);
  o.values("-f,--filter", filter_texts, "KEY=VALUE", "dangling, driver, label or name")
      .example("kit volume ls -q --filter dangling=true");
  o.parse(call.words);
  const std::vector<filter> filters = parse_filters(filter_texts, {"dangling", "driver", "label", "name"});
  kit::engine& engine = call.engine();
  std::vector<volume_record> unused;
  if (ranges::any_of(filters, [](const filter& f) { return f.key == "dangling"; }))
    unused = unused_volumes(engine, true);
  for (const volume_record& v : engine.records().volumes()) {
    const auto passes = [&](const filter& f) {
      if (f.key == "dangling") {
        const bool dangling = ranges::any_of(unused, [&](const volume_record& u) { return u.name == v.name; });
        return (f.value == "true" || f.value == "1") == dangling;
      }
      if (f.key == "driver") return f.value == "local";
      if (f.key == "name") return v.name.find(f.value) != std::string::npos;
      return has_label(v.labels, f.value);
    };
    if (ranges::all_of(filters, passes))
      list.add({v.name, "local", v.name, "local", volume_path(engine, v.name), join_labels(v.labels)});
  }
  list.print();
  return 0;
}

int volume_rm(invocation& call) {
  bool force = false;
  const arguments words = options(call.command(), "VOLUME [VOLUME...]", "Remove volumes, with what is in them.")
                              .flag("-f,--force", force, "One that is not there is no error")
                              .takes(1)
                              .example("kit volume rm data")
                              .parse(call.words);
  return for_each(words, [&](const std::string& word) {
    if (!force || call.engine().records().find_volume(word)) remove_volume(call.engine(), word);
    fmt::print("{}\n", word);
  });
}

int volume_prune(invocation& call) {
  bool force = false, all = false;
  std::vector<std::string> filter_texts;
  options(call.command(), "", "Remove anonymous volumes that no container uses.")
      .flag("-a,--all", all, "Also those with a name")
      .flag("-f,--force", force, "Do not ask")
      .values("--filter", filter_texts, "KEY=VALUE", "label")
      .parse(call.words);
  const std::vector<filter> filters = parse_filters(filter_texts, {"label"});
  if (!force && !confirm(fmt::format("This will remove {} volumes not used by at least one container.",
                                     all ? "all local" : "anonymous local")))
    return 0;
  std::uint64_t bytes = 0;
  bool first = true;
  for (const volume_record& v : unused_volumes(call.engine(), all)) {
    if (!ranges::all_of(filters, [&](const filter& f) { return has_label(v.labels, f.value); })) continue;
    const std::uint64_t size = measure_tree(open_directory(volume_path(call.engine(), v.name)).get()).bytes;
    try {
      remove_volume(call.engine(), v.name);
    } catch (const error& e) {
      if (e.code() != errc::conflict && e.code() != errc::not_found) throw;  // used, or removed, since
      continue;
    }
    fmt::print("{}{}\n", first ? "Deleted Volumes:\n" : "", v.name);
    first = false;
    bytes += size;
  }
  fmt::print("{}Total reclaimed space: {}\n", first ? "" : "\n", human_size(bytes));
  return 0;
}

}  // namespace kit::cli
