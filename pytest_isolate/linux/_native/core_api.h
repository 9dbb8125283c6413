/* What Python sees of the C core. build_core.py gives it to cffi as declarations, without the lines of the
 * preprocessor; the C files include it, so that the two agree. */
#ifndef ISOLATE_CORE_API_H
#define ISOLATE_CORE_API_H

#include <stdint.h>

/* How a process enters a sandbox. */
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

struct isolate_trouble {
  int step;                 /* enum enter_step: what the child was doing when it gave up */
  int error;                /* errno */
};

/* One child, of a row. */
struct isolate_run {
  const struct isolate_entry *entry;
  struct isolate_trouble *trouble; /* shared with the child */
  int control;              /* readable when the child wants to be heard */
  int pidfd;                /* set: of the child; -1: there is none, and `trouble` says why, or, if it has no step, it was not
                             * this one's turn */
  int pid;                  /* set, as the others from here on */
  int64_t started;          /* nanoseconds of CLOCK_MONOTONIC, before its fork */
  int64_t ended;            /* the same, when it was seen to have ended; 0: it was not */
};

/* How the parent watches the children, from the fork until something is to be said in Python. */
struct isolate_watch {
  int quiet;                /* 0: do not watch */
  int at_once;              /* how many children may live at a time */
  const int *others;        /* readable when another child has ended, or wants to be heard */
  int other_count;
  int64_t patience;         /* nanoseconds that they have; -1: any */
  int64_t forking;          /* set: nanoseconds that a fork took */
  void *fork_by_helper;     /* what _atfork has (atfork.h) */
  int64_t fork_patience;    /* nanoseconds that fork handlers of libraries and of Python have */
  int output;               /* descriptor for the message if they do not come back */
};

/* fork.c */
int isolate_fork(struct isolate_run *const *runs, int count, struct isolate_watch *watch, const char *mask);
void isolate_block_signals(char *mask);
void isolate_restore_signals(const char *mask);
int isolate_mask_size(void);
struct isolate_trouble *isolate_shared_trouble(void);

/* child_signal.c */
void isolate_release_child(void);

/* dump_signal.c */
int isolate_dump_signal(int pid, int signal);

/* changed_files.c */
char *isolate_changes(int scratch, const char *layers, long *size);
void isolate_free(char *bytes);

/* huge_pages.c */
long isolate_collapse(uint64_t *from, long limit, long *tried);
void isolate_align_heap(void);

/* text_pages.c */
long isolate_inherit_text(void);

/* landlock.c */
int isolate_landlock_version(void);

/* calls.c */
int isolate_pidfd_open(int pid);
int isolate_unshare(uint64_t namespaces);
int isolate_setns(int fd, uint64_t namespaces);
int isolate_library_loaded(const char *name);
void isolate_remove_tree(const char *path);

/* immortal.c */
/* What the instances of a class are to isolate_make_immortal(). 0: they may do harm where they live for ever. */
enum isolate_kind {
  KIND_HARMLESS = 1,
  KIND_MADE = 2,            /* they are made immortal */
  KIND_HOLDS = 4,           /* what they hold must be harmless, too */
  KIND_CODE = 8,            /* they are code */
  KIND_INSTANCES = 16       /* a class of classes, whose instances' instances are made if what they hold is harmless */
};

int isolate_keeps_count(uint32_t count);
void isolate_finalize(uintptr_t object);
long isolate_make_immortal(uintptr_t modules, uintptr_t types, const int *kinds, uintptr_t lasting, uintptr_t ordinary,
                           uint32_t count);

#endif
