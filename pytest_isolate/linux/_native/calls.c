/* Single calls of the kernel, the C library, and ours, that Python 3.10 has no function for. */
#include "core_api.h"
#include "remove_tree.h"
#include "syscalls.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

int isolate_pidfd_open(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

/* For the broker of networks alone (broker.py), which has no other thread: pytest's own namespaces never change. */
int isolate_unshare(uint64_t namespaces) { return unshare((int)namespaces); }

int isolate_setns(int fd, uint64_t namespaces) { return setns(fd, (int)namespaces); }

/* Whether the dynamic linker would take a loaded object for `name`. Not through cffi's dlopen(): the linker gives no
 * reason for a name that it finds a file for but has not loaded (RTLD_NOLOAD), and cffi crashes without one. */
int isolate_library_loaded(const char *name) {
  void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
  if (!handle) return 0;
  dlclose(handle);
  return 1;
}

/* shutil.rmtree() has a descriptor and a level of recursion for each directory within another. */
void isolate_remove_tree(const char *path) { remove_tree(AT_FDCWD, path); }
