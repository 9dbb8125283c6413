/* Ends this process if a fork of it does not come back. Needs no thread, which a fork would not like. */
#ifndef ISOLATE_STUCK_FORK_H
#define ISOLATE_STUCK_FORK_H

#include <signal.h>
#include <stdint.h>

/* Ticks while fork handlers run; blocked at no time then. The highest numbers are free: C libraries take the lowest. */
#define ISOLATE_TICK (SIGRTMAX - 2)

/* Watches the calling thread until stuck_fork_unwatch(). `mask`: the signals that were blocked before the fork; others of those that
 * end a program end this one, though they are blocked now. `patience`: nanoseconds. The message goes to the descriptor `output`. */
void stuck_fork_watch(const char *mask, int64_t patience, int output);
void stuck_fork_unwatch(void);

/* In the child, which inherits the handler and no timer. */
void stuck_fork_forget(void);

#endif
