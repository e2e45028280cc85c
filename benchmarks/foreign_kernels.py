"""Compute-bound kernels as canister modules, and a module of any size to be compiled.

Each kernel exports ``canister_update kernel`` and needs nothing from outside. SCALE in a text is
how often it does its work.
"""

from typing import Final

_LOOP: Final = """(module
  (memory 1)
  (global $sum (export "sum") (mut i64) (i64.const 0))
  (func (export "canister_update kernel") (local $i i64) (local $x i64)
    (loop $next
      (local.set $x
        (i64.xor
          (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (local.get $i))
          (i64.shr_u (local.get $x) (i64.const 33))))
      (local.set $i (i64.add (local.get $i) (i64.const 1)))
      (br_if $next (i64.lt_u (local.get $i) (i64.const SCALE000000))))
    (global.set $sum (local.get $x))))"""

_MATRICES: Final = """(module
  (memory 10)
  (func $row (param $a i32) (param $b i32) (param $c i32) (local $k i32) (local $sum f64)
    (loop $next
      (local.set $sum
        (f64.add (local.get $sum)
          (f64.mul (f64.load (local.get $a)) (f64.load (local.get $b)))))
      (local.set $a (i32.add (local.get $a) (i32.const 8)))
      (local.set $b (i32.add (local.get $b) (i32.const 960)))
      (local.set $k (i32.add (local.get $k) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $k) (i32.const 120))))
    (f64.store (local.get $c) (local.get $sum)))
  (func (export "canister_update kernel") (local $i i32) (local $j i32) (local $times i32)
    (loop $again
      (local.set $i (i32.const 0))
      (loop $rows
        (local.set $j (i32.const 0))
        (loop $columns
          (call $row
            (i32.mul (local.get $i) (i32.const 960))
            (i32.add (i32.const 131072) (i32.shl (local.get $j) (i32.const 3)))
            (i32.add (i32.const 262144)
              (i32.add
                (i32.mul (local.get $i) (i32.const 960))
                (i32.shl (local.get $j) (i32.const 3)))))
          (local.set $j (i32.add (local.get $j) (i32.const 1)))
          (br_if $columns (i32.lt_u (local.get $j) (i32.const 120))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $rows (i32.lt_u (local.get $i) (i32.const 120))))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const SCALE))))))"""

_SIEVE: Final = """(module
  (memory 20)
  (func (export "canister_update kernel") (local $i i32) (local $j i32) (local $times i32)
    (local $count i32)
    (loop $again
      (local.set $i (i32.const 2))
      (loop $clear
        (i32.store8 (local.get $i) (i32.const 0))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $clear (i32.lt_u (local.get $i) (i32.const 1000000))))
      (local.set $i (i32.const 2))
      (loop $numbers
        (if (i32.eqz (i32.load8_u (local.get $i)))
          (then
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (local.set $j (i32.shl (local.get $i) (i32.const 1)))
            (block $done
              (loop $multiples
                (br_if $done (i32.ge_u (local.get $j) (i32.const 1000000)))
                (i32.store8 (local.get $j) (i32.const 1))
                (local.set $j (i32.add (local.get $j) (local.get $i)))
                (br $multiples)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $numbers (i32.lt_u (local.get $i) (i32.const 1000000))))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const SCALE))))
    (i32.store (i32.const 0) (local.get $count))))"""

_HASH: Final = """(module
  (memory 4)
  (func (export "canister_update kernel") (local $at i32) (local $times i32)
    (local $a i32) (local $b i32) (local $c i32) (local $d i32) (local $w i32)
    (loop $again
      (local.set $at (i32.const 0))
      (loop $block
        (local.set $w (i32.load (local.get $at)))
        (local.set $a
          (i32.add (local.get $a)
            (i32.xor (i32.and (local.get $b) (local.get $c))
              (i32.and (i32.xor (local.get $b) (i32.const -1)) (local.get $d)))))
        (local.set $a (i32.rotl (i32.add (local.get $a) (local.get $w)) (i32.const 7)))
        (local.set $w (i32.load offset=4 (local.get $at)))
        (local.set $d
          (i32.add (local.get $d)
            (i32.xor (i32.and (local.get $a) (local.get $b))
              (i32.and (i32.xor (local.get $a) (i32.const -1)) (local.get $c)))))
        (local.set $d (i32.rotl (i32.add (local.get $d) (local.get $w)) (i32.const 12)))
        (local.set $w (i32.load offset=8 (local.get $at)))
        (local.set $c
          (i32.add (local.get $c)
            (i32.xor (i32.and (local.get $d) (local.get $a))
              (i32.and (i32.xor (local.get $d) (i32.const -1)) (local.get $b)))))
        (local.set $c (i32.rotl (i32.add (local.get $c) (local.get $w)) (i32.const 17)))
        (local.set $w (i32.load offset=12 (local.get $at)))
        (local.set $b
          (i32.add (local.get $b)
            (i32.xor (i32.and (local.get $c) (local.get $d))
              (i32.and (i32.xor (local.get $c) (i32.const -1)) (local.get $a)))))
        (local.set $b (i32.rotl (i32.add (local.get $b) (local.get $w)) (i32.const 22)))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $block (i32.lt_u (local.get $at) (i32.const 262144))))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const SCALE0))))
    (i32.store (i32.const 0)
      (i32.xor
        (i32.xor (local.get $a) (local.get $b)) (i32.xor (local.get $c) (local.get $d))))))"""

_COPY: Final = """(module
  (memory 8)
  (func $copy (param $to i32) (param $from i32) (param $end i32)
    (loop $next
      (i64.store align=4 (local.get $to) (i64.load align=4 (local.get $from)))
      (i64.store offset=8 align=4 (local.get $to) (i64.load offset=8 align=4 (local.get $from)))
      (local.set $to (i32.add (local.get $to) (i32.const 16)))
      (local.set $from (i32.add (local.get $from) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $from) (local.get $end)))))
  (func (export "canister_update kernel") (local $times i32)
    (loop $again
      (call $copy (i32.const 262144) (i32.const 0) (i32.const 262144))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const SCALE00))))))"""

_BULK: Final = """(module
  (memory 40)
  (func (export "canister_update kernel") (local $times i32)
    (loop $again
      (memory.copy (i32.const 1310720) (i32.const 0) (i32.const 1048576))
      (memory.copy (i32.const 0) (i32.const 1310720) (i32.const 4096))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const SCALE0))))))"""

_SORT: Final = """(module
  (memory 8)
  (func $sort (param $low i32) (param $high i32)
    (local $i i32) (local $j i32) (local $pivot i32) (local $x i32)
    (if (i32.ge_s (local.get $low) (local.get $high)) (then (return)))
    (local.set $pivot
      (i32.load
        (i32.and
          (i32.shr_u (i32.add (local.get $low) (local.get $high)) (i32.const 1))
          (i32.const -4))))
    (local.set $i (i32.sub (local.get $low) (i32.const 4)))
    (local.set $j (i32.add (local.get $high) (i32.const 4)))
    (block $done
      (loop $next
        (loop $up
          (local.set $i (i32.add (local.get $i) (i32.const 4)))
          (br_if $up (i32.lt_u (i32.load (local.get $i)) (local.get $pivot))))
        (loop $down
          (local.set $j (i32.sub (local.get $j) (i32.const 4)))
          (br_if $down (i32.gt_u (i32.load (local.get $j)) (local.get $pivot))))
        (br_if $done (i32.ge_s (local.get $i) (local.get $j)))
        (local.set $x (i32.load (local.get $i)))
        (i32.store (local.get $i) (i32.load (local.get $j)))
        (i32.store (local.get $j) (local.get $x))
        (br $next)))
    (call $sort (local.get $low) (local.get $j))
    (call $sort (i32.add (local.get $j) (i32.const 4)) (local.get $high)))
  (func (export "canister_update kernel")
    (local $at i32) (local $x i32) (local $times i32)
    (loop $again
      (local.set $at (i32.const 0))
      (loop $fill
        (local.set $x
          (i32.add (i32.mul (local.get $x) (i32.const 1664525)) (i32.const 1013904223)))
        (i32.store (local.get $at) (local.get $x))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (br_if $fill (i32.lt_u (local.get $at) (i32.const 262144))))
      (call $sort (i32.const 0) (i32.const 262140))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const SCALE))))))"""

_CALLS: Final = """(module
  (memory 1)
  (func $fibonacci (param $n i32) (result i32)
    (if (result i32) (i32.lt_u (local.get $n) (i32.const 2))
      (then (local.get $n))
      (else
        (i32.add
          (call $fibonacci (i32.sub (local.get $n) (i32.const 1)))
          (call $fibonacci (i32.sub (local.get $n) (i32.const 2)))))))
  (func (export "canister_update kernel") (local $times i32)
    (loop $again
      (drop (call $fibonacci (i32.const 25)))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const SCALE))))))"""

KERNELS: Final = {
    "integer loop": _LOOP,
    "matrix multiply": _MATRICES,
    "sieve": _SIEVE,
    "hash": _HASH,
    "copy by words": _COPY,
    "memory.copy": _BULK,
    "quicksort": _SORT,
    "recursive calls": _CALLS,
}

_FUNCTION: Final = """
  (func $f{index} (param i32 i32) (result i32) (local i32 i32 i64)
    (local.set 2 (i32.add (local.get 0) (i32.const {index})))
    (block $out
      (loop $next
        (br_if $out (i32.eqz (local.get 1)))
        (i32.store offset={offset} (local.get 2)
          (i32.mul (i32.load offset={offset} (local.get 0)) (local.get 1)))
        (if (i32.lt_u (local.get 2) (i32.const 60000))
          (then
            (local.set 4 (i64.add (local.get 4) (i64.load32_u offset=16 (local.get 2))))
            (local.set 3 (call $f{before} (local.get 2) (i32.const 0))))
          (else
            (local.set 2 (i32.const 64))
            (i64.store offset=24 (local.get 0) (local.get 4))))
        (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
        (local.set 2 (i32.add (local.get 2) (i32.xor (local.get 3) (i32.const 5))))
        (br $next)))
    (i32.add (local.get 2) (i32.wrap_i64 (local.get 4))))"""

_FUNCTION_BYTES: Final = 125


def synthetic_module(size_bytes: int) -> bytes:
    """Return a module of about so many bytes of code, in functions as compilers write them."""
    import wasmtime  # noqa: PLC0415  slow to import

    count = size_bytes // _FUNCTION_BYTES
    functions = "".join(
        _FUNCTION.format(index=index, before=max(index - 1, 0), offset=4 * (index % 1000))
        for index in range(min(count, 45_000))
    )
    return bytes(wasmtime.wat2wasm(f"(module (memory 2) {functions})"))
