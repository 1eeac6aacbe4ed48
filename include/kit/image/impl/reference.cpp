// SPDX-License-Identifier: Apache-2.0
#include "kit/image/reference.hpp"

#include <algorithm>

#include "digest_text.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace {

constexpr std::string_view default_host = "docker.io";
constexpr std::string_view official = "library/";

bool lower_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool alphanumeric(char c) { return lower_or_digit(c) || (c >= 'A' && c <= 'Z'); }

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  fail(errc::invalid, "invalid reference format: \"{}\": {}", text, why);
}

/// [a-z0-9]+ joined by one of: '.', '_', "__", dashes.
bool valid_path_component(std::string_view part) {
  if (part.empty() || !lower_or_digit(part.front()) || !lower_or_digit(part.back())) return false;
  for (std::size_t i = 0; i < part.size();) {
    if (lower_or_digit(part[i])) {
      ++i;
      continue;
    }
    const std::size_t end = std::min(part.find_first_not_of(part[i], i), part.size());
    const std::size_t run = end - i;
    const bool separator = part[i] == '-' || (part[i] == '.' && run == 1) || (part[i] == '_' && run <= 2);
    if (!separator || !lower_or_digit(part[end])) return false;
    i = end;
  }
  return true;
}

bool valid_host_name(std::string_view name) {
  if (name.size() > 2 && name.front() == '[' && name.back() == ']')
    return name.substr(1, name.size() - 2).find_first_not_of("0123456789abcdefABCDEF:") == std::string_view::npos;
  while (true) {
    const auto dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    if (label.empty() || !alphanumeric(label.front()) || !alphanumeric(label.back()) ||
        !std::all_of(label.begin(), label.end(), [](char c) { return alphanumeric(c) || c == '-'; }))
      return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

bool valid_host(std::string_view host) {
  const auto colon = host.rfind(':');
  if (colon == std::string_view::npos || host.back() == ']') return valid_host_name(host);
  const std::string_view port = host.substr(colon + 1);
  return !port.empty() && port.find_first_not_of("0123456789") == std::string_view::npos &&
         valid_host_name(host.substr(0, colon));
}

/// What tells "localhost/x" and "a.b/x" from "user/x".
bool looks_like_host(std::string_view part) {
  return part == "localhost" || part.find_first_of(".:[") != std::string_view::npos;
}

std::string lower(std::string_view text) {
  std::string all(text);
  for (char& c : all)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return all;
}

bool valid_tag(std::string_view tag) {
  const auto word = [](char c) { return alphanumeric(c) || c == '_'; };
  return !tag.empty() && tag.size() <= 128 && word(tag.front()) &&
         std::all_of(tag.begin(), tag.end(), [&](char c) { return word(c) || c == '.' || c == '-'; });
}

}  // namespace

reference reference::parse(std::string_view text) {
  reference r;
  std::string_view rest = text;
  if (rest.empty()) refuse(text, "the name is empty");
  if (const auto at = rest.find('@'); at != std::string_view::npos) {
    r.digest = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!detail::valid_digest(r.digest)) refuse(text, "a digest is sha256: and 64 lower-case hexadecimal digits");
  }
  const auto last_slash = rest.rfind('/');
  const auto colon = rest.find(':', last_slash == std::string_view::npos ? 0 : last_slash);
  if (colon != std::string_view::npos) {
    r.tag = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (!valid_tag(r.tag)) refuse(text, "a tag is 1 to 128 of A-Z a-z 0-9 _ . - and begins with none of . -");
  }
  if (r.tag.empty() && r.digest.empty()) r.tag = "latest";

  std::string host(default_host);
  std::string_view path = rest;
  if (const auto slash = rest.find('/'); slash != std::string_view::npos && looks_like_host(rest.substr(0, slash))) {
    host = lower(rest.substr(0, slash));
    path = rest.substr(slash + 1);
    if (!valid_host(host)) refuse(text, "the part before the first slash is no host name");
  }
  if (host == "index.docker.io") host = default_host;
  if (path.size() == 64 && path.find_first_not_of("0123456789abcdef") == std::string_view::npos)
    refuse(text, "a name of 64 hexadecimal digits would pass for an id");
  for (std::string_view parts = path;;) {
    const auto slash = parts.find('/');
    if (!valid_path_component(parts.substr(0, slash)))
      refuse(text, "between slashes a name is lower-case letters and digits, joined by one . or _, by __ or by dashes");
    if (slash == std::string_view::npos) break;
    parts.remove_prefix(slash + 1);
  }
  r.name = host + '/';
  if (host == default_host && path.find('/') == std::string_view::npos) r.name += official;
  r.name += path;
  if (r.name.size() > 255) refuse(text, "the name is longer than 255 bytes");
  return r;
}

std::string reference::text() const {
  // Left out is what parse() puts back: it takes the first of several parts for a host if it looks like one.
  std::string_view shown = name;
  const auto drop = [&](std::string_view prefix, auto may) {
    if (shown.substr(0, prefix.size()) != prefix) return;
    const std::string_view rest = shown.substr(prefix.size());
    if (may(rest)) shown = rest;
  };
  drop("docker.io/", [](std::string_view rest) {
    const auto slash = rest.find('/');
    return slash == std::string_view::npos || !looks_like_host(rest.substr(0, slash));
  });
  drop(official, [](std::string_view rest) { return rest.find('/') == std::string_view::npos; });
  std::string written(shown);
  if (!tag.empty()) written += ':' + tag;
  if (!digest.empty()) written += '@' + digest;
  return written;
}

}  // namespace kit
