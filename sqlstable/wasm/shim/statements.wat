;; The shim, statements: where those of a module begin and end that tells of them.
;;
;; A module that exports sqlstable_statement calls it where a statement begins, with its text, and
;; with a size of 0 where one ends. Its rewritten code calls this one first, which costs nothing. Each
;; call leaves a border in $borders, with mark 1 for a beginning and 2 for an end; the texts of the
;; beginnings lie in $statements, each behind its size in eight bytes.

  (memory $statements (export "statements") i64 0)
  (global $statements_size (export "statements_size") (mut i64) (i64.const 0))

  (func $mark_border (param $mark i64)
    (i64.store $borders
      (i64.mul (i64.sub (global.get $border_count) (i64.const 1)) (i64.const 88))
      (local.get $mark)))

  (func (export "statement") (param $sql ptr) (param $size ptr)
    (local $end i64) (local $bytes i64) (local $need i64)
    (if (i64.eqz (global.get $border_count)) (then (global.set $statements_size (i64.const 0))))
    ;; As if a statement began: that is where the heap is counted.
    (call $push_border (i32.const 1))
    (if (i64.eqz (i64.of_ptr (local.get $size)))
      (then
        (call $mark_border (i64.const 2))
        (return)))
    ;; A text that lies outside of the heap is none; of a long one the beginning is enough.
    (if (i64.gt_u (i64.of_ptr (local.get $size)) (i64.const 65536))
      (then (local.set $size (ptr.of_i64 (i64.const 65536)))))
    (local.set $bytes (i64.of_ptr (local.get $size)))
    (if (i32.or
          (i64.gt_u (local.get $bytes) (i64.shl (i64.extend_i32_u (global.get $heap_size)) (i64.const 16)))
          (i64.gt_u
            (i64.of_ptr (local.get $sql))
            (i64.sub
              (i64.shl (i64.extend_i32_u (global.get $heap_size)) (i64.const 16))
              (local.get $bytes))))
      (then
        (local.set $bytes (i64.const 0))
        (local.set $size (ptr.const 0))
        (local.set $sql (ptr.const 0))))
    (local.set $end (global.get $statements_size))
    (local.set $need
      (call $pages_for (i64.add (i64.add (local.get $end) (i64.const 8)) (local.get $bytes))))
    (if (i64.gt_u (local.get $need) (memory.size $statements))
      (then (call $grown (memory.grow $statements
        (call $growth (memory.size $statements) (local.get $need))))))
    (i64.store $statements (local.get $end) (local.get $bytes))
    (memory.copy $statements $heap
      (i64.add (local.get $end) (i64.const 8)) (local.get $sql) (local.get $size))
    (global.set $statements_size
      (i64.add (i64.add (local.get $end) (i64.const 8)) (local.get $bytes))))
