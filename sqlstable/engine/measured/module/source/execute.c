/* Requests: SQL with its values in, records out. Integers of fixed size are little-endian.
**
** Request
**   u32 flags                      FLAG_...
**   FLAG_RANDOM: u32 length, key   of the message's random numbers, see random.c
**   u32 length, SQL                UTF-8 without NUL; several statements may follow each other
**   u32 rows                       of parameters: 0 none, 1, or more to run one statement for each
**   row: u8 kind                   1 positional, 2 named
**        u32 values
**        value: named: u32 length, name
**               u8 type            0 NULL, 1 i64, 2 f64, 3 text, 4 blob, 5 blob of zeros
**               8 bytes (1, 2, 5: its length), or u32 length and bytes (3, 4)
**
** Positional values are used up by the statements in their order; the last must use the rest. Where
** there are several rows and several statements, all statements run for each row.
**
** Request of a cursor, whose statements stop at each row
**   u32 action                     0 open, 1 step, 2 close
**   u32 number                     of the cursor, chosen by who opens it
**   0: a request as above          with at most one row of parameters
**
** The reply has at most one record 2: then it is the last but 6, and the cursor is open. Each reply
** to a step begins with record 1 again, whichever statement it is.
**
** Reply: records, each beginning with u8 kind; a number has seven bits in each byte, the lowest
** first, the highest bit set where another byte follows; a signed one is 0, -1, 1, -2 ... counted
**   1 statement  number begin, number end (bytes of the SQL), number parameters, number columns,
**                u8 bits: 1 readonly, 2 EXPLAIN, 4 EXPLAIN QUERY PLAN, 8 named;
**                if named for each column: number length, name
**   2 row        for each column: u8 type: 0 NULL, 1 i64, 2 f64, 3 text, 4 blob, 6 i8, 7 i16,
**                8 i32, and so many bytes, or number length and bytes
**   3 end        number runs, number rows, signed changes, signed last rowid, u8 counted,
**                if counted numbers: VM steps, full-scan steps, sorts, automatic index rows,
**                reprepares, page cache hits, misses, writes, spills
**   4 error      number code, number extended code, number byte of the SQL + 1 or 0,
**                number length, message
**   5 loop       (profile build, before end) signed loops, signed visits, f64 estimated rows,
**                number select id, number parent id, number length, name, number length, plan
**   6 finish     u8 bits: 1 autocommit, 2 reading, 4 writing; number open statements,
**                number total changes, number bytes of the database file, number heap bytes that
**                SQLite holds
**
** Each statement gives 1, its rows, 3; where it fails, 4 stands behind 3 (or alone, where it could
** not even be prepared), and no further statement runs. 6 is always last.
*/
#include <string.h>

#include "module.h"

enum {
  FLAG_NAMES = 1,    /* reply with the names of columns */
  FLAG_COLD = 2,     /* empty SQLite's page cache first */
  FLAG_DESCRIBE = 4, /* prepare only: records 1 with names, and 6 */
  FLAG_RANDOM = 8,   /* a random key follows */
  FLAG_COUNTERS = 16 /* reply with SQLite's own counters */
};

/* Bits in records. The middle two are SQLite's number for EXPLAIN or the state, 0 to 2. */
enum { STATEMENT_READONLY = 1, STATEMENT_EXPLAIN = 2, STATEMENT_NAMED = 8, FINISH_TRANSACTION = 2 };

enum { RECORD_STATEMENT = 1, RECORD_ROW, RECORD_END, RECORD_ERROR, RECORD_LOOP, RECORD_FINISH };

enum { VALUE_NULL, VALUE_INTEGER, VALUE_FLOAT, VALUE_TEXT, VALUE_BLOB, VALUE_ZEROS };

enum { POSITIONAL = 1, NAMED };

typedef struct Reader {
  const uint8_t *at, *end;
} Reader;

typedef struct Value {
  const char *name; /* of a named one */
  uint32_t name_bytes;
  uint32_t type;
  uint64_t bits;        /* of a number; the length of a blob of zeros */
  const uint8_t *bytes; /* of text and blobs */
  uint32_t byte_count;
} Value;

/* What both requests and cursors need is compiled twice, so that cursors cost requests nothing. */
#define TWICE static inline __attribute__((always_inline))

/* One request while it is answered. */
typedef struct Request {
  sqlite3 *database;
  uint32_t flags;
  const char *sql;
  uint32_t sql_bytes;
  uint32_t row_count;
  Reader rows;          /* behind the rows that are begun */
  uint32_t kind;        /* of the current row, 0 where there is none */
  uint32_t value_count; /* of the current row */
  uint32_t used;        /* positional values that earlier statements have used */
  Reader values;        /* positional: those that are left; named: all of the row */
  uint32_t text_rows;   /* of several statements for each row: rows that are left */
} Request;

/* A request that is answered row by row. */
typedef struct Cursor {
  struct Cursor *next;
  uint32_t number;
  uint8_t *bytes; /* of the request: SQL and values */
  Request request;
  sqlite3_stmt *statement; /* NULL before its first and behind its last row */
  const char *begin, *end; /* of the statement, or where the next one begins */
} Cursor;

static Cursor *cursors;

/* ---- reading ---- */

static const uint8_t *take(Reader *reader, uint32_t count) {
  if ((uint32_t)(reader->end - reader->at) < count) trap_with("the request is cut off");
  const uint8_t *bytes = reader->at;
  reader->at += count;
  return bytes;
}

static uint32_t take_u8(Reader *reader) { return *take(reader, 1); }

static uint32_t take_u32(Reader *reader) {
  uint32_t value;
  memcpy(&value, take(reader, 4), 4);
  return value;
}

static uint64_t take_u64(Reader *reader) {
  uint64_t value;
  memcpy(&value, take(reader, 8), 8);
  return value;
}

static Value take_value(Reader *reader, uint32_t kind) {
  Value value = {0};
  if (kind == NAMED) {
    value.name_bytes = take_u32(reader);
    value.name = (const char *)take(reader, value.name_bytes);
  }
  value.type = take_u8(reader);
  switch (value.type) {
    case VALUE_NULL:
      break;
    case VALUE_INTEGER:
    case VALUE_FLOAT:
    case VALUE_ZEROS:
      value.bits = take_u64(reader);
      break;
    case VALUE_TEXT:
    case VALUE_BLOB:
      value.byte_count = take_u32(reader);
      value.bytes = take(reader, value.byte_count);
      break;
    default:
      trap_with("the request has a value of type %u", value.type);
  }
  return value;
}

/* Begins the next row of parameters; its values are walked over to find the one after it. */
static void take_row(Request *request) {
  Reader *rows = &request->rows;
  request->kind = take_u8(rows);
  if (request->kind != POSITIONAL && request->kind != NAMED) {
    trap_with("the request has parameters of kind %u", request->kind);
  }
  request->value_count = take_u32(rows);
  request->used = 0;
  request->values = *rows;
  if (request->row_count == 1) return;
  for (uint32_t i = 0; i < request->value_count; i++) take_value(rows, request->kind);
}

/* ---- errors ---- */

static void reply_error(int code, int extended, int at, const char *message) {
  reply_u8(RECORD_ERROR);
  reply_number((uint32_t)code);
  reply_number((uint32_t)extended);
  reply_number((uint32_t)(at + 1));
  reply_text(vfs_detail[0] ? vfs_detail : message);
}

/* Replies with SQLite's last error; `begin` is where the statement begins that it is about. */
static void reply_sqlite_error(Request *request, const char *begin) {
  sqlite3 *database = request->database;
  int extended = sqlite3_extended_errcode(database);
  int at = sqlite3_error_offset(database);
  if (at >= 0) at += (int)(begin - request->sql);
  reply_error(extended & 0xff, extended, at, sqlite3_errmsg(database));
}

/* ---- binding ---- */

static int bind_value(sqlite3_stmt *statement, int index, const Value *value) {
  double number;
  switch (value->type) {
    case VALUE_INTEGER:
      return sqlite3_bind_int64(statement, index, (sqlite3_int64)value->bits);
    case VALUE_FLOAT:
      memcpy(&number, &value->bits, sizeof number);
      return sqlite3_bind_double(statement, index, number);
    case VALUE_TEXT:
      /* The request stays where it is until it is answered. */
      return sqlite3_bind_text64(statement, index, (const char *)value->bytes, value->byte_count,
                                 SQLITE_STATIC, SQLITE_UTF8);
    case VALUE_BLOB:
      return sqlite3_bind_blob64(statement, index, value->bytes, value->byte_count, SQLITE_STATIC);
    case VALUE_ZEROS:
      return sqlite3_bind_zeroblob64(statement, index, value->bits);
    default:
      return sqlite3_bind_null(statement, index);
  }
}

static int bind_positional(Request *request, sqlite3_stmt *statement, int count, int is_last) {
  uint32_t left = request->value_count - request->used;
  if (left < (uint32_t)count || (is_last && left > (uint32_t)count)) {
    explain("the statement has %d parameters, and %u of the %u values given are left for it", count,
            left, request->value_count);
    return SQLITE_RANGE;
  }
  int code = SQLITE_OK;
  for (int index = 1; index <= count && code == SQLITE_OK; index++) {
    Value value = take_value(&request->values, POSITIONAL);
    code = bind_value(statement, index, &value);
  }
  request->used += (uint32_t)count;
  return code;
}

static int bind_by_name(Request *request, sqlite3_stmt *statement, int index) {
  const char *name = sqlite3_bind_parameter_name(statement, index);
  if (!name || name[0] == '?') {
    explain("parameter %d of the statement has no name, and the values given have names only",
            index);
    return SQLITE_RANGE;
  }
  name++; /* behind its : or @ or $ */
  size_t name_bytes = strlen(name);
  Reader values = request->values;
  for (uint32_t i = 0; i < request->value_count; i++) {
    Value value = take_value(&values, NAMED);
    if (value.name_bytes == name_bytes && memcmp(value.name, name, name_bytes) == 0) {
      return bind_value(statement, index, &value);
    }
  }
  explain("no value is given for parameter '%s'", name);
  return SQLITE_RANGE;
}

/* Binds the parameters of a statement; SQLITE_RANGE where the values do not fit, which vfs_detail
** then explains.
*/
TWICE int bind(Request *request, sqlite3_stmt *statement, int is_last) {
  int count = sqlite3_bind_parameter_count(statement);
  if (request->kind == POSITIONAL) return bind_positional(request, statement, count, is_last);
  if (count > 0 && request->kind == 0) {
    explain("the statement has %d parameters, and no values are given", count);
    return SQLITE_RANGE;
  }
  int code = SQLITE_OK;
  for (int index = 1; index <= count && code == SQLITE_OK; index++) {
    code = bind_by_name(request, statement, index);
  }
  return code;
}

/* ---- what is known of a statement ---- */

TWICE void reply_statement(Request *request, sqlite3_stmt *statement, const char *begin,
                            const char *end) {
  int column_count = sqlite3_column_count(statement);
  int is_named = (request->flags & (FLAG_NAMES | FLAG_DESCRIBE)) != 0;
  reply_u8(RECORD_STATEMENT);
  reply_number((uint32_t)(begin - request->sql));
  reply_number((uint32_t)(end - request->sql));
  reply_number((uint32_t)sqlite3_bind_parameter_count(statement));
  reply_number((uint32_t)column_count);
  reply_u8((sqlite3_stmt_readonly(statement) ? STATEMENT_READONLY : 0) |
           (uint32_t)sqlite3_stmt_isexplain(statement) * STATEMENT_EXPLAIN |
           (is_named ? STATEMENT_NAMED : 0));
  for (int column = 0; is_named && column < column_count; column++) {
    reply_text(sqlite3_column_name(statement, column));
  }
}

static int is_of_cursor(sqlite3_stmt *statement) {
  for (Cursor *each = cursors; each; each = each->next) {
    if (each->statement == statement) return 1;
  }
  return 0;
}

/* FTS5 and R-trees run SQL of their own, in statements that they keep: its steps belong to the
** statement that caused it, as in the native engine.
*/
static uint32_t statement_counter(sqlite3 *database, int counter) {
  uint32_t sum = 0;
  for (sqlite3_stmt *each = NULL; (each = sqlite3_next_stmt(database, each)) != NULL;) {
    if (cursors && is_of_cursor(each)) continue;
    sum += (uint32_t)sqlite3_stmt_status(each, counter, 1);
  }
  return sum;
}

static uint32_t cache_counter(sqlite3 *database, int counter) {
  int value = 0, highest = 0;
  sqlite3_db_status(database, counter, &value, &highest, 1);
  return (uint32_t)value;
}

static const int statement_counters[] = {
    SQLITE_STMTSTATUS_VM_STEP,   SQLITE_STMTSTATUS_FULLSCAN_STEP, SQLITE_STMTSTATUS_SORT,
    SQLITE_STMTSTATUS_AUTOINDEX, SQLITE_STMTSTATUS_REPREPARE,
};

static const int cache_counters[] = {
    SQLITE_DBSTATUS_CACHE_HIT,
    SQLITE_DBSTATUS_CACHE_MISS,
    SQLITE_DBSTATUS_CACHE_WRITE,
    SQLITE_DBSTATUS_CACHE_SPILL,
};

#define COUNT_OF(ARRAY) (sizeof(ARRAY) / sizeof *(ARRAY))

static void reset_counters(sqlite3 *database) {
  for (unsigned i = 0; i < COUNT_OF(cache_counters); i++) {
    cache_counter(database, cache_counters[i]);
  }
}

static void reply_counters(sqlite3 *database) {
  for (unsigned i = 0; i < COUNT_OF(statement_counters); i++) {
    reply_number(statement_counter(database, statement_counters[i]));
  }
  for (unsigned i = 0; i < COUNT_OF(cache_counters); i++) {
    reply_number(cache_counter(database, cache_counters[i]));
  }
}

#ifdef SQLITE_ENABLE_STMT_SCANSTATUS
static void reply_loops(sqlite3_stmt *statement) {
  for (int loop = 0;; loop++) {
    sqlite3_int64 loops = 0, visits = 0;
    double estimate = 0;
    int select_id = 0, parent_id = 0;
    const char *name = NULL, *plan = NULL;
    int flags = SQLITE_SCANSTAT_COMPLEX;
    if (sqlite3_stmt_scanstatus_v2(statement, loop, SQLITE_SCANSTAT_NLOOP, flags, &loops)) return;
    sqlite3_stmt_scanstatus_v2(statement, loop, SQLITE_SCANSTAT_NVISIT, flags, &visits);
    sqlite3_stmt_scanstatus_v2(statement, loop, SQLITE_SCANSTAT_EST, flags, &estimate);
    sqlite3_stmt_scanstatus_v2(statement, loop, SQLITE_SCANSTAT_SELECTID, flags, &select_id);
    sqlite3_stmt_scanstatus_v2(statement, loop, SQLITE_SCANSTAT_PARENTID, flags, &parent_id);
    sqlite3_stmt_scanstatus_v2(statement, loop, SQLITE_SCANSTAT_NAME, flags, &name);
    sqlite3_stmt_scanstatus_v2(statement, loop, SQLITE_SCANSTAT_EXPLAIN, flags, &plan);
    reply_u8(RECORD_LOOP);
    reply_signed(loops);
    reply_signed(visits);
    reply_double(estimate);
    reply_number((uint32_t)select_id);
    reply_number((uint32_t)parent_id);
    reply_text(name ? name : "");
    reply_text(plan ? plan : "");
  }
}
#endif

TWICE void reply_end(Request *request, sqlite3_stmt *statement, uint64_t runs, uint64_t rows) {
  sqlite3 *database = request->database;
  int is_counted = (request->flags & FLAG_COUNTERS) != 0;
#ifdef SQLITE_ENABLE_STMT_SCANSTATUS
  reply_loops(statement);
#endif
  reply_u8(RECORD_END);
  reply_number(runs);
  reply_number(rows);
  reply_signed(sqlite3_stmt_readonly(statement) ? 0 : sqlite3_changes64(database));
  reply_signed(sqlite3_last_insert_rowid(database));
  reply_u8((uint32_t)is_counted);
  if (is_counted) reply_counters(database);
}

static void reply_finish_record(sqlite3 *database) {
  uint32_t open = 0;
  for (sqlite3_stmt *each = NULL; (each = sqlite3_next_stmt(database, each)) != NULL;) {
    open += sqlite3_stmt_busy(each) != 0;
  }
  reply_u8(RECORD_FINISH);
  reply_u8((uint32_t)(sqlite3_get_autocommit(database) != 0) |
           (uint32_t)sqlite3_txn_state(database, NULL) * FINISH_TRANSACTION);
  reply_number(open);
  reply_number((uint64_t)sqlite3_total_changes64(database));
  reply_number(vfs_file_bytes());
  reply_number((uint64_t)sqlite3_memory_used());
}

/* ---- running ---- */

/* Steps a statement to its end; returns SQLITE_DONE or the error. */
static int step(sqlite3_stmt *statement, uint64_t *rows) {
  int column_count = sqlite3_column_count(statement);
  int code;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    MARK(PHASE_ENCODE);
    ++*rows;
    reply_u8(RECORD_ROW);
    reply_row(statement, column_count);
    MARK(PHASE_RUN);
  }
  return code;
}

/* How often a statement runs before the next one, where there are several rows of parameters. */
static uint32_t runs_at_once(const Request *request) {
  return request->text_rows ? 1 : request->row_count;
}

/* Runs a statement once, or once for each row of parameters; returns SQLITE_DONE or the error. */
static int run(Request *request, sqlite3_stmt *statement, int is_last, uint64_t *runs,
               uint64_t *rows) {
  uint32_t left = request->row_count > 1 ? runs_at_once(request) : 1;
  for (;;) {
    MARK(PHASE_RUN);
    int code = bind(request, statement, is_last);
    if (code != SQLITE_OK) return code;
    code = step(statement, rows);
    ++*runs;
    if (code != SQLITE_DONE || --left == 0) return code;
    sqlite3_reset(statement);
    take_row(request);
  }
}

/* Whether nothing more is to be run: only white space, semicolons and comments follow. */
static int is_blank(const char *at) {
  for (;;) {
    while (*at == ' ' || (*at >= '\t' && *at <= '\r') || *at == ';') at++;
    if (at[0] == '-' && at[1] == '-') {
      while (*at && *at != '\n') at++;
    } else if (at[0] == '/' && at[1] == '*') {
      at += 2;
      while (*at && !(at[0] == '*' && at[1] == '/')) at++;
      if (*at) at += 2;
    } else {
      return *at == 0;
    }
  }
}

/* Runs a prepared statement and lets it go; returns whether the next one may run. */
static int run_statement(Request *request, sqlite3_stmt *statement, const char *begin,
                         const char *end) {
  uint64_t runs = 0, rows = 0;
  if (request->row_count > 1 && request->text_rows == 0 && !is_blank(end)) {
    request->text_rows = request->row_count;
  }
  int code = run(request, statement, is_blank(end), &runs, &rows);
  MARK(PHASE_GLUE);
  reply_end(request, statement, runs, rows);
  if (code == SQLITE_RANGE && vfs_detail[0]) {
    reply_error(SQLITE_RANGE, SQLITE_RANGE, -1, ""); /* of ours: SQLite knows nothing of it */
  } else if (code != SQLITE_DONE) {
    reply_sqlite_error(request, begin);
  }
  MARK(PHASE_RUN);
  sqlite3_finalize(statement);
  MARK(PHASE_GLUE);
  return code == SQLITE_DONE;
}

/* Runs all statements of the text; returns whether they did. */
static int run_text(Request *request) {
  const char *at = request->sql, *sql_end = request->sql + request->sql_bytes;
  while (at < sql_end) {
    sqlite3_stmt *statement = NULL;
    const char *end = NULL;
#ifdef SQLSTABLE_LEAN
    if (vfs_detail[0]) vfs_detail[0] = 0; /* it lies in a region that is seldom written */
#else
    vfs_detail[0] = 0;
#endif
    MARK(PHASE_PREPARE);
    /* The NUL behind the SQL counts, which spares SQLite a copy. */
    int code =
        sqlite3_prepare_v2(request->database, at, (int)(sql_end - at) + 1, &statement, &end);
    MARK(PHASE_GLUE);
    if (code != SQLITE_OK) {
      reply_sqlite_error(request, at);
      return 0;
    }
    if (statement) {
      reply_statement(request, statement, at, end);
      if (request->flags & FLAG_DESCRIBE) {
        sqlite3_finalize(statement);
      } else if (!run_statement(request, statement, at, end)) {
        return 0;
      }
    }
    /* SQLite stops at a NUL, and would stop there for ever. */
    if (end == at) trap_with("the SQL has a NUL at byte %d", (int)(at - request->sql));
    at = end;
  }
  return 1;
}

static void run_all(Request *request) {
  while (run_text(request) && request->text_rows > 1) {
    request->text_rows--;
    take_row(request);
  }
}

TWICE void read_request(Request *request, uint8_t *bytes) {
  Reader *reader = &request->rows;
  request->flags = take_u32(reader);
  if (request->flags & FLAG_RANDOM) {
    uint32_t key_bytes = take_u32(reader);
    random_seed(take(reader, key_bytes), key_bytes);
  }
  request->sql_bytes = take_u32(reader);
  request->sql = (const char *)take(reader, request->sql_bytes);
  uint8_t *behind_sql = bytes + (reader->at - bytes);
  request->row_count = take_u32(reader);
  *behind_sql = 0; /* no longer needed, and SQLite likes its SQL to end in NUL */
  if (request->row_count > 0) take_row(request);
  if (request->flags & FLAG_COLD) sqlite3_db_release_memory(request->database);
  if (request->flags & FLAG_COUNTERS) reset_counters(request->database);
}

void execute_request(sqlite3 *database, uint8_t *bytes, uint32_t byte_count) {
  Request request = {.database = database, .rows = {bytes, bytes + byte_count}};
  read_request(&request, bytes);
  reply_start();
  run_all(&request);
  reply_finish_record(database);
  reply_finish();
}

/* ---- cursors ---- */

enum { CURSOR_OPEN, CURSOR_STEP, CURSOR_CLOSE };

/* Lets the statement of a cursor go. `code` is what it came to, or SQLITE_ROW where its rows are not
** all asked for. Returns whether the next one may run.
*/
static int end_cursor_statement(Cursor *cursor, int code) {
  Request *request = &cursor->request;
  sqlite3_stmt *statement = cursor->statement;
  if (code == SQLITE_ROW) {
    MARK(PHASE_RUN);
    code = sqlite3_reset(statement) == SQLITE_OK ? SQLITE_DONE : SQLITE_ERROR;
  }
  MARK(PHASE_GLUE);
  cursor->statement = NULL;
  reply_end(request, statement, 1, 0);
  if (code == SQLITE_RANGE && vfs_detail[0]) {
    reply_error(SQLITE_RANGE, SQLITE_RANGE, -1, "");
  } else if (code != SQLITE_DONE) {
    reply_sqlite_error(request, cursor->begin);
  }
  MARK(PHASE_RUN);
  sqlite3_finalize(statement);
  MARK(PHASE_GLUE);
  return code == SQLITE_DONE;
}

/* Prepares the next statement of a cursor; returns SQLITE_DONE where there is none, and SQLITE_ERROR
** where SQLite refuses it, which is replied then.
*/
static int next_statement(Cursor *cursor) {
  Request *request = &cursor->request;
  const char *sql_end = request->sql + request->sql_bytes;
  while (cursor->end < sql_end) {
    const char *end = NULL;
    cursor->begin = cursor->end;
    vfs_detail[0] = 0;
    MARK(PHASE_PREPARE);
    int code = sqlite3_prepare_v2(request->database, cursor->begin,
                                  (int)(sql_end - cursor->begin) + 1, &cursor->statement, &end);
    MARK(PHASE_GLUE);
    if (code != SQLITE_OK) {
      reply_sqlite_error(request, cursor->begin);
      return SQLITE_ERROR;
    }
    if (end == cursor->begin) trap_with("the SQL has a NUL at byte %d", (int)(end - request->sql));
    cursor->end = end;
    if (cursor->statement) return SQLITE_ROW;
  }
  return SQLITE_DONE;
}

/* Goes on to the next row; returns whether there is one. */
static int advance(Cursor *cursor) {
  Request *request = &cursor->request;
  for (;;) {
    int code = SQLITE_OK, is_new = cursor->statement == NULL;
    if (is_new && next_statement(cursor) != SQLITE_ROW) return 0;
    reply_statement(request, cursor->statement, cursor->begin, cursor->end);
    MARK(PHASE_RUN);
    vfs_detail[0] = 0;
    if (is_new) code = bind(request, cursor->statement, is_blank(cursor->end));
    if (code == SQLITE_OK) code = sqlite3_step(cursor->statement);
    if (code == SQLITE_ROW) {
      MARK(PHASE_ENCODE);
      reply_u8(RECORD_ROW);
      reply_row(cursor->statement, sqlite3_column_count(cursor->statement));
      MARK(PHASE_GLUE);
      return 1;
    }
    if (!end_cursor_statement(cursor, code)) return 0;
  }
}

static Cursor *open_cursor(sqlite3 *database, uint32_t number, const Reader *rest) {
  Cursor *cursor = allocate(sizeof *cursor, "a cursor");
  uint32_t byte_count = (uint32_t)(rest->end - rest->at);
  memset(cursor, 0, sizeof *cursor);
  cursor->bytes = allocate((uint64_t)byte_count + 1, "the request of a cursor");
  memcpy(cursor->bytes, rest->at, byte_count);
  cursor->number = number;
  cursor->request.database = database;
  cursor->request.rows = (Reader){cursor->bytes, cursor->bytes + byte_count};
  read_request(&cursor->request, cursor->bytes);
  cursor->begin = cursor->end = cursor->request.sql;
  cursor->next = cursors;
  cursors = cursor;
  return cursor;
}

static void free_cursor(Cursor *cursor) {
  Cursor **at = &cursors;
  while (*at != cursor) at = &(*at)->next;
  *at = cursor->next;
  sqlite3_free(cursor->bytes);
  sqlite3_free(cursor);
}

void cursor_request(sqlite3 *database, uint8_t *bytes, uint32_t byte_count) {
  Reader reader = {bytes, bytes + byte_count};
  uint32_t action = take_u32(&reader), number = take_u32(&reader);
  Cursor *cursor = cursors;
  if (action == CURSOR_OPEN) {
    cursor = open_cursor(database, number, &reader);
  } else {
    while (cursor && cursor->number != number) cursor = cursor->next;
    if (!cursor) trap_with("no cursor %u is open", number);
  }
  reply_start();
  int is_open = 0;
  if (action != CURSOR_CLOSE) {
    is_open = advance(cursor);
  } else if (cursor->statement) {
    reply_statement(&cursor->request, cursor->statement, cursor->begin, cursor->end);
    end_cursor_statement(cursor, SQLITE_ROW);
  }
  if (!is_open) free_cursor(cursor);
  reply_finish_record(database);
  reply_finish();
}
