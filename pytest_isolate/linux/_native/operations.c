/* What each operation of a Plan does. Nothing is decided here: an operation works or the build stops. */
#include "plan.h"

#include "files.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

int fail_at(struct failure *failure, int32_t op, const char *object) {
  failure->error = errno;
  failure->op = op;
  snprintf(failure->object, sizeof failure->object, "%.500s", object);
  return -1;
}

/* The caller of plan_run() fills in which operation it was. */
static int failed(struct failure *failure, const char *object) { return fail_at(failure, 0, object); }

/* A directory of the host's, bound, has the flags of the host's mount; what else is set may be locked, and stays. */
static int make_safe(const char *path) {
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
  struct statvfs now;
  if (syscall(SYS_mount_setattr, AT_FDCWD, path, 0, &attr, sizeof attr) == 0) return 0;
  if (errno != ENOSYS || statvfs(path, &now) < 0) return -1; /* it came with 5.12 */
  unsigned long keep = now.f_flag & (ST_RDONLY | ST_NOEXEC); /* the same numbers as mount(2)'s */
  return mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | keep, NULL);
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
  if (mkdir("old", 0755) < 0 || mkdir("s", 0700) < 0 || mkdir("new", 0755) < 0)
    return failed(failure, "staging directories");
  if (scratch >= 0) {
    char from[64];
    snprintf(from, sizeof from, "/proc/self/fd/%d", scratch);
    if (mount(from, "s", NULL, MS_BIND, NULL) < 0 || make_safe("s") < 0) return failed(failure, building->scratch);
    close(scratch);
  } else if (mount("tmpfs", "s", "tmpfs", MS_NOSUID | MS_NODEV, op->source) < 0) {
    return failed(failure, "/s");
  }
  if (syscall(SYS_pivot_root, ".", "old") < 0) return failed(failure, "staging area");
  if (chdir("/") < 0) return failed(failure, "/");
  return 0;
}

static int mount_op(const struct op *op, struct failure *failure) {
  const char *type = *op->type ? op->type : NULL, *data = *op->data ? op->data : NULL;
  return mount(op->source, op->target, type, op->number, data) < 0 ? failed(failure, op->target) : 0;
}

/* pivot_root(2), NOTES: with both arguments ".", the old root is stacked on the new one and can be detached from
 * there. */
static int pivot(const struct op *op, struct failure *failure) {
  if (chdir(op->target) < 0 || syscall(SYS_pivot_root, ".", ".") < 0) return failed(failure, op->target);
  if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) return failed(failure, "old root");
  return 0;
}

static int write_to(int directory, const struct op *op, struct failure *failure) {
  return write_file(directory, op->target, op->source) < 0 ? failed(failure, op->target) : 0;
}

static int write_all(int fd, const char *bytes, size_t size) {
  while (size) {
    ssize_t n = write(fd, bytes, size);
    if (n < 0 && errno != EINTR) return -1;
    if (n > 0) bytes += n, size -= (size_t)n;
  }
  return 0;
}

/* A regular file with content, what is to be added to it, mode and times: one that only was copied must not look modified
 * afterwards. One that has gone since the Plan was made, as temporary files do, is not there inside either. */
static int copy_file(const struct op *op, struct failure *failure) {
  char buffer[65536];
  struct stat st;
  int from = open(op->source, O_RDONLY | O_CLOEXEC);
  if (from < 0 && errno == ENOENT) return 0;
  if (from < 0 || fstat(from, &st) < 0) return failed(failure, op->source);
  mode_t mode = op->number ? (mode_t)op->number - 1 : st.st_mode & 07777;
  int to = open(op->target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (to < 0) {
    int error = errno;
    close(from);
    errno = error;
    return failed(failure, op->target);
  }
  ssize_t n;
  int bad = 0;
  while (!bad && (n = read(from, buffer, sizeof buffer)) != 0)
    bad = n < 0 ? errno != EINTR : write_all(to, buffer, (size_t)n) < 0;
  if (!bad && *op->data) bad = write_all(to, op->data, strlen(op->data)) < 0;
  struct timespec times[2] = {st.st_atim, st.st_mtim};
  if (!bad) bad = fchmod(to, mode) < 0 || futimens(to, times) < 0;
  int error = errno;
  close(from);
  close(to);
  errno = error;
  return bad ? failed(failure, op->target) : 0;
}

struct netlink_answer {
  struct nlmsghdr header;
  struct nlmsgerr error;
  char rest[256];
};

/* Asks the kernel for something (rtnetlink(7)): 50 us, where a netlink library takes milliseconds. */
static int ask_kernel(int sock, struct nlmsghdr *header, size_t size, int type, int flags) {
  struct netlink_answer answer = {0};
  header->nlmsg_len = (uint32_t)size, header->nlmsg_type = (uint16_t)type;
  header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
  ssize_t n = send(sock, header, size, 0);
  if (n >= 0)
    while ((n = recv(sock, &answer, sizeof answer, 0)) < 0 && errno == EINTR) continue;
  int whole = n >= (ssize_t)offsetof(struct netlink_answer, rest) && answer.header.nlmsg_type == NLMSG_ERROR;
  if (n >= 0) errno = whole ? -answer.error.error : EPROTO;
  return n < 0 || errno ? -1 : 0;
}

/* One that nothing else is reached by: 127.0.0.2, which is local anyway, or one of those that anybody may take for himself (RFC 4193). */
static int add_address(int sock, int family) {
  static const uint8_t v4[4] = {127, 0, 0, 2}, v6[16] = {0xfd, 0x70, 0x79, 0x74, [15] = 2};
  struct {
    struct nlmsghdr header;
    struct ifaddrmsg info;
    struct rtattr attribute;
    uint8_t address[16];
  } request = {.info = {.ifa_family = (uint8_t)family, .ifa_prefixlen = family == AF_INET ? 8 : 128, .ifa_index = 1}};
  size_t length = family == AF_INET ? sizeof v4 : sizeof v6;
  memcpy(request.address, family == AF_INET ? v4 : v6, length);
  request.info.ifa_scope = RT_SCOPE_HOST;
  request.attribute = (struct rtattr){(unsigned short)(sizeof request.attribute + length), IFA_LOCAL};
  size_t size = sizeof request - sizeof request.address + length;
  return ask_kernel(sock, &request.header, size, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
}

/* RTM_NEWLINK on link 1 is `ip link set lo up`. The kernel adds 127.0.0.1 and ::1 by itself. `more`: bits, 1 for another address of
 * IPv4, 2 for one of IPv6. A kernel that has none of those is no reason to have no sandbox. */
static int loopback_up(uint64_t more, struct failure *failure) {
  struct {
    struct nlmsghdr header;
    struct ifinfomsg info;
  } request = {.info = {.ifi_index = 1, .ifi_flags = 1 /* IFF_UP */, .ifi_change = 1}};
  int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (sock < 0) return failed(failure, "lo");
  int bad = ask_kernel(sock, &request.header, sizeof request, RTM_NEWLINK, 0);
  if (!bad && more & 1) add_address(sock, AF_INET);
  if (!bad && more & 2) add_address(sock, AF_INET6);
  int error = errno;
  close(sock);
  errno = error;
  return bad ? failed(failure, "lo") : 0;
}

void await_builder(int builder) {
  char answer = 0;
  ssize_t n;
  while ((n = recv(builder, &answer, 1, 0)) < 0 && errno == EINTR) continue;
  if (n != 1 || answer != 'G') _exit(1); /* the builder, if it is there, sees our end */
}

/* The builder writes the id maps: only a process outside may map more than its own id (user_namespaces(7)). */
static int unshare_namespaces(const struct op *op, struct building *building, struct failure *failure) {
  if (unshare((int)op->number) < 0) return failed(failure, "namespaces");
  if (!(op->number & CLONE_NEWUSER)) return 0;
  if (send(building->builder, "M", 1, MSG_NOSIGNAL) != 1) return failed(failure, "builder");
  await_builder(building->builder);
  return 0;
}

/* mount_setattr(2) does a whole tree at once since 5.12; before, the top mount alone can be had without reading
 * mountinfo.
 * `keep`: of the flags that a mount below may not lose in a user namespace, those that do no harm here. */
static int make_readonly(const struct op *op, unsigned long keep, struct failure *failure) {
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
  if (syscall(SYS_mount_setattr, AT_FDCWD, op->target, AT_RECURSIVE, &attr, sizeof attr) == 0) return 0;
  if (errno != ENOSYS) return failed(failure, op->target);
  keep |= MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOEXEC;
  return mount(NULL, op->target, NULL, keep, NULL) < 0 ? failed(failure, op->target) : 0;
}

/* Does one step of freeze() to each of its entries: `flags` and mount(2). An entry may have gone meanwhile. */
static int mount_each(const struct op *op, unsigned long flags, struct failure *failure) {
  char path[512];
  for (const char *name = op->source; *name; name += strspn(name, "/")) {
    int size = (int)strcspn(name, "/");
    snprintf(path, sizeof path, "%s/%.*s", op->target, size, name);
    name += size;
    if (mount(path, path, NULL, flags, NULL) < 0 && errno != ENOENT) return failed(failure, path);
  }
  return 0;
}

/* Each of the entries is bound to itself, then all mounts become read-only at once, and the one above them writable
 * again: half as many calls as one by one, which a kernel before 5.12 takes. */
static int freeze(const struct op *op, struct failure *failure) {
  struct mount_attr set = {.attr_set = MOUNT_ATTR_RDONLY}, clear = {.attr_clr = MOUNT_ATTR_RDONLY};
  if (mount_each(op, MS_BIND | MS_REC, failure) < 0) return -1;
  if (syscall(SYS_mount_setattr, AT_FDCWD, op->target, AT_RECURSIVE, &set, sizeof set) < 0) {
    if (errno != ENOSYS) return failed(failure, op->target);
    return mount_each(op, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, failure);
  }
  if (syscall(SYS_mount_setattr, AT_FDCWD, op->target, 0, &clear, sizeof clear) == 0) return 0;
  return errno == EPERM ? 0 : failed(failure, op->target); /* read-only before, and locked so */
}

/* What a writable layer must be able to do: replace a directory of the lower tree. Without user.* attributes on the
 * layer's file system (tmpfs before Linux 6.6) the mkdir fails with EIO, as the new directory cannot be marked
 * opaque. */
static int rmdir_probe(const struct op *op, struct failure *failure) {
  if (rmdir(op->target) < 0) return failed(failure, op->target);
  if (mkdir(op->target, 0755) < 0) return failed(failure, op->target);
  return 0;
}

static int hold(const struct op *op, struct building *building, struct failure *failure) {
  if (op->number >= sizeof building->held / sizeof *building->held) {
    errno = EINVAL;
    return failed(failure, op->target);
  }
  building->held[op->number] = open(op->target, O_PATH | O_DIRECTORY | O_CLOEXEC);
  return building->held[op->number] < 0 ? failed(failure, op->target) : 0;
}

/* What is there already is not even opened: it may be a file of the host's that only a copy could be written of. */
static int touch(const struct op *op, struct failure *failure) {
  int fd = open(op->target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, (mode_t)op->number);
  if (fd < 0) return errno == EEXIST ? 0 : failed(failure, op->target);
  close(fd);
  return 0;
}

/* A link may lead nowhere, or to where nothing can be mounted. */
static int make_plain(const struct op *op, struct failure *failure) {
  struct stat st;
  if (lstat(op->target, &st) == 0 && S_ISLNK(st.st_mode) && unlink(op->target) < 0) return failed(failure, op->target);
  return touch(op, failure);
}

/* Of a bound node the sandbox's root could change mode, owner and times for the whole machine. A node of its own takes
 * CAP_MKNOD in the initial user namespace and, on cgroup v1, `m` for the device, which a container may lack; why it
 * could not be made is of no use then. */
static int show_device(const struct op *op, struct failure *failure) {
  struct stat st;
  if (stat(op->source, &st) < 0) return failed(failure, op->target);
  if (op->number && mknod(op->target, st.st_mode, st.st_rdev) == 0)
    return chown(op->target, st.st_uid, st.st_gid) < 0 ? failed(failure, op->target) : 0;
  struct op file = {.target = op->target, .number = 0666};
  if (touch(&file, failure) < 0) return -1;
  if (mount(op->source, op->target, NULL, MS_BIND, NULL) < 0) return failed(failure, op->target);
  return make_readonly(op, 0, failure);
}

/* The kernel gives out numbers in turn. To set the next one (ns_last_pid) takes a kernel that is built for it. */
static int pass_numbers(uint64_t count, struct failure *failure) {
  while (count--) {
    pid_t pid = vfork();
    if (pid == 0) _exit(0);
    if (pid < 0) return failed(failure, "vfork");
    while (waitpid(pid, NULL, 0) < 0)
      if (errno != EINTR) return failed(failure, "waitpid");
  }
  return 0;
}

int plan_run(const struct op *op, struct building *building, struct failure *failure) {
  switch (op->step) {
    case OP_STAGE:
      return stage(op, building, failure);
    case OP_MOUNT:
      return mount_op(op, failure);
    case OP_MKDIR:
      return mkdir(op->target, (mode_t)op->number) < 0 && errno != EEXIST ? failed(failure, op->target) : 0;
    case OP_SYMLINK:
      return symlink(op->source, op->target) < 0 ? failed(failure, op->target) : 0;
    case OP_TOUCH:
      return touch(op, failure);
    case OP_COPY:
      return copy_file(op, failure);
    case OP_WRITE: /* number = 1 + the slot of the directory that the path is relative to, or 0 */
      if (op->number > sizeof building->held / sizeof *building->held) break;
      return write_to(op->number ? building->held[op->number - 1] : AT_FDCWD, op, failure);
    case OP_PIVOT:
      return pivot(op, failure);
    case OP_UNSHARE:
      return unshare_namespaces(op, building, failure);
    case OP_LOOPBACK:
      return loopback_up(op->number, failure);
    case OP_HOSTNAME:
      return sethostname(op->source, strlen(op->source)) < 0 ? failed(failure, op->source) : 0;
    case OP_READONLY:
      return make_readonly(op, MS_NODEV, failure);
    case OP_RMDIR_PROBE:
      return rmdir_probe(op, failure);
    case OP_HOLD:
      return hold(op, building, failure);
    case OP_CHMOD:
      return chmod(op->target, (mode_t)op->number) < 0 ? failed(failure, op->target) : 0;
    case OP_CHOWN:
      return chown(op->target, (uid_t)(op->number >> 32), (gid_t)op->number) < 0 ? failed(failure, op->target) : 0;
    case OP_PLAIN:
      return make_plain(op, failure);
    case OP_DEVICE: /* number: whether a node of the sandbox's own is tried first */
      return show_device(op, failure);
    case OP_FREEZE: /* source: names, each after a slash but the first */
      return freeze(op, failure);
    case OP_PASS_NUMBERS:
      return pass_numbers(op->number, failure);
  }
  errno = ENOSYS;
  return failed(failure, "unknown step");
}
