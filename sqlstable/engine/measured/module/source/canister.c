/* The canister's entry points: setting SQLite up, and handing requests to it. */
#include <stdarg.h>
#include <string.h>

#include "module.h"

#define EXPORT(NAME) __attribute__((export_name(NAME)))
#define NAME_BYTES_MAX 254

extern void __wasm_call_ctors(void);

static sqlite3 *database;

#ifdef SQLSTABLE_HEAP
static int is_in_heap; /* or in stable memory, to compare with */
static int is_upgrade; /* whether a database was kept, and is to be brought back */
#endif

void trap_with(const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  sqlite3_vsnprintf(sizeof text, text, format, arguments);
  va_end(arguments);
  trap((uintptr_t)text, (uint32_t)strlen(text));
}

void *allocate(uint64_t size_bytes, const char *purpose) {
  void *memory = sqlite3_malloc64(size_bytes);
  if (!memory) trap_with("out of memory: %llu bytes for %s", size_bytes, purpose);
  return memory;
}

/* ---- opening ---- */

static void check(int code) {
  if (code == SQLITE_OK) return;
  const char *message = database ? sqlite3_errmsg(database) : sqlite3_errstr(code);
  trap_with("the database in stable memory cannot be opened: %s",
            vfs_detail[0] ? vfs_detail : message);
}

static void set(const char *pragma, const char *value) {
  char sql[64];
  sqlite3_snprintf(sizeof sql, sql, "PRAGMA %s = %s", pragma, value);
  check(sqlite3_exec(database, sql, NULL, NULL, NULL));
}

static void set_number(const char *pragma, uint32_t number) {
  char text[12];
  sqlite3_snprintf(sizeof text, text, "%u", number);
  set(pragma, text);
}

/* Tells from here on that a commit has begun: an SQL transaction, autocommitted ones included. */
static int on_commit(void *context) {
  (void)context;
  MARK(PHASE_COMMIT);
  return 0;
}

static const char *journal_name(uint32_t journal) {
  switch (journal) {
    case JOURNAL_OFF:
      return "off";
    case JOURNAL_DELETE:
      return "delete";
    case JOURNAL_TRUNCATE:
      return "truncate";
    case JOURNAL_PERSIST:
      return "persist";
    default:
      return "memory";
  }
}

/* The same in the same order as the native engine, so that opening touches the same. */
static void open_database(const Settings *settings, const char *name) {
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
#ifdef SQLSTABLE_HEAP
  if (is_in_heap) name = ":memory:";
#endif
  check(sqlite3_open_v2(name, &database, flags, vfs_name));
#ifdef SQLSTABLE_HEAP
  /* Before anything else: SQLite has no page size and no text encoding yet. */
  if (is_in_heap && is_upgrade) heap_bring_back(database);
#endif
  check(sqlite3_extended_result_codes(database, 1));
  check(random_register(database));
#ifdef SQLITE_ENABLE_STMT_SCANSTATUS
  check(sqlite3_db_config(database, SQLITE_DBCONFIG_STMT_SCANSTATUS, 1, NULL));
#endif
  if (settings->is_foreign) {
    check(sqlite3_db_config(database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL));
  }
  set("locking_mode", "exclusive");
  set_number("page_size", settings->page_size);
  set("temp_store", "memory");
  set("synchronous", "off");
  set("journal_mode", journal_name(settings->journal));
  set_number("cache_size", settings->cache_sqlite_pages);
  set("foreign_keys", settings->foreign_keys ? "on" : "off");
  if (settings->is_foreign) {
    /* Last, because defensive mode refuses journal_mode off. */
    check(sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL));
  }
  sqlite3_commit_hook(database, on_commit, NULL);
}

/* Hands over to the files what comes behind settings and name. */
static void set_up_files(const Settings *settings, uint32_t size) {
  uint32_t start = sizeof *settings + settings->name_bytes;
  uint8_t *records = allocate((uint64_t)(size - start) + 1, "the list of further files");
  msg_arg_data_copy((uintptr_t)records, start, size - start);
  files_set_up(records, size - start);
  sqlite3_free(records);
}

static void start(void) {
  struct {
    Settings settings;
    char name[NAME_BYTES_MAX + 1];
  } argument = {0};
  __wasm_call_ctors();
  uint32_t size = msg_arg_data_size(), room = sizeof argument - 1;
  if (size < sizeof argument.settings) trap_with("the settings have %u bytes", size);
  msg_arg_data_copy((uintptr_t)&argument, 0, size < room ? size : room);
  const Settings *settings = &argument.settings;
  uint32_t has_files = settings->version == SETTINGS_VERSION_FILES, end = size;
  if (has_files && settings->name_bytes <= NAME_BYTES_MAX) {
    end = sizeof argument.settings + settings->name_bytes;
    argument.name[settings->name_bytes] = 0;
  }
  if (end > room || end > size) trap_with("the settings have %u bytes", size);
#ifdef SQLSTABLE_HEAP
  heap_configure(settings);
  is_in_heap = settings->version == SETTINGS_VERSION_HEAP;
  if (!(is_in_heap || settings->version == SETTINGS_VERSION) ||
      settings->name_bytes != end - sizeof argument.settings) {
    trap_with("the settings are of version %u with a name of %u bytes", settings->version,
              settings->name_bytes);
  }
#else
  if (!(has_files || settings->version == SETTINGS_VERSION) ||
      settings->name_bytes != end - sizeof argument.settings) {
    if (settings->version != SETTINGS_VERSION_BEHIND_LENGTH ||
        settings->name_bytes != end - sizeof argument.settings) {
      trap_with("the settings are of version %u with a name of %u bytes", settings->version,
                settings->name_bytes);
    }
    vfs_put_behind_length();
  }
#endif
  lean_configure();
  vfs_set_up(settings->now_ms, argument.name);
  check(sqlite3_initialize());
#ifdef SQLSTABLE_HEAP
  if (!is_in_heap) placement_open(settings);
#else
  placement_open(settings);
#endif
  if (has_files) set_up_files(settings, size);
  open_database(settings, argument.name);
}

/* ---- entry points ---- */

EXPORT("canister_init") void canister_init(void) { start(); }

#ifdef SQLSTABLE_HEAP
EXPORT("canister_pre_upgrade") void canister_pre_upgrade(void) {
  if (!database) trap_with("the canister has no database: canister_init was not called");
  if (is_in_heap) heap_keep(database);
}

EXPORT("canister_post_upgrade") void canister_post_upgrade(void) {
  is_upgrade = 1;
  start();
}
#else
EXPORT("canister_post_upgrade") void canister_post_upgrade(void) { start(); }
#endif

static inline void answer(void (*request_of)(sqlite3 *, uint8_t *, uint32_t)) {
  if (!database) trap_with("the canister has no database: canister_init was not called");
  uint32_t size = msg_arg_data_size();
  uint8_t *request = allocate((uint64_t)size + 1, "the request"); /* SQLite allocates no 0 bytes */
  msg_arg_data_copy((uintptr_t)request, 0, size);
  request_of(database, request, size);
  sqlite3_free(request);
}

EXPORT("canister_update execute") void canister_update_execute(void) {
  lean_begin(1);
  answer(execute_request);
}

EXPORT("canister_query execute") void canister_query_execute(void) {
  lean_begin(0);
  answer(execute_request);
}

EXPORT("canister_update cursor") void canister_update_cursor(void) {
  lean_begin(1);
  answer(cursor_request);
}

EXPORT("canister_query cursor") void canister_query_cursor(void) {
  lean_begin(0);
  answer(cursor_request);
}
