// SPDX-License-Identifier: Apache-2.0
// One full container start and its end with no tool around it: the system calls of `kit run --rm`, in the best order
// there is for them, everything that can be known beforehand given by arguments. floor.cpp prepares and runs it;
// tests/e2e/bench.bats holds what the program sees inside against what it sees in a container of kit's.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/if_link.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#ifndef __GLIBC__  // whose header has these
#include <linux/mount.h>
#endif
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

// musl has no functions for these.
static int sys_fsopen(const char* type) { return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC); }
static int sys_fsconfig(int context, unsigned command, const char* key, const char* value) {
  return (int)syscall(SYS_fsconfig, context, command, key, value, 0);
}
static int sys_fsmount(int context, unsigned attributes) {
  return (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
}
static int sys_open_tree(int directory, const char* name, unsigned flags) {
  return (int)syscall(SYS_open_tree, directory, name, flags | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}
static int sys_mount_setattr(int tree, unsigned flags, const struct mount_attr* attributes) {
  return (int)syscall(SYS_mount_setattr, tree, "", flags | AT_EMPTY_PATH, attributes, sizeof *attributes);
}
static int sys_close_range(unsigned first, unsigned flags) { return (int)syscall(SYS_close_range, first, ~0U, flags); }

// ---- times -------------------------------------------------------------------------------------------------------

struct side {
  uint64_t last;
  unsigned count;
  struct {
    const char* name;
    uint64_t begin, end;
  } steps[24];
};

/// Shared with the child until it executes the program.
static struct { struct side parent, child; } * times;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/// The step that ends here began where the one before it ended.
static void done(struct side* s, const char* step) {
  const uint64_t at = now();
  if (s->count < COUNT(s->steps)) {
    s->steps[s->count].name = step;
    s->steps[s->count].begin = s->last;
    s->steps[s->count].end = at;
    ++s->count;
  }
  s->last = at;
}

static _Noreturn void die(const char* what) {
  dprintf(STDERR_FILENO, "kit-bench-floor-start: %s: %s\n", what, strerror(errno));
  _exit(125);
}

static int need(long result, const char* what) {
  if (result < 0) die(what);
  return (int)result;
}

// ---- what is to be started ---------------------------------------------------------------------------------------

enum { most = 512 };
static const char *layer_dir, *run_dir, *group, *bridge, *gateway, *subnet, *filter_file;
static const char* lowers[most];
static unsigned lower_count;
static int times_fd = -1;
static char** program;

static struct hierarchy {
  const char* mount_point;
  int v2;
  const char* name;     ///< below /sys/fs/cgroup; empty: mounted there itself
  const char* options;  ///< of the mount, after a comma each: "none,name=systemd"
  int tasks;
} hierarchies[16];
static unsigned hierarchy_count;

static char id[12];

/// Of a few at a time; good until the fourth call from now.
__attribute__((format(printf, 1, 2))) static const char* path(const char* format, ...) {
  static char text[4][512];
  static unsigned next;
  char* out = text[next++ % COUNT(text)];
  va_list values;
  va_start(values, format);
  const int size = vsnprintf(out, sizeof text[0], format, values);
  va_end(values);
  if (size >= (int)sizeof text[0]) {
    errno = ENAMETOOLONG;
    die(format);
  }
  return out;
}

static void put(const char* file, const char* text) {
  const int fd = need(open(file, O_WRONLY | O_CLOEXEC), file);
  need(write(fd, text, strlen(text)), file);
  close(fd);
}

// ---- before the child: layer, files, control groups ----------------------------------------------------------------

static int overlay_tree, file_trees[3];
static const char* const files[3] = {"resolv.conf", "hostname", "hosts"};

static void make_layer(void) {
  need(mkdir(path("%s/%s", layer_dir, id), 0700), "mkdir layer");
  need(mkdir(path("%s/%s/work", layer_dir, id), 0700), "mkdir work");
  need(mkdir(path("%s/%s/diff", layer_dir, id), 0755), "mkdir diff");
}

static void set(int context, const char* key, const char* value) {
  need(sys_fsconfig(context, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key, value), key);
}

static int create(int context, unsigned attributes) {
  need(sys_fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL), "create a file system");
  const int tree = need(sys_fsmount(context, attributes), "fsmount");
  close(context);
  return tree;
}

static void mount_overlay(void) {
  const int context = need(sys_fsopen("overlay"), "fsopen overlay");
  set(context, "source", "overlay");
  for (unsigned i = 0; i < lower_count; ++i) set(context, "lowerdir+", lowers[i]);
  set(context, "upperdir", path("%s/%s/diff", layer_dir, id));
  set(context, "workdir", path("%s/%s/work", layer_dir, id));
  set(context, "index", "off");
  set(context, "metacopy", "off");
  set(context, "redirect_dir", "nofollow");
  set(context, "xino", "off");
  overlay_tree = create(context, 0);
}

static void make_files(void) {
  const char* directory = path("%s/%s", run_dir, id);
  need(mkdir(directory, 0711), "mkdir run directory");
  for (unsigned i = 0; i < COUNT(files); ++i) {
    const char* file = path("%s/%s", directory, files[i]);
    const int fd = need(open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), file);
    dprintf(fd, i == 0 ? "nameserver 127.0.0.1\n" : i == 1 ? "%s\n" : "127.0.0.1 localhost\n127.0.0.1 %s\n", id);
    close(fd);
    file_trees[i] = need(sys_open_tree(AT_FDCWD, file, 0), file);
    struct mount_attr attributes = {.propagation = MS_PRIVATE};
    need(sys_mount_setattr(file_trees[i], 0, &attributes), file);
  }
}

static const char* group_file(const struct hierarchy* h, const char* name) {
  return path("%s/%s/%s/%s", h->mount_point, group, id, name);
}

static void inherit(const struct hierarchy* h, const char* name) {
  char value[256];
  const int fd = need(open(path("%s/%s/%s", h->mount_point, group, name), O_RDONLY | O_CLOEXEC), name);
  const int size = need(read(fd, value, sizeof value - 1), name);
  close(fd);
  value[size] = '\0';
  put(group_file(h, name), value);
}

static void limit_devices(const struct hierarchy* h) {
  static const char* const allowed[] = {"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",
                                        "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};
  put(group_file(h, "devices.deny"), "a");
  const int fd = need(open(group_file(h, "devices.allow"), O_WRONLY | O_CLOEXEC), "devices.allow");
  for (unsigned i = 0; i < COUNT(allowed); ++i) need(write(fd, allowed[i], strlen(allowed[i])), allowed[i]);
  close(fd);
}

static int has_option(const struct hierarchy* h, const char* option) {
  const size_t size = strlen(option);
  for (const char* at = h->options; (at = strstr(at, option)) != NULL; at += size)
    if ((at == h->options || at[-1] == ',') && (at[size] == ',' || at[size] == '\0')) return 1;
  return 0;
}

static int into_group = -1;

static void make_groups(void) {
  for (struct hierarchy* h = hierarchies; h < hierarchies + hierarchy_count; ++h) {
    const char* directory = group_file(h, "");
    need(mkdir(directory, 0755), directory);
    if (h->v2) {
      into_group = need(open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC), directory);
      continue;
    }
    if (has_option(h, "cpuset")) {
      inherit(h, "cpuset.cpus");
      inherit(h, "cpuset.mems");
    }
    if (has_option(h, "devices")) limit_devices(h);
    h->tasks = need(open(group_file(h, "tasks"), O_WRONLY | O_CLOEXEC), "tasks");
  }
}

// ---- the child -------------------------------------------------------------------------------------------------------

static int root, go[2], out_pipe[2], err_pipe[2];
static struct sock_fprog filter;

static int inside(const char* name, int flags) {
  struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  return (int)syscall(SYS_openat2, root, name, &how, sizeof how);
}

static void attach(int tree, int target) {
  need(syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), "move_mount");
}

static void enter_groups(void) {
  for (unsigned i = 0; i < hierarchy_count; ++i)
    if (!hierarchies[i].v2) need(write(hierarchies[i].tasks, "0", 1), "enter a control group");
  need(unshare(CLONE_NEWCGROUP), "unshare cgroup");
}

/// `options`: "key=value,flag"; it is cut up.
static int make(const char* type, const char* source, char* options, unsigned attributes) {
  const int context = need(sys_fsopen(type), type);
  if (source) set(context, "source", source);
  for (char *rest = options, *option; (option = strsep(&rest, ",")) != NULL;) {
    if (*option == '\0') continue;
    char* value = strchr(option, '=');
    if (value) *value++ = '\0';
    set(context, option, value);
  }
  return create(context, attributes);
}

static void mount_groups(int target, unsigned attributes) {
  if (hierarchy_count == 1 && hierarchies[0].name[0] == '\0') {
    const int tree = make("cgroup2", NULL, NULL, attributes);
    attach(tree, target);
    close(tree);
    return;
  }
  char mode[] = "mode=755";
  const int base = make("tmpfs", NULL, mode, attributes & ~(unsigned)MOUNT_ATTR_RDONLY);
  attach(base, target);
  for (const struct hierarchy* h = hierarchies; h < hierarchies + hierarchy_count; ++h) {
    char options[128];
    snprintf(options, sizeof options, "%s", h->options);
    const int tree = make(h->v2 ? "cgroup2" : "cgroup", NULL, options, attributes);
    need(mkdirat(base, h->name, 0755), h->name);
    const int place = need(openat(base, h->name, O_PATH | O_DIRECTORY | O_CLOEXEC), h->name);
    // "cpu" and "cpuacct" for a hierarchy with both, as programs expect.
    if (strchr(h->name, ','))
      for (char *rest = strcpy(options, h->name), *one; (one = strsep(&rest, ",")) != NULL;)
        need(symlinkat(h->name, base, one), one);
    attach(tree, place);
    close(place);
    close(tree);
  }
  struct mount_attr readonly = {.attr_set = attributes};
  need(sys_mount_setattr(base, 0, &readonly), "make the control groups read-only");
  close(base);
}

static void mount_pseudo_file_systems(void) {
  const unsigned none = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
  static struct {
    const char *type, *target, *source;
    char options[64];
    unsigned attributes;
  } mounts[] = {
      {"proc", "proc", "proc", "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC},
      {"tmpfs", "dev", "tmpfs", "mode=755,size=65536k", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME},
      {"devpts", "dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5",
       MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC},
      {"sysfs", "sys", "sysfs", "", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC},
      {"cgroup", "sys/fs/cgroup", NULL, "", 0},
      {"mqueue", "dev/mqueue", "mqueue", "", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC},
      {"tmpfs", "dev/shm", "shm", "mode=1777,size=67108864", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC},
  };
  for (unsigned i = 0; i < COUNT(mounts); ++i) {
    if (strncmp(mounts[i].target, "dev/", 4) == 0) {
      const int dev = need(inside("dev", O_PATH | O_DIRECTORY), "dev");
      need(mkdirat(dev, mounts[i].target + 4, 0755), mounts[i].target);
      close(dev);
    }
    const int target = need(inside(mounts[i].target, O_PATH | O_DIRECTORY), mounts[i].target);
    if (mounts[i].source) {
      const int tree = make(mounts[i].type, mounts[i].source, mounts[i].options, mounts[i].attributes);
      attach(tree, target);
      close(tree);
    } else {
      mount_groups(target, MOUNT_ATTR_RDONLY | none);
    }
    close(target);
  }
}

static void bind_files(void) {
  for (unsigned i = 0; i < COUNT(files); ++i) {
    const int target = need(inside(path("etc/%s", files[i]), O_PATH), files[i]);
    attach(file_trees[i], target);
    close(target);
  }
}

static void make_devices(void) {
  static const struct {
    const char* name;
    unsigned major, minor;
  } devices[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
  static const char* const links[][2] = {{"/proc/self/fd", "fd"},
                                         {"/proc/self/fd/0", "stdin"},
                                         {"/proc/self/fd/1", "stdout"},
                                         {"/proc/self/fd/2", "stderr"},
                                         {"pts/ptmx", "ptmx"}};
  const int dev = need(inside("dev", O_PATH | O_DIRECTORY), "dev");
  for (unsigned i = 0; i < COUNT(devices); ++i) {
    need(mknodat(dev, devices[i].name, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)), devices[i].name);
    need(fchownat(dev, devices[i].name, 0, 0, AT_SYMLINK_NOFOLLOW), devices[i].name);
  }
  for (unsigned i = 0; i < COUNT(links); ++i) need(symlinkat(links[i][0], dev, links[i][1]), links[i][1]);
  close(dev);
}

static void mask_paths(void) {
  static const char* const masked[] = {"proc/asound",     "proc/acpi",        "proc/interrupts",
                                       "proc/kcore",      "proc/keys",        "proc/latency_stats",
                                       "proc/timer_list", "proc/timer_stats", "proc/sched_debug",
                                       "proc/scsi",       "sys/firmware",     "sys/devices/virtual/powercap"};
  int null = -1, empty = -1;
  for (unsigned i = 0; i < COUNT(masked); ++i) {
    const int target = inside(masked[i], O_PATH);
    if (target < 0) continue;
    struct stat st;
    need(fstat(target, &st), masked[i]);
    int cover;
    if (!S_ISDIR(st.st_mode)) {
      if (null < 0) null = need(open("/dev/null", O_PATH | O_CLOEXEC), "/dev/null");
      cover = need(sys_open_tree(null, "", AT_EMPTY_PATH), "clone /dev/null");
    } else if (empty < 0) {
      char inodes[] = "nr_inodes=1";
      cover = empty =
          make("tmpfs", NULL, inodes, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    } else {
      cover = need(sys_open_tree(empty, "", AT_EMPTY_PATH), "clone a directory");
    }
    attach(cover, target);
    close(target);
    if (cover != empty) close(cover);
  }
}

static void protect_paths(void) {
  static const char* const readonly[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
  struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
  for (unsigned i = 0; i < COUNT(readonly); ++i) {
    const int target = inside(readonly[i], O_PATH);
    if (target < 0) continue;
    const int tree = need(sys_open_tree(target, "", AT_EMPTY_PATH | AT_RECURSIVE), readonly[i]);
    need(sys_mount_setattr(tree, AT_RECURSIVE, &attributes), readonly[i]);
    attach(tree, target);
    close(tree);
    close(target);
  }
}

static void enter_root(void) {
  const int host = need(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), "/");
  need(fchdir(root), "fchdir");
  need(syscall(SYS_pivot_root, ".", "."), "pivot_root");
  need(fchdir(host), "fchdir");
  need(umount2(".", MNT_DETACH), "umount");
  need(chdir("/"), "chdir");
}

/// Docker's default set, which is kit's.
static const uint64_t capabilities = 0xa80425fb;

static void take_identity(void) {
  need(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL), "keyctl");
  need(setsid(), "setsid");
  umask(022);
  need(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter), "seccomp");
  for (int n = 0; prctl(PR_CAPBSET_READ, n) >= 0; ++n)
    if ((capabilities >> n & 1) == 0) need(prctl(PR_CAPBSET_DROP, n), "limit the bounding set");
  need(setgroups(0, NULL), "setgroups");
  need(setresgid(0, 0, 0), "setresgid");
  need(setresuid(0, 0, 0), "setresuid");
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{(uint32_t)capabilities, (uint32_t)capabilities, 0}, {0, 0, 0}};
  need(syscall(SYS_capset, &header, data), "capset");
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

static _Noreturn void run_child(void) {
  struct side* const t = &times->child;
  t->last = now();
  root = overlay_tree;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  close(go[1]);
  umask(0);
  enter_groups();
  done(t, "enter control groups");
  need(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL), "make mounts private");
  const int stage = need(open(path("%s/%s", run_dir, id), O_PATH | O_DIRECTORY | O_CLOEXEC), "open the stage");
  attach(root, stage);
  done(t, "attach root");
  mount_pseudo_file_systems();
  done(t, "mount /proc /dev /sys and control groups");
  bind_files();
  make_devices();
  done(t, "devices and /etc files");
  mask_paths();
  protect_paths();
  done(t, "mask and protect paths");
  need(sethostname(id, strlen(id)), "sethostname");
  enter_root();
  done(t, "pivot_root");
  need(sys_close_range(3, CLOSE_RANGE_CLOEXEC), "close_range");
  need(dup2(out_pipe[1], STDOUT_FILENO), "dup2");
  need(dup2(err_pipe[1], STDERR_FILENO), "dup2");
  take_identity();
  done(t, "capabilities and seccomp");
  // The network must be there before the program is.
  char word;
  if (read(go[0], &word, 1) != 1) _exit(125);
  prctl(PR_SET_PDEATHSIG, 0);
  done(t, "wait for the network");
  static char home[] = "HOME=/root", search[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  char hostname[64];
  snprintf(hostname, sizeof hostname, "HOSTNAME=%s", id);
  char* environment[] = {search, hostname, home, NULL};
  execve(program[0], program, environment);
  die(program[0]);
}

// ---- the network -------------------------------------------------------------------------------------------------

struct batch {
  char bytes[4096];
  size_t size;
  unsigned count;
};

static void* add(struct batch* b, const void* data, size_t size) {
  void* at = b->bytes + b->size;
  memset(at, 0, NLMSG_ALIGN(size));
  if (data) memcpy(at, data, size);
  b->size += NLMSG_ALIGN(size);
  return at;
}

static struct nlmsghdr* begin(struct batch* b, int type, int flags, const void* body, size_t size) {
  struct nlmsghdr* m = add(b, NULL, sizeof *m);
  m->nlmsg_type = (uint16_t)type;
  m->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
  m->nlmsg_seq = ++b->count;
  add(b, body, size);
  return m;
}

static void end(struct batch* b, struct nlmsghdr* m) { m->nlmsg_len = (uint32_t)(b->bytes + b->size - (char*)m); }

static struct rtattr* attribute(struct batch* b, int type, const void* data, size_t size) {
  const struct rtattr header = {(uint16_t)(sizeof header + size), (uint16_t)type};
  struct rtattr* at = add(b, &header, sizeof header);
  if (size > 0) add(b, data, size);
  return at;
}

static void nested(struct batch* b, struct rtattr* a) { a->rta_len = (uint16_t)(b->bytes + b->size - (char*)a); }

/// No link-local IPv6 address: duplicate address detection would flood each port of the bridge.
static void no_link_local(struct batch* b) {
  const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
  struct rtattr* families = attribute(b, IFLA_AF_SPEC, NULL, 0);
  struct rtattr* ipv6 = attribute(b, AF_INET6, NULL, 0);
  attribute(b, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof none);
  nested(b, ipv6);
  nested(b, families);
}

static int route_socket(void) { return need(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "netlink"); }

static void commit(int fd, const struct batch* b, const char* what) {
  need(send(fd, b->bytes, b->size, 0), what);
  for (unsigned answers = 0; answers < b->count;) {
    char buffer[8192];
    int size = need(recv(fd, buffer, sizeof buffer, 0), what);
    for (struct nlmsghdr* m = (struct nlmsghdr*)buffer; NLMSG_OK(m, (unsigned)size); m = NLMSG_NEXT(m, size)) {
      if (m->nlmsg_type != NLMSG_ERROR) continue;
      errno = -((struct nlmsgerr*)NLMSG_DATA(m))->error;
      if (errno != 0) die(what);
      ++answers;
    }
  }
}

enum { inner_index = 2 };  // the first link after lo

static void make_link(int host, int netns, const uint8_t* mac) {
  char name[IFNAMSIZ], alias[64];
  snprintf(name, sizeof name, "flr%s", id);
  snprintf(alias, sizeof alias, "kit-bench:%s", id);
  const uint32_t master = if_nametoindex(bridge);
  struct batch b = {.size = 0};
  struct ifinfomsg link = {0};
  struct nlmsghdr* m = begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link, sizeof link);
  attribute(&b, IFLA_IFNAME, name, strlen(name) + 1);
  attribute(&b, IFLA_MASTER, &master, sizeof master);
  struct rtattr* info = attribute(&b, IFLA_LINKINFO, NULL, 0);
  attribute(&b, IFLA_INFO_KIND, "veth", 4);
  struct rtattr* data = attribute(&b, IFLA_INFO_DATA, NULL, 0);
  struct rtattr* peer = attribute(&b, VETH_INFO_PEER, NULL, 0);
  struct ifinfomsg other = {.ifi_index = inner_index};
  add(&b, &other, sizeof other);
  attribute(&b, IFLA_IFNAME, "eth0", 5);
  attribute(&b, IFLA_ADDRESS, mac, 6);
  attribute(&b, IFLA_NET_NS_FD, &netns, sizeof netns);
  nested(&b, peer);
  nested(&b, data);
  nested(&b, info);
  end(&b, m);
  // These cannot be given at birth, and have to be there before it goes up.
  m = begin(&b, RTM_SETLINK, 0, &link, sizeof link);
  attribute(&b, IFLA_IFNAME, name, strlen(name) + 1);
  attribute(&b, IFLA_IFALIAS, alias, strlen(alias));
  no_link_local(&b);
  end(&b, m);
  const struct ifinfomsg up = {.ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  m = begin(&b, RTM_SETLINK, 0, &up, sizeof up);
  attribute(&b, IFLA_IFNAME, name, strlen(name) + 1);
  end(&b, m);
  commit(host, &b, "make a veth");
}

static void configure_inside(uint32_t address, uint8_t prefix, uint32_t via) {
  struct batch b = {.size = 0};
  struct ifinfomsg lo = {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  end(&b, begin(&b, RTM_SETLINK, 0, &lo, sizeof lo));
  struct ifinfomsg eth = {.ifi_index = inner_index};
  struct nlmsghdr* m = begin(&b, RTM_SETLINK, 0, &eth, sizeof eth);
  no_link_local(&b);
  end(&b, m);
  eth.ifi_flags = eth.ifi_change = IFF_UP;
  end(&b, begin(&b, RTM_SETLINK, 0, &eth, sizeof eth));
  struct ifaddrmsg own = {.ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = inner_index};
  m = begin(&b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &own, sizeof own);
  attribute(&b, IFA_LOCAL, &address, sizeof address);
  attribute(&b, IFA_ADDRESS, &address, sizeof address);
  const uint32_t broadcast = address | htonl((1U << (32 - prefix)) - 1);
  attribute(&b, IFA_BROADCAST, &broadcast, sizeof broadcast);
  end(&b, m);
  struct rtmsg all = {.rtm_family = AF_INET,
                      .rtm_table = RT_TABLE_MAIN,
                      .rtm_protocol = RTPROT_BOOT,
                      .rtm_scope = RT_SCOPE_UNIVERSE,
                      .rtm_type = RTN_UNICAST};
  const uint32_t out = inner_index;
  m = begin(&b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &all, sizeof all);
  attribute(&b, RTA_GATEWAY, &via, sizeof via);
  attribute(&b, RTA_OIF, &out, sizeof out);
  end(&b, m);
  const int fd = route_socket();
  commit(fd, &b, "configure the inner end");
  close(fd);
}

static void connect_network(pid_t child) {
  char file[64];
  snprintf(file, sizeof file, "/proc/%d/ns/net", child);
  const int netns = need(open(file, O_RDONLY | O_CLOEXEC), file);
  const int host = bridge ? route_socket() : -1;
  // An address of its own, for as many starts at once as there are process ids below it.
  const uint32_t via = bridge ? inet_addr(gateway) : 0;
  const uint32_t address = htonl(ntohl(via) + 1 + (uint32_t)getpid() % 4000);
  uint8_t mac[6] = {0x02, 0x42};
  memcpy(mac + 2, &address, 4);
  if (bridge) make_link(host, netns, mac);
  need(setns(netns, CLONE_NEWNET), "setns");
  if (bridge) {
    configure_inside(address, (uint8_t)atoi(subnet), via);
  } else {
    struct batch b = {.size = 0};
    struct ifinfomsg lo = {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    end(&b, begin(&b, RTM_SETLINK, 0, &lo, sizeof lo));
    const int fd = route_socket();
    commit(fd, &b, "set lo up");
    close(fd);
  }
  if (host >= 0) close(host);
  close(netns);
}

// ---- the parent --------------------------------------------------------------------------------------------------

static int lifeline[2], held;

static int hold(void* unused) {
  (void)unused;
  char word;
  dup3(lifeline[0], 0, 0);
  dup3(held, 1, 0);
  sys_close_range(2, 0);
  while (read(0, &word, 1) < 0 && errno == EINTR) continue;
  _exit(0);
}

/// The last to leave a mount namespace takes it apart; so that the end is told before that, somebody stays a moment.
static void hold_mounts(pid_t child) {
  static char stack[16384] __attribute__((aligned(16)));
  char file[64];
  snprintf(file, sizeof file, "/proc/%d/ns/mnt", child);
  held = need(open(file, O_RDONLY | O_CLOEXEC), file);
  need(pipe2(lifeline, O_CLOEXEC), "pipe");
  need(clone(hold, stack + sizeof stack, CLONE_VM, NULL), "clone");
  close(lifeline[0]);
  close(held);
}

static void map_filter(void) {
  const int fd = need(open(filter_file, O_RDONLY | O_CLOEXEC), filter_file);
  struct stat st;
  need(fstat(fd, &st), filter_file);
  filter.len = (unsigned short)(st.st_size / (off_t)sizeof(struct sock_filter));
  filter.filter = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (filter.filter == MAP_FAILED) die(filter_file);
  close(fd);
}

static pid_t start_child(int* pidfd) {
  struct clone_args args = {
      .flags = CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET,
      .pidfd = (uint64_t)(uintptr_t)pidfd,
      .exit_signal = SIGCHLD,
  };
  if (into_group >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (uint64_t)into_group;
  }
  const pid_t pid = need(syscall(SYS_clone3, &args, sizeof args), "clone3");
  if (pid == 0) run_child();
  return pid;
}

static void pass_on(int from, int to) {
  char buffer[65536];
  for (ssize_t size; (size = read(from, buffer, sizeof buffer)) > 0;) need(write(to, buffer, (size_t)size), "write");
}

static void clean_up(void) {
  // The kernel lets go of a group a moment after its last process was waited for.
  for (unsigned i = 0; i < hierarchy_count; ++i) {
    const char* directory = group_file(&hierarchies[i], "");
    int left = -1;
    for (int tries = 0; tries < 1000 && (left = rmdir(directory)) != 0 && errno == EBUSY; ++tries) usleep(100);
    need(left, directory);
  }
  for (unsigned i = 0; i < COUNT(files); ++i) need(unlink(path("%s/%s/%s", run_dir, id, files[i])), files[i]);
  need(rmdir(path("%s/%s", run_dir, id)), "remove the run directory");
  need(rmdir(path("%s/%s/work/work", layer_dir, id)), "remove work/work");
  need(rmdir(path("%s/%s/work", layer_dir, id)), "remove work");
  // Empty unless the program wrote: the preparer removes what is left.
  if (rmdir(path("%s/%s/diff", layer_dir, id)) == 0) need(rmdir(path("%s/%s", layer_dir, id)), "remove the layer");
}

static void tell_times(void) {
  if (times_fd < 0) return;
  char text[8192];
  size_t size = 0;
  const struct side* const sides[] = {&times->parent, &times->child};
  for (unsigned s = 0; s < 2; ++s)
    for (unsigned i = 0; i < sides[s]->count; ++i)
      size += (size_t)snprintf(text + size, sizeof text - size, "%s\t%llu\t%llu\t%s\n", s == 0 ? "parent" : "child",
                               (unsigned long long)sides[s]->steps[i].begin, (unsigned long long)sides[s]->steps[i].end,
                               sides[s]->steps[i].name);
  need(write(times_fd, text, size), "write the times");
}

static _Noreturn void usage(void) {
  fputs("kit-bench-floor-start is run by `kit-bench floor`, which knows its arguments\n", stderr);
  exit(2);
}

/// MOUNT_POINT:NAME:OPTIONS, with NAME "2:..." on version 2.
static void add_hierarchy(char* text) {
  struct hierarchy* h = &hierarchies[hierarchy_count++];
  h->mount_point = strsep(&text, ":");
  const char* version = strsep(&text, ":");
  h->name = strsep(&text, ":");
  h->options = text;
  if (h->options == NULL || hierarchy_count == COUNT(hierarchies)) usage();
  h->v2 = version[0] == '2';
}

int main(int argc, char** argv) {
  const uint64_t begun = now();
  int option;
  while ((option = getopt(argc, argv, "+l:d:r:c:g:b:v:s:f:t:")) != -1) switch (option) {
      case 'l':
        if (lower_count == most) usage();
        lowers[lower_count++] = optarg;
        break;
      case 'd': layer_dir = optarg; break;
      case 'r': run_dir = optarg; break;
      case 'c': add_hierarchy(optarg); break;
      case 'g': group = optarg; break;
      case 'b': bridge = optarg; break;
      case 'v': gateway = optarg; break;
      case 's': subnet = optarg; break;
      case 'f': filter_file = optarg; break;
      case 't': times_fd = atoi(optarg); break;
      default: usage();
    }
  program = argv + optind;
  if (!layer_dir || !run_dir || !group || !filter_file || !*program || (bridge && (!gateway || !subnet))) usage();
  snprintf(id, sizeof id, "%d", getpid());
  times = mmap(NULL, sizeof *times, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (times == MAP_FAILED) die("mmap");
  struct side* const t = &times->parent;
  t->last = begun;

  make_layer();
  done(t, "make the writable layer");
  mount_overlay();
  done(t, "mount overlay");
  make_files();
  map_filter();
  done(t, "files");
  make_groups();
  done(t, "make control groups");
  need(pipe2(go, O_CLOEXEC), "pipe");
  need(pipe2(out_pipe, O_CLOEXEC), "pipe");
  need(pipe2(err_pipe, O_CLOEXEC), "pipe");
  int pidfd = -1;
  const pid_t child = start_child(&pidfd);
  done(t, "clone into namespaces");
  close(go[0]);
  close(out_pipe[1]);
  close(err_pipe[1]);
  hold_mounts(child);
  done(t, "hold the mount namespace");
  connect_network(child);
  done(t, "network");
  need(write(go[1], "g", 1), "let the program go");
  pass_on(out_pipe[0], STDOUT_FILENO);
  pass_on(err_pipe[0], STDERR_FILENO);
  done(t, "the child's work, exec, the program, exit");
  siginfo_t info = {0};
  need(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), "waitid");
  done(t, "wait");
  clean_up();
  done(t, "remove layer, files, control groups");
  tell_times();
  return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}
