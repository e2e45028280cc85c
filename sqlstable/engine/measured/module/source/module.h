/* What the files of the module share. */
#ifndef SQLSTABLE_MODULE_H
#define SQLSTABLE_MODULE_H

#include <stddef.h>
#include <stdint.h>

#include "ic0.h"
#include "sqlite3.h"

/* The sources of SQLite's random() and of its own random numbers are fixed, time is set: two runs
** of the same messages are equal.
*/

/* ---- settings, given to canister_init and canister_post_upgrade (canister.c) ---- */

#define SETTINGS_VERSION 1
#define SETTINGS_VERSION_BEHIND_LENGTH 2 /* the same, of a database behind its length */
#define SETTINGS_VERSION_HEAP 3 /* the same for build heap: `layout` is a WAY_..., and
                                ** `bucket_wasm_pages` the SQLite pages of its window */
#define SETTINGS_VERSION_FILES 4 /* as 1, and behind the name come the further files, see files.c */

enum { LAYOUT_MANAGED, LAYOUT_RAW };
enum { GROWTH_BUCKET, GROWTH_WASM_PAGE };
enum { JOURNAL_MEMORY, JOURNAL_OFF, JOURNAL_DELETE, JOURNAL_TRUNCATE, JOURNAL_PERSIST };

typedef struct Settings {
  uint32_t version;
  uint32_t page_size;           /* bytes of a SQLite page of a new database */
  uint32_t cache_sqlite_pages;
  uint32_t layout;              /* LAYOUT_... */
  uint32_t bucket_wasm_pages;   /* of a new memory manager */
  uint32_t growth;              /* GROWTH_... */
  uint32_t journal;             /* JOURNAL_... */
  uint32_t foreign_keys;        /* 0 or 1 */
  uint32_t is_foreign;          /* 1: the database came from elsewhere, open it defensively */
  uint32_t name_bytes;          /* name of the database, which follows; at most 254 */
  int64_t now_ms;               /* the time, in milliseconds since the Julian epoch */
} Settings;

_Static_assert(sizeof(Settings) == 48, "codec.py writes 48 bytes");

/* ---- where the database lies in stable memory (placement.c) ---- */

#define WASM_PAGE_BYTES 65536u

void placement_open(const Settings *settings);
uint64_t placement_allocated_bytes(void);
uint64_t placement_address(uint64_t offset);
int placement_grow(uint64_t size_bytes); /* 0: there is no room */
void placement_set_origin(uint64_t address); /* in layout raw: of offset 0 */

/* Virtual memories of further files, by their ids: only where `has_memories`. */
extern int has_memories;

int memory_is_held(uint32_t id); /* whether it has buckets */
uint64_t memory_bytes(uint32_t id);
uint64_t memory_bucket_bytes(void);
uint64_t memory_address(uint32_t id, uint64_t offset);
int memory_grow(uint32_t id, uint64_t size_bytes, int is_exact); /* 0: there is no room */

/* ---- the database file (vfs.c) ---- */

extern const char vfs_name[];
extern char vfs_detail[256]; /* what SQLite's own message does not say of the last failure */

void vfs_set_up(int64_t now_ms, const char *database_name);
void vfs_put_behind_length(void);
uint64_t vfs_file_bytes(void);
const char *vfs_main_name(void);
int vfs_check_pragma(char **pragma);
void explain(const char *format, ...); /* writes vfs_detail */

/* ---- further files: attached databases, journals, and what is in the heap (files.c) ---- */

#define FILE_HANDLE_BYTES 8 /* of a sqlite3_file of theirs */

void files_set_up(const uint8_t *records, uint32_t byte_count);
int files_open(const char *name, sqlite3_file *file, int flags);
void files_delete(const char *name);
int files_exist(const char *name);
int files_is_journal_live(const char *database_name); /* whether somebody has it open */
int files_refuse_length(const char *name);            /* explains; returns SQLITE_CANTOPEN */

/* ---- random() and randomblob() as the native engine has them (random.c) ---- */

void random_seed(const uint8_t *key, uint32_t key_bytes);
int random_register(sqlite3 *database);

/* ---- the reply (reply.c) ---- */

void reply_start(void);
void reply_u8(uint32_t value);
void reply_number(uint64_t value);
void reply_signed(int64_t value);
void reply_double(double value);
void reply_text(const char *text);
void reply_row(sqlite3_stmt *statement, int column_count);
void reply_finish(void);

/* ---- requests (execute.c) ---- */

void execute_request(sqlite3 *database, uint8_t *request, uint32_t request_bytes);
void cursor_request(sqlite3 *database, uint8_t *request, uint32_t request_bytes);

/* ---- the lean build's heap (lean.c); nothing in the others ---- */

void lean_configure(void);

/* A message begins; 0: what it leaves in the heap is thrown away. */
#ifdef SQLSTABLE_LEAN
void lean_begin(int keeps);
#else
#define lean_begin(KEEPS) ((void)0)
#endif

/* ---- the heap build: a database that may be in the heap, kept over upgrades (heap.c) ---- */

enum { WAY_WHOLE, WAY_STREAMED };

void heap_configure(const Settings *settings); /* before SQLite is initialised */
void heap_keep(sqlite3 *database);             /* into stable memory; traps where that fails */
void heap_bring_back(sqlite3 *database);       /* from there into an empty database; likewise */

/* ---- its memory (dense.c) ---- */

void dense_configure(void); /* before SQLite is initialised */

/* ---- the end (canister.c) ---- */

/* Ends the message with a text; what it did is rolled back. */
void trap_with(const char *format, ...) __attribute__((noreturn));

/* Memory from SQLite's allocator, which in the lean build keeps it beside SQLite's own; traps
** where there is none.
*/
void *allocate(uint64_t size_bytes, const char *purpose);

#endif
