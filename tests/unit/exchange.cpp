// SPDX-License-Identifier: Apache-2.0
#include "kit/image/exchange.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <thread>

#include "kit/driver.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/error.hpp"
#include "scratch.hpp"
#include "tar.hpp"

using namespace kit;
using namespace kit::testing;

namespace {

const platform host{"linux", "amd64"};
const std::string blobs = "blobs/sha256/";
const std::string oci_layout = R"({"imageLayoutVersion":"1.0.0"})";

std::string name_of(const std::string& bytes) { return blobs + sha256(bytes).substr(7); }

std::string described(std::string_view type, const std::string& bytes, const std::string& more = "") {
  return fmt::format(R"({{"mediaType":"{}","digest":"{}","size":{}{}}})", type, sha256(bytes), bytes.size(), more);
}

std::string named(const std::string& name) {
  return R"(,"annotations":{"org.opencontainers.image.ref.name":")" + name + R"("})";
}

std::string on(const std::string& os, const std::string& architecture, const std::string& variant = "") {
  return fmt::format(R"(,"platform":{{"os":"{}","architecture":"{}"{}}})", os, architecture,
                     variant.empty() ? "" : R"(,"variant":")" + variant + '"');
}

std::string index_of(const std::string& entries) { return R"({"schemaVersion":2,"manifests":[)" + entries + "]}"; }

/// An image of one layer, and every document that leads to it, to be spoilt one by one.
struct sample {
  std::string layer = tar({{"file", '0', "content"}});
  std::string config;
  std::string manifest;
  std::string listed;  ///< in an index

  explicit sample(const std::string& architecture = "amd64", const std::string& name = "demo:1") {
    config = fmt::format(
        R"({{"architecture":"{}","os":"linux","config":{{"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}})",
        architecture, sha256(layer));
    finish(name);
  }
  void finish(const std::string& name = "demo:1") {
    manifest = R"({"schemaVersion":2,"config":)" + described(media_type_config, config) + R"(,"layers":[)" +
               described(media_type_layer, layer) + "]}";
    listed = described(media_type_manifest, manifest, named(name));
  }
  [[nodiscard]] std::vector<entry> files() const {
    return {{name_of(layer), '0', layer}, {name_of(config), '0', config}, {name_of(manifest), '0', manifest}};
  }
  [[nodiscard]] std::vector<entry> layout() const {
    auto all = files();
    all.push_back({"oci-layout", '0', oci_layout});
    all.push_back({"index.json", '0', index_of(listed)});
    return all;
  }
};

struct fixture {
  scratch root;
  image_store store{root / "store"};

  std::vector<carried_image> read(const std::string& bytes, const std::string& base_name = "") {
    replace_file(root / "archive", bytes);
    return read_images(store, open_file(root / "archive", O_RDONLY).get(), host, base_name);
  }
  std::vector<carried_image> read(const std::vector<entry>& entries) { return read(tar(entries)); }
  std::string why(const std::string& bytes, errc expected = errc::invalid) {
    try {
      read(bytes);
    } catch (const error& e) {
      CHECK(e.code() == expected);
      return e.what();
    }
    return "it was taken";
  }
};

std::vector<entry>& set(std::vector<entry>& files, const std::string& name, const std::string& content) {
  for (entry& e : files)
    if (e.name == name) {
      e.content = content;
      return files;
    }
  files.push_back({name, '0', content});
  return files;
}

}  // namespace

TEST_CASE("an OCI layout in an archive is read, its documents kept byte for byte") {
  fixture f;
  const sample s;
  const auto images = f.read(s.layout());
  REQUIRE(images.size() == 1);
  CHECK(images[0].names == std::vector<std::string>{"demo:1"});
  CHECK(images[0].manifest.digest == sha256(s.manifest));
  CHECK(images[0].config == s.config);
  CHECK(f.store.read_blob(sha256(s.manifest)) == s.manifest);
  CHECK(f.store.read_blob(sha256(s.layer)) == s.layer);
  CHECK(f.store.blobs().size() == 3);
}

TEST_CASE("an archive is read from a pipe, in any order, compressed or not, twice") {
  fixture f;
  auto files = sample().layout();
  std::reverse(files.begin(), files.end());
  const std::string plain = tar(files);
  for (const std::string& bytes : {plain, compressed(plain, ::archive_write_add_filter_gzip),
                                   compressed(plain, ::archive_write_add_filter_zstd)}) {
    auto [from, to] = make_pipe();
    std::thread writer([&, out = std::move(to)] { write_all(out.get(), bytes, "a pipe"); });
    const auto images = read_images(f.store, from.get(), host);
    writer.join();
    CHECK(images.size() == 1);
  }
  CHECK(f.store.blobs().size() == 3);
}

TEST_CASE("a layout's directory is read, and no more of it than is needed") {
  fixture f;
  const sample s;
  const sample other("arm64", "demo:1");
  std::vector<entry> files = s.files();
  for (const entry& e : other.files()) files.push_back(e);
  const std::string entries = described(media_type_manifest, other.manifest, on("linux", "arm64") + named("1")) + "," +
                              described(media_type_manifest, s.manifest, on("linux", "amd64") + named("1"));
  make_directories(f.root / "layout/blobs/sha256");
  for (const entry& e : files) replace_file(f.root / ("layout/" + e.name), e.content);
  replace_file(f.root / "layout/oci-layout", oci_layout);
  replace_file(f.root / "layout/index.json", index_of(entries));
  const unique_fd directory = open_directory(f.root / "layout");
  const auto images = read_layout(f.store, directory.get(), host, "demo");
  REQUIRE(images.size() == 1);
  CHECK(images[0].names == std::vector<std::string>{"demo:1"});
  CHECK(images[0].manifest.digest == sha256(s.manifest));
  CHECK(f.store.blobs().size() == 3);

  // What stands there in a blob's place is not waited for, and not followed out.
  const std::string blob = f.root / ("layout/" + name_of(s.config));
  fixture g;
  remove_tree(blob);
  REQUIRE(::mkfifo(blob.c_str(), 0600) == 0);
  CHECK_THROWS_AS(read_layout(g.store, directory.get(), host), error);
  remove_tree(blob);
  replace_file(f.root / "outside", s.config);
  REQUIRE(::symlink((f.root / "outside").c_str(), blob.c_str()) == 0);
  CHECK_THROWS_AS(read_layout(g.store, directory.get(), host), error);
}

TEST_CASE("names: annotations in full, references, tags of a base") {
  fixture f;
  sample s;
  const auto names_with = [&](const std::string& annotations, const std::string& base) {
    auto files = s.files();
    files.push_back({"oci-layout", '0', oci_layout});
    files.push_back({"index.json", '0',
                     index_of(described(media_type_manifest, s.manifest, R"(,"annotations":{)" + annotations + "}"))});
    return f.read(tar(files), base).at(0).names;
  };
  const std::string reference = R"("org.opencontainers.image.ref.name":)";
  const std::string full = R"("io.containerd.image.name":)";
  using names = std::vector<std::string>;
  CHECK(names_with(reference + R"("1",)" + full + R"("docker.io/library/demo:1")", "") == names{"demo:1"});
  CHECK(names_with(reference + R"("quay.io/a/b:2")", "x") == names{"quay.io/a/b:2"});
  CHECK(names_with(reference + R"("1.0")", "layout") == names{"layout:1.0"});
  CHECK(names_with(reference + R"("1.0")", "").empty());
  CHECK(names_with("", "layout").empty());
  CHECK(names_with(reference + R"("../../etc:x")", "layout").empty());
  CHECK(names_with(reference + R"("a b")", "layout").empty());
}

TEST_CASE("several names of one image are one image") {
  fixture f;
  const sample s;
  auto files = s.layout();
  set(files, "index.json", index_of(s.listed + "," + described(media_type_manifest, s.manifest, named("other:2"))));
  const auto images = f.read(files);
  REQUIRE(images.size() == 1);
  CHECK(images[0].names == std::vector<std::string>{"demo:1", "other:2"});
}

TEST_CASE("of an image for several platforms the host's is taken") {
  fixture f;
  const sample ours, arm("arm64"), v3("amd64", "v3:1");
  const std::string attestation = R"({"schemaVersion":2})";
  const auto archive = [&](const std::string& inner, bool nested) {
    std::vector<entry> files;
    for (const sample* s : {&ours, &arm, &v3})
      for (const entry& e : s->files()) files.push_back(e);
    files.push_back({name_of(attestation), '0', attestation});
    files.push_back({name_of(inner), '0', inner});
    files.push_back({"oci-layout", '0', oci_layout});
    files.push_back(
        {"index.json", '0', nested ? index_of(described(media_type_index, inner, named("demo:1"))) : inner});
    return tar(files);
  };
  const std::string mixed = index_of(described(media_type_manifest, attestation, on("unknown", "unknown")) + "," +
                                     described(media_type_manifest, arm.manifest, on("linux", "arm64")) + "," +
                                     described(media_type_manifest, v3.manifest, on("linux", "amd64", "v3")) + "," +
                                     described(media_type_manifest, ours.manifest, on("linux", "amd64")));
  const auto images = f.read(archive(mixed, true));
  REQUIRE(images.size() == 1);
  CHECK(images[0].manifest.digest == sha256(ours.manifest));
  CHECK(images[0].names == std::vector<std::string>{"demo:1"});

  const std::string foreign = index_of(described(media_type_manifest, arm.manifest, on("linux", "arm64", "v8")) + "," +
                                       described(media_type_manifest, arm.manifest, on("linux", "s390x")));
  for (const bool nested : {false, true}) {
    const std::string message = f.why(archive(foreign, nested), errc::not_found);
    CHECK(message.find("no image for linux/amd64: there are linux/arm64/v8, linux/s390x") != std::string::npos);
  }
}

TEST_CASE("a docker-archive is read, links between its files too; its manifest becomes OCI's") {
  fixture f;
  const sample s;
  const std::string packed = compressed(s.layer, ::archive_write_add_filter_gzip);
  for (const std::string& layer : {s.layer, packed}) {
    const std::vector<entry> files = {
        {"0123/VERSION", '0', "1.0"},
        {"0123/layer.tar", '0', layer},
        {"4567/layer.tar", '2', "", "../0123/layer.tar"},
        {"89ab/layer.tar", '1', "", "4567/layer.tar"},
        {"config.json", '0', s.config},
        {"manifest.json", '0',
         R"([{"Config":"config.json","RepoTags":["a:1","docker.io/library/b:2"],"Layers":["89ab/layer.tar"]},)"
         R"({"Config":"./config.json","RepoTags":null,"Layers":["4567/layer.tar"]}])"}};
    const auto images = f.read(files);
    REQUIRE(images.size() == 1);
    CHECK(images[0].names == std::vector<std::string>{"a:1", "b:2"});
    const image_manifest m = parse_manifest(f.store.read_blob(images[0].manifest.digest));
    CHECK(m.config.digest == sha256(s.config));
    REQUIRE(m.layers.size() == 1);
    CHECK(m.layers[0].digest == sha256(layer));
    CHECK(m.layers[0].media_type == (layer == packed ? media_type_layer_gzip : media_type_layer));
  }
}

TEST_CASE("a manifest of Docker's kind within a layout becomes OCI's") {
  fixture f;
  const sample s;
  const std::string docker = R"({"schemaVersion":2,"config":)" +
                             described("application/vnd.docker.container.image.v1+json", s.config) + R"(,"layers":[)" +
                             described("application/vnd.docker.image.rootfs.diff.tar.gzip", s.layer) + "]}";
  auto files = s.layout();
  files.push_back({name_of(docker), '0', docker});
  set(files, "index.json", index_of(described(media_type_docker_manifest, docker, named("demo:1"))));
  const auto images = f.read(files);
  REQUIRE(images.size() == 1);
  CHECK(images[0].contents.config.media_type == media_type_config);
  CHECK(images[0].contents.layers[0].media_type == media_type_layer);
  CHECK(f.store.read_blob(images[0].manifest.digest) == to_json(images[0].contents));
}

TEST_CASE("what was written is read again, and the same images give the same bytes") {
  fixture f;
  const sample s;
  auto images = f.read(s.layout());
  images[0].names = {"demo:1", "quay.io/x/y:2"};
  const auto written = [&](exchange_format format, const std::string& file) {
    write_images(f.store, images, format, open_file(file, O_WRONLY | O_CREAT | O_TRUNC, 0600).get());
    return read_file(file);
  };
  const std::string bytes = written(exchange_format::docker, f.root / "1");
  CHECK(written(exchange_format::docker, f.root / "2") == bytes);
  CHECK(written(exchange_format::oci, f.root / "3").find("manifest.json") == std::string::npos);
  for (const bool without_index : {false, true}) {
    std::string changed = bytes;
    // No longer a layout: the other table of contents is what is left.
    if (without_index) changed[changed.find("oci-layout")] = 'x';
    if (without_index) {
      unsigned sum = 8 * ' ';
      for (std::size_t i = 0; i < 512; ++i)
        if (i < 148 || i >= 156) sum += static_cast<unsigned char>(changed[i]);
      changed.replace(148, 8, fmt::format("{:06o}", sum) + '\0' + ' ');
    }
    fixture g;
    const auto back = g.read(changed);
    REQUIRE(back.size() == 1);
    CHECK(back[0].names == images[0].names);
    CHECK(back[0].config == s.config);
    if (!without_index) CHECK(back[0].manifest.digest == images[0].manifest.digest);
  }
  // A blob that rotted is told, not given away.
  const std::string rotten = f.store.blob_path(sha256(s.layer));
  std::string damaged = s.layer;
  damaged[600] = '!';
  replace_file(rotten, damaged);
  try {
    written(exchange_format::docker, f.root / "4");
    FAIL("a damaged blob was written");
  } catch (const error& e) {
    CHECK(e.code() == errc::conflict);
  }
}

// ---- hostile archives ------------------------------------------------------------------------------

TEST_CASE("archives of images that are refused, and what is said") {
  const sample s;
  const auto with = [&](const std::string& name, const std::string& content) {
    auto files = s.layout();
    return tar(set(files, name, content));
  };
  const auto indexed = [&](const std::string& entries) { return with("index.json", index_of(entries)); };
  const auto renamed = [&](const std::string& layer_name) {
    auto files = s.layout();
    files[0].name = layer_name;
    return tar(files);
  };
  const auto sized = [&](const std::string& from, const std::string& to) {
    sample t;
    t.manifest.replace(t.manifest.find(from), from.size(), to);
    t.listed = described(media_type_manifest, t.manifest);
    return tar(t.layout());
  };
  const auto configured = [&](const std::string& config) {
    sample t;
    t.config = config;
    t.finish();
    return tar(t.layout());
  };
  const auto docker = [&](const std::string& manifest, const std::vector<entry>& more = {}) {
    std::vector<entry> files = {{"manifest.json", '0', manifest}, {"c.json", '0', s.config}, {"l.tar", '0', s.layer}};
    files.insert(files.end(), more.begin(), more.end());
    return tar(files);
  };
  // An index whose only entry is the file index.json itself; and one three deep.
  const std::string self = R"({"mediaType":")" + std::string(media_type_index) + R"(","digest":"sha256:)" +
                           std::string(64, '5') + R"(","size":300})";
  const std::string self_index = index_of(self);
  const std::string inner = index_of(s.listed), outer = index_of(described(media_type_index, inner));
  const auto nested = [&] {
    auto files = s.layout();
    files.push_back({name_of(inner), '0', inner});
    files.push_back({name_of(outer), '0', outer});
    return tar(set(files, "index.json", index_of(described(media_type_index, outer))));
  };
  const std::string wrong_digest = "its bytes have the digest";
  std::string many;
  for (int i = 0; i < 501; ++i) many += std::string(i ? "," : "") + R"("l.tar")";
  const std::string size = R"("size":)" + std::to_string(s.layer.size());
  const std::string good = tar(s.layout());
  std::string checksum = good;
  checksum[150] ^= 1;

  const std::pair<std::string, std::string> rows[] = {
      {tar({{"etc/passwd", '0', "root"}}), "neither an OCI layout"},
      {tar({{"index.json", '0', "{}"}}), "neither an OCI layout"},
      {"", "unpack archive"},
      {good.substr(0, good.size() / 2), "runcated"},
      {good.substr(0, good.size() - 1024), "no end marker"},
      {checksum, "unpack archive"},
      {tar({{"../index.json", '0', "{}"}}), "leads upwards"},
      {tar({{std::string(5000, 'n'), '0', "x"}}), "a name of 5000 bytes"},
      {renamed(blobs + std::string(64, '0')), wrong_digest},
      {renamed("blobs/sha256/../../x"), "blob " + sha256(s.layer) + " is missing"},
      {renamed("BLOBS/sha256/x"), "blob " + sha256(s.layer) + " is missing"},
      {with("index.json", "not JSON"), "parse index"},
      {with("index.json", "[]"), "index"},
      {with("index.json", "{}"), "index.schemaVersion"},
      {with("index.json", std::string(5 << 20, ' ')), "at most 4194304 are read"},
      {indexed(""), "there is no image in it"},
      {indexed(described("text/plain", s.manifest)), "which is no image"},
      {indexed(described(media_type_manifest, s.layer)), "parse manifest"},
      {indexed(described(media_type_manifest, s.config)), "manifest.schemaVersion"},
      {indexed(self), "blob sha256:5555"},
      {with(blobs + std::string(64, '5'), self_index), wrong_digest},
      {nested(), "nested too deeply"},
      {sized(size, R"("size":7)"), "bytes, but 7 are announced"},
      {sized(size, R"("size":99999999)"), "bytes, but 99999999 are announced"},
      {configured("not JSON"), "parse image config"},
      {configured("[]"), "parse image config"},
      {configured(R"({"os":"linux","rootfs":{"type":"layers","diff_ids":[]}})"), "has 1 layers"},
      {configured(std::string(5 << 20, ' ')), "at most 4194304 are read"},
      {docker("{}"), "manifest.json: expected an array"},
      {docker("[7]"), "manifest.json[0]"},
      {docker("[]"), "there is no image in it"},
      {docker(R"([{"Config":"c.json","Layers":["../l.tar"]}])"), R"("../l.tar", which is missing)"},
      {docker(R"([{"Config":"/etc/passwd","Layers":[]}])"), R"("/etc/passwd", which is missing)"},
      {docker(R"([{"Config":"l.tar","Layers":["l.tar"]}])"), "parse image config"},
      {docker(R"([{"Config":"c.json","Layers":[]}])"), "has 0 layers"},
      {docker(R"([{"Config":"c.json","Layers":["a"]}])", {{"a", '2', "", "b"}, {"b", '2', "", "a"}}), "is missing"},
      {docker(R"([{"Config":"c.json","Layers":["a"]}])", {{"a", '2', "", "/etc/passwd"}}), "is missing"},
      {docker(R"([{"Config":"c.json","Layers":["a"]}])", {{"a", '2', "", "../../l.tar"}}), "is missing"},
      {docker(R"([{"Config":"c.json","Layers":[)" + many + "]}]"), "an image of 501 layers"},
  };
  for (const auto& [bytes, said] : rows) {
    fixture f;
    const std::string message = f.why(bytes, said == wrong_digest ? errc::conflict : errc::invalid);
    CAPTURE(message);
    CHECK(message.find(said) != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
  }
}

TEST_CASE("a blob of another digest is refused, and not kept") {
  fixture f;
  const sample s;
  auto files = s.layout();
  std::swap(files[0], files[3]);
  files.insert(files.begin(), {name_of(s.layer), '0', "other bytes"});
  CHECK(f.why(tar(files), errc::conflict).find(sha256(s.layer)) != std::string::npos);
  CHECK(f.store.blobs().empty());
}

TEST_CASE("a link may stand for a blob, if it leads to its bytes") {
  const sample s;
  const auto linked = [&](const std::string& bytes) {
    auto files = s.layout();
    files[0] = {name_of(s.layer), '2', "", "../../elsewhere"};
    files.push_back({"elsewhere", '0', bytes});
    return tar(files);
  };
  fixture f;
  CHECK(f.read(linked(s.layer)).size() == 1);
  CHECK(f.store.has_blob(sha256(s.layer)));
  fixture g;
  std::string other = s.layer;
  other[600] = '!';
  CHECK(g.why(linked(other), errc::conflict).find("its bytes have the digest") != std::string::npos);
}

TEST_CASE("an archive of very many files is stopped") {
  fixture f;
  auto [from, to] = make_pipe();
  std::thread writer([out = std::move(to)] {
    // Until nobody reads on: SIGPIPE would end the test.
    ::signal(SIGPIPE, SIG_IGN);
    std::string piece;
    try {
      for (int i = 0; i < 1'000'000; ++i) {
        piece += header({std::to_string(i), '2', "", "x"}, 0);
        if (piece.size() > 1 << 16) write_all(out.get(), std::exchange(piece, {}), "a pipe");
      }
    } catch (const error&) {}
  });
  errc answer{};
  try {
    (void)read_images(f.store, from.get(), host);
  } catch (const error& e) {
    answer = e.code();
  }
  from.reset();
  writer.join();
  CHECK(answer == errc::no_space);
}
