// SPDX-License-Identifier: Apache-2.0
#include <fnmatch.h>

#include <algorithm>

#include "kit/engine/clock.hpp"
#include "kit/engine/images.hpp"
#include "labels.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {

int image_ls(invocation& call) {
  listing list({{"ID", nullptr},
                {"Repository", "REPOSITORY"},
                {"Tag", "TAG"},
                {"Digest", nullptr},
                {"ImageID", "IMAGE ID"},
                {"CreatedSince", "CREATED"},
                {"Size", "SIZE"},
                {"CreatedAt", nullptr}});
  std::vector<std::string> filter_texts;
  bool all = false, digests = false;
  options o(call.command(), "[REPOSITORY[:TAG]]", "List images. SIZE is that of the blobs kept.");
  list.bind(o);
  o.flag("-a,--all", all, "As Docker's: there are no hidden images here")
      .values("-f,--filter", filter_texts, "KEY=VALUE",
              "before, dangling, label, reference (may have * and ?) or since")
      .flag("--digests", digests, "Also their digests")
      .takes(0, 1)
      .example("kit images")
      .example("kit images -q --filter dangling=true");
  const arguments words = o.parse(call.words);
  const std::vector<filter> filters =
      parse_filters(filter_texts, {"before", "dangling", "label", "reference", "since"});
  records& known = call.engine().records();
  if (digests) list.show("Digest", "DIGEST");
  const auto made = [&](const std::string& name) { return find_image(call.engine(), name).manifest.created_ns; };
  std::int64_t before = INT64_MAX, since = INT64_MIN;
  for (const filter& f : filters) {
    if (f.key == "before") before = std::min(before, made(f.value));
    if (f.key == "since") since = std::max(since, made(f.value));
  }
  const std::int64_t now = now_ns();
  for (const image_summary& summary : known.image_summaries()) {
    const image_record& i = summary.image;
    // As the records keep it, the tag is always there: REPOSITORY:TAG.
    const std::size_t colon = i.reference.rfind(':');
    const std::string repository = i.reference.empty() ? "<none>" : i.reference.substr(0, colon);
    const std::string tag = i.reference.empty() ? "<none>" : i.reference.substr(colon + 1);
    const auto named = [&](const std::string& text) { return repository == text || i.reference == text; };
    if (!words.empty() && !named(words.front())) continue;
    const auto passes_one = [&](const filter& f) {
      if (f.key == "dangling") return (f.value == "true") == i.reference.empty();
      if (f.key == "before" || f.key == "since") return summary.created_ns < before && summary.created_ns > since;
      if (f.key == "reference")
        return named(f.value) || ::fnmatch(f.value.c_str(), repository.c_str(), FNM_PATHNAME) == 0 ||
               ::fnmatch(f.value.c_str(), i.reference.c_str(), FNM_PATHNAME) == 0;
      const auto manifest = known.manifest(i.digest);
      if (!manifest) return false;
      return has_label(parse_image_config(manifest->config).labels, f.value);
    };
    if (!passes(filters, {"reference"}, passes_one)) continue;
    const std::int64_t created = summary.created_ns;
    const std::string id = list.full_ids() ? i.digest : brief_digest(i.digest);
    list.add({id, repository, tag, i.digest, id, created == 0 ? "N/A" : human_duration(now - created) + " ago",
              human_size(summary.size), local_time(created)});
  }
  list.print();
  return 0;
}

int image_history(invocation& call) {
  listing list({{"ID", "IMAGE"},
                {"CreatedSince", "CREATED"},
                {"CreatedBy", "CREATED BY"},
                {"Size", "SIZE"},
                {"Comment", "COMMENT"},
                {"CreatedAt", nullptr}});
  std::string human = "true";
  options o(call.command(), "IMAGE", "Show how an image came about, the newest step first.");
  list.bind(o);
  const arguments words =
      o.value("-H,--human", human, "BOOL", "Sizes and dates for people (true)").takes(1, 1).parse(call.words);
  if (human != "true" && human != "false")
    throw usage_error(call.command(), fmt::format("--human \"{}\": true or false is expected", human), 125);
  const image i = find_image(call.engine(), words.front());
  const std::int64_t now = now_ns();
  // Steps that made a layer, and layers, are in the same order.
  std::size_t layer = i.manifest.layers.size();
  for (auto step = i.config.history.rbegin(); step != i.config.history.rend(); ++step) {
    const std::uint64_t size = step->empty_layer || layer == 0 ? 0 : i.manifest.layers[--layer].size;
    std::string id = "<missing>", since = "N/A", at;
    if (step == i.config.history.rbegin()) id = list.full_ids() ? i.manifest.digest : brief_digest(i.manifest.digest);
    if (!step->created.empty()) {
      const std::int64_t made = parse_rfc3339(step->created);
      at = rfc3339(made).substr(0, 19) + "Z";
      since = human == "true" ? human_duration(now - made) + " ago" : at;
    }
    std::string by = step->created_by;
    std::replace(by.begin(), by.end(), '\t', ' ');
    list.add({id, since, list.full_ids() ? by : shortened(by, 45),
              human == "true" ? human_size(size) : fmt::format("{}", size), step->comment, at});
  }
  list.print();
  return 0;
}

int image_prune(invocation& call) {
  bool force = false, all = false, dry_run = false;
  std::string storage;
  std::vector<std::string> filter_texts;
  options(
      call.command(), "",
      "Remove images without a name that no container uses. With --storage, no image: only what that storage driver\n"
      "has unpacked and no container stands on; it is unpacked again when a container needs it there.")
      .flag("-a,--all", all, "Also those with a name")
      .flag("-f,--force", force, "Do not ask")
      .values("--filter", filter_texts, "KEY=VALUE", "label")
      .value("--storage", storage, "DRIVER", "Free the unpacked layers of this driver; images stay")
      .flag("--dry-run", dry_run, "With --storage: only tell how much that frees")
      .example("kit image prune --storage vfs")
      .parse(call.words);
  if (!storage.empty()) {
    if (all || !filter_texts.empty())
      throw usage_error(call.command(), "--storage removes no image: --all and --filter have no meaning with it");
    const std::uint64_t freed = remove_unpacked(call.engine(), storage, dry_run);
    fmt::print("Total {} space: {}\n", dry_run ? "reclaimable" : "reclaimed", human_size(freed));
    return 0;
  }
  if (dry_run)
    throw usage_error(call.command(), "--dry-run is for --storage; `kit system prune --dry-run` tells the rest");
  const std::vector<filter> filters = parse_filters(filter_texts, {"label"});
  if (!force && !confirm(all ? "This will remove all images without at least one container associated to them."
                             : "This will remove all dangling images."))
    return 0;
  kit::engine& engine = call.engine();
  records& known = engine.records();
  std::uint64_t bytes = 0;
  bool first = true;
  for (const image_record& i : known.images()) {
    if ((!i.reference.empty() && !all) || !known.containers_using_image(i.digest).empty()) continue;
    const auto manifest = known.manifest(i.digest);
    if (!manifest) continue;
    const std::vector<option> labels = parse_image_config(manifest->config).labels;
    if (!passes(filters, {}, [&](const filter& f) { return has_label(labels, f.value); })) continue;
    try {
      for (const option& done : remove_image(engine, i.reference.empty() ? i.digest : i.reference, false)) {
        fmt::print("{}{}: {}\n", first ? "Deleted Images:\n" : "", done.key, done.value);
        first = false;
        if (done.key == "Deleted") bytes += manifest->size;
      }
    } catch (const error& e) {
      if (e.code() != errc::conflict && e.code() != errc::not_found) throw;  // used, or removed, since
    }
  }
  fmt::print("{}Total reclaimed space: {}\n", first ? "" : "\n", human_size(bytes));
  return 0;
}

int image_rm(invocation& call) {
  bool force = false;
  const arguments words =
      options(call.command(), "IMAGE [IMAGE...]",
              "Remove names of images; with its last name an image goes, unless a container uses it.")
          .flag("-f,--force", force, "Take the name from an image in use, too")
          .takes(1)
          .example("kit rmi debian:12")
          .parse(call.words);
  return for_each(words, [&](const std::string& word) {
    for (const option& done : remove_image(call.engine(), word, force)) fmt::print("{}: {}\n", done.key, done.value);
  });
}

int image_tag(invocation& call) {
  const arguments words = options(call.command(), "IMAGE NAME[:TAG]", "Give an image one more name.")
                              .takes(2, 2)
                              .example("kit tag debian:12 debian:stable")
                              .parse(call.words);
  tag_image(call.engine(), words[0], words[1]);
  return 0;
}

int image_unpack(invocation& call) {
  std::string storage = call.config.storage;
  const arguments words = options(call.command(), "IMAGE [IMAGE...]",
                                  "Unpack images in a storage driver ahead of their first container there.")
                              .value("--storage", storage, "DRIVER", "In this driver (the default one)")
                              .takes(1)
                              .example("kit image unpack --storage vfs debian:12")
                              .parse(call.words);
  return for_each(words, [&](const std::string& word) {
    (void)call.engine().storage(storage);
    ensure_unpacked(call.engine(), find_image(call.engine(), word), storage);
    fmt::print("{}\n", word);
  });
}

}  // namespace kit::cli
