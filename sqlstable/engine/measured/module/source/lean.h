/* The lean build's near memory: what every message writes, between the stack and the constants. */
#ifndef SQLSTABLE_LEAN_H
#define SQLSTABLE_LEAN_H

#ifdef SQLSTABLE_LEAN

#include <stdint.h>

#define LEAN_KEY_BYTES 256
#define LEAN_ALLOCATOR_BYTES 1024
#define LEAN_HEADERS_BYTES 23552 /* of the 128 SQLite pages of its page cache: see builds.py */

typedef struct Near {
  uint8_t *reply; /* reply.c */
  uint32_t reply_used;
  uint32_t random_key_bytes; /* random.c */
  int random_is_seeded;
  uint8_t random_key[LEAN_KEY_BYTES];
  uint64_t allocator[LEAN_ALLOCATOR_BYTES / 8]; /* dense.c */
  uint64_t headers[LEAN_HEADERS_BYTES / 8];     /* pcache.c */
  uint8_t pool[];                               /* dense.c, up to the constants */
} Near;

/* Borders that the linker sets, by the stack's size and --global-base. */
extern uint8_t __stack_high[], __global_base[];

#define NEAR ((Near *)__stack_high)

#endif
#endif
