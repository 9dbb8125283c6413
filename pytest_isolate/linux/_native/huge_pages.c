/* Gathers the heap of pytest's process in huge pages, so that a fork has less to copy. */
#include "core_api.h"

#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A fork copies, and the child's end frees, 512 page table entries for 2 MB of memory in small pages, and one in a
 * huge page. madvise(2), MADV_COLLAPSE (Linux 6.1): gather what is there in huge pages now, whatever /sys/kernel/mm
 * says. Not MADV_HUGEPAGE, which would let memory that is not there yet come in huge pages, too. */
#define COLLAPSE 25
#define BLOCK (2UL << 20)
#define PAGES (BLOCK / 4096)

/* Blocks of which little is resident, such as thread stacks, would grow. The newest block of the heap is partly filled as
 * a rule, and it is the one that pytest's process writes to most. */
static int quarter_resident(void *block) {
  unsigned char pages[PAGES];
  size_t there = 0, count = BLOCK / (size_t)sysconf(_SC_PAGESIZE);
  if (count > PAGES || mincore(block, BLOCK, pages) < 0) return 0;
  for (size_t i = 0; i < count; i++) there += pages[i] & 1;
  return there >= count / 4;
}

/* Heap and anonymous memory that is this process's own (proc_pid_maps(5)); never the main thread's stack. */
static int is_heap(const char *line, uint64_t *start, uint64_t *end) {
  char permissions[5];
  unsigned long inode;
  int name = 0;
  if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %lu %n", start, end, permissions, &inode, &name) < 4) return 0;
  line += name;
  int anonymous = !*line || !strncmp(line, "[heap]", 6) || !strncmp(line, "[anon:", 6);
  return !strcmp(permissions, "rw-p") && !inode && anonymous;
}

/* Gathers up to `limit` blocks of 2 MB at or after *from, and moves *from behind the last one that it looked at, to
 * 0 after the very last. Returns how many were gathered; *tried is how many it tried. */
long isolate_collapse(uint64_t *from, long limit, long *tried) {
  char line[PATH_MAX + 128];
  long done = 0;
  uint64_t start, end, first = *from;
  FILE *maps = fopen("/proc/self/maps", "re");
  *from = 0;
  *tried = 0;
  while (maps && !*from && fgets(line, sizeof line, maps)) {
    if (!is_heap(line, &start, &end)) continue;
    for (uint64_t at = (start + BLOCK - 1) & ~(BLOCK - 1); at + BLOCK <= end; at += BLOCK) {
      if (at < first || !quarter_resident((void *)at)) continue;
      if (*tried == limit) {
        *from = at;
        break;
      }
      ++*tried;
      done += madvise((void *)at, BLOCK, COLLAPSE) == 0;
    }
  }
  if (maps) fclose(maps);
  return done;
}

/* Lets the heap of malloc(3) grow from where a huge page begins: what is below can be gathered to its end, which is what this process
 * writes to most. And before a fork: what the child's heap grows by is a mapping of its own, as the kernel joins no anonymous memory
 * to what was inherited (mm/vma.c), and a huge page lies within one. malloc(3) expects that others move the break, and what is left
 * out is never touched; but sbrk(3) is for one thread. */
void isolate_align_heap(void) {
  uintptr_t rest = (uintptr_t)sbrk(0) % BLOCK;
  if (!rest || unshare(CLONE_THREAD) < 0) return; /* the latter changes nothing, and is refused where there are several */
  if (sbrk((intptr_t)(BLOCK - rest)) == (void *)-1) return; /* a limit (RLIMIT_DATA): then as it is */
}
