/* The module _atfork: forks the calling process through a helper, and lets the fork handlers of libraries run where they belong.
 *
 * Theory of operation. A process is born in the pid namespace that its creator has joined for its children (pid_namespaces(7)),
 * and pytest joins none. So a helper has to make the one clone(2) in glibc's fork(). The handlers of pthread_atfork(3) must not
 * run in the helper, though: they stop and start threads, and a helper can make none (clone(2), EINVAL), nor would they outlive
 * it. gRPC, OpenBLAS and Arrow have such handlers. So the calling thread and the helper take turns on one stack:
 *
 *   pytest's thread                               helper                              child
 *   fork(): prepare handlers of all libraries
 *     ours, the last of them: vfork() ----------> joins the sandbox's namespaces,
 *       (asleep)                                  goes on in fork(): locks, clone() --> child handlers:
 *                                                 parent handlers:                      ours, the first: cgroups ... seccomp
 *       wakes, as the helper has ended <--------    ours, the first: notes its place    those of all libraries
 *       goes on in that place
 *     parent handlers of all libraries
 *   fork() returns
 *
 * Prepare handlers run in the reverse order of their registration, the others in its order. So ours have to be registered before
 * those of any library: pytest_isolate's plugin imports this module first of all, and it is small for that reason. Libraries that
 * were loaded before it (LD_PRELOAD) have their handlers run in the helper, which suits those that only take locks. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* The fortified longjmp(3) takes a jump for an error if it cannot tell the stacks apart (__longjmp_chk). */
#undef _FORTIFY_SOURCE

#include "arenas.h"
#include "atfork.h"

#include <alloca.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the helper needs of the stack until it has ended: a few hundred bytes in glibc 2.41 and musl 1.2, and what the handlers of
 * libraries take that were registered before ours. */
enum { ROOM = 128 << 10 };

static const struct isolate_way *volatile way; /* of the fork that is in progress */
static pthread_t owner;                        /* the thread that makes it: others may fork at the same time */
static volatile int in_helper, failed, failure;
static jmp_buf place; /* where the helper stopped, and the thread goes on */

static int is_ours(void) { return way && pthread_equal(owner, pthread_self()); }

/* Returns 0 in the helper; in the thread -1, and only if there is no child to come: else it goes on from the helper's place. */
__attribute__((noinline)) static int change_places(void) {
  int status = 0;
  pid_t helper = vfork();
  if (helper == 0) {
    /* A pytest that is killed now must not leave the helper behind. Set last, as joining clears it (prctl(2)). */
    if (way->join(way->data) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) failure = errno, _exit(1);
    in_helper = 1;
    return 0;
  }
  if (helper < 0) return failure = errno, -1;
  /* The kernel hands the helper's child to us, a subreaper, when the helper is dead, not when it lets go of our memory. */
  while (waitpid(helper, &status, __WALL) < 0 && errno == EINTR) continue;
  if (!in_helper) return -1;
  if (status) abort(); /* it was killed within fork(): whether there is a child, and what is locked, nobody knows */
  in_helper = 0;
  longjmp(place, 1);
}

/* The helper returns, and calls others, on the stack of the sleeping thread. That thread comes back to its own frame, so this has to
 * lie below all that the helper uses. */
__attribute__((noinline)) static int change_places_below(void) {
  volatile char *room = alloca(ROOM);
  room[0] = 0;
  int result = change_places();
  room[0] = 1; /* so that the compiler keeps it, and this frame */
  return result;
}

static void before_fork(void) {
  if (is_ours()) failed = change_places_below() < 0;
}

static void after_fork_in_parent(void) {
  if (!is_ours() || !in_helper) return;
  if (setjmp(place) == 0) _exit(0);
}

static void after_fork_in_child(void) {
  if (!is_ours()) return;
  if (failed) _exit(0); /* fork() cannot be called off; nobody has seen this child */
  const struct isolate_way *own = way;
  way = NULL; /* what forks in here forks as usual */
  own->enter(own->data);
}

static pid_t fork_by_helper(const struct isolate_way *asked) {
  owner = pthread_self();
  failed = in_helper = failure = 0;
  way = asked;
  pid_t pid = fork();
  if (pid == 0) return 0;
  way = NULL;
  if (!failed) return pid;
  while (pid > 0 && waitpid(pid, NULL, __WALL) < 0 && errno == EINTR) continue;
  errno = failure;
  return -1;
}

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_atfork", .m_size = -1};

PyMODINIT_FUNC PyInit__atfork(void);

PyMODINIT_FUNC PyInit__atfork(void) {
  isolate_fork_by_helper *function = fork_by_helper;
  int error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  if (error) return errno = error, PyErr_SetFromErrno(PyExc_ImportError);
  arenas_align(); /* here, as it has to come before what tests and their libraries allocate */
  PyObject *self = PyModule_Create(&module);
  PyObject *address = self ? PyLong_FromVoidPtr((void *)function) : NULL;
  if (!address || PyModule_AddObject(self, "fork_by_helper", address) < 0) {
    Py_XDECREF(address);
    Py_CLEAR(self);
  }
  return self;
}
