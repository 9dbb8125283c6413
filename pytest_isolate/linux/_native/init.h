#ifndef ISOLATE_INIT_H
#define ISOLATE_INIT_H

#include "plan.h"

/* PID 1 of a sandbox: builds it by the Plan, then reaps until it is killed. Never returns. `builder` is its end of a
 * SOCK_SEQPACKET pair: it gets "G" when its id maps are written, sends "M" when it needs maps for a user namespace
 * that it made itself, "R" with the scratch directory's descriptor when all is built, or "F" + struct failure.
 * `keeper` is a pidfd of the pytest process. */
_Noreturn void init_main(const struct plan *plan, const char *scratch, int builder, int keeper);

#endif
