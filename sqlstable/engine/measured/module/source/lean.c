/* The lean build's heap: everything that a small message touches, side by side.
**
** Each 64 KiB region of the heap that a message touches costs as much as a stable one, and for a
** small message that is most of the bill. So the stack's top, SQLite's constants and variables, its
** page cache and its memory are made to lie in four regions:
**
**   the stack is 64 KiB and a little, so that its top shares a region with the constants behind it
**   the page cache has a few fixed slots, here
**   all other memory comes from a small pool, here, by a buddy allocator (SQLite's own memsys5);
**     there is no lookaside memory beside it
**
** This file is linked last, so that the pool ends what is touched. What does not fit into slots and
** pool spills over into the ordinary heap: that is dearer, and fails only where the heap ends.
*/
#include <string.h>

#include "module.h"

#ifdef SQLSTABLE_LEAN

#define BLOCK_BYTES 64
#define BLOCKS 1664 /* 104 KiB */
#define POOL_BYTES (BLOCKS * (BLOCK_BYTES + 1)) /* memsys5 keeps a byte beside each block */
#define SLOTS 8
#define SLOT_BYTES 4264 /* a SQLite page of 4096 bytes and what the cache keeps with it */

static uint8_t slots[SLOTS * SLOT_BYTES] __attribute__((aligned(8)));
static uint8_t pool[POOL_BYTES] __attribute__((aligned(8)));
static sqlite3_mem_methods in_pool, in_heap;

static int is_in_pool(const void *memory) {
  return (uintptr_t)memory - (uintptr_t)pool < POOL_BYTES;
}

static void *lean_malloc(int size) {
  void *memory = in_pool.xMalloc(size);
  return memory ? memory : in_heap.xMalloc(size);
}

static void lean_free(void *memory) {
  (is_in_pool(memory) ? &in_pool : &in_heap)->xFree(memory);
}

static int lean_size(void *memory) {
  return (is_in_pool(memory) ? &in_pool : &in_heap)->xSize(memory);
}

static void *lean_realloc(void *memory, int size) {
  if (!is_in_pool(memory)) return in_heap.xRealloc(memory, size);
  void *moved = in_pool.xRealloc(memory, size);
  if (moved) return moved;
  moved = in_heap.xMalloc(size);
  if (!moved) return NULL;
  int old_size = in_pool.xSize(memory);
  memcpy(moved, memory, (size_t)(old_size < size ? old_size : size));
  in_pool.xFree(memory);
  return moved;
}

/* Rounded for the heap; the pool rounds further up by itself. */
static int lean_round_up(int size) { return in_heap.xRoundup(size); }

static int lean_init(void *context) {
  (void)context;
  int code = in_heap.xInit(in_heap.pAppData);
  return code ? code : in_pool.xInit(in_pool.pAppData);
}

static void lean_shut_down(void *context) {
  (void)context;
  in_pool.xShutdown(in_pool.pAppData);
  in_heap.xShutdown(in_heap.pAppData);
}

static const sqlite3_mem_methods lean_methods = {
    .xMalloc = lean_malloc,
    .xFree = lean_free,
    .xRealloc = lean_realloc,
    .xSize = lean_size,
    .xRoundup = lean_round_up,
    .xInit = lean_init,
    .xShutdown = lean_shut_down,
};

void lean_configure(void) {
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  sqlite3_config(SQLITE_CONFIG_GETMALLOC, &in_heap);
  sqlite3_config(SQLITE_CONFIG_HEAP, pool, POOL_BYTES, BLOCK_BYTES);
  sqlite3_config(SQLITE_CONFIG_GETMALLOC, &in_pool);
  sqlite3_config(SQLITE_CONFIG_MALLOC, &lean_methods);
  sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
  sqlite3_config(SQLITE_CONFIG_PAGECACHE, slots, SLOT_BYTES, SLOTS);
}

#else
void lean_configure(void) {}
#endif
