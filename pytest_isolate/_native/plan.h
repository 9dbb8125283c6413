/* A Plan as the builder holds it: decoded once, executed once per sandbox. The Python side is pytest_isolate/plan.py. */
#ifndef ISOLATE_PLAN_H
#define ISOLATE_PLAN_H

#include <stddef.h>
#include <stdint.h>

/* Numbers shared with plan.Step; its comments say what the fields mean for each. */
enum step {
  STEP_STAGE = 1,
  STEP_MOUNT = 2,
  STEP_MKDIR = 3,
  STEP_SYMLINK = 4,
  STEP_TOUCH = 5,
  STEP_COPY = 6,
  STEP_WRITE = 7,
  STEP_PIVOT = 8,
  STEP_UNSHARE = 9,
  STEP_LOOPBACK = 10,
  STEP_HOSTNAME = 11,
  STEP_READONLY = 12,
  STEP_RMDIR_PROBE = 13,
  STEP_HOLD = 14,
  STEP_CHMOD = 15,
  STEP_CHOWN = 16,
  STEP_PLAIN = 17,
};

struct op {
  uint32_t step;
  uint64_t number;
  const char *a, *b, *c, *d;
};

struct cgroup_file {
  const char *name, *value; /* a name that starts with '?' may be missing */
};

struct cgroup_dir {
  const char *parent, *attach;
  uint32_t file_count;
  struct cgroup_file *files;
};

struct plan {
  uint64_t namespaces;
  const char *uid_map, *gid_map;
  const char *scratch; /* directory on disk, or "" */
  uint32_t cgroup_count, op_count;
  struct cgroup_dir *cgroups;
  struct op *ops;
  uint32_t uplink_count;
  const char ***uplink; /* programs that connect it to the outside, each with its arguments and a NULL */
};

/* Where and why a build stopped. `op` is an index into the Plan's operations, or one of the negative values. */
enum { AT_CGROUP = -1, AT_CLONE = -2, AT_MAPS = -3, AT_SCRATCH = -4, AT_INIT = -5, AT_UPLINK = -6 };
struct failure {
  int32_t op;
  int32_t error; /* errno */
  char object[512]; /* the path or name that the failing call was about */
};

/* Decodes `size` bytes; the Plan's strings point into `bytes`, which must live on. NULL if they are no Plan. */
struct plan *plan_decode(const char *bytes, size_t size);
void plan_free(struct plan *plan);

/* What an operation may need from the process it runs in. */
struct building {
  const char *scratch;       /* this sandbox's directory on disk, or "" for a tmpfs */
  int builder;               /* socket to the builder: id maps are asked for, descriptors handed over */
  int held[4];               /* directories that STEP_HOLD keeps open for later STEP_WRITEs */
};

/* Runs one operation; 0, or -1 with `failure` filled in but for its index. */
int plan_run(const struct op *op, struct building *building, struct failure *failure);

#endif
