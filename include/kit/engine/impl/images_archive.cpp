// SPDX-License-Identifier: Apache-2.0
// The part of images.hpp that handles archives: linked into kit-image, never into kit.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <system_error>
#include <thread>

#include "kit/engine/bundle.hpp"
#include "kit/engine/clock.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/locks.hpp"
#include "kit/engine/open_layer.hpp"
#include "kit/image/archive.hpp"
#include "kit/image/reference.hpp"
#include "kit/image/store.hpp"
#include "kit/system/error.hpp"

namespace kit {
namespace {

/// GOARCH's word for this machine, as image configurations have it.
std::string architecture() {
  utsname name{};
  ::uname(&name);
  const std::string_view machine = name.machine;
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  return std::string(machine);
}

/// A layer under an id of its own that goes again unless it is published.
class attempt {
 public:
  attempt(any_storage& storage, std::vector<layer_id> parents)
      : storage_(storage), parents_(std::move(parents)), id_(random_id<layer_id>()) {
    in_step("create_layer", [&] { storage_.create(view(), {}); });
  }
  ~attempt() {
    if (!published_) try {
        in_step("remove_layer", [&] { storage_.remove(id_); });
      } catch (const std::exception& e) {
        this_call().log(log_level::warning, e.what());
      }
  }
  attempt(const attempt&) = delete;
  attempt& operator=(const attempt&) = delete;
  [[nodiscard]] layer view() const { return {id_, parents_}; }
  void rebase(std::vector<layer_id> parents) {
    parents_ = std::move(parents);
    in_step("rebase_layer", [&] { storage_.rebase(view()); });
  }
  /// Freezes it and offers it to the records; answers the layer that is the chain's from now on: this, or that of who
  /// was quicker.
  layer_id publish(engine& e, const std::string& driver, const std::string& chain_id) {
    in_step("freeze_layer", [&] { storage_.freeze(id_); });
    const layer_id winner = in_step("publish_unpacked", [&] {
      return e.records().publish_unpacked({driver, chain_id, id_});
    });
    published_ = winner == id_;
    return winner;
  }

 private:
  any_storage& storage_;
  std::vector<layer_id> parents_;
  layer_id id_;
  bool published_ = false;
};

/// Every container has something mounted at these names: where an image has none of them, each container would
/// first have to make them in its own layer. They stand in the unpacked copy of an image's first layer only; neither its
/// digest nor any `diff` or `commit` knows of them.
void make_mount_points(int root) {
  const auto within = [](const unique_fd& directory, auto make) {
    struct stat before {};
    if (::fstat(directory.get(), &before) != 0) fail_errno(errno, "stat a directory of the image");
    make(directory.get());
    const timespec times[] = {before.st_atim, before.st_mtim};
    if (::futimens(directory.get(), times) != 0) fail_errno(errno, "set the time of a directory of the image");
  };
  within(open_at(root, ".", O_RDONLY | O_DIRECTORY), [](int top) {
    for (const char* name : {"dev", "etc", "proc", "sys"}) {
      const bool made = ::mkdirat(top, name, 0755) == 0;
      if (made ? ::fchmodat(top, name, 0755, 0) != 0 : errno != EEXIST)
        fail_errno(errno, "make the mount point /{}", name);
    }
  });
  const unique_fd etc(::openat(root, "etc", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!etc) return;  // a link, or no directory: as the image has it
  within(etc, [](int directory) {
    for (const char* name : {"hostname", "hosts", "resolv.conf"}) {
      const unique_fd made(::openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
      if (!made && errno != EEXIST) fail_errno(errno, "make the mount point /etc/{}", name);
    }
  });
}

unpacked unpack_layer(const image_store& store, const std::string& digest, any_storage& driver, const layer& l) {
  const unique_fd root = open_layer(driver, l, access::read_write);
  unpacked done = unpack_archive(store.open_blob(digest).get(), root.get());
  if (l.parents.empty() && done.entries != 0) make_mount_points(root.get());
  return done;
}

/// Writes what is packed into a blob file as it comes.
template <class Pack>
std::pair<descriptor, packed> pack_to_blob(image_store& store, Pack pack) {
  unique_fd read_end, write_end;
  std::tie(read_end, write_end) = make_pipe();
  packed result;
  std::exception_ptr failure;
  std::thread packer([&, to = write_end.get()] {
    // A write that nobody reads any more is to fail, not to end the process.
    sigset_t broken_pipe;
    ::sigemptyset(&broken_pipe);
    ::sigaddset(&broken_pipe, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
    try {
      result = pack(to);
    } catch (...) {
      failure = std::current_exception();
    }
    write_end.reset();
  });
  descriptor blob;
  std::exception_ptr store_failure;
  try {
    blob = store.put_blob(read_end.get(), media_type_layer);
  } catch (...) {
    store_failure = std::current_exception();
    read_end.reset();  // the packer's next write fails
  }
  packer.join();
  // A store that failed is why the packer could not write on.
  if (store_failure) std::rethrow_exception(store_failure);
  if (failure) {
    store.remove_blob(blob.digest);
    std::rethrow_exception(failure);
  }
  return {blob, result};
}

/// When an image says it was made; 0 if that cannot be told.
std::int64_t created_ns(const image_config& config) {
  try {
    return config.created.empty() ? 0 : parse_rfc3339(config.created);
  } catch (const error&) {
    return 0;
  }
}

manifest_record row_of(const carried_image& i) {
  const image_config config = parse_image_config(i.config);
  manifest_record row{
      i.manifest.digest, i.contents.config.digest, i.config, {}, i.manifest.size + i.contents.config.size,
      created_ns(config)};
  const std::vector<std::string> chain = chain_ids(config.diff_ids);
  for (std::size_t n = 0; n < chain.size(); ++n) {
    const descriptor& l = i.contents.layers[n];
    row.layers.push_back({l.digest, config.diff_ids[n], chain[n], l.media_type, l.size});
    row.size += l.size;
  }
  return row;
}

/// An image whose layers are in the store gets its documents there.
carried_image make_image(image_store& store, std::vector<descriptor> layers, std::string config,
                         const std::string& name) {
  carried_image i;
  i.config = std::move(config);
  i.contents = {store.put_blob(i.config, media_type_config), std::move(layers)};
  i.manifest = store.put_blob(to_json(i.contents), media_type_manifest);
  if (!name.empty()) i.names = {name};
  return i;
}

event_record came_by(const char* action, const carried_image& i) {
  return {now_ns(), "image", action, i.manifest.digest, {{"name", i.names.empty() ? "" : i.names[0]}}};
}

/// Records images, and what brought them: all or none.
void publish(engine& e, const std::vector<carried_image>& images, const std::vector<event_record>& by) {
  records& records = e.records();
  records.durable(true);
  in_step("record_images", [&] {
    records.transaction([&] {
      for (const carried_image& i : images) {
        records.insert(row_of(i));
        for (const std::string& name : i.names) records.tag(name, i.manifest.digest);
      }
      for (const event_record& what : by) records.add(what);
    });
  });
  try {
    KIT_STEP(write_image_index(e));
  } catch (const error& x) {
    // The images are recorded, and that is what counts: the index is for others to read.
    if (x.code() != errc::no_space) throw;
    this_call().log(log_level::warning, fmt::format("{}; `kit system check` writes it when there is space", x.what()));
  }
}

/// The repository that a name without tag and digest stands for.
std::optional<std::string> repository(std::string_view text) {
  if (text.find('@') != std::string_view::npos || text.find(':', text.rfind('/') + 1) != std::string_view::npos)
    return std::nullopt;
  try {
    return reference::parse(text).name;
  } catch (const error&) {
    return std::nullopt;  // an id
  }
}

std::vector<std::string> words_of(std::string_view text, std::string_view line) {
  if (text.starts_with('[')) {
    const auto j = nlohmann::json::parse(text, nullptr, false);
    if (!j.is_array()) fail(errc::invalid, "invalid change '{}': malformed JSON list", line);
    try {
      return j.get<std::vector<std::string>>();
    } catch (const nlohmann::json::exception&) {
      fail(errc::invalid, "invalid change '{}': the list must hold strings", line);
    }
  }
  return {"/bin/sh", "-c", std::string(text)};
}

/// NAME=VALUE pairs, or "NAME rest of line".
std::vector<option> pairs_of(std::string_view text, std::string_view line) {
  std::vector<option> list;
  if (text.find('=') == std::string_view::npos) {
    const auto space = text.find(' ');
    if (space == std::string_view::npos) fail(errc::invalid, "invalid change '{}': write it as NAME=VALUE", line);
    return {{std::string(text.substr(0, space)), std::string(text.substr(space + 1))}};
  }
  while (!text.empty()) {
    const auto equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0)
      fail(errc::invalid, "invalid change '{}': write it as NAME=VALUE", line);
    option o{std::string(text.substr(0, equals)), ""};
    text.remove_prefix(equals + 1);
    char quote = 0;
    while (!text.empty() && (quote != 0 || text.front() != ' ')) {
      const char c = text.front();
      text.remove_prefix(1);
      if (quote == 0 && (c == '"' || c == '\''))
        quote = c;
      else if (c == quote)
        quote = 0;
      else
        o.value += c;
    }
    while (text.starts_with(' ')) text.remove_prefix(1);
    list.push_back(std::move(o));
  }
  return list;
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find(' ', at), text.size());
    if (end > at) words.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

/// Pauses a running container for the length of a scope.
class paused_while {
 public:
  paused_while(engine& e, const container_record& r, bool wanted)
      : e_(e), r_(r), on_(wanted && r.state == container_state::running) {
    if (on_) in_step("pause_container", [&] { e_.isolation(r_.isolation).pause(e_.as_container(r_)); });
  }
  ~paused_while() {
    if (on_) try {
        in_step("resume_container", [&] { e_.isolation(r_.isolation).resume(e_.as_container(r_)); });
      } catch (const std::exception& x) {
        this_call().log(log_level::warning, x.what());
      }
  }
  paused_while(const paused_while&) = delete;
  paused_while& operator=(const paused_while&) = delete;

 private:
  engine& e_;
  const container_record& r_;
  bool on_;
};

void check_digests(const manifest_record::layer& l, const unpacked& done) {
  if (done.digest != l.digest)
    fail(errc::conflict, "unpack layer {}: its blob is damaged: remove the image (kit rmi) and load it again",
         l.digest);
  if (done.diff_id != l.diff_id)
    fail(errc::invalid, "unpack layer {}: its contents have the digest {}, the image says {}", l.digest, done.diff_id,
         l.diff_id);
}

/// One call for work in parts, by one thread or several: they are stopped together, what they say comes one at a time,
/// and their progress is that of the whole.
class shared_call {
 public:
  /// `total`: bytes, of all parts.
  shared_call(std::size_t parts, std::uint64_t total) : done_(parts), total_(total) {}
  void stop() noexcept { stopped_ = true; }

  /// The context of a thread while it works on part `number`.
  class part : public call_context {
   public:
    part(shared_call& all, std::size_t number) : all_(all), number_(number) { deadline = all.outer_.deadline; }
    [[nodiscard]] bool cancelled() const noexcept override { return all_.stopped_ || all_.outer_.cancelled(); }
    void progress(std::uint64_t done, std::uint64_t total) noexcept override {
      if (total == 0) return;  // a driver that copies the layer below
      const std::lock_guard lock(all_.speaking_);
      all_.sum_ += done - std::exchange(all_.done_[number_], done);
      all_.outer_.progress(all_.sum_, all_.total_);
    }
    void log(log_level level, std::string_view line) noexcept override {
      const std::lock_guard lock(all_.speaking_);
      all_.outer_.log(level, line);
    }
    int step(std::string_view name, step_edge edge) noexcept override { return all_.outer_.step(name, edge); }

   private:
    shared_call& all_;
    std::size_t number_;
  };

 private:
  call_context& outer_ = this_call();
  std::mutex speaking_;
  std::vector<std::uint64_t> done_;  ///< by each part, bytes
  std::uint64_t sum_ = 0, total_;
  std::atomic<bool> stopped_ = false;
};

/// The layers of one image on their way into a driver that rebases: unpacked before those below them are there, by as
/// many threads as there are processors, and handed out one after the other.
class layers_unpacked_ahead {
 public:
  layers_unpacked_ahead(const image_store& store, any_storage& driver, std::span<const manifest_record::layer> layers,
                        bool with_base, shared_call& call)
      : store_(store),
        driver_(driver),
        deletions_(driver.deletions()),
        layers_(layers),
        with_base_(with_base),
        call_(call),
        arrivals_(layers.size()) {
    const std::size_t helpers = std::min<std::size_t>(std::thread::hardware_concurrency(), layers.size());
    for (std::size_t n = 1; n < helpers; ++n) try {
        threads_.emplace_back([this] {
          for (std::size_t i = 0; (i = next_++) < layers_.size();) unpack(i);
        });
      } catch (const std::system_error&) {
        break;  // a limit on processes: those that are there do the work
      }
  }
  ~layers_unpacked_ahead() {
    call_.stop();
    for (std::thread& t : threads_) t.join();
  }
  layers_unpacked_ahead(const layers_unpacked_ahead&) = delete;
  layers_unpacked_ahead& operator=(const layers_unpacked_ahead&) = delete;

  /// The n-th layer, over `parents`, ready to be published; none if it must be unpacked in sight of them. Throws what
  /// unpacking it threw. Called for each once, in their order.
  std::unique_ptr<attempt> take(std::size_t n, const std::vector<layer_id>& parents) {
    for (std::size_t i = 0; !arrived(n) && (i = next_++) < layers_.size();) unpack(i);
    std::unique_lock lock(arriving_);
    arrival_.wait(lock, [&] { return arrivals_[n].there; });
    arrival here = std::exchange(arrivals_[n], {});
    lock.unlock();
    if (here.failure) std::rethrow_exception(here.failure);
    if (!here.made || !here.alone) return std::move(here.made);
    const unique_fd below = open_layer(driver_, {parents.front(), std::span(parents).subspan(1)}, access::read_only);
    if (!in_step("complete_layer", [&] { return here.alone->complete(below.get()); })) return nullptr;
    here.alone.reset();  // nobody has the layer open any more
    here.made->rebase(parents);
    return std::move(here.made);
  }

 private:
  struct arrival {
    bool there = false;
    std::unique_ptr<attempt> made;
    std::unique_ptr<archive_unpacked_alone> alone;  ///< but not of the base, which stands over nothing
    std::exception_ptr failure;
  };

  bool arrived(std::size_t n) {
    const std::lock_guard lock(arriving_);
    return arrivals_[n].there;
  }

  void unpack(std::size_t n) {
    arrival here;
    try {
      shared_call::part call(call_, n);
      const call_scope scope(call);
      call.check();
      here = unpacked_alone(layers_[n], with_base_ && n == 0);
    } catch (...) {
      here.failure = std::current_exception();
    }
    here.there = true;
    const std::lock_guard lock(arriving_);
    arrivals_[n] = std::move(here);
    arrival_.notify_all();
  }

  arrival unpacked_alone(const manifest_record::layer& l, bool base) {
    arrival here;
    here.made = std::make_unique<attempt>(driver_, std::vector<layer_id>{});
    if (base) {
      check_digests(l, KIT_STEP(unpack_layer(store_, l.digest, driver_, here.made->view())));
      return here;
    }
    const unique_fd root = open_layer(driver_, here.made->view(), access::read_write);
    here.alone = std::make_unique<archive_unpacked_alone>(root.get(), deletions_);
    const auto done = in_step("unpack_layer", [&] { return here.alone->unpack(store_.open_blob(l.digest).get()); });
    if (!done) return {};
    check_digests(l, *done);
    return here;
  }

  const image_store& store_;
  any_storage& driver_;
  whiteouts deletions_;
  std::span<const manifest_record::layer> layers_;
  bool with_base_;
  shared_call& call_;
  std::mutex arriving_;
  std::condition_variable arrival_;
  std::vector<arrival> arrivals_;
  std::atomic<std::size_t> next_ = 0;
  std::vector<std::thread> threads_;
};

/// Unpacks what is missing of a chain of layers, and answers it, nearest first. The one place that asks whether a driver
/// rebases; in one that does not, each layer is unpacked into the view of those below it.
std::vector<layer_id> unpack_layers(engine& e, const std::vector<manifest_record::layer>& layers,
                                    const std::string& storage) {
  any_storage& driver = e.storage(storage);
  const image_store store(e.images_dir());
  std::vector<layer_id> chain;
  const auto known = [&] { return e.records().unpacked(storage, layers[chain.size()].chain_id); };
  for (; chain.size() < layers.size();) {
    const auto id = known();
    if (!id) break;
    chain.insert(chain.begin(), *id);
  }
  const std::size_t had = chain.size();
  const std::span missing = std::span(layers).subspan(had);
  const auto add_size = [](std::uint64_t sum, const manifest_record::layer& l) { return sum + l.size; };
  shared_call call(missing.size(), std::accumulate(missing.begin(), missing.end(), std::uint64_t{0}, add_size));
  std::optional<layers_unpacked_ahead> ahead;
  if (!missing.empty() && can(driver, storage_ability::rebases)) ahead.emplace(store, driver, missing, had == 0, call);
  for (std::size_t n = 0; n < missing.size(); ++n) {
    const auto& l = missing[n];
    std::unique_ptr<attempt> made;
    if (ahead) made = ahead->take(n, chain);
    auto id = known();  // by somebody who was quicker
    if (!id) {
      if (!made) {
        shared_call::part part(call, n);
        const call_scope scope(part);
        made = std::make_unique<attempt>(driver, chain);
        check_digests(l, KIT_STEP(unpack_layer(store, l.digest, driver, made->view())));
      }
      id = made->publish(e, storage, l.chain_id);
    }
    chain.insert(chain.begin(), *id);
  }
  return chain;
}

/// Layers that need no unpacking, because others brought their contents: that this blob, too, has them.
void verify_known(engine& e, const manifest_record& m, const std::string& storage) {
  std::set<std::pair<std::string, std::string>> seen;
  for (const image_record& i : e.records().images())
    if (const auto had = e.records().manifest(i.digest); had)
      for (const auto& l : had->layers) seen.insert({l.digest, l.diff_id});
  const image_store store(e.images_dir());
  for (const auto& l : m.layers)
    if (!seen.contains({l.digest, l.diff_id}) && e.records().unpacked(storage, l.chain_id))
      check_digests(l, digest_archive(store.open_blob(l.digest).get()));
}

void set_variable(image_config& config, std::string_view name, const std::string& assignment) {
  std::erase_if(config.env, [&](const std::string& had) { return had.substr(0, had.find('=')) == name; });
  config.env.push_back(assignment);
}

void set_label(image_config& config, const option& label) {
  std::erase_if(config.labels, [&](const option& had) { return had.key == label.key; });
  config.labels.push_back(label);
}

/// The image's configuration with what was asked for when the container was made: what `docker commit` keeps.
image_config as_run(image_config config, const container_spec& spec) {
  if (spec.entrypoint) {
    config.entrypoint =
        *spec.entrypoint == std::vector<std::string>{""} ? std::vector<std::string>{} : *spec.entrypoint;
    config.cmd = spec.command;
  } else if (!spec.command.empty()) {
    config.cmd = spec.command;
  }
  for (const std::string& variable : spec.env)
    set_variable(config, std::string_view(variable).substr(0, variable.find('=')), variable);
  for (const option& label : spec.labels) set_label(config, label);
  if (!spec.user.empty()) config.user = spec.user;
  if (!spec.workdir.empty()) config.working_dir = spec.workdir;
  if (!spec.stop_signal.empty()) config.stop_signal = spec.stop_signal;
  return config;
}

/// Runs `work` under the images' lock. If it throws, what it stored and nothing records goes.
template <class Work>
auto all_or_nothing(engine& e, Work work) {
  file_lock lock = lock_images(e);
  try {
    return work();
  } catch (...) {
    lock = file_lock();
    try {
      collect_unused(e);
    } catch (const std::exception& x) {
      this_call().log(log_level::warning, x.what());
    }
    throw;
  }
}

}  // namespace

std::vector<layer_id> unpack_image(engine& e, const image& i, const std::string& storage) {
  const auto lock = lock_images(e);
  return unpack_layers(e, i.manifest.layers, storage);
}

std::string import_image(engine& e, int from, std::string_view name, const std::vector<std::string>& changes,
                         std::string_view message) {
  const std::string reference_text = name.empty() ? "" : reference::parse(name).text();
  image_config config;
  config.architecture = architecture();
  config.os = "linux";
  for (const std::string& line : changes) apply_change(config, line);

  return all_or_nothing(e, [&] {
    image_store store(e.images_dir());
    const descriptor blob = in_step("put_layer", [&] { return store.put_blob(from, media_type_layer); });
    const std::string storage = e.config().storage;
    any_storage& driver = e.storage(storage);
    const std::vector<layer_id> no_parents;
    attempt a(driver, no_parents);
    const unpacked done = KIT_STEP(unpack_layer(store, blob.digest, driver, a.view()));
    if (done.entries == 0) fail(errc::invalid, "import: the archive is empty");
    config.created = rfc3339(now_ns());
    config.diff_ids = {done.diff_id};
    config.history = {{config.created, "", "", std::string(message.empty() ? "imported from -" : message), false}};
    const descriptor layer{std::string(layer_media_type(store, blob.digest)), blob.digest, blob.size};
    const carried_image i = KIT_STEP(make_image(store, {layer}, to_json(config), reference_text));
    a.publish(e, storage, done.diff_id);
    KIT_STEP(publish(e, {i}, {came_by("import", i)}));
    return i.manifest.digest;
  });
}

std::vector<loaded_image> load_images(engine& e, int from, std::string_view base_name) {
  struct stat st {};
  if (::fstat(from, &st) != 0) fail_errno(errno, "stat what is to be loaded");
  const platform host{"linux", architecture()};
  const std::string storage = e.config().storage;
  auto loaded = all_or_nothing(e, [&] {
    image_store store(e.images_dir());
    const auto images = in_step("read_images", [&] {
      return S_ISDIR(st.st_mode) ? read_layout(store, from, host, base_name)
                                 : read_images(store, from, host, base_name);
    });
    std::vector<loaded_image> answer;
    for (const carried_image& i : images) {
      const manifest_record row = row_of(i);
      verify_known(e, row, storage);
      unpack_layers(e, row.layers, storage);
      answer.push_back({i.manifest.digest, i.names});
    }
    std::vector<event_record> by;
    for (const carried_image& i : images) by.push_back(came_by("load", i));
    KIT_STEP(publish(e, images, by));
    return answer;
  });
  collect_unused(e);  // blobs for other platforms
  return loaded;
}

void save_images(engine& e, const std::vector<std::string>& references, exchange_format format, int to) {
  const auto lock = lock_images(e);
  const image_store store(e.images_dir());
  std::vector<carried_image> images;
  const auto add = [&](const image& found, const std::string& name) {
    const std::string& digest = found.manifest.digest;
    auto i = std::find_if(images.begin(), images.end(), [&](const auto& had) { return had.manifest.digest == digest; });
    if (i == images.end()) {
      i = images.insert(images.end(), carried_image{});
      i->manifest = {std::string(media_type_manifest), digest, store.blob_size(digest)};
      i->contents = parse_manifest(store.read_blob(digest));
      i->config = found.manifest.config;
    }
    if (!name.empty() && std::find(i->names.begin(), i->names.end(), name) == i->names.end()) i->names.push_back(name);
  };
  const auto all = e.records().images();
  for (const std::string& text : references) {
    bool family = false;
    if (const auto r = repository(text); r)
      for (const image_record& known : all)
        if (!known.reference.empty() && reference::parse(known.reference).name == *r) {
          add(find_image(e, known.reference), known.reference);
          family = true;
        }
    if (family) continue;
    const image found = find_image(e, text);
    const bool by_name = !text.starts_with("sha256:") && !found.manifest.digest.substr(7).starts_with(text);
    add(found, by_name ? found.record.reference : "");
  }
  KIT_STEP(write_images(store, images, format, to));
}

void export_container(engine& e, const container_id& id, int to) {
  const container_record r = current(e, e.records().container(id.text()));
  if (r.state == container_state::removing) fail(errc::conflict, "export {}: it is being removed", r.name);
  const unique_fd root = open_layer(e.storage(r.storage), layer{layer_id::from(id.text()), r.chain}, access::live);
  KIT_STEP(pack_archive(root.get(), to));
}

std::string commit(engine& e, const container_id& id, const commit_options& options) {
  const std::string reference_text = options.reference.empty() ? "" : reference::parse(options.reference).text();
  const container_record r = current(e, e.records().container(id.text()));
  if (r.state == container_state::removing) fail(errc::conflict, "commit {}: it is being removed", r.name);
  const image base = find_image(e, r.image_digest);
  const container_spec spec = spec_from_json(r.spec);
  image_config config = as_run(base.config, spec);
  for (const std::string& line : options.changes) apply_change(config, line);

  return all_or_nothing(e, [&] {
    any_storage& driver = e.storage(r.storage);
    image_store store(e.images_dir());
    const layer l{layer_id::from(id.text()), r.chain};
    std::vector<descriptor> layers;
    for (const auto& had : base.manifest.layers) layers.push_back({had.media_type, had.digest, had.size});
    bool changed = false;
    {
      const auto lock = lock_container(e, id);
      const paused_while still(e, r, options.pause);
      const std::vector<change> list = KIT_STEP(diff(e, id));
      changed = !list.empty();
      if (changed) {
        const unique_fd root = open_layer(driver, l, access::live);
        const auto [blob, contents] = in_step("pack_changes", [&] {
          return pack_to_blob(store, [&](int to) { return pack_changes(root.get(), list, to); });
        });
        config.diff_ids.push_back(contents.diff_id);
        layers.push_back(blob);
      }
    }
    config.created = rfc3339(now_ns());
    std::string created_by;
    for (const std::string& word : program_of(spec, base.config)) created_by += (created_by.empty() ? "" : " ") + word;
    if (!options.author.empty()) config.author = options.author;
    config.history.push_back({config.created, created_by, options.author, options.message, !changed});
    const carried_image i =
        KIT_STEP(make_image(store, std::move(layers), to_json(config, base.manifest.config), reference_text));
    const event_record by{
        now_ns(), "container", "commit", id.str(), {{"imageID", i.manifest.digest}, {"imageRef", reference_text}}};
    KIT_STEP(publish(e, {i}, {by}));
    return i.manifest.digest;
  });
}

void apply_change(image_config& config, std::string_view line) {
  const auto space = line.find(' ');
  std::string verb(line.substr(0, space));
  for (char& c : verb) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  std::string_view rest = space == std::string_view::npos ? "" : line.substr(space + 1);
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  if (rest.empty()) fail(errc::invalid, "invalid change '{}': {} needs an argument", line, verb);
  if (verb == "CMD") {
    config.cmd = words_of(rest, line);
  } else if (verb == "ENTRYPOINT") {
    config.entrypoint = words_of(rest, line);
  } else if (verb == "ENV") {
    for (const option& o : pairs_of(rest, line)) set_variable(config, o.key, o.key + "=" + o.value);
  } else if (verb == "LABEL") {
    for (const option& o : pairs_of(rest, line)) set_label(config, o);
  } else if (verb == "EXPOSE") {
    for (std::string port : split_words(rest)) {
      if (port.find('/') == std::string::npos) port += "/tcp";
      config.exposed_ports.push_back(port);
    }
  } else if (verb == "VOLUME") {
    const auto list = rest.starts_with('[') ? words_of(rest, line) : split_words(rest);
    config.volumes.insert(config.volumes.end(), list.begin(), list.end());
  } else if (verb == "USER") {
    config.user = rest;
  } else if (verb == "WORKDIR") {
    if (rest[0] != '/') fail(errc::invalid, "invalid change '{}': the directory must be absolute", line);
    config.working_dir = rest;
  } else if (verb == "STOPSIGNAL") {
    parse_signal(rest);
    config.stop_signal = rest;
  } else {
    fail(errc::invalid,
         "invalid change '{}': {} is not one of CMD ENTRYPOINT ENV EXPOSE LABEL STOPSIGNAL USER VOLUME WORKDIR", line,
         verb);
  }
}

}  // namespace kit
