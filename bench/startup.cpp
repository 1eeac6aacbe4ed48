// SPDX-License-Identifier: Apache-2.0
#include "startup.hpp"

#include <fcntl.h>
#include <fmt/core.h>

#include <unistd.h>

#include <cmath>
#include <optional>

#include "calls.hpp"
#include "goals.hpp"
#include "kit/system/error.hpp"
#include "options.hpp"
#include "peers.hpp"
#include "phases.hpp"
#include "report.hpp"

namespace kit::bench {

namespace {

const command trivial{"/bin/true"};
const command idle{"/bin/sleep", "10000"};
const command obedient{"/bin/sh", "-c", "trap 'exit 0' TERM; sleep 10000 & wait"};

struct study {
  std::string id, title, explain;
  measuring how;
  std::vector<contender> contenders;  ///< the first is what the others are compared with
};

/// What all studies share.
class startup {
 public:
  startup(const scratch& place, const std::string& rootfs, found_runtimes& found, measuring how)
      : place_(place), rootfs_(rootfs), found_(found), how_(how), name_(run_name(place)) {
    if (!is_root()) return;
    with_bridge_.emplace(place, rootfs, 1, true);
    without_.emplace(place, rootfs, 1, false);
  }

  study run(bool network) {
    return {network ? "run-network" : "run",
            network ? "One container with a network, start to end" : "One container without a network, start to end",
            network ? "From the command until it has ended: a container is made, given an address on a bridge, runs "
                      "`true`, and is removed again."
                    : "The same without a network of its own but the loopback device. Here the programs take part that "
                      "make none, and those that run a plain directory, without copy-on-write, records or logs.",
            how_, starts(network, {})};
  }

  study cold() {
    study s{"run-cold", "The same after everything was dropped from memory",
            "Before each sample the page cache is emptied (/proc/sys/vm/drop_caches): programs, libraries, images and "
            "records are read from the disk, as for the first container after a boot.",
            how_, starts(false, {})};
    s.how.cold = true;
    s.how.samples = std::max(how_.samples / 5, std::min(how_.samples, 5U));
    return s;
  }

  study at_once(unsigned count, bool network) {
    study s{fmt::format("at-once-{}{}", count, network ? "-network" : ""),
            fmt::format("{} containers at once{}", count, network ? ", with a network" : ""),
            fmt::format("{} starts begin together; a sample is the time until the last has ended. \"Of one\" is what "
                        "each of them waited for its own.",
                        count),
            how_, starts(network, {"unshare", "bubblewrap", "systemd-nspawn"})};
    s.how.at_once = count;
    s.how.warmup = 1;
    s.how.samples = std::max(how_.samples / (count > 8 ? 10 : 5), std::min(how_.samples, 5U));
    return s;
  }

  study exec() {
    study s{
        "exec",
        "One more command in a running container",
        "`true` is run in a container that is there already. nsenter is the kernel's part: it enters the namespaces "
        "and nothing else, no control group, filter or capabilities.",
        how_,
        {}};
    for (const auto& r : found_.all) {
      const std::string id = name_ + "-exec";
      if (r->exec(id, trivial).empty() || !begin(*r, id, idle)) continue;
      contender c = of(*r, [&r = *r, id](unsigned) { return commands{r.exec(id, trivial)}; });
      c.what = "exec in a running container";
      s.contenders.push_back(std::move(c));
      if (r->name() != "kit") continue;
      const std::string pid = r->must({find_program("kit"), "inspect", "-f", "{{.State.Pid}}", id});
      contender floor{"nsenter",
                      "enters the namespaces alone",
                      [program = find_program("nsenter"), pid](unsigned) {
                        return commands{command{program, "-a", "-t", pid, "/bin/true"}};
                      },
                      {},
                      {}};
      if (!find_program("nsenter").empty()) s.contenders.push_back(std::move(floor));
    }
    return s;
  }

  study create_and_start() {
    study s{
        "create-start",
        "Create, then start",
        "Two commands: one makes the container, one lets its program run; until the second has answered. Removing it "
        "is not part of the time.",
        how_,
        {}};
    for (const auto& r : found_.all) {
      if (r->create("x", idle).empty()) continue;
      contender c = of(*r, [this, &r = *r](unsigned n) { return commands{r.create(id(n), idle), r.start(id(n))}; });
      c.after = [this, &r = *r](unsigned n) { r.must(r.remove(id(n))); };
      // Its processes go on until they are removed.
      c.what = "create and start of a program that goes on";
      c.leaves_processes = true;
      s.contenders.push_back(std::move(c));
    }
    return s;
  }

  study remove() {
    study s{"rm",
            "Remove a running container",
            "Its program is killed, and all there was of the container is removed: rm -f, or delete --force.",
            how_,
            {}};
    for (const auto& r : found_.all) {
      if (r->remove("x").empty()) continue;
      contender c = of(*r, [this, &r = *r](unsigned n) { return commands{r.remove(id(n))}; });
      c.before = [this, &r = *r](unsigned n) { start_one(r, id(n), idle); };
      c.what = "rm -f";
      s.contenders.push_back(std::move(c));
    }
    return s;
  }

  study stop() {
    study s{"stop",
            "Stop a running container",
            "Its program is asked to end by SIGTERM, and does at once; until the command has answered that it did.",
            how_,
            {}};
    for (const auto& r : found_.all) {
      if (r->stop("x").empty()) continue;
      contender c = of(*r, [this, &r = *r](unsigned n) { return commands{r.stop(id(n))}; });
      c.before = [this, &r = *r](unsigned n) {
        start_one(r, id(n), obedient);
        ::usleep(200000);  // until the shell has set its trap: process 1 ignores what it does not handle
      };
      c.after = [this, &r = *r](unsigned n) { r.must(r.remove(id(n))); };
      c.what = "stop";
      s.contenders.push_back(std::move(c));
    }
    return s;
  }

  /// Only kit's: an image of 50,000 files, and one of 60 layers.
  study size() {
    const runtime& kit = *found_.get("kit");
    const std::string directory = place_.disk() + "/large", archive = place_.disk() + "/large.tar";
    must_run({"cp", "-a", rootfs_, directory});
    for (int d = 0; d < 50; ++d) {
      stop_if_interrupted();
      const std::string sub = fmt::format("{}/var/{}", directory, d);
      make_directories(sub);
      for (int f = 0; f < 1000; ++f) open_file(fmt::format("{}/{}", sub, f), O_WRONLY | O_CREAT, 0644);
    }
    must_run({"truncate", "-s", "2G", directory + "/var/large"});
    must_run({"tar", "-C", directory, "-Scf", archive, "."});
    remove_tree(directory);
    kit.must({find_program("kit"), "import", archive, "large"});
    remove_tree(archive);
    return {"size",
            "Does the size of the image matter?",
            "kit from the small image of all other cases, and from one with 50,000 files and 2 GB (sparse).",
            how_,
            {image_contender("10 files", "small"), image_contender("50,000 files", "large")}};
  }

  study layers() {
    constexpr unsigned count = 60;
    const std::string kit = find_program("kit");
    std::string from = "small";
    for (unsigned i = 1; i < count; ++i) {
      stop_if_interrupted();
      const std::string id = name_ + "-layer";
      must_run({kit, "run", "--network", "none", "--name", id, from, "touch", fmt::format("/layer-{}", i)});
      must_run({kit, "commit", id, "layers"});
      must_run({kit, "rm", id});
      from = "layers";
    }
    layered_.emplace(place_, rootfs_, count, true);
    return {
        "layers",
        "Does the number of layers matter?",
        "kit and the floor with a root of 1 layer and of 60, with a network. What the kernel's overlay mount takes for "
        "60 layers is in the floor's figure.",
        how_,
        {image_contender("kit, 60 layers", "layers"), floor_contender("floor, 60 layers", *layered_),
         image_contender("kit, 1 layer", "small"), floor_contender("floor, 1 layer", *with_bridge_)}};
  }

  study plugins() {
    return {"plugins",
            "Do plugins cost time?",
            "kit, which loads its three drivers from plugins, and a kit with the same drivers linked in.",
            how_,
            {image_contender("plugins", "small"), image_contender("linked in", "small", "kit-bench-linked")}};
  }

  /// After a study: what it left running.
  void end_of(const study& s) {
    if (s.id != "exec") return;
    for (const auto& r : found_.all)
      if (!r->remove("x").empty()) try {
          r->must(r->remove(name_ + "-exec"));
        } catch (const error&) {
          // It did not take part.
        }
  }

 private:
  [[nodiscard]] std::string id(unsigned n) const { return fmt::format("{}-{}", name_, n); }

  static void start_one(const runtime& r, const std::string& id, const command& program) {
    r.must(r.create(id, program));
    r.must(r.start(id));
  }
  bool begin(const runtime& r, const std::string& id, const command& program) try {
    start_one(r, id, program);
    return true;
  } catch (const error& e) {
    found_.missing.push_back({r.name() + " exec", e.what()});
    return false;
  }

  static contender of(const runtime& r, std::function<commands(unsigned)> timed) {
    return {r.name(), "", std::move(timed), {}, {}, r.mounts(), r.network(), r.daemons()};
  }
  static contender floor_contender(std::string name, const floor_scene& scene) {
    return {std::move(name),
            "the same system calls, and no tool around them: no runtime can be faster that does as much",
            [words = scene.start(trivial)](unsigned) { return commands{words}; },
            {},
            {}};
  }
  static contender image_contender(std::string name, std::string image, const char* program = "kit") {
    return {std::move(name),
            "kit run --rm, with a network",
            [image = std::move(image), program = find_program(program)](unsigned) {
              return commands{command{program, "run", "--rm", image, "/bin/true"}};
            },
            {},
            {}};
  }
  std::vector<contender> starts(bool network, const std::vector<std::string>& without) {
    std::vector<contender> all;
    for (const auto& r : found_.all) {
      if ((network && !r->has_network()) || std::find(without.begin(), without.end(), r->name()) != without.end())
        continue;
      contender c = of(*r, [this, &r = *r, network](unsigned n) { return commands{r.run(id(n), network, trivial)}; });
      c.what = r->what(network);
      all.push_back(std::move(c));
      if (r->name() == "kit") all.push_back(floor_contender("floor", network ? *with_bridge_ : *without_));
    }
    return all;
  }

  const scratch& place_;
  std::string rootfs_;
  found_runtimes& found_;
  measuring how_;
  std::string name_;
  std::optional<floor_scene> with_bridge_, without_, layered_;
};

}  // namespace

int startup_command(const command& words) {
  unsigned sample_count = 50, budget_s = 20;
  bool as_json = false, quick = false;
  std::string output = "kit-bench-startup";
  std::vector<std::string> only, wanted;
  const std::vector<std::string> all_cases = {"run-network",
                                              "run",
                                              "run-cold",
                                              "at-once-8",
                                              "at-once-8-network",
                                              "at-once-64",
                                              "at-once-64-network",
                                              "exec",
                                              "create-start",
                                              "stop",
                                              "rm",
                                              "size",
                                              "layers",
                                              "plugins"};
  std::string case_list;
  for (const std::string& id : all_cases) case_list += (case_list.empty() ? "" : " ") + id;
  const command rest =
      parse(words,
            {"startup",
             "How long a container takes: kit beside every other runtime found here, one sample of each in\n"
             "turn, in a random order, with the same root file system and the same command. Written as JSON\n"
             "(every sample), as a summary in Markdown, which is printed, and as one HTML page with plots.\n\n"
             "Cases: " +
                 case_list},
            {{"-n", "SAMPLES", "of each in each case (50); slow ones get fewer, see --budget",
              number(sample_count, 1, 100000)},
             {"--budget", "SECONDS", "about how long all samples of one in one case may take (20)",
              number(budget_s, 1, 3600)},
             {"--quick", "", "5 samples, 3 seconds: whether it works at all", flag(quick)},
             {"--only", "PEER,...", "beside these alone, or none; kit and the floor always take part", list(only)},
             {"--cases", "CASE,...", "these alone", list(wanted)},
             {"-o", "FILE", "write FILE.json, FILE.md, FILE.html (kit-bench-startup); - writes none", text(output)},
             {"--json", "", "print the JSON in place of the summary", flag(as_json)}});
  if (!rest.empty()) fail(errc::invalid, "startup takes no argument \"{}\"", rest[0]);
  for (const std::string& id : wanted)
    if (std::find(all_cases.begin(), all_cases.end(), id) == all_cases.end())
      fail(errc::invalid, "there is no case {}; there are {}", id, case_list);
  if (quick) sample_count = 5, budget_s = 3;
  if (!is_root())
    fmt::print(stderr,
               "kit-bench: only root can start containers with kit and most others; measuring what can be without\n");

  catch_interrupts();
  if (is_root()) leave_network();
  const scratch place;
  const std::string rootfs = place.disk() + "/rootfs";
  make_rootfs(rootfs);
  json out{{"benchmark", "startup"},
           {"title", "How long does a container take to start?"},
           {"machine", describe_machine(place)},
           {"load_before", load_average()}};
  found_runtimes found = find_runtimes(place, rootfs, only);
  if (found.all.empty()) fail(errc::unsupported, "nothing can be measured here: install bubblewrap, or run as root");

  measuring how;
  how.samples = sample_count;
  how.budget_ms = budget_s * 1000.0;
  out["settings"] = {{"samples", sample_count}, {"budget_s", budget_s}, {"rest_ms", how.rest_ms}};
  startup studies(place, rootfs, found, how);
  std::vector<std::string> ids = wanted;
  if (ids.empty()) ids = is_root() ? all_cases : std::vector<std::string>{"run", "at-once-8"};
  bool interrupted = false;
  json steps, calls;
  try {
    progress bar(static_cast<double>(ids.size()));
    for (const std::string& id : ids) {
      bar.step("preparing " + id, 0);
      study s = id == "run-network"          ? studies.run(true)
                : id == "run"                ? studies.run(false)
                : id == "run-cold"           ? studies.cold()
                : id == "at-once-8"          ? studies.at_once(8, false)
                : id == "at-once-8-network"  ? studies.at_once(8, true)
                : id == "at-once-64"         ? studies.at_once(64, false)
                : id == "at-once-64-network" ? studies.at_once(64, true)
                : id == "exec"               ? studies.exec()
                : id == "create-start"       ? studies.create_and_start()
                : id == "stop"               ? studies.stop()
                : id == "rm"                 ? studies.remove()
                : id == "size"               ? studies.size()
                : id == "layers"             ? studies.layers()
                                             : studies.plugins();
      const std::vector<samples> seen = measure(s.contenders, s.how, bar, s.id);
      json c{
          {"id", s.id}, {"title", s.title}, {"explain", s.explain}, {"at_once", s.how.at_once}, {"cold", s.how.cold}};
      c["contenders"] = json::array();
      for (std::size_t i = 0; i < seen.size(); ++i)
        if (seen[i].failure.empty())
          c["contenders"].push_back(to_json(s.contenders[i], seen[i]));
        else
          c["left_out"].push_back({{"name", s.contenders[i].name}, {"reason", seen[i].failure}});
      out["cases"].push_back(std::move(c));
      studies.end_of(s);
      if (id == "run-network" && is_root())
        steps = phases_of({find_program("kit"), "run", "--rm", "small", "/bin/true"}, place.run(), sample_count);
      if (id == "plugins") calls = calls_of_drivers(place.disk() + "/calls");
    }
  } catch (const error& e) {
    if (e.code() != errc::cancelled || !out.contains("cases")) throw;
    interrupted = true;
  }
  out["load_after"] = load_average();
  out["tables"] = json::array();
  for (json& table : std::vector<json>{goals_met(out["cases"]), std::move(steps), std::move(calls)})
    if (table.contains("rows") && !table["rows"].empty()) out["tables"].push_back(std::move(table));
  out["left_out"] = json::array();
  for (const auto& m : found.missing) out["left_out"].push_back({{"name", m.name}, {"reason", m.reason}});
  out["notes"] = {
      "Times are wall time from fork to waited for. What a runtime or the kernel does after its command has answered "
      "is not "
      "in them: the end of monitors and shims is in \"all gone\", the kernel's own clean-up (network namespaces, "
      "memory of "
      "control groups) in no figure.",
      fmt::format("Between two samples lies a rest of {:.0f} ms, so that what the kernel puts off falls on nobody's "
                  "next sample.",
                  how.rest_ms),
      "CPU time is user and system time of the command and of every process it left behind, and for docker what its "
      "daemon "
      "and containerd took meanwhile, in steps of 10 ms; work of kernel threads is not counted.",
      "Peak memory is the largest resident set of any one process, shared pages included; a daemon's is not in it.",
      "The runtimes do not do the same: what each does is told beside its name. crun and runc run a bare bundle in a "
      "plain "
      "directory, unshare and bubblewrap make less still.",
      "docker runs with a daemon and containerd of its own, podman and docker in network namespaces of their own; "
      "neither "
      "can use units of systemd here."};
  if (output != "-") write_report(out, output);
  fmt::print("{}\n", as_json ? out.dump() : to_markdown(out));
  if (output != "-") fmt::print(stderr, "written: {0}.json {0}.md {0}.html\n", output);
  if (interrupted) fail(errc::cancelled, "startup: interrupted; the cases that were complete are told");
  return 0;
}

}  // namespace kit::bench
