#ifndef ISOLATE_PASTA_H
#define ISOLATE_PASTA_H

#include "plan.h"

#include <sys/types.h>

/* The programs that connect one sandbox to the outside; see pasta.c. */
struct uplink {
  pid_t pid;       /* the one that dies first, our child; 0 if there is none, or once reaped */
  int ready, log;  /* until all stand: pipe that is readable then, or ends if they fail, and what they wrote; or -1 */
};

/* Starts a Plan's programs for the sandbox that has `init` as PID 1. 0, or -1 with errno. */
int uplink_start(struct uplink *uplink, const struct plan *plan, pid_t init);

/* 1 if all of them stand, 0 if not yet, -1 with `failure` filled in if one could not. */
int uplink_on_report(struct uplink *uplink, struct failure *failure);

/* Kills them. The pid stays until it has been reaped. */
void uplink_kill(struct uplink *uplink);

#endif
