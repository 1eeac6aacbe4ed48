// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdio>

namespace kit::cli {
namespace {

struct formatter : CLI::Formatter {
  std::string synopsis;
  std::string make_usage(const CLI::App*, std::string name) const override {
    return fmt::format("\nUsage:  {} [OPTIONS]{}{}\n", name, synopsis.empty() ? "" : " ", synopsis);
  }
  std::string make_option_opts(const CLI::Option* o) const override {
    return o->get_type_name().empty() ? "" : " " + o->get_type_name();
  }
  std::string make_footer(const CLI::App* app) const override {
    return app->get_footer().empty() ? "" : "Examples:\n" + app->get_footer();
  }
};

bool looks_like_an_option(const std::string& word) { return word.size() > 1 && word.front() == '-'; }

}  // namespace

struct options::impl {
  CLI::App app;
  std::string command, examples;
  std::shared_ptr<formatter> format = std::make_shared<formatter>();
  std::size_t least = 0, most = 0;
  bool verbatim = false;
};

options::options(const std::string& command, std::string synopsis, const std::string& description)
    : impl_(std::make_unique<impl>()) {
  impl_->command = command;
  impl_->format->synopsis = std::move(synopsis);
  impl_->format->column_width(34);
  impl_->app.name(command);
  impl_->app.description(description);
  impl_->app.formatter(impl_->format);
  impl_->app.set_help_flag("--help", "Print this help");
  impl_->app.allow_extras();
}

options::~options() = default;

options& options::flag(const char* names, bool& into, const char* help) {
  impl_->app.add_flag(names, into, help)->take_last();
  return *this;
}

options& options::value(const char* names, std::string& into, const char* metavar, const char* help) {
  impl_->app
      .add_option_function<std::string>(
          names, [&into](const std::string& v) { into = v; }, help)
      ->type_name(metavar)
      ->take_last();
  return *this;
}

options& options::value(const char* names, std::optional<std::string>& into, const char* metavar, const char* help) {
  impl_->app
      .add_option_function<std::string>(
          names, [&into](const std::string& v) { into = v; }, help)
      ->type_name(metavar)
      ->take_last();
  return *this;
}

options& options::values(const char* names, std::vector<std::string>& into, const char* metavar, const char* help) {
  impl_->app.add_option(names, into, help)->allow_extra_args(false)->type_name(metavar);
  return *this;
}

options& options::takes(std::size_t least, std::size_t most) {
  impl_->least = least;
  impl_->most = most;
  return *this;
}

options& options::then_verbatim() {
  impl_->verbatim = true;
  impl_->app.prefix_command();
  return *this;
}

options& options::example(const std::string& line) {
  impl_->examples += "  " + line + "\n";
  impl_->app.footer(impl_->examples);
  return *this;
}

std::string options::help() const { return impl_->app.help(); }

arguments options::parse(const arguments& given) {
  if (given.size() == 1 && given.front() == list_options) {
    for (const CLI::Option* o : impl_->app.get_options()) {
      for (const std::string& name : o->get_lnames()) fmt::print("--{}\n", name);
      for (const std::string& name : o->get_snames()) fmt::print("-{}\n", name);
    }
    throw answered{};
  }
  try {
    impl_->app.parse(std::vector<std::string>(given.rbegin(), given.rend()));
  } catch (const CLI::CallForHelp&) {
    std::fputs(help().c_str(), stdout);
    throw answered{};
  } catch (const CLI::ArgumentMismatch&) {
    // CLI11 meets this only where an option stands last without its value.
    throw usage_error(impl_->command, fmt::format("flag needs an argument: {}", given.back()), 125);
  } catch (const CLI::ParseError& e) {
    throw usage_error(impl_->command, e.what(), 125);
  }
  arguments words = impl_->app.remaining();
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--") {
      words.erase(words.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
    if (looks_like_an_option(words[i]))
      throw usage_error(impl_->command, fmt::format("unknown flag: {}", words[i]), 125);
    if (impl_->verbatim) break;
  }
  if (words.size() < impl_->least || words.size() > impl_->most) {
    const std::size_t limit = words.size() < impl_->least ? impl_->least : impl_->most;
    const char* bound = impl_->least == impl_->most ? "exactly" : words.size() < impl_->least ? "at least" : "at most";
    throw usage_error(impl_->command,
                      impl_->most == 0 ? fmt::format("\"{}\" accepts no arguments", impl_->command)
                                       : fmt::format("\"{}\" requires {} {} argument{}", impl_->command, bound, limit,
                                                     limit == 1 ? "" : "s"),
                      1);
  }
  return words;
}

}  // namespace kit::cli
