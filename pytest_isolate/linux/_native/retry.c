#include "retry.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>

enum { TRIES = 100, PAUSE_MS = 10 };

int retry(int *tries) {
  if (errno == EINTR) return 1;
  if (errno == EPIPE || errno == ECONNRESET || errno == EBADF || ++*tries > TRIES) return 0;
  poll(NULL, 0, PAUSE_MS); /* only a pause: that it may be shorter does no harm */
  return 1;
}
