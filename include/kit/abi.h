/* SPDX-License-Identifier: Apache-2.0
 *
 * kit/abi.h - the binary contract between kit and a driver plugin. Valid C11 and C++20.
 *
 * Most authors never read this file: they write a C++ class that models a concept
 * (kit/storage/concept.hpp, kit/network/concept.hpp, kit/isolation/concept.hpp) and one line,
 * KIT_PLUGIN(...), which makes everything below. Read it to write a plugin in another language,
 * or to judge whether two builds fit together.
 *
 * 1. Shape. A plugin is a shared object named kit-<family>-<name>.so with one exported object,
 *    `kit_plugin_descriptor`: a constant kit_plugin. The host checks it in the order of the table at
 *    kit_plugin, calls `open`, and from then on calls only through the family's function table.
 * 2. Growth. Structs and tables grow at the end only, and their `size` member (bytes, as the side
 *    that made them knew them) is the only truth about what is there: read a member only if
 *    KIT_HAS(p, member). A newer plugin loads into an older host. A plugin older than the host loads
 *    if its table reaches the last function of the base (KIT_*_BASE_SIZE). Another `major` is refused.
 * 3. Two kinds of struct. Frozen leaves (kit_text, kit_option, kit_id, kit_id_state) never grow and
 *    may be array elements. Growing structs start with `size`, are passed one at a time by pointer,
 *    and are borrowed for the call. A zero member means the default. An enumerator the callee does
 *    not know is answered with KIT_UNSUPPORTED.
 * 4. Calls. The first argument of every function is the call context, the second is the driver's
 *    own `self`. The answer is a kit_status; on anything but KIT_OK the callee says why, once,
 *    through kit_call.fail before it returns. Nothing may throw across this boundary.
 * 5. Lists come back one element at a time through a kit_sink. If `put` answers non-zero the callee
 *    stops and returns KIT_STOPPED without calling `fail`. Sinks and all callbacks are called on the
 *    calling thread and only before the function returns.
 * 6. Memory belongs to the side that made it; text is borrowed for the call and need not end in NUL.
 * 7. Abilities. `ability(self, "limits_size")` answers a sub-table, or NULL for "not on this host".
 *    The sub-table starts with `size` and lives as long as self.
 * 8. Threads. One self may be called from several threads at once. A plugin starts no thread and
 *    installs no signal handler or atfork handler before it is told to do work: the host forks.
 * 9. Descriptors cross as int, -1 for none (also for a member beyond `size`), opened O_CLOEXEC. Each
 *    member names its owner.
 * 10. Life. A plugin is loaded RTLD_LOCAL | RTLD_NOW and never unloaded; `close` ends one self.
 */
#ifndef KIT_ABI_H
#define KIT_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A struct that fits in a line is one, and a column of functions is a table. */
/* clang-format off */

#define KIT_ABI_MAGIC 0x31494241544B4B00ull /* changes only if this file's first member does */
#define KIT_ABI_MAJOR 1u                    /* incompatible change */
#define KIT_ABI_MINOR 2u                    /* something was added at an end */

/* Whether the side that made *p knew `member`: reading it is allowed. */
#define KIT_HAS(p, member) \
  ((p)->size >= (size_t)((const char*)&(p)->member - (const char*)(p)) + sizeof((p)->member))

/* ---- leaves: frozen --------------------------------------------------------------------------- */

typedef struct kit_text { const char* data; size_t size; } kit_text; /* UTF-8 or a path's bytes */
typedef struct kit_option { kit_text key, value; } kit_option;
typedef struct kit_id { char hex[64]; } kit_id; /* 64 lower-case hexadecimal digits, no NUL */
typedef struct kit_id_state { kit_id id; uint32_t state; uint32_t reserved; } kit_id_state;

typedef int32_t kit_status;
enum {
  KIT_OK = 0,
  KIT_NOT_FOUND = 1,   /* the object named does not exist */
  KIT_EXISTS = 2,      /* it exists already */
  KIT_CONFLICT = 3,    /* it exists and differs from what was asked */
  KIT_BUSY = 4,        /* not now; the same call may succeed later */
  KIT_UNSUPPORTED = 5, /* this driver, kernel or host cannot */
  KIT_INVALID = 6,     /* the request itself is wrong */
  KIT_NO_SPACE = 7,    /* ENOSPC, EDQUOT, pool full, no address left */
  KIT_PERMISSION = 8,
  KIT_IO = 9,          /* anything else that went wrong underneath */
  KIT_CANCELLED = 10,
  KIT_STOPPED = -1     /* the caller's sink asked to stop: not an error */
};

/* One list's destination. `item` points to the element type the function documents. */
typedef struct kit_sink {
  void* to;
  int32_t (*put)(void* to, const void* item);
} kit_sink;

/* ---- the call context: growing ---------------------------------------------------------------- */

typedef struct kit_call {
  size_t size;
  void* to; /* handed back to every callback */
  /* Say why the call failed, once: errno or 0, and one lower-case line naming object and remedy. */
  void (*fail)(void* to, int32_t sys_errno, kit_text message);
  int32_t (*cancelled)(void* to);                             /* non-zero: return KIT_CANCELLED soon */
  void (*progress)(void* to, uint64_t done, uint64_t total);  /* bytes; total 0: unknown */
  void (*log)(void* to, int32_t level, kit_text message);     /* level: 0 debug, 1 info, 2 warning */
  int64_t deadline_ns; /* CLOCK_MONOTONIC nanoseconds, 0: none; past it return KIT_CANCELLED */
  /* since 1.1. A named step begins (edge 1) or ended (2), or a system call is about to be made (3): for traces and tests.
   * Answers 0, or the errno it is to fail with. May be called between clone and exec. `name` lives as long as the plugin. */
  int32_t (*step)(void* to, kit_text name, uint32_t edge);
} kit_call;

/* ---- storage ---------------------------------------------------------------------------------- */

typedef struct kit_layer {
  size_t size;
  kit_id id;
  const kit_id* parents; /* nearest first */
  size_t parent_count;
} kit_layer;

enum { KIT_READ_WRITE = 1, KIT_READ_ONLY = 2, KIT_LIVE = 3 };          /* access */
enum { KIT_LAYER_PARTIAL = 1, KIT_LAYER_WRITABLE = 2, KIT_LAYER_FROZEN = 3 }; /* kit_id_state.state */
enum { KIT_MOUNT_MAKE = 1, KIT_MOUNT_RECONFIGURE = 2 };
enum { KIT_VALUE_FLAG = 1, KIT_VALUE_TEXT = 2, KIT_VALUE_PATH = 3, KIT_VALUE_PATHS = 4, KIT_VALUE_RESULT = 5 };

typedef struct kit_mount_option {
  size_t size;
  kit_text key;
  uint32_t kind;          /* KIT_VALUE_* */
  uint32_t result;        /* KIT_VALUE_RESULT: index of an earlier entry */
  kit_text value;         /* KIT_VALUE_TEXT, KIT_VALUE_PATH */
  const kit_text* values; /* KIT_VALUE_PATHS */
  size_t value_count;
} kit_mount_option;

typedef struct kit_mount {
  size_t size;
  kit_text fstype, source, target;
  uint64_t attributes; /* MOUNT_ATTR_* of linux/mount.h */
  uint32_t action;     /* KIT_MOUNT_*, 0: KIT_MOUNT_MAKE */
  uint32_t reserved;
  const kit_mount_option* const* options; /* option_count pointers */
  size_t option_count;
} kit_mount;

typedef struct kit_usage { size_t size; uint64_t bytes, inodes; } kit_usage;

enum { KIT_CHANGE_ADDED = 1, KIT_CHANGE_MODIFIED = 2, KIT_CHANGE_DELETED = 3 };
typedef struct kit_change {
  size_t size;
  uint32_t kind;
  uint32_t reserved;
  kit_text path; /* relative to the root of the layer, no leading slash */
} kit_change;

typedef struct kit_storage {
  size_t size;
  kit_status (*create)(const kit_call*, void* self, const kit_layer*, const kit_option*, size_t);
  kit_status (*mounts)(const kit_call*, void* self, const kit_layer*, uint32_t access, kit_sink); /* kit_mount */
  kit_status (*freeze)(const kit_call*, void* self, const kit_id*);
  kit_status (*remove)(const kit_call*, void* self, const kit_id*);
  kit_status (*usage)(const kit_call*, void* self, const kit_layer*, kit_usage* out);
  kit_status (*layers)(const kit_call*, void* self, kit_sink); /* kit_id_state */
  const void* (*ability)(void* self, const char* name);
} kit_storage;
#define KIT_STORAGE_BASE_SIZE (offsetof(kit_storage, ability) + sizeof(void (*)(void)))

typedef struct kit_reports_changes { /* ability "reports_changes" */
  size_t size;
  kit_status (*changes)(const kit_call*, void* self, const kit_layer*, kit_sink); /* kit_change */
} kit_reports_changes;

typedef struct kit_limits_size { /* ability "limits_size" */
  size_t size;
  kit_status (*limit)(const kit_call*, void* self, const kit_id*, uint64_t bytes); /* 0: no limit */
} kit_limits_size;

typedef struct kit_activates { /* ability "activates" */
  size_t size;
  kit_status (*activate)(const kit_call*, void* self, const kit_layer*, uint32_t access);
  kit_status (*release)(const kit_call*, void* self, const kit_layer*);
} kit_activates;

typedef struct kit_settles { /* ability "settles" */
  size_t size;
  kit_status (*settle)(const kit_call*, void* self, const kit_id*, int32_t rootfs_fd); /* fd: caller's */
} kit_settles;

enum { KIT_WHITEOUTS_OVERLAY = 1, KIT_WHITEOUTS_AUFS = 2 };

typedef struct kit_rebases { /* ability "rebases", since 1.2 */
  size_t size;
  kit_status (*rebase)(const kit_call*, void* self, const kit_layer*);
  kit_status (*deletions)(const kit_call*, void* self, uint32_t* out); /* KIT_WHITEOUTS_* */
} kit_rebases;

/* ---- network ---------------------------------------------------------------------------------- */

enum { KIT_NETNS_OWN = 1, KIT_NETNS_HOST = 2 };

typedef struct kit_subnet { size_t size; kit_text prefix, gateway; } kit_subnet; /* "10.1.0.0/20", "10.1.0.1" */

typedef struct kit_network {
  size_t size;
  kit_id id;
  kit_text name;     /* the operator's word, for messages */
  kit_text link;     /* name of the host link this network may own: unique, at most 15 bytes */
  kit_text owner;    /* "kit:<root tag>:<id>": to be written on every kernel object made */
  const kit_subnet* const* subnets;
  size_t subnet_count;
  const kit_option* options;
  size_t option_count;
} kit_network;

typedef struct kit_endpoint {
  size_t size;
  kit_id id;            /* of the endpoint: one container on one network */
  kit_text owner;       /* as above */
  int32_t netns;        /* caller's; -1 in detach when the namespace is gone */
  uint32_t reserved;
  kit_text interface_name; /* inside, "eth0" */
  kit_text link;        /* name of the host side link it may own: unique, at most 15 bytes */
  kit_text mac;         /* empty: the driver chooses */
  const kit_text* addresses; /* "10.1.0.5/20", leased by the engine; empty if the driver assigns them */
  size_t address_count;
  const kit_option* options;
  size_t option_count;
} kit_endpoint;

typedef struct kit_interface { size_t size; kit_text name, mac; uint32_t mtu; uint32_t inside; } kit_interface;
typedef struct kit_ip { size_t size; kit_text address, gateway; uint32_t interface_index; uint32_t reserved; } kit_ip;
typedef struct kit_route { size_t size; kit_text destination, gateway; } kit_route;

/* What attach answers, and detach and check get back: a CNI result and the driver's own bytes. */
typedef struct kit_attachment {
  size_t size;
  const kit_interface* const* interfaces; size_t interface_count;
  const kit_ip* const* ips;               size_t ip_count;
  const kit_route* const* routes;         size_t route_count;
  const kit_text* nameservers;            size_t nameserver_count;
  const kit_text* search;                 size_t search_count;
  kit_text driver_data;
} kit_attachment;

typedef struct kit_network_traits {
  size_t size;
  uint32_t network_namespace; /* KIT_NETNS_*, 0: KIT_NETNS_OWN */
  uint32_t assigns_addresses; /* non-zero: the driver brings its own address management */
  uint32_t publishes_ports;
  uint32_t reserved;
} kit_network_traits;

typedef struct kit_network_driver {
  size_t size;
  kit_status (*traits)(const kit_call*, void* self, kit_network_traits* out);
  kit_status (*create)(const kit_call*, void* self, const kit_network*);
  kit_status (*remove)(const kit_call*, void* self, const kit_network*);
  kit_status (*attach)(const kit_call*, void* self, const kit_network*, const kit_endpoint*, kit_sink); /* one kit_attachment */
  kit_status (*detach)(const kit_call*, void* self, const kit_network*, const kit_endpoint*, const kit_attachment*);
  kit_status (*check)(const kit_call*, void* self, const kit_network*, const kit_endpoint*, const kit_attachment*);
  kit_status (*collect)(const kit_call*, void* self, const kit_network*, const kit_id* valid, size_t);
  kit_status (*status)(const kit_call*, void* self, const kit_network*);
  const void* (*ability)(void* self, const char* name);
} kit_network_driver;
#define KIT_NETWORK_BASE_SIZE (offsetof(kit_network_driver, ability) + sizeof(void (*)(void)))

/* ---- isolation -------------------------------------------------------------------------------- */

typedef struct kit_container {
  size_t size;
  kit_id id;
  kit_text bundle;     /* absolute path of the OCI bundle */
  kit_text state_dir;  /* absolute path, private to this container, on a tmpfs or kept empty by boot */
  kit_text owner;      /* "kit:<root tag>:<id>" */
  int64_t pid;         /* of the container's init, 0 before create answered */
  uint64_t start_time; /* field 22 of /proc/PID/stat, 0: unknown */
} kit_container;

typedef struct kit_stdio {
  size_t size;
  int32_t in, out, err;   /* caller's; the driver duplicates what it needs */
  int32_t console_socket; /* caller's; a terminal's master is sent over it (SCM_RIGHTS) */
  /* since 1.1. create may put the network namespace here (int32_t, the driver's, lent) as soon as it exists. */
  kit_sink on_netns;
} kit_stdio;

typedef struct kit_started {
  size_t size;
  int64_t pid;
  uint64_t start_time;
  int32_t init_pidfd;   /* all three: ownership passes to the caller */
  int32_t waiter_pidfd; /* a child of the caller that ends with the container's exit status */
  int32_t netns;
  int32_t waiter_pid;
} kit_started;

typedef struct kit_stats {
  size_t size;
  uint64_t cpu_ns, cpu_user_ns, cpu_system_ns;
  uint64_t memory_bytes, memory_peak_bytes, memory_limit_bytes; /* limit 0: none */
  uint64_t pids, pids_limit;
  uint64_t read_bytes, write_bytes;
  uint64_t oom_kills;
} kit_stats;

enum { KIT_SIGNAL_ALL = 1u }; /* every process of the container, not only its init */

typedef struct kit_isolation_traits {
  size_t size;
  uint32_t needs_rootfs_path; /* non-zero: `mounts` is empty and BUNDLE/rootfs is already mounted */
  uint32_t reserved;
} kit_isolation_traits;

typedef struct kit_isolation {
  size_t size;
  kit_status (*traits)(const kit_call*, void* self, kit_isolation_traits* out);
  kit_status (*create)(const kit_call*, void* self, const kit_container*, const kit_mount* const*, size_t, const kit_stdio*, kit_started* out);
  kit_status (*start)(const kit_call*, void* self, const kit_container*);
  kit_status (*signal)(const kit_call*, void* self, const kit_container*, int32_t signal, uint32_t flags);
  kit_status (*remove)(const kit_call*, void* self, const kit_container*);
  kit_status (*exec)(const kit_call*, void* self, const kit_container*, kit_text process_json, const kit_stdio*, kit_started* out);
  kit_status (*pause)(const kit_call*, void* self, const kit_container*);
  kit_status (*resume)(const kit_call*, void* self, const kit_container*);
  kit_status (*update)(const kit_call*, void* self, const kit_container*, kit_text resources_json);
  kit_status (*stats)(const kit_call*, void* self, const kit_container*, kit_stats* out);
  const void* (*ability)(void* self, const char* name);
} kit_isolation;
#define KIT_ISOLATION_BASE_SIZE (offsetof(kit_isolation, ability) + sizeof(void (*)(void)))

/* ---- what is common to the families ----------------------------------------------------------- */

/* What works here. A driver that is not usable says why and what the operator can do about it. */
typedef struct kit_probe {
  size_t size;
  uint32_t usable;
  uint32_t reserved;
  kit_text reason, remedy;
  const kit_option* facts;
  size_t fact_count;
} kit_probe;

enum { KIT_OPTION_TEXT = 1, KIT_OPTION_SIZE = 2, KIT_OPTION_INTEGER = 3, KIT_OPTION_BOOLEAN = 4, KIT_OPTION_PATH = 5 };
typedef struct kit_option_schema {
  size_t size;
  kit_text key, default_value, help;
  uint32_t type; /* KIT_OPTION_*, 0: KIT_OPTION_TEXT */
  uint32_t reserved;
} kit_option_schema;

/* How a driver is opened: where its bytes live, and the operator's options for it. */
typedef struct kit_config {
  size_t size;
  kit_text directory;  /* absolute; the driver's own, made by it on first use, kept */
  kit_text run_dir;    /* absolute; the driver's own, lost at boot */
  kit_text libexec;    /* absolute; where kit's helper programs are */
  kit_text root_tag;   /* distinguishes two kits on one host */
  const kit_option* options;
  size_t option_count;
} kit_config;

enum { KIT_FAMILY_STORAGE = 1, KIT_FAMILY_NETWORK = 2, KIT_FAMILY_ISOLATION = 3 };

/* The one exported object. The host refuses, in this order, with these words in the message:
 *
 *   | check                                                               | status          |
 *   |---------------------------------------------------------------------|-----------------|
 *   | file is regular, and only root, the caller or the owner of the      | KIT_PERMISSION  |
 *   |   running program can change it or a directory above it (before     |                 |
 *   |   dlopen); it is named kit-<family>-<name>.so                       | KIT_INVALID     |
 *   | dlopen succeeds and `kit_plugin_descriptor` is there                | KIT_INVALID     |
 *   | magic == KIT_ABI_MAGIC                                              | KIT_INVALID     |
 *   | major == KIT_ABI_MAJOR                                              | KIT_UNSUPPORTED |
 *   | size reaches `table`; the table's size reaches its base;            | KIT_UNSUPPORTED |
 *   |   no function of the base is NULL                                   |                 |
 *   | family is the one asked for                                         | KIT_INVALID     |
 *   | name is the one the file name says: [a-z][a-z0-9-]{0,31}            | KIT_INVALID     |
 *   | open() answers KIT_OK (the plugin's own veto)                       | what it answers |
 */
typedef struct kit_plugin {
  uint64_t magic;
  uint32_t major, minor;
  size_t size;
  uint32_t family; /* KIT_FAMILY_* */
  uint32_t reserved;
  const char* name;
  const char* version;
  const char* licence;  /* SPDX identifier */
  const char* compiler; /* for people */
  kit_status (*open)(const kit_call*, const kit_config*, void** self); /* touches nothing */
  void (*close)(void* self);
  kit_status (*probe)(const kit_call*, void* self, kit_sink);   /* one kit_probe */
  kit_status (*schema)(const kit_call*, kit_sink);              /* kit_option_schema */
  const void* table; /* kit_storage, kit_network_driver or kit_isolation */
} kit_plugin;

#define KIT_PLUGIN_SYMBOL kit_plugin_descriptor
#define KIT_PLUGIN_SYMBOL_NAME "kit_plugin_descriptor"

/* clang-format on */

#ifdef __cplusplus
}
#endif
#endif
