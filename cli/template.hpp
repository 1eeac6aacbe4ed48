// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace kit::cli {

/// Go's text/template as far as people use it on Docker's --format, over a JSON value: {{.A.B}}, {{json .A}},
/// {{index .A "key"}}, len, join, split, lower, upper, title, println, eq, ne, not, and, or; {{if}}, {{range}}, {{with}},
/// {{else}}, {{end}}; variables, pipes, {{- and -}}; and \t and \n as these two characters. Throws invalid: unclosed
/// braces, an unknown function, a field that is not there (told with those that are).
std::string render(std::string_view format, const nlohmann::ordered_json& data);

}  // namespace kit::cli
