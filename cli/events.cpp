// SPDX-License-Identifier: Apache-2.0
#include <poll.h>
#include <sys/inotify.h>

#include <nlohmann/json.hpp>

#include "kit/engine/clock.hpp"
#include "kit/engine/lifecycle.hpp"
#include "listing.hpp"
#include "moment.hpp"
#include "template.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

using json = nlohmann::ordered_json;

std::string attribute(const event_record& e, std::string_view key) {
  for (const option& o : e.attributes)
    if (o.key == key) return o.value;
  return "";
}

json describe(const event_record& e) {
  json attributes = json::object();
  for (const option& o : e.attributes) attributes[o.key] = o.value;
  json j = json::object();
  if (e.type == "container") j = {{"status", e.action}, {"id", e.actor}, {"from", attribute(e, "image")}};
  j.update({{"Type", e.type},
            {"Action", e.action},
            {"Actor", {{"ID", e.actor}, {"Attributes", attributes}}},
            {"scope", "local"},
            {"time", e.time_ns / 1'000'000'000},
            {"timeNano", e.time_ns}});
  return j;
}

/// As templates name them.
json fields_of(const event_record& e) {
  json j = describe(e);
  j.update({{"ID", e.actor},
            {"From", attribute(e, "image")},
            {"Status", e.action},
            {"Scope", "local"},
            {"Time", e.time_ns / 1'000'000'000},
            {"TimeNano", e.time_ns}});
  return j;
}

std::string line_of(const event_record& e) {
  std::string attributes;
  for (const option& o : e.attributes)
    attributes += fmt::format("{}{}={}", attributes.empty() ? "" : ", ", o.key, o.value);
  return fmt::format("{} {} {} {} ({})", rfc3339(e.time_ns), e.type, e.action, e.actor, attributes);
}

bool matches(const event_record& e, const filter& f) {
  const auto is = [&](const char* type) {
    return e.type == type && (e.actor.starts_with(f.value) || attribute(e, "name") == f.value);
  };
  if (f.key == "type") return e.type == f.value;
  if (f.key == "event") return e.action == f.value || e.action.starts_with(f.value + ":");
  if (f.key == "image") return is("image") || attribute(e, "image") == f.value;
  if (f.key == "label") {
    const auto equals = f.value.find('=');
    for (const option& o : e.attributes)
      if (o.key == f.value.substr(0, equals) && (equals == f.value.npos || o.value == f.value.substr(equals + 1)))
        return true;
    return false;
  }
  return is(f.key.c_str());
}

}  // namespace

int events(invocation& call) {
  std::string since, until, format;
  std::vector<std::string> filter_texts;
  options(call.command(), "", "Show what happens to containers and images, as it happens.")
      .value("--since", since, "TIME", "First what happened since: 2024-01-02T03:04:05Z, a Unix time, or 10m ago")
      .value("--until", until, "TIME", "End then; if it is in the past, with what is known")
      .values("-f,--filter", filter_texts, "KEY=VALUE", "container, event, image, label, network, type or volume")
      .value("--format", format, "FORMAT", "json (one a line), or a template: '{{.Action}} {{.Actor.ID}}'")
      .example("kit events --since 10m --until 0s --filter container=web")
      .example("kit events --filter event=die --format '{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}'")
      .parse(call.words);
  const std::vector<filter> filters =
      parse_filters(filter_texts, {"container", "event", "image", "label", "network", "type", "volume"});
  const std::string from_text = moment(call, "--since", since), to_text = moment(call, "--until", until);
  const std::int64_t from = from_text.empty() ? 0 : parse_rfc3339(from_text);
  const std::int64_t to = to_text.empty() ? INT64_MAX : parse_rfc3339(to_text);
  kit::records& known = call.engine().records();

  // Watched before it is read. Every change of the records is first written to their log.
  const unique_fd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch) fail_errno(errno, "inotify");
  ::inotify_add_watch(watch.get(), (call.config.root + "/kit.db-wal").c_str(), IN_MODIFY);
  std::int64_t seen = since.empty() && until.empty() ? known.last_event() : 0;
  for (bool changed = false;;) {
    const bool last_look = now_ns() > to;
    for (const event_record& e : known.events_after(seen)) {
      seen = e.number;
      if (e.time_ns < from || e.time_ns > to) continue;
      const auto one = [&](const filter& f) { return matches(e, f); };
      if (!passes(filters, {"container", "event", "image", "network", "type", "volume"}, one)) continue;
      if (format.empty())
        fmt::print("{}\n", line_of(e));
      else if (format == "json" || format == "{{json .}}")
        fmt::print("{}\n", describe(e).dump(-1, ' ', false, json::error_handler_t::replace));
      else
        fmt::print("{}\n", render(format, fields_of(e)));
    }
    std::fflush(stdout);
    if (last_look) return 0;
    // A change is seen a moment after it was written: looked for once more.
    std::int64_t wait_ms = changed ? 20 : 1000;
    if (to != INT64_MAX) wait_ms = std::min(wait_ms, (to - now_ns()) / 1'000'000 + 1);
    pollfd event{watch.get(), POLLIN, 0};
    changed = ::poll(&event, 1, static_cast<int>(std::max<std::int64_t>(wait_ms, 0))) > 0;
    char events[4096];
    while (::read(watch.get(), events, sizeof events) > 0) continue;
  }
}

}  // namespace kit::cli
