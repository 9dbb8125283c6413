/* A process's way into a sandbox after it was forked there: cgroups, the last namespaces, and then all that it gives
 * up for good: capabilities, new privileges, system calls. Both fork.c (a fork of pytest) and launch.c (a program)
 * go this way. */
#include "enter.h"

#include "landlock.h"
#include "seccomp.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int limit_capabilities(uint64_t keep) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  if (syscall(SYS_capget, &header, data) < 0) return -1;
  /* The bounding set first, if this process may: it takes CAP_SETPCAP, which capset(2) may drop. EINVAL ends the list of
   * this kernel's. */
  int may = data[0].effective >> CAP_SETPCAP & 1;
  for (int cap = 0; may && cap < 64; cap++)
    if (!(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
      if (errno != EINVAL) return -1;
      break;
    }
  for (int i = 0; i < 2; i++) { /* never more than there are */
    data[i].permitted &= (uint32_t)(keep >> 32 * i);
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0; /* which empties the ambient set as well (capabilities(7)) */
  }
  return (int)syscall(SYS_capset, &header, data);
}

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

static int attach(int file) {
  ssize_t n;
  while ((n = write(file, "0", 1)) < 0 && errno == EINTR) continue;
  if (n == 0) errno = EIO;
  return n == 1 ? 0 : -1;
}

/* Runs in the child before any Python does. The order matters: cgroups first, so that all that follows is charged to
 * the test; the cgroup namespace after that, so that its root is the test's own cgroup; everything that takes
 * capabilities before they are dropped. Returns 0 or the step that failed. */
int isolate_enter(const struct isolate_entry *entry, int born) {
  for (int i = 0; i < entry->attach_count; i++)
    if (entry->attach[i] != born && attach(entry->attach[i]) < 0) return ENTER_CGROUP;
  /* A session of its own: getppid() is 0 inside, and kill(0, SIGKILL) by a test that wants its parent must hit no
   * process group that pytest is in; and no controlling terminal. */
  if (setsid() < 0) return ENTER_SETSID;
  if (entry->unshare_late && unshare((int)entry->unshare_late) < 0) return ENTER_UNSHARE;
  if ((entry->unshare_late & CLONE_NEWTIME) && join_own_time_namespace() < 0) return ENTER_TIME;
  if (entry->join_late && setns(entry->init_pidfd, (int)entry->join_late) < 0) return ENTER_TIME;
  if (*entry->cwd && chdir(entry->cwd) < 0) return ENTER_CWD; /* the kernel put us at the new root */
  if (set_affinity(entry) < 0) return ENTER_AFFINITY;
  if (set_rlimits(entry) < 0) return ENTER_RLIMIT;
  if (!entry->keep_credentials && limit_capabilities(entry->capabilities) < 0) return ENTER_CAPABILITIES;
  if (entry->landlock_count >= 0 && landlock_install(entry->landlock_writable, entry->landlock_count) < 0)
    return ENTER_LANDLOCK;
  if (entry->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return ENTER_NO_NEW_PRIVS;
  if (entry->seccomp && seccomp_install() < 0) return ENTER_SECCOMP;
  for (int i = 0; i < entry->close_count; i++) close(entry->close[i]); /* closed, whatever it returns (close(2)) */
  return 0;
}
