// SPDX-License-Identifier: Apache-2.0
#include <fmt/core.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <system_error>

#include "config.hpp"
#include "fault.hpp"
#include "verbs.hpp"

namespace kit::cli {

namespace {

/// One line on stderr. It may quote what others chose, the name of an archive's entry: nothing in it is a command to a
/// terminal, or begins another line.
void say(std::string_view prefix, std::string_view text) noexcept {
  try {
    std::string line("kit: ");
    line += prefix;
    for (const char c : text)
      if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
        line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
      else
        line += c;
    std::fprintf(stderr, "%s\n", line.c_str());
  } catch (...) {
    std::fputs("kit: out of memory\n", stderr);
  }
}

}  // namespace

void report(const std::exception& e) noexcept {
  std::fflush(stdout);
  say("", e.what());
}

std::int64_t parse_integer(invocation& call, const char* option, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc{} || end != text.data() + text.size())
    throw usage_error(call.command(), fmt::format("{} \"{}\": a whole number is expected", option, text), 125);
  return value;
}

bool confirm(const std::string& warning) {
  fmt::print("WARNING! {}\nAre you sure you want to continue? [y/N] ", warning);
  std::fflush(stdout);
  const int answer = std::getchar();
  return answer == 'y' || answer == 'Y';
}

namespace {

/// What drivers and the engine say while they work: warnings always, the rest with --debug.
class voice : public call_context {
 public:
  voice(bool debug, const verb& v)
      : least_(debug ? log_level::debug : log_level::warning),
        faults_(fault_plan::of_environment(v.name == "internal finish" ? "monitor" : program_name)) {}
  void log(log_level level, std::string_view line) noexcept override {
    if (level < least_) return;
    say(level == log_level::warning ? "warning: " : "", line);
  }
  int step(std::string_view name, step_edge edge) noexcept override { return faults_ ? faults_->at(name, edge) : 0; }

 private:
  log_level least_;
  std::optional<fault_plan> faults_;
};

/// The verbs, all or those of one noun.
void print_verbs(const std::string& noun) {
  for (const verb& v : verbs()) {
    const bool internal = v.name.starts_with("internal ");
    const bool repeats = v.name.starts_with("container ");
    if (noun.empty() ? !internal && !repeats : v.name.starts_with(noun + " "))
      fmt::print("  {:<17} {}\n", v.name, v.summary);
  }
}

bool is_noun(const std::string& word) {
  for (const verb& v : verbs())
    if (v.name.starts_with(word + " ")) return true;
  return false;
}

int command_line(int argc, char** argv) {
  global_options where;
  bool debug = false, show_version = false;
  options global("kit", "COMMAND", "A container runtime that comes apart");
  global.value("--root", where.root, "DIR", "Where images and containers are kept (KIT_ROOT; /var/lib/kit)")
      .value("--run-dir", where.run_dir, "DIR", "What is lost at boot (KIT_RUN_DIR; /run/kit)")
      .value("--config", where.config_file, "FILE", "Configuration file (KIT_CONFIG; /etc/kit/kit.json)")
      .flag("-D,--debug", debug, "Tell what drivers do, on stderr")
      .flag("-v,--version", show_version, "Print the version")
      .example("tar -C rootfs -c . | kit import - debian:12")
      .example("kit run --rm -it debian:12 bash")
      .example("kit run -d --name web --memory 64m --cpus 0.5 debian:12 my-service")
      .takes(0)
      .then_verbatim();
  arguments words;
  try {
    words = global.parse(arguments(argv + 1, argv + argc));
  } catch (const answered&) {
    fmt::print("\nCommands:\n");
    print_verbs("");
    fmt::print("\nRun 'kit COMMAND --help' for more on a command.\n");
    return 0;
  }
  if (show_version) words = {"version"};
  if (words.empty()) {
    fmt::print("{}\nCommands:\n", global.help());
    print_verbs("");
    return 0;
  }
  const verb* v = find_verb(words);
  if (!v) {
    if (is_noun(words[0]) && (words.size() == 1 || words[1] == "--help")) {
      fmt::print("Usage:  kit {} COMMAND\n\nCommands:\n", words[0]);
      print_verbs(words[0]);
      return 0;
    }
    const bool noun = is_noun(words[0]);
    throw usage_error(noun ? "kit " + words[0] : "kit",
                      fmt::format("'{}' is not a kit command", noun ? words[0] + " " + words[1] : words[0]));
  }
  const bool two_words = v->name.find(' ') != std::string_view::npos;
  try {
    voice context(debug, *v);
    call_scope scope(context);
    invocation call(*v, arguments(words.begin() + (two_words ? 2 : 1), words.end()), configure(where), argv);
    const int code = v->run(call);
    if (std::fflush(stdout) != 0 && errno != EPIPE) fail_errno(errno, "write to stdout");
    return code;
  } catch (const usage_error& e) {
    report(e);
    std::fprintf(stderr, "See '%s --help'.\n", e.command.c_str());
    return e.status ? e.status : v->failure;
  } catch (const std::exception& e) {
    report(e);
    return v->failure;
  }
}

}  // namespace
}  // namespace kit::cli

int main(int argc, char** argv) try { return kit::cli::command_line(argc, argv); } catch (const kit::cli::answered&) {
  return std::fflush(stdout) == 0 ? 0 : 1;
} catch (const kit::cli::usage_error& e) {
  kit::cli::report(e);
  std::fprintf(stderr, "See '%s --help'.\n", e.command.c_str());
  return e.status ? e.status : 1;
} catch (const std::exception& e) {
  kit::cli::report(e);
  return 1;
}
