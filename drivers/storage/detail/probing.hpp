// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "kit/driver.hpp"
#include "kit/system/error.hpp"

/// \file
/// What a storage driver's probe tells of the file system under it, and of how its views differ from a plain one.

namespace kit::drivers::detail {

/// Facts about the file system that holds the directory `scratch`, each tried in it: d_type, reflink, extended
/// attributes, the longest name, free space. What it makes it removes.
void tell_backing(const std::string& scratch, probe_report& report);

/// What helps where probing failed by `e`: space, if it was that which was missing; else `otherwise`.
std::string remedy_of(const error& e, std::string otherwise);

/// Makes, in an empty directory, what tell_differences looks for in a view above it.
void put_samples(const std::string& parent);
/// Does in the writable view `root` of a layer, over a parent that put_samples made, what programs do that rely on a
/// plain file system. What comes out otherwise is told in a fact `differs`, one each (kit/driver.hpp).
void tell_differences(int root, probe_report& report);

}  // namespace kit::drivers::detail
