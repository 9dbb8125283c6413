#ifndef ISOLATE_RETRY_H
#define ISOLATE_RETRY_H

/* Whether a call that has failed, with errno, is worth another try: at once after EINTR, else after a pause (no
 * memory, no buffers), for about a second in all. `tries` starts as 0. Where nobody is at the other end any more, it
 * never is. */
int retry(int *tries);

#endif
