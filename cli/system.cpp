// SPDX-License-Identifier: Apache-2.0
#include <linux/magic.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "kit/engine/reconcile.hpp"
#include "kit/engine/restart.hpp"
#include "kit/system/process.hpp"
#include "listing.hpp"
#include "template.hpp"
#include "verbs.hpp"

namespace kit::cli {
namespace {

/// Facts as "Key: value" lines, or as one JSON object, or by a template.
void print_facts(const std::vector<option>& facts, const std::string& format) {
  if (format.empty()) {
    std::size_t width = 0;
    for (const option& f : facts) width = std::max(width, f.key.size());
    for (const option& f : facts) fmt::print("{:<{}} {}\n", f.key + ":", width + 2, f.value);
    return;
  }
  nlohmann::ordered_json object;
  for (const option& f : facts) object[f.key] = f.value;
  if (format == "json") return fmt::print("{}\n", object.dump());
  fmt::print("{}\n", render(format, object));
}

std::string cgroup_version() {
  struct statfs s {};
  if (::statfs("/sys/fs/cgroup", &s) != 0) return "none";
  if (s.f_type == CGROUP2_SUPER_MAGIC) return "2";
  const bool unified = ::statfs("/sys/fs/cgroup/unified", &s) == 0 && s.f_type == CGROUP2_SUPER_MAGIC;
  return unified ? "1 (hybrid)" : "1";
}

}  // namespace

/// Its options are that program's.
int bench(invocation& call) {
  const std::string program = call.config.libexec + "/kit-bench";
  if (::access(program.c_str(), X_OK) != 0)
    fail(errc::not_found, "bench: {} is missing; build kit with KIT_BUILD_BENCH=ON", program);
  arguments args = {program};
  args.insert(args.end(), call.words.begin(), call.words.end());
  ::execv(program.c_str(), argument_vector(args).data());
  fail_errno(errno, "execute {}", program);
}

int version(invocation& call) {
  std::string format;
  options(call.command(), "", "Print the version.")
      .value("--format", format, "FORMAT", "json, or a template: '{{.Version}}'")
      .parse(call.words);
  if (format.empty())
    fmt::print("kit version {}\n", KIT_VERSION);
  else
    print_facts({{"Version", KIT_VERSION}, {"Os", "linux"}, {"Compiler", __VERSION__}}, format);
  return 0;
}

int system_info(invocation& call) {
  std::string format;
  options(call.command(), "", "Describe this kit and this host.")
      .value("--format", format, "FORMAT", "json, or a template: '{{.Root}}'")
      .parse(call.words);
  kit::engine& engine = call.engine();
  std::size_t running = 0, paused = 0;
  const auto containers = engine.records().containers();
  for (const container_record& c : containers) {
    running += c.state == container_state::running;
    paused += c.state == container_state::paused;
  }
  utsname host{};
  ::uname(&host);
  const engine_config& config = engine.config();
  print_facts({{"Version", KIT_VERSION},
               {"Root", config.root},
               {"RunDir", config.run_dir},
               {"RootTag", engine.root_tag()},
               {"Libexec", config.libexec},
               {"Storage", config.storage},
               {"Network", config.network},
               {"Isolation", config.isolation},
               {"Containers", fmt::format("{}", containers.size())},
               {"Running", fmt::format("{}", running)},
               {"Paused", fmt::format("{}", paused)},
               {"Images", fmt::format("{}", engine.records().images().size())},
               {"Kernel", host.release},
               {"Architecture", host.machine},
               {"CgroupVersion", cgroup_version()},
               {"Processors", fmt::format("{}", ::sysconf(_SC_NPROCESSORS_ONLN))}},
              format);
  return 0;
}

int system_check(invocation& call) {
  reconcile_options how;
  options(
      call.command(), "",
      "Bring records and kernel back together after crashes: exits not recorded, things half made or half removed.\n"
      "Prints one line for each thing found, and what became of it. What other kit commands work on now is left to "
      "them.\n"
      "Exits 0 if all was in order, 1 if something was repaired (with --dry-run: could be), 2 if something needs a "
      "person.")
      .flag("--dry-run", how.dry_run, "Only tell what would be done")
      .example("kit system check --dry-run")
      .parse(call.words);
  int code = 0;
  for (const finding& f : reconcile(call.engine(), how)) {
    fmt::print("{}: {}{}{}\n", f.object, f.problem, f.action.empty() ? "" : "; ", f.action);
    code = std::max(code, f.needs_person ? 2 : 1);
  }
  return code;
}

int system_start(invocation& call) {
  options(
      call.command(), "",
      "Start containers that do not run and should, by their restart policy: those with `always`; with\n"
      "`unless-stopped` or `on-failure` unless somebody stopped them, or they ended well. For the time after a boot.")
      .parse(call.words);
  int code = 0;
  for (const brought_back& b : start_what_should_run(call.engine())) {
    if (b.error.empty()) {
      fmt::print("{}\n", b.container.name);
      continue;
    }
    fmt::print(stderr, "kit: start {}: {}\n", b.container.name, b.error);
    code = call.verb.failure;
  }
  tidy_beside(call.engine());
  return code;
}

int generate_systemd(invocation& call) {
  options(call.command(), "", "Print a systemd unit that starts, at each boot, what `kit system start` does.")
      .example("kit generate systemd >/etc/systemd/system/kit.service && systemctl enable kit")
      .parse(call.words);
  const engine_config& c = call.engine().config();
  // The containers outlive the command that starts them.
  fmt::print(R"([Unit]
Description=Containers of kit in {1}
After=local-fs.target network.target
RequiresMountsFor={1}

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart={0} --root {1} --run-dir {2} system start

[Install]
WantedBy=multi-user.target
)",
             c.program, c.root, c.run_dir);
  return 0;
}

int system_prune(invocation& call) {
  bool all = false, dry_run = false, force = false, volumes = false;
  options(call.command(), "", "Remove exited containers, images without a name, and what nothing uses.")
      .flag("-a,--all", all, "Also images that no container uses")
      .flag("--volumes", volumes, "Also anonymous volumes that no container uses")
      .flag("-f,--force", force, "Do not ask")
      .flag("--dry-run", dry_run, "Only tell what would be removed, and how much that frees")
      .parse(call.words);
  if (!force && !dry_run &&
      !confirm(fmt::format("This will remove:\n  - all stopped containers\n{}  - all images {}\n",
                           volumes ? "  - all anonymous volumes not used by at least one container\n" : "",
                           all ? "without at least one container associated to them" : "without a name")))
    return 0;
  const pruned gone = prune(call.engine(), {.all_images = all, .volumes = volumes, .dry_run = dry_run});
  for (const std::string& c : gone.containers) fmt::print("container {}\n", c);
  for (const std::string& i : gone.images) fmt::print("image {}\n", i);
  for (const std::string& v : gone.volumes) fmt::print("volume {}\n", v);
  fmt::print("Total {}: {}\n", dry_run ? "to be reclaimed" : "reclaimed", human_size(gone.bytes));
  return 0;
}

}  // namespace kit::cli
