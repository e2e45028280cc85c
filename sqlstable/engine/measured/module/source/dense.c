/* The heap build's memory: chunks side by side, with boundary tags, as the allocators of Rust's and
** WASI's canisters have it (dlmalloc).
**
** The compiler's own library rounds every allocation up to a power of two, so that a SQLite page of
** 4096 bytes and what the cache keeps with it take 8192, and a database in the heap twice its size.
** That would say more about the compiler than about the heap.
**
**   chunk    u32 bytes of the chunk before, while that is free; u32 bytes of this one, header
**            included, a multiple of 8, with flags in the lowest bits; then what was asked for
**   free     two pointers there: a list for each bin
**   top      what is behind the last chunk; it grows by Wasm pages
*/
#include <string.h>

#include "module.h"

#if defined(SQLSTABLE_HEAP) || defined(SQLSTABLE_LEAN)

#include "lean.h"

#define IN_USE 1u
#define BEFORE_IN_USE 2u
#define FLAGS 7u
#define HEADER_BYTES 8u
#define CHUNK_BYTES_MIN 16u
#define EXACT_BYTES 1024u /* smaller chunks have a bin for each size */
#define EXACT_BINS (EXACT_BYTES / 8)
#define BINS (EXACT_BINS + 22 * 4)
#define TRIES_MAX 16 /* in a bin of many sizes, before the next one is taken */

typedef struct Chunk {
  uint32_t bytes_before;
  uint32_t bytes;
  struct Chunk *next, *last;
} Chunk;

#ifdef SQLSTABLE_LEAN

/* Beside what it hands out, which begins in the pool. */
typedef struct Allocator {
  Chunk *bins[BINS];
  uint32_t filled[(BINS + 31) / 32];
  uint8_t *top, *top_end;
} Allocator;

_Static_assert(sizeof(Allocator) <= LEAN_ALLOCATOR_BYTES, "lean.h leaves too little");

#define ALLOCATOR ((Allocator *)NEAR->allocator)
#define bins (ALLOCATOR->bins)
#define filled (ALLOCATOR->filled)
#define top (ALLOCATOR->top)
#define top_end (ALLOCATOR->top_end)

#else

static Chunk *bins[BINS];
static uint32_t filled[(BINS + 31) / 32];
static uint8_t *top, *top_end;

#endif

static uint32_t bytes_of(const Chunk *chunk) { return chunk->bytes & ~FLAGS; }

static Chunk *behind(Chunk *chunk) { return (Chunk *)((uint8_t *)chunk + bytes_of(chunk)); }

static Chunk *chunk_of(void *memory) { return (Chunk *)((uint8_t *)memory - HEADER_BYTES); }

static void *memory_of(Chunk *chunk) { return (uint8_t *)chunk + HEADER_BYTES; }

static int is_top(const Chunk *chunk) { return (const uint8_t *)chunk == top; }

/* ---- bins ---- */

static uint32_t bin_of(uint32_t bytes) {
  if (bytes < EXACT_BYTES) return bytes / 8;
  uint32_t log = 31 - (uint32_t)__builtin_clz(bytes);
  return EXACT_BINS + (log - 10) * 4 + (bytes >> (log - 2) & 3);
}

static void link(Chunk *chunk) {
  uint32_t bin = bin_of(bytes_of(chunk));
  Chunk *after = behind(chunk);
  chunk->bytes &= ~IN_USE;
  after->bytes_before = bytes_of(chunk);
  after->bytes &= ~BEFORE_IN_USE;
  chunk->last = NULL;
  chunk->next = bins[bin];
  if (chunk->next) chunk->next->last = chunk;
  bins[bin] = chunk;
  filled[bin / 32] |= 1u << bin % 32;
}

static void unlink(Chunk *chunk) {
  uint32_t bin = bin_of(bytes_of(chunk));
  if (chunk->next) chunk->next->last = chunk->last;
  if (chunk->last) {
    chunk->last->next = chunk->next;
  } else {
    bins[bin] = chunk->next;
    if (!bins[bin]) filled[bin / 32] &= ~(1u << bin % 32);
  }
}

static Chunk *find(uint32_t bytes) {
  uint32_t bin = bin_of(bytes);
  int tries = 0;
  for (Chunk *chunk = bins[bin]; chunk && tries < TRIES_MAX; chunk = chunk->next, tries++) {
    if (bytes_of(chunk) >= bytes) return chunk;
  }
  /* Whatever lies in a later bin is large enough. */
  for (uint32_t word = ++bin / 32; word < sizeof filled / sizeof *filled; word++) {
    uint32_t bits = filled[word];
    if (word == bin / 32) bits &= ~0u << bin % 32;
    if (bits) return bins[word * 32 + (uint32_t)__builtin_ctz(bits)];
  }
  return NULL;
}

/* ---- top ---- */

/* Makes the top so large; 0 where the heap ends. */
static int grow_top(uint32_t bytes) {
  /* Eight bytes at the very end stay a chunk that is never free. */
  uint64_t missing = (uint64_t)bytes + HEADER_BYTES - (uint64_t)(top_end - top);
  uint32_t wasm_pages = (uint32_t)((missing + WASM_PAGE_BYTES - 1) / WASM_PAGE_BYTES);
  uint32_t have = (uint32_t)__builtin_wasm_memory_size(0);
  /* The last Wasm page is left alone: behind it addresses begin again. */
  if ((uint64_t)have + wasm_pages >= 65536) return 0;
  if (__builtin_wasm_memory_grow(0, wasm_pages) == (size_t)-1) return 0;
  uint8_t *start = (uint8_t *)(uintptr_t)(have * WASM_PAGE_BYTES);
  uint8_t *end = start + wasm_pages * WASM_PAGE_BYTES - HEADER_BYTES;
  if (top_end && start == top_end + HEADER_BYTES) {
    top_end = end;
  } else {
    /* Somebody else has grown the heap: what is left goes to a bin, or is lost if it is tiny. */
    if (top_end) {
      Chunk *rest = (Chunk *)top;
      uint32_t left = (uint32_t)(top_end - top);
      ((Chunk *)top_end)->bytes = HEADER_BYTES | IN_USE | BEFORE_IN_USE;
      rest->bytes = left | IN_USE | BEFORE_IN_USE;
      if (left >= CHUNK_BYTES_MIN) link(rest);
    }
    top = start;
    top_end = end;
    if ((uint32_t)(top_end - top) < bytes) return grow_top(bytes);
  }
  return 1;
}

static Chunk *take_from_top(uint32_t bytes) {
  if ((uint32_t)(top_end - top) < bytes && !grow_top(bytes)) return NULL;
  Chunk *chunk = (Chunk *)top;
  chunk->bytes = bytes | IN_USE | BEFORE_IN_USE;
  top += bytes;
  return chunk;
}

/* ---- what SQLite calls ---- */

/* Cuts what is too much off a chunk in use. */
static void trim(Chunk *chunk, uint32_t bytes) {
  uint32_t rest_bytes = bytes_of(chunk) - bytes;
  if (rest_bytes < CHUNK_BYTES_MIN) return;
  chunk->bytes = bytes | (chunk->bytes & FLAGS);
  Chunk *rest = behind(chunk);
  rest->bytes = rest_bytes | BEFORE_IN_USE;
  link(rest);
}

static uint32_t bytes_for(int size) {
  uint32_t bytes = ((uint32_t)size + HEADER_BYTES + 7) & ~7u;
  return bytes < CHUNK_BYTES_MIN ? CHUNK_BYTES_MIN : bytes;
}

static void *dense_malloc(int size) {
  uint32_t bytes = bytes_for(size);
  Chunk *chunk = find(bytes);
  if (chunk) {
    unlink(chunk);
    chunk->bytes |= IN_USE;
    behind(chunk)->bytes |= BEFORE_IN_USE;
    trim(chunk, bytes);
  } else {
    chunk = take_from_top(bytes);
  }
  return chunk ? memory_of(chunk) : NULL;
}

static void dense_free(void *memory) {
  if (!memory) return;
  Chunk *chunk = chunk_of(memory);
  uint32_t bytes = bytes_of(chunk);
  Chunk *after = behind(chunk);
  if (!(chunk->bytes & BEFORE_IN_USE)) {
    chunk = (Chunk *)((uint8_t *)chunk - chunk->bytes_before);
    unlink(chunk);
    bytes += bytes_of(chunk);
  }
  if (is_top(after)) {
    top = (uint8_t *)chunk;
    return;
  }
  if (!(after->bytes & IN_USE)) {
    unlink(after);
    bytes += bytes_of(after);
  }
  /* What lies before a free chunk is in use, or it would be part of it. */
  chunk->bytes = bytes | BEFORE_IN_USE;
  link(chunk);
}

static int dense_size(void *memory) {
  return memory ? (int)(bytes_of(chunk_of(memory)) - HEADER_BYTES) : 0;
}

static void *dense_realloc(void *memory, int size) {
  Chunk *chunk = chunk_of(memory);
  uint32_t bytes = bytes_for(size), have = bytes_of(chunk);
  Chunk *after = behind(chunk);
  if (bytes <= have) return memory;
  if (is_top(after)) {
    uint32_t more = bytes - have;
    if (((uint32_t)(top_end - top) >= more || grow_top(more)) && is_top(after)) {
      top += more;
      chunk->bytes += more;
      return memory;
    }
  } else if (!(after->bytes & IN_USE) && have + bytes_of(after) >= bytes) {
    unlink(after);
    chunk->bytes += bytes_of(after);
    behind(chunk)->bytes |= BEFORE_IN_USE;
    trim(chunk, bytes);
    return memory;
  }
  void *moved = dense_malloc(size);
  if (!moved) return NULL;
  memcpy(moved, memory, have - HEADER_BYTES);
  dense_free(memory);
  return moved;
}

static int dense_round_up(int size) { return (size + 7) & ~7; }

static int dense_init(void *context) {
  (void)context;
  return SQLITE_OK;
}

static void dense_shut_down(void *context) { (void)context; }

static const sqlite3_mem_methods dense_methods = {
    .xMalloc = dense_malloc,
    .xFree = dense_free,
    .xRealloc = dense_realloc,
    .xSize = dense_size,
    .xRoundup = dense_round_up,
    .xInit = dense_init,
    .xShutdown = dense_shut_down,
};

void dense_configure(void) {
#ifdef SQLSTABLE_LEAN
  top = NEAR->pool;
  top_end = __global_base - HEADER_BYTES;
#endif
  sqlite3_config(SQLITE_CONFIG_MALLOC, &dense_methods);
}

#endif
