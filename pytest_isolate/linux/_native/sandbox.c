/* Builds one sandbox and takes it down: its cgroups, its PID 1 with namespaces and id maps, its scratch directory.
 * Nothing here waits: what takes time is done by PID 1 (init.c) and pasta (pasta.c), which report through
 * descriptors that main() polls. */
#include "sandbox.h"

#include "files.h"
#include "init.h"
#include "remove_tree.h"
#include "retry.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- building ------------------------------------------------------------------------------------------------- */

/* clone3(2) takes CLONE_NEWTIME, which clone(2) has no room for; where seccomp profiles answer ENOSYS to clone3, the
 * older call serves Plans that do without it. No CLONE_VM: the child is a copy, as after fork(2). */
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

/* user_namespaces(7): setgroups must be denied before an unprivileged process may write a gid map; a privileged one
 * leaves it. */
static int write_maps(const struct sandbox *sandbox, struct failure *failure) {
  char path[64];
  if (!*sandbox->plan->uid_map) return 0;
  snprintf(path, sizeof path, "/proc/%d/setgroups", sandbox->pid);
  int done = geteuid() == 0 || write_file(AT_FDCWD, path, "deny") == 0 || errno == ENOENT;
  snprintf(path, sizeof path, "/proc/%d/uid_map", sandbox->pid);
  done = done && write_file(AT_FDCWD, path, sandbox->plan->uid_map) == 0;
  snprintf(path, sizeof path, "/proc/%d/gid_map", sandbox->pid);
  done = done && write_file(AT_FDCWD, path, sandbox->plan->gid_map) == 0;
  return done ? 0 : fail_at(failure, AT_MAPS, path);
}

static int make_scratch(struct sandbox *sandbox, struct failure *failure) {
  if (!*sandbox->plan->scratch) return 0;
  snprintf(sandbox->directory, sizeof sandbox->directory, "%s/t%u", sandbox->plan->scratch, sandbox->number);
  if (mkdir(sandbox->directory, 0700) == 0) return 0;
  fail_at(failure, AT_SCRATCH, sandbox->directory);
  *sandbox->directory = 0;
  return -1;
}

static int start_init(struct sandbox *sandbox, int keeper, struct failure *failure) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return fail_at(failure, AT_CLONE, "socketpair");
  sandbox->init = pair[0];
  sandbox->pid = clone_init(sandbox->plan->namespaces, &sandbox->pidfd);
  if (sandbox->pid == 0) {
    close_fd(&pair[0]); /* else it would itself keep open what tells it of our end, and wait for ever */
    init_main(sandbox->plan, sandbox->directory, pair[1], keeper);
  }
  close_fd(&pair[1]);
  if (sandbox->pid > 0) return 0;
  sandbox->pid = 0;
  return fail_at(failure, AT_CLONE, "");
}

/* What PID 1 waits for: before its first operation, and once it is in a user namespace that it made itself. */
static int let_go_on(const struct sandbox *sandbox, struct failure *failure) {
  int tries = 0;
  while (send(sandbox->init, "G", 1, MSG_NOSIGNAL) < 0)
    if (!retry(&tries)) return fail_at(failure, AT_INIT, "(it cannot be told to go on)");
  return 0;
}

int sandbox_build(struct sandbox *sandbox, const struct plan *plan, int keeper, struct failure *failure) {
  uint32_t number = sandbox->number, plan_number = sandbox->plan_number;
  *sandbox = (struct sandbox){.state = BUILDING, .number = number, .plan_number = plan_number, .plan = plan};
  sandbox->pidfd = sandbox->init = sandbox->scratch = -1;
  sandbox->uplink.ready = sandbox->uplink.log = -1;
  if (cgroup_dirs_make(&sandbox->cgroups, plan, number, failure) == 0 && make_scratch(sandbox, failure) == 0 &&
      start_init(sandbox, keeper, failure) == 0 &&
      (!(plan->namespaces & CLONE_NEWUSER) || write_maps(sandbox, failure) == 0) && let_go_on(sandbox, failure) == 0)
    return 0;
  sandbox_destroy(sandbox);
  sandbox_teardown(sandbox);
  return -1;
}

/* ---- reports --------------------------------------------------------------------------------------------------- */

/* The last step of building, as it takes the finished namespaces. */
static int connect_outside(struct sandbox *sandbox, struct failure *failure) {
  if (!sandbox->plan->uplink_count)
    sandbox->state = READY;
  else if (uplink_start(&sandbox->uplink, sandbox->plan, sandbox->pid) < 0)
    return fail_at(failure, AT_UPLINK, strerror(errno));
  return 0;
}

static int on_init(struct sandbox *sandbox, struct failure *failure) {
  char text[1 + sizeof(struct failure)];
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct iovec part = {text, sizeof text};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.space};
  ssize_t n = recvmsg(sandbox->init, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (n < 0) return fail_at(failure, AT_INIT, "(its report cannot be read)");
  if (n == 0) { /* somebody has killed it */
    *failure = (struct failure){.op = AT_INIT, .error = ESRCH};
    return -1;
  }
  if (text[0] == 'F' && n == (ssize_t)sizeof text) {
    memcpy(failure, text + 1, sizeof *failure);
    return -1;
  }
  if (text[0] == 'M') return write_maps(sandbox, failure) == 0 ? let_go_on(sandbox, failure) : -1;
  if (text[0] != 'R') return 0;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_type == SCM_RIGHTS) memcpy(&sandbox->scratch, CMSG_DATA(header), sizeof(int));
  if (message.msg_flags & MSG_CTRUNC) {
    errno = EMFILE;
    return fail_at(failure, AT_INIT, "(no room for its descriptor)");
  }
  return connect_outside(sandbox, failure);
}

int sandbox_advance(struct sandbox *sandbox, struct failure *failure) {
  if (on_init(sandbox, failure) < 0) return -1;
  if (sandbox->uplink.ready < 0) return 0;
  int stands = uplink_on_report(&sandbox->uplink, failure);
  if (stands > 0) sandbox->state = READY;
  return stands < 0 ? -1 : 0;
}

int sandbox_hand_over(struct sandbox *sandbox, int control, void *reply, size_t size) {
  int fds[2 + CGROUPS], count = 0;
  union {
    char space[CMSG_SPACE(sizeof fds)];
    struct cmsghdr align;
  } rights = {0};
  struct iovec part = {reply, size};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &rights};

  fds[count++] = sandbox->pidfd;
  if (sandbox->scratch >= 0) fds[count++] = sandbox->scratch;
  for (uint32_t i = 0; i < sandbox->plan->cgroup_count; i++) fds[count++] = sandbox->cgroups.attach[i];
  message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
  memcpy(CMSG_DATA(header), fds, (size_t)count * sizeof(int));
  if (sendmsg(control, &message, MSG_NOSIGNAL) < 0) return -1;
  cgroup_dirs_close(&sandbox->cgroups);
  close_fd(&sandbox->scratch);
  sandbox->state = OUT;
  return 0;
}

/* ---- the end --------------------------------------------------------------------------------------------------- */

int sandbox_on_exit(struct sandbox *sandbox, pid_t pid) {
  if (sandbox->state == FREE || (sandbox->pid != pid && sandbox->uplink.pid != pid)) return 0;
  if (sandbox->pid == pid)
    sandbox->pid = 0;
  else
    sandbox->uplink.pid = 0;
  if (sandbox->state == READY) sandbox_destroy(sandbox); /* died while it waited: nobody has seen it yet */
  /* BUILDING: its socket tells; OUT: the keeper sees the pidfd and gives it back */
  return 1;
}

void sandbox_destroy(struct sandbox *sandbox) {
  /* our unreaped child: the number cannot have been reused. If it could not be killed, it still ends when `init` is
   * closed */
  if (sandbox->pid > 0) kill(sandbox->pid, SIGKILL);
  cgroup_dirs_close(&sandbox->cgroups);
  close_fd(&sandbox->init);
  close_fd(&sandbox->scratch);
  close_fd(&sandbox->pidfd);
  uplink_kill(&sandbox->uplink);
  sandbox->state = DYING;
}

void sandbox_teardown(struct sandbox *sandbox) {
  if (sandbox->pid > 0 || sandbox->uplink.pid > 0 || cgroup_dirs_remove(&sandbox->cgroups) < 0) return;
  if (*sandbox->directory) remove_tree(AT_FDCWD, sandbox->directory);
  *sandbox->directory = 0;
  sandbox->state = FREE;
}
