;; A counter that keeps what was added in stable memory, as a canister without any library.
;;
;; Stable memory:  0 the sum · 8 how many numbers were added · 4096 the numbers, 8 bytes each
;; Heap:           0 head of a Candid message with one nat64 · 7 its value · 64 texts
;;
;; counter.wasm is made of it: python tests/modules/own.py
(module
  (@custom "icp:public candid:service"
    "service : (start : nat64) -> {\n  add : (nat64) -> (nat64);\n  get : () -> (nat64) query;\n  last : (count : nat64) -> (sum : nat64) query;\n  add_later : (nat64, seconds : nat64) -> ();\n  refuse : () -> ();\n  fail : () -> ();\n}\n")
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg_copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reject" (func $reject (param i32 i32)))
  (import "ic0" "trap" (func $trap (param i32 i32)))
  (import "ic0" "time" (func $time (result i64)))
  (import "ic0" "global_timer_set" (func $timer_set (param i64) (result i64)))
  (import "ic0" "stable64_size" (func $stable_size (result i64)))
  (import "ic0" "stable64_grow" (func $stable_grow (param i64) (result i64)))
  (import "ic0" "stable64_read" (func $stable_read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $stable_write (param i64 i64 i64)))
  (memory (export "memory") 1)
  (global $waiting (mut i64) (i64.const 0))
  (data (i32.const 0) "DIDL\00\01\78")
  (data (i32.const 64) "the argument is not what the interface says")
  (data (i32.const 128) "this counter refuses")
  (data (i32.const 192) "this counter fails")
  (data (i32.const 256) "DIDL\00\00")
  (data (i32.const 272) "DIDL\00\02\78\78")

  ;; The argument, which has to have a size and to begin as told.
  (func $take (param $size i32) (param $head i32) (param $head_size i32)
    (local $at i32)
    (if (i32.ne (call $arg_size) (local.get $size))
      (then (call $trap (i32.const 64) (i32.const 43))))
    (call $arg_copy (i32.const 512) (i32.const 0) (local.get $size))
    (block $same
      (loop $next
        (br_if $same (i32.eq (local.get $at) (local.get $head_size)))
        (if (i32.ne
              (i32.load8_u (i32.add (i32.const 512) (local.get $at)))
              (i32.load8_u (i32.add (local.get $head) (local.get $at))))
          (then (call $trap (i32.const 64) (i32.const 43))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next))))

  (func $number (result i64)
    (call $take (i32.const 15) (i32.const 0) (i32.const 7))
    (i64.load align=1 (i32.const 519)))

  (func $answer (param $value i64)
    (i64.store align=1 (i32.const 7) (local.get $value))
    (call $append (i32.const 0) (i32.const 15))
    (call $reply))

  (func $nothing
    (call $append (i32.const 256) (i32.const 6))
    (call $reply))

  ;; Sum and count, at 1024 and 1032 of the heap.
  (func $load (call $stable_read (i64.const 1024) (i64.const 0) (i64.const 16)))
  (func $store (call $stable_write (i64.const 0) (i64.const 1024) (i64.const 16)))

  (func $add (param $value i64) (result i64)
    (local $place i64)
    (call $load)
    (local.set $place
      (i64.add (i64.const 4096) (i64.shl (i64.load (i32.const 1032)) (i64.const 3))))
    (if (i64.ge_u
          (i64.shr_u (i64.add (local.get $place) (i64.const 7)) (i64.const 16))
          (call $stable_size))
      (then (drop (call $stable_grow (i64.const 1)))))
    (i64.store (i32.const 1040) (local.get $value))
    (call $stable_write (local.get $place) (i64.const 1040) (i64.const 8))
    (i64.store (i32.const 1024) (i64.add (i64.load (i32.const 1024)) (local.get $value)))
    (i64.store (i32.const 1032) (i64.add (i64.load (i32.const 1032)) (i64.const 1)))
    (call $store)
    (i64.load (i32.const 1024)))

  (func (export "canister_init")
    (drop (call $stable_grow (i64.const 1)))
    (i64.store (i32.const 1024) (call $number))
    (call $store))

  (func (export "canister_update add") (call $answer (call $add (call $number))))

  (func (export "canister_query get")
    (call $load)
    (call $answer (i64.load (i32.const 1024))))

  ;; The sum of the last numbers, each read by itself.
  (func (export "canister_query last")
    (local $left i64) (local $place i64) (local $sum i64)
    (local.set $left (call $number))
    (call $load)
    (if (i64.gt_u (local.get $left) (i64.load (i32.const 1032)))
      (then (local.set $left (i64.load (i32.const 1032)))))
    (local.set $place
      (i64.add (i64.const 4096) (i64.shl (i64.load (i32.const 1032)) (i64.const 3))))
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $left)))
        (local.set $place (i64.sub (local.get $place) (i64.const 8)))
        (call $stable_read (i64.const 1040) (local.get $place) (i64.const 8))
        (local.set $sum (i64.add (local.get $sum) (i64.load (i32.const 1040))))
        (local.set $left (i64.sub (local.get $left) (i64.const 1)))
        (br $next)))
    (call $answer (local.get $sum)))

  (func (export "canister_update add_later")
    (call $take (i32.const 24) (i32.const 272) (i32.const 8))
    (global.set $waiting (i64.load align=1 (i32.const 520)))
    (drop (call $timer_set
      (i64.add (call $time)
        (i64.mul (i64.load align=1 (i32.const 528)) (i64.const 1000000000)))))
    (call $nothing))

  (func (export "canister_global_timer") (drop (call $add (global.get $waiting))))

  (func (export "canister_update refuse") (call $reject (i32.const 128) (i32.const 20)))

  (func (export "canister_update fail")
    (drop (call $add (i64.const 1)))
    (call $trap (i32.const 192) (i32.const 18)))
)
