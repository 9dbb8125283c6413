/* What native.py sees of core.c; read by build_core.py as cffi declarations, and included by core.c so that the two agree. */
struct isolate_entry {
  int init_pidfd;           /* PID 1 of the sandbox */
  uint64_t join;            /* namespaces joined before the fork */
  uint64_t join_late;       /* joined by the child */
  uint64_t unshare_late;    /* made by the child, once it is in its cgroups */
  const int *attach;        /* cgroup.procs or tasks files to enter by */
  int attach_count;
  const int *close;         /* descriptors that must not reach the test */
  int close_count;
  const char *cwd;
  uint64_t capabilities;    /* kept; all others are dropped for good */
  int keep_credentials;     /* 1: leave capabilities as they are (degraded: no user namespace to have them in) */
  int no_new_privs;
  int seccomp;
  const int *cores;         /* for sched_setaffinity */
  int core_count;
  const uint64_t *rlimits;  /* pairs: resource, value */
  int rlimit_count;
  const char *const *landlock_writable; /* with landlock: the only trees that may be written */
  int landlock_count;       /* -1: no Landlock */
};

/* How the parent watches the child, from the fork until something is to be said in Python. */
struct isolate_watch {
  int bell;                 /* readable when the child wants to be heard; -1: do not watch */
  int64_t patience;         /* nanoseconds that it has; -1: any */
  int64_t forking;          /* set: nanoseconds that the fork took */
};

struct isolate_trouble {
  int step;                 /* enum isolate_step: what the child was doing when it gave up */
  int error;                /* errno */
};

long isolate_fork(const struct isolate_entry *entry, struct isolate_watch *watch, const char *mask, int *pidfd,
                  struct isolate_trouble *trouble);
void isolate_block_signals(char *mask);
void isolate_restore_signals(const char *mask);
int isolate_mask_size(void);
struct isolate_trouble *isolate_shared_trouble(void);
int isolate_dump_signal(int pid, int signal);
char *isolate_changes(int scratch, const char *layers, long *size);
void isolate_free(char *bytes);
int isolate_pidfd_open(int pid);
int isolate_unshare(uint64_t namespaces);
int isolate_setns(int fd, uint64_t namespaces);
int isolate_landlock_version(void);
long isolate_collapse(uint64_t *from, long limit, long *tried);
int isolate_library_loaded(const char *name);
