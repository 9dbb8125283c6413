/* Has forks copy the page tables of what each child runs first: the text of the interpreter and of libc.
 *
 * A fork copies page tables of memory that its process has written to. What is only mapped from a file it leaves to the child's page
 * faults (vma_needs_copy() in mm/memory.c): an empty test takes some sixty there, as each maps 64 kB. But where one page of a mapping
 * is the process's own, the fork copies the tables of all of it. So one byte of each is written over itself, by /proc/self/mem,
 * which may write where the process may not, as debuggers do (proc_pid_mem(5)). Where it may not, all stays as it is. */
#include <Python.h>

#include "core_api.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* In the stable ABI since 3.7, but not declared under cffi's Py_LIMITED_API. */
extern void PyOS_AfterFork_Child(void);

enum { ID = 48 }; /* device and inode, as text */

struct mapping {
  uint64_t start, end;
  char permissions[5], file[ID];
};

/* The next one of a file (proc_pid_maps(5)). */
static int next_mapping(FILE *maps, struct mapping *mapping) {
  char line[PATH_MAX + 128], device[24], inode[24];
  while (fgets(line, sizeof line, maps)) {
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %23s %23s", &mapping->start, &mapping->end, mapping->permissions, device,
               inode) < 5 ||
        !strcmp(inode, "0"))
      continue;
    snprintf(mapping->file, sizeof mapping->file, "%s %s", device, inode);
    return 1;
  }
  return 0;
}

/* The file that a function was loaded from; an empty string where there is none. */
static void find_file(FILE *maps, uintptr_t function, char file[ID]) {
  struct mapping mapping;
  *file = 0;
  rewind(maps);
  while (!*file && next_mapping(maps, &mapping))
    if (mapping.start <= function && function < mapping.end) memcpy(file, mapping.file, ID);
}

static int is_text(const struct mapping *mapping) {
  return !strcmp(mapping->permissions, "r-xp") || !strcmp(mapping->permissions, "r--p"); /* the latter has its constants */
}

static int own_a_page(int memory, uint64_t at) {
  char byte = *(const volatile char *)(uintptr_t)at;
  return pwrite(memory, &byte, 1, (off_t)at) == 1;
}

/* Returns of how many mappings forks copy the page tables from now on. */
long isolate_inherit_text(void) {
  const uintptr_t functions[] = {(uintptr_t)PyOS_AfterFork_Child, (uintptr_t)fork};
  char files[2][ID];
  struct mapping mapping;
  long done = 0;
  FILE *maps = fopen("/proc/self/maps", "re");
  int memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  if (maps && memory >= 0) {
    for (int i = 0; i < 2; i++) find_file(maps, functions[i], files[i]);
    rewind(maps);
    while (next_mapping(maps, &mapping))
      if (is_text(&mapping) && (!strcmp(mapping.file, files[0]) || !strcmp(mapping.file, files[1])))
        done += own_a_page(memory, mapping.start);
  }
  if (maps) fclose(maps);
  if (memory >= 0) close(memory);
  return done;
}
