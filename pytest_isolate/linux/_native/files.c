#include "files.h"

#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

int write_file(int directory, const char *path, const char *text) {
  int fd = openat(directory, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t size = (ssize_t)strlen(text), done;
  while ((done = write(fd, text, (size_t)size)) < 0 && errno == EINTR) continue;
  if (done >= 0 && done < size) errno = EIO;
  close_fd(&fd);
  return done == size ? 0 : -1;
}

/* Before Linux 5.9 one by one. Not by /proc/self/fd, which may be another pid namespace's. fs.nr_open, the most that
 * RLIMIT_NOFILE may be, is a million unless an administrator has raised it. */
void close_between(unsigned first, unsigned last) {
  struct rlimit limit = {1 << 20, 1 << 20};
  if (syscall(SYS_close_range, first, last, 0) == 0) return;
  getrlimit(RLIMIT_NOFILE, &limit); /* if it fails: a million */
  rlim_t end = limit.rlim_cur < 1 << 20 ? limit.rlim_cur : 1 << 20;
  for (rlim_t fd = first; fd <= last && fd < end; fd++) close((int)fd);
}

void close_fd(int *fd) {
  int error = errno;
  if (*fd >= 0) close(*fd);
  *fd = -1;
  errno = error;
}
