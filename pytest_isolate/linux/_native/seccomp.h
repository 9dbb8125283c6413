#ifndef ISOLATE_SECCOMP_H
#define ISOLATE_SECCOMP_H

/* Puts the calling process under the filter, for good. 0, or -1 with errno. It must have no_new_privs, or
 * CAP_SYS_ADMIN. */
int seccomp_install(void);

#endif
