#ifndef ISOLATE_ENTER_H
#define ISOLATE_ENTER_H

#include <stdint.h>

#include "core_api.h"

/* Names of the steps are in sandbox/forker.py, in this order. */
enum enter_step {
  ENTER_SETNS = 1,
  ENTER_FORK,
  ENTER_CGROUP,
  ENTER_UNSHARE,
  ENTER_TIME,
  ENTER_SETSID,
  ENTER_CWD,
  ENTER_AFFINITY,
  ENTER_RLIMIT,
  ENTER_CAPABILITIES,
  ENTER_NO_NEW_PRIVS,
  ENTER_SECCOMP,
  ENTER_LANDLOCK,
  ENTER_DUMPABLE,
  ENTER_DEATHSIG,
  ENTER_SIGNALS,
  ENTER_SUBREAPER,
  ENTER_ALONE,
  ENTER_TERMINAL,
};

/* Puts the calling process, which has been forked in the sandbox's pid namespace, under all of its restrictions.
 * `born`: of the files to enter groups by, that of the group which it is in already, or -1. Returns 0, or the step that failed,
 * with errno. */
int isolate_enter(const struct isolate_entry *entry, int born);

#endif
