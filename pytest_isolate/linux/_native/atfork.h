/* A fork whose clone(2) is made by a helper process, while all else of it happens in the calling thread: atfork.c. */
#ifndef ISOLATE_ATFORK_H
#define ISOLATE_ATFORK_H

#include <sys/types.h>

struct isolate_way {
  /* In the helper, which shares the caller's memory and nothing else: 0, or -1, and then there is no child. */
  int (*join)(void *data);
  /* In the child, before anything else runs there: the handlers of libraries do afterwards, and may start threads. */
  void (*enter)(void *data);
  void *data;
};

/* As fork(2), but errno is 0 where join() failed. One at a time: the caller holds Python's GIL. */
typedef pid_t isolate_fork_by_helper(const struct isolate_way *way);

#endif
