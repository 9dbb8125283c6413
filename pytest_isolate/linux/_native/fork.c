/* The part of the C core that lives in pytest's process: forking the running Python into a sandbox that stands ready.
 *
 * Theory of operation of isolate_fork(). The test must run in this very process image (its fixtures, modules, data), so
 * it is a fork of pytest; and it must be born in the sandbox's pid namespace, because no process can change its own
 * (pid_namespaces(7)). A fork from a process that has joined by setns(2) is; but pytest itself must not join, since
 * what it joins cannot always be left again. Hence a helper in between:
 *
 *   pytest --vfork--> helper: setns(user, pid, mount, net, uts, ipc); clone(); _exit
 *                       `--clone--> child: cgroups, remaining namespaces, capabilities, seccomp --> Python goes on
 *
 * The helper shares pytest's memory, so it costs no copy of page tables, but it has namespaces, credentials and working
 * directory of its own. The one fork is glibc's, so that its locks and atfork handlers are right: a raw clone3 leaves
 * the malloc lock of another thread taken for ever in the child (BenchExec issue 656). atfork.c has the helper make no
 * more of it than the system call. When the helper exits, the child is handed to pytest, which is its "subreaper" for
 * that moment (prctl(2)), and waits for it as for any child.
 *
 * While the child lives, the two share all their memory, and whoever writes to a page first pays for a copy of it; a
 * huge page (huge_pages.c) is taken apart by that, for good. After the child's end the same write costs a third, and
 * nothing is taken apart. So the parent sleeps here, in C, for as long as there is nothing to be done in Python:
 * docs/decisions/quiet-parent.md. For the same reason several children are forked in one go: what Python did between
 * two forks would copy pages for the first child, and the second fork would protect all of them again. */
#include <Python.h>

#include "atfork.h"
#include "birth.h"
#include "enter.h"
#include "stuck_fork.h"
#include "syscalls.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* In the stable ABI since 3.7, but not declared under cffi's Py_LIMITED_API. */
extern void PyOS_BeforeFork(void);
extern void PyOS_AfterFork_Parent(void);
extern void PyOS_AfterFork_Child(void);

/* A page shared with the child, in which it leaves what went wrong before it could speak. */
struct isolate_trouble *isolate_shared_trouble(void) {
  void *page = mmap(NULL, sizeof(struct isolate_trouble), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return page == MAP_FAILED ? NULL : page;
}

/* Blocks all signals but one; `mask` takes those that were blocked before. */
void isolate_block_signals(char *mask) {
  sigset_t all;
  sigfillset(&all);
  sigdelset(&all, ISOLATE_TICK);
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

/* Children that have been forked: kept on the stack until the parent's wait is over, as `runs` are in Python's memory. */
struct forked {
  pid_t pid;
  int pidfd;
  int64_t started, ended;
};

/* Where one child has ended, how long the others are waited for that were forked with it: twice as long as that one took,
 * as they may have come to a core later, and not longer than what is copied if this process goes on meanwhile would cost. */
enum { GRACE = 50 * 1000000 };

/* The signals that end the wait: those that are not in `mask`. They are only looked for, and stay pending: what a
 * handler of Python's raised now would be lost in the hooks that are still to run. */
static int open_signals(const char *mask) {
  /* while blocked, they are kept nevertheless */
  static const int ignored_by_default[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH};
  struct sigaction action;
  sigset_t heard;
  sigemptyset(&heard);
  for (int signal = 1; signal < NSIG; signal++)
    if (!sigismember((const sigset_t *)mask, signal)) sigaddset(&heard, signal);
  for (size_t i = 0; i < sizeof ignored_by_default / sizeof(int); i++)
    if (sigaction(ignored_by_default[i], NULL, &action) == 0 && action.sa_handler == SIG_DFL)
      sigdelset(&heard, ignored_by_default[i]); /* SIGCHLD is there by now: the helper has ended */
  return signalfd(-1, &heard, SFD_CLOEXEC);
}

/* Takes note of those that have ended, and leaves them out from now on; `ends` has their pidfds, then their control
 * sockets. Returns how many go on; -1 if one of them wants to be heard. */
static int note_ends(struct pollfd *ends, struct forked *forked, int count) {
  int going = 0, heard = 0;
  for (int i = 0; i < count; i++) {
    struct pollfd *end = ends + i, *control = ends + count + i;
    if (end->fd >= 0 && end->revents) {
      forked[i].ended = now();
      end->fd = control->fd = -1;
    } else if (control->fd >= 0 && control->revents & POLLHUP) {
      control->fd = -1; /* it has closed its end: as it ends, a moment before the pidfd tells, or on purpose */
    } else if (control->fd >= 0 && control->revents) {
      heard = 1;
    }
    going += end->fd >= 0;
  }
  return heard ? -1 : going;
}

/* Until the children have ended, or one wants to be heard, or another child does, or time is up, or a signal has come. */
static void wait_quietly(const struct isolate_watch *watch, struct isolate_run *const *runs, struct forked *forked,
                         int count, const char *mask) {
  int signals = open_signals(mask), total = 2 * count, going = 0;
  if (signals < 0) return; /* too many files: then not quietly */
  struct pollfd ends[2 * count + watch->other_count + 1];
  int64_t until = watch->patience < 0 ? INT64_MAX : now() + watch->patience;
  int64_t began = forked[0].started, first = 0;
  for (int i = 0; i < count; i++) {
    ends[i] = (struct pollfd){.fd = forked[i].pidfd, .events = POLLIN};
    ends[count + i] = (struct pollfd){.fd = forked[i].pidfd < 0 ? -1 : runs[i]->control, .events = POLLIN};
    going += forked[i].pidfd >= 0; /* where no child could be made, nothing would ever come */
  }
  for (int i = 0; i < watch->other_count; i++) ends[total++] = (struct pollfd){.fd = watch->others[i], .events = POLLIN};
  ends[total++] = (struct pollfd){.fd = signals, .events = POLLIN};
  while (going > 0) {
    int64_t left = until - now();
    struct timespec patience = {left / 1000000000, left % 1000000000};
    if (left <= 0 || ppoll(ends, total, until == INT64_MAX ? NULL : &patience, NULL) <= 0) break;
    int others = 0;
    for (int i = 2 * count; i < total; i++) others |= ends[i].revents;
    going = others ? -1 : note_ends(ends, forked, count);
    if (going > 0 && going < count && !first) {
      first = now();
      int64_t grace = 2 * (first - began) < GRACE ? 2 * (first - began) : GRACE;
      if (first + grace < until) until = first + grace;
    }
    if (first && watch->other_count) break; /* where others go on, pages are copied anyway */
  }
  close(signals);
}

/* What the way of a child needs in the helper and in the child. */
struct journey {
  const struct isolate_entry *entry;
  struct isolate_trouble *trouble; /* shared with the child */
  int dumpable;
};

static int note(struct isolate_trouble *trouble, int step) {
  trouble->error = errno;
  trouble->step = step;
  return -1;
}

/* In the helper. */
static int join_sandbox(void *data) {
  const struct journey *journey = data;
  const struct isolate_entry *entry = journey->entry;
  birth_prepare(entry->attach, entry->attach_count);
  if (entry->join && setns(entry->init_pidfd, (int)entry->join) < 0) return note(journey->trouble, ENTER_SETNS);
  birth_arm();
  return 0;
}

/* In the child, before anything else runs there. Never returns if it can't be let in. */
static void enter_sandbox(void *data) {
  const struct journey *journey = data;
  stuck_fork_forget();
  /* A thread that runs already would be left out of what only the calling thread enters and gives up. */
  int step = is_only_thread() ? 0 : ENTER_ALONE;
  /* Joining a user namespace clears it, and with it access to /proc/self. */
  if (!step && prctl(PR_SET_DUMPABLE, journey->dumpable, 0, 0, 0) < 0) step = ENTER_DUMPABLE;
  if (!step) step = isolate_enter(journey->entry, birth_file());
  if (!step) return;
  note(journey->trouble, step);
  _exit(127);
}

/* Before the helper is made, which leaves us its child. `was`: whether this process is one anyway; or -1. */
static int become_subreaper(int *was) {
  if (prctl(PR_GET_CHILD_SUBREAPER, was, 0, 0, 0) < 0 || (!*was && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)) {
    *was = -1;
    return -1;
  }
  return 0;
}

static void wait_for(pid_t pid) {
  while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) continue;
}

/* The fork itself, as fork(2) answers, with `trouble` filled in if there is no child. */
static pid_t fork_test(struct journey *journey, isolate_fork_by_helper *fork_by_helper) {
  struct isolate_way way = {.join = join_sandbox, .enter = enter_sandbox, .data = journey};
  int subreaper;
  if (become_subreaper(&subreaper) < 0) return note(journey->trouble, ENTER_SUBREAPER);
  pid_t child = fork_by_helper(&way);
  if (child == 0) return 0;
  if (child < 0 && !journey->trouble->step) note(journey->trouble, ENTER_FORK);
  /* The helper's join cleared it for the memory that we share. Neither call can fail but by a filter of system
   * calls; then pytest cannot be looked into, and adopts orphans: nothing that its tests depend on. */
  prctl(PR_SET_DUMPABLE, journey->dumpable, 0, 0, 0);
  if (!subreaper) prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
  return child;
}

/* A pidfd of `child`, which is not reaped yet, so that its number is its own; -1 with `trouble` filled in, and no child. */
static int open_child(pid_t child, struct isolate_trouble *trouble) {
  if (child < 0) return -1;
  int fd = (int)syscall(SYS_pidfd_open, child, 0);
  if (fd >= 0) return fd;
  note(trouble, ENTER_FORK);
  kill(child, SIGKILL);
  wait_for(child);
  return -1;
}

/* Forks once for each of `runs`. Returns its number in a child; -1 in the parent, with what `runs` tell about it filled
 * in. A child that fails on its way in fills `trouble` and exits with 127. Called without the GIL (cffi releases it), as
 * Python's fork hooks want it; they run once for all in the parent. And with all signals blocked, as a handler must not run
 * in the helper, on our memory: `mask` has those that were before. */
int isolate_fork(struct isolate_run *const *runs, int count, struct isolate_watch *watch, const char *mask) {
  PyGILState_STATE gil = PyGILState_Ensure();
  /* Asked before the hooks run, as they may stop a thread that they start again afterwards. */
  int alone = is_only_thread(), dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1;
  struct forked forked[count];

  stuck_fork_watch(mask, watch->fork_patience, watch->output);
  PyOS_BeforeFork();
  int64_t began = now();
  for (int i = 0; i < count; i++) {
    struct journey journey = {runs[i]->entry, runs[i]->trouble, dumpable};
    *runs[i]->trouble = (struct isolate_trouble){0};
    forked[i] = (struct forked){.started = now()};
    forked[i].pid = fork_test(&journey, (isolate_fork_by_helper *)watch->fork_by_helper);
    if (forked[i].pid == 0) {
      PyOS_AfterFork_Child();
      PyGILState_Release(gil);
      return i;
    }
  }
  int64_t forking = (now() - began) / count;
  for (int i = 0; i < count; i++) forked[i].pidfd = open_child(forked[i].pid, runs[i]->trouble); /* no child has another's */
  /* Other threads may want the GIL, or what Python's hooks have locked; where there are none, all of that can wait. */
  if (alone && watch->quiet) {
    stuck_fork_unwatch();
    wait_quietly(watch, runs, forked, count, mask);
    stuck_fork_watch(mask, watch->fork_patience, watch->output);
  }
  PyOS_AfterFork_Parent();
  stuck_fork_unwatch();
  PyGILState_Release(gil);
  for (int i = 0; i < count; i++) { /* now only: these are in Python's memory */
    runs[i]->pid = forked[i].pid, runs[i]->pidfd = forked[i].pidfd;
    runs[i]->started = forked[i].started, runs[i]->ended = forked[i].ended;
  }
  watch->forking = forking;
  return -1;
}
