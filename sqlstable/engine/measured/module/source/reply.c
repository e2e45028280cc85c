/* The reply: records, collected in a small buffer and appended as it fills. Each byte that leaves a
** canister is dear, so numbers take as few as they need.
**
** What is larger than the buffer goes straight from SQLite's memory into the reply, so a result
** of any length needs no more heap than its largest value.
*/
#include <string.h>

#include "module.h"

/* Appending costs 500 instructions and one per byte; the buffer costs heap. */
#ifndef SQLSTABLE_REPLY_BYTES
#define SQLSTABLE_REPLY_BYTES 16384
#endif

enum {
  VALUE_NULL = 0,
  VALUE_INT64 = 1,
  VALUE_FLOAT = 2,
  VALUE_TEXT = 3,
  VALUE_BLOB = 4,
  VALUE_INT8 = 6,
  VALUE_INT16 = 7,
  VALUE_INT32 = 8
};

#ifdef SQLSTABLE_LEAN
#include "lean.h"
#define buffer (NEAR->reply)
#define used (NEAR->reply_used)
#else
static uint8_t *buffer;
static uint32_t used;
#endif

static void flush(void) {
  if (used > 0) msg_reply_data_append((uintptr_t)buffer, used);
  used = 0;
}

/* Makes room for a few bytes, fewer than the buffer has, and returns where they go. */
static uint8_t *room_for(uint32_t count) {
  if (used + count > SQLSTABLE_REPLY_BYTES) flush();
  uint8_t *target = buffer + used;
  used += count;
  return target;
}

void reply_start(void) {
  if (!buffer) buffer = allocate(SQLSTABLE_REPLY_BYTES, "the reply");
  used = 0;
}

void reply_finish(void) {
  flush();
  msg_reply();
}

void reply_u8(uint32_t value) { *room_for(1) = (uint8_t)value; }

/* Seven bits in each byte, the lowest first; the highest bit says that another byte follows. */
void reply_number(uint64_t value) {
  while (value > 0x7f) {
    reply_u8((uint32_t)(value & 0x7f) | 0x80);
    value >>= 7;
  }
  reply_u8((uint32_t)value);
}

/* 0, -1, 1, -2, 2 and so on as 0, 1, 2, 3, 4. */
void reply_signed(int64_t value) {
  reply_number((uint64_t)value << 1 ^ (uint64_t)(value >> 63));
}

void reply_double(double value) { memcpy(room_for(8), &value, 8); }

static void append_bytes(const void *bytes, uint32_t count) {
  if (count <= SQLSTABLE_REPLY_BYTES) {
    memcpy(room_for(count), bytes, count);
  } else {
    flush();
    msg_reply_data_append((uintptr_t)bytes, count);
  }
}

void reply_text(const char *text) {
  uint32_t length = (uint32_t)strlen(text);
  reply_number(length);
  append_bytes(text, length);
}

static void append_counted(uint32_t type, const void *bytes, uint32_t count) {
  reply_u8(type);
  reply_number(count);
  if (count > 0) append_bytes(bytes, count);
}

static void append_integer(int64_t value) {
  uint32_t count = 8, type = VALUE_INT64;
  if (value == (int8_t)value) {
    count = 1, type = VALUE_INT8;
  } else if (value == (int16_t)value) {
    count = 2, type = VALUE_INT16;
  } else if (value == (int32_t)value) {
    count = 4, type = VALUE_INT32;
  }
  reply_u8(type);
  memcpy(room_for(count), &value, count);
}

static void append_value(sqlite3_stmt *statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER:
      append_integer(sqlite3_column_int64(statement, column));
      break;
    case SQLITE_FLOAT:
      reply_u8(VALUE_FLOAT);
      reply_double(sqlite3_column_double(statement, column));
      break;
    case SQLITE_TEXT: {
      const void *text = sqlite3_column_text(statement, column);
      append_counted(VALUE_TEXT, text, (uint32_t)sqlite3_column_bytes(statement, column));
      break;
    }
    case SQLITE_BLOB: {
      const void *blob = sqlite3_column_blob(statement, column);
      append_counted(VALUE_BLOB, blob, (uint32_t)sqlite3_column_bytes(statement, column));
      break;
    }
    default:
      reply_u8(VALUE_NULL);
  }
}

void reply_row(sqlite3_stmt *statement, int column_count) {
  for (int column = 0; column < column_count; column++) append_value(statement, column);
}
