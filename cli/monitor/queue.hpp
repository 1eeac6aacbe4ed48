// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace kit::monitor {

/// Bytes on their way out. Gives its memory back when it runs empty.
struct queue {
  char* data = nullptr;
  size_t begin = 0, end = 0, capacity = 0;

  [[nodiscard]] size_t size() const { return end - begin; }
  bool push(const void* bytes, size_t count) {
    if (count == 0) return true;
    if (end + count > capacity && begin > 0) {
      memmove(data, data + begin, size());
      end -= begin;
      begin = 0;
    }
    if (end + count > capacity) {
      const size_t wanted = (end + count) * 2;
      char* grown = static_cast<char*>(realloc(data, wanted));
      if (grown == nullptr) return false;
      data = grown;
      capacity = wanted;
    }
    memcpy(data + end, bytes, count);
    end += count;
    return true;
  }
  void pop(size_t count) {
    begin += count;
    if (begin == end) clear();
  }
  void clear() {
    free(data);
    *this = queue{};
  }
  /// Writes what `fd` takes now. False: fd is broken.
  bool flush(int fd) {
    while (size() > 0) {
      const ssize_t n = write(fd, data + begin, size());
      if (n > 0)
        pop(static_cast<size_t>(n));
      else if (n < 0 && errno == EINTR)
        continue;
      else
        return n < 0 && errno == EAGAIN;
    }
    return true;
  }
};

}  // namespace kit::monitor
