// SPDX-License-Identifier: Apache-2.0
#include "verbs.hpp"

namespace kit::cli {
namespace {

// clang-format off
constexpr verb table[] = {
    {"run",               "Make a container from an image, run a command in it",     "image",     125, run},
    {"create",            "Make a container, without running it",                    "image",     1,   create},
    {"start",             "Run containers that do not run yet, or any more",         "container", 1,   start},
    {"stop",              "Ask containers to end; kill those that do not",           "container", 1,   stop},
    {"restart",           "Stop containers, and start them again",                   "container", 1,   restart},
    {"kill",              "Send a signal to containers",                             "container", 1,   kill},
    {"wait",              "Wait for containers to exit, print their exit codes",     "container", 1,   wait},
    {"rm",                "Remove containers",                                       "container", 1,   rm},
    {"ps",                "List containers",                                         "",          1,   ps},
    {"inspect",           "Show all that is known of an object",                     "container", 1,   inspect},
    {"logs",              "Show what a container has written",                       "container", 1,   logs},
    {"events",            "Show what happens, as it happens",                        "",          1,   events},
    {"exec",              "Run one more command in a running container",             "container", 1,   exec},
    {"attach",            "Connect this terminal to a running container",            "container", 1,   attach},
    {"commit",            "Make an image of a container's changes",                  "container", 1,   commit},
    {"cp",                "Copy files between a container and the host",             "container", 1,   container_cp},
    {"export",            "Write a container's file system as an archive",           "container", 1,   container_export},
    {"diff",              "List the files a container has changed",                  "container", 1,   diff},
    {"pause",             "Freeze the processes of containers",                      "container", 1,   pause},
    {"unpause",           "Let paused containers go on",                             "container", 1,   unpause},
    {"rename",            "Give a container another name",                           "container", 1,   rename},
    {"stats",             "Show what running containers use",                        "container", 1,   stats},
    {"top",               "List the processes of a container",                       "container", 1,   top},
    {"update",            "Change the limits of containers",                         "container", 1,   update},
    {"port",              "List the published ports of a container",                 "container", 1,   port},
    {"images",            "List images",                                             "",          1,   image_ls},
    {"rmi",               "Remove images",                                           "image",     1,   image_rm},
    {"load",              "Take over images from an archive or an OCI layout",       "",          1,   image_load},
    {"save",              "Write images as an archive",                              "image",     1,   image_save},
    {"import",            "Make an image from a root file system's archive",         "",          1,   image_import},
    {"history",           "Show how an image came about",                            "image",     1,   image_history},
    {"tag",               "Give an image one more name",                             "image",     1,   image_tag},
    {"container attach",    "Connect this terminal to a running container",            "container", 1,   attach},
    {"container commit",    "Make an image of a container's changes",                  "container", 1,   commit},
    {"container cp",        "Copy files between a container and the host",             "container", 1,   container_cp},
    {"container create",    "Make a container, without running it",                    "image",     1,   create},
    {"container diff",      "List the files a container has changed",                  "container", 1,   diff},
    {"container exec",      "Run one more command in a running container",             "container", 1,   exec},
    {"container export",    "Write a container's file system as an archive",           "container", 1,   container_export},
    {"container inspect",   "Show all that is known of containers",                    "container", 1,   container_inspect},
    {"container kill",      "Send a signal to containers",                             "container", 1,   kill},
    {"container logs",      "Show what a container has written",                       "container", 1,   logs},
    {"container ls",        "List containers",                                         "",          1,   ps},
    {"container pause",     "Freeze the processes of containers",                      "container", 1,   pause},
    {"container port",      "List the published ports of a container",                 "container", 1,   port},
    {"container prune",     "Remove containers that do not run",                       "",          1,   container_prune},
    {"container rename",    "Give a container another name",                           "container", 1,   rename},
    {"container restart",   "Stop containers, and start them again",                   "container", 1,   restart},
    {"container rm",        "Remove containers",                                       "container", 1,   rm},
    {"container run",       "Make a container from an image, run a command in it",     "image",     125, run},
    {"container start",     "Run containers that do not run yet, or any more",         "container", 1,   start},
    {"container stats",     "Show what running containers use",                        "container", 1,   stats},
    {"container stop",      "Ask containers to end; kill those that do not",           "container", 1,   stop},
    {"container top",       "List the processes of a container",                       "container", 1,   top},
    {"container unpause",   "Let paused containers go on",                             "container", 1,   unpause},
    {"container update",    "Change the limits of containers",                         "container", 1,   update},
    {"container wait",      "Wait for containers to exit, print their exit codes",     "container", 1,   wait},
    {"image ls",          "List images",                                             "",          1,   image_ls},
    {"image rm",          "Remove images",                                           "image",     1,   image_rm},
    {"image import",      "Make an image from a root file system's archive",         "",          1,   image_import},
    {"image load",        "Take over images from an archive or an OCI layout",       "",          1,   image_load},
    {"image save",        "Write images as an archive",                              "image",     1,   image_save},
    {"image export",      "Write a container's file system as an archive",           "container", 1,   container_export},
    {"image tag",         "Give an image one more name",                             "image",     1,   image_tag},
    {"image history",     "Show how an image came about",                            "image",     1,   image_history},
    {"image prune",       "Remove images without a name",                            "",          1,   image_prune},
    {"image inspect",     "Show all that is known of images",                        "image",     1,   image_inspect},
    {"image unpack",      "Unpack images in a storage driver ahead of their use",    "image",     1,   image_unpack},
    {"container move",    "Take containers to another storage driver",               "container", 1,   container_move},
    {"network create",    "Make a network",                                          "",          1,   network_create},
    {"network ls",        "List networks",                                           "",          1,   network_ls},
    {"network prune",     "Remove networks that nothing uses",                       "",          1,   network_prune},
    {"network rm",        "Remove networks",                                         "network",   1,   network_rm},
    {"network inspect",   "Show all that is known of networks",                      "network",   1,   network_inspect},
    {"volume create",     "Make a volume: a directory that outlives containers",     "",          1,   volume_create},
    {"volume ls",         "List volumes",                                            "",          1,   volume_ls},
    {"volume rm",         "Remove volumes",                                          "volume",    1,   volume_rm},
    {"volume inspect",    "Show all that is known of volumes",                       "volume",    1,   volume_inspect},
    {"volume prune",      "Remove volumes that no container uses",                   "",          1,   volume_prune},
    {"driver ls",         "List drivers, and whether they work on this host",        "",          1,   driver_ls},
    {"driver probe",      "Tell what drivers found on this host, and their options", "driver",    1,   driver_probe},
    {"driver recommend",  "Rank the storage drivers for this host, by what they cost", "",        1,   driver_recommend},
    {"config ls",         "List the settings",                                       "",          1,   config_ls},
    {"config get",        "Print a setting",                                         "",          1,   config_get},
    {"config set",        "Change a setting, after a try whether it works",          "",          1,   config_set},
    {"plugin ls",         "List plugin files",                                       "",          1,   plugin_ls},
    {"plugin check",      "Run the conformance suite on a plugin",                   "driver",    1,   plugin_check},
    {"system info",       "Describe this kit and this host",                         "",          1,   system_info},
    {"system check",      "Bring records and kernel back together",                  "",          2,   system_check},
    {"system start",      "Start what should run, after a boot",                     "",          1,   system_start},
    {"generate systemd",  "Print a unit that does so at each boot",                  "",          1,   generate_systemd},
    {"system prune",      "Remove what nothing uses",                                "",          1,   system_prune},
    {"bench",             "Measure this kit, beside other runtimes",                 "",          1,   bench},
    {"version",           "Print the version",                                       "",          1,   version},
    {"completion bash",   "Print a completion script for bash",                      "",          1,   completion_bash},
    {"internal complete", "Complete a command line",                                 "",         1,   internal_complete},
    {"internal compress", "Compress old files of a container's log",                 "container", 1,   internal_compress},
    {"internal finish",   "Record a container's exit",                               "container", 1,   internal_finish},
    {"internal faults",   "List the points at which a command can be cut short",     "",          1,   internal_faults},
    {"internal tidy",     "Move the records' log into the database",                 "",          1,   internal_tidy},
    {"internal unpack",   "Unpack an image in a storage driver",                     "image",     1,   internal_unpack},
    {"internal unpack-log", "Write what a compressed log file has",                  "",          1,   internal_unpack_log},
};
// clang-format on

}  // namespace

std::span<const verb> verbs() { return table; }

const verb* find_verb(const arguments& words) {
  if (words.empty()) return nullptr;
  const std::string two = words.size() > 1 ? words[0] + " " + words[1] : "";
  for (const verb& v : table)
    if (v.name == words[0] || v.name == two) return &v;
  return nullptr;
}

kit::engine& invocation::engine() {
  if (!engine_) engine_ = std::make_unique<kit::engine>(config);
  return *engine_;
}

}  // namespace kit::cli
