/* Has Python's small objects lie where the kernel can gather them in huge pages (huge_pages.c).
 *
 * Theory of operation. Python gets memory for small objects in arenas of 1 MB, each mapped by itself, wherever there is room: between
 * libraries, and seldom at a multiple of 2 MB. Such an arena can never be part of a huge page, so that after each fork the first write
 * to each of its 256 pages is a page fault in pytest's process; for a huge page it is one. So arenas are cut from blocks of 2 MB here.
 * What an arena needs of memory stays the same, and it is given back as before.
 *
 * From 3.11 on each thread's stack of Python frames comes from here too, in chunks of 16 KB that are mapped and given back each time the
 * depth of calls goes beyond one: thousands of times in a test of hypothesis, by where the stack of frames happens to be. So some are kept. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "arenas.h"

#include <dlfcn.h>
#include <stdint.h>
#include <sys/mman.h>

#define BLOCK ((size_t)2 << 20)
#define SMALLEST ((size_t)256 << 10) /* arena: Python's had this size once */
#define CHUNK ((size_t)16 << 10) /* of frames: DATA_STACK_CHUNK_SIZE in CPython's pystate.c, 3.11 to 3.15 */
#define SPARES 16

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
static void *spare[SPARES]; /* chunks that were given back */
static size_t spares;
static int taken; /* by an interpreter: each may have a GIL of its own (PEP 684) */

/* Whether it is ours now. Nobody waits: a fork may have come while another thread had it, and then nobody lets go. */
static int take(void) { return !__atomic_exchange_n(&taken, 1, __ATOMIC_ACQUIRE); }

static void let_go(void) { __atomic_store_n(&taken, 0, __ATOMIC_RELEASE); }

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

static void *cut(size_t size) {
  if (left < size) {
    char *block = map_block();
    if (!block) return NULL;
    rest = lowest = block;
    left = BLOCK;
  }
  char *arena = rest;
  rest += size;
  left -= size;
  return arena;
}

static void *allocate(void *ctx, size_t size) {
  void *memory = NULL;
  (void)ctx;
  if (take()) {
    if (size == CHUNK && spares)
      memory = spare[--spares];
    else if (size >= SMALLEST && BLOCK % size == 0)
      memory = cut(size);
    let_go();
  }
  return memory ? memory : before.alloc(before.ctx, size);
}

static void give_back(void *ctx, void *memory, size_t size) {
  int kept = 0;
  (void)ctx;
  if (size == CHUNK && take()) {
    if ((kept = spares < SPARES)) spare[spares++] = memory;
    let_go();
  }
  if (!kept) before.free(before.ctx, memory, size);
}

/* What is not kept is freed by Python's own function, munmap(2) for any of them. So it has to be Python's own. */
void arenas_align(void) {
  Dl_info found, own;
  if (!PyObject_GetArenaAllocator || !PyObject_SetArenaAllocator) return;
  PyObject_GetArenaAllocator(&before);
  if (!dladdr((void *)before.free, &found) || !dladdr((void *)PyObject_GetArenaAllocator, &own)) return;
  if (found.dli_fbase != own.dli_fbase) return;
  PyObjectArenaAllocator aligned = {before.ctx, allocate, give_back};
  PyObject_SetArenaAllocator(&aligned);
}
