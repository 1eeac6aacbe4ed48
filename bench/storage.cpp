// SPDX-License-Identifier: Apache-2.0
#include "storage.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <thread>

#include "kit/engine/changes.hpp"
#include "kit/image/archive.hpp"
#include "kit/system/error.hpp"
#include "kit/system/tree.hpp"
#include "makers.hpp"
#include "measure.hpp"
#include "options.hpp"
#include "peers.hpp"
#include "report.hpp"
#include "statistics.hpp"

namespace kit::bench {

namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();
constexpr double quick_ms = 22000;  // no workload begins later in a quick run
constexpr std::uint64_t kib = 1024, mib = 1024 * kib;

/// The time since the last lap, in milliseconds.
class stopwatch {
 public:
  double lap() {
    const double now = now_ms(), passed = now - last_;
    last_ = now;
    return passed;
  }

 private:
  double last_ = now_ms();
};

/// One subject of a case: who, and how one sample of it is taken: a time for each phase. A sample's whole is their sum.
struct subject {
  std::string name, what;
  std::function<std::vector<double>()> sample;
};

/// What was seen of one: by turn, NaN where it had none.
struct series {
  std::vector<double> whole;
  std::vector<std::vector<double>> phases;
  std::string failure;
  [[nodiscard]] double median(std::size_t phase) const { return summarize(phases[phase]).p50; }
};

std::vector<series> take(const std::vector<subject>& subjects, std::size_t phases, const measuring& how, progress& bar,
                         const std::string& title) {
  std::vector<series> all(subjects.size());
  std::vector<std::string> names;
  for (const subject& s : subjects) names.push_back(s.name);
  for (series& s : all) s.phases.resize(phases);
  const auto put = [](series& s, const std::vector<double>& times) {
    s.whole.push_back(std::accumulate(times.begin(), times.end(), 0.0));
    for (std::size_t p = 0; p < times.size(); ++p) s.phases[p].push_back(times[p]);
  };
  in_turns(
      names, how, bar, title,
      [&](std::size_t i, bool counts) {
        stop_if_interrupted();
        const double begin = now_ms();
        try {
          const std::vector<double> times = subjects[i].sample();
          if (counts) put(all[i], times);
        } catch (const error& e) {
          if (e.code() == errc::cancelled) throw;
          all[i].failure = e.what();
        }
        ::usleep(static_cast<useconds_t>(how.rest_ms * 1000));
        return now_ms() - begin;
      },
      [&](std::size_t i) { put(all[i], std::vector<double>(phases, none)); },
      [&](std::size_t i) { return !all[i].failure.empty(); });
  return all;
}

/// A clone that is removed at the end, whatever happens.
class clone {
 public:
  clone(maker& m, const image_shape& shape) : maker_(m), shape_(shape) { maker_.create(shape, id); }
  ~clone() {
    try {
      close();
      maker_.remove(id);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "kit-bench: warning: %s\n", e.what());
    }
  }
  clone(const clone&) = delete;
  clone& operator=(const clone&) = delete;
  int open() {
    tree_ = maker_.open(shape_, id);
    return tree_.get();
  }
  void close() {
    if (tree_) maker_.close(std::move(tree_), id);
  }
  [[nodiscard]] int tree() const { return tree_.get(); }
  const layer_id id = random_id<layer_id>();

 private:
  maker& maker_;
  const image_shape& shape_;
  unique_fd tree_;
};

void read_some(int root, const std::string& name) {
  char block[4096];
  const unique_fd file = open_at(root, name, O_RDONLY);
  if (::read(file.get(), block, sizeof block) <= 0) fail(errc::io, "read {} of an image: it is empty", name);
}

void overwrite(int root, const std::string& name, off_t at, std::string_view bytes) {
  const unique_fd file = open_at(root, name, O_WRONLY);
  if (::pwrite(file.get(), bytes.data(), bytes.size(), at) != static_cast<ssize_t>(bytes.size()))
    fail_errno(errno, "write {} of an image", name);
}

void add_file(int root, const std::string& name, std::uint64_t size) {
  const unique_fd file = open_at(root, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const std::string block(std::min(size, mib), 'w');
  for (std::uint64_t done = 0; done < size; done += block.size())
    write_all(file.get(), std::string_view(block).substr(0, size - done), name);
}

/// In kilobytes; 0: the line is not there.
double memory_kb(const std::string& key) {
  const std::string text = "\n" + read_file("/proc/meminfo");
  const std::size_t at = text.find("\n" + key + ":");
  return at == text.npos ? 0 : std::strtod(text.c_str() + at + key.size() + 2, nullptr);
}

double free_kb(const std::string& directory) {
  struct statvfs s {};
  if (::statvfs(directory.c_str(), &s) != 0) fail_errno(errno, "statvfs {}", directory);
  return static_cast<double>(s.f_bfree) * static_cast<double>(s.f_frsize) / 1024;
}

/// Calls `work(i)` for each i below `count` from as many threads, which begin together; throws what one of them threw.
void at_once(unsigned count, const std::function<void(unsigned)>& work) {
  std::vector<std::exception_ptr> failures(count);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      try {
        work(i);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    });
  for (std::thread& t : threads) t.join();
  for (const std::exception_ptr& f : failures)
    if (f) std::rethrow_exception(f);
}

std::string number_text(std::uint64_t n) {
  std::string text = std::to_string(n);
  for (std::size_t at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

std::string size_text(std::uint64_t bytes) {
  return bytes >= 1024 * mib ? fmt::format("{} GB", bytes / mib / 1024)
         : bytes >= mib      ? fmt::format("{} MB", bytes / mib)
                             : fmt::format("{} KB", bytes / kib);
}

std::string plural(unsigned n, const char* what) {
  return fmt::format("{} {}{}", number_text(n), what, n == 1 ? "" : "s");
}

enum class extent { quick, usual, full };

/// Measures, and tells what it saw in `out`.
class studies {
 public:
  studies(json& out, const scratch& place, const makers& drivers, const makers& floors, extent how_much, progress& bar)
      : out_(out), place_(place), drivers_(drivers), extent_(how_much), bar_(bar) {
    for (const makers* some : {&drivers, &floors})
      for (const auto& m : *some) all_.push_back(m.get());
    how_.samples = of(8U, 40U, 100U);
    how_.least = of(2U, 3U, 5U);
    how_.budget_ms = of(120.0, 1500.0, 6000.0);
    how_.warmup = 1;
    how_.rest_ms = of(0.0, 2.0, 5.0);
  }

  /// create, mount, first read, unmount, remove: by files, and by layers.
  void provision() {
    const std::vector<image_shape> sizes = of(shapes({{10, 1}, {500, 1}}), shapes({{10, 1}, {1000, 1}, {50000, 1}}),
                                              shapes({{10, 1}, {1000, 1}, {50000, 1}}));
    provision_over(
        "files", "Does it grow with the files of the image?", sizes,
        [](const image_shape& s) { return plural(s.files, "file"); }, [](const image_shape& s) { return s.files; });
    for (const auto& shape : sizes)
      if (shape.files > 1000) drop(shape);
    provision_over(
        "layers", "Does it grow with the layers of the image?",
        of(shapes({{10, 1}, {10, 10}}), shapes({{10, 1}, {10, 10}, {10, 60}, {10, 120}}),
           shapes({{10, 1}, {10, 10}, {10, 60}, {10, 120}})),
        [](const image_shape& s) { return plural(s.layers, "layer"); }, [](const image_shape& s) { return s.layers; });
  }

  void first_write() {
    std::vector<std::uint64_t> sizes{kib, mib};
    if (extent_ == extent::full) sizes.push_back(1024 * mib);
    for (const std::uint64_t size : sizes) {
      const image_shape shape{10, 1, {size}};
      std::vector<subject> subjects;
      for (maker* m : all_)
        if (made(*m, shape))
          subjects.push_back({m->name, m->what, [m, shape, size] {
                                clone c(*m, shape);
                                const int tree = c.open();
                                stopwatch w;
                                overwrite(tree, "large0", static_cast<off_t>(size / 2), "new ");
                                const double first = w.lap();
                                overwrite(tree, "large0", static_cast<off_t>(size / 2), "more");
                                return std::vector<double>{first, w.lap()};
                              }});
      const auto seen = tell_case(
          "first-write-" + std::to_string(size / kib), fmt::format("First write to a file of {}", size_text(size)),
          "Four bytes in the middle of a file of the image: opened, written, closed. A union file system copies the "
          "whole file first; the second write finds it copied.",
          {"first", "second"}, subjects);
      if (size == mib) figures(subjects, seen, {{"first_write_1m_ms", 0}});
      drop(shape);
    }
  }

  void small_updates() {
    const image_shape shape{10, 1, std::vector<std::uint64_t>(10, mib)};
    std::vector<subject> subjects;
    for (maker* m : all_)
      if (made(*m, shape))
        subjects.push_back({m->name, m->what, [m, shape] {
                              stopwatch w;
                              clone c(*m, shape);
                              const int tree = c.open();
                              const double prepare = w.lap();
                              for (int n = 0; n < 10; ++n)
                                overwrite(tree, fmt::format("large{}", n), static_cast<off_t>(mib / 2), "kit!");
                              const double write = w.lap();
                              c.close();
                              m->freeze(c.id);
                              return std::vector<double>{prepare, write, w.lap()};
                            }});
    const auto seen =
        tell_case("small-updates", "Four bytes in the middle of ten files of 1 MB",
                  "As containerd's own benchmark of snapshotters does: prepare (create and mount), write, and commit "
                  "(unmount and freeze, which brings the layer to the disk), each timed apart.",
                  {"prepare", "write", "commit"}, subjects);
    figures(subjects, seen, {{"update_write_ms", 1}, {"update_commit_ms", 2}});
    drop(shape);
  }

  void metadata() {
    const image_shape shape{of(200U, 1000U, 1000U), 1};
    const unsigned files = of(500U, 2000U, 10000U);
    std::vector<subject> subjects;
    for (maker* m : all_)
      if (made(*m, shape))
        subjects.push_back({m->name, m->what, [m, shape, files] {
                              clone c(*m, shape);
                              const int tree = c.open();
                              stopwatch w;
                              for (unsigned n = 0; n < files; ++n) {
                                const std::string directory = fmt::format("new{}", n / 50);
                                if (n % 50 == 0 && ::mkdirat(tree, directory.c_str(), 0755) != 0)
                                  fail_errno(errno, "make a directory");
                                const std::string name = fmt::format("{}/f{}", directory, n);
                                add_file(tree, name, 200);
                                if (::fchmodat(tree, name.c_str(), 0640, 0) != 0) fail_errno(errno, "chmod");
                              }
                              const double untar = w.lap();
                              (void)measure_tree(tree);
                              const double find = w.lap();
                              for (unsigned n = 0; n < files; n += 50)
                                remove_tree(fmt::format("/proc/self/fd/{}/new{}", tree, n / 50));
                              for (unsigned n = 0; n < shape.files; n += 100)
                                remove_tree(fmt::format("/proc/self/fd/{}/d{}", tree, n / 100));
                              return std::vector<double>{untar, find, w.lap()};
                            }});
    const auto seen = tell_case(
        "metadata", fmt::format("A storm of metadata: {} files made, found, removed", number_text(files)),
        "What `tar -x`, `find` and `rm -rf` do, without the programs: files of 200 bytes are made and given a mode; "
        "all that is visible is looked at; it is removed, with the files of the image.",
        {"untar", "find", "rm -rf"}, subjects);
    figures(subjects, seen, {{"untar_ms", 0}, {"find_ms", 1}, {"rm_ms", 2}});
  }

  void read() {
    const std::uint64_t size = of(8, 64, 500) * mib;
    const unsigned many = 20;
    const image_shape shape{10, 1, {size}};
    json table{
        {"title", fmt::format("Reading one file of {} in 1 and in {} containers of one image", size_text(size), many)},
        {"explain",
         "Cold: the file is not in the page cache, one container reads it from its beginning to its end. Then it "
         "is read again, by one and by all at once, in order and at random (blocks of 4 KB). Page cache: by how "
         "much it grew until all had read the file; once the file's size is the least there can be."},
        {"columns",
         {"", "cold MB/s", "1: MB/s", fmt::format("{}: MB/s", many), "1 random: MB/s",
          fmt::format("{} random: MB/s", many), "page cache 1 MB", fmt::format("{} MB", many), "times the file"}},
        {"rows", json::array()}};
    for (maker* m : all_) {
      bar_.step("read: " + m->name, 0);
      if (!made(*m, shape)) continue;
      try {
        std::vector<std::unique_ptr<clone>> clones;
        std::vector<unique_fd> files;
        for (unsigned n = 0; n < many; ++n) {
          stop_if_interrupted();
          clones.push_back(std::make_unique<clone>(*m, shape));
          files.push_back(open_at(clones.back()->open(), "large0", O_RDONLY));
          ::syncfs(files.back().get());
          ::posix_fadvise(files.back().get(), 0, 0, POSIX_FADV_DONTNEED);
        }
        const double before = memory_kb("Cached");
        const auto rate = [&](unsigned count, bool random) {
          stop_if_interrupted();
          stopwatch w;
          at_once(count, [&](unsigned n) { read_all_of(files[n].get(), size, random, n); });
          return static_cast<double>(count) * static_cast<double>(size) / static_cast<double>(mib) / w.lap() * 1000;
        };
        const double cold = rate(1, false), cache_1 = (memory_kb("Cached") - before) / 1024;
        (void)rate(many, false);
        const double cache_n = (memory_kb("Cached") - before) / 1024;
        const double file_mb = static_cast<double>(size) / static_cast<double>(mib);
        const double one = rate(1, false), all = rate(many, false), one_random = rate(1, true),
                     all_random = rate(many, true);
        table["rows"].push_back({m->name, cold, one, all, one_random, all_random, cache_1, cache_n, cache_n / file_mb});
        figure(*m, "read_mb_s", all);
        figure(*m, "random_read_mb_s", all_random);
        figure(*m, "page_cache_times", std::max(cache_n / file_mb, 1.0));
        files.clear();
      } catch (const error& e) {
        left_out(*m, "read", e);
      }
      m->tidy();
    }
    out_["tables"].push_back(std::move(table));
    drop(shape);
  }

  void diff() {
    const std::vector<unsigned> changes =
        of(std::vector<unsigned>{10, 200}, std::vector<unsigned>{10, 10000}, std::vector<unsigned>{10, 10000});
    const std::vector<image_shape> images =
        of(shapes({{10, 1}, {2000, 1}}), shapes({{10, 1}, {50000, 1}}), shapes({{10, 1}, {50000, 1}}));
    struct changed {
      maker* who;
      std::unique_ptr<clone> layer;
      unsigned changes, files;
    };
    std::vector<changed> layers;
    for (const auto& d : drivers_)
      for (const image_shape& shape : images) {
        if (shape.files > 10000 && extent_ != extent::full && !can(*d->driver(), storage_ability::reports_changes)) {
          out_["left_out"].push_back(
              {{"name", d->name},
               {"reason",
                fmt::format("diff on {} files: it reports no changes, so both trees are walked; --full has it",
                            number_text(shape.files))}});
          continue;
        }
        for (const unsigned count : changes) {
          stop_if_interrupted();
          bar_.step(fmt::format("diff: preparing {}", d->name), 0);
          if (!made(*d, shape)) continue;
          auto c = std::make_unique<clone>(*d, shape);
          const int tree = c->open();
          for (unsigned n = 0; n < count; ++n)
            if (n < shape.files)
              overwrite(tree, file_of_image(n), 4, "changed");
            else
              add_file(tree, fmt::format("added{}", n), 100);
          layers.push_back({d.get(), std::move(c), count, shape.files});
        }
      }
    std::vector<subject> subjects;
    for (const changed& c : layers)
      subjects.push_back(
          {c.who->name + fmt::format(": {} of {}", number_text(c.changes), number_text(c.files)), c.who->what,
           [&c, chain = c.who->chain({c.files, 1})] {
             any_storage& d = *c.who->driver();
             std::vector<change> found;
             stopwatch w;
             kit::changes(d, layer{c.layer->id, chain}, [&](const change& one) { found.push_back(one); });
             const double diff = w.lap();
             const unique_fd nowhere = open_file("/dev/null", O_WRONLY);
             pack_changes(c.layer->tree(), found, nowhere.get());
             return std::vector<double>{diff, w.lap()};
           }});
    const auto seen = tell_case(
        "diff", "The changes of a container, found and packed",
        fmt::format(
            "{} and {} changed files (added ones, where the image has not as many) on images of {} and {} files. "
            "Diff is `kit diff`: by the driver where it can, else both trees are walked. Pack writes the "
            "archive of `kit commit`, to nowhere: not compressed, not stored.",
            number_text(changes[0]), number_text(changes[1]), number_text(images[0].files),
            number_text(images[1].files)),
        {"diff", "pack"}, subjects);
    json table{{"title", fmt::format("Does a diff of {} changes grow with the image?", changes[0])},
               {"explain", "The median of the ratios of samples of one turn, and its interval."},
               {"columns",
                {"", fmt::format("{} files: ms", number_text(images[0].files)),
                 fmt::format("{} files: ms", number_text(images[1].files)), "growth", "95 % interval"}},
               {"rows", json::array()}};
    for (const auto& d : drivers_) {
      const series *small = nullptr, *large = nullptr;
      for (std::size_t i = 0; i < layers.size(); ++i)
        if (layers[i].who == d.get() && layers[i].changes == changes[0] && seen[i].failure.empty())
          (layers[i].files == images[0].files ? small : large) = &seen[i];
      if (small == nullptr || large == nullptr) continue;
      const estimate growth = ratio(large->phases[0], small->phases[0]);
      table["rows"].push_back({d->name, small->median(0), large->median(0), growth.value,
                               fmt::format("{:.2f} - {:.2f}", growth.low, growth.high)});
      figure(*d, "diff_ms", large->median(0));
    }
    out_["tables"].push_back(std::move(table));
    layers.clear();
    for (const image_shape& shape : images)
      if (shape.files > 1000) drop(shape);
  }

  void clones() {
    const unsigned count = of(10U, 100U, 1000U);
    const image_shape shape{of(200U, 1000U, 1000U), 1, {mib}};
    json table{
        {"title",
         fmt::format("{} clones of an image of {} files, kept mounted", number_text(count), number_text(shape.files))},
        {"explain",
         "Per clone: time to create and mount one, the first and the last tenth; by how much the machine's available "
         "memory fell; what the driver counts for it, idle and after 1 MB was written; by how much the file system's "
         "free space fell (whatever else was written meanwhile is in that); time to unmount and remove."},
        {"columns",
         {"", "clones", "first tenth ms", "last tenth ms", "memory KB", "idle KB", "with 1 MB: KB", "free space KB",
          "gone ms"}},
        {"rows", json::array()}};
    json curve{{"title", "Does the next clone take longer, the more there are?"},
               {"explain", "Each dot is one clone, created and mounted."},
               {"x", "clones"},
               {"y", "milliseconds"},
               {"series", json::array()}};
    for (maker* m : all_) {
      if (!made(*m, shape)) continue;
      try {
        std::vector<std::unique_ptr<clone>> held;
        std::vector<double> times;
        const unique_fd top = open_directory(place_.disk());
        ::syncfs(top.get());
        const double memory = memory_kb("MemAvailable"), space = free_kb(place_.disk());
        const double begin = now_ms();
        for (unsigned n = 0; n < count; ++n) {
          stop_if_interrupted();
          bar_.step(fmt::format("clones: {} {}", m->name, n), 0);
          stopwatch w;
          held.push_back(std::make_unique<clone>(*m, shape));
          held.back()->open();
          times.push_back(w.lap());
          if (now_ms() - begin > how_.budget_ms * 4 && n >= 9) break;
        }
        const double n = static_cast<double>(held.size());
        const double memory_each = (memory - memory_kb("MemAvailable")) / n;
        const auto counted = [&] {
          if (m->driver() == nullptr) return none;
          const std::vector<layer_id> chain = m->chain(shape);
          double bytes = 0;
          for (const auto& c : held) bytes += static_cast<double>(m->driver()->usage({c->id, chain}).bytes);
          return bytes / 1024 / n;
        };
        const double idle = counted();
        for (const auto& c : held) add_file(c->tree(), "written", mib);
        ::syncfs(top.get());
        const double written = counted(), space_each = (space - free_kb(place_.disk())) / n;
        stopwatch w;
        held.clear();
        const double gone = w.lap() / n;
        const auto tenth = static_cast<std::ptrdiff_t>(std::max<std::size_t>(times.size() / 10, 1));
        table["rows"].push_back({m->name, times.size(), summarize({times.begin(), times.begin() + tenth}).p50,
                                 summarize({times.end() - tenth, times.end()}).p50, memory_each, idle, written,
                                 space_each, gone});
        json points = json::array();
        for (std::size_t i = 0; i < times.size(); ++i) points.push_back({i, times[i]});
        curve["series"].push_back({{"name", m->name}, {"points", std::move(points)}});
        figure(*m, "clone_ms", summarize(times).p50);
        figure(*m, "clone_memory_kb", std::max(memory_each, 0.0));
        figure(*m, "clone_disk_kb", idle);
      } catch (const error& e) {
        left_out(*m, "clones", e);
      }
      m->tidy();
    }
    out_["tables"].push_back(std::move(table));
    out_["curves"].push_back(std::move(curve));
    drop(shape);
  }

  void parallel() {
    const image_shape shape{of(200U, 1000U, 1000U), 1};
    std::map<const maker*, double> alone;  ///< ms for one, among those that went before
    for (const unsigned count :
         of(std::vector<unsigned>{8}, std::vector<unsigned>{1, 8, 64}, std::vector<unsigned>{1, 8, 64})) {
      std::vector<subject> subjects;
      for (maker* m : all_) {
        // Copies of whole images, 64 at once, would be a trial of the disk and of everybody on it.
        if (count > 8 && alone[m] * count > how_.budget_ms) {
          out_["left_out"].push_back(
              {{"name", m->name},
               {"reason", fmt::format("{} at once: one of 8 took {:.0f} ms already", count, alone[m])}});
          continue;
        }
        if (made(*m, shape))
          subjects.push_back({m->name, m->what, [m, shape, count] {
                                stopwatch w;
                                at_once(count, [&](unsigned) {
                                  clone c(*m, shape);
                                  read_some(c.open(), file_of_image(0));
                                });
                                const double time = w.lap();
                                m->tidy();
                                return std::vector<double>{time};
                              }});
      }
      const auto seen =
          tell_case(fmt::format("parallel-{}", count), fmt::format("{} at once", plural(count, "root file system")),
                    "Created, mounted, read, unmounted and removed over one image, each by a thread of "
                    "its own, which begin together; until the last is done.",
                    {"all"}, subjects);
      if (count == 8) figures(subjects, seen, {{"parallel_8_ms", 0}});
      for (std::size_t i = 0; i < subjects.size(); ++i)
        for (maker* m : all_)
          if (m->name == subjects[i].name) alone[m] = seen[i].median(0) / count;
    }
  }

  /// Command against command.
  void commands_alone();

 private:
  template <class T>
  T of(T quick, T usual, T full) const {
    return extent_ == extent::quick ? quick : extent_ == extent::usual ? usual : full;
  }
  static std::vector<image_shape> shapes(std::initializer_list<image_shape> list) { return list; }

  /// Whether who copies its images would take minutes for this one, as a smaller one tells. --full has it all the same.
  bool copies_too_much(maker& m, const image_shape& shape) {
    const image_shape smaller{1000, 1};
    if (extent_ == extent::full || shape.files <= 10 * smaller.files || !made(m, smaller)) return false;
    double least = std::numeric_limits<double>::infinity();
    for (int tries = 0; tries < 3; ++tries) {
      const std::vector<double> times = provision_once(m, smaller);
      least = std::min(least, std::accumulate(times.begin(), times.end(), 0.0));
    }
    const double predicted = least * shape.files / smaller.files;
    // Who shares takes as long for the large one, and would need 40 ms for the small one to be mistaken.
    if (predicted < 2000) return false;
    out_["left_out"].push_back(
        {{"name", m.name},
         {"reason", fmt::format("an image of {} files: it would take about {:.0f} s each time; --full has it",
                                number_text(shape.files), predicted / 1000)}});
    return true;
  }

  /// Makes the image, or says why not.
  bool made(maker& m, const image_shape& shape) {
    try {
      bar_.step(fmt::format("preparing an image of {}, {}: {}", plural(shape.files, "file"),
                            plural(shape.layers, "layer"), m.name),
                0);
      m.make(shape);
      kept_.push_back(shape);
      return true;
    } catch (const error& e) {
      left_out(m, fmt::format("an image of {} and {}", plural(shape.files, "file"), plural(shape.layers, "layer")), e);
      return false;
    }
  }
  void drop(const image_shape& shape) {
    if (std::erase(kept_, shape) == 0) return;
    for (maker* m : all_) m->drop(shape);
  }
  void left_out(const maker& m, const std::string& of_what, const error& e) {
    if (e.code() == errc::cancelled) throw e;
    out_["left_out"].push_back({{"name", m.name}, {"reason", fmt::format("{}: {}", of_what, e.what())}});
  }
  void figure(maker& m, const char* name, double value) {
    if (m.driver() != nullptr && !std::isnan(value)) out_["figures"][m.name][name] = value;
  }
  void figures(const std::vector<subject>& subjects, const std::vector<series>& seen,
               const std::vector<std::pair<const char*, std::size_t>>& wanted) {
    for (std::size_t i = 0; i < subjects.size(); ++i)
      for (const auto& d : drivers_)
        if (d->name == subjects[i].name && seen[i].failure.empty())
          for (const auto& [name, phase] : wanted) figure(*d, name, seen[i].median(phase));
  }

  /// Measures a case and tells it as one of the report's.
  std::vector<series> tell_case(const std::string& id, const std::string& title, const std::string& explain,
                                const std::vector<std::string>& phases, const std::vector<subject>& subjects) {
    std::vector<series> seen = take(subjects, phases.size(), how_, bar_, id);
    json c{{"id", id}, {"title", title}, {"explain", explain}, {"contenders", json::array()}};
    for (std::size_t i = 0; i < seen.size(); ++i) {
      if (!seen[i].failure.empty()) {
        c["left_out"].push_back({{"name", subjects[i].name}, {"reason", seen[i].failure}});
        continue;
      }
      json one{{"name", subjects[i].name}, {"what", subjects[i].what}, {"wall_ms", seen[i].whole}};
      if (phases.size() > 1)
        for (std::size_t p = 0; p < phases.size(); ++p)
          one["phases"].push_back({{"name", phases[p]}, {"ms", seen[i].phases[p]}});
      c["contenders"].push_back(std::move(one));
    }
    if (!c["contenders"].empty() || c.contains("left_out")) out_["cases"].push_back(std::move(c));
    return seen;
  }

  static std::vector<double> provision_once(maker& m, const image_shape& shape) {
    const auto id = random_id<layer_id>();
    std::vector<double> times;
    try {
      stopwatch w;
      m.create(shape, id);
      times.push_back(w.lap());
      unique_fd tree = m.open(shape, id);
      times.push_back(w.lap());
      read_some(tree.get(), file_of_image(shape.files / 2));
      times.push_back(w.lap());
      m.close(std::move(tree), id);
      times.push_back(w.lap());
      m.remove(id);
      times.push_back(w.lap());
    } catch (...) {
      m.remove(id);
      throw;
    }
    m.tidy();
    return times;
  }

  void provision_over(const std::string& by, const std::string& title, const std::vector<image_shape>& sizes,
                      std::string (*said)(const image_shape&), unsigned (*axis)(const image_shape&)) {
    struct pair {
      maker* who;
      const image_shape* shape;
    };
    std::vector<pair> pairs;
    std::vector<subject> subjects;
    for (maker* m : all_)
      for (const image_shape& shape : sizes)
        if (!copies_too_much(*m, shape) && made(*m, shape)) {
          pairs.push_back({m, &shape});
          subjects.push_back({fmt::format("{}, {}", m->name, said(shape)), m->what,
                              [m, &shape] { return provision_once(*m, shape); }});
        }
    const std::vector<std::string> phases{"create", "mount", "first read", "unmount", "remove"};
    // All sizes in one case: growth is a ratio of samples of one turn.
    const std::vector<series> seen =
        tell_case("provision-" + by, "A container's root file system, by " + by,
                  "Created, mounted, one file read, unmounted, removed: what a container needs of its storage driver. "
                  "What a removal leaves to be deleted later is not in its time.",
                  phases, subjects);
    json table{
        {"title", title},
        {"explain",
         "Milliseconds of the whole, median and 99th percentile. Growth: the last column of times over the first; "
         "/ mount(2): what the driver and its books add to the kernel's own part, with the same layers. Medians of "
         "the ratios of samples of one turn, behind them the interval that holds it in 95 of 100 repetitions."},
        {"columns", {""}},
        {"rows", json::array()}};
    json curve{{"title", title},
               {"explain", "The median of each size."},
               {"x", by},
               {"y", "milliseconds"},
               {"logarithmic", true},
               {"series", json::array()}};
    const auto at = [&](const std::string& name, const image_shape& shape) -> const series* {
      for (std::size_t i = 0; i < pairs.size(); ++i)
        if (pairs[i].who->name == name && *pairs[i].shape == shape && seen[i].failure.empty()) return &seen[i];
      return nullptr;
    };
    for (const image_shape& shape : sizes)
      for (const char* what : {" p50", " p99"}) table["columns"].push_back(said(shape) + what);
    table["columns"].push_back("growth");
    for (const image_shape& shape : sizes) table["columns"].push_back(fmt::format("/ mount(2), {}", said(shape)));
    const auto with_interval = [](const estimate& e) {
      return fmt::format("{:.2f} ({:.2f} - {:.2f})", e.value, e.low, e.high);
    };
    for (maker* m : all_) {
      json row{m->name}, points = json::array();
      for (const image_shape& shape : sizes) {
        const series* s = at(m->name, shape);
        const summary whole = s != nullptr ? summarize(s->whole) : summary{};
        row.push_back(s != nullptr ? json(whole.p50) : json());
        row.push_back(s != nullptr ? json(whole.p99) : json());
        if (s == nullptr) continue;
        points.push_back({axis(shape), whole.p50});
        if (shape == sizes.back()) figure(*m, by == "files" ? "provision_ms" : "provision_layers_ms", whole.p50);
      }
      const series *first = at(m->name, sizes.front()), *last = at(m->name, sizes.back());
      row.push_back(first != nullptr && last != nullptr ? json(with_interval(ratio(last->whole, first->whole)))
                                                        : json());
      for (const image_shape& shape : sizes) {
        const series *s = at(m->name, shape), *floor = at("mount(2)", shape);
        row.push_back(s != nullptr && floor != nullptr && s != floor
                          ? json(with_interval(ratio(s->whole, floor->whole)))
                          : json());
      }
      table["rows"].push_back(std::move(row));
      curve["series"].push_back({{"name", m->name}, {"points", std::move(points)}});
    }
    out_["tables"].push_back(std::move(table));
    out_["curves"].push_back(std::move(curve));
  }

  static void read_all_of(int file, std::uint64_t size, bool random, unsigned seed) {
    std::vector<char> block(random ? 4 * kib : mib);
    std::mt19937_64 any(seed);
    const std::uint64_t blocks = size / block.size();
    for (std::uint64_t n = 0; n < blocks; ++n) {
      const std::uint64_t at = (random ? any() % blocks : n) * block.size();
      if (::pread(file, block.data(), block.size(), static_cast<off_t>(at)) <= 0)
        fail_errno(errno, "read a large file");
    }
  }

  json& out_;
  const scratch& place_;
  const makers& drivers_;
  std::vector<maker*> all_;
  extent extent_;
  progress& bar_;
  measuring how_;
  std::vector<image_shape> kept_;
};

/// containerd alone, in directories of its own.
class containerd {
 public:
  explicit containerd(const scratch& place) : directory_(place.disk() + "/containerd") {
    const std::string server = find_program("containerd");
    ctr_ = find_program("ctr");
    if (server.empty() || ctr_.empty()) fail(errc::not_found, "it is not installed (bench/peers-install)");
    make_directories(directory_);
    const std::string socket = place.run() + "/containerd.sock", file = directory_ + "/config.toml";
    replace_file(file,
                 fmt::format("version = 2\nroot = \"{0}/root\"\nstate = \"{1}/containerd\"\n"
                             "disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n"
                             "[grpc]\n  address = \"{2}\"\n[debug]\n  level = \"error\"\n",
                             directory_, place.run(), socket));
    words_ = {ctr_, "--address", socket};
    pid_ = ::fork();
    if (pid_ < 0) fail_errno(errno, "fork");
    if (pid_ == 0) {
      const int log = ::open((directory_ + "/log").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0), ::dup2(log, 1), ::dup2(log, 2);
      // A terminal's interrupt is for the benchmark, which stops it in order.
      ::setpgid(0, 0);
      ::execl(server.c_str(), server.c_str(), "--config", file.c_str(), nullptr);
      ::_exit(127);
    }
    try {
      for (int i = 0; bench::run(with({"version"})).status != 0; ++i) {
        stop_if_interrupted();
        int status = 0;
        if (::waitpid(pid_, &status, WNOHANG) == pid_) {
          pid_ = -1;
          fail(errc::io, "its daemon does not start: {}", why({1, read_file(directory_ + "/log"), ""}));
        }
        if (i == 200) fail(errc::io, "its daemon does not answer");
        ::usleep(50000);
      }
      must_run(with({"snapshots", "prepare", "making"}));
      must_run(with({"snapshots", "commit", "base", "making"}));
    } catch (...) {
      stop();
      throw;
    }
  }
  ~containerd() { stop(); }
  containerd(const containerd&) = delete;
  containerd& operator=(const containerd&) = delete;
  [[nodiscard]] command with(const command& words) const {
    command all = words_;
    all.insert(all.end(), words.begin(), words.end());
    return all;
  }
  [[nodiscard]] std::vector<pid_t> daemons() const { return {pid_}; }

 private:
  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    int status = 0;
    for (int i = 0; i < 200 && ::waitpid(pid_, &status, WNOHANG) == 0; ++i) {
      if (i == 100) ::kill(pid_, SIGKILL);
      ::usleep(50000);
    }
    pid_ = -1;
  }
  std::string directory_, ctr_;
  command words_;
  pid_t pid_ = -1;
};

void studies::commands_alone() {
  bar_.step("commands: setting up", 0);
  const std::string rootfs = place_.disk() + "/rootfs";
  make_rootfs(rootfs);
  std::vector<contender> contenders;
  const std::unique_ptr<runtime> kit = make_kit(place_, rootfs);
  kit->set_up();
  for (const auto& d : drivers_) {
    const auto create = [&kit, name = d->name](const std::string& id) {
      command words = kit->create(id, {"true"});
      words.insert(words.begin() + 2, {"--storage", name});
      return words;
    };
    try {  // the image is unpacked once
      must_run(create("first"));
      must_run(kit->remove("first"));
    } catch (const error& e) {
      left_out(*d, "commands", e);
      continue;
    }
    contenders.push_back(
        {"kit, " + d->name,
         "kit create and kit rm: a container's record, spec and directory, and its layer in this driver",
         [&kit, create](unsigned n) {
           const std::string id = fmt::format("layer-{}", n);
           return commands{create(id), kit->remove(id)};
         },
         {},
         {}});
  }
  std::optional<containerd> peer;
  try {
    peer.emplace(place_);
    contenders.push_back(
        {"ctr snapshots",
         "ctr snapshots prepare and ctr snapshots rm, asked of a daemon that runs: a layer of overlayfs and its "
         "record",
         [&](unsigned n) {
           const std::string key = fmt::format("layer-{}", n);
           return commands{peer->with({"snapshots", "prepare", key, "base"}), peer->with({"snapshots", "rm", key})};
         },
         {},
         {},
         -1,
         -1,
         peer->daemons()});
  } catch (const error& e) {
    if (e.code() == errc::cancelled) throw;
    out_["left_out"].push_back({{"name", "containerd"}, {"reason", e.what()}});
  }
  measuring how = how_;
  how.rest_ms = of(2.0, 10.0, 20.0);
  const std::vector<samples> seen = measure(contenders, how, bar_, "commands");
  json c{
      {"id", "commands"},
      {"title", "One layer made and removed from the command line"},
      {"explain",
       "Two commands, one after the other, from the start of the first until the second has ended. kit has no daemon: "
       "its command opens the records and loads the driver each time."},
      {"contenders", json::array()}};
  for (std::size_t i = 0; i < seen.size(); ++i)
    if (seen[i].failure.empty())
      c["contenders"].push_back(to_json(contenders[i], seen[i]));
    else
      c["left_out"].push_back({{"name", contenders[i].name}, {"reason", seen[i].failure}});
  out_["cases"].push_back(std::move(c));
}

constexpr std::pair<const char*, void (studies::*)()> workloads[] = {{"provision", &studies::provision},
                                                                     {"first-write", &studies::first_write},
                                                                     {"small-updates", &studies::small_updates},
                                                                     {"metadata", &studies::metadata},
                                                                     {"read", &studies::read},
                                                                     {"diff", &studies::diff},
                                                                     {"clones", &studies::clones},
                                                                     {"parallel", &studies::parallel},
                                                                     {"commands", &studies::commands_alone}};

}  // namespace

int storage_command(const command& words) {
  std::vector<std::string> drivers, wanted;
  bool quick = false, full = false, as_json = false;
  std::string output = "kit-bench-storage", directory;
  std::string names;
  for (const auto& w : workloads) names += (names.empty() ? "" : ", ") + std::string(w.first);
  const command rest = parse(
      words,
      {"storage",
       "What each storage driver costs on this disk, beside what the kernel alone needs, cp and containerd.\n"
       "Takes some minutes. Workloads: " +
           names + "."},
      {{"--drivers", "NAME,...", "these drivers (all that work here)", list(drivers)},
       {"--workload", "NAME,...", "these workloads (all)", list(wanted)},
       {"--quick", "", "under half a minute: smaller images, fewer samples, no commands", flag(quick)},
       {"--full", "", "a 1 GB file, 500 MB to read, 1,000 clones, copies of 50,000 files, more samples", flag(full)},
       {"--directory", "DIR", "where layers are made ($TMPDIR, /tmp): its file system is what is measured",
        text(directory)},
       {"-o", "FILE", "write FILE.json, FILE.md, FILE.html (kit-bench-storage); - writes none", text(output)},
       {"--json", "", "print the JSON in place of the summary", flag(as_json)}});
  if (!rest.empty()) fail(errc::invalid, "storage takes no argument \"{}\"; see kit bench storage --help", rest[0]);
  if (quick && full) fail(errc::invalid, "options --quick and --full exclude each other");
  for (const std::string& w : wanted)
    if (std::none_of(std::begin(workloads), std::end(workloads), [&](const auto& known) { return w == known.first; }))
      fail(errc::invalid, "option --workload: there is no workload {}; there is {}", w, names);
  if (!is_root()) fail(errc::permission, "kit-bench storage: only root can mount");
  if (!directory.empty()) directory = std::filesystem::absolute(directory).lexically_normal();
  catch_interrupts();
  // What mount(2) makes is seen by nobody else, and gone with this process.
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    fail_errno(errno, "make a mount namespace");
  const scratch place(directory);
  json out{{"benchmark", "storage"},
           {"title", "What does a storage driver cost on this disk?"},
           {"about",
            "A container's root file system is a layer of its own over the read-only layers of its image, which all "
            "containers of that image share. Who makes it is the storage driver. Here each driver of kit that "
            "works on this machine is measured, in turns with what the kernel alone needs for the same "
            "(`mount(2)`, a snapshot by `ioctl(2)`) and with plain copies (`cp`)."},
           {"machine", describe_machine(place)},
           {"load_before", load_average()}};
  bool interrupted = false;
  {
    found_drivers found = find_drivers(place.disk() + "/drivers", drivers);
    for (const auto& [name, reason] : found.missing) out["left_out"].push_back({{"name", name}, {"reason", reason}});
    if (found.all.empty())
      fail(errc::unsupported, "no storage driver works in {}: {}", place.disk(),
           found.missing.empty() ? "there is none" : found.missing[0].second);
    const makers floors = find_floors(place.disk(), !quick);
    std::vector<std::string> ids = wanted;
    if (ids.empty())
      for (const auto& w : workloads)
        if (!quick || std::string_view(w.first) != "commands") ids.emplace_back(w.first);
    progress bar(static_cast<double>(ids.size()));
    studies all(out, place, found.all, floors, quick ? extent::quick : full ? extent::full : extent::usual, bar);
    try {
      const double begin = now_ms();
      for (const std::string& id : ids) {
        if (quick && now_ms() - begin > quick_ms) {
          out["left_out"].push_back({{"name", id}, {"reason", "time was up: the disk or the processors are busy"}});
          continue;
        }
        for (const auto& w : workloads)
          if (id == w.first) (all.*w.second)();
      }
    } catch (const error& e) {
      if (e.code() != errc::cancelled || !out.contains("cases")) throw;
      interrupted = true;
    }
  }
  out["load_after"] = load_average();
  out["notes"] = {
      "Drivers are called in this process, as kit does, through their plugins; their mounts are made by the same "
      "function as a container's. What a container needs beside its root file system is not in the figures: see kit "
      "bench startup.",
      "mount(2) does not rename, remember or lock anything: a crash in the middle of it leaves what nobody finds.",
      "Page cache and memory are those of the whole machine, before and after; whatever else it did is in them.",
      "Files are not synced, but where a phase is called commit, and where a driver syncs by itself."};
  if (output != "-") write_report(out, output);
  fmt::print("{}\n", as_json ? out.dump() : to_markdown(out));
  if (output != "-") fmt::print(stderr, "written: {0}.json {0}.md {0}.html\n", output);
  if (interrupted) fail(errc::cancelled, "storage: interrupted; the workloads that were complete are told");
  return 0;
}

}  // namespace kit::bench
