;; Benchmarks in the form of canbench, small enough to be added up by hand: test_bench.py does.
;;
;; A benchmark replies, in Candid, `record { total : M; scopes : vec record { text; M } }` with
;; `M = record { stable_memory_increase; calls; heap_increase; instructions : nat64 }`, fields in
;; the order of their hashes. The reply is made in the first bytes of the heap:
;;
;;   0..55    the types, which never change
;;   64..96   the total
;;   96..97   the number of scopes; behind it, if there is one, its name and its measurement
(module
  (import "ic0" "performance_counter" (func $performance_counter (param i32) (result i64)))
  (import "ic0" "stable64_size" (func $stable_size (result i64)))
  (import "ic0" "stable64_grow" (func $stable_grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $stable_write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $stable_read (param i64 i64 i64)))
  (import "ic0" "msg_arg_data_size" (func $argument_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $argument_copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (memory (export "memory") 2)
  (data (i32.const 0)
    "DIDL\04\6c\04\bc\be\f1\9b\01\78\95\e4\ed\88\04\78\f5\88\8e\99\05\78\a5\ad\fe\e9\06\78"
    "\6c\02\00\71\01\00\6d\01\6c\02\c4\a7\c9\a1\01\00\df\e0\a7\ab\04\02\01\03")
  (data (i32.const 97) "\05inner")

  (global $from_stable (mut i64) (i64.const 0))
  (global $from_heap (mut i32) (i32.const 0))
  (global $from_instructions (mut i64) (i64.const 0))

  ;; Remembers where the benchmark begins, the counter last.
  (func $begin
    (global.set $from_stable (call $stable_size))
    (global.set $from_heap (memory.size))
    (global.set $from_instructions (call $performance_counter (i32.const 0))))

  ;; Writes what was measured since then, the counter first.
  (func $end (param $at i32)
    (i64.store offset=24 (local.get $at)
      (i64.sub (call $performance_counter (i32.const 0)) (global.get $from_instructions)))
    (i64.store (local.get $at) (i64.sub (call $stable_size) (global.get $from_stable)))
    (i64.store offset=8 (local.get $at) (i64.const 1))
    (i64.store offset=16 (local.get $at)
      (i64.extend_i32_u (i32.sub (memory.size) (global.get $from_heap)))))

  (func $send (param $size i32)
    (call $append (i32.const 0) (i32.const 55))
    (call $append (i32.const 64) (local.get $size))
    (call $reply))

  ;; Stable memory has one Wasm page, and the argument at its beginning.
  (func (export "canister_init")
    (drop (call $stable_grow (i64.const 1)))
    (call $argument_copy (i32.const 1024) (i32.const 0) (call $argument_size))
    (call $stable_write (i64.const 0) (i64.const 1024) (i64.extend_i32_u (call $argument_size))))

  (func (export "canister_query __canbench__nothing")
    (call $begin)
    (call $end (i32.const 64))
    (call $send (i32.const 33)))

  ;; 10000 bytes from the middle of OS page 1: it, 2 and 3 become dirty.
  (func (export "canister_query __canbench__write")
    (call $begin)
    (call $stable_write (i64.const 6144) (i64.const 2048) (i64.const 10000))
    (call $end (i32.const 64))
    (call $send (i32.const 33)))

  ;; The same, twice: an OS page is dirty once in a message.
  (func (export "canister_query __canbench__write_again")
    (call $begin)
    (call $stable_write (i64.const 6144) (i64.const 2048) (i64.const 10000))
    (call $stable_write (i64.const 6144) (i64.const 2048) (i64.const 10000))
    (call $end (i32.const 64))
    (call $send (i32.const 33)))

  (func (export "canister_query __canbench__read")
    (call $begin)
    (call $stable_read (i64.const 70000) (i64.const 6144) (i64.const 10000))
    (call $end (i32.const 64))
    (call $send (i32.const 33)))

  ;; Three Wasm pages of stable memory, and two of the heap.
  (func (export "canister_query __canbench__grow")
    (call $begin)
    (drop (call $stable_grow (i64.const 3)))
    (drop (memory.grow (i32.const 2)))
    (call $end (i32.const 64))
    (call $send (i32.const 33)))

  ;; A loop that divides, as a scope inside of the benchmark.
  (func (export "canister_query __canbench__scoped") (local $left i32)
    (call $begin)
    (local.set $left (i32.const 1000))
    (loop $again
      (drop (i32.div_u (i32.const 7) (local.get $left)))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (i32.store8 (i32.const 96) (i32.const 1))
    (call $end (i32.const 103))
    (call $end (i32.const 64))
    (call $send (i32.const 71)))

  ;; What the argument and the initial state were: pages grow by as many as they have bytes.
  (func (export "canister_query __canbench__state") (local $byte i32)
    (call $begin)
    (call $stable_read (i64.const 2048) (i64.const 0) (i64.const 1))
    (drop (call $stable_grow (i64.load8_u (i32.const 2048))))
    (drop (memory.grow (call $argument_size)))
    (call $end (i32.const 64))
    (call $send (i32.const 33)))

  ;; A query like any other.
  (func (export "canister_query nothing") (call $reply)))
