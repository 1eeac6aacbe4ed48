// SPDX-License-Identifier: Apache-2.0
#include "kit/image/oci.hpp"

#include <nlohmann/json.hpp>

#include "digest_text.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace {

using nlohmann::json;

constexpr const char* reference_name = "org.opencontainers.image.ref.name";
constexpr const char* full_name = "io.containerd.image.name";

/// A JSON value and the path that leads to it, for messages.
class node {
 public:
  node(const json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  [[noreturn]] void refuse(std::string_view why) const { fail(errc::invalid, "parse {}: {}", path_, why); }

  /// Absent and null are one: Docker writes null for what is empty.
  [[nodiscard]] bool present() const { return !value_->is_null(); }
  [[nodiscard]] node operator[](const char* key) const {
    static const json absent;
    if (!present()) return {absent, path_ + '.' + key};
    if (!value_->is_object()) refuse("expected an object");
    const auto found = value_->find(key);
    return {found == value_->end() ? absent : *found, path_ + '.' + key};
  }
  [[nodiscard]] std::string text() const {
    if (!present()) return {};
    if (!value_->is_string()) refuse("expected a string");
    return value_->get_ref<const std::string&>();
  }
  [[nodiscard]] std::string required_text() const {
    if (!present()) refuse("it is missing");
    return text();
  }
  [[nodiscard]] std::string digest() const {
    std::string d = required_text();
    if (!detail::valid_digest(d)) refuse("expected sha256: and 64 lower-case hexadecimal digits");
    return d;
  }
  [[nodiscard]] std::uint64_t size() const {
    if (!value_->is_number_integer() || (!value_->is_number_unsigned() && value_->get<std::int64_t>() < 0))
      refuse("expected a number of bytes");
    return value_->get<std::uint64_t>();
  }
  [[nodiscard]] bool boolean() const {
    if (!present()) return false;
    if (!value_->is_boolean()) refuse("expected true or false");
    return value_->get<bool>();
  }
  [[nodiscard]] std::vector<node> elements() const {
    std::vector<node> list;
    if (!present()) return list;
    if (!value_->is_array()) refuse("expected an array");
    for (std::size_t i = 0; i < value_->size(); ++i)
      list.emplace_back((*value_)[i], path_ + '[' + std::to_string(i) + ']');
    return list;
  }
  [[nodiscard]] std::vector<std::string> texts() const {
    std::vector<std::string> list;
    for (const node& n : elements()) list.push_back(n.required_text());
    return list;
  }
  [[nodiscard]] std::vector<std::string> keys() const {
    std::vector<std::string> list;
    for (const option& o : members()) list.push_back(o.key);
    return list;
  }
  /// Of an object; values that are no strings are left empty.
  [[nodiscard]] std::vector<option> members() const {
    std::vector<option> list;
    if (!present()) return list;
    if (!value_->is_object()) refuse("expected an object");
    for (const auto& [key, value] : value_->items())
      list.push_back({key, value.is_string() ? value.get<std::string>() : std::string()});
    return list;
  }
  [[nodiscard]] std::vector<option> text_members() const {
    if (present() && value_->is_object())
      for (const auto& [key, value] : value_->items()) (void)node(value, path_ + '.' + key).required_text();
    return members();
  }

 private:
  const json* value_;
  std::string path_;
};

json parse(std::string_view text, std::string_view what) {
  try {
    return json::parse(text);
  } catch (const json::exception& e) {
    fail(errc::invalid, "parse {}: {}", what, e.what());
  }
}

std::string print(const json& document) {
  try {
    return document.dump();
  } catch (const json::exception& e) {
    fail(errc::invalid, "write JSON: {}: JSON holds UTF-8 only", e.what());
  }
}

descriptor read_descriptor(const node& n) {
  return {n["mediaType"].required_text(), n["digest"].digest(), n["size"].size()};
}

json written(const descriptor& d) { return {{"mediaType", d.media_type}, {"digest", d.digest}, {"size", d.size}}; }

json empty_objects(const std::vector<std::string>& keys) {
  json object = json::object();
  for (const std::string& key : keys) object[key] = json::object();
  return object;
}

/// Sets `key`; an empty value is none.
template <class T>
void put(json& object, const char* key, const T& value) {
  if (value.empty())
    object.erase(key);
  else
    object[key] = value;
}

void require_schema_2(const node& root) {
  if (root["schemaVersion"].size() != 2) root["schemaVersion"].refuse("expected 2");
}

}  // namespace

image_manifest parse_manifest(std::string_view text) {
  const json document = parse(text, "manifest");
  const node root(document, "manifest");
  require_schema_2(root);
  if (root["manifests"].present()) root.refuse("it is an index of several images: choose one of its manifests");
  image_manifest m;
  m.config = read_descriptor(root["config"]);
  if (!root["layers"].present()) root["layers"].refuse("it is missing");
  for (const node& n : root["layers"].elements()) m.layers.push_back(read_descriptor(n));
  return m;
}

std::string to_json(const image_manifest& m) {
  json layers = json::array();
  for (const descriptor& d : m.layers) layers.push_back(written(d));
  return print({{"schemaVersion", 2},
                {"mediaType", media_type_manifest},
                {"config", written(m.config)},
                {"layers", std::move(layers)}});
}

image_config parse_image_config(std::string_view text) {
  const json document = parse(text, "image config");
  const node root(document, "image config");
  if (!document.is_object()) root.refuse("expected an object");
  image_config c;
  c.created = root["created"].text();
  c.author = root["author"].text();
  c.architecture = root["architecture"].text();
  c.os = root["os"].text();
  const node config = root["config"];
  c.user = config["User"].text();
  c.env = config["Env"].texts();
  c.entrypoint = config["Entrypoint"].texts();
  c.cmd = config["Cmd"].texts();
  c.volumes = config["Volumes"].keys();
  c.exposed_ports = config["ExposedPorts"].keys();
  c.working_dir = config["WorkingDir"].text();
  c.stop_signal = config["StopSignal"].text();
  c.labels = config["Labels"].text_members();
  const node rootfs = root["rootfs"];
  if (!rootfs.present()) rootfs.refuse("it is missing");
  if (rootfs["type"].required_text() != "layers") rootfs["type"].refuse("expected \"layers\"");
  for (const node& n : rootfs["diff_ids"].elements()) c.diff_ids.push_back(n.digest());
  for (const node& n : root["history"].elements())
    c.history.push_back({n["created"].text(), n["created_by"].text(), n["author"].text(), n["comment"].text(),
                         n["empty_layer"].boolean()});
  return c;
}

std::string to_json(const image_config& c) { return to_json(c, "{}"); }

std::string to_json(const image_config& c, std::string_view upon) {
  json document = parse(upon, "image config");
  if (!document.is_object()) node(document, "image config").refuse("expected an object");
  json& config = document["config"];
  if (!config.is_object()) config = json::object();
  put(config, "User", c.user);
  put(config, "Env", c.env);
  put(config, "Entrypoint", c.entrypoint);
  put(config, "Cmd", c.cmd);
  put(config, "Volumes", empty_objects(c.volumes));
  put(config, "ExposedPorts", empty_objects(c.exposed_ports));
  put(config, "WorkingDir", c.working_dir);
  put(config, "StopSignal", c.stop_signal);
  json labels = json::object();
  for (const option& o : c.labels) labels[o.key] = o.value;
  put(config, "Labels", labels);

  json history = json::array();
  for (const image_history& h : c.history) {
    json entry = json::object();
    put(entry, "created", h.created);
    put(entry, "created_by", h.created_by);
    put(entry, "author", h.author);
    put(entry, "comment", h.comment);
    if (h.empty_layer) entry["empty_layer"] = true;
    history.push_back(std::move(entry));
  }

  document["architecture"] = c.architecture;
  document["os"] = c.os;
  document["rootfs"] = {{"type", "layers"}, {"diff_ids", c.diff_ids}};
  put(document, "created", c.created);
  put(document, "author", c.author);
  put(document, "history", history);
  return print(document);
}

std::vector<index_entry> parse_index(std::string_view text) {
  const json document = parse(text, "index");
  const node root(document, "index");
  require_schema_2(root);
  std::vector<index_entry> entries;
  for (const node& n : root["manifests"].elements()) {
    const node platform = n["platform"];
    const node annotations = n["annotations"];
    entries.push_back({read_descriptor(n), annotations[reference_name].text(), platform["os"].text(),
                       platform["architecture"].text(), platform["variant"].text(), annotations[full_name].text()});
  }
  return entries;
}

std::vector<docker_manifest> parse_docker_manifests(std::string_view text) {
  const json document = parse(text, "manifest.json");
  const node root(document, "manifest.json");
  if (!document.is_array()) root.refuse("expected an array");
  std::vector<docker_manifest> images;
  for (const node& n : root.elements())
    images.push_back({n["Config"].required_text(), n["RepoTags"].texts(), n["Layers"].texts()});
  return images;
}

std::string to_json(const std::vector<docker_manifest>& images) {
  json list = json::array();
  for (const docker_manifest& m : images) {
    json names = nullptr;
    if (!m.names.empty()) names = m.names;
    list.push_back({{"Config", m.config}, {"RepoTags", std::move(names)}, {"Layers", m.layers}});
  }
  return print(list);
}

std::string to_json(const std::vector<index_entry>& index) {
  json manifests = json::array();
  for (const index_entry& e : index) {
    json entry = written(e.manifest);
    if (!e.reference.empty()) entry["annotations"][reference_name] = e.reference;
    if (!e.image_name.empty()) entry["annotations"][full_name] = e.image_name;
    if (!e.os.empty() || !e.architecture.empty()) entry["platform"] = {{"os", e.os}, {"architecture", e.architecture}};
    if (!e.variant.empty()) entry["platform"]["variant"] = e.variant;
    manifests.push_back(std::move(entry));
  }
  return print({{"schemaVersion", 2}, {"mediaType", media_type_index}, {"manifests", std::move(manifests)}});
}

}  // namespace kit
