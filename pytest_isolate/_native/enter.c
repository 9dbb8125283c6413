/* A process's way into a sandbox after it was forked there: cgroups, the last namespaces, and then all that it gives up for good:
 * capabilities, new privileges, system calls. Both core.c (a fork of pytest) and launch.c (a program) go this way. */
#include "enter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define SYS_LANDLOCK_CREATE_RULESET 444
#define SYS_LANDLOCK_ADD_RULE 445
#define SYS_LANDLOCK_RESTRICT_SELF 446

/* ---------------------------------------------------------------------------------------------------- seccomp */

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000u
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "pytest-isolate-ns supports x86-64 and aarch64"
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
/* If the loaded value is `value`, go on with the next instruction, else skip it. */
#define WHEN(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1)

/* A denylist, not a jail: what no namespace covers and a test could reach the host or its neighbours by. Arguments are 64 bit
 * in seccomp_data, the low half first on both (little-endian) machines; the kernel itself looks at the low half only for
 * socket families and ioctl requests, so a filter on the whole would be passed by setting high bits (CVE-2019-10063). */
static const struct sock_filter denylist[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0),
    REFUSE(ENOSYS), /* 32-bit programs would have other numbers for the same calls */
    LOAD(nr),
#ifdef X32_BIT
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
    REFUSE(ENOSYS),
#endif
    /* keyrings belong to the user, not to a namespace: keyrings(7) */
    WHEN(SYS_keyctl), REFUSE(ENOSYS),
    WHEN(SYS_add_key), REFUSE(ENOSYS),
    WHEN(SYS_request_key), REFUSE(ENOSYS),
    WHEN(SYS_bpf), REFUSE(EPERM),
    WHEN(SYS_perf_event_open), REFUSE(EPERM),
    WHEN(SYS_kexec_load), REFUSE(EPERM),
    WHEN(SYS_kexec_file_load), REFUSE(EPERM),
    WHEN(SYS_open_by_handle_at), REFUSE(EPERM), /* opens any file of a file system by number: the way out of CVE-2014-3519 */
    WHEN(SYS_socket), BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0),
    WHEN(SYS_socketpair), BPF_JUMP(BPF_JMP | BPF_JA, 3, 0, 0),
    WHEN(SYS_ioctl), BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    /* socket, socketpair: vsock(7) has no namespace, it talks to the hypervisor */
    LOAD(args[0]),
    WHEN(AF_VSOCK), REFUSE(EAFNOSUPPORT),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    /* ioctl: typing into the terminal that pytest was started from (CVE-2017-5226) */
    LOAD(args[1]),
    WHEN(0x5412 /* TIOCSTI */), REFUSE(EPERM),
    WHEN(0x541C /* TIOCLINUX */), REFUSE(EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

static int install_seccomp(void) {
  struct sock_fprog program = {sizeof denylist / sizeof *denylist, (struct sock_filter *)denylist};
  /* Without SPEC_ALLOW kernels before 5.16 switch speculation mitigations on for the process, which slows all of it. */
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0) return 0;
  return errno == EINVAL ? (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) : -1;
}

/* ------------------------------------------------------------------------------------------------ capabilities */

static int limit_capabilities(uint64_t keep) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  /* The bounding set first: it takes CAP_SETPCAP, which the next call may drop. EINVAL ends the list of this kernel's. */
  for (int cap = 0; cap < 64; cap++)
    if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
      if (errno == EINVAL) break;
      if (errno != EPERM) return -1;
    }
  if (syscall(SYS_capget, &header, data) < 0) return -1;
  for (int i = 0; i < 2; i++) { /* never more than there are */
    data[i].permitted &= (uint32_t)(keep >> 32 * i);
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  return (int)syscall(SYS_capset, &header, data);
}

/* ---------------------------------------------------------------------------------------------------- Landlock */

/* The last line where no namespaces can be had: everything readable, only the named trees writable, and from ABI 6 on neither
 * signals to processes outside nor connections to their abstract sockets (landlock(7)). */

int isolate_landlock_version(void) { return (int)syscall(SYS_LANDLOCK_CREATE_RULESET, NULL, 0, 1 /* VERSION */); }

static int install_landlock(const char *const *writable, int count) {
  int version = isolate_landlock_version();
  uint64_t handled = 0x1ff2; /* WRITE_FILE, REMOVE_DIR, REMOVE_FILE and MAKE_*: ABI 1 */
  if (version >= 2) handled |= 1 << 13; /* REFER: else no file could be moved between directories, anywhere */
  if (version >= 3) handled |= 1 << 14; /* TRUNCATE */
  struct {
    uint64_t files, ports, scoped;
  } attributes = {.files = handled, .scoped = version >= 6 ? 3 : 0};
  struct {
    uint64_t allowed;
    int32_t parent;
  } __attribute__((packed)) rule;
  size_t size = version >= 6 ? sizeof attributes : sizeof attributes.files; /* a kernel refuses more than it knows */
  int rules = (int)syscall(SYS_LANDLOCK_CREATE_RULESET, &attributes, size, 0);
  if (rules < 0) return -1;
  for (int i = 0; i < count; i++) {
    struct stat st;
    rule.parent = open(writable[i], O_PATH | O_CLOEXEC);
    if (rule.parent < 0) continue; /* nothing there, nothing to allow */
    uint64_t of_files = 2 | (handled & 1 << 14); /* WRITE_FILE, TRUNCATE */
    rule.allowed = fstat(rule.parent, &st) == 0 && S_ISDIR(st.st_mode) ? handled : of_files;
    long bad = syscall(SYS_LANDLOCK_ADD_RULE, rules, 1 /* PATH_BENEATH */, &rule, 0);
    int error = errno;
    close(rule.parent);
    errno = error;
    if (bad) return -1;
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_LANDLOCK_RESTRICT_SELF, rules, 0) < 0) return -1;
  close(rules);
  return 0;
}

/* ---------------------------------------------------------------------------------------------- the child's way in */

/* A new time namespace takes effect for children only, but a single-threaded process may join the one it made for them
 * (time_namespaces(7)). Needed where PID 1's belongs to a more privileged user namespace. */
static int join_own_time_namespace(void) {
  int fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  int bad = setns(fd, CLONE_NEWTIME);
  int error = errno;
  close(fd);
  errno = error;
  return bad;
}

static int set_affinity(const struct isolate_entry *entry) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (int i = 0; i < entry->core_count; i++) CPU_SET((unsigned)entry->cores[i], &set);
  return entry->core_count ? sched_setaffinity(0, sizeof set, &set) : 0;
}

static int set_rlimits(const struct isolate_entry *entry) {
  for (int i = 0; i < entry->rlimit_count; i++) {
    struct rlimit limit = {entry->rlimits[2 * i + 1], entry->rlimits[2 * i + 1]};
    if (setrlimit((int)entry->rlimits[2 * i], &limit) < 0) return -1;
  }
  return 0;
}

/* Runs in the child before any Python does. The order matters: cgroups first, so that all that follows is charged to the test;
 * the cgroup namespace after that, so that its root is the test's own cgroup; everything that takes capabilities before they
 * are dropped. Returns 0 or the step that failed. */
int isolate_enter(const struct isolate_entry *entry) {
  for (int i = 0; i < entry->attach_count; i++)
    if (write(entry->attach[i], "0", 1) < 0) return STEP_CGROUP;
  /* A session of its own: getppid() is 0 inside, and kill(0, SIGKILL) by a test that wants its parent must hit no process
   * group that pytest is in; and no controlling terminal. */
  if (setsid() < 0) return STEP_SETSID;
  if (entry->unshare_late && unshare((int)entry->unshare_late) < 0) return STEP_UNSHARE;
  if ((entry->unshare_late & CLONE_NEWTIME) && join_own_time_namespace() < 0) return STEP_TIME;
  if (entry->join_late && setns(entry->init_pidfd, (int)entry->join_late) < 0) return STEP_TIME;
  if (*entry->cwd && chdir(entry->cwd) < 0) return STEP_CWD; /* the kernel put us at the new root */
  if (set_affinity(entry) < 0) return STEP_AFFINITY;
  if (set_rlimits(entry) < 0) return STEP_RLIMIT;
  if (!entry->keep_credentials && limit_capabilities(entry->capabilities) < 0) return STEP_CAPABILITIES;
  if (entry->landlock_count >= 0 && install_landlock(entry->landlock_writable, entry->landlock_count) < 0)
    return STEP_LANDLOCK;
  if (entry->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return STEP_NO_NEW_PRIVS;
  if (entry->seccomp && install_seccomp() < 0) return STEP_SECCOMP;
  for (int i = 0; i < entry->close_count; i++) close(entry->close[i]);
  return 0;
}
