#include "cgroup_dirs.h"

#include "clock.h"
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LONGEST = 4200 };

static void path_of(const struct cgroup_dirs *dirs, uint32_t i, const char *file, char path[LONGEST]) {
  const struct cgroup_dir *dir = &dirs->plan->cgroups[i];
  if (dir->shared)
    snprintf(path, LONGEST, "%s/%s", dir->parent, file);
  else
    snprintf(path, LONGEST, "%s/t%u%s%s", dir->parent, dirs->number, *file ? "/" : "", file);
}

static int make_one(struct cgroup_dirs *dirs, uint32_t i, struct failure *failure) {
  const struct cgroup_dir *dir = &dirs->plan->cgroups[i];
  char path[LONGEST];
  path_of(dirs, i, "", path);
  if (!dir->shared && mkdir(path, 0755) < 0) return fail_at(failure, AT_CGROUP, path);
  dirs->made = i + 1;
  for (uint32_t k = 0; k < dir->file_count; k++) {
    const char *name = dir->files[k].name;
    int optional = *name == '?';
    path_of(dirs, i, name + optional, path);
    if (write_file(AT_FDCWD, path, dir->files[k].value) < 0 && !(optional && (errno == ENOENT || errno == EACCES)))
      return fail_at(failure, AT_CGROUP, path);
  }
  path_of(dirs, i, dir->attach, path);
  dirs->attach[i] = open(path, O_WRONLY | O_CLOEXEC);
  return dirs->attach[i] < 0 ? fail_at(failure, AT_CGROUP, path) : 0;
}

int cgroup_dirs_make(struct cgroup_dirs *dirs, const struct plan *plan, uint32_t number, struct failure *failure) {
  *dirs = (struct cgroup_dirs){.plan = plan, .number = number};
  memset(dirs->attach, -1, sizeof dirs->attach);
  for (uint32_t i = 0; i < plan->cgroup_count; i++)
    if (make_one(dirs, i, failure) < 0) return -1;
  return 0;
}

void cgroup_dirs_close(struct cgroup_dirs *dirs) {
  for (int i = 0; i < CGROUPS; i++) close_fd(&dirs->attach[i]);
}

/* A frozen process of cgroup v1 cannot die (freezer-subsystem.txt): a keeper killed in the middle of a time-out
 * leaves one. */
void cgroup_dirs_thaw(const struct cgroup_dirs *dirs) {
  char path[LONGEST];
  for (uint32_t i = 0; i < dirs->made; i++) {
    path_of(dirs, i, "freezer.state", path);
    write_file(AT_FDCWD, path, "THAWED");
    path_of(dirs, i, "cgroup.freeze", path);
    write_file(AT_FDCWD, path, "0");
  }
}

/* Processes leave a cgroup a moment after they have been reaped (cgroup-v1 cgroups.txt; css_set release is
 * asynchronous), so EBUSY is expected and tried again. A moment by the clock, not a number of tries: on a busy
 * machine we come here often, and the dying process seldom. */
static int is_busy(int error) { return error == EBUSY || error == ENOMEM || error == EINTR; }

/* Whether groups are below, of another worker, say: the last one removes the session's. kernfs counts directories as
 * links. */
static int has_groups(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && status.st_nlink > 2;
}

/* Removes what a pytest inside has made below (a session sandbox, session/session_sandbox.py), bottom up; 0, or -1 with
 * errno. Its processes have been killed with the pid namespace; what is in path after the name is scratch space. */
static int remove_groups(char path[LONGEST]) {
  size_t length = strlen(path);
  struct dirent *entry;
  if (rmdir(path) == 0) return 0;
  if (!is_busy(errno)) return -1;
  if (!has_groups(path)) {
    errno = EBUSY;
    return -1;
  }
  DIR *dir = opendir(path);
  while (dir && (entry = readdir(dir))) {
    if (entry->d_type != DT_DIR || *entry->d_name == '.' || length + strlen(entry->d_name) + 20 > LONGEST) continue;
    snprintf(path + length, LONGEST - length, "/%s/freezer.state", entry->d_name);
    write_file(AT_FDCWD, path, "THAWED"); /* as above */
    path[length + 1 + strlen(entry->d_name)] = 0;
    remove_groups(path);
    path[length] = 0;
  }
  if (dir) closedir(dir);
  return rmdir(path);
}

int cgroup_dirs_remove(struct cgroup_dirs *dirs) {
  char path[LONGEST];
  while (dirs->made) {
    path_of(dirs, dirs->made - 1, "", path);
    if (!dirs->plan->cgroups[dirs->made - 1].shared && remove_groups(path) < 0 && is_busy(errno)) {
      if (!dirs->busy_since) dirs->busy_since = now_ms();
      if (now_ms() - dirs->busy_since < RMDIR_MS) return -1;
    }
    dirs->made--; /* gone, or stuck for good: the next session's sweep tries again */
    dirs->busy_since = 0;
  }
  return 0;
}

int cgroup_dirs_retry_ms(const struct cgroup_dirs *dirs) {
  return dirs->busy_since && now_ms() - dirs->busy_since > 20 ? 20 : 1;
}

void cgroup_remove(const char *path, int64_t until) {
  while (rmdir(path) < 0 && is_busy(errno) && !has_groups(path) && now_ms() < until) poll(NULL, 0, 10);
}
