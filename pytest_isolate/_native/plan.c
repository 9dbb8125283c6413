/* Decoding a Plan, and what each of its operations does. Nothing is decided here: an operation works or the build stops. */
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* glibc and the kernel headers each define some of these, never all. */
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

/* ---------------------------------------------------------------------------------------------------- decoding */

struct cursor {
  const char *at, *end;
  int bad;
};

static void take(struct cursor *in, void *into, size_t size) {
  if ((size_t)(in->end - in->at) < size) {
    in->bad = 1;
    memset(into, 0, size);
    return;
  }
  memcpy(into, in->at, size);
  in->at += size;
}

static uint32_t take_u32(struct cursor *in) {
  uint32_t value;
  take(in, &value, sizeof value);
  return value;
}

static uint64_t take_u64(struct cursor *in) {
  uint64_t value;
  take(in, &value, sizeof value);
  return value;
}

static const char *take_text(struct cursor *in) {
  uint32_t length = take_u32(in);
  if (in->bad || (size_t)(in->end - in->at) < (size_t)length + 1 || in->at[length]) {
    in->bad = 1;
    return "";
  }
  const char *text = in->at;
  in->at += (size_t)length + 1;
  return text;
}

/* A count of records of at least `least` bytes each cannot exceed what is left: a damaged count must not become a huge calloc. */
static uint32_t take_count(struct cursor *in, size_t least) {
  uint32_t count = take_u32(in);
  if (count > (size_t)(in->end - in->at) / least) {
    in->bad = 1;
    return 0;
  }
  return count;
}

/* A program and its arguments, as execve(2) takes them. */
static const char **take_words(struct cursor *in) {
  uint32_t count = take_count(in, 5);
  const char **words = calloc((size_t)count + 1, sizeof *words);
  for (uint32_t i = 0; words && i < count; i++) words[i] = take_text(in);
  if (!words || !count) in->bad = 1;
  return words;
}

struct plan *plan_decode(const char *bytes, size_t size) {
  struct cursor in = {bytes, bytes + size, 0};
  struct plan *plan = calloc(1, sizeof *plan);
  if (!plan) return NULL;
  plan->namespaces = take_u64(&in);
  plan->uid_map = take_text(&in);
  plan->gid_map = take_text(&in);
  plan->scratch = take_text(&in);
  plan->cgroup_count = take_count(&in, 12);
  plan->cgroups = calloc((size_t)plan->cgroup_count + 1, sizeof *plan->cgroups);
  for (uint32_t i = 0; plan->cgroups && i < plan->cgroup_count; i++) {
    struct cgroup_dir *dir = &plan->cgroups[i];
    dir->parent = take_text(&in);
    dir->attach = take_text(&in);
    dir->file_count = take_count(&in, 10);
    dir->files = calloc((size_t)dir->file_count + 1, sizeof *dir->files);
    for (uint32_t k = 0; dir->files && k < dir->file_count; k++) {
      dir->files[k].name = take_text(&in);
      dir->files[k].value = take_text(&in);
    }
    if (!dir->files) in.bad = 1;
  }
  plan->op_count = take_count(&in, 32);
  plan->ops = calloc((size_t)plan->op_count + 1, sizeof *plan->ops);
  for (uint32_t i = 0; plan->ops && i < plan->op_count; i++) {
    struct op *op = &plan->ops[i];
    op->step = take_u32(&in);
    op->number = take_u64(&in);
    op->a = take_text(&in);
    op->b = take_text(&in);
    op->c = take_text(&in);
    op->d = take_text(&in);
  }
  plan->uplink_count = take_count(&in, 4);
  plan->uplink = calloc((size_t)plan->uplink_count + 1, sizeof *plan->uplink);
  for (uint32_t i = 0; plan->uplink && i < plan->uplink_count; i++) plan->uplink[i] = take_words(&in);
  if (in.bad || !plan->cgroups || !plan->ops || !plan->uplink) {
    plan_free(plan);
    return NULL;
  }
  return plan;
}

void plan_free(struct plan *plan) {
  for (uint32_t i = 0; plan->cgroups && i < plan->cgroup_count; i++) free(plan->cgroups[i].files);
  for (uint32_t i = 0; plan->uplink && i < plan->uplink_count; i++) free(plan->uplink[i]);
  free(plan->cgroups);
  free(plan->ops);
  free(plan->uplink);
  free(plan);
}

/* -------------------------------------------------------------------------------------------------- operations */

static int failed(struct failure *failure, const char *object) {
  failure->error = errno;
  snprintf(failure->object, sizeof failure->object, "%.500s", object);
  return -1;
}

/* As bubblewrap does it: put a tmpfs over some directory, make it the root with the host's tree moved to /old below it.
 * From then on nothing of the host's tree is hidden, whichever directory the tmpfs was put over; and it works with the
 * locked mounts of a user namespace, of which none can be moved or unmounted alone (mount_namespaces(7)). */
static int stage(const struct op *op, struct building *building, struct failure *failure) {
  static const char *const places[] = {"/tmp", "/mnt", "/var", "/sys"};
  size_t i = 0;
  int scratch = -1;
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return failed(failure, "/ (make private)");
  if (*building->scratch) { /* opened first: the tmpfs may hide it */
    scratch = open(building->scratch, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (scratch < 0) return failed(failure, building->scratch);
  }
  for (;; i++) { /* /tmp may be missing; the first directory that there is will do */
    if (i == sizeof places / sizeof *places) return failed(failure, "a directory to build on");
    if (mount("tmpfs", places[i], "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") == 0) break;
    if (errno != ENOENT && errno != ENOTDIR) return failed(failure, places[i]);
  }
  if (chdir(places[i]) < 0) return failed(failure, places[i]);
  if (mkdir("old", 0755) < 0 || mkdir("s", 0700) < 0 || mkdir("new", 0755) < 0) return failed(failure, "staging directories");
  if (scratch >= 0) {
    char from[64];
    snprintf(from, sizeof from, "/proc/self/fd/%d", scratch);
    if (mount(from, "s", NULL, MS_BIND, NULL) < 0) return failed(failure, building->scratch);
    close(scratch);
  } else if (mount("tmpfs", "s", "tmpfs", MS_NOSUID | MS_NODEV, op->a) < 0) {
    return failed(failure, "/s");
  }
  if (syscall(SYS_pivot_root, ".", "old") < 0) return failed(failure, "staging area");
  if (chdir("/") < 0) return failed(failure, "/");
  return 0;
}

/* pivot_root(2), NOTES: with both arguments ".", the old root is stacked on the new one and can be detached from there. */
static int pivot(const struct op *op, struct failure *failure) {
  if (chdir(op->b) < 0 || syscall(SYS_pivot_root, ".", ".") < 0) return failed(failure, op->b);
  if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) return failed(failure, "old root");
  return 0;
}

static int write_text(int at, const char *path, const char *text, struct failure *failure) {
  int fd = openat(at, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return failed(failure, path);
  ssize_t done = write(fd, text, strlen(text));
  int error = errno;
  close(fd);
  errno = error;
  return done < 0 ? failed(failure, path) : 0;
}

/* A regular file with content, mode and times: one that only was copied must not look modified afterwards. One that has gone since
 * the Plan was made, as temporary files do, is not there inside either. */
static int copy_file(const struct op *op, struct failure *failure) {
  char buffer[65536];
  struct stat st;
  int from = open(op->a, O_RDONLY | O_CLOEXEC);
  if (from < 0 && errno == ENOENT) return 0;
  if (from < 0 || fstat(from, &st) < 0) return failed(failure, op->a);
  mode_t mode = op->number ? (mode_t)op->number - 1 : st.st_mode & 07777;
  int to = open(op->b, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (to < 0) {
    int error = errno;
    close(from);
    errno = error;
    return failed(failure, op->b);
  }
  ssize_t n, bad = 0;
  while (!bad && (n = read(from, buffer, sizeof buffer)) != 0) bad = n < 0 || write(to, buffer, (size_t)n) != n;
  struct timespec times[2] = {st.st_atim, st.st_mtim};
  if (!bad) bad = fchmod(to, mode) < 0 || futimens(to, times) < 0;
  int error = errno;
  close(from);
  close(to);
  errno = error;
  return bad ? failed(failure, op->b) : 0;
}

/* RTM_NEWLINK on link 1 is `ip link set lo up` (rtnetlink(7)): 50 us, where a netlink library takes milliseconds. The
 * kernel adds 127.0.0.1 and ::1 by itself. */
static int loopback_up(struct failure *failure) {
  struct {
    struct nlmsghdr header;
    struct ifinfomsg info;
  } request = {
      .header = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
      .info = {.ifi_index = 1, .ifi_flags = 1 /* IFF_UP */, .ifi_change = 1},
  };
  struct {
    struct nlmsghdr header;
    struct nlmsgerr error;
    char rest[256];
  } answer = {0};
  int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (sock < 0) return failed(failure, "lo");
  ssize_t n = send(sock, &request, sizeof request, 0);
  if (n >= 0) n = recv(sock, &answer, sizeof answer, 0);
  int error = errno;
  close(sock);
  errno = n < 0 ? error : -answer.error.error;
  return errno ? failed(failure, "lo") : 0;
}

/* The builder writes the id maps: only a process outside may map more than its own id (user_namespaces(7)). */
static int unshare_namespaces(const struct op *op, struct building *building, struct failure *failure) {
  char answer = 0;
  if (unshare((int)op->number) < 0) return failed(failure, "namespaces");
  if (!(op->number & CLONE_NEWUSER)) return 0;
  if (send(building->builder, "M", 1, MSG_NOSIGNAL) != 1) return failed(failure, "builder");
  if (recv(building->builder, &answer, 1, 0) != 1 || answer != 'G') _exit(1); /* the builder has gone, or says it failed */
  return 0;
}

/* mount_setattr(2) does a whole tree at once since 5.12; before, the top mount alone can be had without reading mountinfo. */
static int make_readonly(const struct op *op, struct failure *failure) {
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
  if (syscall(SYS_mount_setattr, AT_FDCWD, op->b, AT_RECURSIVE, &attr, sizeof attr) == 0) return 0;
  if (errno != ENOSYS) return failed(failure, op->b);
  unsigned long keep = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  return mount(NULL, op->b, NULL, keep, NULL) < 0 ? failed(failure, op->b) : 0;
}

/* What a writable layer must be able to do: replace a directory of the lower tree. Without user.* attributes on the layer's
 * file system (tmpfs before Linux 6.6) the mkdir fails with EIO, as the new directory cannot be marked opaque. */
static int rmdir_probe(const struct op *op, struct failure *failure) {
  if (rmdir(op->b) < 0) return failed(failure, op->b);
  if (mkdir(op->b, 0755) < 0) return failed(failure, op->b);
  return 0;
}

static int hold(const struct op *op, struct building *building, struct failure *failure) {
  if (op->number >= sizeof building->held / sizeof *building->held) {
    errno = EINVAL;
    return failed(failure, op->b);
  }
  building->held[op->number] = open(op->b, O_PATH | O_DIRECTORY | O_CLOEXEC);
  return building->held[op->number] < 0 ? failed(failure, op->b) : 0;
}

/* What is there already is not even opened: it may be a file of the host's that only a copy could be written of. */
static int touch(const struct op *op, struct failure *failure) {
  int fd = open(op->b, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)op->number);
  if (fd < 0) return errno == EEXIST ? 0 : failed(failure, op->b);
  close(fd);
  return 0;
}

/* A link may lead nowhere, or to where nothing can be mounted. */
static int make_plain(const struct op *op, struct failure *failure) {
  struct stat st;
  if (lstat(op->b, &st) == 0 && S_ISLNK(st.st_mode) && unlink(op->b) < 0) return failed(failure, op->b);
  return touch(op, failure);
}

int plan_run(const struct op *op, struct building *building, struct failure *failure) {
  switch (op->step) {
    case STEP_STAGE:
      return stage(op, building, failure);
    case STEP_MOUNT:
      return mount(op->a, op->b, *op->c ? op->c : NULL, op->number, *op->d ? op->d : NULL) < 0 ? failed(failure, op->b) : 0;
    case STEP_MKDIR:
      return mkdir(op->b, (mode_t)op->number) < 0 && errno != EEXIST ? failed(failure, op->b) : 0;
    case STEP_SYMLINK:
      return symlink(op->a, op->b) < 0 ? failed(failure, op->b) : 0;
    case STEP_TOUCH:
      return touch(op, failure);
    case STEP_COPY:
      return copy_file(op, failure);
    case STEP_WRITE: /* number = 1 + the slot of the directory that the path is relative to, or 0 */
      if (op->number > sizeof building->held / sizeof *building->held) break;
      return write_text(op->number ? building->held[op->number - 1] : AT_FDCWD, op->b, op->a, failure);
    case STEP_PIVOT:
      return pivot(op, failure);
    case STEP_UNSHARE:
      return unshare_namespaces(op, building, failure);
    case STEP_LOOPBACK:
      return loopback_up(failure);
    case STEP_HOSTNAME:
      return sethostname(op->a, strlen(op->a)) < 0 ? failed(failure, op->a) : 0;
    case STEP_READONLY:
      return make_readonly(op, failure);
    case STEP_RMDIR_PROBE:
      return rmdir_probe(op, failure);
    case STEP_HOLD:
      return hold(op, building, failure);
    case STEP_CHMOD:
      return chmod(op->b, (mode_t)op->number) < 0 ? failed(failure, op->b) : 0;
    case STEP_CHOWN:
      return chown(op->b, (uid_t)(op->number >> 32), (gid_t)op->number) < 0 ? failed(failure, op->b) : 0;
    case STEP_PLAIN:
      return make_plain(op, failure);
  }
  errno = ENOSYS;
  return failed(failure, "unknown step");
}
