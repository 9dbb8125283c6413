/* The part of the C core that lives in pytest's process: forking the running Python into a sandbox that stands ready.
 *
 * Theory of operation of isolate_fork(). The test must run in this very process image (its fixtures, modules, data), so it is
 * a fork of pytest; and it must be born in the sandbox's pid namespace, because no process can change its own
 * (pid_namespaces(7)). A fork from a process that has joined by setns(2) is; but pytest itself must not join, since what it
 * joins cannot always be left again. Hence a helper in between:
 *
 *   pytest --vfork--> helper: setns(user, pid, mount, net, uts, ipc); fork(); _exit
 *                       `--fork--> child: cgroups, remaining namespaces, capabilities, seccomp --> Python goes on
 *
 * The helper shares pytest's memory, so it costs no copy of page tables, but it has namespaces, credentials and working
 * directory of its own. The one fork is glibc's, so that its locks and atfork handlers are right: a raw clone3 leaves the
 * malloc lock of another thread taken for ever in the child (BenchExec issue 656). When the helper exits, the child is handed
 * to pytest, which is its "subreaper" for that moment (prctl(2)), and waits for it as for any child.
 *
 * While the child lives, the two share all their memory, and whoever writes to a page first pays for a copy of it; a huge page
 * (see below) is taken apart by that, for good. After the child's end the same write costs a third, and nothing is taken apart.
 * So the parent sleeps here, in C, for as long as there is nothing to be done in Python: docs/decisions/quiet-parent.md. */
#include <Python.h>
#include <stdint.h>

#include "enter.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef PTRACE_SETSIGMASK
#define PTRACE_SETSIGMASK 0x420b
#endif
#ifndef PTRACE_GETSIGMASK
#define PTRACE_GETSIGMASK 0x420a
#endif

/* In the stable ABI since 3.7, but not declared under cffi's Py_LIMITED_API. */
extern void PyOS_BeforeFork(void);
extern void PyOS_AfterFork_Parent(void);
extern void PyOS_AfterFork_Child(void);

/* ----------------------------------------------------------------------------------------------------- the fork */

/* Filled by the helper, which shares our memory. */
static volatile pid_t forked;
static volatile int helper_step, helper_error;

/* In a function of its own, never inlined: vfork's child must not return from the frame that called it, and the child of its
 * child does so on its own copy of the stack. Raw values only between vfork and _exit: errno and all else are pytest's. */
__attribute__((noinline)) static pid_t vfork_helper(const struct isolate_entry *entry) {
  pid_t helper = vfork();
  if (helper == 0) {
    if (entry->join && setns(entry->init_pidfd, (int)entry->join) < 0) {
      helper_step = STEP_SETNS;
      helper_error = errno;
      _exit(1);
    }
    pid_t child = fork();
    if (child == 0) return 0;
    if (child < 0) {
      helper_step = STEP_FORK;
      helper_error = errno;
    }
    forked = child;
    _exit(0);
  }
  return helper;
}

/* A page shared with the child, in which it leaves what went wrong before it could speak. */
struct isolate_trouble *isolate_shared_trouble(void) {
  void *page = mmap(NULL, sizeof(struct isolate_trouble), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return page == MAP_FAILED ? NULL : page;
}

/* Blocks all signals; `mask` takes those that were blocked before. */
void isolate_block_signals(char *mask) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, (sigset_t *)mask);
}

void isolate_restore_signals(const char *mask) { pthread_sigmask(SIG_SETMASK, (const sigset_t *)mask, NULL); }

int isolate_mask_size(void) { return sizeof(sigset_t); }

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* unshare(2): what changes nothing in a process of one thread is EINVAL in one of several. */
static int is_only_thread(void) { return unshare(CLONE_THREAD) == 0; }

/* Until the child has ended, or wants to be heard, or its time is up, or a signal has come that is not in `mask`. Signals are only
 * looked for, and stay pending: what a handler of Python's raised now would be lost in the hooks that are still to run. */
static void wait_quietly(const struct isolate_watch *watch, int pidfd, const char *mask) {
  static const int ignored_by_default[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH}; /* while blocked, they are kept nevertheless */
  struct sigaction action;
  sigset_t heard;
  sigemptyset(&heard);
  for (int signal = 1; signal < NSIG; signal++)
    if (!sigismember((const sigset_t *)mask, signal)) sigaddset(&heard, signal);
  for (size_t i = 0; i < sizeof ignored_by_default / sizeof(int); i++)
    if (sigaction(ignored_by_default[i], NULL, &action) == 0 && action.sa_handler == SIG_DFL)
      sigdelset(&heard, ignored_by_default[i]); /* SIGCHLD is there by now: the helper has ended */
  int signals = signalfd(-1, &heard, SFD_CLOEXEC);
  if (signals < 0) return; /* too many files: then not quietly */
  struct pollfd ends[] = {
      {.fd = pidfd, .events = POLLIN}, {.fd = watch->bell, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
  struct timespec patience = {watch->patience / 1000000000, watch->patience % 1000000000};
  ppoll(ends, 3, watch->patience < 0 ? NULL : &patience, NULL);
  close(signals);
}

/* 0 in the child; its pid in the parent, with a pidfd; -1 if there is none, with `trouble` filled in. A child that fails on
 * its way in fills `trouble` and exits with 127. Called without the GIL (cffi releases it), as Python's fork hooks want it; and
 * with all signals blocked, as a handler must not run in the helper, on our memory: `mask` has those that were before. */
long isolate_fork(const struct isolate_entry *entry, struct isolate_watch *watch, const char *mask, int *pidfd,
                  struct isolate_trouble *trouble) {
  int subreaper = 0, status;
  PyGILState_STATE gil = PyGILState_Ensure();
  /* Asked before the hooks run, as they may stop a thread that they start again afterwards. */
  int alone = is_only_thread();
  int dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);

  *trouble = (struct isolate_trouble){0};
  helper_step = helper_error = 0;
  forked = -1;
  PyOS_BeforeFork();
  prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
  if (!subreaper) prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  int64_t started = now();
  pid_t helper = vfork_helper(entry);
  if (helper == 0) {
    prctl(PR_SET_DUMPABLE, dumpable == 1, 0, 0, 0); /* joining a user namespace clears it, and with it access to /proc/self */
    int step = isolate_enter(entry);
    if (step) {
      trouble->error = errno;
      trouble->step = step;
      _exit(127);
    }
    PyOS_AfterFork_Child();
    PyGILState_Release(gil);
    return 0;
  }
  if (helper > 0)
    while (waitpid(helper, &status, __WALL) < 0 && errno == EINTR) continue;
  else
    helper_step = STEP_FORK, helper_error = errno;
  prctl(PR_SET_DUMPABLE, dumpable == 1, 0, 0, 0); /* the helper's join cleared it for the memory that we share */
  if (!subreaper) prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  int64_t forking = now() - started;
  int fd = -1;
  if (forked < 0) {
    trouble->step = helper_step ? helper_step : STEP_FORK;
    trouble->error = helper_error;
  } else if ((fd = (int)syscall(SYS_pidfd_open, forked, 0)) < 0) { /* our unreaped child: its number is its own */
    trouble->step = STEP_FORK;
    trouble->error = errno;
    kill(forked, SIGKILL);
    while (waitpid(forked, &status, __WALL) < 0 && errno == EINTR) continue;
    forked = -1;
  }
  /* Other threads may want the GIL, or what Python's hooks have locked; where there are none, all of that can wait. */
  if (alone && fd >= 0 && watch->bell >= 0) wait_quietly(watch, fd, mask);
  PyOS_AfterFork_Parent();
  PyGILState_Release(gil);
  *pidfd = fd; /* now only: these are in Python's memory */
  watch->forking = forking;
  return forked;
}

int isolate_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

/* For the broker of networks alone (broker.py), which has no other thread: pytest's own namespaces never change. */
int isolate_unshare(uint64_t namespaces) { return unshare((int)namespaces); }

int isolate_setns(int fd, uint64_t namespaces) { return setns(fd, (int)namespaces); }

/* ------------------------------------------------------------------------------------------------------ huge pages */

/* A fork copies, and the child's end frees, 512 page table entries for 2 MB of memory in small pages, and one in a huge page.
 * madvise(2), MADV_COLLAPSE (Linux 6.1): gather what is there in huge pages now, whatever /sys/kernel/mm says. Not
 * MADV_HUGEPAGE, which would let memory that is not there yet come in huge pages, too. */
#define COLLAPSE 25
#define BLOCK (2UL << 20)
#define PAGES (BLOCK / 4096)

/* Blocks of which little is resident, such as thread stacks, would grow. */
static int mostly_resident(void *block) {
  unsigned char pages[PAGES];
  size_t there = 0, count = BLOCK / (size_t)sysconf(_SC_PAGESIZE);
  if (count > PAGES || mincore(block, BLOCK, pages) < 0) return 0;
  for (size_t i = 0; i < count; i++) there += pages[i] & 1;
  return there >= count - count / 8;
}

/* Heap and anonymous memory that is this process's own (proc_pid_maps(5)); never the main thread's stack. */
static int is_heap(const char *line, uint64_t *start, uint64_t *end) {
  char permissions[5];
  unsigned long inode;
  int name = 0;
  if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %lu %n", start, end, permissions, &inode, &name) < 4) return 0;
  line += name;
  return !strcmp(permissions, "rw-p") && !inode && (!*line || !strncmp(line, "[heap]", 6) || !strncmp(line, "[anon:", 6));
}

/* Gathers up to `limit` blocks of 2 MB at or after *from, and moves *from behind the last one that it looked at, to 0 after the very
 * last. Returns how many were gathered; *tried is how many it tried. */
long isolate_collapse(uint64_t *from, long limit, long *tried) {
  char line[PATH_MAX + 128];
  long done = 0;
  uint64_t start, end, first = *from;
  FILE *maps = fopen("/proc/self/maps", "re");
  *from = 0;
  *tried = 0;
  while (maps && !*from && fgets(line, sizeof line, maps)) {
    if (!is_heap(line, &start, &end)) continue;
    for (uint64_t at = (start + BLOCK - 1) & ~(BLOCK - 1); at + BLOCK <= end; at += BLOCK) {
      if (at < first || !mostly_resident((void *)at)) continue;
      if (*tried == limit) {
        *from = at;
        break;
      }
      ++*tried;
      done += madvise((void *)at, BLOCK, COLLAPSE) == 0;
    }
  }
  if (maps) fclose(maps);
  return done;
}

/* -------------------------------------------------------------------------------------------- stacks at a time-out */

/* Sends `signal`, whose handler dumps the stacks, unblocking it in the main thread first: a test may block all signals, and
 * ptrace(2) can change another process's mask (PTRACE_SETSIGMASK). 0, or -1 with errno. A stopped process stays stopped. */
int isolate_dump_signal(int pid, int signal) {
  uint64_t mask = 0;
  siginfo_t event = {0};
  if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) == 0) {
    /* WNOWAIT: if it ends just now, its status is for the keeper */
    if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 &&
        waitid(P_PID, (id_t)pid, &event, WSTOPPED | WEXITED | WNOWAIT | __WALL) == 0 &&
        (event.si_code == CLD_TRAPPED || event.si_code == CLD_STOPPED)) {
      waitid(P_PID, (id_t)pid, &event, WSTOPPED | __WALL);
      if (ptrace(PTRACE_GETSIGMASK, pid, (void *)sizeof mask, &mask) == 0) {
        mask &= ~(1ULL << (signal - 1));
        ptrace(PTRACE_SETSIGMASK, pid, (void *)sizeof mask, &mask);
      }
    }
    ptrace(PTRACE_DETACH, pid, NULL, NULL);
  }
  return kill(pid, signal); /* where tracing is forbidden, it may still not be blocked */
}

/* ---------------------------------------------------------------------------------------------- what a test changed */

struct changes {
  char *bytes;
  size_t size, room;
  int failed;
  int skeleton; /* the layer is one */
};

static void add_change(struct changes *changes, char kind, const char *path) {
  size_t length = strlen(path) + 2;
  if (changes->size + length > changes->room) {
    size_t room = (changes->room + length) * 2;
    char *bytes = realloc(changes->bytes, room);
    if (!bytes) {
      changes->failed = 1;
      return;
    }
    changes->bytes = bytes;
    changes->room = room;
  }
  changes->bytes[changes->size] = kind;
  memcpy(changes->bytes + changes->size + 1, path, length - 1);
  changes->size += length;
}

static int is_opaque(int dir) { /* overlayfs.rst, "whiteouts and opaque directories" */
  char value = 0;
  return (fgetxattr(dir, "user.overlay.opaque", &value, 1) == 1 && value == 'y') ||
         (fgetxattr(dir, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y');
}

static int same_text(int at, const char *name, const char *lower) {
  char a[4096], b[4096];
  ssize_t n = readlinkat(at, name, a, sizeof a), m = readlink(lower, b, sizeof b);
  return n >= 0 && n == m && memcmp(a, b, (size_t)n) == 0;
}

/* Opening a file for writing copies it up with its times and size as they were: only a difference in these is a change. Entries of a
 * skeleton stand in for the host's: they belong to this user, with what modes that takes. */
static int same_file(const struct changes *changes, int at, const char *name, const struct stat *upper, const struct stat *lower,
                     const char *path) {
  if ((upper->st_mode ^ lower->st_mode) & S_IFMT) return 0;
  if (!changes->skeleton && (((upper->st_mode ^ lower->st_mode) & 07777) || upper->st_uid != lower->st_uid || upper->st_gid != lower->st_gid))
    return 0;
  if (S_ISDIR(upper->st_mode)) return 1;
  if (S_ISLNK(upper->st_mode)) return same_text(at, name, path);
  return upper->st_size == lower->st_size && upper->st_mtim.tv_sec == lower->st_mtim.tv_sec &&
         upper->st_mtim.tv_nsec == lower->st_mtim.tv_nsec;
}

static int open_directory(int at, const char *name) {
  int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  int fd = openat(at, name, flags);
  if (fd < 0 && errno == EACCES && fchmodat(at, name, 0700, 0) == 0) fd = openat(at, name, flags); /* it is thrown away anyway */
  return fd;
}

static void walk(struct changes *changes, int fd, char *path, size_t length);

static void visit(struct changes *changes, int fd, const char *name, char *path, size_t length) {
  struct stat upper, lower;
  size_t more = strlen(name) + 1;
  if (length + more >= PATH_MAX * 2 || fstatat(fd, name, &upper, AT_SYMLINK_NOFOLLOW) < 0) return;
  path[length] = '/';
  memcpy(path + length + 1, name, more);
  int known = lstat(path, &lower) == 0;
  if (S_ISCHR(upper.st_mode) && upper.st_rdev == 0) {
    if (known) add_change(changes, 'D', path);
  } else if (!known) {
    add_change(changes, 'A', path);
    if (S_ISDIR(upper.st_mode)) walk(changes, open_directory(fd, name), path, length + more);
  } else {
    int dir = S_ISDIR(upper.st_mode) ? open_directory(fd, name) : -1;
    if (!same_file(changes, fd, name, &upper, &lower, path)) add_change(changes, 'M', path);
    if (dir >= 0) walk(changes, dir, path, length + more);
  }
  path[length] = 0;
}

/* An opaque directory hides all of the lower one: what it does not hold itself was deleted. */
static void list_hidden(struct changes *changes, int fd, char *path, size_t length) {
  DIR *dir = opendir(length ? path : "/");
  struct dirent *entry;
  struct stat st;
  while (dir && (entry = readdir(dir))) {
    size_t more = strlen(entry->d_name) + 1;
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || length + more >= PATH_MAX * 2) continue;
    if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) continue;
    path[length] = '/';
    memcpy(path + length + 1, entry->d_name, more);
    add_change(changes, 'D', path);
    path[length] = 0;
  }
  if (dir) closedir(dir);
}

/* `fd`, which it closes, is a directory of the upper layer; `path` where it appears; the lower tree, outside, has the same path. */
static void walk(struct changes *changes, int fd, char *path, size_t length) {
  struct dirent *entry;
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir) {
    if (fd >= 0) close(fd);
    return;
  }
  if (is_opaque(fd)) list_hidden(changes, fd, path, length);
  while ((entry = readdir(dir)))
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) visit(changes, fd, entry->d_name, path, length);
  closedir(dir);
}

/* On a tmpfs the size of a directory counts its entries (mm/shmem.c, BOGO_DIRENT_SIZE): one look instead of eight system calls
 * for each of the layers that the test left alone, which are most. */
static int is_empty(int at, const char *name) {
  struct stat st;
  return fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) && st.st_size == 0;
}

/* The changes in layers over the host's tree: records of a letter (A, M, D), a path and a NUL, *size bytes in all; NULL if there are
 * none, with *size -1 if there was no memory. Free with isolate_free(). `layers` is a list, which an empty string ends, of a letter
 * (s: the layer is a skeleton; o: it is not), the upper directory within the scratch directory, a NUL, where it appears, a NUL. */
char *isolate_changes(int scratch, const char *layers, long *size) {
  struct changes changes = {0};
  struct statfs fs;
  int on_tmpfs = fstatfs(scratch, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
  char *path = malloc(PATH_MAX * 2 + 2);
  while (path && *layers) {
    const char *upper = layers + 1, *seen = upper + strlen(upper) + 1;
    size_t length = strcmp(seen, "/") ? strlen(seen) : 0;
    changes.skeleton = *layers == 's';
    layers = seen + strlen(seen) + 1;
    if (length > PATH_MAX || (on_tmpfs && is_empty(scratch, upper))) continue;
    int fd = openat(scratch, upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    memcpy(path, seen, length);
    path[length] = 0;
    walk(&changes, fd, path, length);
  }
  *size = changes.failed || !path ? -1 : (long)changes.size;
  free(path);
  return changes.bytes;
}

void isolate_free(char *bytes) { free(bytes); }

/* ------------------------------------------------------------------------------------------------------ shared objects */

/* Whether the dynamic linker would take a loaded object for `name`. Not through cffi's dlopen(): the linker gives no reason for a
 * name that it finds a file for but has not loaded (RTLD_NOLOAD), and cffi crashes without one. */
int isolate_library_loaded(const char *name) {
  void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
  if (!handle) return 0;
  dlclose(handle);
  return 1;
}
