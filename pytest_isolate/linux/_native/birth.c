/* A child that is born in its control group (clone3(2), CLONE_INTO_CGROUP), though glibc's fork() made it.
 *
 * Who enters a group of v2 by cgroup.procs waits for all forks and ends of processes that are under way anywhere, by a lock
 * whose first taking after a pause costs a grace period of RCU (kernel/cgroup/cgroup.c, cgroup_procs_write_start;
 * kernel/rcu/sync.c): 8 to 16 ms on two cores, for each test that takes longer than that. Who is born there does not. But the
 * fork has to be glibc's, so that its locks and atfork handlers are right (fork.c), and its clone(2) knows no groups. So the
 * helper, which lives for this one fork, has the kernel send it a signal in the place of each system call (Syscall User
 * Dispatch, Documentation/admin-guide/syscall-user-dispatch.rst; Linux 5.11), makes the calls in the handler, and clone3(2) in
 * the place of clone(2). The kernel takes the dispatch from the child by itself.
 *
 * Only on x86-64: elsewhere few kernels can. Whatever fails, or is refused by a filter of system calls, leaves the child to
 * enter by itself, as on v1, where the file `tasks` does without the lock. docs/decisions/born-in-its-group.md */
#include "birth.h"

#ifdef __x86_64__

#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
enum { GROUP_MAGIC = 0x63677270 }; /* CGROUP2_SUPER_MAGIC */
enum { PASS = 0, SEND = 1 };       /* SYSCALL_DISPATCH_FILTER_ALLOW, _BLOCK */
enum { SA_BACK = 0x04000000 };     /* SA_RESTORER */

/* As the kernel has it (rt_sigaction(2)): glibc would put its own way back in, which is a system call like any other. */
struct action {
  void (*handler)(int, siginfo_t *, void *);
  unsigned long flags;
  void (*back)(void);
  uint64_t mask;
};

/* struct clone_args up to where a group has its place (5.7). */
struct birth {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* In memory that pytest, asleep, the helper and, copied, the child have. */
static volatile char mode;
static int file, group; /* that was prepared, -1: none; and its directory */
static volatile int born;
static struct action before;

/* The way back from a signal, known by its place, from which calls are not sent on. The kernel looks behind the call. */
__asm__(
    ".text\n"
    "isolate_birth_back: mov $15, %eax\n" /* SYS_rt_sigreturn */
    "syscall\n"
    "ud2\n"
    "isolate_birth_end:\n");
void isolate_birth_back(void);
extern const char isolate_birth_end[];

static long call(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static int set_action(const struct action *new, struct action *old) {
  return (int)call(SYS_rt_sigaction, SIGSYS, (long)new, (long)old, sizeof before.mask, 0, 0);
}

/* Twice, as fork(2). */
static long give_birth(const greg_t *regs, long number) {
  int plain = number == SYS_fork;
  struct birth birth = {.cgroup = (uint64_t)group, .exit_signal = plain ? SIGCHLD : regs[REG_RDI] & CSIGNAL};
  if (!plain) {
    birth.flags = (uint64_t)regs[REG_RDI] & ~(uint64_t)CSIGNAL;
    birth.parent_tid = (uint64_t)regs[REG_RDX], birth.child_tid = (uint64_t)regs[REG_R10];
  }
  birth.flags |= CLONE_INTO_CGROUP;
  born = 1;
  long result = call(SYS_clone3, (long)&birth, sizeof birth, 0, 0, 0, 0);
  if (result < 0) {
    born = 0;
    result = call(number, regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], regs[REG_R10], regs[REG_R8], regs[REG_R9]);
  }
  if (result == 0) {
    set_action(&before, NULL);
    close(group); /* it leads out of the sandbox */
  }
  return result;
}

/* fork() blocks all signals and asks for those that were blocked. They all are but this one, which would be forced upon us
 * and kill; so it is told that this one was, too. */
static long ask_for_mask(const greg_t *regs, const sigset_t *mask) {
  uint64_t all;
  memcpy(&all, mask, sizeof all);
  all |= 1ULL << (SIGSYS - 1);
  if (regs[REG_RDX]) memcpy((void *)regs[REG_RDX], &all, sizeof all);
  return 0;
}

static int is_fork(const greg_t *regs, long number) {
  return number == SYS_fork || (number == SYS_clone && !(regs[REG_RDI] & CLONE_VM));
}

/* A thread, or a program's start: of a library whose handlers were registered before ours (atfork.c). It would go on, on a
 * stack of its own, in here. */
static int shares_memory(long number) { return number == SYS_clone || number == SYS_clone3 || number == SYS_vfork; }

/* In the place of one system call of the helper's. */
static void on_call(int signal, siginfo_t *info, void *context) {
  ucontext_t *caught = context;
  greg_t *regs = caught->uc_mcontext.gregs;
  long number = info->si_syscall;
  (void)signal;
  mode = PASS;
  if (is_fork(regs, number)) {
    regs[REG_RAX] = give_birth(regs, number);
    return; /* that was it */
  }
  if (shares_memory(number))
    regs[REG_RAX] = -EAGAIN;
  else if (number == SYS_rt_sigprocmask)
    regs[REG_RAX] = ask_for_mask(regs, &caught->uc_sigmask);
  else
    regs[REG_RAX] =
        call(number, regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], regs[REG_R10], regs[REG_R8], regs[REG_R9]);
  mode = SEND;
}

/* The directory of the group that `descriptor` is the file cgroup.procs of; -1 if it is not, or that can't be seen. */
static int open_group(int descriptor) {
  char link[40], path[4200];
  struct statfs system;
  if (fstatfs(descriptor, &system) < 0 || system.f_type != GROUP_MAGIC) return -1;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return -1;
  path[length] = 0;
  char *name = strrchr(path, '/');
  if (!name || strcmp(name, "/cgroup.procs") != 0) return -1;
  *name = 0;
  int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return -1;
  if (fstatfs(directory, &system) == 0 && system.f_type == GROUP_MAGIC) return directory;
  close(directory);
  return -1;
}

void birth_prepare(const int *files, int count) {
  file = group = -1;
  born = 0;
  for (int i = 0; i < count && group < 0; i++)
    if ((group = open_group(files[i])) >= 0) file = files[i];
}

static int block(int how) {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, SIGSYS);
  return sigprocmask(how, &one, NULL); /* the helper's mask alone, which ends after the fork */
}

/* 0 if calls are sent on from now on. */
static int send_calls(void) {
  struct action action = {.handler = on_call, .flags = SA_SIGINFO | SA_BACK, .back = isolate_birth_back};
  unsigned long from = (unsigned long)isolate_birth_back, length = (unsigned long)isolate_birth_end - from;
  mode = PASS;
  if (set_action(&action, &before) < 0) return -1;
  if (block(SIG_UNBLOCK) == 0 && prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, from, length, &mode) == 0) return mode = SEND, 0;
  block(SIG_BLOCK);
  set_action(&before, NULL);
  return -1;
}

void birth_arm(void) {
  if (group < 0 || send_calls() == 0) return;
  close(group); /* else the child would have it */
  group = -1;
}

int birth_file(void) { return born ? file : -1; }

#else

void birth_prepare(const int *files, int count) { (void)files, (void)count; }
void birth_arm(void) {}
int birth_file(void) { return -1; }

#endif
