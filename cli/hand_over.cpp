// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include "verbs.hpp"

/// \file
/// In `kit`, the verbs that `kit-image` holds (archive.cpp, plugin_check.cpp): what they link must stay off the start
/// path.

namespace kit::cli {

const char* const program_name = "kit";

namespace {

[[noreturn]] void hand_over(invocation& call) {
  const std::string program = call.config.libexec + "/kit-image";
  ::execv(program.c_str(), call.argv);
  fail_errno(errno, "execute {}", program);
}

}  // namespace

int commit(invocation& call) { hand_over(call); }
int container_cp(invocation& call) { hand_over(call); }
int container_export(invocation& call) { hand_over(call); }
int image_import(invocation& call) { hand_over(call); }
int image_load(invocation& call) { hand_over(call); }
int image_save(invocation& call) { hand_over(call); }
int internal_compress(invocation& call) { hand_over(call); }
int internal_unpack(invocation& call) { hand_over(call); }
int internal_unpack_log(invocation& call) { hand_over(call); }
int plugin_check(invocation& call) { hand_over(call); }

}  // namespace kit::cli
