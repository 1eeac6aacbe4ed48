// SPDX-License-Identifier: Apache-2.0
#include <range/v3/algorithm/all_of.hpp>
#include <range/v3/algorithm/any_of.hpp>

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
                {"ImageID", "IMAGE ID"},
                {"CreatedSince", "CREATED"},
                {"Size", "SIZE"},
                {"CreatedAt", nullptr},
                {"Digest", nullptr}});
  std::vector<std::string> filter_texts;
  bool all = false;
  options o(call.command(), "[REPOSITORY[:TAG]]", "List images. SIZE is that of the blobs kept.");
  list.bind(o);
  o.flag("-a,--all", all, "As Docker's: there are no hidden images here")
      .values("-f,--filter", filter_texts, "KEY=VALUE", "dangling, label or reference")
      .takes(0, 1)
      .example("kit images")
      .example("kit images -q --filter dangling=true");
  const arguments words = o.parse(call.words);
  const std::vector<filter> filters = parse_filters(filter_texts, {"dangling", "label", "reference"});
  records& known = call.engine().records();
  const std::int64_t now = now_ns();
  for (const image_summary& summary : known.image_summaries()) {
    const image_record& i = summary.image;
    // As the records keep it, the tag is always there: REPOSITORY:TAG.
    const std::size_t colon = i.reference.rfind(':');
    const std::string repository = i.reference.empty() ? "<none>" : i.reference.substr(0, colon);
    const std::string tag = i.reference.empty() ? "<none>" : i.reference.substr(colon + 1);
    const auto named = [&](const std::string& text) { return repository == text || i.reference == text; };
    if (!words.empty() && !named(words.front())) continue;
    const auto passes = [&](const filter& f) {
      if (f.key == "dangling") return (f.value == "true") == i.reference.empty();
      if (f.key == "reference") return named(f.value);
      const auto manifest = known.manifest(i.digest);
      if (!manifest) return false;
      return has_label(parse_image_config(manifest->config).labels, f.value);
    };
    if (!ranges::all_of(filters, passes)) continue;
    const std::int64_t created = summary.created_ns;
    const std::string id = list.full_ids() ? i.digest : brief_digest(i.digest);
    list.add({id, repository, tag, id, created == 0 ? "N/A" : human_duration(now - created) + " ago",
              human_size(summary.size), local_time(created), i.digest});
  }
  list.print();
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

}  // namespace kit::cli
