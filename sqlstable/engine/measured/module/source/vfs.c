/* SQLite's file system: the database file in stable memory; all other files are those of files.c.
**
** Temporary files and tables are in the heap (SQLITE_TEMP_STORE=3), and so are journals unless the
** journal mode has a file for them. One connection has the file open; locks have nobody to keep out.
**
** The exact size is kept here while the file is open. Stable memory knows only what is allocated,
** so on opening the size follows from the first 100 bytes, which SQLite asks for before anything
** else: that look at the header is the one access that opening costs.
**
** Offsets and meanings of the header: sqlite.org/fileformat.html, section 1.3.
*/
#include <stdarg.h>
#include <string.h>

#include "module.h"

#define DATABASE_HEADER_BYTES 100
#define SECTOR_BYTES 512 /* so that no neighbour of a small SQLite page is written with it */

const char vfs_name[] = "stable";
char vfs_detail[256];

static char main_name[255];
static int64_t now;

static int is_size_known;
static uint64_t file_bytes;

uint64_t vfs_file_bytes(void) { return file_bytes; }

const char *vfs_main_name(void) { return main_name; }

void explain(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  sqlite3_vsnprintf(sizeof vfs_detail, vfs_detail, format, arguments);
  va_end(arguments);
}

/* ---- the size of the file ---- */

static uint32_t big_endian_32(const uint8_t *bytes) {
  return (uint32_t)bytes[0] << 24 | bytes[1] << 16 | bytes[2] << 8 | bytes[3];
}

static int is_zero(const uint8_t *bytes, uint32_t length) {
  while (length > 0 && bytes[length - 1] == 0) length--;
  return length == 0;
}

/* Learns how long the file is from its header. A first transaction that was rolled back leaves a
** header of zeros behind: that file is empty.
*/
static int derive_size(const uint8_t *bytes, uint64_t allocated) {
  is_size_known = 1;
  file_bytes = 0;
  if (is_zero(bytes, DATABASE_HEADER_BYTES)) return SQLITE_OK;
  uint32_t stored = (uint32_t)bytes[16] << 8 | bytes[17];
  uint32_t page_bytes = stored == 1 ? 65536 : stored;
  if (memcmp(bytes, "SQLite format 3", 16) != 0) {
    explain("no SQLite database is there; choose the layout that the image has");
    return SQLITE_NOTADB;
  }
  if (page_bytes < 512 || (page_bytes & (page_bytes - 1)) != 0) {
    explain("the database header states SQLite pages of %u bytes; it is damaged", page_bytes);
    return SQLITE_NOTADB;
  }
  if (bytes[18] == 2 || bytes[19] == 2) {
    explain("the database is in WAL mode, and a canister has no write-ahead log; on the native "
            "engine, PRAGMA journal_mode = delete takes it out of that mode");
    return SQLITE_CANTOPEN;
  }
  /* Writers before SQLite 3.7.0 left the count alone; it is true only if both counters agree. */
  int is_count_true = big_endian_32(bytes + 24) == big_endian_32(bytes + 92);
  uint64_t size = is_count_true ? (uint64_t)big_endian_32(bytes + 28) * page_bytes : 0;
  if (size > allocated) {
    explain("the database says it has %llu bytes, but only %llu are there; the image is truncated",
            size, allocated);
    return SQLITE_CORRUPT;
  }
  file_bytes = size ? size : allocated;
  return SQLITE_OK;
}

static int learn_size(void) {
  uint8_t bytes[DATABASE_HEADER_BYTES];
  uint64_t allocated = placement_allocated_bytes();
  if (is_size_known) return SQLITE_OK;
  if (allocated == 0) {
    is_size_known = 1;
    return SQLITE_OK;
  }
  stable64_read((uintptr_t)bytes, placement_address(0), sizeof bytes);
  return derive_size(bytes, allocated);
}

/* The first look at the header: it is read once, for SQLite and for the size. */
static int read_header(uint8_t *target) {
  uint64_t allocated = placement_allocated_bytes();
  memset(target, 0, DATABASE_HEADER_BYTES);
  if (allocated == 0) {
    is_size_known = 1;
    return SQLITE_IOERR_SHORT_READ;
  }
  stable64_read((uintptr_t)target, placement_address(0), DATABASE_HEADER_BYTES);
  int code = derive_size(target, allocated);
  if (code == SQLITE_OK && file_bytes == 0) code = SQLITE_IOERR_SHORT_READ;
  return code;
}

/* ---- the file ---- */

static int file_read(sqlite3_file *file, void *target, int length, sqlite3_int64 offset) {
  (void)file;
  uint64_t start = (uint64_t)offset;
  uint64_t end = start + (uint64_t)length;
  if (!is_size_known) {
    if (start == 0 && length == DATABASE_HEADER_BYTES) return read_header(target);
    int code = learn_size();
    if (code != SQLITE_OK) return code;
  }
  if (end <= file_bytes) {
    stable64_read((uintptr_t)target, placement_address(start), (uint64_t)length);
    return SQLITE_OK;
  }
  uint64_t there = start < file_bytes ? file_bytes - start : 0;
  if (there > 0) stable64_read((uintptr_t)target, placement_address(start), there);
  memset((char *)target + there, 0, (size_t)((uint64_t)length - there));
  return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *file, const void *source, int length, sqlite3_int64 offset) {
  (void)file;
  uint64_t end = (uint64_t)offset + (uint64_t)length;
  if (end > placement_allocated_bytes() && !placement_grow(end)) {
    explain("stable memory is full: the database needs %llu bytes and %llu are allocated; delete "
            "data and VACUUM, use larger buckets, or split the data over several canisters",
            end, placement_allocated_bytes());
    return SQLITE_FULL;
  }
  stable64_write(placement_address((uint64_t)offset), (uintptr_t)source, (uint64_t)length);
  if (end > file_bytes) file_bytes = end;
  return SQLITE_OK;
}

/* Stable memory never shrinks: what is cut off keeps its place, and its bytes. */
static int file_truncate(sqlite3_file *file, sqlite3_int64 size) {
  (void)file;
  file_bytes = (uint64_t)size;
  return SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size) {
  (void)file;
  int code = learn_size();
  *size = (sqlite3_int64)file_bytes;
  return code;
}

/* The message commits, not the file. */
static int file_sync(sqlite3_file *file, int flags) {
  (void)file;
  (void)flags;
  return SQLITE_OK;
}

static int file_lock(sqlite3_file *file, int level) {
  (void)file;
  (void)level;
  return SQLITE_OK;
}

/* SQLite asks where there is a journal: one that somebody has open is not to be played back. */
static int file_check_reserved_lock(sqlite3_file *file, int *is_held) {
  (void)file;
  *is_held = files_is_journal_live(main_name);
  return SQLITE_OK;
}

/* Refuses the journal that needs shared memory. SQLite takes the beginning of a mode's name for the
** mode. Word for word as the native engine refuses.
*/
int vfs_check_pragma(char **pragma) {
  const char *name = pragma[1], *value = pragma[2];
  if (sqlite3_stricmp(name, "journal_mode") != 0 || value == NULL) return SQLITE_NOTFOUND;
  if (value[0] == 0 || sqlite3_strnicmp("wal", value, (int)strlen(value)) != 0) {
    return SQLITE_NOTFOUND;
  }
  pragma[0] = sqlite3_mprintf(
      "journal_mode wal is not available: no canister has the shared memory that a write-ahead log "
      "needs; choose memory or off, or in layout managed delete, truncate or persist");
  return SQLITE_ERROR;
}

static int file_control(sqlite3_file *file, int operation, void *argument) {
  (void)file;
  return operation == SQLITE_FCNTL_PRAGMA ? vfs_check_pragma(argument) : SQLITE_NOTFOUND;
}

static int file_sector_size(sqlite3_file *file) {
  (void)file;
  return SECTOR_BYTES;
}

/* As SQLite's own files say: a write never damages its neighbours. */
static int file_characteristics(sqlite3_file *file) {
  (void)file;
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int file_close(sqlite3_file *file) {
  (void)file;
  return SQLITE_OK;
}

static const sqlite3_io_methods file_methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_lock,
    .xCheckReservedLock = file_check_reserved_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
};

/* ---- the file system ---- */

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *given) {
  (void)vfs;
  if (given) *given = flags;
  if (!(flags & SQLITE_OPEN_MAIN_DB) || name == NULL || strcmp(name, main_name) != 0) {
    file->pMethods = NULL;
    return files_open(name, file, flags);
  }
  file->pMethods = &file_methods;
  return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int is_directory_synced) {
  (void)vfs;
  (void)is_directory_synced;
  files_delete(name);
  return SQLITE_OK;
}

/* SQLite asks for journals only. No stable memory is involved. */
static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *exists) {
  (void)vfs;
  (void)flags;
  *exists = files_exist(name);
  return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *name, int room, char *path) {
  (void)vfs;
  if ((int)strlen(name) >= room) {
    return files_refuse_length(name);
  }
  sqlite3_snprintf(room, path, "%s", name);
  return SQLITE_OK;
}

/* SQLite seeds its own generator with this once: always the same, as all replicas must agree. */
static int vfs_randomness(sqlite3_vfs *vfs, int length, char *target) {
  (void)vfs;
  for (int i = 0; i < length; i++) target[i] = (char)(i * 0x9D + 0x35);
  return length;
}

static int vfs_sleep(sqlite3_vfs *vfs, int microseconds) {
  (void)vfs;
  return microseconds;
}

static int vfs_time_ms(sqlite3_vfs *vfs, sqlite3_int64 *milliseconds) {
  (void)vfs;
  *milliseconds = now;
  return SQLITE_OK;
}

static int vfs_time(sqlite3_vfs *vfs, double *julian_days) {
  (void)vfs;
  *julian_days = (double)now / 86400000.0;
  return SQLITE_OK;
}

static int vfs_last_error(sqlite3_vfs *vfs, int length, char *text) {
  (void)vfs;
  (void)length;
  (void)text;
  return 0;
}

static sqlite3_vfs vfs = {
    .iVersion = 2,
    .szOsFile = FILE_HANDLE_BYTES,
    .mxPathname = sizeof main_name,
    .zName = vfs_name,
    .xOpen = vfs_open,
    .xDelete = vfs_delete,
    .xAccess = vfs_access,
    .xFullPathname = vfs_full_path,
    .xRandomness = vfs_randomness,
    .xSleep = vfs_sleep,
    .xCurrentTime = vfs_time,
    .xGetLastError = vfs_last_error,
    .xCurrentTimeInt64 = vfs_time_ms,
};

/* ---- a database behind its length: the layout of froghub's ic-sqlite ----
**
** Eight bytes, big-endian, then the database. The length only grows; the product writes it with
** each write that passes it, here it is written when an SQL transaction commits, as on the native
** engine. Functions of their own leave the others as they are, to the instruction.
*/

#define LENGTH_BYTES 8

typedef struct Behind {
  sqlite3_io_methods methods; /* those of every file, but for what concerns the length */
  uint64_t length;            /* as it stands in front of the database */
} Behind;

/* In the heap, not beside the other variables: those stay where they are. */
static Behind *behind;

static int behind_read(sqlite3_file *file, void *target, int count, sqlite3_int64 offset) {
  int was_known = is_size_known;
  int code = file_read(file, target, count, offset);
  if (!was_known && file_bytes > behind->length) file_bytes = behind->length;
  return code;
}

static int behind_size(sqlite3_file *file, sqlite3_int64 *size) {
  int was_known = is_size_known;
  int code = file_size(file, size);
  if (!was_known && file_bytes > behind->length) file_bytes = behind->length;
  *size = (sqlite3_int64)file_bytes;
  return code;
}

static int behind_write(sqlite3_file *file, const void *source, int count, sqlite3_int64 offset) {
  uint64_t end = LENGTH_BYTES + (uint64_t)offset + (uint64_t)count;
  /* The bytes in front take room, too: this leaves the next function none to grow. */
  if (end > placement_allocated_bytes() && !placement_grow(end)) {
    /* Word for word as above: one text. */
    explain("stable memory is full: the database needs %llu bytes and %llu are allocated; delete "
            "data and VACUUM, use larger buckets, or split the data over several canisters",
            end, placement_allocated_bytes());
    return SQLITE_FULL;
  }
  return file_write(file, source, count, offset);
}

static int behind_control(sqlite3_file *file, int operation, void *argument) {
  if (operation == SQLITE_FCNTL_COMMIT_PHASETWO && file_bytes > behind->length) {
    uint8_t bytes[LENGTH_BYTES];
    behind->length = file_bytes;
    for (int i = 0; i < LENGTH_BYTES; i++) bytes[i] = (uint8_t)(file_bytes >> (56 - 8 * i));
    stable64_write(0, (uintptr_t)bytes, sizeof bytes);
  }
  return file_control(file, operation, argument);
}

static int behind_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags,
                       int *given) {
  uint8_t bytes[LENGTH_BYTES] = {0};
  int code = vfs_open(self, name, file, flags, given);
  if (code != SQLITE_OK || file->pMethods != &file_methods) return code;
  behind = allocate(sizeof *behind, main_name);
  if (stable64_size() > 0) stable64_read((uintptr_t)bytes, 0, sizeof bytes);
  behind->length = (uint64_t)big_endian_32(bytes) << 32 | big_endian_32(bytes + 4);
  behind->methods = file_methods;
  behind->methods.xRead = behind_read;
  behind->methods.xWrite = behind_write;
  behind->methods.xFileSize = behind_size;
  behind->methods.xFileControl = behind_control;
  file->pMethods = &behind->methods;
  return SQLITE_OK;
}

void vfs_put_behind_length(void) {
  placement_set_origin(LENGTH_BYTES);
  vfs.xOpen = behind_open;
}

void vfs_set_up(int64_t now_ms, const char *database_name) {
  now = now_ms;
  sqlite3_snprintf(sizeof main_name, main_name, "%s", database_name);
}

/* SQLite calls these when it is initialised and shut down. */
int sqlite3_os_init(void) { return sqlite3_vfs_register(&vfs, 1); }
int sqlite3_os_end(void) { return SQLITE_OK; }
