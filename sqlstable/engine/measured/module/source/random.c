/* random() and randomblob() with the very values of the native engine.
**
** The native engine draws them from Python's random.Random(f"{seed}:{message number}"), which is
** the Mersenne Twister MT19937 seeded by an array. The host computes the array (the text and its
** SHA-512) and sends it with the request; nothing is spent on it unless SQL asks for a random
** number.
**
** Source: M. Matsumoto, T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998), and their published
** seeding by an array, 2002-01-26; Python's getrandbits and randbytes take the output words lowest
** first.
*/
#include <string.h>

#include "module.h"

#define WORDS 624
#define SHIFT 397
#define KEY_BYTES_MAX 256

#ifdef SQLSTABLE_LEAN
#include "lean.h"
_Static_assert(KEY_BYTES_MAX <= LEAN_KEY_BYTES, "lean.h leaves too little");
#define key (NEAR->random_key)
#define key_bytes (NEAR->random_key_bytes)
#define is_seeded (NEAR->random_is_seeded)
#else
static uint8_t key[KEY_BYTES_MAX];
static uint32_t key_bytes;
static int is_seeded;
#endif
static uint32_t *state; /* allocated with the first random number */
static uint32_t next_word;

/* A message may send several requests: the same key goes on where it was. */
void random_seed(const uint8_t *new_key, uint32_t new_key_bytes) {
  if (new_key_bytes > KEY_BYTES_MAX) {
    trap_with("the random key has %u bytes; it may have %d", new_key_bytes, KEY_BYTES_MAX);
  }
  if (new_key_bytes == key_bytes && memcmp(key, new_key, key_bytes) == 0) return;
  memcpy(key, new_key, new_key_bytes);
  key_bytes = new_key_bytes;
  is_seeded = 0;
}

static uint32_t key_word(uint32_t index) {
  uint32_t word = 0;
  for (uint32_t i = 0; i < 4 && index * 4 + i < key_bytes; i++) {
    word |= (uint32_t)key[index * 4 + i] << (8 * i);
  }
  return word;
}

static uint32_t mixed(uint32_t index) {
  uint32_t before = state[index - 1];
  return before ^ before >> 30;
}

static void seed(void) {
  uint32_t key_words = (key_bytes + 3) / 4;
  if (key_words == 0) key_words = 1; /* of no bytes: the number 0 */
  if (!state) state = allocate(WORDS * sizeof *state, "the random numbers");
  state[0] = 19650218;
  for (uint32_t i = 1; i < WORDS; i++) state[i] = 1812433253u * mixed(i) + i;
  uint32_t i = 1, j = 0;
  for (uint32_t left = WORDS > key_words ? WORDS : key_words; left > 0; left--) {
    state[i] = (state[i] ^ mixed(i) * 1664525u) + key_word(j) + j;
    if (++i == WORDS) {
      state[0] = state[WORDS - 1];
      i = 1;
    }
    if (++j == key_words) j = 0;
  }
  for (uint32_t left = WORDS - 1; left > 0; left--) {
    state[i] = (state[i] ^ mixed(i) * 1566083941u) - i;
    if (++i == WORDS) {
      state[0] = state[WORDS - 1];
      i = 1;
    }
  }
  state[0] = 0x80000000u;
  next_word = WORDS;
  is_seeded = 1;
}

static void refill(void) {
  for (uint32_t i = 0; i < WORDS; i++) {
    uint32_t joined = (state[i] & 0x80000000u) | (state[(i + 1) % WORDS] & 0x7fffffffu);
    state[i] = state[(i + SHIFT) % WORDS] ^ joined >> 1 ^ (joined & 1 ? 0x9908b0dfu : 0);
  }
  next_word = 0;
}

static uint32_t draw(void) {
  if (!is_seeded) seed();
  if (next_word == WORDS) refill();
  uint32_t word = state[next_word++];
  word ^= word >> 11;
  word ^= word << 7 & 0x9d2c5680u;
  word ^= word << 15 & 0xefc60000u;
  return word ^ word >> 18;
}

static void sql_random(sqlite3_context *context, int count, sqlite3_value **values) {
  (void)count;
  (void)values;
  uint64_t low = draw(), high = draw();
  sqlite3_result_int64(context, (sqlite3_int64)((high << 32 | low) ^ (uint64_t)1 << 63));
}

static void sql_randomblob(sqlite3_context *context, int count, sqlite3_value **values) {
  (void)count;
  sqlite3_int64 length = sqlite3_value_int64(values[0]);
  if (length < 1) length = 1;
  if (length > sqlite3_limit(sqlite3_context_db_handle(context), SQLITE_LIMIT_LENGTH, -1)) {
    sqlite3_result_error_toobig(context);
    return;
  }
  uint8_t *bytes = sqlite3_malloc64((sqlite3_uint64)length);
  if (!bytes) {
    sqlite3_result_error_nomem(context);
    return;
  }
  for (sqlite3_int64 at = 0; at < length; at += 4) {
    sqlite3_int64 rest = length - at;
    uint32_t word = draw();
    if (rest < 4) word >>= 32 - 8 * rest; /* of the last word, the highest bits */
    memcpy(bytes + at, &word, rest < 4 ? (size_t)rest : 4);
  }
  sqlite3_result_blob64(context, bytes, (sqlite3_uint64)length, sqlite3_free);
}

/* Innocuous, as SQLite's own are: schemas may use them in DEFAULT clauses and views. */
int random_register(sqlite3 *database) {
  int flags = SQLITE_UTF8 | SQLITE_INNOCUOUS;
  int code = sqlite3_create_function(database, "random", 0, flags, NULL, sql_random, NULL, NULL);
  if (code != SQLITE_OK) return code;
  return sqlite3_create_function(database, "randomblob", 1, flags, NULL, sql_randomblob, NULL,
                                 NULL);
}
