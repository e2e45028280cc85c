/* A guestbook: what guests sign lies in stable memory, where each entry begins in the heap.
 *
 * Stable memory:  0 how many entries (as of the last upgrade) · 8 where each begins, 8 bytes each
 *                 1 MiB the entries: length (4 bytes), text
 * The places are in the heap while the canister runs; pre_upgrade saves them, post_upgrade loads
 * them. So an upgrade costs what there are entries, and `find` reads all of them.
 *
 * guestbook.wasm is made of it: python tests/modules/own.py
 */

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define IMPORT(name) __attribute__((import_module("ic0"), import_name(#name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT(msg_arg_data_size) u32 msg_arg_data_size(void);
IMPORT(msg_arg_data_copy) void msg_arg_data_copy(void *to, u32 offset, u32 size);
IMPORT(msg_reply_data_append) void msg_reply_data_append(const void *from, u32 size);
IMPORT(msg_reply) void msg_reply(void);
IMPORT(trap) void trap(const void *from, u32 size);
IMPORT(stable64_size) u64 stable64_size(void);
IMPORT(stable64_grow) u64 stable64_grow(u64 wasm_pages);
IMPORT(stable64_read) void stable64_read(u64 to, u64 offset, u64 size);
IMPORT(stable64_write) void stable64_write(u64 offset, u64 from, u64 size);

#define ENTRIES_MAX 100000
#define TEXT_MAX 4000
#define ENTRIES_AT (1u << 20)

static u64 places[ENTRIES_MAX];
static u64 count, end = ENTRIES_AT;
static u8 buffer[TEXT_MAX + 32];

static void fail(const char *words) {
  u32 size = 0;
  while (words[size])
    size++;
  trap(words, size);
}

static void reserve(u64 size) {
  u64 pages = (size + 65535) >> 16, there = stable64_size();
  if (pages > there && stable64_grow(pages - there) == ~0ull)
    fail("there is no room for more entries");
}

/* The argument, which has one value of a type: 0x71 is text, 0x78 nat64. */
static u32 take(u8 type) {
  u32 size = msg_arg_data_size();
  if (size < 7 || size > sizeof buffer)
    fail("the argument is too long, or none");
  msg_arg_data_copy(buffer, 0, size);
  if (buffer[0] != 'D' || buffer[3] != 'L' || buffer[4] != 0 || buffer[5] != 1 || buffer[6] != type)
    fail("the argument is not what the interface says");
  return size;
}

static u8 *take_text(u32 *length) {
  u32 size = take(0x71), at = 7, shift = 0;
  *length = 0;
  do {
    *length |= (u32)(buffer[at] & 127) << shift;
    shift += 7;
  } while (buffer[at++] & 128);
  if (*length > TEXT_MAX || at + *length != size)
    fail("an entry has at most 4000 bytes");
  return buffer + at;
}

static u64 take_number(void) {
  u64 number;
  take(0x78);
  __builtin_memcpy(&number, buffer + 7, 8);
  return number;
}

static void reply_number(u64 number) {
  u8 reply[15] = {'D', 'I', 'D', 'L', 0, 1, 0x78};
  __builtin_memcpy(reply + 7, &number, 8);
  msg_reply_data_append(reply, sizeof reply);
  msg_reply();
}

static u32 length_at(u64 place) {
  u32 length;
  stable64_read((u64)(u32)&length, place, 4);
  return length;
}

EXPORT("canister_init") void init(void) { reserve(ENTRIES_AT); }

EXPORT("canister_pre_upgrade") void save(void) {
  stable64_write(0, (u64)(u32)&count, 8);
  stable64_write(8, (u64)(u32)places, count * 8);
}

EXPORT("canister_post_upgrade") void load(void) {
  stable64_read((u64)(u32)&count, 0, 8);
  stable64_read((u64)(u32)places, 8, count * 8);
  if (count)
    end = places[count - 1] + 4 + length_at(places[count - 1]);
}

EXPORT("canister_update sign") void sign(void) {
  u32 length;
  u8 *text = take_text(&length);
  if (count == ENTRIES_MAX)
    fail("the guestbook is full");
  reserve(end + 4 + length);
  stable64_write(end, (u64)(u32)&length, 4);
  stable64_write(end + 4, (u64)(u32)text, length);
  places[count++] = end;
  end += 4 + length;
  reply_number(count - 1);
}

EXPORT("canister_query count") void how_many(void) { reply_number(count); }

EXPORT("canister_query read") void read(void) {
  u64 number = take_number();
  if (number >= count)
    fail("there is no entry of this number");
  u32 length = length_at(places[number]), size = 7;
  static u8 reply[TEXT_MAX + 16] = {'D', 'I', 'D', 'L', 0, 1, 0x71};
  u32 left = length;
  do {
    reply[size++] = (left & 127) | (left > 127 ? 128 : 0);
    left >>= 7;
  } while (left);
  stable64_read((u64)(u32)(reply + size), places[number] + 4, length);
  msg_reply_data_append(reply, size + length);
  msg_reply();
}

/* How many entries are what is asked for; each is read by itself. */
EXPORT("canister_query find") void find(void) {
  u32 wanted;
  u8 *text = take_text(&wanted);
  static u8 entry[TEXT_MAX];
  u64 found = 0;
  for (u64 i = 0; i < count; i++) {
    u32 length = length_at(places[i]);
    if (length != wanted)
      continue;
    stable64_read((u64)(u32)entry, places[i] + 4, length);
    found += __builtin_memcmp(entry, text, length) == 0;
  }
  reply_number(found);
}

/* Compilers put calls of these where they like. */
void *memcpy(void *to, const void *from, unsigned long size) {
  for (unsigned long i = 0; i < size; i++)
    ((u8 *)to)[i] = ((const u8 *)from)[i];
  return to;
}

int memcmp(const void *a, const void *b, unsigned long size) {
  for (unsigned long i = 0; i < size; i++)
    if (((const u8 *)a)[i] != ((const u8 *)b)[i])
      return ((const u8 *)a)[i] - ((const u8 *)b)[i];
  return 0;
}
