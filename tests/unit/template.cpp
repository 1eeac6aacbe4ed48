// SPDX-License-Identifier: Apache-2.0
#include "cli/template.hpp"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "kit/system/error.hpp"

using namespace kit;
using cli::render;
using json = nlohmann::ordered_json;

namespace {

const json data = json::parse(R"({
  "Name": "web", "Empty": "", "Count": 3, "Up": true, "Down": false, "None": null, "List": ["a", "b c"],
  "State": {"Status": "running", "Pid": 7},
  "Networks": {"one": {"IP": "10.0.0.2"}, "two": {"IP": "10.1.0.2"}},
  "Labels": "tier=front,x=y"})");

std::string refusal(std::string_view format) {
  try {
    return "rendered: " + render(format, data);
  } catch (const error& e) {
    CHECK(e.code() == errc::invalid);
    return e.what();
  }
}

}  // namespace

TEST_CASE("fields, as Go prints them") {
  CHECK(render("plain", data) == "plain");
  CHECK(render("{{.Name}} is {{ .State.Status }}", data) == "web is running");
  CHECK(render("{{.Count}} {{.Up}} {{.None}}", data) == "3 true <no value>");
  CHECK(render("{{.List}} {{.State}}", data) == "[a b c] map[Pid:7 Status:running]");
  CHECK(render("{{.Name}}\\t{{.Count}}\\n", data) == "web\t3\n");
  CHECK(render("{{json .State}} {{json .List}}", data) == R"({"Status":"running","Pid":7} ["a","b c"])");
  CHECK(render("{{json .}}", json{{"a", 1}}) == R"({"a":1})");
  CHECK(render(R"({{.Label "tier"}} {{.Label "none"}}|)", data) == "front |");
}

TEST_CASE("functions and pipes") {
  CHECK(render(R"({{index .List 1}} {{index .Networks "one" "IP"}} {{index .State "Nope"}}|)", data) ==
        "b c 10.0.0.2 |");
  CHECK(render(R"({{len .List}} {{len .Name}} {{join .List "+"}} {{upper .Name}} {{title .Name}})", data) ==
        "2 3 a+b c WEB Web");
  CHECK(render(R"({{.Name | upper}} {{split "a,b" ","}} {{println .Name .Count}})", data) == "WEB [a b] web 3\n");
}

TEST_CASE("conditions and loops") {
  CHECK(render("{{if .Up}}up{{else}}down{{end}}", data) == "up");
  CHECK(render("{{if .Down}}up{{else if .Empty}}empty{{else if .Count}}count{{else}}none{{end}}", data) == "count");
  CHECK(render("{{range .List}}<{{.}}>{{end}}", data) == "<a><b c>");
  CHECK(render("{{range $k, $v := .Networks}}{{$k}}={{$v.IP}} {{end}}", data) == "one=10.0.0.2 two=10.1.0.2 ");
  CHECK(render("{{range .Networks}}{{.IP}}{{if eq .IP \"10.0.0.2\"}}!{{end}} {{$.Name}};{{end}}", data) ==
        "10.0.0.2! web;10.1.0.2 web;");
  CHECK(render("{{range .Empty}}x{{else}}nothing{{end}}", data) == "nothing");
  CHECK(render("{{with .State}}{{.Pid}}{{end}}{{with .None}}x{{end}}", data) == "7");
  CHECK(render("{{range .List}}{{if eq . \"a\"}}A{{else if eq . \"b c\"}}B{{end}}{{end}}", data) == "AB");
  CHECK(render("a {{- if not .Down}} b {{- end}} c", data) == "a b c");
  CHECK(render("{{if and .Up (ne .Name \"x\")}}yes{{end}}", data) == "yes");
}

TEST_CASE("what is wrong is said") {
  CHECK(refusal("{{").find("unclosed") != std::string::npos);
  CHECK(refusal("{{.Nope}}").find("no field .Nope; there are .Name") != std::string::npos);
  CHECK(refusal("{{.State.Nope}}").find("no field .Nope; there are .Status .Pid") != std::string::npos);
  CHECK(refusal("{{nope .Name}}").find("\"nope\" not defined") != std::string::npos);
  for (const char* bad : {"{{}}", "{{if .Up}}", "{{end}}", "{{range .Count}}{{end}}", "{{index .List 9}}",
                          "{{.Name .Count}}", "{{\"open}}", "{{$none}}", "{{(.Name}}", "{{else}}x"})
    CHECK(refusal(bad).find("rendered: ") == std::string::npos);
}
