/* A sandbox's way to the outside (network="nat"): programs that run outside of it and carry its traffic (pasta(1)).
 *
 * Theory of operation. Such a program makes a network interface in a network namespace, and for each connection that
 * comes out of it opens a socket where it runs itself. Run on the host, it opens whatever address the sandbox names,
 * the host's own loopback among them (seen: pasta of 2023 does so for packets to 127.0.0.1, which any program can send
 * that binds its socket to the interface; later ones drop these, but not those to ::ffff:127.0.0.1, which a root inside
 * can write). So there are two, one behind the other:
 *
 *   sandbox <- inner program, in a network namespace with a loopback of its own <- outer program, on the host
 *
 * What is for a loopback ends in that of the middle, where nobody listens. What comes out of the middle are the inner
 * program's sockets, and the kernel puts no loopback address on a wire.
 *
 * Both are in the sandbox's user namespace, to have rights over the network namespaces below it and none anywhere
 * else, and in the host's namespace of processes, where nobody inside can name them. The outer is our child and dies
 * with us; the inner is its child and dies with it. Each reports by the option that has it write its number to a
 * file, the standard output. */
#include "pasta.h"

#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- in the children ------------------------------------------------------------------------------------------- */

struct ends {
  const struct plan *plan;
  int inside;      /* network namespace of the sandbox */
  int ready, log;  /* as in struct uplink, the other ends */
};

static _Noreturn void give_up(const struct ends *ends, const char *doing) {
  dprintf(ends->log, "cannot %s: %s\n", doing, strerror(errno));
  _exit(1);
}

/* Asked of the kernel after all changes of credentials, which forget it (prctl(2)); a parent that has died before
 * counts too. */
static void die_with(const struct ends *ends, pid_t parent) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) give_up(ends, "ask for a signal at the parent's death");
  if (getppid() != parent) _exit(1);
}

static int open_namespace(const struct ends *ends, pid_t pid, const char *kind) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, kind);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) give_up(ends, path);
  return fd;
}

/* The sandbox of a session has no user namespace of its own where pytest is root, and one cannot be joined twice
 * (setns(2)). pasta is root there, as pytest is, and gives up by itself what it does not need. */
static void join_user_namespace(const struct ends *ends, pid_t init) {
  struct stat ours, theirs;
  int user = open_namespace(ends, init, "user");
  if (stat("/proc/self/ns/user", &ours) < 0 || fstat(user, &theirs) < 0) give_up(ends, "look at user namespaces");
  if (ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev) return;
  if (setns(user, CLONE_NEWUSER) < 0) give_up(ends, "join the sandbox's user namespace");
}

/* Without the ambient set, a user that is not root would lose at execve(2) what joining the user namespace gave. */
static void keep_capabilities(const struct ends *ends) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2] = {{0}};
  if (syscall(SYS_capget, &header, data) < 0) give_up(ends, "read the capabilities");
  for (int i = 0; i < 2; i++) data[i].inheritable = data[i].permitted;
  if (syscall(SYS_capset, &header, data) < 0) give_up(ends, "keep the capabilities");
  for (unsigned long cap = 0; cap < 64; cap++)
    if ((data[cap / 32].permitted >> cap % 32 & 1) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
      give_up(ends, "keep the capabilities over execve");
}

/* Forks a process that gets a network namespace of its own, and goes on there, with 0, once this process has
 * connected that: by writing to up[1]. Here, its pid. */
static pid_t fork_behind(const struct ends *ends, int up[2]) {
  int made[2];
  char byte;
  if (pipe2(made, O_CLOEXEC) < 0 || pipe2(up, O_CLOEXEC) < 0) give_up(ends, "make a pipe");
  pid_t self = getpid(), pid = fork();
  if (pid < 0) give_up(ends, "fork");
  if (pid == 0) {
    die_with(ends, self);
    if (unshare(CLONE_NEWNET) < 0) give_up(ends, "make a network namespace");
    if (write(made[1], "", 1) != 1) _exit(1);
    close(up[1]);
    if (read(up[0], &byte, 1) != 1) _exit(1); /* a process that could not connect it has said why */
    close(up[0]);
  } else {
    close(made[1]);
    if (read(made[0], &byte, 1) != 1) _exit(1);
  }
  return pid;
}

/* Each process becomes one of the Plan's programs, to connect the network namespace of the one behind it; the last, the
 * sandbox's. */
static _Noreturn void run(const struct ends *ends) {
  uint32_t at = 0;
  int up[2], target = ends->inside, out = ends->ready;
  pid_t behind = 0;
  while (at + 1 < ends->plan->uplink_count && (behind = fork_behind(ends, up)) == 0) at++;
  if (behind) {
    target = open_namespace(ends, behind, "net");
    out = up[1];
  }
  /* Only the standard descriptors, as later versions of pasta close all others before they look at their options. */
  if (dup2(target, 0) < 0 || dup2(out, 1) < 0 || dup2(ends->log, 2) < 0) give_up(ends, "hand over descriptors");
  char *const *words = (char *const *)ends->plan->uplink[at];
  char *const environment[] = {NULL};
  execve(words[0], words, environment);
  give_up(ends, words[0]);
}

static _Noreturn void start(struct ends *ends, pid_t init, pid_t builder) {
  sigset_t none;
  ends->inside = open_namespace(ends, init, "net");
  join_user_namespace(ends, init);
  /* joining has cleared it, and /proc/PID/ns would be root's (proc(5)) */
  if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0) give_up(ends, "become dumpable");
  keep_capabilities(ends);
  die_with(ends, builder);
  signal(SIGPIPE, SIG_DFL); /* Python ignores it, and pasta of 2023 takes that for an error of its own call */
  sigemptyset(&none);
  if (sigprocmask(SIG_SETMASK, &none, NULL) < 0) give_up(ends, "unblock signals");
  run(ends);
}

/* ---- in the builder --------------------------------------------------------------------------------------------- */

int uplink_start(struct uplink *uplink, const struct plan *plan, pid_t init) {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC | O_NONBLOCK) < 0) return -1;
  /* A file, not a pipe: what they say later on must not make them wait for a reader. */
  int log = (int)syscall(SYS_memfd_create, "isolate-uplink", MFD_CLOEXEC);
  pid_t self = getpid(), pid = log < 0 ? -1 : fork();
  if (pid == 0) {
    struct ends ends = {.plan = plan, .ready = ready[1], .log = log};
    start(&ends, init, self);
  }
  int error = errno;
  close(ready[1]);
  *uplink = (struct uplink){.pid = pid > 0 ? pid : 0, .ready = ready[0], .log = log};
  if (pid > 0) return 0;
  close_fd(&uplink->ready);
  close_fd(&uplink->log);
  errno = error;
  return -1;
}

int uplink_on_report(struct uplink *uplink, struct failure *failure) {
  char number[32];
  struct stat st;
  ssize_t n = read(uplink->ready, number, sizeof number);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (n <= 0) {
    size_t size = sizeof failure->object - 1;
    *failure = (struct failure){.op = AT_UPLINK};
    off_t from = fstat(uplink->log, &st) == 0 && (size_t)st.st_size > size ? st.st_size - (off_t)size : 0;
    if (pread(uplink->log, failure->object, size, from) < 0) *failure->object = 0;
  }
  close_fd(&uplink->ready);
  close_fd(&uplink->log);
  return n > 0 ? 1 : -1;
}

void uplink_kill(struct uplink *uplink) {
  /* an unreaped child: the number cannot have been reused. If it could not be killed, it dies with the builder */
  if (uplink->pid > 0) kill(uplink->pid, SIGKILL);
  close_fd(&uplink->ready);
  close_fd(&uplink->log);
}
