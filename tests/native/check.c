/* Checks parts of the C core by themselves, without Python and namespaces: under valgrind, and on another machine by
 * qemu-user. .ci/sanitize builds and runs it: check FOLDER PLAN..., with an empty folder and files that hold a Plan. */
#include "core_api.h"
#include "files.h"
#include "plan.h"
#include "remove_tree.h"
#include "seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEEP = 3000, FEW = 64, LONGEST = 1 << 20, SKIPPED = 77 };

#define CHECK(what)                                                              \
  do {                                                                           \
    if (!(what)) {                                                               \
      printf("%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #what, strerror(errno)); \
      exit(1);                                                                   \
    }                                                                            \
  } while (0)

/* A Plan is read whole; no beginning of it is one. */
static void check_plan(const char *path) {
  static char whole[LONGEST];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = read(fd, whole, sizeof whole);
  CHECK(size > 0 && size < LONGEST);
  close(fd);
  struct plan *plan = plan_decode(whole, (size_t)size);
  CHECK(plan && plan->op_count && plan->ops[0].step == OP_STAGE);
  plan_free(plan);
  for (size_t cut = 0; cut < (size_t)size; cut++) {
    char *part = malloc(cut + 1); /* of its own, so that a look beyond its end is noticed */
    CHECK(part);
    memcpy(part, whole, cut);
    CHECK(!plan_decode(part, cut));
    free(part);
  }
}

static void check_files(void) {
  int fd = open("file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  CHECK(fd >= 0);
  CHECK(write_file(AT_FDCWD, "file", "text") == 0);
  CHECK(write_file(AT_FDCWD, "missing", "text") < 0 && errno == ENOENT);
  close_fd(&fd);
  CHECK(fd == -1);
}

/* What the upper layer has, against what is at the same paths outside: nothing. */
static void check_changes(const char *folder) {
  char layers[PATH_MAX + 32];
  CHECK(mkdir("upper", 0700) == 0 && mkdir("upper/new", 0700) == 0);
  int fd = open("upper/new/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), scratch = open(".", O_RDONLY | O_DIRECTORY);
  CHECK(fd >= 0 && scratch >= 0);
  close(fd);
  int size = snprintf(layers, sizeof layers, "oupper%c%s/elsewhere%c", 0, folder, 0);
  CHECK(size > 0);
  long found;
  char *changes = isolate_changes(scratch, layers, &found);
  CHECK(changes && changes[0] == 'A' && strstr(changes, "/elsewhere/new"));
  CHECK(found == (long)(2 * strlen(folder) + 2 * 2 + strlen("/elsewhere/new") + strlen("/elsewhere/new/file")));
  isolate_free(changes);
  close(scratch);
}

/* Directories without permissions, far deeper than there are descriptors or than a path can be long. */
static void check_removal(void) {
  struct rlimit before, few;
  CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
  few = (struct rlimit){FEW, before.rlim_max};
  CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
  CHECK(mkdir("deep", 0700) == 0);
  int at = open("deep", O_RDONLY | O_DIRECTORY);
  for (int i = 0; i < DEEP; i++) {
    CHECK(mkdirat(at, "d", 0700) == 0);
    int next = openat(at, "d", O_RDONLY | O_DIRECTORY);
    CHECK(symlinkat("/", at, "link") == 0);
    CHECK(fchmod(at, 0) == 0);
    close(at);
    at = next;
  }
  close(at);
  remove_tree(AT_FDCWD, "deep");
  CHECK(access("deep", F_OK) < 0);
  CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

/* In a process of its own, as the filter is for good. qemu-user has no filters. */
static void check_seccomp(void) {
  pid_t child = fork();
  if (child == 0) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || seccomp_install() < 0) _exit(SKIPPED);
    _exit(socket(AF_VSOCK, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT ? 0 : 1);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == SKIPPED);
  if (WEXITSTATUS(status)) puts("seccomp: not here");
}

int main(int argc, char **argv) {
  for (int i = 2; i < argc; i++) check_plan(argv[i]);
  CHECK(argc > 2 && chdir(argv[1]) == 0);
  check_files();
  check_changes(argv[1]);
  check_removal();
  check_seccomp();
  CHECK(isolate_landlock_version() >= -1);
  puts("all is as it should be");
  return 0;
}
