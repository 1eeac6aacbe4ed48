// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "kit/system/cgroup.hpp"

/// \file
/// The small files control groups are made of; shared by impl/cgroup.cpp and impl/cgroup_limits.cpp.

namespace kit {
namespace [[gnu::visibility("hidden")]] detail {

/// The whole file; empty if it cannot be opened or read.
std::optional<std::string> try_read(const std::string& path);
/// One write(2); 0 or an errno.
int try_write(const std::string& path, std::string_view value) noexcept;
/// The same into a file that is open.
int try_write(int file, std::string_view value) noexcept;
/// The same, throwing what the kernel said, naming file and value.
void write_value(const std::string& path, std::string_view value);
std::string trimmed(std::string text);
/// The digits `text` begins with.
std::uint64_t number(std::string_view text) noexcept;
/// The number after `word` in a file of "word number" lines.
std::optional<std::uint64_t> value_of(std::string_view text, std::string_view word) noexcept;
/// Version 2: switches the `wanted` controllers on in the mount point and every parent of `path`, those that
/// are there and not on. Throws busy if processes stand in the way.
void enable_controllers(const cgroup_hierarchy& h, const std::string& path, std::span<const std::string_view> wanted);

}  // namespace gnu::visibility("hidden")]]detail
}  // namespace kit
