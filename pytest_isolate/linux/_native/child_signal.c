/* SIGCHLD of pytest's process, while it has children of ours.
 *
 * Where SIGCHLD is ignored, the kernel reaps a child itself, and nobody learns how it ended (wait(2)). Programs do that
 * against zombies, some by a line that runs when a test imports them, or pytest is started so. And a handler may wait for any
 * child, so for ours. So while there are any, SIGCHLD has its default action; in the child it is as it was. What a handler has
 * missed meanwhile it gets afterwards, as one signal: that one may stand for many is so anyway (signal(7)). */
#include "child_signal.h"
#include "core_api.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int children;
static struct sigaction wanted; /* by others, while there are children */

static int takes_status(const struct sigaction *action) {
  return action->sa_handler != SIG_DFL || action->sa_flags & SA_NOCLDWAIT;
}

void child_signal_hold(void) {
  static const struct sigaction kept = {.sa_handler = SIG_DFL};
  struct sigaction now;
  if (sigaction(SIGCHLD, NULL, &now) < 0) return;
  if (children++ && !takes_status(&now)) return; /* as we have left it */
  wanted = now;
  if (takes_status(&now)) sigaction(SIGCHLD, &kept, NULL);
}

void child_signal_forget(void) {
  children = 0;
  if (takes_status(&wanted)) sigaction(SIGCHLD, &wanted, NULL);
}

/* A child that child_signal_hold() was called for has been waited for. */
void isolate_release_child(void) {
  struct sigaction now;
  siginfo_t ended = {0};
  if (--children || !takes_status(&wanted)) return;
  if (sigaction(SIGCHLD, NULL, &now) < 0 || takes_status(&now)) return; /* a hook has set another meanwhile */
  sigaction(SIGCHLD, &wanted, NULL);
  int ignored = wanted.sa_handler == SIG_IGN || wanted.sa_flags & SA_NOCLDWAIT;
  while (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | (ignored ? 0 : WNOWAIT)) == 0 && ended.si_pid) {
    if (wanted.sa_handler != SIG_IGN) kill(getpid(), SIGCHLD);
    if (!ignored) return;
    ended.si_pid = 0;
  }
}
