/* The system calls that the module imports, and the marks between its phases.
**
** Signatures: dfinity/developer-docs docs/references/ic-interface-spec/canister-interface.md,
** 2026-08-18.
*/
#ifndef SQLSTABLE_IC0_H
#define SQLSTABLE_IC0_H

#include <stdint.h>

#define IC0(NAME) __attribute__((import_module("ic0"), import_name(#NAME))) NAME

uint64_t IC0(stable64_size)(void);
uint64_t IC0(stable64_grow)(uint64_t wasm_pages);
void IC0(stable64_read)(uint64_t target, uint64_t offset, uint64_t length);
void IC0(stable64_write)(uint64_t offset, uint64_t source, uint64_t length);
uint32_t IC0(msg_arg_data_size)(void);
void IC0(msg_arg_data_copy)(uint32_t target, uint32_t offset, uint32_t length);
void IC0(msg_reply_data_append)(uint32_t source, uint32_t length);
void IC0(msg_reply)(void);
void IC0(trap)(uint32_t text, uint32_t length) __attribute__((noreturn));

/* ---- marks ------------------------------------------------------------------------------------
**
** MARK(PHASE) says: from here on, what runs belongs to PHASE. It is a call of performance_counter
** with a counter type that no replica has, so a module for a real canister is built with
** SQLSTABLE_MARKS=0. Each mark compiles to i32.const, call and drop; that cost is constant, and the
** host takes it out of the counts. tests/test_wasm_module.py looks at the code for it.
*/
#define PHASE_GLUE 0    /* requests, replies, and everything else that is not SQLite's work */
#define PHASE_PREPARE 1 /* text to bytecode */
#define PHASE_RUN 2     /* binding and stepping */
#define PHASE_COMMIT 3  /* from the border that SQLite's commit hook marks to the end of the step */
#define PHASE_ENCODE 4  /* rows into the reply */

#ifndef SQLSTABLE_MARKS
#define SQLSTABLE_MARKS 1
#endif

#if SQLSTABLE_MARKS
uint64_t IC0(performance_counter)(uint32_t type);
#define MARK_TYPE 0x53
#define MARK(PHASE) ((void)performance_counter(MARK_TYPE | (PHASE) << 8))
#else
#define MARK(PHASE) ((void)0)
#endif

#endif
