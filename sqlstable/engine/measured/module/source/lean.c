/* The lean build's heap: everything that a small message touches, side by side.
**
** Each 64 KiB region of the heap that a message touches costs as much as a stable one, and for a
** small message that is most of the bill. So the heap is laid out by regions:
**
**   0     the deep end of the stack, which small messages do not reach
**   1     the stack's top; behind it, in memory that the linker leaves free (lean.h), what every
**         message writes: the headers of the page cache and the beginning of the pool, from which
**         all other memory comes (dense.c), some lookaside memory included
**   2, 3  the rest of the pool, for statements that need more; then texts and tables that are
**         seldom read
**   4     SQLite's other constants and its variables, which small messages only read
**   then  images of SQLite pages (pcache.c), and what spills over from the pool
**
** What makes it so are the numbers of `Build` lean in builds.py.
*/
#include "module.h"

#ifdef SQLSTABLE_LEAN

#include "lean.h"
#include "pcache.h"

void lean_configure(void) {
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 256, 16);
  dense_configure();
  pcache_register(NEAR->headers, sizeof NEAR->headers);
}

void lean_begin(int keeps) { pcache_begin(keeps); }

#else
void lean_configure(void) {}
#endif
