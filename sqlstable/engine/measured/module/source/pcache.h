/* A page cache for SQLite where memory is charged by the region: see pcache.c. */
#ifndef PCACHE_H
#define PCACHE_H

#include <stddef.h>

/* Makes SQLite use this page cache. Call it before sqlite3_initialize().
**
** `headers` is memory that outlives SQLite, for the headers of the pages: best close to other
** memory that every message writes. 176 bytes a SQLite page are enough; what does not fit, and
** everything where it is NULL, comes from sqlite3_malloc().
**
** Returns SQLITE_OK, or SQLITE_MISUSE where SQLite is already initialised.
*/
int pcache_register(void *headers, size_t headers_bytes);

/* Says that a message begins. `keeps` is 0 where what it leaves in the heap is thrown away (a query
** call), and 1 where it stays (an update call). Without it every call counts as one that stays.
*/
void pcache_begin(int keeps);

#endif
