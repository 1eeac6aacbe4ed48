// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>

#include "kit/engine/copy.hpp"
#include "kit/engine/images.hpp"
#include "kit/engine/lifecycle.hpp"
#include "kit/engine/logs.hpp"
#include "kit/image/reference.hpp"
#include "kit/system/nameless_file.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {

const char* const program_name = "image";

namespace {

/// While it lives, SIGINT, SIGTERM and SIGHUP ask the work to stop and clean up behind itself, instead of
/// ending the process where it stands, and a terminal on stderr is told how far the work is, if it takes a while. Other
/// words go to the context around it.
class interruptible : public call_context {
 public:
  /// `doing`: "Loading"; null for work that shows no progress.
  explicit interruptible(const char* doing = nullptr)
      : doing_(::isatty(STDERR_FILENO) ? doing : nullptr), outer_(this_call()), scope_(*this) {
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = 1; };
    for (int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  }
  ~interruptible() override {
    wipe();
    for (int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_DFL);
  }
  [[nodiscard]] bool cancelled() const noexcept override { return interrupted != 0; }
  void progress(std::uint64_t done, std::uint64_t total) noexcept override {
    const char* const doing = doing_;
    if (doing == nullptr) return;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(100);
    try {
      const std::string of = total == 0 ? "" : fmt::format(" / {}", human_size(total));
      fmt::print(stderr, "\r\033[K{} {}{}", doing, human_size(done), of);
      shown_ = true;
    } catch (...) {  // a bar that cannot be drawn is no reason to stop
    }
  }
  void log(log_level level, std::string_view line) noexcept override {
    wipe();
    outer_.log(level, line);
  }
  int step(std::string_view name, step_edge edge) noexcept override {
    if (name == "unpack_layer" && doing_ != nullptr) doing_ = "Unpacking";
    return outer_.step(name, edge);
  }

 private:
  void wipe() noexcept {
    if (shown_) std::fputs("\r\033[K", stderr);
    shown_ = false;
  }

  static inline volatile std::sig_atomic_t interrupted = 0;
  std::atomic<const char*> doing_;  ///< layers are unpacked by several threads
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
  bool shown_ = false;
  call_context& outer_;
  call_scope scope_;
};

/// Where an archive goes: to stdout, which must be no terminal, or to a file that appears once it is whole.
class archive_target {
 public:
  archive_target(const std::string& command, std::string path) : path_(std::move(path)) {
    if (path_.empty()) {
      if (::isatty(STDOUT_FILENO))
        throw usage_error(command, "stdout is a terminal: name a file with -o, or redirect the output");
      return;
    }
    struct stat st {};
    if (::stat(path_.c_str(), &st) == 0 && !S_ISREG(st.st_mode)) {
      if (S_ISDIR(st.st_mode)) fail(errc::invalid, "write {}: it is a directory", path_);
      file_ = open_file(path_, O_WRONLY);
      return;
    }
    const std::size_t slash = path_.rfind('/');
    fresh_.emplace(slash == path_.npos ? "." : path_.substr(0, slash + 1), 0600);
  }

  [[nodiscard]] int get() const { return fresh_ ? fresh_->get() : file_ ? file_.get() : STDOUT_FILENO; }
  void finish() {
    if (fresh_) fresh_->replace(path_);
  }

 private:
  std::string path_;
  unique_fd file_;
  std::optional<nameless_file> fresh_;
};

/// What a layout's tags belong to if it does not say: the name of the file, without what tells its kind.
std::string base_name(const std::string& path) {
  std::string name = path.substr(0, path.find_last_not_of('/') + 1);
  name.erase(0, name.rfind('/') + 1);
  for (bool cut = true; cut;) {
    cut = false;
    for (const std::string_view kind : {".tar", ".tgz", ".gz", ".zst", ".oci"})
      if (name.size() > kind.size() && name.ends_with(kind)) name.resize(name.size() - kind.size()), cut = true;
  }
  try {
    (void)reference::parse(name + ":tag");
    return name;
  } catch (const error&) {
    return {};
  }
}

}  // namespace

int image_import(invocation& call) {
  std::vector<std::string> changes;
  std::string message;
  const arguments words =
      options(call.command(), "FILE|- [NAME[:TAG]]",
              "Make an image of one layer from the archive of a root file system: tar, plain or compressed by gzip or\n"
              "zstd; - reads it from stdin. Prints the image's digest.")
          .values("-c,--change", changes, "LINE",
                  "A line as in a Dockerfile: 'CMD [\"sh\"]', 'ENV A=b', 'WORKDIR /srv'")
          .value("-m,--message", message, "TEXT", "Kept in the image's history")
          .takes(1, 2)
          .example("tar -C rootfs -c . | kit import - debian:12")
          .example("kit import -c 'CMD [\"bash\"]' rootfs.tar.zst debian:12")
          .parse(call.words);
  unique_fd file;
  if (words[0] != "-") file = open_file(words[0], O_RDONLY);
  if (!file && ::isatty(STDIN_FILENO))
    throw usage_error(call.command(), "stdin is a terminal; an archive is expected there");
  interruptible scope("Importing");
  fmt::print("{}\n", import_image(call.engine(), file ? file.get() : STDIN_FILENO, words.size() > 1 ? words[1] : "",
                                  changes, message));
  return 0;
}

int image_load(invocation& call) {
  std::string input;
  bool quiet = false;
  options(
      call.command(), "",
      "Take over the images of an archive: of an OCI layout, or a docker-archive, as skopeo, umoci, podman and Docker\n"
      "write them; plain or compressed by gzip or zstd. Of an image for several platforms, this host's is taken.")
      .value("-i,--input", input, "FILE", "Read from FILE, or from an OCI layout's directory, instead of stdin")
      .flag("-q,--quiet", quiet, "Show no progress")
      .example("kit load -i debian.tar")
      .example("skopeo copy docker://debian:12 oci:layout:12 && kit load -i layout")
      .example("docker save debian:12 | kit load")
      .parse(call.words);
  unique_fd file;
  if (!input.empty() && input != "-") file = open_file(input, O_RDONLY);
  if (!file && ::isatty(STDIN_FILENO))
    throw usage_error(call.command(), "stdin is a terminal: name a file with -i, or redirect the input");
  std::vector<loaded_image> loaded;
  {
    interruptible scope(quiet ? nullptr : "Loading");
    loaded = load_images(call.engine(), file ? file.get() : STDIN_FILENO, file ? base_name(input) : "");
  }
  for (const loaded_image& i : loaded) {
    if (i.names.empty()) fmt::print("Loaded image ID: {}\n", i.digest);
    for (const std::string& name : i.names) fmt::print("Loaded image: {}\n", name);
  }
  return 0;
}

int image_save(invocation& call) {
  std::string output, format = "docker";
  const arguments words =
      options(
          call.command(), "IMAGE [IMAGE...]",
          "Write images as one archive to stdout: an OCI layout and a docker-archive in one, for kit load, skopeo,\n"
          "podman and Docker. A name without a tag stands for all its tags.")
          .value("-o,--output", output, "FILE", "Write to FILE, which appears once it is whole")
          .value("--format", format, "FORMAT", "docker (both), or oci: the layout alone")
          .takes(1)
          .example("kit save -o debian.tar debian:12")
          .example("kit save debian:12 | ssh host kit load")
          .parse(call.words);
  if (format != "docker" && format != "oci")
    throw usage_error(call.command(), fmt::format("--format \"{}\": docker or oci is expected", format));
  archive_target to(call.command(), output);
  interruptible scope("Saving");
  save_images(call.engine(), words, format == "oci" ? exchange_format::oci : exchange_format::docker, to.get());
  KIT_STEP(to.finish());
  return 0;
}

int container_export(invocation& call) {
  std::string output;
  const arguments words = options(call.command(), "CONTAINER",
                                  "Write a container's file system as a tar archive to stdout; kit import takes it.")
                              .value("-o,--output", output, "FILE", "Write to FILE, which appears once it is whole")
                              .takes(1, 1)
                              .example("kit export web | tar -t")
                              .parse(call.words);
  archive_target to(call.command(), output);
  interruptible scope;
  export_container(call.engine(), call.engine().records().container(words[0]).id, to.get());
  KIT_STEP(to.finish());
  return 0;
}

namespace {
/// "CONTAINER:PATH"; an absolute path, and one that begins with a dot, is the host's whatever is in it.
struct end_of_copy {
  std::string container, path;
  explicit end_of_copy(const std::string& text) : path(text) {
    const std::size_t colon = text.find(':');
    if (colon == text.npos || text.starts_with('/') || text.starts_with('.')) return;
    container = text.substr(0, colon);
    path = text.substr(colon + 1);
  }
};
}  // namespace

int container_cp(invocation& call) {
  copy_options how;
  bool quiet = false;
  const arguments words =
      options(
          call.command(), "CONTAINER:PATH PATH|-  or  PATH|- CONTAINER:PATH",
          "Copy files and directories between a container, running or not, and the host; - is a tar stream on stdout\n"
          "or stdin. A directory is copied into one that is there, or becomes one that is not; DIR/. is what is in "
          "DIR.")
          .flag("-a,--archive", how.owners, "Keep owners, also on the host")
          .flag("-L,--follow-link", how.follow_link, "If the source is a symlink, copy what it leads to")
          .flag("-q,--quiet", quiet, "As Docker's: nothing is said anyway")
          .takes(2, 2)
          .example("kit cp web:/etc/nginx .")
          .example("kit cp ./site/. web:/srv/www")
          .example("kit cp web:/var/log - | tar -x -C logs")
          .parse(call.words);
  const end_of_copy from(words[0]), to(words[1]);
  if (from.container.empty() && to.container.empty())
    throw usage_error(call.command(), "must specify at least one container source");
  if (!from.container.empty() && !to.container.empty())
    throw usage_error(call.command(), "copying between containers is not supported");
  kit::engine& engine = call.engine();
  const std::string& named = from.container.empty() ? to.container : from.container;
  const container_id id = engine.records().container(named).id;
  if (to.path == "-" && to.container.empty() && ::isatty(STDOUT_FILENO))
    throw usage_error(call.command(), "stdout is a terminal: redirect the archive");
  interruptible scope;
  if (to.container.empty() && to.path == "-")
    copy_from_container(engine, id, from.path, STDOUT_FILENO, how);
  else if (to.container.empty())
    copy_from_container(engine, id, from.path, to.path, how);
  else if (from.path == "-")
    copy_to_container(engine, id, STDIN_FILENO, to.path);
  else
    copy_to_container(engine, id, from.path, to.path, how);
  return 0;
}

int commit(invocation& call) {
  commit_options how;
  std::string pause = "true";
  const arguments words =
      options(call.command(), "CONTAINER [NAME[:TAG]]",
              "Make an image of a container's changes upon its image. Prints the image's digest.")
          .value("-a,--author", how.author, "TEXT", "Who made it")
          .value("-m,--message", how.message, "TEXT", "Kept in the image's history")
          .values("-c,--change", how.changes, "LINE", "A line as in a Dockerfile: 'CMD [\"sh\"]'")
          .value("-p,--pause", pause, "BOOL", "Freeze the container while its files are read (true)")
          .takes(1, 2)
          .example("kit commit web web:patched")
          .parse(call.words);
  if (pause != "true" && pause != "false")
    throw usage_error(call.command(), fmt::format("--pause \"{}\": true or false is expected", pause));
  how.pause = pause == "true";
  if (words.size() > 1) how.reference = words[1];
  interruptible scope;
  const container_id id = call.engine().records().container(words[0]).id;
  fmt::print("{}\n", kit::commit(call.engine(), id, how));
  return 0;
}

int internal_compress(invocation& call) {
  const arguments words =
      options(call.command(), "ID", "Compress old files of a container's log; its monitor calls this.")
          .takes(1, 1)
          .parse(call.words);
  if (const auto found = call.engine().records().find_container(words.front()))
    compress_old_logs(call.engine(), found->id);
  return 0;
}

int internal_unpack_log(invocation& call) {
  const arguments words =
      options(call.command(), "FILE", "Write what a compressed log file has to stdout; kit logs calls this.")
          .takes(1, 1)
          .parse(call.words);
  unpack_log(words.front(), STDOUT_FILENO);
  return 0;
}

int internal_unpack(invocation& call) {
  const arguments words =
      options(call.command(), "IMAGE STORAGE", "Unpack an image in a storage driver; kit calls this.")
          .takes(2, 2)
          .parse(call.words);
  interruptible scope("Unpacking");
  unpack_image(call.engine(), find_image(call.engine(), words[0]), words[1]);
  return 0;
}

}  // namespace kit::cli
