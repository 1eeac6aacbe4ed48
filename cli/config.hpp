// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "kit/engine/engine.hpp"

namespace kit::cli {

/// What the command line and the environment say before any verb is known; empty: not said.
struct global_options {
  std::string root, run_dir, config_file;
};

/// The configuration of this call: options, over KIT_ROOT and KIT_RUN_DIR, over the configuration file (--config,
/// KIT_CONFIG, /etc/kit/kit.json), over the defaults. The file is one JSON object: root, run-dir, storage, network,
/// isolation, subnet, and drivers: {NAME: {OPTION: value}}. Throws invalid naming file and member;
/// not_found for a file that was named and is absent. Passes what was chosen on to kit's helper programs
/// through the environment.
engine_config configure(const global_options&);

}  // namespace kit::cli
