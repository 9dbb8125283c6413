#ifndef ISOLATE_FILES_H
#define ISOLATE_FILES_H

/* Writes `text` to an existing file in one write(2), as the kernel's own files want it. 0, or -1 with errno; EIO if the
 * file took only a part. */
int write_file(int directory, const char *path, const char *text);

/* Closes all descriptors from `first` to `last`, both included. */
void close_between(unsigned first, unsigned last);

/* Closes *fd, if it is one, and makes it -1. errno stays. */
void close_fd(int *fd);

#endif
