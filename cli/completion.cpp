// SPDX-License-Identifier: Apache-2.0
#include "completion.hpp"

#include <set>

#include "kit/engine/networks.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

std::vector<std::string> candidates(invocation& call, std::string_view about) {
  std::vector<std::string> names;
  records& known = call.engine().records();
  if (about == "container")
    for (const container_record& c : known.containers()) names.push_back(c.name);
  if (about == "image")
    for (const image_record& i : known.images())
      if (!i.reference.empty()) names.push_back(i.reference);
  if (about == "volume")
    for (const volume_record& v : known.volumes()) names.push_back(v.name);
  if (about == "network")
    for (const network_record& n : known.networks()) names.push_back(n.name);
  return names;
}

}  // namespace

int completion_bash(invocation& call) {
  options(call.command(), "", "Print a completion script for bash.")
      .example("source <(kit completion bash)")
      .parse(call.words);
  fmt::print("{}", kit_completion_bash);
  return 0;
}

int internal_complete(invocation& call) {
  arguments given = options(call.command(), "INDEX WORD...", "Complete the word INDEX of a command line.")
                        .takes(2)
                        .then_verbatim()
                        .parse(call.words);
  const std::size_t index = static_cast<std::size_t>(std::max(std::atoi(given.front().c_str()), 1));
  given.erase(given.begin());
  given.resize(std::max(given.size(), index + 1));
  const std::string current = given[index];
  const arguments before(given.begin() + 1, given.begin() + static_cast<std::ptrdiff_t>(index));

  std::set<std::string> offered;
  const verb* v = find_verb(before);
  if (!v) {
    for (const verb& row : verbs()) {
      const std::string name(row.name), first = name.substr(0, name.find(' '));
      if (first == "internal") continue;
      if (before.empty())
        offered.insert(first);
      else if (before.size() == 1 && name.starts_with(before[0] + " "))
        offered.insert(name.substr(before[0].size() + 1));
    }
  } else if (current.starts_with('-')) {
    // A whole command line, for kit-image lists the options of its own verbs.
    std::string name(v->name), option = list_options;
    std::vector<char*> argv{call.argv[0]};
    for (std::size_t begin = 0, end = 0; end != name.npos; begin = end + 1) {
      end = name.find(' ', begin);
      if (end != name.npos) name[end] = '\0';
      argv.push_back(name.data() + begin);
    }
    argv.insert(argv.end(), {option.data(), nullptr});
    invocation asked(*v, {list_options}, call.config, argv.data());
    return v->run(asked);
  } else if (v->run == image_import || v->run == image_load || v->run == plugin_check) {
    offered.insert(":files");
  } else if (v->name == "cp") {
    offered.insert(":files");
    for (const std::string& name : candidates(call, v->about)) offered.insert(name + ":");
  } else {
    for (std::string& name : candidates(call, v->about)) offered.insert(std::move(name));
  }
  for (const std::string& word : offered) fmt::print("{}\n", word);
  return 0;
}

}  // namespace kit::cli
