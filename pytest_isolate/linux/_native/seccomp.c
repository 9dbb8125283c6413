/* The filter of system calls that a test is under. */
#include "seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000u
#elif defined(__aarch64__)
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#else
#error "pytest-isolate-ns supports x86-64 and aarch64"
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
/* If the loaded value is `value`, go on with the next instruction, else skip it. */
#define WHEN(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1)

/* A denylist, not a jail: what no namespace covers and a test could reach the host or its neighbours by. Arguments
 * are 64 bit in seccomp_data, the low half first on both (little-endian) machines; the kernel itself looks at the
 * low half only for socket families and ioctl requests, so a filter on the whole would be passed by setting high
 * bits (CVE-2019-10063). */
static const struct sock_filter denylist[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE_ARCH, 1, 0),
    REFUSE(ENOSYS), /* 32-bit programs would have other numbers for the same calls */
    LOAD(nr),
#ifdef X32_BIT
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
    REFUSE(ENOSYS),
#endif
    /* keyrings belong to the user, not to a namespace: keyrings(7) */
    WHEN(SYS_keyctl), REFUSE(ENOSYS),
    WHEN(SYS_add_key), REFUSE(ENOSYS),
    WHEN(SYS_request_key), REFUSE(ENOSYS),
    WHEN(SYS_bpf), REFUSE(EPERM),
    WHEN(SYS_perf_event_open), REFUSE(EPERM),
    WHEN(SYS_kexec_load), REFUSE(EPERM),
    WHEN(SYS_kexec_file_load), REFUSE(EPERM),
    /* opens any file of a file system by number: the way out of CVE-2014-3519 */
    WHEN(SYS_open_by_handle_at), REFUSE(EPERM),
    WHEN(SYS_socket), BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0),
    WHEN(SYS_socketpair), BPF_JUMP(BPF_JMP | BPF_JA, 3, 0, 0),
    WHEN(SYS_ioctl), BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    /* socket, socketpair: vsock(7) has no namespace, it talks to the hypervisor */
    LOAD(args[0]),
    WHEN(AF_VSOCK), REFUSE(EAFNOSUPPORT),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    /* ioctl: typing into the terminal that pytest was started from (CVE-2017-5226) */
    LOAD(args[1]),
    WHEN(0x5412 /* TIOCSTI */), REFUSE(EPERM),
    WHEN(0x541C /* TIOCLINUX */), REFUSE(EPERM),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
};

int seccomp_install(void) {
  struct sock_fprog program = {sizeof denylist / sizeof *denylist, (struct sock_filter *)denylist};
  /* Without SPEC_ALLOW kernels before 5.16 switch speculation mitigations on for the process, which slows all of it. */
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0) return 0;
  return errno == EINVAL ? (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) : -1;
}
