#ifndef ISOLATE_CGROUP_DIRS_H
#define ISOLATE_CGROUP_DIRS_H

#include "plan.h"

enum { CGROUPS = 16, RMDIR_MS = 5000 };

/* The cgroup directories of one sandbox: one in each of the Plan's hierarchies, called tNUMBER. */
struct cgroup_dirs {
  const struct plan *plan;
  uint32_t number;
  uint32_t made;        /* how many of the Plan's exist */
  int attach[CGROUPS];  /* the files to enter them by, or -1 */
  int64_t busy_since;   /* when removing the last of them was first tried in vain, by now_ms(); or 0 */
};

/* Makes and limits all of them. 0, or -1 with `failure` filled in; those that it made before are counted in `made`. */
int cgroup_dirs_make(struct cgroup_dirs *dirs, const struct plan *plan, uint32_t number, struct failure *failure);

/* Closes the files to enter them by. */
void cgroup_dirs_close(struct cgroup_dirs *dirs);

/* Lets frozen processes in them go on, so that they can die. */
void cgroup_dirs_thaw(const struct cgroup_dirs *dirs);

/* Removes them. 0 when all have gone, -1 if it has to be tried again. */
int cgroup_dirs_remove(struct cgroup_dirs *dirs);

/* Removes one, which may be busy for a moment: tries until `until`, by now_ms(), unless groups are below. Waits. */
void cgroup_remove(const char *path, int64_t until);

/* How many milliseconds to wait before cgroup_dirs_remove() is tried again. */
int cgroup_dirs_retry_ms(const struct cgroup_dirs *dirs);

#endif
