#include "verbs.hpp"
namespace kit::cli { int plugin_check(invocation&) { return 1; } }
