/* The heap build: a database in the heap (`:memory:`), kept in stable memory while the canister is
** upgraded. canister_pre_upgrade writes it there, canister_post_upgrade reads it back. With the
** settings of the other builds its database is in stable memory, as theirs is: so what is compared
** differs in nothing else, and has one allocator.
**
** Two ways, of which the settings choose one; both write the same bytes:
**
**   whole     sqlite3_serialize makes one buffer of the database, one call writes it; one call reads
**             it back, and sqlite3_deserialize makes it the database
**   streamed  SQLite's backup API copies the database SQLite page by SQLite page through a window of
**             a few, and there is no second copy of it
**
** Stable memory
**   0      char magic[8]       "SQLKEPT\0"
**   8      u32 version         1
**   12     u32 page_bytes      of a SQLite page; 0 where the database is empty
**   16     u64 database_bytes  a multiple of it
**   24     u64 sum             of all SQLite pages but the lock-byte page, see page_sum
**   65536  the database, as a plain SQLite file
**
** Stable memory never shrinks, so what is behind a database that has become smaller stays there.
*/
#include <string.h>

#include "module.h"

#ifdef SQLSTABLE_HEAP

#define KEPT_VERSION 1
#define KEPT_OFFSET_BYTES WASM_PAGE_BYTES
#define DATABASE_HEADER_BYTES 100

/* SQLite never uses the page that this byte is on, so it has no content to keep.
** Source: sqlite.org/fileformat.html, section 1.4.
*/
#define LOCK_BYTE 0x40000000u

/* sqlite3_malloc64 gives no more at once (SQLITE_MAX_ALLOCATION_SIZE). */
#define ALLOCATION_BYTES_MAX 2147483391

typedef struct Kept {
  char magic[8];
  uint32_t version;
  uint32_t page_bytes;
  uint64_t database_bytes;
  uint64_t sum;
} Kept;

_Static_assert(sizeof(Kept) == 32, "no padding");

static const char magic[8] = "SQLKEPT";

static uint32_t way, window_sqlite_pages;

/* ---- the sum ---- */

/* One of a SQLite page and its place. Whichever word changes, the sum does: each step can be
** undone.
*/
static uint64_t page_sum(const uint8_t *bytes, uint32_t length, uint64_t offset) {
  const uint64_t odd = 0x9E3779B97F4A7C15u;
  uint64_t sum = (offset + 1) * odd;
  for (uint32_t at = 0; at < length; at += 8) {
    uint64_t word;
    memcpy(&word, bytes + at, 8);
    sum = (sum ^ word) * odd;
    sum ^= sum >> 32;
  }
  return sum;
}

static int has_lock_byte(uint64_t offset, uint32_t length) {
  return offset <= LOCK_BYTE && LOCK_BYTE < offset + length;
}

static uint64_t sum_of(const uint8_t *bytes, uint64_t size, uint32_t page_bytes) {
  uint64_t sum = 0;
  for (uint64_t at = 0; at < size; at += page_bytes) {
    if (!has_lock_byte(at, page_bytes)) sum += page_sum(bytes + at, page_bytes, at);
  }
  return sum;
}

static uint32_t page_bytes_in(const uint8_t *bytes) {
  uint32_t stored = (uint32_t)bytes[16] << 8 | bytes[17];
  return stored == 1 ? 65536 : stored;
}

/* ---- stable memory ---- */

static void make_room(uint64_t database_bytes) {
  uint64_t have = stable64_size();
  uint64_t needed = 1 + (database_bytes + WASM_PAGE_BYTES - 1) / WASM_PAGE_BYTES;
  if (needed > have && stable64_grow(needed - have) == UINT64_MAX) {
    trap_with("grow failed: a database of %llu bytes needs %llu Wasm pages of stable memory, and "
              "%llu are there; raise its limit, or store less",
              database_bytes, needed, have);
  }
}

static void write_header(uint32_t page_bytes, uint64_t database_bytes, uint64_t sum) {
  Kept kept = {.version = KEPT_VERSION,
               .page_bytes = page_bytes,
               .database_bytes = database_bytes,
               .sum = sum};
  memcpy(kept.magic, magic, sizeof magic);
  stable64_write(0, (uintptr_t)&kept, sizeof kept);
}

static Kept read_header(void) {
  Kept kept;
  uint64_t have = stable64_size();
  if (have == 0) {
    trap_with("no database was kept: stable memory is empty; pre_upgrade was skipped, and what was "
              "in the heap is lost, so the upgrade is undone");
  }
  stable64_read((uintptr_t)&kept, 0, sizeof kept);
  if (memcmp(kept.magic, magic, sizeof magic) != 0) {
    trap_with("no database was kept: stable memory does not begin with SQLKEPT; something else is "
              "there, or it is damaged");
  }
  if (kept.version != KEPT_VERSION) {
    trap_with("the kept database is of version %u, and this module knows version %u; it needs a "
              "newer one, or is damaged",
              kept.version, KEPT_VERSION);
  }
  uint32_t page_bytes = kept.page_bytes;
  int is_page = page_bytes >= 512 && page_bytes <= 65536 && (page_bytes & (page_bytes - 1)) == 0;
  if (kept.database_bytes == 0 ? page_bytes != 0
                               : !is_page || kept.database_bytes % page_bytes != 0) {
    trap_with("the kept database is damaged: %llu bytes in SQLite pages of %u",
              kept.database_bytes, page_bytes);
  }
  if (kept.database_bytes > (have - 1) * WASM_PAGE_BYTES) {
    trap_with("the kept database is damaged: it says it has %llu bytes, and %llu are there",
              kept.database_bytes, (have - 1) * WASM_PAGE_BYTES);
  }
  return kept;
}

static void check_sum(const Kept *kept, uint64_t sum) {
  if (sum == kept->sum) return;
  trap_with("the kept database is damaged: its sum is %llx, and %llx was written; the upgrade is "
            "undone",
            sum, kept->sum);
}

static void check_kept(int code, const char *message) {
  if (code != SQLITE_OK) trap_with("the kept database cannot be brought back: %s", message);
}

/* ---- whole ---- */

static void keep_whole(sqlite3 *database) {
  sqlite3_int64 size = 0;
  uint8_t *bytes = sqlite3_serialize(database, "main", &size, 0);
  if (!bytes && size > 0) {
    trap_with("out of memory: %lld bytes for a serialised copy of the database", size);
  }
  make_room((uint64_t)size);
  if (size == 0) {
    write_header(0, 0, 0);
  } else {
    uint32_t page_bytes = page_bytes_in(bytes);
    write_header(page_bytes, (uint64_t)size, sum_of(bytes, (uint64_t)size, page_bytes));
    stable64_write(KEPT_OFFSET_BYTES, (uintptr_t)bytes, (uint64_t)size);
  }
  sqlite3_free(bytes);
}

static void bring_back_whole(sqlite3 *database, const Kept *kept) {
  uint64_t size = kept->database_bytes;
  uint8_t *bytes = allocate(size, "the database");
  stable64_read((uintptr_t)bytes, KEPT_OFFSET_BYTES, size);
  check_sum(kept, sum_of(bytes, size, kept->page_bytes));
  unsigned flags = SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE;
  int code = sqlite3_deserialize(database, "main", bytes, (sqlite3_int64)size, (sqlite3_int64)size,
                                 flags);
  check_kept(code, sqlite3_errmsg(database));
}

/* ---- streamed: a file that is what is kept ---- */

/* Pages come in ascending order when the backup reads them, each once; what SQLite looks at beside
** that does not count. When they are written, each is once as well, but for the first.
*/
static struct {
  uint64_t file_bytes;
  uint64_t next; /* offset of the first page that was not read yet */
  uint64_t page_count;
  uint64_t sum;
  uint32_t page_bytes;
} window;

static int window_read(sqlite3_file *file, void *target, int length, sqlite3_int64 offset) {
  (void)file;
  uint64_t start = (uint64_t)offset, end = start + (uint64_t)length;
  if (end > window.file_bytes) {
    memset(target, 0, (size_t)length);
    return SQLITE_IOERR_SHORT_READ;
  }
  stable64_read((uintptr_t)target, KEPT_OFFSET_BYTES + start, (uint64_t)length);
  if ((uint32_t)length == window.page_bytes && start >= window.next) {
    window.sum += page_sum(target, window.page_bytes, start);
    window.page_count++;
    window.next = end;
  }
  return SQLITE_OK;
}

static int window_write(sqlite3_file *file, const void *source, int length, sqlite3_int64 offset) {
  (void)file;
  uint64_t start = (uint64_t)offset, end = start + (uint64_t)length;
  if (end > window.file_bytes) {
    make_room(end);
    window.file_bytes = end;
  }
  stable64_write(KEPT_OFFSET_BYTES + start, (uintptr_t)source, (uint64_t)length);
  if (start > 0) {
    window.sum += page_sum(source, (uint32_t)length, start);
    window.page_count++;
  }
  return SQLITE_OK;
}

static int window_truncate(sqlite3_file *file, sqlite3_int64 size) {
  (void)file;
  window.file_bytes = (uint64_t)size;
  return SQLITE_OK;
}

static int window_size(sqlite3_file *file, sqlite3_int64 *size) {
  (void)file;
  *size = (sqlite3_int64)window.file_bytes;
  return SQLITE_OK;
}

static int window_nothing(sqlite3_file *file) {
  (void)file;
  return SQLITE_OK;
}

static int window_number(sqlite3_file *file, int number) {
  (void)file;
  (void)number;
  return SQLITE_OK;
}

static int window_is_reserved(sqlite3_file *file, int *is_held) {
  (void)file;
  *is_held = 0;
  return SQLITE_OK;
}

static int window_control(sqlite3_file *file, int operation, void *argument) {
  (void)file;
  (void)operation;
  (void)argument;
  return SQLITE_NOTFOUND;
}

static int window_sector(sqlite3_file *file) {
  (void)file;
  return 512;
}

static int window_characteristics(sqlite3_file *file) {
  (void)file;
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods window_methods = {
    .iVersion = 1,
    .xClose = window_nothing,
    .xRead = window_read,
    .xWrite = window_write,
    .xTruncate = window_truncate,
    .xSync = window_number,
    .xFileSize = window_size,
    .xLock = window_number,
    .xUnlock = window_number,
    .xCheckReservedLock = window_is_reserved,
    .xFileControl = window_control,
    .xSectorSize = window_sector,
    .xDeviceCharacteristics = window_characteristics,
};

static int window_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                       int *given) {
  (void)vfs;
  (void)name;
  file->pMethods = &window_methods;
  if (given) *given = flags;
  return SQLITE_OK;
}

/* The default file system, but for where its one file is. */
static sqlite3_vfs window_vfs;

static sqlite3 *open_window(void) {
  char sql[128];
  sqlite3 *connection = NULL;
  window_vfs = *sqlite3_vfs_find(vfs_name);
  window_vfs.zName = "window";
  window_vfs.xOpen = window_open;
  window_vfs.pNext = NULL;
  sqlite3_vfs_register(&window_vfs, 0);
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  int code = sqlite3_open_v2("kept", &connection, flags, window_vfs.zName);
  if (!connection) trap_with("out of memory: a connection to what is kept");
  sqlite3_snprintf(sizeof sql, sql,
                   "PRAGMA locking_mode = exclusive; PRAGMA journal_mode = off;"
                   "PRAGMA synchronous = off; PRAGMA cache_size = %u",
                   window_sqlite_pages);
  if (code == SQLITE_OK) code = sqlite3_exec(connection, sql, NULL, NULL, NULL);
  if (code != SQLITE_OK) {
    trap_with("the kept database cannot be opened: %s", sqlite3_errmsg(connection));
  }
  return connection;
}

/* Copies all SQLite pages of a database into another one. */
static void copy(sqlite3 *target, sqlite3 *source, const char *purpose) {
  sqlite3_backup *backup = sqlite3_backup_init(target, "main", source, "main");
  int code = backup ? sqlite3_backup_step(backup, -1) : sqlite3_errcode(target);
  sqlite3_backup_finish(backup);
  if (code != SQLITE_DONE) {
    const char *message = backup ? sqlite3_errstr(code) : sqlite3_errmsg(target);
    trap_with("the database cannot be %s: %s", purpose, message);
  }
}

static uint64_t pages_with_content(uint64_t size, uint32_t page_bytes) {
  return page_bytes ? size / page_bytes - (size > LOCK_BYTE) : 0;
}

static void check_page_count(uint64_t expected) {
  if (window.page_count == expected) return;
  trap_with("the kept database is damaged: %llu SQLite pages were copied, and it has %llu; the "
            "upgrade is undone",
            window.page_count, expected);
}

static void keep_streamed(sqlite3 *database) {
  memset(&window, 0, sizeof window);
  make_room(0);
  sqlite3 *connection = open_window();
  copy(connection, database, "kept");
  sqlite3_close(connection);
  uint32_t page_bytes = 0;
  if (window.file_bytes > 0) {
    uint8_t header[DATABASE_HEADER_BYTES];
    stable64_read((uintptr_t)header, KEPT_OFFSET_BYTES, sizeof header);
    page_bytes = page_bytes_in(header);
    /* The first is written when the backup begins or ends, or both. */
    uint8_t *first = allocate(page_bytes, "a SQLite page");
    stable64_read((uintptr_t)first, KEPT_OFFSET_BYTES, page_bytes);
    window.sum += page_sum(first, page_bytes, 0);
    window.page_count++;
    sqlite3_free(first);
  }
  check_page_count(pages_with_content(window.file_bytes, page_bytes));
  write_header(page_bytes, window.file_bytes, window.sum);
}

static void bring_back_streamed(sqlite3 *database, const Kept *kept) {
  memset(&window, 0, sizeof window);
  window.file_bytes = kept->database_bytes;
  window.page_bytes = kept->page_bytes;
  sqlite3 *connection = open_window();
  copy(database, connection, "brought back");
  sqlite3_close(connection);
  check_page_count(pages_with_content(kept->database_bytes, kept->page_bytes));
  check_sum(kept, window.sum);
}

/* ---- what the canister calls ---- */

void heap_configure(const Settings *settings) {
  way = settings->layout;
  window_sqlite_pages = settings->bucket_wasm_pages;
  dense_configure();
  /* Else a database that was deserialised could not grow beyond 1 GiB. */
  sqlite3_config(SQLITE_CONFIG_MEMDB_MAXSIZE, (sqlite3_int64)ALLOCATION_BYTES_MAX);
}

void heap_keep(sqlite3 *database) {
  if (!sqlite3_get_autocommit(database)) {
    trap_with("a transaction is open, and what it has done would be lost or kept by chance; COMMIT "
              "or ROLLBACK before the upgrade");
  }
  (way == WAY_WHOLE ? keep_whole : keep_streamed)(database);
}

void heap_bring_back(sqlite3 *database) {
  Kept kept = read_header();
  if (kept.database_bytes == 0) return;
  (way == WAY_WHOLE ? bring_back_whole : bring_back_streamed)(database, &kept);
}

#endif
