"""A replica of canisters that do what a script says, which comes with each call.

A script is bytes: one letter for what is to be done, with what it needs behind it. `SCRIPT_WAT`
runs it; `add`, `call` and the others write it. A canister counts, in heap and stable memory alike.
"""

from contextlib import contextmanager
from functools import cache

import wasmtime

from sqlstable.replica.replica import Replica

SCRIPT_WAT = """
(module
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg_copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reject" (func $reject (param i32 i32)))
  (import "ic0" "msg_reject_code" (func $reject_code (result i32)))
  (import "ic0" "msg_cycles_accept128" (func $accept (param i64 i64 i32)))
  (import "ic0" "msg_cycles_refunded128" (func $refunded (param i32)))
  (import "ic0" "cycles_burn128" (func $burn (param i64 i64 i32)))
  (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_on_cleanup" (func $on_cleanup (param i32 i32)))
  (import "ic0" "call_data_append" (func $data_append (param i32 i32)))
  (import "ic0" "call_cycles_add128" (func $cycles_add (param i64 i64)))
  (import "ic0" "call_with_best_effort_response" (func $wait (param i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (import "ic0" "stable64_size" (func $stable_size (result i64)))
  (import "ic0" "stable64_grow" (func $stable_grow (param i64) (result i64)))
  (import "ic0" "stable64_read" (func $stable_read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $stable_write (param i64 i64 i64)))
  (import "ic0" "global_timer_set" (func $timer (param i64) (result i64)))
  (import "ic0" "accept_message" (func $accept_message))
  (import "ic0" "time" (func $time (result i64)))
  (import "ic0" "certified_data_set" (func $certify (param i32 i32)))
  (import "ic0" "debug_print" (func $print (param i32 i32)))
  (import "ic0" "trap" (func $trap (param i32 i32)))
  (memory 64)
  (table funcref (elem $callback))
  ;; 0: counter; 8: where the next callback's script goes; 16: cycles; 32: script of the timer
  (data (i32.const 64) "run" "oops" "no" "run_query" "tree")
  (global $next (mut i32) (i32.const 1048576))
  (func $count (param $n i64)
    (i64.store (i32.const 0) (i64.add (i64.load (i32.const 0)) (local.get $n)))
    (if (i64.eqz (call $stable_size)) (then (drop (call $stable_grow (i64.const 1)))))
    (call $stable_write (i64.const 0) (i64.const 0) (i64.const 8)))
  ;; Keep a script of a length in the heap for later, and return where.
  (func $later (param $from i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (i32.store16 (local.get $at) (local.get $size))
    (memory.copy (i32.add (local.get $at) (i32.const 2)) (local.get $from) (local.get $size))
    (global.set $next (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 2)))
    (local.get $at))
  (func $callback (param $env i32)
    (call $run (i32.add (local.get $env) (i32.const 2))
      (i32.add (i32.add (local.get $env) (i32.const 2)) (i32.load16_u (local.get $env)))))
  (func $calling (param $p i32) (param $callee_size i32) (param $name i32)
    (param $name_size i32) (result i32)
    (local $arg i32) (local $reply i32) (local $reject i32) (local $cleanup i32) (local $at i32)
    (local.set $arg (i32.load16_u offset=20 (local.get $p)))
    (local.set $reply (i32.load16_u offset=22 (local.get $p)))
    (local.set $reject (i32.load16_u offset=24 (local.get $p)))
    (local.set $cleanup (i32.load16_u offset=26 (local.get $p)))
    (local.set $at (i32.add (i32.add (local.get $p) (i32.const 28)) (local.get $arg)))
    (call $call_new (local.get $p) (local.get $callee_size) (local.get $name) (local.get $name_size)
      (i32.const 0) (call $later (local.get $at) (local.get $reply))
      (i32.const 0)
      (call $later (i32.add (local.get $at) (local.get $reply)) (local.get $reject)))
    (local.set $at (i32.add (local.get $at) (i32.add (local.get $reply) (local.get $reject))))
    (if (local.get $cleanup) (then
      (call $on_cleanup (i32.const 0) (call $later (local.get $at) (local.get $cleanup)))))
    (call $data_append (i32.add (local.get $p) (i32.const 28)) (local.get $arg))
    (if (i64.ne (i64.load offset=10 (local.get $p)) (i64.const 0)) (then
      (call $cycles_add (i64.const 0) (i64.load offset=10 (local.get $p)))))
    (if (i32.load16_u offset=18 (local.get $p)) (then
      (call $wait (i32.load16_u offset=18 (local.get $p)))))
    (if (call $perform) (then unreachable))
    (i32.add (local.get $at) (local.get $cleanup)))
  (func $run (param $p i32) (param $end i32)
    (local $op i32)
    (loop $next_op
      (if (i32.lt_u (local.get $p) (local.get $end)) (then
        (local.set $op (i32.load8_u (local.get $p)))
        (local.set $p (i32.add (local.get $p) (i32.const 1)))
        (if (i32.eq (local.get $op) (i32.const 65)) (then  ;; A n: add
          (call $count (i64.load32_u (local.get $p)))
          (local.set $p (i32.add (local.get $p) (i32.const 4)))))
        (if (i32.eq (local.get $op) (i32.const 67)) (then  ;; C: call
          (local.set $p
            (call $calling (local.get $p) (i32.const 10) (i32.const 64) (i32.const 3)))))
        (if (i32.eq (local.get $op) (i32.const 81)) (then  ;; Q: call a query
          (local.set $p
            (call $calling (local.get $p) (i32.const 10) (i32.const 73) (i32.const 9)))))
        (if (i32.eq (local.get $op) (i32.const 86)) (then  ;; V: call a composite query
          (local.set $p
            (call $calling (local.get $p) (i32.const 10) (i32.const 82) (i32.const 4)))))
        (if (i32.eq (local.get $op) (i32.const 77)) (then  ;; M: call the management canister
          (local.set $op (i32.load8_u (local.get $p)))
          (local.set $p (i32.add (local.get $p) (i32.const 1)))
          (local.set $p (call $calling (i32.add (local.get $p) (local.get $op)) (i32.const 0)
            (local.get $p) (local.get $op)))
          (local.set $op (i32.const 0))))
        (if (i32.eq (local.get $op) (i32.const 82)) (then  ;; R: reply with the counters
          (call $state)))
        (if (i32.eq (local.get $op) (i32.const 74)) (then  ;; J: reject
          (call $reject (i32.const 71) (i32.const 2))))
        (if (i32.eq (local.get $op) (i32.const 84)) (then  ;; T: trap
          (call $trap (i32.const 67) (i32.const 4))))
        (if (i32.eq (local.get $op) (i32.const 85)) (then unreachable))  ;; U
        (if (i32.eq (local.get $op) (i32.const 88)) (then  ;; X n: accept cycles
          (call $accept (i64.const 0) (i64.load32_u (local.get $p)) (i32.const 16))
          (local.set $p (i32.add (local.get $p) (i32.const 4)))))
        (if (i32.eq (local.get $op) (i32.const 66)) (then  ;; B n: burn cycles
          (call $burn (i64.const 0) (i64.load32_u (local.get $p)) (i32.const 16))
          (local.set $p (i32.add (local.get $p) (i32.const 4)))))
        (if (i32.eq (local.get $op) (i32.const 70)) (then  ;; F: count the cycles refunded
          (call $refunded (i32.const 16))
          (call $count (i64.load (i32.const 16)))))
        (if (i32.eq (local.get $op) (i32.const 75)) (then  ;; K: count the reject code
          (call $count (i64.extend_i32_u (call $reject_code)))))
        (if (i32.eq (local.get $op) (i32.const 71)) (then  ;; G n: timer in n seconds, counting 1
          (drop (call $timer (i64.add (call $time)
            (i64.mul (i64.load32_u (local.get $p)) (i64.const 1000000000)))))
          (local.set $p (i32.add (local.get $p) (i32.const 4)))))
        (if (i32.eq (local.get $op) (i32.const 68)) (then  ;; D: certify the counter, and print
          (call $certify (i32.const 0) (i32.const 8))
          (call $print (i32.const 64) (i32.const 3))))
        (br $next_op)))))
  (func $state
    (if (i64.ne (call $stable_size) (i64.const 0)) (then
      (call $stable_read (i64.const 24) (i64.const 0) (i64.const 8))))
    (call $append (i32.const 0) (i32.const 8))
    (call $append (i32.const 24) (i32.const 8))
    (call $reply))
  (func $argument
    (call $arg_copy (i32.const 4096) (i32.const 0) (call $arg_size))
    (call $run (i32.const 4096) (i32.add (i32.const 4096) (call $arg_size))))
  (func (export "canister_init") (call $argument))
  (func (export "canister_post_upgrade")
    (if (i64.ne (call $stable_size) (i64.const 0)) (then
      (call $stable_read (i64.const 0) (i64.const 0) (i64.const 8))))
    (call $argument))
  (func (export "canister_pre_upgrade") (call $count (i64.const 1000000)))
  (func (export "canister_update run") (call $argument))
  (func (export "canister_query look") (call $state))
  (func (export "canister_query run_query") (call $argument))
  (func (export "canister_composite_query tree") (call $argument))
  (func (export "canister_global_timer") (call $count (i64.const 1)))
  (func (export "canister_heartbeat") (call $count (i64.const 100)))
)
"""


@cache
def script_module(extra=""):
    """Return the module, with more of text in it."""
    text = SCRIPT_WAT.rstrip().removesuffix(")") + extra + ")"
    return bytes(wasmtime.wat2wasm(text))


# -- scripts --------------------------------------------------------------------------------------

TO_UPDATE, TO_QUERY, TO_TREE = b"C", b"Q", b"V"
REPLY, REJECT, TRAP, UNREACHABLE = b"R", b"J", b"T", b"U"
COUNT_REFUND, COUNT_REJECT_CODE, CERTIFY = b"F", b"K", b"D"


def _number(value):
    return value.to_bytes(4, "little")


def add(number):
    return b"A" + _number(number)


def accept(cycles):
    return b"X" + _number(cycles)


def burn(cycles):
    return b"B" + _number(cycles)


def timer(seconds):
    return b"G" + _number(seconds)


def call(
    callee, argument=b"", *, to=b"C", reply=b"", reject=b"", cleanup=b"", cycles=0, timeout_s=0
):
    parts = (argument, reply, reject, cleanup)
    sizes = b"".join(len(part).to_bytes(2, "little") for part in parts)
    head = callee + cycles.to_bytes(8, "little") + timeout_s.to_bytes(2, "little")
    return to + head + sizes + b"".join(parts)


def manage(method, argument, **options):
    """Call a method of the management canister."""
    head = b"M" + bytes([len(method)]) + method.encode()
    return call(bytes(10), argument, to=head, **options)


@contextmanager
def scripted(*names, module=None, **options):
    """Give a replica of canisters that run scripts, with this code installed."""
    replica = Replica(**options)
    try:
        for name in names:
            replica.create(name)
            result = replica.install(name, script_module() if module is None else module)
            assert result.reply is not None, result
        yield replica
    finally:
        replica.close()


def counters(replica, name):
    """Return what a canister has counted in its heap and in stable memory."""
    reply = replica.query(name, "look").reply
    return int.from_bytes(reply[:8], "little"), int.from_bytes(reply[8:], "little")
