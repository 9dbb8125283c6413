/* The builder: a small process beside pytest that makes sandboxes ahead of need and takes them down behind the test's back.
 *
 * Theory of operation. Three kinds of process work together:
 *
 *   keeper   pytest's own process (session.py). It sends Plans, asks for a sandbox, gets descriptors, forks the test into it
 *            (core.c) and hands the sandbox back.
 *   builder  this program, one per keeper, executed with a control socket and a pidfd of the keeper. It makes cgroups, clones
 *            PID 1 of each sandbox, writes id maps, and removes all that when the sandbox comes back, or when the keeper ends.
 *   init     PID 1 of a sandbox (init.c), a clone of the builder. It ends when the keeper or the builder does.
 *
 * A sandbox with a way to the outside has two programs more, beside it (uplink.c), which end with the builder too.
 *
 * So each of the three may be killed at any moment: the builder outlives the keeper just long enough to clean up, init dies
 * with either, and everything inside a sandbox dies with its init. If keeper and builder are killed together, the next
 * session sweeps cgroups and scratch directories by name.
 *
 * The builder runs on one thread and never blocks on a sandbox: all waiting is in the one poll() of main(). Executed as "builder
 * launch", the program does something else: launch.c. */
#include "init.h"
#include "launch.h"
#include "plan.h"
#include "uplink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { SANDBOXES = 64, CGROUPS = 16, READY_AT_MOST = 8, RMDIR_MS = 5000 };

/* ---- messages, as session.py packs them: one datagram each, in the machine's byte order --------------------------- */

struct request {
  uint32_t kind;   /* one of the letters below */
  uint32_t plan;   /* PLAN: its new number; GET: the wanted one; DONE: the sandbox's number */
  uint32_t ahead;  /* GET, AHEAD: the plan to have ready next, 0 for none */
  uint32_t depth;  /* GET, AHEAD: how many of it */
};
enum { PLAN = 'P', GET = 'G', AHEAD = 'A', DONE = 'D', SYNC = 'S', CLEANUP = 'C' };

struct reply {
  uint32_t kind;     /* 'G', 'S', or 'F' for a failure */
  uint32_t sandbox;  /* its number, also the N of its directories tN; SYNC: how many are ready */
  int32_t pid;       /* of init, as the keeper's pid namespace has it */
  uint32_t scratch;  /* 1 if the scratch directory is among the descriptors, after init's pidfd */
  struct failure failure;
};

/* ---- state ---------------------------------------------------------------------------------------------------- */

enum state { FREE, BUILDING, READY, OUT, DYING };

struct sandbox {
  enum state state;
  uint32_t number, plan_number;
  struct plan *plan;
  pid_t pid;                 /* 0 once reaped */
  int pidfd, init, scratch;  /* init: our end of the socket pair, until it is handed out */
  struct uplink uplink;
  int attach[CGROUPS];
  uint32_t groups;           /* how many of the Plan's cgroup directories exist */
  int64_t busy_since;        /* when removing the last of them was first tried in vain, by now_ms(); or 0 */
  char directory[4096];      /* its scratch directory on disk, or "" */
};

struct builder {
  int control, keeper, signals;
  struct sandbox sandboxes[SANDBOXES];
  struct plan **plans; /* by number */
  uint32_t plan_count;
  uint32_t last_number;
  uint32_t wanted;     /* plan of the GET that waits, 0 for none */
  uint32_t ahead, depth;
  int synchronising;
  char *cleanup;       /* "cPATH\0" (cgroup) and "sPATH\0" (scratch tree), to be removed at the end */
  size_t cleanup_size;
};

static void fail_at(struct failure *failure, int32_t op, const char *object) {
  failure->error = errno;
  failure->op = op;
  snprintf(failure->object, sizeof failure->object, "%.500s", object);
}

static int write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t done = write(fd, text, strlen(text));
  int error = errno;
  close(fd);
  errno = error;
  return done < 0 ? -1 : 0;
}

/* ---- removing things ------------------------------------------------------------------------------------------ */

/* The test may have left directories without permissions, and overlayfs leaves work/ with mode 000. Depth is bounded by
 * PATH_MAX; descriptors by RLIMIT_NOFILE, which main() has raised. */
static void remove_tree(int at, const char *name) {
  if (unlinkat(at, name, 0) == 0 || errno == ENOENT) return;
  int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0 && errno == EACCES && fchmodat(at, name, 0700, 0) == 0)
    fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return;
  fchmod(fd, 0700);
  DIR *dir = fdopendir(fd);
  if (!dir) {
    close(fd);
    return;
  }
  struct dirent *entry;
  while ((entry = readdir(dir)))
    if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) remove_tree(fd, entry->d_name);
  closedir(dir);
  unlinkat(at, name, AT_REMOVEDIR);
}

static void group_path(const struct sandbox *sandbox, uint32_t i, const char *file, char *path, size_t size) {
  snprintf(path, size, "%s/t%u%s%s", sandbox->plan->cgroups[i].parent, sandbox->number, *file ? "/" : "", file);
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Processes leave a cgroup a moment after they have been reaped (cgroup-v1 cgroups.txt; css_set release is asynchronous), so
 * EBUSY is expected and tried again. A moment by the clock, not a number of tries: on a busy machine we come here often, and the
 * dying process seldom. 0 when all is removed. */
static int remove_groups(struct sandbox *sandbox) {
  char path[4200];
  while (sandbox->groups) {
    group_path(sandbox, sandbox->groups - 1, "", path, sizeof path);
    if (rmdir(path) < 0 && errno == EBUSY) {
      if (!sandbox->busy_since) sandbox->busy_since = now_ms();
      if (now_ms() - sandbox->busy_since < RMDIR_MS) return -1;
    }
    sandbox->groups--; /* gone, or stuck for good: the next session's sweep tries again */
    sandbox->busy_since = 0;
  }
  return 0;
}

/* A frozen process of cgroup v1 cannot die (freezer-subsystem.txt): a keeper killed in the middle of a time-out leaves one. */
static void thaw(const struct sandbox *sandbox) {
  char path[4200];
  for (uint32_t i = 0; i < sandbox->groups; i++) {
    group_path(sandbox, i, "freezer.state", path, sizeof path);
    write_file(path, "THAWED");
    group_path(sandbox, i, "cgroup.freeze", path, sizeof path);
    write_file(path, "0");
  }
}

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/* Starts the end of a sandbox: the kernel kills all of it with its PID 1. finish() does the rest, once that is reaped. */
static void destroy(struct sandbox *sandbox) {
  if (sandbox->pid > 0) kill(sandbox->pid, SIGKILL); /* our unreaped child: the number cannot have been reused */
  for (int i = 0; i < CGROUPS; i++) close_fd(&sandbox->attach[i]);
  close_fd(&sandbox->init);
  close_fd(&sandbox->scratch);
  close_fd(&sandbox->pidfd);
  uplink_end(&sandbox->uplink);
  sandbox->state = DYING;
}

static void finish(struct sandbox *sandbox) {
  if (sandbox->pid > 0 || sandbox->uplink.pid > 0 || remove_groups(sandbox) < 0) return;
  if (*sandbox->directory) remove_tree(AT_FDCWD, sandbox->directory);
  *sandbox->directory = 0;
  sandbox->state = FREE;
}

/* ---- building ------------------------------------------------------------------------------------------------- */

static int make_groups(struct sandbox *sandbox, struct failure *failure) {
  char path[4200];
  for (uint32_t i = 0; i < sandbox->plan->cgroup_count; i++) {
    const struct cgroup_dir *dir = &sandbox->plan->cgroups[i];
    group_path(sandbox, i, "", path, sizeof path);
    if (mkdir(path, 0755) < 0) return fail_at(failure, AT_CGROUP, path), -1;
    sandbox->groups = i + 1;
    for (uint32_t k = 0; k < dir->file_count; k++) {
      const char *name = dir->files[k].name;
      int optional = *name == '?';
      group_path(sandbox, i, name + optional, path, sizeof path);
      if (write_file(path, dir->files[k].value) < 0 && !(optional && (errno == ENOENT || errno == EACCES)))
        return fail_at(failure, AT_CGROUP, path), -1;
    }
    group_path(sandbox, i, dir->attach, path, sizeof path);
    sandbox->attach[i] = open(path, O_WRONLY | O_CLOEXEC);
    if (sandbox->attach[i] < 0) return fail_at(failure, AT_CGROUP, path), -1;
  }
  return 0;
}

/* clone3(2) takes CLONE_NEWTIME, which clone(2) has no room for; where seccomp profiles answer ENOSYS to clone3, the older
 * call serves Plans that do without it. No CLONE_VM: the child is a copy, as after fork(2). */
static pid_t clone_init(uint64_t namespaces, int *pidfd) {
  struct clone_args args = {
      .flags = namespaces | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = SIGCHLD};
  long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0 && errno == ENOSYS && !(namespaces & CLONE_NEWTIME)) {
#if defined(__aarch64__) || defined(__x86_64__) /* both take the pidfd in the third place */
    pid = syscall(SYS_clone, namespaces | CLONE_PIDFD | SIGCHLD, 0, pidfd, 0, 0);
#endif
  }
  return (pid_t)pid;
}

/* user_namespaces(7): setgroups must be denied before an unprivileged process may write a gid map; a privileged one leaves it. */
static int write_maps(const struct sandbox *sandbox) {
  char path[64];
  if (!*sandbox->plan->uid_map) return 0;
  if (geteuid() != 0) {
    snprintf(path, sizeof path, "/proc/%d/setgroups", sandbox->pid);
    if (write_file(path, "deny") < 0 && errno != ENOENT) return -1;
  }
  snprintf(path, sizeof path, "/proc/%d/uid_map", sandbox->pid);
  if (write_file(path, sandbox->plan->uid_map) < 0) return -1;
  snprintf(path, sizeof path, "/proc/%d/gid_map", sandbox->pid);
  return write_file(path, sandbox->plan->gid_map);
}

static struct sandbox *free_slot(struct builder *builder) {
  for (int i = 0; i < SANDBOXES; i++)
    if (builder->sandboxes[i].state == FREE) return &builder->sandboxes[i];
  return NULL;
}

/* Begins a sandbox; init builds on while we go back to poll(). NULL with `failure` filled in if it could not even begin. */
static struct sandbox *build(struct builder *builder, uint32_t plan_number, struct failure *failure) {
  struct sandbox *sandbox = free_slot(builder);
  int pair[2];
  if (!sandbox) {
    errno = EAGAIN;
    fail_at(failure, AT_CLONE, "too many sandboxes");
    return NULL;
  }
  *sandbox = (struct sandbox){.state = BUILDING, .plan_number = plan_number, .pidfd = -1, .init = -1, .scratch = -1};
  sandbox->uplink.ready = sandbox->uplink.said = -1;
  memset(sandbox->attach, -1, sizeof sandbox->attach);
  sandbox->number = ++builder->last_number;
  sandbox->plan = builder->plans[plan_number];
  if (*sandbox->plan->scratch) {
    snprintf(sandbox->directory, sizeof sandbox->directory, "%s/t%u", sandbox->plan->scratch, sandbox->number);
    if (mkdir(sandbox->directory, 0700) < 0) {
      fail_at(failure, AT_SCRATCH, sandbox->directory);
      *sandbox->directory = 0;
      goto undo;
    }
  }
  if (make_groups(sandbox, failure) < 0) goto undo;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
    fail_at(failure, AT_CLONE, "socketpair");
    goto undo;
  }
  sandbox->init = pair[0];
  sandbox->pid = clone_init(sandbox->plan->namespaces, &sandbox->pidfd);
  if (sandbox->pid == 0) init_main(sandbox->plan, sandbox->directory, pair[1], builder->keeper);
  if (sandbox->pid < 0) {
    fail_at(failure, AT_CLONE, "");
    sandbox->pid = 0;
    close(pair[1]);
    goto undo;
  }
  close(pair[1]);
  if ((sandbox->plan->namespaces & CLONE_NEWUSER) && write_maps(sandbox) < 0) {
    fail_at(failure, AT_MAPS, sandbox->plan->uid_map);
    goto undo;
  }
  if (send(sandbox->init, "G", 1, MSG_NOSIGNAL) == 1) return sandbox;
  fail_at(failure, AT_INIT, "init");
undo:
  destroy(sandbox);
  finish(sandbox);
  return NULL;
}

/* ---- conversation with init ------------------------------------------------------------------------------------ */

static void reply_failure(struct builder *builder, const struct failure *failure) {
  struct reply reply = {.kind = 'F', .failure = *failure};
  send(builder->control, &reply, sizeof reply, MSG_NOSIGNAL);
  builder->wanted = 0;
}

/* A failed build matters only if somebody waits for it; one made ahead is tried again, and reported, when it is asked for. */
static void build_failed(struct builder *builder, struct sandbox *sandbox, const struct failure *failure) {
  if (builder->wanted == sandbox->plan_number) reply_failure(builder, failure);
  if (builder->ahead == sandbox->plan_number) builder->depth = 0;
  destroy(sandbox);
}

/* The last step of building, as it takes the finished namespaces. */
static void connect_outside(struct builder *builder, struct sandbox *sandbox) {
  struct failure failure;
  if (!sandbox->plan->uplink_count) {
    sandbox->state = READY;
  } else if (uplink_start(&sandbox->uplink, sandbox->plan, sandbox->pid) < 0) {
    fail_at(&failure, AT_UPLINK, strerror(errno));
    build_failed(builder, sandbox, &failure);
  }
}

static void hear_uplink(struct builder *builder, struct sandbox *sandbox) {
  struct failure failure;
  int stands = uplink_hear(&sandbox->uplink, &failure);
  if (stands > 0) sandbox->state = READY;
  if (stands < 0) build_failed(builder, sandbox, &failure);
}

static void hear_init(struct builder *builder, struct sandbox *sandbox) {
  char text[1 + sizeof(struct failure)];
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec part = {text, sizeof text};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
  struct failure failure = {.op = AT_INIT, .object = "PID 1 died while it was building"};
  ssize_t n = recvmsg(sandbox->init, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    build_failed(builder, sandbox, &failure);
  } else if (text[0] == 'F' && n == (ssize_t)sizeof text) {
    memcpy(&failure, text + 1, sizeof failure);
    build_failed(builder, sandbox, &failure);
  } else if (text[0] == 'M') {
    int bad = write_maps(sandbox);
    if (bad < 0) {
      fail_at(&failure, AT_MAPS, sandbox->plan->uid_map);
      build_failed(builder, sandbox, &failure);
    } else {
      send(sandbox->init, "G", 1, MSG_NOSIGNAL);
    }
  } else if (text[0] == 'R') {
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&sandbox->scratch, CMSG_DATA(header), sizeof(int));
    connect_outside(builder, sandbox);
  }
}

/* ---- conversation with the keeper -------------------------------------------------------------------------------- */

static void add_plan(struct builder *builder, uint32_t number, int memfd) {
  struct stat st;
  struct plan *plan = NULL;
  if (memfd >= 0 && fstat(memfd, &st) == 0 && st.st_size > 0) {
    char *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, memfd, 0);
    if (bytes != MAP_FAILED) plan = plan_decode(bytes, (size_t)st.st_size);
  }
  if (number >= builder->plan_count) {
    uint32_t count = number + 16;
    struct plan **plans = realloc(builder->plans, count * sizeof *plans);
    if (!plans) return;
    memset(plans + builder->plan_count, 0, (count - builder->plan_count) * sizeof *plans);
    builder->plans = plans;
    builder->plan_count = count;
  }
  builder->plans[number] = plan;
}

static int plan_known(const struct builder *builder, uint32_t number) {
  return number && number < builder->plan_count && builder->plans[number] &&
         builder->plans[number]->cgroup_count <= CGROUPS;
}

static void hand_over(struct builder *builder, struct sandbox *sandbox) {
  struct reply reply = {.kind = 'G', .sandbox = sandbox->number, .pid = sandbox->pid, .scratch = sandbox->scratch >= 0};
  int fds[2 + CGROUPS], count = 0;
  union {
    char space[CMSG_SPACE(sizeof fds)];
    struct cmsghdr align;
  } control = {0};
  struct iovec part = {&reply, sizeof reply};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};

  fds[count++] = sandbox->pidfd;
  if (sandbox->scratch >= 0) fds[count++] = sandbox->scratch;
  for (uint32_t i = 0; i < sandbox->plan->cgroup_count; i++) fds[count++] = sandbox->attach[i];
  message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
  memcpy(CMSG_DATA(header), fds, (size_t)count * sizeof(int));
  if (sendmsg(builder->control, &message, MSG_NOSIGNAL) < 0) return; /* the keeper has gone: poll() tells */
  for (int i = 0; i < CGROUPS; i++) close_fd(&sandbox->attach[i]);
  close_fd(&sandbox->scratch);
  sandbox->state = OUT;
  builder->wanted = 0;
}

static struct sandbox *oldest(struct builder *builder, enum state state, uint32_t plan_number) {
  struct sandbox *found = NULL;
  for (int i = 0; i < SANDBOXES; i++) {
    struct sandbox *sandbox = &builder->sandboxes[i];
    if (sandbox->state == state && (!plan_number || sandbox->plan_number == plan_number) &&
        (!found || sandbox->number < found->number))
      found = sandbox;
  }
  return found;
}

static uint32_t count(const struct builder *builder, enum state state, uint32_t plan_number) {
  uint32_t n = 0;
  for (int i = 0; i < SANDBOXES; i++)
    n += builder->sandboxes[i].state == state && (!plan_number || builder->sandboxes[i].plan_number == plan_number);
  return n;
}

static void set_cleanup(struct builder *builder, const char *text, size_t size) {
  free(builder->cleanup);
  builder->cleanup = malloc(size + 1);
  builder->cleanup_size = builder->cleanup ? size : 0;
  if (builder->cleanup) {
    memcpy(builder->cleanup, text, size);
    builder->cleanup[size] = 0;
  }
}

/* 0 when the keeper has closed its end. */
static int hear_keeper(struct builder *builder) {
  static union {
    struct request request;
    char bytes[65536];
  } in;
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec part = {&in, sizeof in};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
  ssize_t n = recvmsg(builder->control, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  if (n < (ssize_t)sizeof in.request) return 0;
  int fd = -1;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(header), sizeof fd);

  switch (in.request.kind) {
    case PLAN:
      add_plan(builder, in.request.plan, fd);
      break;
    case GET:
      builder->wanted = in.request.plan;
      /* fall through */
    case AHEAD:
      builder->ahead = in.request.ahead;
      builder->depth = in.request.depth;
      break;
    case DONE:
      for (int i = 0; i < SANDBOXES; i++)
        if (builder->sandboxes[i].state == OUT && builder->sandboxes[i].number == in.request.plan)
          destroy(&builder->sandboxes[i]);
      break;
    case SYNC:
      builder->synchronising = 1;
      break;
    case CLEANUP:
      set_cleanup(builder, in.bytes + sizeof in.request, (size_t)n - sizeof in.request);
      break;
  }
  if (fd >= 0) close(fd);
  return 1;
}

/* What follows from the state after any event: hand over, build, evict. */
static void work(struct builder *builder) {
  struct failure failure = {0};
  if (builder->wanted && !plan_known(builder, builder->wanted)) {
    errno = EINVAL;
    fail_at(&failure, AT_INIT, "unknown plan");
    reply_failure(builder, &failure);
  }
  if (builder->wanted) {
    struct sandbox *ready = oldest(builder, READY, builder->wanted);
    if (ready)
      hand_over(builder, ready);
    else if (!count(builder, BUILDING, builder->wanted) && !build(builder, builder->wanted, &failure))
      reply_failure(builder, &failure);
  }
  if (!builder->wanted && plan_known(builder, builder->ahead)) {
    uint32_t there = count(builder, READY, builder->ahead) + count(builder, BUILDING, builder->ahead);
    if (there < builder->depth && !build(builder, builder->ahead, &failure)) builder->depth = 0;
  }
  if (count(builder, READY, 0) > READY_AT_MOST) destroy(oldest(builder, READY, 0));
  if (builder->synchronising && !count(builder, DYING, 0) && !count(builder, BUILDING, 0)) {
    struct reply reply = {.kind = 'S', .sandbox = count(builder, READY, 0)};
    builder->synchronising = 0;
    send(builder->control, &reply, sizeof reply, MSG_NOSIGNAL);
  }
}

static void reap(struct builder *builder) {
  pid_t pid;
  while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
    for (int i = 0; i < SANDBOXES; i++) {
      struct sandbox *sandbox = &builder->sandboxes[i];
      if (sandbox->state == FREE || (sandbox->pid != pid && sandbox->uplink.pid != pid)) continue;
      *(sandbox->pid == pid ? &sandbox->pid : &sandbox->uplink.pid) = 0;
      if (sandbox->state == READY) destroy(sandbox); /* died while it waited: nobody has seen it yet */
      /* BUILDING: its socket tells; OUT: the keeper sees the pidfd and gives it back */
    }
}

/* Whether another worker's groups are below: the last one removes the session's. kernfs counts directories as links. */
static int has_groups(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && status.st_nlink > 2;
}

/* The end: nothing of ours may stay. Bounded waits, as a process in uninterruptible sleep must not keep us for ever. */
static _Noreturn void leave(struct builder *builder) {
  const int64_t until = now_ms() + RMDIR_MS;
  for (;;) {
    int left = 0;
    for (int i = 0; i < SANDBOXES; i++) {
      struct sandbox *sandbox = &builder->sandboxes[i];
      if (sandbox->state == FREE) continue;
      if (sandbox->state != DYING) {
        destroy(sandbox);
        thaw(sandbox);
      }
      finish(sandbox);
      left += sandbox->state != FREE;
    }
    if (!left || now_ms() > until) break;
    poll(NULL, 0, 10);
    reap(builder);
  }
  /* A sandbox's PID 1 is not dead before its last zombie has been reaped, which a container's first process may never do. Its groups
   * can be removed all the same: zombies are not in them. */
  for (int i = 0; i < SANDBOXES; i++)
    if (builder->sandboxes[i].state != FREE) remove_groups(&builder->sandboxes[i]);
  for (size_t at = 0; at < builder->cleanup_size; at += strlen(builder->cleanup + at) + 1) {
    const char *path = builder->cleanup + at + 1;
    if (builder->cleanup[at] == 's') remove_tree(AT_FDCWD, path);
    if (builder->cleanup[at] == 'c')
      while (rmdir(path) < 0 && errno == EBUSY && !has_groups(path) && now_ms() < until) poll(NULL, 0, 10);
  }
  _exit(0);
}

/* The networks' broker lives in a user namespace of its own where it is not root. Sandboxes that it is to connect must be in
 * one below it, or it would have no rights over their network stacks (user_namespaces(7)), so their builder is in that of the
 * broker. Joining clears "dumpable", without which the id maps of our children would belong to root. */
static int join_broker(int broker) {
  if (setns(broker, CLONE_NEWUSER) < 0) return -1;
  return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

/* Descriptors 3 and 4 are inherited: the control socket and a pidfd of the keeper. argv[1]: number of the first sandbox; argv[2]
 * tells whoever looks at a list of processes whose builder this is; argv[3] is there if 5 is a pidfd of the networks' broker. */
int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "launch")) launch_main(argc, argv);
  static struct builder builder = {.control = 3, .keeper = 4};
  sigset_t all;
  struct rlimit files;
  if (fcntl(builder.control, F_SETFD, FD_CLOEXEC) < 0 || fcntl(builder.keeper, F_SETFD, FD_CLOEXEC) < 0) {
    fputs("isolate builder: started by pytest_isolate, not by hand\n", stderr);
    return 2;
  }
  builder.last_number = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) - 1 : 0;
  if (argc > 3 && join_broker(5) < 0) return 3;
  syscall(SYS_close_range, 5, ~0U, 0); /* libraries in pytest may open descriptors without close-on-exec */
  /* Its own session: Ctrl-C is the keeper's business. All signals are blocked, not ignored: an ignored SIGCHLD would reap by
   * itself and lose us our children's numbers. */
  setsid();
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  builder.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  umask(022);
  if (chdir("/") < 0) return 2; /* the folder that pytest was started in may be removed meanwhile */

  for (;;) {
    struct pollfd polled[3 + 2 * SANDBOXES];
    int retry = -1, n = 3;
    work(&builder);
    polled[0] = (struct pollfd){.fd = builder.control, .events = POLLIN};
    polled[1] = (struct pollfd){.fd = builder.keeper, .events = POLLIN};
    polled[2] = (struct pollfd){.fd = builder.signals, .events = POLLIN};
    for (int i = 0; i < SANDBOXES; i++) {
      struct sandbox *sandbox = &builder.sandboxes[i];
      if (sandbox->state == DYING && sandbox->pid == 0 && retry != 1)
        retry = sandbox->busy_since && now_ms() - sandbox->busy_since > 20 ? 20 : 1;
      if (sandbox->state != BUILDING) continue;
      polled[n++] = (struct pollfd){.fd = sandbox->init, .events = POLLIN};
      polled[n++] = (struct pollfd){.fd = sandbox->uplink.ready, .events = POLLIN}; /* none is -1: poll(2) passes over it */
    }
    if (poll(polled, (nfds_t)n, retry) < 0 && errno != EINTR) leave(&builder);
    if (polled[1].revents) leave(&builder);
    if (polled[2].revents) {
      struct signalfd_siginfo ignored;
      while (read(builder.signals, &ignored, sizeof ignored) > 0) continue;
      reap(&builder);
    }
    for (int i = 0; i < SANDBOXES; i++) {
      if (builder.sandboxes[i].state == BUILDING) hear_init(&builder, &builder.sandboxes[i]);
      if (builder.sandboxes[i].state == BUILDING && builder.sandboxes[i].uplink.ready >= 0)
        hear_uplink(&builder, &builder.sandboxes[i]);
      if (builder.sandboxes[i].state == DYING) finish(&builder.sandboxes[i]);
    }
    if (polled[0].revents && !hear_keeper(&builder)) leave(&builder);
  }
}
