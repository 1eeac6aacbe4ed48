// SPDX-License-Identifier: Apache-2.0
#include "kit/system/device_mapper.hpp"

#include <libdevmapper.h>
#include <sys/sysmacros.h>

#include <cstdarg>
#include <cstdio>
#include <memory>
#include <mutex>

#include "kit/system/error.hpp"
#include "kit/system/library.hpp"

namespace kit {
namespace {

std::mutex one_at_a_time;
std::string last_words;  // of the library, under that mutex

[[gnu::format(printf, 5, 6)]] void listen(int level, const char*, int, int, const char* format, ...) {
  if ((level & 7) > 3) return;  // LOG_ERR of lib/log/log.h: what follows is chatter
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  last_words = line;
}

#define KIT_DM_FUNCTION(name) decltype(::name)* name = from.function<decltype(::name)>(#name)
struct functions {
  library from{"libdevmapper.so.1.02.1", "libdevmapper1.02.1"};
  KIT_DM_FUNCTION(dm_get_next_target);
  KIT_DM_FUNCTION(dm_lib_release);
  KIT_DM_FUNCTION(dm_log_with_errno_init);
  KIT_DM_FUNCTION(dm_task_add_target);
  KIT_DM_FUNCTION(dm_task_create);
  KIT_DM_FUNCTION(dm_task_deferred_remove);
  KIT_DM_FUNCTION(dm_task_destroy);
  KIT_DM_FUNCTION(dm_task_get_errno);
  KIT_DM_FUNCTION(dm_task_get_info);
  KIT_DM_FUNCTION(dm_task_get_versions);
  KIT_DM_FUNCTION(dm_task_no_flush);
  KIT_DM_FUNCTION(dm_task_run);
  KIT_DM_FUNCTION(dm_task_set_cookie);
  KIT_DM_FUNCTION(dm_task_set_message);
  KIT_DM_FUNCTION(dm_task_set_name);
  KIT_DM_FUNCTION(dm_task_set_ro);
  KIT_DM_FUNCTION(dm_task_set_sector);
  KIT_DM_FUNCTION(dm_task_set_uuid);
  KIT_DM_FUNCTION(dm_udev_set_sync_support);
  functions() {
    dm_log_with_errno_init(listen);
    dm_udev_set_sync_support(0);
  }
};
#undef KIT_DM_FUNCTION

const functions& dm() {
  static const functions all;
  return all;
}

/// One request to the kernel. While it lives, no other thread talks to the library.
class request {
 public:
  request(int type, const std::string& name) : turn_(one_at_a_time), name_(name), task_(dm().dm_task_create(type)) {
    need(task_ && dm().dm_task_set_name(get(), name.c_str()), "prepare a request for");
    last_words.clear();
  }
  request(const request&) = delete;
  request& operator=(const request&) = delete;
  ~request() {
    task_.reset();
    // Closes the control device, which the library opens without O_CLOEXEC.
    dm().dm_lib_release();
  }

  [[nodiscard]] dm_task* get() const { return task_.get(); }
  void need(bool good, const char* what) const {
    if (!good) fail(errc::io, "{} device {}: {}", what, name_, last_words.empty() ? "no memory" : last_words);
  }
  /// For requests of which udev hears.
  void without_udev() {
    std::uint32_t cookie = 0;
    need(dm().dm_task_set_cookie(get(), &cookie,
                                 DM_UDEV_DISABLE_DM_RULES_FLAG | DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG |
                                     DM_UDEV_DISABLE_DISK_RULES_FLAG | DM_UDEV_DISABLE_OTHER_RULES_FLAG |
                                     DM_UDEV_DISABLE_LIBRARY_FALLBACK),
         "prepare a request for");
  }
  void add(const mapping& m) const {
    need(dm().dm_task_add_target(get(), 0, m.sectors, m.target.c_str(), m.parameters.c_str()), "describe");
  }
  /// 0, or the errno of the kernel.
  [[nodiscard]] int run() const {
    if (dm().dm_task_run(get())) return 0;
    const int e = dm().dm_task_get_errno(get());
    return e != 0 ? e : EIO;
  }
  void run_or_fail(const char* what) const {
    if (const int e = run(); e != 0)
      throw error(
          errc_of(e),
          fmt::format("{} device {}: {}{}{}", what, name_, errno_text(e), last_words.empty() ? "" : ": ", last_words),
          e);
  }
  [[nodiscard]] std::optional<mapped_device::state> state() const {
    dm_info info{};
    need(dm().dm_task_get_info(get(), &info), "look at");
    if (!info.exists) return std::nullopt;
    return mapped_device::state{makedev(info.major, info.minor), info.open_count, info.live_table != 0,
                                info.read_only != 0};
  }
  [[nodiscard]] std::string first_target() const {
    std::uint64_t start = 0, length = 0;
    char *type = nullptr, *parameters = nullptr;
    dm().dm_get_next_target(get(), nullptr, &start, &length, &type, &parameters);
    return parameters != nullptr ? parameters : "";
  }

 private:
  struct destroy {
    void operator()(dm_task* task) const { dm().dm_task_destroy(task); }
  };
  std::lock_guard<std::mutex> turn_;
  const std::string& name_;
  std::unique_ptr<dm_task, destroy> task_;
};

}  // namespace

std::optional<mapped_device::state> mapped_device::look() const {
  const request ask(DM_DEVICE_INFO, name_);
  const int e = ask.run();
  if (e == ENXIO) return std::nullopt;
  if (e != 0) fail_errno(e, "look at device {}", name_);
  return ask.state();
}

mapped_device::state mapped_device::create(const std::string& uuid, const mapping& table, bool read_only) const {
  request make(DM_DEVICE_CREATE, name_);
  make.without_udev();
  make.need(dm().dm_task_set_uuid(make.get(), uuid.c_str()), "name");
  if (read_only) make.need(dm().dm_task_set_ro(make.get()), "describe");
  make.add(table);
  make.run_or_fail("make");
  const auto made = make.state();
  make.need(made.has_value(), "find the new");
  return *made;
}

void mapped_device::replace(const mapping& table) const {
  {
    const request load(DM_DEVICE_RELOAD, name_);
    load.add(table);
    load.run_or_fail("give another table to");
  }
  request swap(DM_DEVICE_RESUME, name_);
  swap.without_udev();
  swap.run_or_fail("put another table in place for");
}

bool mapped_device::remove() const {
  request take(DM_DEVICE_REMOVE, name_);
  take.without_udev();
  const int e = take.run();
  if (e == EBUSY) return false;
  if (e != 0 && e != ENXIO) fail_errno(e, "remove device {}", name_);
  return true;
}

void mapped_device::remove_when_closed() const {
  request take(DM_DEVICE_REMOVE, name_);
  take.without_udev();
  take.need(dm().dm_task_deferred_remove(take.get()), "describe");
  if (const int e = take.run(); e != 0 && e != ENXIO) fail_errno(e, "remove device {} once it is closed", name_);
}

void mapped_device::message(const std::string& text) const {
  const request tell(DM_DEVICE_TARGET_MSG, name_);
  tell.need(dm().dm_task_set_sector(tell.get(), 0) && dm().dm_task_set_message(tell.get(), text.c_str()), "describe");
  tell.run_or_fail(fmt::format("tell \"{}\" to", text).c_str());
}

std::string mapped_device::status() const {
  const request ask(DM_DEVICE_STATUS, name_);
  ask.need(dm().dm_task_no_flush(ask.get()), "describe");
  ask.run_or_fail("ask the status of");
  return ask.first_target();
}

std::string mapped_device::parameters() const {
  const request ask(DM_DEVICE_TABLE, name_);
  ask.run_or_fail("ask the table of");
  return ask.first_target();
}

std::optional<std::string> device_mapper_target(const std::string& target) {
  const request ask(DM_DEVICE_GET_TARGET_VERSION, target);
  if (ask.run() != 0) return std::nullopt;
  const dm_versions* found = dm().dm_task_get_versions(ask.get());
  if (found == nullptr) return std::nullopt;
  return fmt::format("{}.{}.{}", found->version[0], found->version[1], found->version[2]);
}

std::string device_text(dev_t number) { return fmt::format("{}:{}", major(number), minor(number)); }

}  // namespace kit
