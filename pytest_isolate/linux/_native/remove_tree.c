#include "remove_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEEPEST = 32 }; /* directories within the first one that are open at once */

struct removal {
  int top;        /* the first directory */
  unsigned moved; /* how many were moved there */
  unsigned named; /* names that were tried for them */
};

static void remove_entries(DIR *dir, struct removal *removal, int depth);

/* The test may have left directories without permissions, and overlayfs leaves work/ with mode 000. */
static int open_writable(int at, const char *name) {
  int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno == EACCES && fchmodat(at, name, 0700, 0) == 0)
    fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd >= 0) fchmod(fd, 0700);
  return fd;
}

static DIR *look_into(int fd) {
  DIR *dir = fdopendir(fd);
  if (!dir) close(fd);
  return dir;
}

/* A test can make directories within directories without end, each by a relative path. One open descriptor for each
 * would be more than RLIMIT_NOFILE allows, and no path leads to the last. So what is deep becomes an entry of the first
 * directory. An empty directory of that name is replaced, which is as well. */
static void move_up(struct removal *removal, int at, const char *name) {
  char new_name[32];
  int refused;
  do {
    snprintf(new_name, sizeof new_name, ".isolate-deep-%u", removal->named++);
    refused = renameat(at, name, removal->top, new_name) < 0;
  } while (refused && (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR));
  if (!refused) removal->moved++;
}

static void remove_entry(int at, const char *name, struct removal *removal, int depth) {
  if (unlinkat(at, name, 0) == 0 || errno == ENOENT) return;
  int fd = open_writable(at, name);
  if (fd < 0) return;
  if (depth == DEEPEST) {
    close(fd);
    move_up(removal, at, name);
    return;
  }
  DIR *dir = look_into(fd);
  if (!dir) return;
  remove_entries(dir, removal, depth + 1);
  closedir(dir);
  unlinkat(at, name, AT_REMOVEDIR);
}

static void remove_entries(DIR *dir, struct removal *removal, int depth) {
  struct dirent *entry;
  while ((entry = readdir(dir)))
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
      remove_entry(dirfd(dir), entry->d_name, removal, depth);
}

/* What cannot be removed stays: the builder tries once more at its end, and then the next session does. */
void remove_tree(int at, const char *name) {
  if (unlinkat(at, name, 0) == 0 || errno == ENOENT) return;
  int fd = open_writable(at, name);
  DIR *dir = fd < 0 ? NULL : look_into(fd);
  if (!dir) return;
  struct removal removal = {.top = fd};
  unsigned before;
  do { /* comes to an end: each move makes a tree less deep */
    before = removal.moved;
    rewinddir(dir);
    remove_entries(dir, &removal, 1);
  } while (removal.moved != before);
  closedir(dir);
  unlinkat(at, name, AT_REMOVEDIR);
}
