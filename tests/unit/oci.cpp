// SPDX-License-Identifier: Apache-2.0
#include "kit/image/oci.hpp"

#include <catch2/catch.hpp>

#include "kit/system/error.hpp"

using namespace kit;

namespace {

const std::string digest = "sha256:" + std::string(64, 'a');

std::string why(function_ref<void()> work) {
  try {
    work();
  } catch (const error& e) {
    CHECK(e.code() == errc::invalid);
    return e.what();
  }
  return {};
}

std::string manifest_with(const std::string& config, const std::string& layers = "[]") {
  return R"({"schemaVersion":2,"config":)" + config + R"(,"layers":)" + layers + "}";
}

std::string descriptor_with(const std::string& size) {
  return R"({"mediaType":"m","digest":")" + digest + R"(","size":)" + size + "}";
}

}  // namespace

TEST_CASE("a manifest comes back as it was written") {
  image_manifest m;
  m.config = {std::string(media_type_config), digest, 12};
  m.layers = {{std::string(media_type_layer_gzip), "sha256:" + std::string(64, 'b'), 1ull << 40},
              {std::string(media_type_layer), "sha256:" + std::string(64, 'c'), 0}};
  const std::string text = to_json(m);
  const image_manifest back = parse_manifest(text);
  CHECK(back.config.digest == digest);
  REQUIRE(back.layers.size() == 2);
  CHECK(back.layers[0].size == 1ull << 40);
  CHECK(back.layers[1].media_type == media_type_layer);
  CHECK(to_json(back) == text);
}

TEST_CASE("manifests that are refused, and what is named") {
  const std::string good = descriptor_with("1");
  const std::pair<std::string, std::string> rows[] = {
      {"", "parse manifest"},
      {"[]", "manifest"},
      {"{", "parse manifest"},
      {std::string(100'000, '['), "parse manifest"},
      {"{}", "manifest.schemaVersion"},
      {R"({"schemaVersion":1})", "manifest.schemaVersion"},
      {R"({"schemaVersion":2,"manifests":[]})", "index"},
      {R"({"schemaVersion":2,"config":)" + good + "}", "manifest.layers: it is missing"},
      {manifest_with("7"), "manifest.config: expected an object"},
      {manifest_with("{}"), "manifest.config.mediaType: it is missing"},
      {manifest_with(R"({"mediaType":"m","digest":"sha256:../../x","size":1})"), "manifest.config.digest"},
      {manifest_with(good, "{}"), "manifest.layers: expected an array"},
      {manifest_with(good, "[" + good + ",7]"), "manifest.layers[1]"},
      {manifest_with(good, "[" + descriptor_with("-1") + "]"), "manifest.layers[0].size"},
      {manifest_with(good, "[" + descriptor_with("1.5") + "]"), "manifest.layers[0].size"},
      {manifest_with(good, "[" + descriptor_with("1e30") + "]"), "manifest.layers[0].size"},
      {manifest_with(good, "[" + descriptor_with("\"1\"") + "]"), "manifest.layers[0].size"},
  };
  for (const auto& [text, named] : rows) {
    CAPTURE(text.substr(0, 200));
    const std::string message = why([&, &json = text] { parse_manifest(json); });
    CAPTURE(message);
    CHECK(message.find(named) != std::string::npos);
  }
}

TEST_CASE("a configuration comes back as it was written") {
  image_config c;
  c.created = "2024-01-01T00:00:00Z";
  c.author = "a";
  c.architecture = "amd64";
  c.os = "linux";
  c.user = "1000:1000";
  c.env = {"PATH=/bin", "QUOTE=\"\n"};
  c.entrypoint = {"/bin/sh", "-c"};
  c.cmd = {""};
  c.volumes = {"/data"};
  c.exposed_ports = {"80/tcp"};
  c.working_dir = "/w";
  c.stop_signal = "SIGTERM";
  c.labels = {{"a", "1"}, {"b", ""}};
  c.diff_ids = {digest};
  c.history = {{"2024-01-01T00:00:00Z", "RUN x", "me", "why", true}, {}};
  const std::string text = to_json(c);
  const image_config back = parse_image_config(text);
  CHECK(back.created == c.created);
  CHECK(back.author == c.author);
  CHECK(back.architecture == c.architecture);
  CHECK(back.os == c.os);
  CHECK(back.user == c.user);
  CHECK(back.env == c.env);
  CHECK(back.entrypoint == c.entrypoint);
  CHECK(back.cmd == c.cmd);
  CHECK(back.volumes == c.volumes);
  CHECK(back.exposed_ports == c.exposed_ports);
  CHECK(back.working_dir == c.working_dir);
  CHECK(back.stop_signal == c.stop_signal);
  CHECK(back.labels == c.labels);
  CHECK(back.diff_ids == c.diff_ids);
  REQUIRE(back.history.size() == 2);
  CHECK(back.history[0].created_by == "RUN x");
  CHECK(back.history[0].empty_layer);
  CHECK(to_json(back) == text);
}

TEST_CASE("a configuration printed upon another keeps what kit does not know") {
  const std::string base = R"({"os":"linux","architecture":"arm64","variant":"v8","created":"x","config":)"
                           R"({"Healthcheck":{"Test":["CMD","true"]},"User":"old","Env":["A=1"]},)"
                           R"("rootfs":{"type":"layers"}})";
  image_config c = parse_image_config(base);
  c.user.clear();
  c.env.push_back("B=2");
  c.diff_ids = {digest};
  const std::string text = to_json(c, base);
  CHECK(text.find(R"("variant":"v8")") != std::string::npos);
  CHECK(text.find(R"("Healthcheck":{"Test":["CMD","true"]})") != std::string::npos);
  CHECK(text.find("User") == std::string::npos);
  const image_config back = parse_image_config(text);
  CHECK(back.env == c.env);
  CHECK(back.diff_ids == c.diff_ids);
}

TEST_CASE("a docker-archive's table comes back as it was written") {
  const std::vector<docker_manifest> table = {{"c.json", {"a:1", "b:2"}, {"1/layer.tar", "2/layer.tar"}},
                                              {"d.json", {}, {}}};
  const std::string text = to_json(table);
  CHECK(text.find(R"("RepoTags":null)") != std::string::npos);
  const auto back = parse_docker_manifests(text);
  REQUIRE(back.size() == 2);
  CHECK(back[0].names == table[0].names);
  CHECK(back[0].layers == table[0].layers);
  CHECK(to_json(back) == text);
  for (const char* bad : {"", "{}", "[7]", "[{}]", R"([{"Config":7}])", R"([{"Config":"a","Layers":[7]}])",
                          R"([{"Config":"a","RepoTags":"a:1"}])"})
    CHECK(why([&] { parse_docker_manifests(bad); }).find("manifest.json") != std::string::npos);
}

TEST_CASE("null is absent, as Docker writes it") {
  const image_config c = parse_image_config(R"({"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":null,)"
                                            R"("Labels":null,"Volumes":null},"history":null,)"
                                            R"("rootfs":{"type":"layers","diff_ids":null}})");
  CHECK(c.env.empty());
  CHECK(c.diff_ids.empty());
  CHECK(parse_image_config(R"({"config":null,"rootfs":{"type":"layers"}})").user.empty());
}

TEST_CASE("configurations that are refused, and what is named") {
  const std::pair<std::string, std::string> rows[] = {
      {"7", "expected an object"},
      {"null", "expected an object"},
      {"{}", "image config.rootfs: it is missing"},
      {R"({"rootfs":{"type":"tree"}})", "image config.rootfs.type"},
      {R"({"rootfs":{"type":"layers","diff_ids":["sha256:x"]}})", "image config.rootfs.diff_ids[0]"},
      {R"({"rootfs":{"type":"layers"},"config":{"Env":["A=1",7]}})", "image config.config.Env[1]: expected a string"},
      {R"({"rootfs":{"type":"layers"},"config":{"Labels":{"a":7}}})", "image config.config.Labels.a"},
      {R"({"rootfs":{"type":"layers"},"config":{"Volumes":["/x"]}})", "image config.config.Volumes"},
      {R"({"rootfs":{"type":"layers"},"history":[{"empty_layer":1}]})", "image config.history[0].empty_layer"},
  };
  for (const auto& [text, named] : rows) {
    CAPTURE(text);
    const std::string message = why([&, &json = text] { parse_image_config(json); });
    CAPTURE(message);
    CHECK(message.find(named) != std::string::npos);
  }
}

TEST_CASE("an index comes back as it was written") {
  const std::vector<index_entry> index = {{{std::string(media_type_manifest), digest, 7},
                                           "debian:12",
                                           "linux",
                                           "arm64",
                                           "v8",
                                           "docker.io/library/debian:12"},
                                          {{std::string(media_type_manifest), digest, 7}, "", "", "", "", ""}};
  const auto back = parse_index(to_json(index));
  REQUIRE(back.size() == 2);
  CHECK(back[0].reference == "debian:12");
  CHECK(back[0].architecture == "arm64");
  CHECK(back[0].manifest.size == 7);
  CHECK(to_json(back) == to_json(index));
}

TEST_CASE("text that JSON cannot hold is refused, not mangled") {
  image_config c;
  c.env = {"A=\xff"};
  CHECK(why([&] { to_json(c); }).find("UTF-8") != std::string::npos);
}
