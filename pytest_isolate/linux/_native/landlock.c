/* The last line where no namespaces can be had: everything readable, only the named trees writable, and from ABI 6
 * on neither signals to processes outside nor connections to their abstract sockets (landlock(7)). */
#include "landlock.h"

#include "core_api.h"
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

int isolate_landlock_version(void) { return (int)syscall(SYS_LANDLOCK_CREATE_RULESET, NULL, 0, 1 /* VERSION */); }

int landlock_install(const char *const *writable, int count) {
  int version = isolate_landlock_version();
  uint64_t handled = 0x1ff2; /* WRITE_FILE, REMOVE_DIR, REMOVE_FILE and MAKE_*: ABI 1 */
  if (version >= 2) handled |= 1 << 13; /* REFER: else no file could be moved between directories, anywhere */
  if (version >= 3) handled |= 1 << 14; /* TRUNCATE */
  struct {
    uint64_t files, ports, scoped;
  } attributes = {.files = handled, .scoped = version >= 6 ? 3 : 0};
  struct {
    uint64_t allowed;
    int32_t parent;
  } __attribute__((packed)) rule;
  size_t size = version >= 6 ? sizeof attributes : sizeof attributes.files; /* a kernel refuses more than it knows */
  int rules = (int)syscall(SYS_LANDLOCK_CREATE_RULESET, &attributes, size, 0);
  if (rules < 0) return -1;
  for (int i = 0; i < count; i++) {
    struct stat st;
    rule.parent = open(writable[i], O_PATH | O_CLOEXEC);
    if (rule.parent < 0) continue; /* nothing there, nothing to allow */
    uint64_t of_files = 2 | (handled & 1 << 14); /* WRITE_FILE, TRUNCATE */
    rule.allowed = fstat(rule.parent, &st) == 0 && S_ISDIR(st.st_mode) ? handled : of_files;
    long bad = syscall(SYS_LANDLOCK_ADD_RULE, rules, 1 /* PATH_BENEATH */, &rule, 0);
    int error = errno;
    close(rule.parent);
    errno = error;
    if (bad) return -1;
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || syscall(SYS_LANDLOCK_RESTRICT_SELF, rules, 0) < 0) return -1;
  close(rules);
  return 0;
}
