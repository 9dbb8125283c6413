/* PID 1 of a sandbox.
 *
 * It is a plain clone of the builder, never of pytest: a process that shared pytest's memory could be traced from
 * inside, and a small one is cloned in 70 us. It builds the sandbox from within its new namespaces, tells the
 * builder, and from then on only reaps: the kernel gives it every orphan of the sandbox, and kills everything inside
 * when it ends (pid_namespaces(7)). The test itself is PID 2 or later, so that signals without a handler act on it
 * as anywhere else. */
#include "init.h"

#include "files.h"
#include "retry.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void give_up(int builder, struct failure *failure, int32_t op) {
  char message[1 + sizeof *failure];
  failure->op = op;
  message[0] = 'F';
  memcpy(message + 1, failure, sizeof *failure);
  int tries = 0;
  while (send(builder, message, sizeof message, MSG_NOSIGNAL) < 0)
    if (!retry(&tries)) break; /* the builder sees our end */
  _exit(1);
}

static _Noreturn void give_up_at(int builder, const char *call) {
  struct failure failure = {0};
  fail_at(&failure, AT_INIT, call);
  give_up(builder, &failure, AT_INIT);
}

/* The scratch directory is named only while the host's tree is still below /old; a descriptor outlives that, and is
 * all that the keeper needs to list what the test changed. */
static void send_ready(int builder, int scratch) {
  union {
    char space[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {0};
  struct iovec text = {"R", 1};
  struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1};
  if (scratch >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control.space;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &scratch, sizeof(int));
  }
  int tries = 0;
  while (sendmsg(builder, &message, MSG_NOSIGNAL) < 0)
    if (!retry(&tries)) give_up_at(builder, "sendmsg");
}

/* Keeps only the descriptors it works with: one that led to the host's tree would be a way out (CVE-2024-21626). */
static void close_others(int builder, int keeper, int signals, int scratch) {
  int keep[4] = {builder, keeper, signals, scratch};
  for (int i = 0; i < 4; i++)
    for (int k = i + 1; k < 4; k++)
      if (keep[k] < keep[i]) {
        int lower = keep[k];
        keep[k] = keep[i];
        keep[i] = lower;
      }
  unsigned from = 0;
  for (int i = 0; i < 4; i++) {
    if (keep[i] < 0) continue; /* there is no scratch space */
    if ((unsigned)keep[i] > from) close_between(from, (unsigned)keep[i] - 1);
    from = (unsigned)keep[i] + 1;
  }
  close_between(from, ~0U);
}

static _Noreturn void reap_forever(int builder, int keeper, int signals) {
  struct pollfd polled[3] = {
      {.fd = signals, .events = POLLIN},
      {.fd = keeper, .events = POLLIN},   /* readable when pytest has ended, however it did */
      {.fd = builder, .events = POLLIN},  /* hung up when the builder has */
  };
  for (;;) {
    struct signalfd_siginfo ignored;
    int tries = 0;
    while (poll(polled, 3, -1) < 0)
      if (!retry(&tries)) _exit(1); /* the keeper sees the sandbox's end */
    if (polled[1].revents || polled[2].revents) _exit(0);
    /* what it leaves makes poll(2) return again; a child that is missed is found at the next one's end */
    if (polled[0].revents && read(signals, &ignored, sizeof ignored) < 0) retry(&tries);
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
  }
}

_Noreturn void init_main(const struct plan *plan, const char *scratch_dir, int builder, int keeper) {
  struct failure failure = {0};
  struct building building = {.scratch = scratch_dir, .builder = builder, .held = {-1, -1, -1, -1}};
  int scratch = -1;
  sigset_t all;

  /* Set before the first message is read: if the builder died earlier, that read tells (prctl(2): the signal is not
   * sent for a death that came before). Not inheritable, but lost on credential changes, hence once more below. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) give_up_at(builder, "PR_SET_PDEATHSIG");
  prctl(PR_SET_NAME, "isolate-init", 0, 0, 0); /* for lists of processes alone */
  await_builder(builder);
  if (setsid() < 0) give_up_at(builder, "setsid");
  umask(0);
  for (uint32_t i = 0; i < plan->op_count; i++) {
    if (plan_run(&plan->ops[i], &building, &failure) < 0) give_up(builder, &failure, (int32_t)i);
    if (plan->ops[i].step != OP_STAGE) continue;
    scratch = open("/s", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (scratch < 0) give_up_at(builder, "/s");
  }
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) give_up_at(builder, "PR_SET_PDEATHSIG");
  /* As real root, hide /proc/1/{fd,root,mem,...} from the sandbox's root: reading them then takes CAP_SYS_PTRACE in
   * the user namespace that the builder was executed in (ptrace(2), access mode checking). Rootless, setns(2) by
   * pidfd takes the same right, and the keeper has it by its uid alone; there PID 1 holds nothing that leads out:
   * two sockets' ends and a pidfd, which refuses to signal out of the pid namespace (pidfd_send_signal(2), EINVAL). */
  int dumpable = (plan->namespaces & CLONE_NEWUSER) != 0;
  if (prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0) < 0) give_up_at(builder, "PR_SET_DUMPABLE");

  sigfillset(&all);
  if (sigprocmask(SIG_BLOCK, &all, NULL) < 0) give_up_at(builder, "sigprocmask");
  int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals < 0) give_up_at(builder, "signalfd");
  close_others(builder, keeper, signals, scratch); /* first: a test may be here as soon as the builder is told */
  send_ready(builder, scratch);
  close_fd(&scratch);
  reap_forever(builder, keeper, signals);
}
