// SPDX-License-Identifier: Apache-2.0
// A fuzz target's main where the compiler has no fuzzer: runs it once with each file of the directories named.
#include <cstdint>
#include <cstdio>

#include "kit/system/fd.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

int main(int argc, char** argv) {
  int count = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string directory = argv[i];
    for (const std::string& name : kit::names_in(directory)) {
      const std::string input = kit::read_file(directory + "/" + name);
      LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
      ++count;
    }
  }
  std::printf("%d inputs\n", count);
  return count == 0 ? 1 : 0;
}
