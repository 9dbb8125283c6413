/* Has a test that ran out of time dump its stacks. */
#include "core_api.h"

#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/wait.h>

#ifndef PTRACE_SETSIGMASK
#define PTRACE_SETSIGMASK 0x420b
#endif
#ifndef PTRACE_GETSIGMASK
#define PTRACE_GETSIGMASK 0x420a
#endif

/* Sends `signal`, whose handler dumps the stacks, unblocking it in the main thread first: a test may block all
 * signals, and ptrace(2) can change another process's mask (PTRACE_SETSIGMASK). 0, or -1 with errno. A stopped
 * process stays stopped. */
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
