#ifndef ISOLATE_ENTER_H
#define ISOLATE_ENTER_H

#include <stdint.h>

#include "core_cdef.h"

/* Names of the steps are in native.py, in this order. */
enum isolate_step {
  STEP_SETNS = 1,
  STEP_FORK,
  STEP_CGROUP,
  STEP_UNSHARE,
  STEP_TIME,
  STEP_SETSID,
  STEP_CWD,
  STEP_AFFINITY,
  STEP_RLIMIT,
  STEP_CAPABILITIES,
  STEP_NO_NEW_PRIVS,
  STEP_SECCOMP,
  STEP_LANDLOCK,
};

/* Puts the calling process, which has been forked in the sandbox's pid namespace, under all of its restrictions. Returns 0, or
 * the step that failed, with errno. */
int isolate_enter(const struct isolate_entry *entry);

#endif
