// SPDX-License-Identifier: Apache-2.0
#include "template.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "kit/system/error.hpp"

namespace kit::cli {
namespace {

using json = nlohmann::ordered_json;
constexpr auto replace = json::error_handler_t::replace;

/// A stretch of text, or what stands between braces.
struct piece {
  bool action = false;
  std::string text;
};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n'; }

std::vector<piece> cut(std::string_view format) {
  std::vector<piece> pieces(1);
  bool trim_next = false;
  while (!format.empty()) {
    if (format.starts_with("{{")) {
      const std::size_t end = format.find("}}");
      if (end == format.npos) fail(errc::invalid, "format {}: unclosed action", format);
      std::string_view inside = format.substr(2, end - 2);
      if (inside.starts_with("- ")) {
        inside.remove_prefix(2);
        std::string& before = pieces.back().text;
        if (!pieces.back().action)
          while (!before.empty() && is_space(before.back())) before.pop_back();
      }
      trim_next = inside.ends_with(" -");
      if (trim_next) inside.remove_suffix(2);
      pieces.push_back({true, std::string(inside)});
      pieces.emplace_back();
      format.remove_prefix(end + 2);
      continue;
    }
    char c = format.front();
    std::size_t taken = 1;
    if (format.starts_with("\\t") || format.starts_with("\\n")) {
      c = format[1] == 't' ? '\t' : '\n';
      taken = 2;
    }
    format.remove_prefix(taken);
    if (trim_next && is_space(c)) continue;
    trim_next = false;
    pieces.back().text += c;
  }
  return pieces;
}

/// As fmt.Print has it: map[a:1 b:2], [a b].
std::string printed(const json& v) {
  switch (v.type()) {
    case json::value_t::string: return v.get<std::string>();
    case json::value_t::null: return "<no value>";
    case json::value_t::array: {
      std::string text = "[";
      for (const json& e : v) text += (text.size() > 1 ? " " : "") + printed(e);
      return text + "]";
    }
    case json::value_t::object: {
      std::map<std::string, std::string> sorted;
      for (const auto& [key, value] : v.items()) sorted[key] = printed(value);
      std::string text = "map[";
      for (const auto& [key, value] : sorted) text += (text.size() > 4 ? " " : "") + key + ":" + value;
      return text + "]";
    }
    default: return v.dump();
  }
}

bool truth(const json& v) {
  if (v.is_boolean()) return v.get<bool>();
  if (v.is_number()) return v != 0;
  if (v.is_string()) return !v.get_ref<const std::string&>().empty();
  return !v.empty();
}

class interpreter {
 public:
  explicit interpreter(std::string_view format) : format_(format), pieces_(cut(format)) {}

  std::string run(const json& data) {
    variables_["$"] = data;
    std::size_t at = 0;
    block(at, data, true);
    if (at < pieces_.size()) refuse("unexpected {{end}}");
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view why) const { fail(errc::invalid, "format {}: {}", format_, why); }

  // ---- blocks ----

  static std::string_view first_word(const std::string& text) {
    const std::size_t begin = std::min(text.find_first_not_of(" \t\n"), text.size());
    const std::size_t end = std::min(text.find_first_of(" \t\n", begin), text.size());
    return std::string_view(text).substr(begin, end - begin);
  }

  /// Runs from `at` to the end, or to the {{else}} or {{end}} that is not its own, where it leaves `at`.
  void block(std::size_t& at, const json& dot, bool active) {
    for (; at < pieces_.size(); ++at) {
      const piece& p = pieces_[at];
      if (!p.action) {
        if (active) out_ += p.text;
        continue;
      }
      const std::string_view word = first_word(p.text);
      if (word == "end" || word == "else") return;
      if (word == "if" || word == "range" || word == "with") {
        compound(at, word, dot, active);
      } else if (active && !p.text.starts_with("/*")) {
        scan(p.text);
        if (const std::string name = assigned(); !name.empty())
          variables_[name] = pipeline(dot);
        else
          out_ += printed(pipeline(dot));
        if (!rest_.empty()) refuse(fmt::format("unexpected {}", rest_));
      }
    }
  }

  void compound(std::size_t& at, std::string_view word, const json& dot, bool active) {
    std::string text = pieces_[at].text;
    text.erase(0, text.find(word) + word.size());
    std::string key, name;
    json value;
    if (active) {
      scan(text);
      name = assigned();
      if (const auto comma = name.find(','); comma != name.npos) {
        key = name.substr(0, comma);
        name.erase(0, comma + 1);
      }
      value = pipeline(dot);
    }
    const bool taken = active && truth(value);
    const std::size_t body = ++at;
    if (taken && word == "range") {
      const auto each = [&](const json& index, const json& element) {
        if (!key.empty()) variables_[key] = index;
        if (!name.empty()) variables_[name] = element;
        block(at = body, element, true);
      };
      if (value.is_array())
        for (std::size_t i = 0; i < value.size(); ++i) each(i, value[i]);
      else if (value.is_object())
        for (const auto& [k, v] : value.items()) each(k, v);
      else
        refuse("range can't iterate over this");
    } else {
      if (taken && !name.empty()) variables_[name] = value;
      block(at, word == "with" && taken ? value : dot, taken);
    }
    if (at < pieces_.size() && first_word(pieces_[at].text) == "else") {
      const std::size_t here = at;
      const std::string whole = pieces_[here].text;
      const std::string condition = whole.substr(whole.find("else") + 4);
      if (first_word(condition) == "if") {  // its {{end}} is ours
        pieces_[here].text = condition;
        compound(at, "if", dot, active && !taken);
        pieces_[here].text = whole;
        return;
      }
      block(++at, dot, active && !taken);
    }
    if (at >= pieces_.size() || first_word(pieces_[at].text) != "end") refuse("no {{end}}");
  }

  // ---- expressions ----

  void scan(std::string_view text) {
    rest_ = text;
    skip();
  }
  void skip() {
    while (!rest_.empty() && is_space(rest_.front())) rest_.remove_prefix(1);
  }
  bool take(std::string_view what) {
    if (!rest_.starts_with(what)) return false;
    rest_.remove_prefix(what.size());
    skip();
    return true;
  }

  /// "$a" or "$k,$v" before ":="; nothing is taken if there is no ":=".
  std::string assigned() {
    const std::size_t sign = rest_.find(":=");
    if (!rest_.starts_with('$') || sign == rest_.npos) return {};
    std::string names(rest_.substr(0, sign));
    std::erase_if(names, is_space);
    rest_.remove_prefix(sign + 2);
    skip();
    return names;
  }

  json pipeline(const json& dot) {
    json value = command(dot, nullptr);
    while (take("|")) value = command(dot, &value);
    return value;
  }

  static bool ends_name(char c) { return is_space(c) || c == '|' || c == ')' || c == '('; }

  /// A function with its arguments, `last` after them, or an operand.
  json command(const json& dot, const json* last) {
    if (rest_.empty()) refuse("missing value for command");
    const bool is_name = std::isalpha(static_cast<unsigned char>(rest_.front())) != 0;
    std::size_t end = 0;
    while (end < rest_.size() && !ends_name(rest_[end])) ++end;
    const std::string name(rest_.substr(0, end));
    if (!is_name || name == "true" || name == "false") {
      // A method: {{.Label "key"}}.
      if (name == ".Label") {
        rest_.remove_prefix(end);
        skip();
        return label(dot, operand(dot));
      }
      if (last) refuse("can't give argument to non-function");
      return operand(dot);
    }
    rest_.remove_prefix(end);
    skip();
    std::vector<json> arguments;
    while (!rest_.empty() && rest_.front() != '|' && rest_.front() != ')') arguments.push_back(operand(dot));
    if (last) arguments.push_back(*last);
    return call(name, arguments);
  }

  json operand(const json& dot) {
    if (take("(")) {
      json value = pipeline(dot);
      if (!take(")")) refuse("unclosed parenthesis");
      return value;
    }
    if (rest_.starts_with('"') || rest_.starts_with('`')) return quoted();
    std::size_t end = 0;
    while (end < rest_.size() && !ends_name(rest_[end])) ++end;
    const std::string word(rest_.substr(0, end));
    rest_.remove_prefix(end);
    skip();
    if (word.starts_with('.')) return field(dot, std::string_view(word).substr(1));
    if (word.starts_with('$')) {
      const std::size_t point = std::min(word.find('.'), word.size());
      const auto found = variables_.find(word.substr(0, point));
      if (found == variables_.end()) refuse(fmt::format("undefined variable \"{}\"", word));
      return field(found->second, std::string_view(word).substr(std::min(point + 1, word.size())));
    }
    if (word == "true" || word == "false") return word == "true";
    const json number = json::parse(word, nullptr, false);
    if (!number.is_number()) refuse(fmt::format("unexpected \"{}\"", word));
    return number;
  }

  json quoted() {
    const char mark = rest_.front();
    std::string text;
    std::size_t at = 1;
    for (; at < rest_.size() && rest_[at] != mark; ++at) {
      if (mark == '"' && rest_[at] == '\\' && at + 1 < rest_.size()) {
        const char c = rest_[++at];
        text += c == 'n' ? '\n' : c == 't' ? '\t' : c;
      } else {
        text += rest_[at];
      }
    }
    if (at >= rest_.size()) refuse("unterminated quoted string");
    rest_.remove_prefix(at + 1);
    skip();
    return text;
  }

  json field(const json& of, std::string_view path) const {
    const json* at = &of;
    while (!path.empty()) {
      const std::size_t point = std::min(path.find('.'), path.size());
      const std::string name(path.substr(0, point));
      const auto next = at->is_object() ? at->find(name) : at->end();
      if (!at->is_object() || next == at->end()) {
        std::string known;
        if (at->is_object())
          for (const auto& [key, unused] : at->items()) known += (known.empty() ? "; there are ." : " .") + key;
        refuse(fmt::format("no field .{}{}", name, known));
      }
      at = &*next;
      path.remove_prefix(std::min(point + 1, path.size()));
    }
    return *at;
  }

  /// Of a row, where labels are one text: "a=1,b=2".
  json label(const json& row, const json& key) const {
    const std::string wanted = "," + printed(key) + "=", all = "," + printed(field(row, "Labels"));
    const std::size_t at = all.find(wanted);
    if (at == all.npos) return "";
    const std::size_t begin = at + wanted.size();
    return all.substr(begin, all.find(',', begin) - begin);
  }

  json call(const std::string& name, const std::vector<json>& arguments) const {
    const auto needs = [&](std::size_t count) {
      if (arguments.size() < count) refuse(fmt::format("wrong number of args for {}", name));
    };
    const auto each_letter = [&](auto change) {
      needs(1);
      std::string text = printed(arguments[0]);
      for (char& c : text) c = static_cast<char>(change(static_cast<unsigned char>(c)));
      return text;
    };
    if (name == "json") return needs(1), arguments[0].dump(-1, ' ', false, replace);
    if (name == "len") {
      needs(1);
      return arguments[0].is_string() ? arguments[0].get_ref<const std::string&>().size() : arguments[0].size();
    }
    if (name == "index") {
      needs(1);
      json at = arguments[0];
      for (std::size_t i = 1; i < arguments.size(); ++i) {
        const json& key = arguments[i];
        if (at.is_array() && key.is_number_unsigned()) {
          if (key >= at.size()) refuse(fmt::format("index out of range: {}", key.dump()));
          at = json(at[key.get<std::size_t>()]);
        } else if (at.is_object() && key.is_string()) {
          const auto found = at.find(key.get<std::string>());
          at = found == at.end() ? json("") : json(*found);
        } else if (at.is_null()) {
          at = "";
        } else {
          refuse(fmt::format("can't index {} with {}", at.type_name(), key.dump()));
        }
      }
      return at;
    }
    if (name == "join") {
      needs(2);
      std::string text;
      for (const json& e : arguments[0]) text += (text.empty() ? "" : printed(arguments[1])) + printed(e);
      return text;
    }
    if (name == "split") {
      needs(2);
      json parts = json::array();
      const std::string text = printed(arguments[0]), by = printed(arguments[1]);
      for (std::size_t at = 0;;) {
        const std::size_t end = by.empty() ? text.npos : text.find(by, at);
        parts.push_back(text.substr(at, end - at));
        if (end == text.npos) return parts;
        at = end + by.size();
      }
    }
    if (name == "lower") return each_letter([](int c) { return std::tolower(c); });
    if (name == "upper") return each_letter([](int c) { return std::toupper(c); });
    if (name == "title") {
      bool begins = true;
      return each_letter([&](int c) { return std::exchange(begins, std::isspace(c) != 0) ? std::toupper(c) : c; });
    }
    if (name == "print" || name == "println") {
      std::string text;
      for (const json& a : arguments) text += (text.empty() ? "" : " ") + printed(a);
      return name == "println" ? text + "\n" : text;
    }
    if (name == "not") return needs(1), !truth(arguments[0]);
    if (name == "eq") return needs(2), arguments[0] == arguments[1];
    if (name == "ne") return needs(2), arguments[0] != arguments[1];
    if (name == "and" || name == "or") {
      needs(1);
      for (const json& a : arguments)
        if (truth(a) != (name == "and")) return a;
      return arguments.back();
    }
    refuse(fmt::format("function \"{}\" not defined", name));
  }

  std::string_view format_;
  std::vector<piece> pieces_;
  std::map<std::string, json> variables_;
  std::string_view rest_;
  std::string out_;
};

}  // namespace

std::string render(std::string_view format, const json& data) { return interpreter(format).run(data); }

}  // namespace kit::cli
