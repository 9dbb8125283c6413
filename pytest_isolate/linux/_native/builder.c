/* The builder: a small process beside pytest that makes sandboxes ahead of need and takes them down behind the test's
 * back.
 *
 * Theory of operation. Three kinds of process work together:
 *
 *   keeper   pytest's own process (session/keeper.py). It sends Plans, asks for a sandbox, gets descriptors
 *            (sandbox/builder.py), forks the test into it (fork.c) and hands the sandbox back.
 *   builder  this program, one per keeper, executed with a control socket and a pidfd of the keeper. It makes cgroups,
 *            clones PID 1 of each sandbox, writes id maps, and removes all that when the sandbox comes back, or when
 *            the keeper ends.
 *   init     PID 1 of a sandbox (init.c), a clone of the builder. It ends when the keeper or the builder does.
 *
 * A sandbox with a way to the outside has two programs more, beside it (pasta.c), which end with the builder too.
 *
 * So each of the three may be killed at any moment: the builder outlives the keeper just long enough to clean up, init
 * dies with either, and everything inside a sandbox dies with its init. If keeper and builder are killed together, the
 * next session sweeps cgroups and scratch directories by name.
 *
 * The builder runs on one thread and never blocks on a sandbox: all waiting is in the one poll() of main(). One
 * sandbox's life is in sandbox.c; here is the conversation with the keeper, and which sandbox is made next. Executed
 * as "builder launch" or "builder start", the program does something else: launch.c, start.c. */
#include "builder.h"
#include "clock.h"
#include "files.h"
#include "launch.h"
#include "plan.h"
#include "remove_tree.h"
#include "retry.h"
#include "sandbox.h"
#include "start.h"

#include <errno.h>
#include <fcntl.h>
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
#include <sys/wait.h>
#include <unistd.h>

static int plan_known(const struct builder *builder, uint32_t number) {
  return number && number < builder->plan_count && builder->plans[number] &&
         builder->plans[number]->cgroup_count <= CGROUPS;
}

static struct sandbox *oldest(struct builder *builder, enum sandbox_state state, uint32_t plan_number) {
  struct sandbox *found = NULL;
  for (int i = 0; i < SANDBOXES; i++) {
    struct sandbox *sandbox = &builder->sandboxes[i];
    if (sandbox->state == state && (!plan_number || sandbox->plan_number == plan_number) &&
        (!found || sandbox->number < found->number))
      found = sandbox;
  }
  return found;
}

static uint32_t count(const struct builder *builder, enum sandbox_state state, uint32_t plan_number) {
  uint32_t n = 0;
  for (int i = 0; i < SANDBOXES; i++)
    n += builder->sandboxes[i].state == state && (!plan_number || builder->sandboxes[i].plan_number == plan_number);
  return n;
}

static struct sandbox *free_slot(struct builder *builder) {
  for (int i = 0; i < SANDBOXES; i++)
    if (builder->sandboxes[i].state == FREE) return &builder->sandboxes[i];
  return NULL;
}

/* ---- answers to the keeper ------------------------------------------------------------------------------------- */

static _Noreturn void shut_down(struct builder *builder);

/* The keeper waits for an answer. If none can be sent, the end of this process is one: the keeper's socket is
 * closed. */
static void reply_failure(struct builder *builder, const struct failure *failure) {
  struct reply reply = {.kind = 'F', .failure = *failure};
  int tries = 0;
  while (send(builder->control, &reply, sizeof reply, MSG_NOSIGNAL) < 0)
    if (!retry(&tries)) shut_down(builder);
  builder->wanted = 0;
}

static void hand_over(struct builder *builder, struct sandbox *sandbox) {
  struct reply reply = {.kind = 'G', .sandbox = sandbox->number, .pid = sandbox->pid, .scratch = sandbox->scratch >= 0};
  int tries = 0;
  while (sandbox_hand_over(sandbox, builder->control, &reply, sizeof reply) < 0)
    if (!retry(&tries)) shut_down(builder);
  builder->wanted = 0;
}

/* ---- which sandbox is made next -------------------------------------------------------------------------------- */

/* Begins a sandbox; its PID 1 builds on while we go back to poll(). -1 with `failure` filled in if it could not even
 * begin. */
static int build(struct builder *builder, uint32_t plan_number, struct failure *failure) {
  struct sandbox *sandbox = free_slot(builder);
  if (!sandbox) {
    errno = EAGAIN;
    return fail_at(failure, AT_CLONE, "too many sandboxes");
  }
  sandbox->number = ++builder->last_number;
  sandbox->plan_number = plan_number;
  return sandbox_build(sandbox, builder->plans[plan_number], builder->keeper, failure);
}

/* A failed build matters only if the keeper waits for it; one made ahead is tried again, and reported, when it is
 * asked for. */
static void on_build_failed(struct builder *builder, struct sandbox *sandbox, const struct failure *failure) {
  if (builder->wanted == sandbox->plan_number) reply_failure(builder, failure);
  if (builder->ahead == sandbox->plan_number) builder->depth = 0;
  sandbox_destroy(sandbox);
}

static void serve_wanted(struct builder *builder) {
  struct failure failure = {0};
  struct sandbox *ready;
  if (!plan_known(builder, builder->wanted)) {
    errno = builder->plan_error ? builder->plan_error : EINVAL;
    fail_at(&failure, AT_INIT, "(its Plan cannot be read)");
    reply_failure(builder, &failure);
  } else if ((ready = oldest(builder, READY, builder->wanted))) {
    hand_over(builder, ready);
  } else if (!count(builder, BUILDING, builder->wanted) && build(builder, builder->wanted, &failure) < 0) {
    reply_failure(builder, &failure);
  }
}

/* What follows from the state after any event: hand over, build, evict. */
static void dispatch(struct builder *builder) {
  struct failure failure;
  if (builder->wanted) serve_wanted(builder);
  if (!builder->wanted && plan_known(builder, builder->ahead)) {
    uint32_t there = count(builder, READY, builder->ahead) + count(builder, BUILDING, builder->ahead);
    if (there < builder->depth && build(builder, builder->ahead, &failure) < 0) builder->depth = 0;
  }
  uint32_t ready = count(builder, READY, 0); /* fewer than are made ahead would be made and evicted for ever */
  if (ready > READY_AT_MOST && ready > builder->depth) sandbox_destroy(oldest(builder, READY, 0));
}

/* ---- requests of the keeper ------------------------------------------------------------------------------------ */

static void add_plan(struct builder *builder, uint32_t number, int memfd) {
  struct stat st;
  struct plan *plan = NULL;
  errno = EMFILE; /* if the kernel had no room for the descriptor */
  if (memfd >= 0 && fstat(memfd, &st) == 0) {
    char *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, memfd, 0);
    if (bytes != MAP_FAILED) {
      errno = EINVAL;
      plan = plan_decode(bytes, (size_t)st.st_size);
    }
  }
  builder->plan_error = plan ? 0 : errno;
  if (number >= builder->plan_count) {
    uint32_t count = number + 16;
    struct plan **plans = realloc(builder->plans, count * sizeof *plans);
    if (!plans) {
      builder->plan_error = ENOMEM;
      return;
    }
    memset(plans + builder->plan_count, 0, (count - builder->plan_count) * sizeof *plans);
    builder->plans = plans;
    builder->plan_count = count;
  }
  builder->plans[number] = plan;
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

/* The keeper gives one back. */
static void on_done(struct builder *builder, uint32_t number) {
  for (int i = 0; i < SANDBOXES; i++) {
    struct sandbox *sandbox = &builder->sandboxes[i];
    if (sandbox->state == OUT && sandbox->number == number) sandbox_destroy(sandbox);
  }
}

static void on_request(struct builder *builder, const struct request *request, size_t size, int fd) {
  switch (request->kind) {
    case PLAN:
      add_plan(builder, request->plan, fd);
      break;
    case GET:
      builder->wanted = request->plan;
      builder->ahead = request->ahead;
      builder->depth = request->depth;
      break;
    case DONE:
      on_done(builder, request->plan);
      break;
    case CLEANUP:
      set_cleanup(builder, (const char *)(request + 1), size - sizeof *request);
      break;
  }
}

/* 1 when it has heard something, 0 when the keeper has closed its end, -1 if nothing has come. */
static int on_keeper(struct builder *builder) {
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
  ssize_t n;
  int tries = 0;
  while ((n = recvmsg(builder->control, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)) < 0)
    if (errno == EAGAIN || !retry(&tries)) return errno == EAGAIN ? -1 : 0;
  if (n < (ssize_t)sizeof in.request) return 0;
  int fd = -1;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(header), sizeof fd);
  on_request(builder, &in.request, (size_t)n, fd);
  if (fd >= 0) close(fd);
  return 1;
}

/* ---- events of the sandboxes ----------------------------------------------------------------------------------- */

static void on_sandbox(struct builder *builder, struct sandbox *sandbox) {
  struct failure failure;
  if (sandbox->state == BUILDING && sandbox_advance(sandbox, &failure) < 0) on_build_failed(builder, sandbox, &failure);
  if (sandbox->state == DYING) sandbox_teardown(sandbox);
}

/* A child that is missed here is found at the next one's end, or ours. */
static void reap(struct builder *builder) {
  pid_t pid;
  while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
    for (int i = 0; i < SANDBOXES; i++)
      if (sandbox_on_exit(&builder->sandboxes[i], pid)) break;
}

/* What is left unread makes poll(2) return again. SIGTERM ends us, as it ends a program that does not know of it: where
 * pytest is the process that orphans go to, a suite that ends "all my children" waits for us. */
static void on_signals(struct builder *builder) {
  struct signalfd_siginfo signal;
  while (read(builder->signals, &signal, sizeof signal) == sizeof signal)
    if (signal.ssi_signo == SIGTERM) shut_down(builder);
  reap(builder);
}

/* ---- the end --------------------------------------------------------------------------------------------------- */

/* Begins or goes on with the end of every sandbox; how many are left. */
static int destroy_all(struct builder *builder) {
  int left = 0;
  for (int i = 0; i < SANDBOXES; i++) {
    struct sandbox *sandbox = &builder->sandboxes[i];
    if (sandbox->state == FREE) continue;
    if (sandbox->state != DYING) {
      sandbox_destroy(sandbox);
      cgroup_dirs_thaw(&sandbox->cgroups);
    }
    sandbox_teardown(sandbox);
    left += sandbox->state != FREE;
  }
  return left;
}

/* Whether pytest lives, and has not closed the socket: then it starts another builder, which needs its groups. */
static int is_used(const struct builder *builder) {
  struct pollfd ends[] = {{.fd = builder->keeper, .events = POLLIN}, {.fd = builder->control, .events = POLLRDHUP}};
  return poll(ends, 2, 0) == 0;
}

/* Those that the keeper made for all sandboxes of a Plan, or of several. */
static void remove_shared_groups(const struct builder *builder, int64_t until) {
  for (uint32_t i = 0; i < builder->plan_count; i++)
    for (uint32_t k = 0; builder->plans[i] && k < builder->plans[i]->cgroup_count; k++)
      if (builder->plans[i]->cgroups[k].shared) cgroup_remove(builder->plans[i]->cgroups[k].parent, until);
}

/* The end: nothing of ours may stay. Bounded waits, as a process in uninterruptible sleep must not keep us for ever. */
static _Noreturn void shut_down(struct builder *builder) {
  const int64_t until = now_ms() + RMDIR_MS;
  while (on_keeper(builder) > 0) continue; /* it was killed, and had just told what it makes */
  while (destroy_all(builder) && now_ms() <= until) {
    poll(NULL, 0, 10);
    reap(builder);
  }
  /* A sandbox's PID 1 is not dead before its last zombie has been reaped, which a container's first process may
   * never do. Its groups can be removed all the same: zombies are not in them. */
  for (int i = 0; i < SANDBOXES; i++)
    if (builder->sandboxes[i].state != FREE) cgroup_dirs_remove(&builder->sandboxes[i].cgroups);
  if (is_used(builder)) _exit(1);
  remove_shared_groups(builder, until);
  for (size_t at = 0; at < builder->cleanup_size; at += strlen(builder->cleanup + at) + 1) {
    const char *path = builder->cleanup + at + 1;
    if (builder->cleanup[at] == 's') remove_tree(AT_FDCWD, path);
    if (builder->cleanup[at] == 'c') cgroup_remove(path, until);
  }
  _exit(0);
}

/* ---- main ------------------------------------------------------------------------------------------------------ */

/* The networks' broker lives in a user namespace of its own where it is not root. Sandboxes that it is to connect
 * must be in one below it, or it would have no rights over their network stacks (user_namespaces(7)), so their
 * builder is in that of the broker. Joining clears "dumpable", without which the id maps of our children would
 * belong to root. */
static int join_broker(int broker) {
  if (setns(broker, CLONE_NEWUSER) < 0) return -1;
  return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

/* It works while a test runs, and pytest or the test wait for a core then if it has both of two. So it never takes one
 * from somebody who runs, and gives way where it shares one. PID 1s inherit that; what is forked from pytest does not. */
static void give_way(void) {
  if (sched_getscheduler(0) == SCHED_OTHER) sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
  setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 5);
}

/* Its own session: Ctrl-C is the keeper's business. All signals are blocked, not ignored: an ignored SIGCHLD would
 * reap by itself and lose us our children's numbers. */
static int stand_apart(struct builder *builder) {
  sigset_t all;
  struct rlimit files;
  setsid(); /* if it is refused: Ctrl-C reaches us, and is blocked */
  sigfillset(&all);
  if (sigprocmask(SIG_BLOCK, &all, NULL) < 0) return -1;
  builder->signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
  if (builder->signals < 0) return -1;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* with fewer files, fewer sandboxes stand: no more than that */
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  give_way();
  umask(022);
  return chdir("/"); /* the folder that pytest was started in may be removed meanwhile */
}

enum { CONTROL, KEEPER, SIGNALS, FIXED };

/* Waits for the next event: a message, a signal, the keeper's end, or the time to try again to remove something. */
static int wait_for_events(const struct builder *builder, struct pollfd polled[FIXED + 2 * SANDBOXES]) {
  int wait_ms = -1, n = FIXED;
  polled[CONTROL] = (struct pollfd){.fd = builder->control, .events = POLLIN};
  polled[KEEPER] = (struct pollfd){.fd = builder->keeper, .events = POLLIN};
  polled[SIGNALS] = (struct pollfd){.fd = builder->signals, .events = POLLIN};
  for (int i = 0; i < SANDBOXES; i++) {
    const struct sandbox *sandbox = &builder->sandboxes[i];
    if (sandbox->state == DYING && sandbox->pid == 0 && wait_ms != 1) wait_ms = cgroup_dirs_retry_ms(&sandbox->cgroups);
    if (sandbox->state != BUILDING) continue;
    polled[n++] = (struct pollfd){.fd = sandbox->init, .events = POLLIN};
    polled[n++] = (struct pollfd){.fd = sandbox->uplink.ready, .events = POLLIN}; /* -1, if none, is passed over */
  }
  int tries = 0;
  while (poll(polled, (nfds_t)n, wait_ms) < 0)
    if (!retry(&tries)) return -1;
  return 0;
}

/* Descriptors 3 and 4 are inherited: the control socket and a pidfd of the keeper. argv[1]: number of the first
 * sandbox; argv[2] says in a list of processes whose builder this is; argv[3] is there if 5 is a pidfd of the
 * networks' broker. */
int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "launch")) launch_main(argc, argv);
  if (argc > 1 && !strcmp(argv[1], "start")) start_main(argc, argv);
  static struct builder builder = {.control = 3, .keeper = 4};
  if (fcntl(builder.control, F_SETFD, FD_CLOEXEC) < 0 || fcntl(builder.keeper, F_SETFD, FD_CLOEXEC) < 0) {
    fputs("isolate builder: started by pytest_isolate, not by hand\n", stderr);
    return 2;
  }
  builder.last_number = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) - 1 : 0;
  if (argc > 3 && join_broker(5) < 0) return 3;
  close_between(5, ~0U); /* libraries in pytest may open descriptors without close-on-exec */
  if (stand_apart(&builder) < 0) return 2;

  for (;;) {
    struct pollfd polled[FIXED + 2 * SANDBOXES];
    dispatch(&builder);
    if (wait_for_events(&builder, polled) < 0 || polled[KEEPER].revents) shut_down(&builder);
    if (polled[SIGNALS].revents) on_signals(&builder);
    for (int i = 0; i < SANDBOXES; i++) on_sandbox(&builder, &builder.sandboxes[i]);
    if (polled[CONTROL].revents && !on_keeper(&builder)) shut_down(&builder);
  }
}
