;; Sums words of 8 bytes in three ways: what stable memory costs by the word, by the OS page, and
;; what it would cost by loads of its own.
;;
;; Heap:           0 one word · 4096 one OS page · 65536 1 MiB of words
;; Stable memory:  0 1 MiB of words
;;
;; words.wasm is made of it: python tests/modules/own.py
(module
  (@custom "icp:public candid:service"
    "service : {\n  by_word : () -> ();\n  by_os_page : () -> ();\n  direct : () -> ();\n}\n")
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "stable64_grow" (func $stable_grow (param i64) (result i64)))
  (import "ic0" "stable64_read" (func $stable_read (param i64 i64 i64)))
  (memory (export "memory") 17)
  (data (i32.const 16) "DIDL\00\00")

  (func (export "canister_init")
    (drop (call $stable_grow (i64.const 16))))

  ;; Sums the words of the heap from an address on.
  (func $sum (param $at i32) (param $end i32) (result i64)
    (local $sum i64)
    (loop $next
      (local.set $sum (i64.add (local.get $sum) (i64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (local.get $sum))

  (func $done (param $sum i64)
    (call $append (i32.const 16) (i32.const 6))
    (call $reply))

  ;; A call of stable memory for each word.
  (func (export "canister_update by_word")
    (local $at i64) (local $sum i64)
    (loop $next
      (call $stable_read (i64.const 0) (local.get $at) (i64.const 8))
      (local.set $sum (i64.add (local.get $sum) (i64.load (i32.const 0))))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $next (i64.lt_u (local.get $at) (i64.const 1048576))))
    (call $done (local.get $sum)))

  ;; A call for each OS page, whose words are loaded from a copy in the heap, as a page cache does.
  (func (export "canister_update by_os_page")
    (local $at i64) (local $sum i64)
    (loop $next
      (call $stable_read (i64.const 4096) (local.get $at) (i64.const 4096))
      (local.set $sum
        (i64.add (local.get $sum) (call $sum (i32.const 4096) (i32.const 8192))))
      (local.set $at (i64.add (local.get $at) (i64.const 4096)))
      (br_if $next (i64.lt_u (local.get $at) (i64.const 1048576))))
    (call $done (local.get $sum)))

  ;; Loads without a call: of the heap, where a load costs what a direct one of stable memory would.
  (func (export "canister_update direct")
    (call $done (call $sum (i32.const 65536) (i32.const 1114112)))))
