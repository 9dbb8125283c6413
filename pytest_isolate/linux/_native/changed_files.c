/* Lists what a test changed: what the upper layers of its overlays hold, against the host's tree at the same paths. */
#include "core_api.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

struct changes {
  char *bytes;
  size_t size, room;
  int failed;
  int on_tmpfs;       /* where the layers are */
  int skeleton;       /* the layer is one */
  const char *longer; /* a file that was made `added` bytes longer than the host's, or NULL */
  off_t added;
};

static void add_change(struct changes *changes, char kind, const char *path) {
  size_t length = strlen(path) + 2;
  if (changes->size + length > changes->room) {
    size_t room = (changes->room + length) * 2;
    char *bytes = realloc(changes->bytes, room);
    if (!bytes) {
      changes->failed = 1;
      return;
    }
    changes->bytes = bytes;
    changes->room = room;
  }
  changes->bytes[changes->size] = kind;
  memcpy(changes->bytes + changes->size + 1, path, length - 1);
  changes->size += length;
}

static int is_opaque(int dir) { /* overlayfs.rst, "whiteouts and opaque directories" */
  char value = 0;
  return (fgetxattr(dir, "user.overlay.opaque", &value, 1) == 1 && value == 'y') ||
         (fgetxattr(dir, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y');
}

static int same_text(int at, const char *name, const char *lower) {
  char a[4096], b[4096];
  ssize_t n = readlinkat(at, name, a, sizeof a), m = readlink(lower, b, sizeof b);
  return n >= 0 && n == m && memcmp(a, b, (size_t)n) == 0;
}

static int is_older(struct timespec one, struct timespec other) {
  return one.tv_sec < other.tv_sec || (one.tv_sec == other.tv_sec && one.tv_nsec < other.tv_nsec);
}

/* Opening a file for writing copies it up with its times and size as they were: only a difference in these is a
 * change. Entries of a skeleton stand in for the host's: they belong to this user, with what modes that takes, and those that
 * this user cannot read are empty. They were copied when the sandbox was made: where the host's was changed last, somebody else wrote to that one since,
 * as to a log; what the test did to its copy before is not told of then. By the time that nobody can set (st_ctim). */
static int same_file(const struct changes *changes, int at, const char *name, const struct stat *upper,
                     const struct stat *lower, const char *path) {
  if ((upper->st_mode ^ lower->st_mode) & S_IFMT) return 0;
  int same_access = !((upper->st_mode ^ lower->st_mode) & 07777) && upper->st_uid == lower->st_uid &&
                    upper->st_gid == lower->st_gid;
  if (!changes->skeleton && !same_access) return 0;
  if (S_ISDIR(upper->st_mode)) return 1;
  if (S_ISLNK(upper->st_mode)) return same_text(at, name, path);
  if (changes->skeleton && !upper->st_size && faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) < 0) return 1;
  if (changes->skeleton && !upper->st_size && (upper->st_mode & 07777) == S_ISVTX) return 1; /* a mount is on it: rootfs.py */
  if (changes->skeleton && is_older(upper->st_ctim, lower->st_ctim)) return 1;
  return upper->st_size == lower->st_size && upper->st_mtim.tv_sec == lower->st_mtim.tv_sec &&
         upper->st_mtim.tv_nsec == lower->st_mtim.tv_nsec;
}

/* As it was made: with the times of the host's, which may be at the end of a link. */
static int is_as_made(const struct changes *changes, const struct stat *upper, const char *path) {
  struct stat lower;
  return changes->longer && !strcmp(path, changes->longer) && S_ISREG(upper->st_mode) && stat(path, &lower) == 0 &&
         upper->st_size == lower.st_size + changes->added && upper->st_mtim.tv_sec == lower.st_mtim.tv_sec &&
         upper->st_mtim.tv_nsec == lower.st_mtim.tv_nsec;
}

/* On a tmpfs the size of a directory counts its entries, each as 20, with "." and ".." (mm/shmem.c, BOGO_DIRENT_SIZE): one
 * look instead of eight system calls. Most layers are empty, as the test left them alone; so are most directories of a
 * skeleton, as something is mounted on them. */
static int is_empty(const struct changes *changes, const struct stat *dir) { return changes->on_tmpfs && dir->st_size <= 40; }

static int open_directory(int at, const char *name) {
  int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  int fd = openat(at, name, flags);
  if (fd < 0 && errno == EACCES && fchmodat(at, name, 0700, 0) == 0) /* it is thrown away anyway */
    fd = openat(at, name, flags);
  return fd;
}

static void walk(struct changes *changes, int fd, char *path, size_t length);

static void visit(struct changes *changes, int fd, const char *name, char *path, size_t length) {
  struct stat upper, lower;
  size_t more = strlen(name) + 1;
  if (length + more >= PATH_MAX * 2 || fstatat(fd, name, &upper, AT_SYMLINK_NOFOLLOW) < 0) return;
  path[length] = '/';
  memcpy(path + length + 1, name, more);
  int known = lstat(path, &lower) == 0;
  if (S_ISCHR(upper.st_mode) && upper.st_rdev == 0) {
    if (known) add_change(changes, 'D', path);
  } else if (!known) {
    add_change(changes, 'A', path);
    if (S_ISDIR(upper.st_mode)) walk(changes, open_directory(fd, name), path, length + more);
  } else {
    /* An empty directory of an overlay may hide the lower one's entries; a skeleton is no overlay. */
    int look = S_ISDIR(upper.st_mode) && !(changes->skeleton && is_empty(changes, &upper));
    int dir = look ? open_directory(fd, name) : -1;
    if (!same_file(changes, fd, name, &upper, &lower, path) && !is_as_made(changes, &upper, path))
      add_change(changes, 'M', path);
    if (dir >= 0) walk(changes, dir, path, length + more);
  }
  path[length] = 0;
}

/* An opaque directory hides all of the lower one: what it does not hold itself was deleted. */
static void list_hidden(struct changes *changes, int fd, char *path, size_t length) {
  DIR *dir = opendir(length ? path : "/");
  struct dirent *entry;
  struct stat st;
  while (dir && (entry = readdir(dir))) {
    size_t more = strlen(entry->d_name) + 1;
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || length + more >= PATH_MAX * 2) continue;
    if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) continue;
    path[length] = '/';
    memcpy(path + length + 1, entry->d_name, more);
    add_change(changes, 'D', path);
    path[length] = 0;
  }
  if (dir) closedir(dir);
}

/* `fd`, which it closes, is a directory of the upper layer; `path` where it appears; the lower tree, outside, has
 * the same path. */
static void walk(struct changes *changes, int fd, char *path, size_t length) {
  struct dirent *entry;
  DIR *dir = fd < 0 ? NULL : fdopendir(fd);
  if (!dir) {
    if (fd >= 0) close(fd);
    return;
  }
  if (!changes->skeleton && is_opaque(fd)) list_hidden(changes, fd, path, length);
  while ((entry = readdir(dir)))
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) visit(changes, fd, entry->d_name, path, length);
  closedir(dir);
}

/* The changes in layers over the host's tree: records of a letter (A, M, D), a path and a NUL, *size bytes in all;
 * NULL if there are none, with *size -1 if there was no memory. Free with isolate_free(). `layers` is a list, which
 * an empty string ends, of a letter (s: the layer is a skeleton; o: it is not), the upper directory within the
 * scratch directory, a NUL, where it appears, a NUL. Before them may be an l with a number and a path: the file is as long
 * as the host's and so many bytes. */
char *isolate_changes(int scratch, const char *layers, long *size) {
  struct changes changes = {0};
  struct statfs fs;
  struct stat top;
  changes.on_tmpfs = fstatfs(scratch, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
  char *path = malloc(PATH_MAX * 2 + 2);
  while (path && *layers) {
    const char *upper = layers + 1, *seen = upper + strlen(upper) + 1;
    size_t length = strcmp(seen, "/") ? strlen(seen) : 0;
    char kind = *layers;
    layers = seen + strlen(seen) + 1;
    if (kind == 'l') {
      changes.longer = seen;
      changes.added = atol(upper);
      continue;
    }
    changes.skeleton = kind == 's';
    if (length > PATH_MAX || fstatat(scratch, upper, &top, AT_SYMLINK_NOFOLLOW) < 0 || is_empty(&changes, &top)) continue;
    int fd = openat(scratch, upper, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    memcpy(path, seen, length);
    path[length] = 0;
    walk(&changes, fd, path, length);
  }
  *size = changes.failed || !path ? -1 : (long)changes.size;
  free(path);
  return changes.bytes;
}

void isolate_free(char *bytes) { free(bytes); }
