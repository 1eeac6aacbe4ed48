// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kit/engine/engine.hpp"
#include "options.hpp"

namespace kit::cli {

struct invocation;

/// One row of the verb table. Two programs have it: `kit`, the start path, links little; the verbs in archive.cpp and
/// plugin_check.cpp are held by `kit-image`, which `kit` executes in its place for them (hand_over.cpp).
struct verb {
  std::string_view name;  ///< "run", "image import"
  std::string_view summary;
  std::string_view about;  ///< what its arguments are, for completion: "container", "image", "network", "driver" or ""
  int failure;             ///< exit code when kit itself fails: 125 where codes below it are the program's own
  int (*run)(invocation&);
};

/// Of the two programs, which this is: "kit" or "image".
extern const char* const program_name;

/// All verbs, in the order help lists them; those called "internal ..." are for kit's own programs.
std::span<const verb> verbs();
/// The longest row that `words` begins with, or nullptr.
const verb* find_verb(const arguments& words);

/// One call of one verb.
struct invocation {
  invocation(const cli::verb& called, arguments after, engine_config where, char** command_line)
      : verb(called), words(std::move(after)), config(std::move(where)), argv(command_line) {}

  const cli::verb& verb;
  arguments words;  ///< after the verb's own
  engine_config config;
  char** argv;  ///< the whole command line, to hand it over

  [[nodiscard]] std::string command() const { return "kit " + std::string(verb.name); }
  /// Opened on first use: `--help` and `version` touch nothing.
  kit::engine& engine();

 private:
  std::unique_ptr<kit::engine> engine_;
};

/// Whether a terminal was asked for and stdin is none; tells the user so, as Docker does, who then exits with 1.
bool lacks_terminal(bool interactive, bool tty);

/// Prints an error the way main does: for verbs that go on with their next argument.
void report(const std::exception&) noexcept;

/// A number given to an option. Throws usage_error.
std::int64_t parse_integer(invocation&, const char* option, const std::string& text);

/// Asks on stdout, after this warning, whether to go on; the answer comes from stdin.
bool confirm(const std::string& warning);

/// Calls `work` for each word, reports those that fail, and answers the verb's exit code.
template <class Work>
int for_each(const arguments& words, Work&& work) {
  int failures = 0;
  for (const std::string& word : words) {
    try {
      work(word);
    } catch (const std::exception& e) {
      report(e);
      ++failures;
    }
  }
  return failures ? 1 : 0;
}

// Verbs by noun, each file named after it.
int create(invocation&);  // run.cpp
int run(invocation&);
int attach(invocation&);  // container.cpp
int diff(invocation&);
int exec(invocation&);
int kill(invocation&);
int pause(invocation&);
int container_move(invocation&);
int rename(invocation&);
int rm(invocation&);
int start(invocation&);
int stop(invocation&);
int unpause(invocation&);
int wait(invocation&);
int container_prune(invocation&);
int port(invocation&);
int restart(invocation&);
int update(invocation&);
int ps(invocation&);     // ps.cpp
int stats(invocation&);  // stats.cpp
int top(invocation&);
int events(invocation&);   // events.cpp
int logs(invocation&);     // logs.cpp
int inspect(invocation&);  // inspect.cpp
int container_inspect(invocation&);
int image_inspect(invocation&);
int network_inspect(invocation&);
int volume_inspect(invocation&);
int image_ls(invocation&);  // image.cpp
int image_history(invocation&);
int image_prune(invocation&);
int image_rm(invocation&);
int image_tag(invocation&);
int image_unpack(invocation&);
int image_import(invocation&);  // archive.cpp, in kit-image
int image_load(invocation&);
int image_save(invocation&);
int container_export(invocation&);
int container_cp(invocation&);
int commit(invocation&);
int internal_compress(invocation&);
int internal_unpack(invocation&);
int internal_unpack_log(invocation&);
int plugin_check(invocation&);    // plugin_check.cpp, in kit-image
int network_create(invocation&);  // network.cpp
int network_ls(invocation&);
int network_prune(invocation&);
int network_rm(invocation&);
int volume_create(invocation&);  // volume.cpp
int volume_ls(invocation&);
int volume_rm(invocation&);
int volume_prune(invocation&);
int driver_ls(invocation&);  // driver.cpp
int driver_probe(invocation&);
int driver_recommend(invocation&);  // recommend.cpp
int config_get(invocation&);        // config.cpp
int config_ls(invocation&);
int config_set(invocation&);
int plugin_ls(invocation&);  // plugin.cpp
int bench(invocation&);      // system.cpp
int system_check(invocation&);
int system_info(invocation&);
int system_prune(invocation&);
int system_start(invocation&);
int generate_systemd(invocation&);
int version(invocation&);
int completion_bash(invocation&);  // completion.cpp
int internal_complete(invocation&);
int internal_finish(invocation&);  // container.cpp
int internal_tidy(invocation&);
int internal_faults(invocation&);  // fault.cpp

}  // namespace kit::cli
