/* A fork runs handlers of libraries (pthread_atfork(3)) and of Python (os.register_at_fork()), and these may wait for ever: for a lock
 * that a thread of pytest's holds, for a pool's thread that is busy. Nothing can be done about it from outside, as the handlers run
 * with all signals blocked, nor from inside, as nobody can take back what they have locked. So pytest ends, and says why. */
#include "core_api.h"

#include "stuck_fork.h"

#include <errno.h>
#ifdef __GLIBC__
#include <execinfo.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id /* musl and newer versions of glibc have it */
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum { FIRST_TICK = 1000, NEXT_TICKS = 500 }; /* milliseconds: a fork takes 50 at most, where gigabytes are copied 500 */

static int timer = -1; /* the kernel's number; the C library's timer_create(2) makes a thread in some versions */
static struct sigaction handler_before;
static sigset_t blocked_before;
static int64_t patience_left;
static int message_to;

static void print(const char *text) {
  if (write(message_to, text, strlen(text)) < 0) return; /* nowhere else to say it */
}

static void print_stack(void) {
#ifdef __GLIBC__
  void *frames[32];
  print("Where it waits, innermost first; the first library that is not the C library is the one:\n");
  backtrace_symbols_fd(frames, backtrace(frames, sizeof frames / sizeof *frames), message_to);
#endif
}

/* One that would have ended pytest, or made it stop (Python's own handler of Ctrl-C only notes it). */
static int ending_signal(void) {
  static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  struct sigaction action;
  sigset_t pending;
  sigpending(&pending);
  for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
    if (sigismember(&pending, ending[i]) && !sigismember(&blocked_before, ending[i]) &&
        sigaction(ending[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
      return ending[i];
  return 0;
}

static void unblock(int number) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void tick(int number) {
  int error = errno, ending = ending_signal();
  (void)number;
  patience_left -= NEXT_TICKS * 1000000LL;
  if (!ending && patience_left > 0) {
    errno = error;
    return;
  }
  print(ending ? "\npytest-isolate-ns: a signal ends pytest while it forks a test, as" : "\npytest-isolate-ns: pytest ends here, as");
  print(" a fork handler does not come back.\nA library (pthread_atfork) or Python code (os.register_at_fork) waits for a thread or a "
        "lock of pytest's process; os.fork() would hang as well.\nLet no thread of the session work in that library while tests are "
        "forked, or mark the tests no_isolate.\n");
  print_stack();
  if (ending) {
    signal(ending, SIG_DFL);
    raise(ending);
    unblock(ending);
  }
  unblock(SIGABRT); /* abort(3) of glibc 2.36 does that itself, that of 2.43 only when it has taken away the handler */
  abort();          /* faulthandler, which pytest enables, adds the stacks of Python */
}

void stuck_fork_watch(const char *mask, int64_t patience, int output) {
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = ISOLATE_TICK};
  struct itimerspec when = {{0, NEXT_TICKS * 1000000L}, {FIRST_TICK / 1000, FIRST_TICK % 1000 * 1000000L}};
  struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
  memcpy(&blocked_before, mask, sizeof blocked_before);
  patience_left = patience - (FIRST_TICK - NEXT_TICKS) * 1000000LL;
  message_to = output;
  event.sigev_notify_thread_id = (int)syscall(SYS_gettid);
  /* Where there is no timer to be had (RLIMIT_SIGPENDING), the fork goes unwatched, as os.fork() does. */
  if (sigaction(ISOLATE_TICK, &action, &handler_before) < 0) return;
  if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer) < 0) timer = -1;
  if (timer >= 0) syscall(SYS_timer_settime, timer, 0, &when, NULL);
}

void stuck_fork_unwatch(void) {
  if (timer >= 0) syscall(SYS_timer_delete, timer);
  timer = -1;
  sigaction(ISOLATE_TICK, &handler_before, NULL);
}

void stuck_fork_forget(void) {
  timer = -1;
  sigaction(ISOLATE_TICK, &handler_before, NULL);
}
