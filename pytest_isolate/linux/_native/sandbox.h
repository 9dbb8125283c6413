/* One sandbox's life, as its builder sees it. */
#ifndef ISOLATE_SANDBOX_H
#define ISOLATE_SANDBOX_H

#include "cgroup_dirs.h"
#include "pasta.h"
#include "plan.h"

#include <sys/types.h>

enum sandbox_state {
  FREE,     /* this slot has none */
  BUILDING, /* its PID 1 executes the Plan, or pasta connects it */
  READY,    /* it waits to be asked for */
  OUT,      /* the keeper has it */
  DYING,    /* its processes have been killed; what they leave is to be removed */
};

struct sandbox {
  enum sandbox_state state;
  uint32_t number, plan_number;
  const struct plan *plan;
  pid_t pid;                 /* of its PID 1; 0 once reaped */
  int pidfd, init, scratch;  /* init: our end of the socket pair, until it is handed out */
  struct uplink uplink;
  struct cgroup_dirs cgroups;
  char directory[4096];      /* its scratch directory on disk, or "" */
};

/* Begins it: BUILDING, or -1 with `failure` filled in if it could not even begin. `keeper` is a pidfd. */
int sandbox_build(struct sandbox *sandbox, const struct plan *plan, int keeper, struct failure *failure);

/* Takes what its PID 1 or pasta reports, if there is anything, until it is READY. 0, or -1 with `failure` filled in
 * if it can't be built: then it is the caller's to destroy. */
int sandbox_advance(struct sandbox *sandbox, struct failure *failure);

/* Sends descriptors and numbers to the keeper: `reply`, with the pidfd, the scratch directory and the cgroup files,
 * in this order. 0, or -1 with errno. */
int sandbox_hand_over(struct sandbox *sandbox, int control, void *reply, size_t size);

/* Notes that `pid` has been reaped; whether it was one of this sandbox's. */
int sandbox_on_exit(struct sandbox *sandbox, pid_t pid);

/* Starts its end, DYING: the kernel kills all of it with its PID 1. sandbox_teardown() does the rest, once that is
 * reaped. */
void sandbox_destroy(struct sandbox *sandbox);

/* Removes what a DYING one has left, as soon as that can be done: FREE then. */
void sandbox_teardown(struct sandbox *sandbox);

#endif
