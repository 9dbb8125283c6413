/* The builder's messages and its state. */
#ifndef ISOLATE_BUILDER_H
#define ISOLATE_BUILDER_H

#include "plan.h"
#include "sandbox.h"

#include <stddef.h>
#include <stdint.h>

enum { SANDBOXES = 64, READY_AT_MOST = 8 };

/* Messages, as sandbox/builder.py packs them: one datagram each, in the machine's byte order. */

struct request {
  uint32_t kind;   /* one of the letters below */
  uint32_t plan;   /* PLAN: its new number; GET: the wanted one; DONE: the sandbox's number */
  uint32_t ahead;  /* GET: the plan to have ready next, 0 for none */
  uint32_t depth;  /* GET: how many of it */
};
enum { PLAN = 'P', GET = 'G', DONE = 'D', CLEANUP = 'C' };

struct reply {
  uint32_t kind;     /* 'G', or 'F' for a failure */
  uint32_t sandbox;  /* its number, also the N of its directories tN */
  int32_t pid;       /* of init, as the keeper's pid namespace has it */
  uint32_t scratch;  /* 1 if the scratch directory is among the descriptors, after init's pidfd */
  struct failure failure;
};

/* All that the builder knows. */

struct builder {
  int control, keeper, signals;
  struct sandbox sandboxes[SANDBOXES];
  struct plan **plans; /* by number */
  uint32_t plan_count;
  int plan_error;      /* why the last one could not be read; or 0 */
  uint32_t last_number;
  uint32_t wanted;     /* plan of the GET that waits, 0 for none */
  uint32_t ahead, depth;
  char *cleanup;       /* "cPATH\0" (cgroup) and "sPATH\0" (scratch tree), to be removed at the end */
  size_t cleanup_size;
};

#endif
