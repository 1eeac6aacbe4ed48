// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kit/system/error.hpp"

namespace kit::cli {

using arguments = std::vector<std::string>;

/// The command line was wrong: main adds "See 'kit VERB --help'.".
struct usage_error : error {
  usage_error(std::string command_line, const std::string& message, int exit_code = 0)
      : error(errc::invalid, message), command(std::move(command_line)), status(exit_code) {}
  std::string command;  ///< "kit run"
  int status;           ///< exit code; 0: that of the verb. As Docker: 125 for an option, 1 for a number of arguments
};

/// Thrown once parse() has printed what was asked for instead of running the verb (--help). Exit 0.
struct answered {};

/// The options and arguments of one verb. Bind variables, add examples, parse; the variables keep their
/// values where an option is not given. `names` is "-m,--memory" or "--rm". The one contact with CLI11.
class options {
 public:
  /// `command` is "kit run", `synopsis` what follows the options: "IMAGE [COMMAND] [ARG...]".
  options(const std::string& command, std::string synopsis, const std::string& description);
  ~options();

  options& flag(const char* names, bool& into, const char* help);
  /// One value; given twice, the last one counts.
  options& value(const char* names, std::string& into, const char* metavar, const char* help);
  options& value(const char* names, std::optional<std::string>& into, const char* metavar, const char* help);
  /// One value for each time the option is given.
  options& values(const char* names, std::vector<std::string>& into, const char* metavar, const char* help);
  /// How many arguments are right; the default is none.
  options& takes(std::size_t least, std::size_t most = SIZE_MAX);
  /// Options end at the first argument: all that follows it belongs to somebody else.
  options& then_verbatim();
  options& example(const std::string& line);

  /// Answers the arguments that are not options. Throws usage_error, or answered.
  arguments parse(const arguments&);
  [[nodiscard]] std::string help() const;

 private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

/// Asks parse() for its options, one a line, in place of the verb's work: how completion knows them.
inline constexpr const char* list_options = "--kit-list-options";

}  // namespace kit::cli
