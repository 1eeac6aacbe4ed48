// SPDX-License-Identifier: Apache-2.0
#include "kit/image/exchange.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <climits>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>
#include <variant>

#include "digest_text.hpp"
#include "kit/driver.hpp"
#include "kit/image/archive.hpp"
#include "kit/image/reference.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"
#include "tar_reader.hpp"
#include "tar_writer.hpp"

namespace kit {
namespace {

constexpr std::uint64_t document_limit = std::uint64_t{4} << 20;
constexpr std::size_t layer_limit = 500;  // of overlayfs
constexpr int index_limit = 2;            // an index of images for several platforms, within that of the layout
constexpr int link_limit = 8;
constexpr std::string_view blob_directory = "blobs/sha256/";

std::string blob_name(std::string_view digest) {
  return std::string(blob_directory) + std::string(digest.substr(detail::digest_prefix.size()));
}

/// The digest that a file's name claims its bytes have; "" if it claims none.
std::string claimed_digest(std::string_view name) {
  if (!name.starts_with(blob_directory)) return {};
  std::string digest = std::string(detail::digest_prefix) + std::string(name.substr(blob_directory.size()));
  return detail::valid_digest(digest) ? digest : std::string();
}

/// "a/./b" and "a/c/../b" as "a/b"; nothing for what leads out. No file is asked: names in an archive only.
std::optional<std::string> plain_name(std::string_view text) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const auto slash = std::min(text.find('/'), text.size());
    const std::string_view part = text.substr(0, slash);
    text.remove_prefix(std::min(slash + 1, text.size()));
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else {
      if (parts.empty()) return std::nullopt;
      parts.pop_back();
    }
  }
  std::string name;
  for (const std::string_view part : parts) name.append(name.empty() ? "" : "/").append(part);
  return name;
}

/// Files by name, brought into the store when they are asked for at the latest.
class image_files {
 public:
  explicit image_files(image_store& store) : store_(store) {}
  virtual ~image_files() = default;
  image_files(const image_files&) = delete;
  image_files& operator=(const image_files&) = delete;

  [[nodiscard]] image_store& store() const { return store_; }
  /// Nothing if there is none of this name.
  virtual std::optional<descriptor> file(const std::string& name) = 0;
  /// One of index.json, manifest.json, oci-layout.
  virtual std::optional<std::string> table(const std::string& name) = 0;

  /// The blob that a document names, in the store.
  descriptor blob(const descriptor& wanted) {
    const auto found = file(blob_name(wanted.digest));
    if (!found) fail(errc::invalid, "load images: blob {} is missing", wanted.digest);
    if (found->digest != wanted.digest)  // a link in its place
      fail(errc::conflict, "load images: blob {}: its bytes have the digest {}", wanted.digest, found->digest);
    if (found->size != wanted.size)
      fail(errc::invalid, "load images: blob {} has {} bytes, but {} are announced", wanted.digest, found->size,
           wanted.size);
    return {wanted.media_type, wanted.digest, wanted.size};
  }
  /// The text of a file in the store.
  [[nodiscard]] std::string text(const descriptor& d) const {
    check_document(d.digest, d.size);
    return store_.read_blob(d.digest);
  }

 protected:
  static void check_document(std::string_view name, std::uint64_t size) {
    if (size > document_limit)
      fail(errc::invalid, "load images: {} is a document of {} bytes; at most {} are read", name, size, document_limit);
  }
  static bool is_table(std::string_view name) {
    return name == "index.json" || name == "manifest.json" || name == "oci-layout";
  }

 private:
  image_store& store_;
};

class archive_files final : public image_files {
 public:
  archive_files(image_store& store, int from) : image_files(store) {
    const detail::utf8_scope utf8;
    const unpack_limits limits;
    detail::blob_stream stream(from, limits, detail::blob_stream::digested::no);
    detail::tar_reader tar(stream);
    while (archive_entry* e = tar.next()) {
      this_call().check();
      this_call().progress(stream.read(), stream.size());
      if (files_.size() + tables_.size() > entry_limit)
        fail(errc::no_space, "load images: the archive has more than {} files", entry_limit);
      const char* given = ::archive_entry_pathname(e);
      const auto name = plain_name(given != nullptr ? given : "");
      if (!name) fail(errc::invalid, "load images: entry \"{:.200}\": a name leads upwards", given);
      if (name->size() > PATH_MAX) fail(errc::invalid, "load images: a name of {} bytes", name->size());
      add(*name, e, tar, stream);
    }
  }

  std::optional<descriptor> file(const std::string& name) override {
    std::optional<std::string> at = plain_name(name);
    for (int links = 0; at && links < link_limit; ++links) {
      const auto found = files_.find(*at);
      if (found == files_.end()) return std::nullopt;
      if (const auto* d = std::get_if<descriptor>(&found->second)) return *d;
      at = plain_name(std::get<std::string>(found->second));
    }
    return std::nullopt;
  }

  std::optional<std::string> table(const std::string& name) override {
    const auto found = tables_.find(name);
    return found == tables_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  static constexpr std::size_t entry_limit = 100'000;

  void add(const std::string& name, archive_entry* e, detail::tar_reader& tar, const detail::blob_stream& stream) {
    if (const char* target = ::archive_entry_hardlink(e); target != nullptr) {
      files_[name] = std::string(target);
      return;
    }
    if (::archive_entry_filetype(e) == AE_IFLNK) {
      const char* target = ::archive_entry_symlink(e);
      files_[name] = name.substr(0, name.rfind('/') + 1) + (target != nullptr ? target : "");
      return;
    }
    if (::archive_entry_filetype(e) != AE_IFREG) return;

    std::uint64_t read = 0;
    const auto next = [&]() -> std::string_view {
      std::string_view bytes;
      std::int64_t offset = 0;
      do {
        if (!tar.data(bytes, offset)) return {};
      } while (bytes.empty());
      if (offset < 0 || static_cast<std::uint64_t>(offset) != read)
        fail(errc::invalid, "load images: entry \"{:.200}\" is a sparse file", name);
      read += bytes.size();
      this_call().check();
      this_call().progress(stream.read(), stream.size());
      return bytes;
    };
    if (is_table(name)) {
      std::string& text = tables_[name];
      text.clear();
      for (std::string_view piece = next(); !piece.empty(); piece = next()) {
        check_document(name, text.size() + piece.size());
        text += piece;
      }
      return;
    }
    const std::string digest = claimed_digest(name);
    if (!digest.empty() && store().has_blob(digest)) {
      files_[name] = descriptor{{}, digest, store().blob_size(digest)};
    } else {
      files_[name] = store().put_blob(next, {}, digest);
    }
  }

  std::unordered_map<std::string, std::variant<descriptor, std::string>> files_;  ///< or where a link leads
  std::map<std::string, std::string> tables_;
};

class directory_files final : public image_files {
 public:
  directory_files(image_store& store, int directory) : image_files(store), directory_(directory) {}

  std::optional<descriptor> file(const std::string& name) override {
    const std::string digest = claimed_digest(name);
    if (digest.empty()) return std::nullopt;
    if (store().has_blob(digest)) return descriptor{{}, digest, store().blob_size(digest)};
    const unique_fd fd = open(name);
    if (!fd) return std::nullopt;
    return store().put_blob(fd.get(), {}, digest);
  }

  std::optional<std::string> table(const std::string& name) override {
    const unique_fd fd = open(name);
    if (!fd) return std::nullopt;
    struct stat st {};
    if (::fstat(fd.get(), &st) != 0) fail_errno(errno, "stat {}", name);
    check_document(name, static_cast<std::uint64_t>(st.st_size));
    return read_all(fd.get(), name);
  }

 private:
  /// Regular files only: opening a fifo would wait for its writer.
  [[nodiscard]] unique_fd open(const std::string& name) const {
    unique_fd fd(try_open_in_root(directory_, name.c_str(), O_RDONLY | O_NONBLOCK));
    if (!fd) {
      if (errno == ENOENT) return {};
      fail_errno(errno, "load images: open {}", name);
    }
    struct stat st {};
    if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode))
      fail(errc::invalid, "load images: {} is not a regular file", name);
    return fd;
  }

  int directory_;
};

// ---- from documents to images ----------------------------------------------------------------------

bool is_index(const descriptor& d) {
  return d.media_type == media_type_index || d.media_type == media_type_docker_index;
}

std::string platform_text(const index_entry& e) {
  std::string text = (e.os.empty() ? "unknown" : e.os) + '/' + (e.architecture.empty() ? "unknown" : e.architecture);
  return e.variant.empty() ? text : text + '/' + e.variant;
}

/// Those that the host can run. An entry that names no platform may be for any.
std::vector<index_entry> fitting(const std::vector<index_entry>& entries, const platform& host) {
  std::vector<index_entry> fit;
  for (const index_entry& e : entries)
    if ((e.os.empty() && e.architecture.empty()) || (e.os == host.os && e.architecture == host.architecture))
      fit.push_back(e);
  // The plainest first: a variant asks for more of the processor.
  std::stable_sort(fit.begin(), fit.end(),
                   [](const index_entry& a, const index_entry& b) { return a.variant.empty() && !b.variant.empty(); });
  return fit;
}

[[noreturn]] void refuse_platforms(const std::vector<index_entry>& entries, const platform& host) {
  std::set<std::string> there;
  for (const index_entry& e : entries) there.insert(platform_text(e));
  std::string list;
  for (const std::string& p : there) list += (list.empty() ? "" : ", ") + p;
  fail(errc::not_found, "load images: no image for {}/{}: there are {}", host.os, host.architecture,
       list.empty() ? "none" : list);
}

/// A reference as the records keep it; "" and a warning if it is none.
std::string normal_name(const std::string& text) {
  try {
    const reference r = reference::parse(text);
    if (r.digest.empty()) return r.text();
    this_call().log(log_level::warning, fmt::format("an image's name {:.200} has a digest: left out", text));
  } catch (const error& e) {
    this_call().log(log_level::warning, fmt::format("an image's name is left out: {:.300}", e.what()));
  }
  return {};
}

std::string name_of(const index_entry& e, std::string_view base_name) {
  if (!e.image_name.empty()) return normal_name(e.image_name);
  if (e.reference.empty()) return {};
  if (e.reference.find_first_of(":/") != std::string::npos) return normal_name(e.reference);
  return base_name.empty() ? std::string() : normal_name(std::string(base_name) + ':' + e.reference);
}

class image_reader {
 public:
  image_reader(image_files& files, const platform& host) : files_(files), host_(host) {}

  void layout(const std::string& index_json, std::string_view base_name) {
    std::map<std::string, std::vector<index_entry>> by_name;
    std::vector<std::string> order;
    for (const index_entry& e : parse_index(index_json)) {
      const std::string name = name_of(e, base_name);
      auto& group = by_name[name];
      if (group.empty()) order.push_back(name);
      group.push_back(e);
    }
    for (const std::string& name : order) {
      const auto& group = by_name[name];
      if (group.size() == 1) {
        add(resolve(group.front(), 1), name);
        continue;
      }
      auto fit = fitting(group, host_);
      if (fit.empty()) refuse_platforms(group, host_);
      // One name means one image; without names each is one.
      if (!name.empty()) fit.resize(1);
      for (const index_entry& e : fit) add(resolve(e, 1), name);
    }
  }

  void docker(const std::string& manifest_json) {
    for (const docker_manifest& m : parse_docker_manifests(manifest_json)) {
      const auto named = [&](const std::string& name) {
        const auto found = files_.file(name);
        if (!found) fail(errc::invalid, "load images: manifest.json names \"{:.200}\", which is missing", name);
        return *found;
      };
      image_manifest contents;
      contents.config = named(m.config);
      if (m.layers.size() > layer_limit) refuse_layers(m.layers.size());
      for (const std::string& layer : m.layers) contents.layers.push_back(named(layer));
      carried_image image = stored(std::move(contents));
      if (m.names.empty()) add(image, {});
      for (const std::string& name : m.names) add(image, normal_name(name));
    }
  }

  std::vector<carried_image> take() {
    if (images_.empty()) fail(errc::invalid, "load images: there is no image in it");
    return std::move(images_);
  }

 private:
  [[noreturn]] static void refuse_layers(std::size_t count) {
    fail(errc::invalid, "load images: an image of {} layers; at most {} can be stacked", count, layer_limit);
  }

  carried_image resolve(const index_entry& e, int depth) {
    if (is_index(e.manifest)) {
      if (depth >= index_limit) fail(errc::invalid, "load images: index {} is nested too deeply", e.manifest.digest);
      const auto entries = parse_index(files_.text(files_.blob(e.manifest)));
      const auto fit = fitting(entries, host_);
      if (fit.empty()) refuse_platforms(entries, host_);
      return resolve(fit.front(), depth + 1);
    }
    const bool docker = e.manifest.media_type == media_type_docker_manifest;
    if (!docker && e.manifest.media_type != media_type_manifest)
      fail(errc::invalid, "load images: {} is of type \"{:.100}\", which is no image", e.manifest.digest,
           e.manifest.media_type);
    carried_image image;
    image.manifest = files_.blob(e.manifest);
    image.contents = parse_manifest(files_.text(image.manifest));
    if (image.contents.layers.size() > layer_limit) refuse_layers(image.contents.layers.size());
    (void)files_.blob(image.contents.config);
    for (const descriptor& l : image.contents.layers) (void)files_.blob(l);
    if (docker) return stored(std::move(image.contents));
    return checked(std::move(image));
  }

  /// An image whose blobs are stored, under a manifest of OCI's words.
  carried_image stored(image_manifest contents) {
    contents.config.media_type = media_type_config;
    for (descriptor& l : contents.layers) l.media_type = layer_media_type(files_.store(), l.digest);
    carried_image image;
    image.contents = std::move(contents);
    image = checked(std::move(image));
    image.manifest = files_.store().put_blob(to_json(image.contents), media_type_manifest);
    return image;
  }

  carried_image checked(carried_image image) const {
    image.config = files_.text(image.contents.config);
    const image_config config = parse_image_config(image.config);
    if (config.diff_ids.size() != image.contents.layers.size())
      fail(errc::invalid, "load images: an image has {} layers, but its configuration {} names {}",
           image.contents.layers.size(), image.contents.config.digest, config.diff_ids.size());
    if (!config.os.empty() && config.os != host_.os)
      fail(errc::not_found, "load images: no image for {}/{}: there is {}/{}", host_.os, host_.architecture, config.os,
           config.architecture);
    if (!config.architecture.empty() && config.architecture != host_.architecture)
      this_call().log(log_level::warning, fmt::format("an image is for {:.100}, and this host is {}",
                                                      config.architecture, host_.architecture));
    return image;
  }

  void add(carried_image image, const std::string& name) {
    auto same = std::find_if(images_.begin(), images_.end(),
                             [&](const carried_image& had) { return had.manifest.digest == image.manifest.digest; });
    if (same == images_.end()) same = images_.insert(images_.end(), std::move(image));
    if (!name.empty() && std::find(same->names.begin(), same->names.end(), name) == same->names.end())
      same->names.push_back(name);
  }

  image_files& files_;
  const platform& host_;
  std::vector<carried_image> images_;
};

std::vector<carried_image> read(image_files& files, const platform& host, std::string_view base_name) {
  image_reader reader(files, host);
  if (const auto index = files.table("index.json"); index && files.table("oci-layout"))
    reader.layout(*index, base_name);
  else if (const auto manifest = files.table("manifest.json"); manifest)
    reader.docker(*manifest);
  else
    fail(errc::invalid,
         "load images: neither an OCI layout (oci-layout, index.json) nor a docker-archive "
         "(manifest.json); a root file system is taken by kit import");
  return reader.take();
}

// ---- writing ---------------------------------------------------------------------------------------

class image_writer {
 public:
  image_writer(const image_store& store, int to) : store_(store), tar_(to) {}

  void directory(const std::string& name) {
    const auto e = entry(name, AE_IFDIR, 0755);
    tar_.header(e.get());
  }
  void file(const std::string& name, std::string_view text) {
    const auto e = entry(name, AE_IFREG, 0644);
    ::archive_entry_set_size(e.get(), static_cast<la_int64_t>(text.size()));
    tar_.header(e.get());
    tar_.data(text.data(), text.size());
  }
  void blob(const std::string& digest) {
    const unique_fd from = store_.open_blob(digest);
    const std::uint64_t size = store_.blob_size(digest);
    const auto e = entry(blob_name(digest), AE_IFREG, 0644);
    ::archive_entry_set_size(e.get(), static_cast<la_int64_t>(size));
    tar_.header(e.get());
    detail::sha256_stream seen;
    for (std::uint64_t at = 0; at < size;) {
      this_call().check();
      const ssize_t n = ::read(from.get(), buffer_.data(), std::min<std::uint64_t>(buffer_.size(), size - at));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail_errno(errno, "read blob {}", digest);
      if (n == 0) break;
      seen.add(buffer_.data(), static_cast<std::size_t>(n));
      tar_.data(buffer_.data(), static_cast<std::size_t>(n));
      at += static_cast<std::uint64_t>(n);
      written_ += static_cast<std::uint64_t>(n);
      this_call().progress(written_, total);
    }
    if (seen.finish() != digest)
      fail(errc::conflict, "save images: blob {} is damaged: remove the image (kit rmi) and load it again", digest);
  }
  void finish() { tar_.finish(); }

  std::uint64_t total = 0;

 private:
  static detail::archive_entry_ptr entry(const std::string& name, unsigned type, unsigned mode) {
    auto e = detail::new_entry(name);
    ::archive_entry_set_filetype(e.get(), type);
    ::archive_entry_set_perm(e.get(), static_cast<mode_t>(mode));
    ::archive_entry_set_mtime(e.get(), 0, 0);
    ::archive_entry_set_size(e.get(), 0);
    return e;
  }

  const image_store& store_;
  detail::tar_writer tar_;
  std::vector<char> buffer_ = std::vector<char>(std::size_t{256} * 1024);
  std::uint64_t written_ = 0;
};

/// What an image is called in the two annotations: the name in full, and, for tools that pick by it, its tag.
std::pair<std::string, std::string> annotations_of(const std::string& name) {
  const reference r = reference::parse(name);
  return {r.name + ':' + r.tag, r.tag};
}

}  // namespace

std::vector<carried_image> read_images(image_store& store, int from, const platform& host, std::string_view base_name) {
  archive_files files(store, from);
  return read(files, host, base_name);
}

std::vector<carried_image> read_layout(image_store& store, int directory, const platform& host,
                                       std::string_view base_name) {
  directory_files files(store, directory);
  return read(files, host, base_name);
}

void write_images(const image_store& store, const std::vector<carried_image>& images, exchange_format format, int to) {
  const detail::utf8_scope utf8;
  std::vector<index_entry> index;
  std::vector<docker_manifest> table;
  std::map<std::string, std::uint64_t> blobs;
  for (const carried_image& i : images) {
    const image_config config = parse_image_config(i.config);
    index_entry e{i.manifest, {}, config.os, config.architecture, {}, {}};
    if (i.names.empty()) index.push_back(e);
    for (const std::string& name : i.names) {
      std::tie(e.image_name, e.reference) = annotations_of(name);
      index.push_back(e);
    }
    docker_manifest m{blob_name(i.contents.config.digest), i.names, {}};
    blobs[i.manifest.digest] = i.manifest.size;
    blobs[i.contents.config.digest] = i.contents.config.size;
    for (const descriptor& l : i.contents.layers) {
      m.layers.push_back(blob_name(l.digest));
      blobs[l.digest] = l.size;
    }
    table.push_back(std::move(m));
  }

  image_writer out(store, to);
  for (const auto& [digest, size] : blobs) out.total += size;
  out.file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  out.file("index.json", to_json(index));
  if (format == exchange_format::docker) out.file("manifest.json", to_json(table));
  out.directory("blobs/");
  out.directory("blobs/sha256/");
  for (const auto& [digest, size] : blobs) out.blob(digest);
  out.finish();
}

std::string_view layer_media_type(const image_store& store, std::string_view digest) {
  unsigned char head[4] = {};
  const unique_fd fd = store.open_blob(digest);
  const ssize_t n = ::pread(fd.get(), head, sizeof head, 0);
  if (n >= 2 && head[0] == 0x1f && head[1] == 0x8b) return media_type_layer_gzip;
  if (n == 4 && head[0] == 0x28 && head[1] == 0xb5 && head[2] == 0x2f && head[3] == 0xfd) return media_type_layer_zstd;
  return media_type_layer;
}

}  // namespace kit
