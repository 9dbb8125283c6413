/* The builder program's third task: starts a helper process of pytest's so that it is none of pytest's children.
 *
 *   builder start PROGRAM WORDS...
 *
 * Suites end "all my children", and wait for any child. So this process, which pytest waits for at once, forks and
 * ends, and its child, that PROGRAM replaces, is the init process's from then on, or the nearest subreaper's. pytest
 * gets a pidfd of it, as the number alone may be another process's one day.
 *
 * Descriptor 6 is a socket that gets a report: the number, with the pidfd, and then either its end, when PROGRAM has
 * been started, or a second report with errno. Descriptors 3 to 5 are PROGRAM's. */
#include "start.h"

#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REPORT = 6 };

struct report {
  int32_t error; /* errno, or 0 */
  int32_t pid;
};

static _Noreturn void give_up(void) {
  struct report report = {.error = errno};
  send(REPORT, &report, sizeof report, MSG_NOSIGNAL); /* if it fails: pytest sees our end without a number */
  _exit(127);
}

static void introduce_oneself(void) {
  struct report report = {.pid = getpid()};
  int pidfd = (int)syscall(SYS_pidfd_open, report.pid, 0);
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } rights = {0};
  struct iovec part = {&report, sizeof report};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights.space};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (pidfd < 0) give_up();
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &pidfd, sizeof pidfd);
  while (sendmsg(REPORT, &message, MSG_NOSIGNAL) < 0)
    if (errno != EINTR) give_up();
  close(pidfd);
}

_Noreturn void start_main(int argc, char **argv) {
  if (argc < 4 || fcntl(REPORT, F_SETFD, FD_CLOEXEC) < 0) _exit(2);
  /* Out of pytest's session before there is anything to be seen in it. Here, so that the child leads no group, and
   * may make a session of its own. */
  if (setsid() < 0) give_up();
  pid_t child = fork();
  if (child < 0) give_up();
  if (child > 0) _exit(0);
  introduce_oneself();
  execv(argv[2], argv + 3);
  give_up();
}
