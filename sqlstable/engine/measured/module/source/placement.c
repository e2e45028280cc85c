/* Where the bytes of the database file lie in stable memory.
**
** Two layouts, byte for byte those of the native engine:
**
**   managed  a memory manager of ic-stable-structures, layout version 1; the database is virtual
**            memory 120, further files have memories of their own (files.c), and all others are
**            left alone
**   raw      the database begins at address 0, or further on where something is in front of it
**
** The manager's calls on stable memory are the crate's (dfinity/stable-structures
** src/memory_manager.rs, v0.7.2) in the crate's order, as in sqlstable/memory/manager.py, because
** calls are paid for too. What header and bucket table say is kept here and changes only after the
** last call of a growth: a trap rolls the heap back anyway.
*/
#include <string.h>

#include "module.h"

#define DATABASE_MEMORY_ID 120
#define MEMORIES_MAX 255
#define BUCKETS_MAX 32768
#define NO_OWNER 255
#define HEADER_BYTES 2080
#define BUCKETS_OFFSET_BYTES 65536u
#define LOOKALIKE_BUCKET_WASM_PAGES 0x8000 /* the bytes of a big-endian 128 */

typedef struct Header {
  char magic[3];
  uint8_t version;
  uint16_t allocated_buckets;
  uint16_t bucket_wasm_pages;
  uint8_t reserved[32];
  uint64_t sizes_wasm_pages[MEMORIES_MAX];
} Header;

_Static_assert(sizeof(Header) == HEADER_BYTES, "the header's fields are packed by nature");

int has_memories;

static uint32_t layout, growth;

/* Of layout raw. */
static uint64_t stable_wasm_pages;

/* Of layout managed. */
static Header header;
static uint64_t bucket_bytes;
static uint16_t *buckets;     /* of the database, in the order of its bytes; NULL if contiguous */
static uint32_t bucket_count; /* of the database */
static uint32_t buckets_room; /* entries that `buckets` has room for */
static uint64_t origin;       /* address of offset 0; of all others while contiguous */

/* The buckets of a memory of a further file. */
typedef struct Extent {
  uint16_t *buckets;
  uint32_t count, room;
} Extent;

static Extent *further; /* by memory id; in the heap once a memory behind the database's has any */

static uint64_t wasm_pages_needed(uint64_t size_bytes) {
  return (size_bytes + WASM_PAGE_BYTES - 1) / WASM_PAGE_BYTES;
}

static uint64_t bucket_address(uint32_t bucket) {
  return BUCKETS_OFFSET_BYTES + bucket * bucket_bytes;
}

static uint64_t buckets_needed(uint64_t wasm_pages) {
  return (wasm_pages + header.bucket_wasm_pages - 1) / header.bucket_wasm_pages;
}

/* ---- the buckets of the database ---- */

static void make_buckets_listed(uint32_t room) {
  uint16_t *list = allocate((uint64_t)room * sizeof *list, "the list of buckets");
  uint32_t first = (uint32_t)((origin - BUCKETS_OFFSET_BYTES) / bucket_bytes);
  for (uint32_t i = 0; i < bucket_count; i++) {
    list[i] = buckets ? buckets[i] : (uint16_t)(first + i);
  }
  sqlite3_free(buckets);
  buckets = list;
  buckets_room = room;
}

static void add_bucket(uint32_t bucket) {
  if (bucket_count == 0) {
    origin = bucket_address(bucket);
  } else if (buckets || bucket_address(bucket) != origin + bucket_count * bucket_bytes) {
    /* Another memory's bucket lies in between: from now on each address is looked up. */
    if (bucket_count >= buckets_room) make_buckets_listed(2 * bucket_count + 14);
    buckets[bucket_count] = (uint16_t)bucket;
  }
  bucket_count++;
}

/* ---- the buckets of further files ---- */

static void add_further_bucket(uint32_t id, uint32_t bucket) {
  if (!further) {
    further = allocate(MEMORIES_MAX * sizeof *further, "the buckets of further files");
    memset(further, 0, MEMORIES_MAX * sizeof *further);
  }
  Extent *extent = &further[id];
  if (extent->count == extent->room) {
    uint32_t room = 2 * extent->room + 14;
    uint16_t *list = allocate(room * sizeof *list, "the list of buckets");
    if (extent->count) memcpy(list, extent->buckets, extent->count * sizeof *list);
    sqlite3_free(extent->buckets);
    extent->buckets = list;
    extent->room = room;
  }
  extent->buckets[extent->count++] = (uint16_t)bucket;
}

static void forget_buckets(void) {
  sqlite3_free(buckets);
  buckets = NULL;
  bucket_count = buckets_room = 0;
  bucket_bytes = (uint64_t)header.bucket_wasm_pages * WASM_PAGE_BYTES;
}

/* ---- writing the manager's tables ---- */

/* Writes after growing by what is missing: the crate's way of writing its own tables. */
static void growing_write(uint64_t offset, const void *data, uint32_t length) {
  uint64_t have = stable64_size();
  uint64_t needed = wasm_pages_needed(offset + length);
  if (needed > have && stable64_grow(needed - have) == UINT64_MAX) {
    trap_with("grow failed: the memory manager's own %u bytes at byte %llu need %llu Wasm pages "
              "more than the %llu that the memory has; raise its limit",
              length, offset, needed - have, have);
  }
  stable64_write(offset, (uintptr_t)data, length);
}

static void format(uint32_t bucket_wasm_pages) {
  memset(&header, 0, sizeof header);
  memcpy(header.magic, "MGR", 3);
  header.version = 1;
  header.bucket_wasm_pages = (uint16_t)bucket_wasm_pages;
  growing_write(0, &header, HEADER_BYTES);
  uint8_t *table = allocate(BUCKETS_MAX, "the bucket table");
  memset(table, NO_OWNER, BUCKETS_MAX);
  growing_write(HEADER_BYTES, table, BUCKETS_MAX);
  sqlite3_free(table);
  forget_buckets();
}

static void make_room(uint32_t id, uint32_t allocated) {
  uint64_t required = 1 + (uint64_t)allocated * header.bucket_wasm_pages;
  if (required <= stable64_size()) return;
  /* The crate asks a second time. */
  uint64_t have = stable64_size();
  if (stable64_grow(required - have) == UINT64_MAX) {
    trap_with("MemoryId(%u): grow failed: %u buckets of %u Wasm pages need %llu Wasm pages, and "
              "the memory below has %llu and cannot grow so far; raise its limit, take smaller "
              "buckets, or store less",
              id, allocated, header.bucket_wasm_pages, required, have);
  }
}

static int grow_managed(uint32_t id, uint64_t wasm_pages) {
  uint64_t before = header.sizes_wasm_pages[id];
  uint32_t first = header.allocated_buckets;
  /* From the sizes, not from the buckets held: a memory may hold one too many. */
  uint64_t allocated = first + buckets_needed(wasm_pages) - buckets_needed(before);
  if (allocated > BUCKETS_MAX) return 0;
  const uint8_t owner = (uint8_t)id;
  for (uint32_t bucket = first; bucket < allocated; bucket++) {
    growing_write(HEADER_BYTES + bucket, &owner, 1);
  }
  make_room(id, (uint32_t)allocated);
  header.sizes_wasm_pages[id] = wasm_pages;
  header.allocated_buckets = (uint16_t)allocated;
  growing_write(0, &header, HEADER_BYTES);
  for (uint32_t bucket = first; bucket < allocated; bucket++) {
    if (id == DATABASE_MEMORY_ID) {
      add_bucket(bucket);
    } else {
      add_further_bucket(id, bucket);
    }
  }
  return 1;
}

/* ---- reading them ---- */

static void check_header(uint64_t wasm_pages) {
  if (header.version != 1) {
    trap_with("the memory manager has layout version %u; only version 1 was ever released, so "
              "the image is damaged, or it needs a newer sqlstable",
              header.version);
  }
  uint64_t required = 1 + (uint64_t)header.allocated_buckets * header.bucket_wasm_pages;
  if (header.bucket_wasm_pages == 0 || header.bucket_wasm_pages == LOOKALIKE_BUCKET_WASM_PAGES ||
      header.allocated_buckets > BUCKETS_MAX || required > wasm_pages) {
    trap_with("the memory manager's header is not sound: %u buckets of %u Wasm pages in a memory "
              "of %llu; restore an intact image",
              header.allocated_buckets, header.bucket_wasm_pages, wasm_pages);
  }
}

static void read_owners(void) {
  uint32_t held[MEMORIES_MAX] = {0};
  uint8_t *table = allocate(BUCKETS_MAX, "the bucket table");
  stable64_read((uintptr_t)table, HEADER_BYTES, BUCKETS_MAX);
  for (uint32_t bucket = 0; bucket < header.allocated_buckets; bucket++) {
    uint8_t owner = table[bucket];
    if (owner == NO_OWNER) continue;
    held[owner]++;
    if (owner == DATABASE_MEMORY_ID) add_bucket(bucket);
    if (owner > DATABASE_MEMORY_ID) add_further_bucket(owner, bucket);
  }
  for (uint32_t bucket = header.allocated_buckets; bucket < BUCKETS_MAX; bucket++) {
    if (table[bucket] != NO_OWNER) {
      trap_with("the memory manager's header is not sound: bucket %u belongs to memory %u, but "
                "only %u buckets are allocated; restore an intact image",
                bucket, table[bucket], header.allocated_buckets);
    }
  }
  sqlite3_free(table);
  for (uint32_t id = 0; id < MEMORIES_MAX; id++) {
    if (buckets_needed(header.sizes_wasm_pages[id]) > held[id]) {
      trap_with("the memory manager's header is not sound: memory %u has %llu Wasm pages, but "
                "only %u buckets; restore an intact image",
                id, header.sizes_wasm_pages[id], held[id]);
    }
  }
}

static void open_managed(const Settings *settings) {
  uint64_t wasm_pages = stable64_size();
  if (wasm_pages == 0) {
    format(settings->bucket_wasm_pages);
    return;
  }
  stable64_read((uintptr_t)&header, 0, sizeof header.magic);
  if (memcmp(header.magic, "MGR", sizeof header.magic) != 0) {
    trap_with("no memory manager in this memory of %llu Wasm pages; choose the layout that the "
              "image has",
              wasm_pages);
  }
  stable64_read((uintptr_t)&header, 0, HEADER_BYTES);
  check_header(wasm_pages);
  forget_buckets();
  read_owners();
}

/* ---- what the file system asks ---- */

void placement_open(const Settings *settings) {
  has_memories = settings->layout == LAYOUT_MANAGED;
  layout = settings->layout;
  growth = settings->growth;
  if (layout == LAYOUT_RAW) {
    stable_wasm_pages = stable64_size();
  } else {
    open_managed(settings);
  }
}

uint64_t placement_allocated_bytes(void) {
  uint64_t wasm_pages =
      layout == LAYOUT_RAW ? stable_wasm_pages : header.sizes_wasm_pages[DATABASE_MEMORY_ID];
  return wasm_pages * WASM_PAGE_BYTES;
}

/* A SQLite page never crosses a bucket's border, so one address does for each access. */
uint64_t placement_address(uint64_t offset) {
  if (!buckets) return origin + offset;
  return bucket_address(buckets[offset / bucket_bytes]) + offset % bucket_bytes;
}

void placement_set_origin(uint64_t address) { origin = address; }

int placement_grow(uint64_t size_bytes) {
  uint64_t needed = wasm_pages_needed(size_bytes);
  if (layout == LAYOUT_RAW) {
    if (needed <= stable_wasm_pages) return 1;
    if (stable64_grow(needed - stable_wasm_pages) == UINT64_MAX) return 0;
    stable_wasm_pages = needed;
    return 1;
  }
  if (needed <= header.sizes_wasm_pages[DATABASE_MEMORY_ID]) return 1;
  if (growth == GROWTH_BUCKET) needed = buckets_needed(needed) * header.bucket_wasm_pages;
  return grow_managed(DATABASE_MEMORY_ID, needed);
}

/* ---- what further files ask, in layout managed ---- */

int memory_is_held(uint32_t id) { return further && further[id].count > 0; }

uint64_t memory_bytes(uint32_t id) { return header.sizes_wasm_pages[id] * WASM_PAGE_BYTES; }

uint64_t memory_bucket_bytes(void) { return bucket_bytes; }

uint64_t memory_address(uint32_t id, uint64_t offset) {
  return bucket_address(further[id].buckets[offset / bucket_bytes]) + offset % bucket_bytes;
}

int memory_grow(uint32_t id, uint64_t size_bytes, int is_exact) {
  uint64_t needed = wasm_pages_needed(size_bytes);
  if (needed <= header.sizes_wasm_pages[id]) return 1;
  if (growth == GROWTH_BUCKET && !is_exact) {
    needed = buckets_needed(needed) * header.bucket_wasm_pages;
  }
  return grow_managed(id, needed);
}
