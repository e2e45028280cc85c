/* Further files beside the database: attached databases and journals in virtual memories of their
** own, everything else in the heap.
**
** Byte for byte, and call by call, as the native engine has them (sqlstable/layout/directory.py,
** sqlstable/layout/placement.py, sqlstable/database/stablefile.py):
**
**   directory   virtual memory 121, written with the first further file: a header of 256 bytes, then
**               an entry of 256 bytes for each file, the database in memory 120 first
**   file        in the first memory from 122 on that nobody holds. It gets its place with its first
**               byte, and its name is written last
**   journal     a virtual memory cannot shrink, so it *exists* if its first 8 bytes are a journal's
**               magic; deleting it, or cutting it to nothing, overwrites its header with zeros
**
** In layouts that have no virtual memories journals are in the heap, and so are super-journals and
** temporary files in all layouts: a message commits whole, so nobody needs them afterwards.
**
** Which files there are, and how long each is, the host looks up before a heap begins and hands over
** behind the settings: to read the directory costs the native engine nothing, either. Records, as
** many as there are bytes for, in the order of the directory:
**
**   u8 memory    that holds the file; 121: what is there is no directory, and the name says what
**   u8 kind      KIND_...
**   u8 bytes     of the name
**   u8 exists    of a journal: whether its magic is there
**   u64 size     of a database, or of a journal that exists
**   name
**
** What is kept here is in the heap, allocated with the first such file: nothing of it costs those
** who have none.
*/
#include <string.h>

#include "module.h"

#define DIRECTORY_MEMORY_ID 121
#define FIRST_MEMORY_ID 122
#define LAST_MEMORY_ID 254
#define DATABASE_MEMORY_ID 120

#define ENTRY_BYTES 256
#define NAME_BYTES_MAX 248
#define SUFFIX_BYTES_MAX 8 /* of "-journal" */
#define JOURNAL_HEADER_BYTES 28
#define MAGIC_BYTES 8
#define SECTOR_BYTES 512
#define ROOM_BYTES_MIN 4096

enum { KIND_HEAP, KIND_DATABASE, KIND_JOURNAL, KIND_WAL };

static const char journal_suffix[] = "-journal";
static const uint8_t journal_magic[MAGIC_BYTES] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};

typedef struct Stored {
  struct Stored *next;
  uint64_t size;
  uint32_t kind;
  uint32_t memory_id; /* 0 where it has no place yet */
  uint32_t handles;
  uint32_t exists;            /* of a journal */
  uint8_t start[MAGIC_BYTES]; /* of a journal, as it stands there */
  uint8_t *bytes;             /* of one in the heap */
  uint64_t room;
  char name[]; /* empty for a temporary file */
} Stored;

typedef struct Handle {
  const sqlite3_io_methods *methods;
  Stored *file;
} Handle;

_Static_assert(sizeof(Handle) == FILE_HANDLE_BYTES, "SQLite makes room for so much");

/* One variable, so that the others stay where they are. */
static struct Files {
  Stored *first;
  uint32_t entries; /* of the directory, that of the database included */
  char *foreign;    /* what memory 121 begins with, if that is no directory */
} *files;

static Stored *file_of(sqlite3_file *handle) { return ((Handle *)handle)->file; }

/* ---- the list ---- */

static void make_list(void) {
  if (files) return;
  files = allocate(sizeof *files, "the list of files");
  memset(files, 0, sizeof *files);
}

static Stored *find(const char *name) {
  if (!files) return NULL;
  for (Stored *each = files->first; each; each = each->next) {
    if (each->name[0] && strcmp(each->name, name) == 0) return each;
  }
  return NULL;
}

static Stored *add(const char *name, uint32_t name_bytes, uint32_t kind) {
  make_list();
  Stored *file = allocate(sizeof *file + name_bytes + 1, "an open file");
  memset(file, 0, sizeof *file);
  memcpy(file->name, name, name_bytes);
  file->name[name_bytes] = 0;
  file->kind = kind;
  file->next = files->first;
  files->first = file;
  return file;
}

static void drop(Stored *file) {
  Stored **at = &files->first;
  while (*at != file) at = &(*at)->next;
  *at = file->next;
  sqlite3_free(file->bytes);
  sqlite3_free(file);
}

void files_set_up(const uint8_t *records, uint32_t byte_count) {
  const uint8_t *at = records, *end = records + byte_count;
  make_list();
  while (at < end) {
    uint32_t memory_id = at[0], kind = at[1], name_bytes = at[2];
    const char *name = (const char *)at + 12;
    if (end - at < 12 || (uint32_t)(end - at) < 12 + name_bytes) {
      trap_with("the list of further files is cut off");
    }
    if (memory_id == DIRECTORY_MEMORY_ID) {
      files->foreign = allocate(name_bytes + 1, "what memory 121 holds");
      memcpy(files->foreign, name, name_bytes);
      files->foreign[name_bytes] = 0;
    } else if (memory_id == DATABASE_MEMORY_ID) {
      files->entries++;
    } else {
      Stored *file = add(name, name_bytes, kind);
      file->memory_id = memory_id;
      file->exists = at[3];
      memcpy(&file->size, at + 4, sizeof file->size);
      if (file->exists) memcpy(file->start, journal_magic, MAGIC_BYTES);
      files->entries++;
    }
    at += 12 + name_bytes;
  }
}

/* ---- a place in stable memory ---- */

static uint64_t allocated(const Stored *file) {
  return file->memory_id ? memory_bytes(file->memory_id) : 0;
}

static int is_taken(uint32_t memory_id) {
  for (Stored *each = files->first; each; each = each->next) {
    if (each->memory_id == memory_id) return 1;
  }
  return memory_is_held(memory_id);
}

static void put_entry(uint8_t *target, uint32_t memory_id, uint32_t kind, const char *name) {
  uint32_t name_bytes = (uint32_t)strlen(name);
  memset(target, 0, ENTRY_BYTES);
  target[0] = (uint8_t)memory_id;
  target[1] = (uint8_t)kind;
  target[2] = (uint8_t)name_bytes;
  memcpy(target + ENTRY_BYTES - NAME_BYTES_MAX, name, name_bytes);
}

static void write_entry(const Stored *file) {
  uint8_t bytes[3 * ENTRY_BYTES] = {0};
  if (files->entries > 0) {
    put_entry(bytes, file->memory_id, file->kind, file->name);
    uint64_t offset = ENTRY_BYTES * (1 + (uint64_t)files->entries);
    stable64_write(memory_address(DIRECTORY_MEMORY_ID, offset), (uintptr_t)bytes, ENTRY_BYTES);
  } else {
    memcpy(bytes, "SQLSTDIR\1", 9);
    put_entry(bytes + ENTRY_BYTES, DATABASE_MEMORY_ID, KIND_DATABASE, vfs_main_name());
    put_entry(bytes + 2 * ENTRY_BYTES, file->memory_id, file->kind, file->name);
    stable64_write(memory_address(DIRECTORY_MEMORY_ID, 0), (uintptr_t)bytes, sizeof bytes);
    files->entries = 1;
  }
  files->entries++;
}

/* Gives a file room, a new one its place; 0: there is none. */
static int place(Stored *file, uint64_t size) {
  if (file->memory_id) return memory_grow(file->memory_id, size, 0);
  uint32_t memory_id = FIRST_MEMORY_ID;
  while (memory_id <= LAST_MEMORY_ID && is_taken(memory_id)) memory_id++;
  if (memory_id > LAST_MEMORY_ID) return 0;
  if (!memory_grow(DIRECTORY_MEMORY_ID, 1, 1)) return 0;
  if (!memory_grow(memory_id, size, 0)) return 0;
  file->memory_id = memory_id;
  write_entry(file);
  return 1;
}

static int make_room(Stored *file, uint64_t size) {
  if (size <= allocated(file) || place(file, size)) return SQLITE_OK;
  explain("stable memory is full: %s needs %llu bytes and %llu are allocated; delete data and "
          "VACUUM, use larger buckets, or split the data over several canisters",
          file->kind == KIND_JOURNAL ? "the journal" : "the database", size, allocated(file));
  return SQLITE_FULL;
}

/* ---- calls that mean nothing where a message commits, and not the file ---- */

static int quiet_sync(sqlite3_file *handle, int flags) {
  (void)handle;
  (void)flags;
  return SQLITE_OK;
}

static int quiet_lock(sqlite3_file *handle, int level) {
  (void)handle;
  (void)level;
  return SQLITE_OK;
}

static int quiet_reserved_lock(sqlite3_file *handle, int *is_held) {
  (void)handle;
  *is_held = 0;
  return SQLITE_OK;
}

static int quiet_control(sqlite3_file *handle, int operation, void *argument) {
  (void)handle;
  (void)operation;
  (void)argument;
  return SQLITE_NOTFOUND;
}

static int quiet_sector_size(sqlite3_file *handle) {
  (void)handle;
  return SECTOR_BYTES;
}

static int quiet_characteristics(sqlite3_file *handle) {
  (void)handle;
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int stored_size(sqlite3_file *handle, sqlite3_int64 *size) {
  *size = (sqlite3_int64)file_of(handle)->size;
  return SQLITE_OK;
}

static int stored_close(sqlite3_file *handle) {
  Stored *file = file_of(handle);
  file->handles--;
  if (!file->name[0]) drop(file);
  return SQLITE_OK;
}

/* ---- attached databases ---- */

/* Returns how much of a range is in the file, and fills the rest with zeros. */
static uint64_t within(const Stored *file, void *target, int length, sqlite3_int64 offset) {
  uint64_t start = (uint64_t)offset, count = (uint64_t)length;
  uint64_t there = start < file->size ? file->size - start : 0;
  if (there >= count) return count;
  memset((char *)target + there, 0, (size_t)(count - there));
  return there;
}

/* A SQLite page never crosses a bucket's border, so one address does for each access. */
static int database_read(sqlite3_file *handle, void *target, int length, sqlite3_int64 offset) {
  Stored *file = file_of(handle);
  uint64_t there = within(file, target, length, offset);
  if (there > 0) {
    uint64_t address = memory_address(file->memory_id, (uint64_t)offset);
    stable64_read((uintptr_t)target, address, there);
  }
  return there == (uint64_t)length ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int database_write(sqlite3_file *handle, const void *source, int length,
                          sqlite3_int64 offset) {
  Stored *file = file_of(handle);
  uint64_t end = (uint64_t)offset + (uint64_t)length;
  int code = make_room(file, end);
  if (code != SQLITE_OK) return code;
  uint64_t address = memory_address(file->memory_id, (uint64_t)offset);
  stable64_write(address, (uintptr_t)source, (uint64_t)length);
  if (end > file->size) file->size = end;
  return SQLITE_OK;
}

static int database_truncate(sqlite3_file *handle, sqlite3_int64 size) {
  file_of(handle)->size = (uint64_t)size;
  return SQLITE_OK;
}

static int database_reserved_lock(sqlite3_file *handle, int *is_held) {
  *is_held = files_is_journal_live(file_of(handle)->name);
  return SQLITE_OK;
}

static int database_control(sqlite3_file *handle, int operation, void *argument) {
  (void)handle;
  return operation == SQLITE_FCNTL_PRAGMA ? vfs_check_pragma(argument) : SQLITE_NOTFOUND;
}

static const sqlite3_io_methods database_methods = {
    .iVersion = 1,
    .xClose = stored_close,
    .xRead = database_read,
    .xWrite = database_write,
    .xTruncate = database_truncate,
    .xSync = quiet_sync,
    .xFileSize = stored_size,
    .xLock = quiet_lock,
    .xUnlock = quiet_lock,
    .xCheckReservedLock = database_reserved_lock,
    .xFileControl = database_control,
    .xSectorSize = quiet_sector_size,
    .xDeviceCharacteristics = quiet_characteristics,
};

/* ---- journals in stable memory ---- */

/* Calls of a journal are cut at the borders of buckets, as its records cross them. */
static uint64_t piece(uint64_t offset, uint64_t left) {
  uint64_t bucket_bytes = memory_bucket_bytes();
  uint64_t rest = bucket_bytes - offset % bucket_bytes;
  return rest < left ? rest : left;
}

static int journal_read(sqlite3_file *handle, void *target, int length, sqlite3_int64 offset) {
  Stored *file = file_of(handle);
  uint64_t there = within(file, target, length, offset), at = 0;
  while (at < there) {
    uint64_t start = (uint64_t)offset + at;
    uint64_t count = piece(start, there - at);
    stable64_read((uintptr_t)target + at, memory_address(file->memory_id, start), count);
    at += count;
  }
  return there == (uint64_t)length ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static void journal_put(Stored *file, const uint8_t *source, uint64_t length, uint64_t offset) {
  for (uint64_t at = 0; at < length;) {
    uint64_t count = piece(offset + at, length - at);
    uint64_t address = memory_address(file->memory_id, offset + at);
    stable64_write(address, (uintptr_t)source + at, count);
    at += count;
  }
  if (offset >= MAGIC_BYTES) return;
  uint64_t known = length < MAGIC_BYTES - offset ? length : MAGIC_BYTES - offset;
  memcpy(file->start + offset, source, known);
  file->exists = memcmp(file->start, journal_magic, MAGIC_BYTES) == 0;
}

static int journal_write(sqlite3_file *handle, const void *source, int length,
                         sqlite3_int64 offset) {
  Stored *file = file_of(handle);
  uint64_t end = (uint64_t)offset + (uint64_t)length;
  int code = make_room(file, end);
  if (code != SQLITE_OK) return code;
  journal_put(file, source, (uint64_t)length, (uint64_t)offset);
  if (end > file->size) file->size = end;
  return SQLITE_OK;
}

static void journal_erase(Stored *file) {
  static const uint8_t zeros[JOURNAL_HEADER_BYTES];
  file->size = 0;
  if (file->exists) journal_put(file, zeros, sizeof zeros, 0);
}

static int journal_truncate(sqlite3_file *handle, sqlite3_int64 size) {
  Stored *file = file_of(handle);
  if ((uint64_t)size >= file->size) return SQLITE_OK;
  file->size = (uint64_t)size;
  if (size == 0) journal_erase(file);
  return SQLITE_OK;
}

static const sqlite3_io_methods journal_methods = {
    .iVersion = 1,
    .xClose = stored_close,
    .xRead = journal_read,
    .xWrite = journal_write,
    .xTruncate = journal_truncate,
    .xSync = quiet_sync,
    .xFileSize = stored_size,
    .xLock = quiet_lock,
    .xUnlock = quiet_lock,
    .xCheckReservedLock = quiet_reserved_lock,
    .xFileControl = quiet_control,
    .xSectorSize = quiet_sector_size,
    .xDeviceCharacteristics = quiet_characteristics,
};

/* ---- files of the heap ---- */

static int heap_file_read(sqlite3_file *handle, void *target, int length, sqlite3_int64 offset) {
  Stored *file = file_of(handle);
  uint64_t there = within(file, target, length, offset);
  if (there > 0) memcpy(target, file->bytes + offset, (size_t)there);
  return there == (uint64_t)length ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int heap_file_write(sqlite3_file *handle, const void *source, int length,
                           sqlite3_int64 offset) {
  Stored *file = file_of(handle);
  uint64_t start = (uint64_t)offset, end = start + (uint64_t)length;
  if (end > file->room) {
    uint64_t room = 2 * file->room > end ? 2 * file->room : end + ROOM_BYTES_MIN;
    uint8_t *bytes = sqlite3_realloc64(file->bytes, room);
    if (!bytes) return SQLITE_IOERR_NOMEM;
    file->bytes = bytes;
    file->room = room;
  }
  if (start > file->size) memset(file->bytes + file->size, 0, (size_t)(start - file->size));
  memcpy(file->bytes + start, source, (size_t)length);
  if (end > file->size) file->size = end;
  return SQLITE_OK;
}

static int heap_file_truncate(sqlite3_file *handle, sqlite3_int64 size) {
  Stored *file = file_of(handle);
  if ((uint64_t)size < file->size) file->size = (uint64_t)size;
  return SQLITE_OK;
}

/* It claims nothing. */
static int heap_file_characteristics(sqlite3_file *handle) {
  (void)handle;
  return 0;
}

static const sqlite3_io_methods heap_file_methods = {
    .iVersion = 1,
    .xClose = stored_close,
    .xRead = heap_file_read,
    .xWrite = heap_file_write,
    .xTruncate = heap_file_truncate,
    .xSync = quiet_sync,
    .xFileSize = stored_size,
    .xLock = quiet_lock,
    .xUnlock = quiet_lock,
    .xCheckReservedLock = quiet_reserved_lock,
    .xFileControl = quiet_control,
    .xSectorSize = quiet_sector_size,
    .xDeviceCharacteristics = heap_file_characteristics,
};

/* ---- opening, word for word as the native engine refuses ---- */

static int ends_with(const char *name, const char *suffix) {
  size_t name_bytes = strlen(name), suffix_bytes = strlen(suffix);
  return name_bytes >= suffix_bytes && strcmp(name + name_bytes - suffix_bytes, suffix) == 0;
}

int files_refuse_length(const char *name) {
  explain("the name of the database has %u bytes; with further files beside it in stable memory it "
          "can have 1 to %d",
          (uint32_t)strlen(name), NAME_BYTES_MAX - SUFFIX_BYTES_MAX);
  return SQLITE_CANTOPEN;
}

static int check_length(const char *name) {
  size_t length = strlen(name);
  if (length > 0 && length <= NAME_BYTES_MAX - SUFFIX_BYTES_MAX) return SQLITE_OK;
  return files_refuse_length(name);
}

static int check_directory(void) {
  if (!files || !files->foreign) return SQLITE_OK;
  explain("virtual memory %d should hold the names of further files, and begins with %s instead of "
          "b'SQLSTDIR': it belongs to something else, so this image can hold the main database only",
          DIRECTORY_MEMORY_ID, files->foreign);
  return SQLITE_CANTOPEN;
}

static int check_database(const char *name) {
  const char *last = strrchr(name, '/');
  last = last ? last + 1 : name;
  if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
    explain("'%s' can only be the name of a folder, of which stable memory has none; give the "
            "database a name such as main.db",
            name);
    return SQLITE_CANTOPEN;
  }
  if (!has_memories) {
    explain("the stable memory holds one database file, opened as '%s'; '%s' would be a second "
            "one: use layout managed, attach ':memory:', or give it a VFS of its own",
            vfs_main_name(), name);
    return SQLITE_CANTOPEN;
  }
  int code = check_directory();
  if (code == SQLITE_OK) code = check_length(name);
  if (code == SQLITE_OK) code = check_length(vfs_main_name());
  if (code == SQLITE_OK && (ends_with(name, journal_suffix) || ends_with(name, "-wal"))) {
    explain("'%s' is what SQLite calls a file beside a database; give the database a name that does "
            "not end in -journal or -wal",
            name);
    code = SQLITE_CANTOPEN;
  }
  return code;
}

static int check_journal(const char *name) {
  int code = check_directory();
  if (code == SQLITE_OK) code = check_length(vfs_main_name());
  Stored *file = find(name);
  if (code == SQLITE_OK && file && file->kind != KIND_JOURNAL) {
    explain("'%s' should be a journal, and is another file", name);
    code = SQLITE_CANTOPEN;
  }
  return code;
}

int files_open(const char *name, sqlite3_file *handle, int flags) {
  Handle *opened = (Handle *)handle;
  uint32_t kind = KIND_HEAP;
  int code = SQLITE_OK;
  if (flags & SQLITE_OPEN_MAIN_DB && name) {
    kind = KIND_DATABASE;
    code = check_database(name);
  } else if (flags & SQLITE_OPEN_MAIN_JOURNAL && has_memories && name) {
    kind = KIND_JOURNAL;
    code = check_journal(name);
  }
  if (code != SQLITE_OK) return code;
  Stored *file = name ? find(name) : NULL;
  if (!file) file = add(name ? name : "", name ? (uint32_t)strlen(name) : 0, kind);
  file->handles++;
  opened->file = file;
  opened->methods = kind == KIND_DATABASE  ? &database_methods
                    : kind == KIND_JOURNAL ? &journal_methods
                                           : &heap_file_methods;
  return SQLITE_OK;
}

void files_delete(const char *name) {
  Stored *file = find(name);
  if (!file) return;
  if (file->kind == KIND_JOURNAL) {
    journal_erase(file);
  } else if (file->kind == KIND_HEAP) {
    drop(file);
  }
}

int files_exist(const char *name) {
  Stored *file = find(name);
  if (!file) return 0;
  if (file->kind == KIND_JOURNAL) return (int)file->exists;
  return file->kind == KIND_HEAP || (file->kind == KIND_DATABASE && file->size > 0);
}

int files_is_journal_live(const char *database_name) {
  char name[NAME_BYTES_MAX + SUFFIX_BYTES_MAX];
  sqlite3_snprintf(sizeof name, name, "%s%s", database_name, journal_suffix);
  Stored *file = find(name);
  return file && file->kind == KIND_JOURNAL && file->exists && file->handles > 0;
}
