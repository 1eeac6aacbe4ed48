// SPDX-License-Identifier: Apache-2.0
#include "kit/driver.hpp"

#include <nlohmann/json.hpp>

#include "kit/plugin/loader.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

/// The key of a fact that tells a difference (kit/driver.hpp).
constexpr std::string_view differs = "differs";

struct probed {
  plugin_info plugin;
  probe_report report;
  std::vector<option_schema> options;
};

probe_report probe(kit::engine& engine, const plugin& p) {
  const driver_config config = engine.config_of(to_string(p.kind()), p.name());
  switch (p.kind()) {
    case family::storage: return p.open_storage(config).probe();
    case family::network: return p.open_network(config).probe();
    case family::isolation: break;
  }
  return p.open_isolation(config).probe();
}

/// Loads and asks one plugin; a refusal is a report like any other.
probed look(kit::engine& engine, const plugin_info& info) {
  probed found{info, {}, {}};
  found.report.reason = info.refused;
  if (!info.refused.empty()) return found;
  try {
    const plugin p = load_plugin_file(info.path);
    found.options = p.options();
    found.report = probe(engine, p);
  } catch (const error& e) {
    found.report.reason = e.what();
  }
  return found;
}

std::string_view to_string(option_schema::type t) {
  switch (t) {
    case option_schema::type::text: return "text";
    case option_schema::type::size: return "size";
    case option_schema::type::integer: return "integer";
    case option_schema::type::boolean: return "boolean";
    case option_schema::type::path: return "path";
  }
  return "text";
}

void print(const probed& d) {
  fmt::print("{} {}: {}\n", to_string(d.plugin.kind), d.plugin.name, d.report.usable ? "usable" : "not usable");
  const auto line = [](std::string_view name, std::string_view value) {
    if (!value.empty()) fmt::print("  {:<10} {}\n", name, value);
  };
  line("reason", d.report.reason);
  line("remedy", d.report.remedy);
  line("version", d.plugin.version);
  line("plugin", d.plugin.path);
  for (const option& fact : d.report.facts)
    if (fact.key == differs)
      line(differs, fact.value);
    else
      line("fact", fact.key + " = " + fact.value);
  for (const option_schema& o : d.options)
    line("option", fmt::format("{} ({}, default \"{}\"): {}", o.key, to_string(o.kind), o.default_value, o.help));
}

nlohmann::ordered_json describe(const probed& d) {
  nlohmann::ordered_json facts = nlohmann::ordered_json::object(), differences = nlohmann::ordered_json::array(),
                         options = nlohmann::ordered_json::array();
  for (const option& fact : d.report.facts)
    if (fact.key == differs)
      differences.push_back(fact.value);
    else
      facts[fact.key] = fact.value;
  for (const option_schema& o : d.options)
    options.push_back({{"Name", o.key}, {"Type", to_string(o.kind)}, {"Default", o.default_value}, {"Help", o.help}});
  return {{"Family", to_string(d.plugin.kind)},
          {"Name", d.plugin.name},
          {"Usable", d.report.usable},
          {"Reason", d.report.reason},
          {"Remedy", d.report.remedy},
          {"Version", d.plugin.version},
          {"Plugin", d.plugin.path},
          {"Facts", std::move(facts)},
          {"Differences", std::move(differences)},
          {"Options", std::move(options)}};
}

}  // namespace

int driver_ls(invocation& call) {
  listing list({{"Name", "NAME"},
                {"Family", "FAMILY"},
                {"Usable", "USABLE"},
                {"Version", "VERSION"},
                {"Reason", "REASON"},
                {"Plugin", nullptr}});
  options o(call.command(), "", "List drivers, and whether they work on this host.");
  list.bind(o);
  o.example("kit driver ls").example("kit driver ls --format '{{.Name}} {{.Usable}}'").parse(call.words);
  for (const plugin_info& info : list_plugins()) {
    const probed d = look(call.engine(), info);
    list.add({info.name, std::string(to_string(info.kind)), d.report.usable ? "yes" : "no", info.version,
              d.report.reason, info.path});
  }
  list.print();
  return 0;
}

int driver_probe(invocation& call) {
  std::string format;
  bool json = false;
  const arguments words =
      options(call.command(), "[DRIVER...]",
              "Tell of drivers whether they work on this host, else why not and what helps; what they\n"
              "found and tried (facts, limits), where what programs see differs from a plain file system,\n"
              "and their options.")
          .flag("--json", json, "As JSON")
          .value("--format", format, "FORMAT", "json")
          .takes(0, SIZE_MAX)
          .example("kit driver probe overlayfs")
          .example("kit driver probe --json | jq -r '.[] | select(.Usable) | .Name'")
          .parse(call.words);
  if (!format.empty() && format != "json") throw usage_error(call.command(), "--format: json is expected");
  if (json) format = "json";
  const std::vector<plugin_info> all = list_plugins();
  nlohmann::ordered_json documents = nlohmann::ordered_json::array();
  const auto show = [&](const plugin_info& info) {
    const probed d = look(call.engine(), info);
    if (format == "json")
      documents.push_back(describe(d));
    else
      print(d);
    return d.report.usable;
  };
  int code = 0;
  if (words.empty())
    for (const plugin_info& info : all) show(info);
  else
    code = for_each(words, [&](const std::string& word) {
      bool known = false;
      for (const plugin_info& info : all)
        if (info.name == word) {
          known = true;
          if (!show(info)) code = 1;
        }
      if (!known) fail(errc::not_found, "no such driver: {}; `kit driver ls` lists those there are", word);
    });
  if (format == "json") fmt::print("{}\n", documents.dump(2));
  return code;
}

}  // namespace kit::cli
