// SPDX-License-Identifier: Apache-2.0
#include "kit/plugin/loader.hpp"
#include "listing.hpp"
#include "verbs.hpp"

namespace kit::cli {

int plugin_ls(invocation& call) {
  listing list({{"Path", nullptr},
                {"Family", "FAMILY"},
                {"Name", "NAME"},
                {"Version", "VERSION"},
                {"Licence", "LICENCE"},
                {"Compiler", "COMPILER"},
                {"File", "FILE"},
                {"Refused", "REFUSED"}});
  options o(call.command(), "", "List the plugin files kit finds, in $KIT_PLUGIN_PATH and where it is installed.");
  list.bind(o);
  o.parse(call.words);
  for (const plugin_info& p : list_plugins())
    list.add({p.path, std::string(to_string(p.kind)), p.name, p.version, p.licence, p.compiler, p.path, p.refused});
  list.print();
  return 0;
}

}  // namespace kit::cli
