// SPDX-License-Identifier: Apache-2.0
// An isolation driver of somebody else's: kit's own, under a rule of this house. Whoever asks for a capability that
// reaches past the container into the kernel or the hardware is refused, whatever flags `kit run` was given.
#include "drivers/isolation/native.hpp"
#include "kit/isolation/concept.hpp"
#include "kit/plugin/export.hpp"
#include "kit/system/error.hpp"
#include "kit/system/fd.hpp"

namespace {

class careful {
 public:
  explicit careful(const kit::driver_config& config) : native_(config) {}
  static constexpr std::string_view name() { return "careful"; }
  static std::vector<kit::option_schema> options() { return kit::drivers::native::options(); }
  static kit::isolation_traits traits() { return kit::drivers::native::traits(); }
  kit::probe_report probe() const { return native_.probe(); }

  kit::started create(const kit::container& c, std::span<const kit::mount> mounts, const kit::stdio& io) {
    refuse_reach(kit::read_file(c.bundle + "/config.json"), "create");
    return native_.create(c, mounts, io);
  }
  kit::started exec(const kit::container& c, std::string_view process, const kit::stdio& io) {
    refuse_reach(process, "exec in");
    return native_.exec(c, process, io);
  }
  void start(const kit::container& c) { native_.start(c); }
  void signal(const kit::container& c, int n, kit::reach whom) { native_.signal(c, n, whom); }
  void remove(const kit::container& c) { native_.remove(c); }
  void pause(const kit::container& c) { native_.pause(c); }
  void resume(const kit::container& c) { native_.resume(c); }
  void update(const kit::container& c, std::string_view resources) { native_.update(c, resources); }
  kit::container_stats stats(const kit::container& c) { return native_.stats(c); }

 private:
  /// A whole JSON string of that text anywhere is enough: rather one refusal too many.
  static void refuse_reach(std::string_view json, std::string_view verb) {
    for (std::string_view word : {"\"CAP_SYS_MODULE\"", "\"CAP_SYS_RAWIO\"", "\"CAP_MAC_ADMIN\""})
      if (json.find(word) != json.npos)
        kit::fail(kit::errc::permission, "{} container: careful gives no one {}; leave it out, or choose native", verb,
                  word);
  }

  kit::drivers::native native_;
};

}  // namespace

KIT_PLUGIN(careful, "0.1", "Apache-2.0")
