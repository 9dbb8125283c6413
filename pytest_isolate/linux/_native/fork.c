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
 * docs/decisions/quiet-parent.md. For the same reason several children are forked in one go, a row: what Python did between
 * two forks would copy pages for the first child, and the second fork would protect all of them again. A row may be longer
 * than what is to run at a time: then the next is forked here when one has ended. */
#include <Python.h>

#include "atfork.h"
#include "birth.h"
#include "child_signal.h"
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
      sigdelset(&heard, ignored_by_default[i]); /* SIGCHLD always, and it is there by now: the helper has ended */
  return signalfd(-1, &heard, SFD_CLOEXEC);
}

/* A row of children, as far as it has been forked. */
struct row {
  struct isolate_run *const *runs;
  const struct isolate_watch *watch;
  const char *mask;
  struct forked *forked;
  int count, next; /* of how many children; which is to be forked next */
  int going;       /* how many have been forked and have not ended, as far as it is known */
  int dumpable;
  int64_t forking; /* nanoseconds in all */
};

static int fork_some(struct row *row);

/* The descriptors that end a wait: pidfds of the row, its control sockets, those of others, and the signals. */
struct ends {
  struct pollfd *fds;
  int total;
};

static void listen_to(const struct row *row, struct ends *ends, int i) {
  int pidfd = row->forked[i].pidfd; /* where no child could be made, nothing would ever come */
  ends->fds[i] = (struct pollfd){.fd = pidfd, .events = POLLIN};
  ends->fds[row->count + i] = (struct pollfd){.fd = pidfd < 0 ? -1 : row->runs[i]->control, .events = POLLIN};
}

/* Takes note of those that have ended, and leaves them out from now on. Returns whether one of the others wants to be heard. */
static int note_ends(struct row *row, struct ends *ends) {
  int heard = 0;
  for (int i = 0; i < row->next; i++) {
    struct pollfd *end = ends->fds + i, *control = ends->fds + row->count + i;
    if (end->fd >= 0 && end->revents) {
      row->forked[i].ended = now();
      end->fd = control->fd = -1;
      row->going--;
    } else if (control->fd >= 0 && control->revents & POLLHUP) {
      control->fd = -1; /* it has closed its end: as it ends, a moment before the pidfd tells, or on purpose */
    } else if (control->fd >= 0 && control->revents) {
      heard = 1;
    }
  }
  for (int i = 2 * row->count; i < ends->total; i++) heard |= ends->fds[i].revents != 0;
  return heard;
}

/* Until when those that go on are waited for, once the first has ended: then, after its life. */
static int64_t end_of_patience(const struct row *row, int64_t ended, int64_t life) {
  if (row->next < row->count) return ended + GRACE;
  int64_t last = row->forked[row->count - 1].started, since = ended > last ? ended : last;
  return since + (2 * life < GRACE ? 2 * life : GRACE);
}

/* Sleeps until something is to be done: the row has ended, one of it or another child wants to be heard, time is up, or a signal has
 * come. Meanwhile forks what is left of the row as others end. Returns 1 in a child. */
static int wait_quietly(struct row *row) {
  const struct isolate_watch *watch = row->watch;
  int signals = open_signals(row->mask);
  if (signals < 0) return 0; /* too many files: then not quietly */
  struct pollfd fds[2 * row->count + watch->other_count + 1];
  struct ends ends = {fds, 2 * row->count};
  int64_t most = watch->patience < 0 ? INT64_MAX : now() + watch->patience, until = most, ended = 0, life = 0;
  for (int i = 0; i < row->count; i++) listen_to(row, &ends, i);
  for (int i = 0; i < watch->other_count; i++) fds[ends.total++] = (struct pollfd){.fd = watch->others[i], .events = POLLIN};
  fds[ends.total++] = (struct pollfd){.fd = signals, .events = POLLIN};
  while (row->going > 0) {
    int64_t left = until - now();
    int before = row->going;
    struct timespec patience = {left / 1000000000, left % 1000000000};
    if (left <= 0 || ppoll(fds, ends.total, until == INT64_MAX ? NULL : &patience, NULL) <= 0) break;
    if (note_ends(row, &ends)) break;
    if (row->going == before) continue;
    if (watch->other_count) break; /* where others go on, pages are copied anyway */
    if (!ended) ended = now(), life = ended - row->forked[0].started;
    int from = row->next;
    if (fork_some(row)) {
      close(signals);
      return 1;
    }
    for (int i = from; i < row->next; i++) listen_to(row, &ends, i);
    int64_t end = end_of_patience(row, ended, life);
    until = end < most ? end : most;
  }
  close(signals);
  return 0;
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
  child_signal_forget();
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

/* Forks the next of the row. Returns 1 in the child. */
static int fork_next(struct row *row) {
  struct isolate_run *run = row->runs[row->next];
  struct forked *forked = row->forked + row->next++;
  struct journey journey = {run->entry, run->trouble, row->dumpable};
  forked->started = now();
  child_signal_hold();
  forked->pid = fork_test(&journey, (isolate_fork_by_helper *)row->watch->fork_by_helper);
  if (forked->pid == 0) return 1;
  row->forking += now() - forked->started;
  forked->pidfd = open_child(forked->pid, run->trouble);
  row->going += forked->pidfd >= 0;
  if (forked->pidfd < 0) isolate_release_child();
  return 0;
}

/* From here on this process ends if a fork handler does not come back. */
static void watch_forks(const struct row *row) { stuck_fork_watch(row->mask, row->watch->fork_patience, row->watch->output); }

/* Forks as many of the row as may run now. Returns 1 in a child. */
static int fork_some(struct row *row) {
  if (row->next == row->count) return 0;
  watch_forks(row);
  while (row->next < row->count && row->going < row->watch->at_once)
    if (fork_next(row)) return 1;
  stuck_fork_unwatch();
  return 0;
}

/* Forks for each of `runs`, `at_once` at a time; where it does not wait, only so many, and the others are left for another call. Returns
 * its number in a child; -1 in the parent, with what `runs` tell about it filled in. A child that fails on its way in fills
 * `trouble` and exits with 127. Called without the GIL (cffi releases it), as Python's fork hooks want it. And with all signals
 * blocked, as a handler must not run in the helper, on our memory: `mask` has those that were before. */
int isolate_fork(struct isolate_run *const *runs, int count, struct isolate_watch *watch, const char *mask) {
  PyGILState_STATE gil = PyGILState_Ensure();
  /* Asked before the hooks run, as they may stop a thread that they start again afterwards. Other threads may want the GIL, or what
   * Python's hooks have locked; where there are none, all of that can wait. */
  int alone = is_only_thread(), dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1;
  struct forked forked[count];
  struct row row = {runs, watch, mask, forked, .count = count, .dumpable = dumpable};

  for (int i = 0; i < count; i++) {
    forked[i] = (struct forked){.pidfd = -1};
    *runs[i]->trouble = (struct isolate_trouble){0};
  }
  watch_forks(&row);
  PyOS_BeforeFork();
  stuck_fork_unwatch();
  if (fork_some(&row) || (alone && watch->quiet && wait_quietly(&row))) {
    for (int i = 0; i < row.next - 1; i++) /* the others' */
      if (forked[i].pidfd >= 0) close(forked[i].pidfd);
    PyOS_AfterFork_Child();
    PyGILState_Release(gil);
    return row.next - 1;
  }
  watch_forks(&row);
  PyOS_AfterFork_Parent();
  stuck_fork_unwatch();
  PyGILState_Release(gil);
  for (int i = 0; i < count; i++) { /* now only: these are in Python's memory */
    runs[i]->pid = forked[i].pid, runs[i]->pidfd = forked[i].pidfd;
    runs[i]->started = forked[i].started, runs[i]->ended = forked[i].ended;
  }
  watch->forking = row.forking / row.next;
  return -1;
}
