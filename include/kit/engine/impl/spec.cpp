// SPDX-License-Identifier: Apache-2.0
#include "kit/engine/spec.hpp"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "kit/id.hpp"
#include "kit/system/error.hpp"

namespace kit {

// NLOHMANN's hooks, found by argument-dependent lookup.
static void to_json(nlohmann::json& j, const option& o) { j = {o.key, o.value}; }
static void from_json(const nlohmann::json& j, option& o) { o = {j.at(0), j.at(1)}; }
static void to_json(nlohmann::json& j, const volume& v) {
  j = {{"source", v.source}, {"target", v.target}, {"options", v.options}};
}
static void from_json(const nlohmann::json& j, volume& v) {
  v = {j.at("source"), j.at("target"), j.at("options").get<std::vector<std::string>>()};
}

namespace {

/// Calls visit("name", member) for every member of a spec: the one list both directions use.
template <class Spec, class Visit>
void each_member(Spec& s, Visit visit) {
  visit("image", s.image);
  visit("name", s.name);
  visit("command", s.command);
  visit("env", s.env);
  visit("labels", s.labels);
  visit("volumes", s.volumes);
  visit("tmpfs", s.tmpfs);
  visit("workdir", s.workdir);
  visit("user", s.user);
  visit("hostname", s.hostname);
  visit("stop_signal", s.stop_signal);
  visit("network", s.network);
  visit("storage", s.storage);
  visit("isolation", s.isolation);
  visit("cap_add", s.cap_add);
  visit("cap_drop", s.cap_drop);
  visit("memory", s.memory);
  visit("cpus", s.cpus);
  visit("pids_limit", s.pids_limit);
  visit("interactive", s.interactive);
  visit("tty", s.tty);
  visit("detach", s.detach);
  visit("auto_remove", s.auto_remove);
  visit("read_only", s.read_only);
  visit("init", s.init);
  visit("privileged", s.privileged);
}

}  // namespace

std::string to_json(const container_spec& spec) {
  nlohmann::json j;
  each_member(spec, [&](const char* name, const auto& member) {
    if (member != std::remove_cvref_t<decltype(member)>{}) j[name] = member;
  });
  if (spec.entrypoint) j["entrypoint"] = *spec.entrypoint;
  try {
    return j.dump();
  } catch (const nlohmann::json::exception&) {
    fail(errc::invalid, "an option or argument of the container is not valid UTF-8");
  }
}

container_spec spec_from_json(std::string_view json) {
  container_spec spec;
  try {
    const auto j = nlohmann::json::parse(json).get<nlohmann::json::object_t>();
    each_member(spec, [&](const char* name, auto& member) {
      if (auto at = j.find(name); at != j.end()) at->second.get_to(member);
    });
    if (auto at = j.find("entrypoint"); at != j.end()) spec.entrypoint = at->second.get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception& e) {
    fail(errc::invalid, "read the container's specification in the records: {}", e.what());
  }
  return spec;
}

volume parse_volume(std::string_view text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0;;) {
    const auto colon = text.find(':', at);
    parts.emplace_back(text.substr(at, colon - at));
    if (colon == std::string_view::npos) break;
    at = colon + 1;
  }
  if (parts.size() < 2 || parts.size() > 3)
    fail(errc::invalid, "invalid volume specification: '{}': write it as HOST:CONTAINER[:OPTIONS]", text);
  volume v{parts[0], parts[1], {}};
  if (v.source.empty() || v.source[0] != '/')
    fail(errc::invalid, "invalid volume specification: '{}': the host path must be absolute", text);
  if (v.target.empty() || v.target[0] != '/' || v.target == "/")
    fail(errc::invalid, "invalid volume specification: '{}': the container path must be absolute and not '/'", text);
  if (parts.size() == 3) {
    static constexpr std::string_view known[] = {"ro",     "rw",      "shared",   "rshared", "slave",
                                                 "rslave", "private", "rprivate", "nocopy"};
    for (std::size_t at = 0; at <= parts[2].size();) {
      const auto comma = std::min(parts[2].find(',', at), parts[2].size());
      const std::string word = parts[2].substr(at, comma - at);
      if (std::find(std::begin(known), std::end(known), word) == std::end(known))
        fail(errc::invalid, "invalid volume specification: '{}': unknown option '{}'", text, word);
      v.options.push_back(word);
      at = comma + 1;
    }
  }
  return v;
}

option parse_tmpfs(std::string_view text) {
  const auto colon = text.find(':');
  option t{std::string(text.substr(0, colon)),
           colon == std::string_view::npos ? "" : std::string(text.substr(colon + 1))};
  if (t.key.empty() || t.key[0] != '/' || t.key == "/")
    fail(errc::invalid, "invalid tmpfs '{}': the path must be absolute and not '/'", text);
  return t;
}

int parse_signal(std::string_view text) {
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos && text.size() < 4) {
    const int n = std::stoi(std::string(text));
    if (n >= 1 && n <= SIGRTMAX) return n;
  }
  std::string name(text);
  for (char& c : name) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  if (name.starts_with("SIG")) name.erase(0, 3);
  for (int n = 1; n < NSIG; ++n)
    if (const char* known = ::sigabbrev_np(n); known != nullptr && name == known) return n;
  if (name.starts_with("RTMIN+") && name.size() < 9 && name.find_first_not_of("0123456789", 6) == std::string::npos)
    return SIGRTMIN + std::stoi(name.substr(6));
  fail(errc::invalid, "invalid signal: '{}': give a name (TERM, SIGHUP) or a number", text);
}

void check_container_name(std::string_view name) {
  const auto alphanumeric = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
  bool good = name.size() >= 2 && name.size() <= 128 && alphanumeric(name[0]);
  for (char c : name) good = good && (alphanumeric(c) || c == '_' || c == '.' || c == '-');
  if (!good)
    fail(errc::invalid, "invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed, 2 to 128 of them",
         name);
}

std::string draw_name(unsigned attempt) {
  static constexpr std::string_view adjectives[] = {
      "agile",  "amber",   "bold",   "brave",   "bright", "brisk",  "calm",    "candid", "clever", "cosmic", "curious",
      "daring", "deft",    "eager",  "early",   "fair",   "fleet",  "frank",   "gentle", "glad",   "golden", "happy",
      "hardy",  "honest",  "humble", "jolly",   "keen",   "kind",   "lively",  "loyal",  "lucid",  "merry",  "mighty",
      "modest", "nimble",  "noble",  "patient", "plucky", "proud",  "quick",   "quiet",  "ready",  "rustic", "serene",
      "sharp",  "silent",  "smart",  "snappy",  "solid",  "steady", "stoic",   "sunny",  "swift",  "tidy",   "trusty",
      "upbeat", "valiant", "vivid",  "warm",    "wise",   "witty",  "zealous", "zesty"};
  static constexpr std::string_view people[] = {
      "abel",     "babbage", "bardeen",  "bell",       "bohr",     "boole",    "borg",      "cantor",  "cerf",
      "church",   "curie",   "dijkstra", "dirac",      "easley",   "einstein", "engelbart", "erdos",   "euclid",
      "euler",    "fermat",  "fermi",    "feynman",    "franklin", "galois",   "gauss",     "germain", "godel",
      "hamilton", "hilbert", "hoare",    "hopper",     "hypatia",  "kalman",   "kepler",    "knuth",   "lamarr",
      "lamport",  "laplace", "lovelace", "maxwell",    "mccarthy", "meitner",  "mendel",    "milner",  "morse",
      "naur",     "neumann", "newton",   "noether",    "nygaard",  "pascal",   "perlman",   "planck",  "ramanujan",
      "ritchie",  "shannon", "sinoussi", "stroustrup", "tesla",    "thompson", "turing",    "volta",   "wilkes",
      "wirth",    "wozniak", "wu"};
  const auto bits = random_bits();
  std::string name = fmt::format("{}_{}", adjectives[(bits[0] << 8 | bits[1]) % std::size(adjectives)],
                                 people[(bits[2] << 8 | bits[3]) % std::size(people)]);
  if (attempt > 2) name += fmt::format("{}", (bits[4] << 8 | bits[5]) % (attempt < 6 ? 100 : 10000));
  return name;
}

}  // namespace kit
