#ifndef ISOLATE_LANDLOCK_H
#define ISOLATE_LANDLOCK_H

/* Has the kernel refuse the calling process to write anywhere but in the `count` trees, for good. 0, or -1 with
 * errno. */
int landlock_install(const char *const *writable, int count);

#endif
