/* A page cache for SQLite where memory is charged by the region (SQLITE_CONFIG_PCACHE2).
**
** Since 2026 the Internet Computer charges each region of 64 KiB of the heap when a message first
** accesses it, and once more when it first writes it. SQLite's own cache keeps a page's header
** beside its image and allocates pages one by one: a hit writes the header, so every page that a
** statement only reads costs a region accessed and a region written, and pages that are used
** together lie apart. Here
**
**   images    lie in whole regions, as many as fit, with nothing beside them: a hit writes none
**   headers   lie close together elsewhere, SQLite's own part of them (pExtra) included
**   misses    fill one region, then the next: pages that were loaded together lie together. The
**             region that is overwritten is the one whose latest use is longest ago
**   queries   throw away what they cache, so to cache much there is dear: misses go round in one
**             region. When reading again what was just overwritten has cost as much as another
**             region would have, it takes one more: never more than twice what was best in
**             hindsight
**
** Pages of temporary tables and of databases in memory, and those that a transaction holds beyond
** cache_size, are allocated one by one and freed again. Regions are kept for the next use: a heap
** never shrinks.
**
** It needs nothing but sqlite3.h and a C compiler: for a heap of Wasm (memory.grow), or, where
** there is none, sqlite3_malloc64(). It has no locks: SQLITE_THREADSAFE=0, or one connection.
*/
#include "pcache.h"

#include <stdint.h>
#include <string.h>

#include "sqlite3.h"

#define REGION_BYTES 65536u

/* What a region costs when it is first written, access included, and what reading a page again
** costs, its bytes aside: SQLite's own instructions, measured.
*/
#ifndef PCACHE_REGION_PRICE
#define PCACHE_REGION_PRICE 160000u
#endif
#ifndef PCACHE_REREAD_PRICE
#define PCACHE_REREAD_PRICE 1500u
#endif

#define GHOSTS 256u /* numbers of pages that were overwritten; a power of two */
#define BUCKETS_MIN 64u
#define BUCKETS_EARLY_MAX 512u

/* When a page was last let go, by the cache's count; or one of these. */
#define FREE 0u
#define PINNED UINT32_MAX
#define TICK_MAX (UINT32_MAX - 2)

#define REGIONS_SEEN_MAX 16u /* of a large cache, when it is looked for the next to be filled */

typedef struct Region Region;

/* A page's header. SQLite's part lies behind it. */
typedef struct Page {
  sqlite3_pcache_page given; /* first: SQLite hands it back */
  uint32_t key;              /* number of the SQLite page */
  struct Page *next;         /* in its bucket */
  uint32_t *stamp;
  uint32_t stamp_alone;      /* of a page that lies in no region */
} Page;

#define ROUND_UP(BYTES) (((BYTES) + 7) & ~(size_t)7)
#define PAGE_BYTES ROUND_UP(sizeof(Page))

/* The headers of a region: this, a stamp of each page, and a header of each. */
struct Region {
  uint8_t *images;
  Region *next;
  uint32_t block_bytes; /* of all this */
  uint32_t stamps[];
};

typedef struct Cache {
  uint32_t page_bytes, stride_bytes; /* of an image, and of headers */
  uint32_t is_purgeable;
  uint32_t page_max;       /* cache_size */
  uint32_t per_region;     /* pages in one */
  uint32_t headers_offset; /* in the block of a region */
  uint32_t page_count;     /* in the buckets */
  uint32_t unpinned_count; /* of these */
  uint32_t region_count;
  uint32_t bucket_count;   /* a power of two */
  Page **buckets;
  Region *regions;
  uint32_t key_max;        /* no page has a higher key */
  uint32_t tick;           /* counts pages that are let go */
  Region *filling;         /* where misses go */
  uint32_t hand;           /* the place in it that is looked at next */
  uint32_t old;            /* pages there that were let go until then are overwritten */
  uint32_t message;        /* the debt is of */
  uint32_t debt;           /* instructions spent on reading again */
  uint32_t ghosts[GHOSTS]; /* only where is_purgeable */
} Cache;

/* Of all caches. It lies in front of the headers, as every message writes it. */
typedef struct State {
  uint32_t message; /* counts messages */
  uint32_t keeps;
  uint8_t *headers, *headers_free, *headers_end; /* the memory for headers */
  Region *spare;                                 /* of caches that are gone, with their images */
  uint8_t *images_ahead;                         /* grown, and not yet used */
} State;

static State own_state = {.keeps = 1};
static State *state = &own_state;

/* ---- regions ---- */

/* Returns a region for images; NULL where there is no room. */
static uint8_t *take_images(void) {
#ifdef __wasm__
  /* One more stays behind the last: SQLite may read some bytes past the end of a damaged page. */
  size_t end = __builtin_wasm_memory_size(0);
  uint8_t *ahead = state->images_ahead;
  int is_last = ahead && ahead == (uint8_t *)((end - 1) * REGION_BYTES);
  if (end + 2 >= REGION_BYTES) return NULL; /* the last one is left alone */
  size_t start = __builtin_wasm_memory_grow(0, is_last ? 1 : 2);
  if (start == (size_t)-1) return NULL;
  uint8_t *images = is_last ? ahead : (uint8_t *)(start * REGION_BYTES);
  state->images_ahead = images + REGION_BYTES;
  return images;
#else
  uint8_t *memory = sqlite3_malloc64(2 * REGION_BYTES);
  if (!memory) return NULL;
  return memory + (REGION_BYTES - (uintptr_t)memory % REGION_BYTES) % REGION_BYTES;
#endif
}

static Region *new_block(uint32_t bytes) {
  Region *block;
  if ((size_t)(state->headers_end - state->headers_free) >= bytes) {
    block = (Region *)state->headers_free;
    state->headers_free += bytes;
  } else {
    block = sqlite3_malloc64(bytes);
  }
  if (block) block->block_bytes = bytes;
  return block;
}

static void free_block(Region *block) {
  uint8_t *memory = (uint8_t *)block;
  if (memory < state->headers || memory >= state->headers_end) {
    sqlite3_free(block);
  } else if (memory + block->block_bytes == state->headers_free) {
    state->headers_free = memory;
  }
}

/* Returns a block of headers with an image; NULL: there is no room. */
static Region *take_region(const Cache *cache) {
  uint32_t bytes = cache->headers_offset + cache->per_region * cache->stride_bytes;
  for (Region **at = &state->spare; *at; at = &(*at)->next) {
    Region *region = *at;
    if (region->block_bytes < bytes) continue;
    *at = region->next;
    return region;
  }
  Region *region = new_block(bytes);
  if (!region) return NULL;
  Region *other = state->spare;
  if (other) {
    /* Its block is too small for so many headers; its image is as good as any. */
    region->images = other->images;
    state->spare = other->next;
    free_block(other);
  } else {
    region->images = take_images();
    if (!region->images) {
      free_block(region);
      return NULL;
    }
  }
  return region;
}

static Page *page_at(const Cache *cache, Region *region, uint32_t index) {
  return (Page *)((uint8_t *)region + cache->headers_offset + index * cache->stride_bytes);
}

static Region *add_region(Cache *cache) {
  Region *region = take_region(cache);
  if (!region) return NULL;
  for (uint32_t i = 0; i < cache->per_region; i++) {
    Page *page = page_at(cache, region, i);
    page->given.pBuf = region->images + i * cache->page_bytes;
    page->given.pExtra = (uint8_t *)page + PAGE_BYTES;
    page->stamp = &region->stamps[i];
    *page->stamp = FREE;
  }
  region->next = cache->regions;
  cache->regions = region;
  cache->region_count++;
  return region;
}

/* ---- what a cache holds ---- */

static Page **bucket_of(const Cache *cache, uint32_t key) {
  return &cache->buckets[key & (cache->bucket_count - 1)];
}

static Page *find(const Cache *cache, uint32_t key) {
  Page *page = *bucket_of(cache, key);
  while (page && page->key != key) page = page->next;
  return page;
}

static void link(Cache *cache, Page *page, uint32_t key) {
  Page **bucket = bucket_of(cache, key);
  if (key > cache->key_max) cache->key_max = key;
  page->key = key;
  page->next = *bucket;
  *bucket = page;
}

static void unlink(Cache *cache, Page *page) {
  Page **at = bucket_of(cache, page->key);
  while (*at != page) at = &(*at)->next;
  *at = page->next;
}

static int is_pinned(const Page *page) { return *page->stamp == PINNED; }

/* Forgets a page, pinned or not. */
static void drop(Cache *cache, Page *page) {
  unlink(cache, page);
  cache->page_count--;
  if (!is_pinned(page)) cache->unpinned_count--;
  if (page->stamp == &page->stamp_alone) {
    sqlite3_free(page->given.pBuf);
  } else {
    *page->stamp = FREE;
  }
}

/* Makes it so many buckets. Where there is no memory for them, chains are longer instead. */
static void set_buckets(Cache *cache, uint32_t count) {
  uint32_t old_count = cache->bucket_count;
  Page **buckets = sqlite3_malloc64(count * sizeof *buckets), **old = cache->buckets;
  if (!buckets) return;
  memset(buckets, 0, count * sizeof *buckets);
  cache->buckets = buckets;
  cache->bucket_count = count;
  for (uint32_t i = 0; i < old_count; i++) {
    for (Page *page = old[i], *next; page; page = next) {
      next = page->next;
      link(cache, page, page->key);
    }
  }
  sqlite3_free(old);
}

/* ---- misses ---- */

static int is_full(const Cache *cache) { return cache->page_count >= cache->page_max; }

/* Returns the place in a region that is best to use: a free one, if the cache is not full, or the
** page that was let go first. *stamp is its stamp, PINNED where there is none.
*/
static uint32_t best_in(const Cache *cache, const Region *region, uint32_t *stamp) {
  /* One less makes the free ones the highest. */
  uint32_t shift = (uint32_t)is_full(cache), lowest = PINNED - shift, at = 0;
  for (uint32_t i = 0; i < cache->per_region; i++) {
    uint32_t shifted = region->stamps[i] - shift;
    if (shifted < lowest) lowest = shifted, at = i;
  }
  *stamp = lowest + shift;
  return at;
}

/* Sets the border of what is old in the region that is filled, by the oldest page: what is much
** younger stays.
*/
static void set_old(Cache *cache, uint32_t lowest) {
  cache->old = lowest + (cache->tick - lowest) / 2;
}

/* Goes round in the region that is filled to the next place that is free or has an old page;
** returns 0 if there is none.
*/
static int next_old(Cache *cache, uint32_t *place) {
  const Region *region = cache->filling;
  uint32_t shift = (uint32_t)is_full(cache), limit = cache->old - shift, at = cache->hand;
  if (cache->old < shift) return 0;
  for (uint32_t left = cache->per_region; left > 0; left--) {
    if (at == cache->per_region) at = 0;
    /* One less makes the free ones the highest. */
    if (region->stamps[at] - shift <= limit) {
      cache->hand = at + 1;
      *place = at;
      return 1;
    }
    at++;
  }
  return 0;
}

/* Empties a place and returns its page. */
static Page *emptied(Cache *cache, Region *region, uint32_t index) {
  Page *page = page_at(cache, region, index);
  if (*page->stamp == FREE) return page;
  if (!state->keeps) cache->ghosts[page->key & (GHOSTS - 1)] = page->key;
  drop(cache, page);
  return page;
}

/* Decides where misses go next: a region with a free place, a new one, or the one with the page
** that was let go first; returns this page, or NULL where all are pinned.
*/
static Page *page_elsewhere(Cache *cache) {
  uint32_t lowest = PINNED, place = 0;
  Region *best = NULL;
  uint32_t seen = 0;
  Region *region = cache->filling ? cache->filling->next : cache->regions;
  for (; seen < cache->region_count; seen++, region = region->next) {
    if (!region) region = cache->regions;
    uint32_t stamp, at = best_in(cache, region, &stamp);
    if (stamp < lowest) best = region, lowest = stamp, place = at;
    if (best && (lowest == FREE || seen >= REGIONS_SEEN_MAX)) break;
  }
  if (lowest != FREE && !is_full(cache) &&
      cache->region_count * cache->per_region < cache->page_max) {
    Region *added = add_region(cache);
    if (added) best = added, lowest = FREE, place = 0;
  }
  if (!best) return NULL;
  cache->filling = best;
  cache->hand = 0;
  /* Its neighbours go, too, before another region is begun. */
  set_old(cache, lowest);
  return emptied(cache, best, place);
}

/* Whether reading again has cost as much as one region more. What a message keeps is worth it. */
static int is_worth_a_region(Cache *cache) {
  if (state->keeps) return 1;
  if (cache->debt < PCACHE_REGION_PRICE) return 0;
  cache->debt -= PCACHE_REGION_PRICE;
  return 1;
}

/* Finds room for a page in a region; NULL where everything there is pinned. */
static Page *page_in_regions(Cache *cache) {
  if (is_full(cache) && cache->unpinned_count == 0) return NULL;
  uint32_t place, stamp;
  if (cache->filling) {
    if (next_old(cache, &place)) return emptied(cache, cache->filling, place);
    if (!is_worth_a_region(cache)) {
      place = best_in(cache, cache->filling, &stamp);
      if (stamp != PINNED) {
        set_old(cache, stamp);
        return emptied(cache, cache->filling, place);
      }
    }
  }
  return page_elsewhere(cache);
}

/* A page with an image of its own. */
static Page *page_alone(const Cache *cache) {
  /* The image first: what is read past its end is the header, as in SQLite's own cache. */
  uint8_t *memory = sqlite3_malloc64(cache->page_bytes + cache->stride_bytes);
  if (!memory) return NULL;
  Page *page = (Page *)(memory + cache->page_bytes);
  page->given.pBuf = memory;
  page->given.pExtra = (uint8_t *)page + PAGE_BYTES;
  page->stamp = &page->stamp_alone;
  return page;
}

static Page *miss(Cache *cache, uint32_t key, int create) {
  uint32_t pinned_count = cache->page_count - cache->unpinned_count;
  /* SQLite then writes dirty pages, and asks again. The limit is that of its own cache. */
  if (create == 1 && pinned_count >= cache->page_max * 9ull / 10) return NULL;
  if (cache->page_count >= cache->bucket_count) set_buckets(cache, cache->bucket_count * 2);
  if (!state->keeps && cache->is_purgeable && cache->ghosts[key & (GHOSTS - 1)] == key) {
    cache->debt += PCACHE_REREAD_PRICE + cache->page_bytes;
  }
  Page *page = cache->is_purgeable ? page_in_regions(cache) : NULL;
  if (!page) page = page_alone(cache);
  if (!page) return NULL;
  *(void **)page->given.pExtra = NULL; /* as SQLite wants it of a new page */
  *page->stamp = PINNED;
  link(cache, page, key);
  cache->page_count++;
  return page;
}

/* ---- what SQLite calls ---- */

static int initialise(void *context) {
  (void)context;
  return SQLITE_OK;
}

static void set_size(sqlite3_pcache *given, int page_max) {
  Cache *cache = (Cache *)given;
  cache->page_max = page_max > 0 ? (uint32_t)page_max : 0;
  if (!cache->is_purgeable) return;
  /* Now, among what else is there when a database is opened, not amid a large statement. */
  uint32_t count = cache->bucket_count;
  while (count < cache->page_max && count < BUCKETS_EARLY_MAX) count *= 2;
  if (count > cache->bucket_count) set_buckets(cache, count);
}

static sqlite3_pcache *create(int page_bytes, int extra_bytes, int is_purgeable) {
  size_t bytes = is_purgeable ? sizeof(Cache) : offsetof(Cache, ghosts);
  Cache *cache = sqlite3_malloc64(bytes);
  if (!cache) return NULL;
  memset(cache, 0, bytes);
  cache->page_bytes = (uint32_t)page_bytes;
  cache->stride_bytes = (uint32_t)(PAGE_BYTES + ROUND_UP((size_t)extra_bytes));
  cache->is_purgeable = (uint32_t)is_purgeable;
  cache->per_region = REGION_BYTES / cache->page_bytes;
  cache->headers_offset =
      (uint32_t)ROUND_UP(sizeof(Region) + cache->per_region * sizeof(uint32_t));
  set_buckets(cache, BUCKETS_MIN);
  if (!cache->buckets) {
    sqlite3_free(cache);
    return NULL;
  }
  return (sqlite3_pcache *)cache;
}

static int count(sqlite3_pcache *given) { return (int)((Cache *)given)->page_count; }

static sqlite3_pcache_page *fetch(sqlite3_pcache *given, unsigned key, int create) {
  Cache *cache = (Cache *)given;
  if (cache->message != state->message) {
    cache->message = state->message;
    cache->debt = 0;
    /* What is thrown away goes where it is cheapest, not behind what was kept. */
    if (!state->keeps) cache->filling = NULL;
  }
  Page *page = find(cache, key);
  if (!page) {
    if (!create || !(page = miss(cache, key, create))) return NULL;
    return &page->given;
  }
  if (!is_pinned(page)) {
    *page->stamp = PINNED;
    cache->unpinned_count--;
  }
  return &page->given;
}

/* After some four milliards of fetches all pages count as let go together. */
static void restart_ticks(Cache *cache) {
  for (Region *region = cache->regions; region; region = region->next) {
    for (uint32_t i = 0; i < cache->per_region; i++) {
      if (region->stamps[i] != FREE && region->stamps[i] != PINNED) region->stamps[i] = 1;
    }
  }
  cache->tick = 1;
  cache->old = 0;
}

static void unpin(sqlite3_pcache *given, sqlite3_pcache_page *given_page, int is_dropped) {
  Cache *cache = (Cache *)given;
  Page *page = (Page *)given_page;
  if (is_dropped || cache->page_count > cache->page_max) {
    drop(cache, page);
  } else {
    if (cache->tick >= TICK_MAX) restart_ticks(cache);
    *page->stamp = ++cache->tick;
    cache->unpinned_count++;
  }
}

static void rekey(sqlite3_pcache *given, sqlite3_pcache_page *given_page, unsigned old_key,
                  unsigned new_key) {
  Cache *cache = (Cache *)given;
  Page *page = (Page *)given_page;
  (void)old_key;
  Page *other = find(cache, new_key);
  if (other == page) return;
  if (other) drop(cache, other);
  unlink(cache, page);
  link(cache, page, new_key);
}

/* Drops the pages from `key_min` on, or only those that are not pinned. */
static void drop_from(Cache *cache, uint32_t key_min, int is_pinned_kept) {
  if (key_min > cache->key_max) return; /* as at the end of each transaction */
  for (uint32_t i = 0; i < cache->bucket_count; i++) {
    for (Page *page = cache->buckets[i], *next; page; page = next) {
      next = page->next;
      if (page->key >= key_min && !(is_pinned_kept && is_pinned(page))) drop(cache, page);
    }
  }
}

static void truncate(sqlite3_pcache *given, unsigned key_min) {
  Cache *cache = (Cache *)given;
  drop_from(cache, key_min, 0);
  if (key_min <= cache->key_max) cache->key_max = key_min - (key_min > 0);
}

static void shrink(sqlite3_pcache *given) { drop_from((Cache *)given, 0, 1); }

static void destroy(sqlite3_pcache *given) {
  Cache *cache = (Cache *)given;
  drop_from(cache, 0, 0);
  for (Region *region = cache->regions, *next; region; region = next) {
    next = region->next;
    region->next = state->spare;
    state->spare = region;
  }
  sqlite3_free(cache->buckets);
  sqlite3_free(cache);
}

int pcache_register(void *headers, size_t headers_bytes) {
  static const sqlite3_pcache_methods2 methods = {
      .iVersion = 1,
      .xInit = initialise,
      .xCreate = create,
      .xCachesize = set_size,
      .xPagecount = count,
      .xFetch = fetch,
      .xUnpin = unpin,
      .xRekey = rekey,
      .xTruncate = truncate,
      .xDestroy = destroy,
      .xShrink = shrink,
  };
  int code = sqlite3_config(SQLITE_CONFIG_PCACHE2, &methods);
  if (code != SQLITE_OK || !headers || headers_bytes < sizeof(State)) return code;
  state = headers;
  *state = own_state;
  state->headers = state->headers_free = (uint8_t *)headers + ((sizeof(State) + 7) & ~7u);
  state->headers_end = (uint8_t *)headers + headers_bytes;
  return SQLITE_OK;
}

void pcache_begin(int keeps) {
  /* Two that are thrown away cannot follow each other: the first would not be remembered. It is
  ** one message, whose statements were announced one by one.
  */
  if (!keeps && !state->keeps) return;
  state->keeps = (uint32_t)(keeps != 0);
  state->message++;
}
