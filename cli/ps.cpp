// SPDX-License-Identifier: Apache-2.0
#include <regex.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "kit/engine/clock.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/networks.hpp"
#include "labels.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

/// "Up 5 minutes", "Exited (0) 2 hours ago".
std::string status(const container_record& c, std::int64_t now) {
  const std::string since_start = "Up " + human_duration(now - c.started_ns);
  const std::string code = c.exit_code < 0 ? "unknown" : fmt::format("{}", c.exit_code);
  const auto ended = [&](std::string_view word) {
    return fmt::format("{} ({}) {} ago", word, code, human_duration(now - c.finished_ns));
  };
  switch (c.state) {
    case container_state::created: return "Created";
    case container_state::removing: return "Removal In Progress";
    case container_state::paused: return since_start + " (Paused)";
    case container_state::exited: return ended("Exited");
    case container_state::restarting: return ended("Restarting");
    case container_state::running: break;
  }
  if (c.health.empty()) return since_start;
  return fmt::format("{} ({}{})", since_start, c.health == "starting" ? "health: " : "", c.health);
}

/// POSIX, extended: a name or the beginning of one is an expression, too.
class pattern {
 public:
  explicit pattern(const std::string& text) {
    if (::regcomp(&compiled_, text.c_str(), REG_EXTENDED | REG_NOSUB) != 0)
      fail(errc::invalid, "filter {}: it is no regular expression", text);
  }
  ~pattern() { ::regfree(&compiled_); }
  pattern(const pattern&) = delete;
  pattern& operator=(const pattern&) = delete;
  [[nodiscard]] bool matches(const std::string& text) const {
    return ::regexec(&compiled_, text.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  regex_t compiled_{};
};

/// The filters of one call, with what is asked only once.
class container_filter {
 public:
  container_filter(kit::engine& engine, const std::vector<std::string>& texts)
      : filters_(parse_filters(texts, {"ancestor", "before", "exited", "health", "id", "label", "name", "network",
                                       "since", "status", "volume"})) {
    for (const filter& f : filters_) {
      if (f.key == "status" && f.value != "dead") (void)state_from(f);
      if (f.key == "before" || f.key == "since") {
        auto& bound = f.key == "before" ? before_ : since_;
        bound = engine.records().container(f.value).created_ns;
      }
      if (f.key == "name") patterns_.push_back({f.value, std::make_unique<pattern>(f.value)});
      if (f.key == "network")
        if (const auto n = engine.records().find_network(f.value)) networks_.push_back({f.value, n->name});
      if (f.key == "ancestor") try {
          ancestors_.push_back({f.value, find_image(engine, f.value).manifest.digest});
        } catch (const error& e) {
          if (e.code() != errc::not_found && e.code() != errc::invalid) throw;
        }
    }
    default_network_ = engine.config().network;
  }

  /// Whether containers that do not run may be meant.
  [[nodiscard]] bool any_state() const {
    return std::any_of(filters_.begin(), filters_.end(),
                       [](const filter& f) { return f.key == "status" || f.key == "exited"; });
  }
  [[nodiscard]] bool pass(const container_record& c) const {
    return passes(filters_, {"ancestor", "exited", "health", "id", "name", "network", "status", "volume"},
                  [&](const filter& f) { return matches(c, f); });
  }

 private:
  static container_state state_from(const filter& f) {
    try {
      return container_state_from(f.value);
    } catch (const error&) {
      fail(errc::invalid, "invalid filter 'status={}'", f.value);
    }
  }

  [[nodiscard]] bool matches(const container_record& c, const filter& f) const {
    const auto found = [&](const auto& list) {
      return std::find_if(list.begin(), list.end(), [&](const auto& e) { return e.first == f.value; });
    };
    if (f.key == "status") return to_string(c.state) == f.value;
    if (f.key == "name") {
      const auto& p = *found(patterns_)->second;
      return p.matches(c.name) || p.matches("/" + c.name);  // a slash stands before Docker's
    }
    if (f.key == "id") return c.id.text().starts_with(f.value);
    if (f.key == "exited") return c.state == container_state::exited && fmt::format("{}", c.exit_code) == f.value;
    if (f.key == "health") return (c.health.empty() ? "none" : c.health) == f.value;
    if (f.key == "before") return c.created_ns < before_;
    if (f.key == "since") return c.created_ns > since_;
    if (f.key == "ancestor") {
      const auto image = found(ancestors_);
      return c.image == f.value || (image != ancestors_.end() && c.image_digest == image->second);
    }
    if (f.key == "label") return has_label(c.labels, f.value);
    const container_spec spec = spec_from_json(c.spec);
    if (f.key == "volume")
      return std::any_of(spec.mounts.begin(), spec.mounts.end(),
                         [&](const mount_request& m) { return m.source == f.value || m.target == f.value; });
    const auto network = found(networks_);
    return network != networks_.end() && (spec.network.empty() ? default_network_ : spec.network) == network->second;
  }

  std::vector<filter> filters_;
  std::vector<std::pair<std::string, std::unique_ptr<pattern>>> patterns_;
  std::vector<std::pair<std::string, std::string>> networks_, ancestors_;
  std::string default_network_;
  std::int64_t before_ = 0, since_ = 0;
};

/// What a container has written, and that with its image.
std::string sizes(kit::engine& engine, const container_record& c) {
  const std::uint64_t own = engine.storage(c.storage).usage({layer_id::from(c.id.text()), c.chain}).bytes;
  const auto image = engine.records().manifest(c.image_digest);
  return fmt::format("{} (virtual {})", human_size(own), human_size(own + (image ? image->size : 0)));
}

}  // namespace

int ps(invocation& call) {
  listing list({{"ID", "CONTAINER ID"},
                {"Image", "IMAGE"},
                {"Command", "COMMAND"},
                {"RunningFor", "CREATED"},
                {"Status", "STATUS"},
                {"Ports", "PORTS"},
                {"Names", "NAMES"},
                {"Size", nullptr},
                {"CreatedAt", nullptr},
                {"State", nullptr},
                {"Labels", nullptr},
                {"LocalVolumes", nullptr},
                {"Mounts", nullptr},
                {"Networks", nullptr},
                {"Storage", nullptr},
                {"Isolation", nullptr}});
  bool all = false, latest = false, size = false;
  std::string last = "-1";
  std::vector<std::string> filter_texts;
  options o(call.command(), "", "List running containers; -a: all.");
  list.bind(o);
  o.flag("-a,--all", all, "Also those that do not run")
      .flag("-l,--latest", latest, "Only the newest, in any state")
      .value("-n,--last", last, "NUMBER", "Only the newest ones, in any state")
      .flag("-s,--size", size, "How much each has written, and that with its image")
      .values("-f,--filter", filter_texts, "KEY=VALUE",
              "ancestor, before, exited, health, id, label, name, network, since, status or volume")
      .example("kit ps -a --filter status=exited")
      .example("kit rm $(kit ps -aq --filter label=test)")
      .example("kit ps --format 'table {{.Names}}\\t{{.Status}}\\t{{.Label \"tier\"}}'");
  o.parse(call.words);
  kit::engine& engine = call.engine();
  const container_filter wanted(engine, filter_texts);
  const std::int64_t most = latest ? 1 : parse_integer(call, "--last", last);
  const bool any_state = all || most > 0 || wanted.any_state();
  if (size) list.show("Size", "SIZE");

  std::vector<container_record> containers;
  for (const container_record& c : any_state ? engine.records().containers() : engine.records().live_containers()) {
    try {
      const container_record now = current(engine, c);
      const bool gone = now.state == container_state::removing && c.state != now.state;  // --rm: it had ended
      const bool shown = any_state || is_live(now) || now.state == container_state::restarting;
      if (!gone && shown && wanted.pass(now)) containers.push_back(now);
    } catch (const error& e) {
      if (e.code() != errc::not_found) throw;  // removed since the list was read
    }
    if (most > 0 && containers.size() == static_cast<std::size_t>(most)) break;
  }
  const std::int64_t now = now_ns();
  const bool details = list.shows("Mounts") || list.shows("Networks") || list.shows("LocalVolumes");
  for (const container_record& c : containers) {
    std::string mounts, network;
    std::size_t volumes = 0;
    if (details) {
      const container_spec spec = spec_from_json(c.spec);
      network = spec.network.empty() ? engine.config().network : spec.network;
      for (const mount_request& m : spec.mounts) {
        mounts += fmt::format("{}{}", mounts.empty() ? "" : ",", list.full_ids() ? m.source : shortened(m.source, 15));
        volumes += m.what == mount_request::kind::volume;
      }
    }
    list.add({std::string(list.full_ids() ? c.id.text() : c.id.brief()), c.image,
              quoted(list.full_ids() ? c.command : shortened(c.command, 20)),
              human_duration(now - c.created_ns) + " ago", status(c, now), "", c.name,
              size || list.shows("Size") ? sizes(engine, c) : "", local_time(c.created_ns),
              std::string(to_string(c.state)), join_labels(c.labels), fmt::format("{}", volumes), mounts, network,
              c.storage, c.isolation});
  }
  list.print();
  return 0;
}

}  // namespace kit::cli
