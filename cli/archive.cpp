// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <csignal>

#include "kit/engine/images.hpp"
#include "kit/engine/lifecycle.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

/// While it lives, SIGINT, SIGTERM and SIGHUP ask the work to stop and clean up behind itself, instead of
/// ending the process where it stands. Other words go to the context around it.
class interruptible : public call_context {
 public:
  interruptible() : outer_(this_call()), scope_(*this) {
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted = 1; };
    for (int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  }
  ~interruptible() override {
    for (int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_DFL);
  }
  [[nodiscard]] bool cancelled() const noexcept override { return interrupted != 0; }
  void log(log_level level, std::string_view line) noexcept override { outer_.log(level, line); }

 private:
  static inline volatile std::sig_atomic_t interrupted = 0;
  call_context& outer_;
  call_scope scope_;
};

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
  interruptible scope;
  fmt::print("{}\n", import_image(call.engine(), file ? file.get() : STDIN_FILENO, words.size() > 1 ? words[1] : "",
                                  changes, message));
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

int internal_unpack(invocation& call) {
  const arguments words =
      options(call.command(), "IMAGE STORAGE", "Unpack an image in a storage driver; kit calls this.")
          .takes(2, 2)
          .parse(call.words);
  interruptible scope;
  unpack_image(call.engine(), find_image(call.engine(), words[0]), words[1]);
  return 0;
}

}  // namespace kit::cli
