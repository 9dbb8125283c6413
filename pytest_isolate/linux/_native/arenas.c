/* Has Python's small objects lie where the kernel can gather them in huge pages (huge_pages.c).
 *
 * Theory of operation. Python gets memory for small objects in arenas of 1 MB, each mapped by itself, wherever there is room: between
 * libraries, and seldom at a multiple of 2 MB. Such an arena can never be part of a huge page, so that after each fork the first write
 * to each of its 256 pages is a page fault in pytest's process; for a huge page it is one. So arenas are cut from blocks of 2 MB here.
 * What an arena needs of memory stays the same, and it is given back as before. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "arenas.h"

#include <dlfcn.h>
#include <stdint.h>
#include <sys/mman.h>

#define BLOCK ((size_t)2 << 20)

/* In every Python since 3.4, but not in the stable ABI (Include/cpython/objimpl.h): weak, as a later one may not have them. */
typedef struct {
  void *ctx;
  void *(*alloc)(void *ctx, size_t size);
  void (*free)(void *ctx, void *arena, size_t size);
} PyObjectArenaAllocator;
extern void PyObject_GetArenaAllocator(PyObjectArenaAllocator *allocator) __attribute__((weak));
extern void PyObject_SetArenaAllocator(PyObjectArenaAllocator *allocator) __attribute__((weak));

static PyObjectArenaAllocator before;
static char *rest, *lowest; /* of the last block: what is not given out yet; where it begins */
static size_t left;

static char *map(char *hint, size_t size) {
  void *memory = mmap(hint, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

static char *align(char *address) { return address + (-(uintptr_t)address & (BLOCK - 1)); }

/* Below the last one, with which the kernel merges it then, or wherever there is room. */
static char *map_block(void) {
  char *memory = map(lowest ? lowest - BLOCK : NULL, BLOCK);
  if (!memory || align(memory) == memory) return memory;
  munmap(memory, BLOCK);
  memory = map(NULL, 2 * BLOCK);
  if (!memory) return NULL;
  char *block = align(memory), *end = block + BLOCK;
  if (block > memory) munmap(memory, (size_t)(block - memory));
  if (memory + 2 * BLOCK > end) munmap(end, (size_t)(memory + 2 * BLOCK - end));
  return block;
}

/* Called with the GIL, as all of Python's own allocation. */
static void *allocate(void *ctx, size_t size) {
  (void)ctx;
  if (left < size) {
    char *block = BLOCK % size ? NULL : map_block();
    if (!block) return before.alloc(before.ctx, size);
    rest = lowest = block;
    left = BLOCK;
  }
  char *arena = rest;
  rest += size;
  left -= size;
  return arena;
}

/* Arenas are freed by Python's own function, which is munmap(2) for any of them. So it has to be Python's own. */
void arenas_align(void) {
  Dl_info found, own;
  if (!PyObject_GetArenaAllocator || !PyObject_SetArenaAllocator) return;
  PyObject_GetArenaAllocator(&before);
  if (!dladdr((void *)before.free, &found) || !dladdr((void *)PyObject_GetArenaAllocator, &own)) return;
  if (found.dli_fbase != own.dli_fbase) return;
  PyObjectArenaAllocator aligned = {before.ctx, allocate, before.free};
  PyObject_SetArenaAllocator(&aligned);
}
