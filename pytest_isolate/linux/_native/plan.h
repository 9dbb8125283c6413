/* A Plan as the builder holds it: decoded once, executed once per sandbox. The Python side is plan/plan.py. */
#ifndef ISOLATE_PLAN_H
#define ISOLATE_PLAN_H

#include <stddef.h>
#include <stdint.h>

/* Numbers shared with plan.Step; its comments say what the fields mean for each. */
enum op_step {
  OP_STAGE = 1,
  OP_MOUNT = 2,
  OP_MKDIR = 3,
  OP_SYMLINK = 4,
  OP_TOUCH = 5,
  OP_COPY = 6,
  OP_WRITE = 7,
  OP_PIVOT = 8,
  OP_UNSHARE = 9,
  OP_LOOPBACK = 10,
  OP_HOSTNAME = 11,
  OP_READONLY = 12,
  OP_RMDIR_PROBE = 13,
  OP_HOLD = 14,
  OP_CHMOD = 15,
  OP_CHOWN = 16,
  OP_PLAIN = 17,
  OP_DEVICE = 18,
  OP_FREEZE = 19,
  OP_PASS_NUMBERS = 20,
};

struct op {
  uint32_t step;
  uint64_t number;
  const char *source, *target, *type, *data; /* a, b, c, d of plan.Op, by mount(2)'s names: most need only a target */
};

struct cgroup_file {
  const char *name, *value; /* a name that starts with '?' may be missing */
};

struct cgroup_dir {
  const char *parent, *attach;
  uint32_t shared; /* the parent itself is entered: it is not made, written to or removed for one sandbox */
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

/* Fills in `failure` by errno; -1. */
int fail_at(struct failure *failure, int32_t op, const char *object);

/* Decodes `size` bytes; the Plan's strings point into `bytes`, which must live on. NULL if they are no Plan. */
struct plan *plan_decode(const char *bytes, size_t size);
void plan_free(struct plan *plan);

/* What an operation may need from the process it runs in. */
struct building {
  const char *scratch; /* this sandbox's directory on disk, or "" for a tmpfs */
  int builder;         /* socket to the builder: id maps are asked for, descriptors handed over */
  int held[4];         /* directories that OP_HOLD keeps open for later OP_WRITEs */
};

/* Waits until the builder lets a sandbox's PID 1 go on. Does not return if the builder has ended, or has failed. */
void await_builder(int builder);

/* Runs one operation; 0, or -1 with `failure` filled in but for its index. */
int plan_run(const struct op *op, struct building *building, struct failure *failure);

#endif
