/* The builder program's other task: starts one program in a sandbox, and stands for it outside.
 *
 *   builder launch STATUS PIDFD WORDS... -- PROGRAM ARGUMENTS...
 *
 * It is what session/node.py gives to subprocess.Popen, so pipes, environment, time-outs and the rest are Python's own.
 * As a process cannot enter a pid namespace itself, it joins the others and forks; the child is restricted like a
 * test's (enter.c) and becomes PROGRAM. This process hands on signals and ends with the same status or signal; the
 * child dies with it.
 *
 * STATUS: descriptor of a pipe, which gets the step that failed and errno, two ints, or nothing if PROGRAM was
 * started. PIDFD: PID 1 of the sandbox. WORDS, all optional: "join=N", "time=N", "unshare=N", "caps=N", "keep",
 * "nnp", "seccomp", "cwd=PATH", "attach=FD" (repeated), "core=N" (repeated), "rlimit=RESOURCE:VALUE" (repeated); see
 * struct isolate_entry. "terminal": standard input becomes PROGRAM's controlling terminal. "group": signals are for
 * all of PROGRAM's process group, as if they came from a terminal. */
#include "launch.h"

#include "enter.h"
#include "files.h"
#include "retry.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 256, ENTER_EXEC = 100 };

static _Noreturn void give_up(int status, int step) {
  int report[2] = {step, errno};
  if (write(status, report, sizeof report) < 0) _exit(126);
  _exit(127);
}

/* The value of `word` if its name is `name`, which ends in '='. */
static const char *value_of(const char *word, const char *name) {
  size_t length = strlen(name);
  return strncmp(word, name, length) ? NULL : word + length;
}

static void read_word(const char *word, struct isolate_entry *entry, int *attach, int *cores, uint64_t *rlimits,
                      int status) {
  const char *value;
  char *colon;
  if ((value = value_of(word, "join="))) entry->join = strtoull(value, NULL, 10);
  if ((value = value_of(word, "time="))) entry->join_late = strtoull(value, NULL, 10);
  if ((value = value_of(word, "unshare="))) entry->unshare_late = strtoull(value, NULL, 10);
  if ((value = value_of(word, "caps="))) entry->capabilities = strtoull(value, NULL, 10);
  if ((value = value_of(word, "cwd="))) entry->cwd = value;
  if ((value = value_of(word, "attach=")) && entry->attach_count < MANY) {
    int fd = atoi(value);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) give_up(status, ENTER_CGROUP); /* it would lead out of the cgroup */
    attach[entry->attach_count++] = fd;
  }
  if ((value = value_of(word, "core=")) && entry->core_count < MANY) cores[entry->core_count++] = atoi(value);
  if ((value = value_of(word, "rlimit=")) && entry->rlimit_count < MANY) {
    rlimits[2 * entry->rlimit_count] = strtoull(value, &colon, 10);
    rlimits[2 * entry->rlimit_count++ + 1] = strtoull(colon + (*colon == ':'), NULL, 10);
  }
  if (!strcmp(word, "keep")) entry->keep_credentials = 1;
  if (!strcmp(word, "nnp")) entry->no_new_privs = 1;
  if (!strcmp(word, "seccomp")) entry->seccomp = 1;
}

static _Noreturn void become(const struct isolate_entry *entry, int terminal, char **program, const sigset_t *before,
                             int status) {
  /* Until PROGRAM is executed, /proc/PID/exe is this file of the host's, which nobody inside may get hold of
   * (CVE-2019-5736); execve(2) makes the process dumpable again. */
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) give_up(status, ENTER_DUMPABLE);
  int step = isolate_enter(entry, -1);
  if (step) give_up(status, step);
  if (terminal && ioctl(0, TIOCSCTTY, 0) < 0) give_up(status, ENTER_TERMINAL); /* for the leader of a session only */
  /* last: a change of credentials clears it (prctl(2)) */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) give_up(status, ENTER_DEATHSIG);
  if (sigprocmask(SIG_SETMASK, before, NULL) < 0) give_up(status, ENTER_SIGNALS);
  execvp(*program, program);
  give_up(status, ENTER_EXEC);
}

/* Hands on what it is sent to `to`, the child or its group, and ends like the child. The last two real-time signals stand
 * for those that it would not live to hand on, SIGKILL and SIGSTOP (forker.HANDED_ON). */
static _Noreturn void stand_for(pid_t child, pid_t to, const sigset_t *all) {
  int how = 0, tries = 0, signal_number;
  pid_t ended;
  while ((ended = waitpid(child, &how, WNOHANG)) <= 0) {
    if (ended < 0 && retry(&tries)) continue;
    if (ended < 0) {
      kill(child, SIGKILL); /* never ECHILD: nobody else waits for it */
      _exit(126);
    }
    signal_number = sigwaitinfo(all, NULL);
    if (signal_number == SIGRTMAX) signal_number = SIGKILL;
    if (signal_number == SIGRTMAX - 1) signal_number = SIGSTOP;
    if (signal_number <= 0 || signal_number == SIGCHLD) continue;
    /* unreaped: its number is its own. It has no group before it has a session */
    if (kill(to, signal_number) < 0 && errno == ESRCH) kill(child, signal_number);
  }
  if (WIFEXITED(how)) _exit(WEXITSTATUS(how));
  struct rlimit none = {0, 0}; /* the core, if any, was the child's */
  sigset_t open;
  setrlimit(RLIMIT_CORE, &none);
  signal(WTERMSIG(how), SIG_DFL);
  sigemptyset(&open);
  kill(getpid(), WTERMSIG(how));
  sigprocmask(SIG_SETMASK, &open, NULL);
  _exit(128 + WTERMSIG(how));
}

_Noreturn void launch_main(int argc, char **argv) {
  static int attach[MANY], cores[MANY];
  static uint64_t rlimits[2 * MANY];
  struct isolate_entry entry = {.attach = attach, .cores = cores, .rlimits = rlimits, .landlock_count = -1, .cwd = ""};
  sigset_t all, before;
  int at = 4, terminal = 0, group = 0;
  if (argc < 4) _exit(2);
  int status = atoi(argv[2]);
  entry.init_pidfd = atoi(argv[3]);
  for (; at < argc && strcmp(argv[at], "--"); at++) {
    terminal |= !strcmp(argv[at], "terminal");
    group |= !strcmp(argv[at], "group");
    read_word(argv[at], &entry, attach, cores, rlimits, status);
  }
  if (at + 1 >= argc) _exit(2);
  if (fcntl(status, F_SETFD, FD_CLOEXEC) < 0 || fcntl(entry.init_pidfd, F_SETFD, FD_CLOEXEC) < 0)
    give_up(status, ENTER_SETNS);
  sigfillset(&all);
  if (sigprocmask(SIG_BLOCK, &all, &before) < 0) give_up(status, ENTER_SIGNALS);
  if (setns(entry.init_pidfd, (int)entry.join) < 0) give_up(status, ENTER_SETNS);
  sighandler_t of_children = signal(SIGCHLD, SIG_DFL); /* ignored, it would lose us how the program ends */
  pid_t child = fork();
  if (child < 0) give_up(status, ENTER_FORK);
  if (child == 0) signal(SIGCHLD, of_children);
  if (child == 0) become(&entry, terminal, argv + at + 1, &before, status);
  close_between(0, ~0U); /* a pipe ends when all of its writers have, and this is none */
  stand_for(child, group ? -child : child, &all);
}
