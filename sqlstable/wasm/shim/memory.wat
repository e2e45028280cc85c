;; The shim, first part: memories, stable memory, the heap, messages, and what the driver calls.
;;
;; The shim stands between a rewritten canister module and the driver. The canister imports its
;; functions as "ic0", its memories and globals as "sqlstable". The driver calls the functions of
;; the sections "For the driver", and reads lists and buffers where they lie. Nothing here calls
;; Python.
;;
;; The order of checks in each call on stable memory is the replica's, and so are what it charges
;; and when: sqlstable/memory/api.py has the rules and their sources, and a test compares the two.
;;
;; All parts, this one and the files beside it, are the fields of one module, for canisters with
;; 32-bit heaps and with 64-bit ones. What differs is written so, and put in by sqlstable/wasm/shim.py:
;;   ptr, ptr.add ...           type of heap addresses and sizes, and its operators: i32 or i64
;;   i64.of_ptr, ptr.of_i64     conversions; a ptr.of_i64 is given numbers only that fit, or that
;;   i32.of_ptr, ptr.of_i32     were checked; i32s count as unsigned
;;   HEAP_WASM_PAGES_MAX        how large a heap may become, a plain number
;;   MARKS_WASM_PAGES           size of the memory of marks, a plain number
;;   WRITTEN                    where the array of OS pages written begins in it, a plain number
;;   CELLS_START                where cells of extras begin in it, behind both arrays
;;   CELLS_BYTES                how many bytes of them each extra has; 0 where there are none
;;
;; Memories
;;   heap         of the canister, made by the driver
;;   stable       stable memory, made by the driver: it outlives this instance
;;   heap_marks   1 for each OS page of the heap read; from WRITTEN on, written; then cells of extras
;;   heap_kept    the heap as the last message left it, to go back to
;;   bytemap      a byte for each stable OS page: bit 0 written, bit 1 accessed in this message
;;   accessed     list of i64: stable OS pages accessed, in the order of their first access
;;   dirty        list of i64: those written, in the order of their first write
;;   undo         old bytes of the OS page at the same place in dirty
;;   log          list of (kind, address, length), three i64 each: every call on stable memory;
;;                2 GiB of them end a message for lack of memory
;;   borders      list of (mark, instructions, log length, charges for pages, heap regions, heap OS
;;                pages, two extras, stable OS pages dirty, stable regions accessed and dirty, as
;;                they were charged), eleven i64 each
;;   statements   texts of statements that a module tells of, see statements.wat
;;   argument     bytes that a call takes
;;   reply        bytes that it answers
;;   debug        what the message printed
;;   text         what a trap says
;;   words        constant texts
;;   status       what `tell` writes for the driver: one i64 for each number
;; Those that bytes of the heap are copied from or to have 64-bit addresses, so that each copy has a
;; length of the heap's type.
;;
;; A message begins with begin_message, runs one or more calls, each after begin_call, and ends with
;; commit or rollback. What a message did can be read until it ends.

  (import "sqlstable" "heap" (memory $heap ptr 0))
  (import "sqlstable" "stable" (memory $stable i64 0))

  (memory $heap_marks (export "heap_marks") MARKS_WASM_PAGES MARKS_WASM_PAGES)
  (memory $heap_kept (export "heap_kept") ptr 0 HEAP_WASM_PAGES_MAX)
  (memory $bytemap (export "bytemap") i64 0)
  (memory $accessed (export "accessed") i64 0)
  (memory $dirty (export "dirty") i64 0)
  (memory $undo (export "undo") i64 0)
  (memory $log (export "log") i64 0 32768)
  (memory $borders (export "borders") i64 0)
  (memory $argument (export "argument") i64 0 65536)
  (memory $reply (export "reply") i64 0 65536)
  (memory $debug (export "debug") i64 0 65536)
  (memory $text (export "text") i64 0 65536)
  (memory $words i64 1 1)
  (memory $status (export "status") 1 1)

  ;; ---- What the canister module shares -------------------------------------------------------

  (global $counter (export "counter") (mut i64) (i64.const 0))      ;; instructions left
  (global $heap_size (export "heap_size") (mut i32) (i32.const 0))  ;; Wasm pages, logical
  (global $trap_code (export "trap_code") (mut i32) (i32.const 0))

  ;; What other tables of weights count beyond today's: sqlstable.wasm.rewrite.metering.EXTRAS.
  ;; What lies in cells since they were last settled comes to it.
  (global $extra_2023 (export "extra_2023") (mut i64) (i64.const 0))
  (global $extra_flat (export "extra_flat") (mut i64) (i64.const 0))

  ;; Values of $trap_code: sqlstable.wasm.traps.TrapCode.
  (global $OUT_OF_INSTRUCTIONS i32 (i32.const 1))
  (global $STABLE_OUT_OF_BOUNDS i32 (i32.const 2))
  (global $HEAP_OUT_OF_BOUNDS i32 (i32.const 3))
  (global $TOO_BIG_FOR_32_BITS i32 (i32.const 4))
  (global $ACCESSED_LIMIT i32 (i32.const 5))
  (global $DIRTY_LIMIT i32 (i32.const 6))
  (global $CALLED i32 (i32.const 7))
  (global $NO_MEANING i32 (i32.const 8))
  (global $CONTRACT i32 (i32.const 9))
  (global $NO_MEMORY i32 (i32.const 10))
  (global $INJECTED i32 (i32.const 11))

  ;; Kinds of access: sqlstable.ic.words.
  (global $READ i64 (i64.const 0))
  (global $WRITE i64 (i64.const 1))
  (global $SIZE i64 (i64.const 2))
  (global $GROW i64 (i64.const 3))
  ;; Beside a kind in the log: not the canister's, but the driver's.
  (global $OF_DRIVER i64 (i64.const 8))

  ;; ---- What the driver sets once -------------------------------------------------------------

  ;; Costs: sqlstable.ic.prices.SystemCosts, field for field; exported as charge_ and the field,
  ;; because ic0 has calls that begin with cost_. Nothing costs anything until they are set.
  (global $cost_call (export "charge_call") (mut i64) (i64.const 0))
  (global $cost_copied_byte (export "charge_copied_byte") (mut i64) (i64.const 0))
  (global $cost_transmitted_byte (export "charge_transmitted_byte") (mut i64) (i64.const 0))
  (global $cost_logged_byte (export "charge_logged_byte") (mut i64) (i64.const 0))
  (global $cost_is_controller (export "charge_is_controller") (mut i64) (i64.const 0))
  (global $cost_performance_counter (export "charge_performance_counter") (mut i64) (i64.const 0))
  (global $cost_debug_print (export "charge_debug_print") (mut i64) (i64.const 0))
  (global $cost_trap (export "charge_trap") (mut i64) (i64.const 0))
  (global $cost_call_new (export "charge_call_new") (mut i64) (i64.const 0))
  (global $cost_call_perform (export "charge_call_perform") (mut i64) (i64.const 0))
  (global $cost_cost_http_request_v2 (export "charge_cost_http_request_v2")
    (mut i64) (i64.const 0))
  (global $cost_stable_access (export "charge_stable_access") (mut i64) (i64.const 0))
  (global $cost_stable_byte (export "charge_stable_byte") (mut i64) (i64.const 0))
  (global $cost_stable_grow (export "charge_stable_grow") (mut i64) (i64.const 0))
  (global $cost_dirty_os_page (export "charge_dirty_os_page") (mut i64) (i64.const 0))
  (global $cost_stable_region_accessed (export "charge_stable_region_accessed")
    (mut i64) (i64.const 0))
  (global $cost_stable_region_dirty (export "charge_stable_region_dirty") (mut i64) (i64.const 0))
  (global $cost_heap_region_accessed (export "charge_heap_region_accessed") (mut i64) (i64.const 0))
  (global $cost_heap_region_written (export "charge_heap_region_written") (mut i64) (i64.const 0))
  ;; What a border costs in the canister module; given back, so that borders are free.
  (global $cost_border (export "charge_border") (mut i64) (i64.const 0))
  (global $border_extra_2023 (export "border_extra_2023") (mut i64) (i64.const 0))
  (global $border_extra_flat (export "border_extra_flat") (mut i64) (i64.const 0))

  ;; How many OS pages of 4 KiB are charged as one: 1, or 4 where a computer's own have 16 KiB.
  (global $os_pages_priced (export "os_pages_priced") (mut i32) (i32.const 1))
  (global $has_borders (export "has_borders") (mut i32) (i32.const 0))
  (global $has_heap_marks (export "has_heap_marks") (mut i32) (i32.const 0))
  ;; Whether an access beyond the heap, which trapped, may have left its mark beyond the heap, too.
  (global $marks_anywhere (export "marks_anywhere") (mut i32) (i32.const 0))
  (global $stable_size_max (export "stable_size_max") (mut i64) (i64.const 8192000))  ;; 500 GiB
  (global $log_capacity i64 (i64.const 4096))  ;; of debug prints

  ;; ---- The message -------------------------------------------------------------------------

  (global $instruction_limit (export "instruction_limit") (mut i64) (i64.const 0))
  (global $accessed_max (export "accessed_max") (mut i64) (i64.const -1))
  (global $dirty_max (export "dirty_max") (mut i64) (i64.const -1))
  (global $page_charges (export "page_charges") (mut i64) (i64.const 0))
  ;; First touches that a canister was charged for, whatever they cost: OS pages written, regions.
  (global $charged_os_pages_dirty (export "charged_os_pages_dirty") (mut i64) (i64.const 0))
  (global $charged_regions_accessed (export "charged_regions_accessed") (mut i64) (i64.const 0))
  (global $charged_regions_dirty (export "charged_regions_dirty") (mut i64) (i64.const 0))
  (global $log_remaining (export "log_remaining") (mut i64) (i64.const 0))
  ;; For tests: the call on stable memory with this index in its message traps. None has -1.
  (global $trap_at (export "trap_at") (mut i64) (i64.const -1))

  (global $stable_size (export "stable_size_now") (mut i64) (i64.const 0))
  (global $stable_size_kept (export "stable_size_kept") (mut i64) (i64.const 0))
  (global $heap_size_kept (mut i32) (i32.const 0))

  (global $accessed_count (export "accessed_count") (mut i64) (i64.const 0))
  (global $dirty_count (export "dirty_count") (mut i64) (i64.const 0))
  (global $log_count (export "log_count") (mut i64) (i64.const 0))
  (global $border_count (export "border_count") (mut i64) (i64.const 0))
  (global $regions_accessed (export "stable_regions_accessed") (mut i64) (i64.const 0))
  (global $regions_dirty (export "stable_regions_dirty") (mut i64) (i64.const 0))

  ;; ---- Trapping and charging ---------------------------------------------------------------

  (func $stop (param $code i32)
    (global.set $trap_code (local.get $code))
    (unreachable))

  ;; Moves what the canister module has counted in cells into the globals of the extras.
  (func $settle (export "settle") (local $at i32)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (i32.const CELLS_BYTES)))
        (global.set $extra_2023
          (i64.add (global.get $extra_2023)
            (i64.load $heap_marks offset=CELLS_START (local.get $at))))
        (global.set $extra_flat
          (i64.add (global.get $extra_flat)
            (i64.load $heap_marks offset=CELLS_START
              (i32.add (local.get $at) (i32.const CELLS_BYTES)))))
        (i64.store $heap_marks offset=CELLS_START (local.get $at) (i64.const 0))
        (i64.store $heap_marks offset=CELLS_START
          (i32.add (local.get $at) (i32.const CELLS_BYTES)) (i64.const 0))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $next))))

  ;; Takes instructions off the counter. One that would wrap around goes to the lowest there is.
  (func $charge (param $amount i64) (local $left i64)
    (local.set $left (i64.sub (global.get $counter) (local.get $amount)))
    (if (i64.gt_s (local.get $left) (global.get $counter))
      (then (local.set $left (i64.const 0x8000000000000000))))
    (global.set $counter (local.get $left))
    (if (i64.lt_s (local.get $left) (i64.const 0))
      (then (call $stop (global.get $OUT_OF_INSTRUCTIONS)))))

  ;; What so many bytes cost; of more than any heap has, more than any message has.
  (func $cost_of (param $size i64) (param $per_byte i64) (result i64)
    (if (i64.gt_u (local.get $size) (i64.const 0xffffffffff))
      (then (local.set $size (i64.const 0xffffffffff))))
    (i64.mul (local.get $size) (local.get $per_byte)))

  ;; ---- Lists -------------------------------------------------------------------------------

  ;; How many Wasm pages a list should grow by that has $have and needs $need: it doubles.
  (func $growth (param $have i64) (param $need i64) (result i64)
    (local.set $need (i64.sub (local.get $need) (local.get $have)))
    (select (local.get $need) (local.get $have)
      (i64.gt_u (local.get $need) (local.get $have))))

  (func $grown (param $old i64)
    (if (i64.eq (local.get $old) (i64.const -1))
      (then (call $stop (global.get $NO_MEMORY)))))

  (func $push_accessed (param $os_page i64) (local $end i64)
    (local.set $end (i64.shl (global.get $accessed_count) (i64.const 3)))
    (if (i64.ge_u (local.get $end) (i64.shl (memory.size $accessed) (i64.const 16)))
      (then (call $grown (memory.grow $accessed
        (call $growth (memory.size $accessed)
          (i64.add (memory.size $accessed) (i64.const 1)))))))
    (i64.store $accessed (local.get $end) (local.get $os_page))
    (global.set $accessed_count (i64.add (global.get $accessed_count) (i64.const 1))))

  ;; Enters an OS page that is about to be written, and keeps its old bytes. Those beyond the kept
  ;; size were zero, and need no copy.
  (func $push_dirty (param $os_page i64) (local $end i64)
    (local.set $end (i64.shl (global.get $dirty_count) (i64.const 3)))
    (if (i64.ge_u (local.get $end) (i64.shl (memory.size $dirty) (i64.const 16)))
      (then (call $grown (memory.grow $dirty
        (call $growth (memory.size $dirty) (i64.add (memory.size $dirty) (i64.const 1)))))))
    (i64.store $dirty (local.get $end) (local.get $os_page))
    (if (i64.lt_u (local.get $os_page) (i64.shl (global.get $stable_size_kept) (i64.const 4)))
      (then
        (local.set $end (i64.shl (global.get $dirty_count) (i64.const 12)))
        (if (i64.ge_u (local.get $end) (i64.shl (memory.size $undo) (i64.const 16)))
          (then (call $grown (memory.grow $undo
            (call $growth (memory.size $undo)
              (i64.add (i64.shr_u (local.get $end) (i64.const 16)) (i64.const 1)))))))
        (memory.copy $undo $stable
          (local.get $end)
          (i64.shl (local.get $os_page) (i64.const 12))
          (i64.const 4096))))
    (global.set $dirty_count (i64.add (global.get $dirty_count) (i64.const 1))))

  (func $push_log (param $kind i64) (param $address i64) (param $length i64) (local $end i64)
    (if (i64.eq (global.get $log_count) (global.get $trap_at))
      (then (call $stop (global.get $INJECTED))))
    (local.set $end (i64.mul (global.get $log_count) (i64.const 24)))
    (if (i64.gt_u
          (i64.add (local.get $end) (i64.const 24))
          (i64.shl (memory.size $log) (i64.const 16)))
      (then (call $grown (memory.grow $log
        (call $growth (memory.size $log) (i64.add (memory.size $log) (i64.const 1)))))))
    (i64.store $log (local.get $end) (local.get $kind))
    (i64.store $log offset=8 (local.get $end) (local.get $address))
    (i64.store $log offset=16 (local.get $end) (local.get $length))
    (global.set $log_count (i64.add (global.get $log_count) (i64.const 1))))

  ;; Where a statement begins (mark 1) it also tells what the heap touched before: regions accessed,
  ;; and written in the upper half; OS pages written, as they are charged. Elsewhere both are 0.
  (func $push_border (param $mark i32) (local $end i64) (local $regions i64) (local $os_pages i64)
    (local.set $end (i64.mul (global.get $border_count) (i64.const 88)))
    (if (i32.and (i32.eq (local.get $mark) (i32.const 1)) (global.get $has_heap_marks))
      (then
        (call $count_heap)
        (local.set $regions
          (i64.or
            (i64.extend_i32_u (global.get $heap_regions_accessed))
            (i64.shl (i64.extend_i32_u (global.get $heap_regions_written)) (i64.const 32))))
        (local.set $os_pages (i64.extend_i32_u (global.get $heap_os_pages_priced)))))
    (if (i64.gt_u
          (i64.add (local.get $end) (i64.const 88))
          (i64.shl (memory.size $borders) (i64.const 16)))
      (then (call $grown (memory.grow $borders
        (call $growth (memory.size $borders) (i64.add (memory.size $borders) (i64.const 1)))))))
    (i64.store $borders (local.get $end) (i64.extend_i32_u (local.get $mark)))
    (i64.store $borders offset=8 (local.get $end)
      (i64.sub (global.get $instruction_limit) (global.get $counter)))
    (i64.store $borders offset=16 (local.get $end) (global.get $log_count))
    (i64.store $borders offset=24 (local.get $end) (global.get $page_charges))
    (i64.store $borders offset=32 (local.get $end) (local.get $regions))
    (i64.store $borders offset=40 (local.get $end) (local.get $os_pages))
    (call $settle)
    (i64.store $borders offset=48 (local.get $end) (global.get $extra_2023))
    (i64.store $borders offset=56 (local.get $end) (global.get $extra_flat))
    (i64.store $borders offset=64 (local.get $end) (global.get $charged_os_pages_dirty))
    (i64.store $borders offset=72 (local.get $end) (global.get $charged_regions_accessed))
    (i64.store $borders offset=80 (local.get $end) (global.get $charged_regions_dirty))
    (global.set $border_count (i64.add (global.get $border_count) (i64.const 1))))

  ;; ---- The heap, as system calls see it --------------------------------------------------------

  ;; Marks what a system call touches, inside of the heap: $array 0 for read, WRITTEN for written.
  (func $mark_heap (param $address i64) (param $size i64) (param $array i32)
    (local $at i32) (local $last i32)
    (if (i32.or (i32.eqz (global.get $has_heap_marks)) (i64.eqz (local.get $size)))
      (then (return)))
    (local.set $last
      (i32.add (local.get $array)
        (i32.wrap_i64
          (i64.shr_u
            (i64.sub (i64.add (local.get $address) (local.get $size)) (i64.const 1))
            (i64.const 12)))))
    (local.set $at
      (i32.add (local.get $array)
        (i32.wrap_i64 (i64.shr_u (local.get $address) (i64.const 12)))))
    (loop $next
      (i32.store8 $heap_marks (local.get $at) (i32.const 1))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $at) (local.get $last)))))

  (func $check_heap (param $address i64) (param $size i64) (local $end i64)
    (local.set $end (i64.shl (i64.extend_i32_u (global.get $heap_size)) (i64.const 16)))
    ;; A sum could wrap around.
    (if (i32.or
          (i64.gt_u (local.get $size) (local.get $end))
          (i64.gt_u (local.get $address) (i64.sub (local.get $end) (local.get $size))))
      (then (call $stop (global.get $HEAP_OUT_OF_BOUNDS)))))

  ;; ---- Stable memory -----------------------------------------------------------------------

  ;; Whether the Wasm page of an OS page has no bit of $bits in the bytemap yet.
  (func $is_new_region (param $os_page i64) (param $bits i64) (result i32)
    (local.set $os_page (i64.and (local.get $os_page) (i64.const -16)))
    (i64.eqz
      (i64.and
        (i64.or
          (i64.load $bytemap (local.get $os_page))
          (i64.load $bytemap offset=8 (local.get $os_page)))
        (i64.mul (local.get $bits) (i64.const 0x0101010101010101)))))

  ;; Whether an OS page that becomes dirty is charged: not where another one of its group was.
  (func $is_priced (param $os_page i64) (result i32)
    (if (i32.eq (global.get $os_pages_priced) (i32.const 1)) (then (return (i32.const 1))))
    (i32.eqz
      (i32.and
        (i32.load $bytemap (i64.and (local.get $os_page) (i64.const -4)))
        (i32.const 0x01010101))))

  ;; Marks one OS page with $bits (2 read, 3 written) that has not all of them; returns what a
  ;; canister is charged for by that, in fields of 21 bits: a region accessed, a region dirty, and an
  ;; OS page dirty. No access of a canister has more of them than a heap has OS pages.
  (func $mark (param $os_page i64) (param $mark i32) (param $bits i32) (result i64)
    (local $units i64)
    (if (i32.eqz (local.get $mark))
      (then
        (call $push_accessed (local.get $os_page))
        (if (call $is_new_region (local.get $os_page) (i64.const 2))
          (then
            (global.set $regions_accessed (i64.add (global.get $regions_accessed) (i64.const 1)))
            (local.set $units (i64.const 1))))))
    (if (i32.eq (local.get $bits) (i32.const 3))
      (then
        (call $push_dirty (local.get $os_page))
        (if (call $is_priced (local.get $os_page))
          (then (local.set $units (i64.add (local.get $units) (i64.const 0x40000000000)))))
        (if (call $is_new_region (local.get $os_page) (i64.const 1))
          (then
            (global.set $regions_dirty (i64.add (global.get $regions_dirty) (i64.const 1)))
            (local.set $units (i64.add (local.get $units) (i64.const 0x200000)))))))
    (i32.store8 $bytemap (local.get $os_page) (i32.or (local.get $mark) (local.get $bits)))
    (local.get $units))

  ;; Accesses the OS pages $os_page to $last: the whole access is checked before any is marked.
  ;; Returns what a canister pays for, as $mark does.
  (func $touch (param $os_page i64) (param $last i64) (param $bits i32) (result i64)
    (local $at i64) (local $mark i32) (local $fresh i64) (local $clean i64) (local $units i64)
    (local.set $at (local.get $os_page))
    (loop $next
      (local.set $mark (i32.load8_u $bytemap (local.get $at)))
      (local.set $fresh
        (i64.add (local.get $fresh) (i64.extend_i32_u (i32.eqz (local.get $mark)))))
      (local.set $clean
        (i64.add (local.get $clean)
          (i64.extend_i32_u (i32.eqz (i32.and (local.get $mark) (i32.const 1))))))
      (local.set $at (i64.add (local.get $at) (i64.const 1)))
      (br_if $next (i64.le_u (local.get $at) (local.get $last))))
    (if (i32.eq (local.get $bits) (i32.const 2)) (then (local.set $clean (i64.const 0))))
    (if (i64.eqz (i64.or (local.get $fresh) (local.get $clean)))
      (then (return (i64.const 0))))
    ;; Counts never pass their limits, so that the differences are not negative.
    (if (i64.gt_u (local.get $fresh)
          (i64.sub (global.get $accessed_max) (global.get $accessed_count)))
      (then (call $stop (global.get $ACCESSED_LIMIT))))
    (if (i64.gt_u (local.get $clean)
          (i64.sub (global.get $dirty_max) (global.get $dirty_count)))
      (then (call $stop (global.get $DIRTY_LIMIT))))
    (local.set $at (local.get $os_page))
    (loop $next
      (local.set $mark (i32.load8_u $bytemap (local.get $at)))
      (if (i32.ne (i32.and (local.get $mark) (local.get $bits)) (local.get $bits))
        (then (local.set $units
          (i64.add (local.get $units)
            (call $mark (local.get $at) (local.get $mark) (local.get $bits))))))
      (local.set $at (i64.add (local.get $at) (i64.const 1)))
      (br_if $next (i64.le_u (local.get $at) (local.get $last))))
    (local.get $units))

  ;; Charges for what $touch has returned.
  (func $charge_pages (param $units i64)
    (local $accessed i64) (local $dirty i64) (local $os_pages i64) (local $cost i64)
    (local.set $accessed (i64.and (local.get $units) (i64.const 0x1fffff)))
    (local.set $dirty
      (i64.and (i64.shr_u (local.get $units) (i64.const 21)) (i64.const 0x1fffff)))
    (local.set $os_pages (i64.shr_u (local.get $units) (i64.const 42)))
    (global.set $charged_regions_accessed
      (i64.add (global.get $charged_regions_accessed) (local.get $accessed)))
    (global.set $charged_regions_dirty
      (i64.add (global.get $charged_regions_dirty) (local.get $dirty)))
    (global.set $charged_os_pages_dirty
      (i64.add (global.get $charged_os_pages_dirty) (local.get $os_pages)))
    (local.set $cost
      (i64.add
        (i64.add
          (i64.mul (local.get $accessed) (global.get $cost_stable_region_accessed))
          (i64.mul (local.get $dirty) (global.get $cost_stable_region_dirty)))
        (i64.mul (local.get $os_pages) (global.get $cost_dirty_os_page))))
    (global.set $page_charges (i64.add (global.get $page_charges) (local.get $cost)))
    (call $charge (local.get $cost)))

  ;; Checks and marks an access of one byte or more.
  (func $access
    (param $offset i64) (param $address i64) (param $size i64) (param $bits i32)
    (local $end i64)
    (local.set $end (i64.add (local.get $offset) (local.get $size)))
    (if (i32.or
          (i64.lt_u (local.get $end) (local.get $offset))
          (i64.gt_u (local.get $end) (i64.shl (global.get $stable_size) (i64.const 16))))
      (then (call $stop (global.get $STABLE_OUT_OF_BOUNDS))))
    ;; No heap has more than so many Wasm pages; how large this one is comes last.
    (if (i32.or
          (i64.gt_u
            (local.get $address) (i64.shl (i64.const HEAP_WASM_PAGES_MAX) (i64.const 16)))
          (i64.gt_u
            (local.get $size) (i64.shl (i64.const HEAP_WASM_PAGES_MAX) (i64.const 16))))
      (then (call $stop (global.get $HEAP_OUT_OF_BOUNDS))))
    (call $charge_pages
      (call $touch
        (i64.shr_u (local.get $offset) (i64.const 12))
        (i64.shr_u (i64.sub (local.get $end) (i64.const 1)) (i64.const 12))
        (local.get $bits)))
    (call $check_heap (local.get $address) (local.get $size)))

  (func $charge_access (param $size i64)
    (call $charge
      (i64.add
        (global.get $cost_stable_access)
        (i64.mul (local.get $size) (global.get $cost_stable_byte)))))

  (func $read (param $address i64) (param $offset i64) (param $size i64)
    (if (i64.eqz (local.get $size))
      (then
        (call $push_log (global.get $READ) (local.get $offset) (i64.const 0))
        (return)))
    (call $access
      (local.get $offset) (local.get $address) (local.get $size) (i32.const 2))
    (call $push_log (global.get $READ) (local.get $offset) (local.get $size))
    (call $mark_heap (local.get $address) (local.get $size) (i32.const WRITTEN))
    (memory.copy $heap $stable
      (ptr.of_i64 (local.get $address)) (local.get $offset) (ptr.of_i64 (local.get $size))))

  (func $write (param $offset i64) (param $address i64) (param $size i64)
    (if (i64.eqz (local.get $size))
      (then
        (call $push_log (global.get $WRITE) (local.get $offset) (i64.const 0))
        (return)))
    (call $access
      (local.get $offset) (local.get $address) (local.get $size) (i32.const 3))
    (call $push_log (global.get $WRITE) (local.get $offset) (local.get $size))
    (call $mark_heap (local.get $address) (local.get $size) (i32.const 0))
    (memory.copy $stable $heap
      (local.get $offset) (ptr.of_i64 (local.get $address)) (ptr.of_i64 (local.get $size))))

  ;; Adds zeroed Wasm pages; returns the old size, or -1 where the result would pass $max.
  (func $grow (param $pages i64) (param $max i64) (param $kind i64) (result i64)
    (local $new i64) (local $need i64)
    (call $push_log (local.get $kind) (i64.const 0) (local.get $pages))
    (local.set $new (i64.add (global.get $stable_size) (local.get $pages)))
    (if (i64.lt_u (local.get $new) (local.get $pages)) (then (return (i64.const -1))))
    (if (i64.gt_u (local.get $new) (local.get $max)) (then (return (i64.const -1))))
    (if (i64.gt_u (local.get $new) (global.get $stable_size_max))
      (then (return (i64.const -1))))
    ;; After a rollback the memory may be larger than its size; it is zero there.
    (if (i64.gt_u (local.get $new) (memory.size $stable))
      (then
        (if (i64.eq (i64.const -1)
              (memory.grow $stable (i64.sub (local.get $new) (memory.size $stable))))
          (then (return (i64.const -1))))))
    ;; 16 bytes of bytemap for each Wasm page.
    (local.set $need
      (i64.shr_u (i64.add (i64.shl (local.get $new) (i64.const 4)) (i64.const 0xffff))
        (i64.const 16)))
    (if (i64.gt_u (local.get $need) (memory.size $bytemap))
      (then
        (if (i64.eq (i64.const -1)
              (memory.grow $bytemap (i64.sub (local.get $need) (memory.size $bytemap))))
          (then (return (i64.const -1))))))
    (global.set $stable_size (local.get $new))
    (i64.sub (local.get $new) (local.get $pages)))

  (func $check_32_bits
    (if (i64.gt_u (global.get $stable_size) (i64.const 65536))
      (then (call $stop (global.get $TOO_BIG_FOR_32_BITS)))))

  (func (export "stable64_size") (result i64)
    (call $push_log (global.get $SIZE) (i64.const 0) (i64.const 0))
    (global.get $stable_size))

  (func (export "stable64_grow") (param $pages i64) (result i64)
    (call $charge (global.get $cost_stable_grow))
    (call $grow (local.get $pages) (i64.const -1) (global.get $GROW)))

  (func (export "stable64_read") (param $dst i64) (param $offset i64) (param $size i64)
    (call $charge_access (local.get $size))
    (call $read (local.get $dst) (local.get $offset) (local.get $size)))

  (func (export "stable64_write") (param $offset i64) (param $src i64) (param $size i64)
    (call $charge_access (local.get $size))
    (call $write (local.get $offset) (local.get $src) (local.get $size)))

  (func (export "stable_size") (result i32)
    (call $check_32_bits)
    (call $push_log (global.get $SIZE) (i64.const 0) (i64.const 0))
    (i32.wrap_i64 (global.get $stable_size)))

  (func (export "stable_grow") (param $pages i32) (result i32)
    (call $charge (global.get $cost_stable_grow))
    (call $check_32_bits)
    (i32.wrap_i64 
      (call $grow
        (i64.extend_i32_u (local.get $pages)) (i64.const 65536) (global.get $GROW))))

  (func (export "stable_read") (param $dst i32) (param $offset i32) (param $size i32)
    (call $charge_access (i64.extend_i32_u (local.get $size)))
    (if (local.get $size) (then (call $check_32_bits)))
    (call $read
      (i64.extend_i32_u (local.get $dst))
      (i64.extend_i32_u (local.get $offset))
      (i64.extend_i32_u (local.get $size))))

  ;; Unlike its siblings it tests size and bounds for a length of 0, too.
  (func (export "stable_write") (param $offset i32) (param $src i32) (param $size i32)
    (call $charge_access (i64.extend_i32_u (local.get $size)))
    (call $check_32_bits)
    (if (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $offset)) (i64.extend_i32_u (local.get $size)))
          (i64.shl (global.get $stable_size) (i64.const 16)))
      (then (call $stop (global.get $STABLE_OUT_OF_BOUNDS))))
    (call $write
      (i64.extend_i32_u (local.get $offset))
      (i64.extend_i32_u (local.get $src))
      (i64.extend_i32_u (local.get $size))))

  ;; ---- For the driver: messages ----------------------------------------------------------------

  (func (export "begin_message")
    (param $instructions i64) (param $accessed i64) (param $dirty i64)
    ;; At most 2^62 instructions: borders give some back, which must not wrap around.
    (global.set $instruction_limit (local.get $instructions))
    (out.set counter_from (local.get $instructions))
    (global.set $counter (local.get $instructions))
    (call $settle)
    (global.set $extra_2023 (i64.const 0))
    (global.set $extra_flat (i64.const 0))
    (global.set $accessed_max (local.get $accessed))
    (global.set $dirty_max (local.get $dirty))
    (global.set $log_remaining (global.get $log_capacity))
    (global.set $trap_code (i32.const 0)))

  ;; Keeps what the message did. $heap: 0 leaves the kept heap as it is, 1 brings it up to date by
  ;; the marks, 2 copies all of it.
  (func (export "commit") (param $heap i32)
    (global.set $stable_size_kept (global.get $stable_size))
    (if (local.get $heap) (then (call $keep_heap (local.get $heap))))
    (call $end_message))

  ;; Takes back what the message did. $heap: 0 leaves the heap as it is, 1 restores it by the marks,
  ;; 2 copies all of it.
  (func (export "rollback") (param $heap i32) (local $index i64) (local $os_page i64)
    (local.set $index (global.get $dirty_count))
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $index)))
        (local.set $index (i64.sub (local.get $index) (i64.const 1)))
        (local.set $os_page (i64.load $dirty (i64.shl (local.get $index) (i64.const 3))))
        (if (i64.lt_u (local.get $os_page) (i64.shl (global.get $stable_size_kept) (i64.const 4)))
          (then
            (memory.copy $stable $undo
              (i64.shl (local.get $os_page) (i64.const 12))
              (i64.shl (local.get $index) (i64.const 12))
              (i64.const 4096)))
          (else
            (memory.fill $stable
              (i64.shl (local.get $os_page) (i64.const 12)) (i32.const 0) (i64.const 4096))))
        (br $next)))
    (global.set $stable_size (global.get $stable_size_kept))
    (if (local.get $heap) (then (call $restore_heap (local.get $heap))))
    (call $end_message))

  (func $end_message (local $at i64)
    (local.set $at (i64.shl (global.get $accessed_count) (i64.const 3)))
    (block $done
      (loop $next
        (br_if $done (i64.eqz (local.get $at)))
        (local.set $at (i64.sub (local.get $at) (i64.const 8)))
        (i32.store8 $bytemap (i64.load $accessed (local.get $at)) (i32.const 0))
        (br $next)))
    (global.set $accessed_count (i64.const 0))
    (global.set $dirty_count (i64.const 0))
    (global.set $log_count (i64.const 0))
    (global.set $border_count (i64.const 0))
    (global.set $regions_accessed (i64.const 0))
    (global.set $regions_dirty (i64.const 0))
    (global.set $page_charges (i64.const 0))
    (global.set $charged_os_pages_dirty (i64.const 0))
    (global.set $charged_regions_accessed (i64.const 0))
    (global.set $charged_regions_dirty (i64.const 0))
    (global.set $debug_size (i64.const 0))
    (call $clear_marks))

  ;; An access that does not move bytes: checked, marked and logged. Returns what a canister pays
  ;; for, as $touch does. $bits: 2 read, 3 written; $flags go into the kind in the log.
  (func $outside_access
    (param $offset i64) (param $size i64) (param $bits i32) (param $flags i64) (result i64)
    (local $end i64) (local $units i64)
    (local.set $end (i64.add (local.get $offset) (local.get $size)))
    (if (i64.ne (local.get $size) (i64.const 0))
      (then
        (if (i32.or
              (i64.lt_u (local.get $end) (local.get $offset))
              (i64.gt_u (local.get $end) (i64.shl (global.get $stable_size) (i64.const 16))))
          (then (call $stop (global.get $STABLE_OUT_OF_BOUNDS))))
        (local.set $units
          (call $touch
            (i64.shr_u (local.get $offset) (i64.const 12))
            (i64.shr_u (i64.sub (local.get $end) (i64.const 1)) (i64.const 12))
            (local.get $bits)))))
    (call $push_log
      (i64.or
        (local.get $flags)
        (select (global.get $WRITE) (global.get $READ) (i32.eq (local.get $bits) (i32.const 3))))
      (local.get $offset)
      (local.get $size))
    (local.get $units))

  ;; What the driver itself does to stable memory in a message, as when a database is imported: as
  ;; an access of the canister, but free. The driver moves the bytes.
  (func (export "host_access") (param $offset i64) (param $size i64) (param $bits i32)
    (drop (call $outside_access
      (local.get $offset) (local.get $size) (local.get $bits) (global.get $OF_DRIVER))))

  ;; Likewise for a growth; returns the old size, or -1.
  (func (export "host_grow") (param $pages i64) (param $max i64) (result i64)
    (call $grow
      (local.get $pages) (local.get $max) (i64.or (global.get $GROW) (global.get $OF_DRIVER))))

  ;; An access of the canister's, entered once more; its OS pages are charged, its call is not.
  (func (export "enter_access") (param $offset i64) (param $size i64) (param $bits i32)
    (call $charge_pages (call $outside_access
      (local.get $offset) (local.get $size) (local.get $bits) (i64.const 0))))

  ;; Writes the numbers of the message so far where the driver finds them with one look.
  (func (export "tell")
    (if (global.get $has_heap_marks) (then (call $count_heap)))
    (i64.store $status offset=0 (i32.const 0) (global.get $counter))
    (i64.store $status offset=8 (i32.const 0) (i64.extend_i32_u (global.get $trap_code)))
    (i64.store $status offset=16 (i32.const 0) (i64.extend_i32_u (global.get $answer)))
    (i64.store $status offset=24 (i32.const 0) (global.get $reply_size))
    (i64.store $status offset=32 (i32.const 0) (global.get $text_size))
    (i64.store $status offset=40 (i32.const 0) (global.get $debug_size))
    (i64.store $status offset=48 (i32.const 0) (global.get $accessed_count))
    (i64.store $status offset=56 (i32.const 0) (global.get $dirty_count))
    (i64.store $status offset=64 (i32.const 0) (global.get $log_count))
    (i64.store $status offset=72 (i32.const 0) (global.get $border_count))
    (i64.store $status offset=80 (i32.const 0) (global.get $page_charges))
    (i64.store $status offset=88 (i32.const 0) (global.get $stable_size))
    (i64.store $status offset=96 (i32.const 0) (i64.extend_i32_u (global.get $heap_size)))
    (i64.store $status offset=104 (i32.const 0)
      (i64.extend_i32_u (global.get $heap_os_pages_accessed)))
    (i64.store $status offset=112 (i32.const 0)
      (i64.extend_i32_u (global.get $heap_os_pages_written)))
    (i64.store $status offset=120 (i32.const 0)
      (i64.extend_i32_u (global.get $heap_regions_accessed)))
    (i64.store $status offset=128 (i32.const 0)
      (i64.extend_i32_u (global.get $heap_regions_written)))
    (i64.store $status offset=136 (i32.const 0)
      (i64.extend_i32_u (global.get $heap_os_pages_priced)))
    (call $settle)
    (i64.store $status offset=144 (i32.const 0) (global.get $extra_2023))
    (i64.store $status offset=152 (i32.const 0) (global.get $extra_flat))
    (i64.store $status offset=160 (i32.const 0) (global.get $charged_os_pages_dirty))
    (i64.store $status offset=168 (i32.const 0) (global.get $charged_regions_accessed))
    (i64.store $status offset=176 (i32.const 0) (global.get $charged_regions_dirty)))

  ;; Sets the size of stable memory between messages, as for an image that is loaded, or 0; the
  ;; driver has to write its bytes. Returns whether there was room.
  (func (export "set_stable_size") (param $pages i64) (result i32)
    (global.set $stable_size (i64.const 0))
    (if (i64.eq (call $grow (local.get $pages) (i64.const -1) (global.get $GROW)) (i64.const -1))
      (then
        (global.set $log_count (i64.const 0))
        (global.set $stable_size (global.get $stable_size_kept))
        (return (i32.const 0))))
    (global.set $log_count (i64.const 0))
    (global.set $stable_size_kept (local.get $pages))
    (i32.const 1))

  ;; ---- For the driver: the heap ----------------------------------------------------------------

  (global $heap_os_pages_accessed (export "heap_os_pages_accessed") (mut i32) (i32.const 0))
  (global $heap_os_pages_written (export "heap_os_pages_written") (mut i32) (i32.const 0))
  (global $heap_regions_accessed (export "heap_regions_accessed") (mut i32) (i32.const 0))
  (global $heap_regions_written (export "heap_regions_written") (mut i32) (i32.const 0))

  ;; Those written, each group of $os_pages_priced as one.
  (global $heap_os_pages_priced (export "heap_os_pages_priced") (mut i32) (i32.const 0))

  ;; Counts the marks into the five globals above.
  (func $count_heap (export "count_heap")
    (local $at i32) (local $end i32) (local $read i64) (local $read_2 i64)
    (local $written i64) (local $written_2 i64)
    (global.set $heap_os_pages_accessed (i32.const 0))
    (global.set $heap_os_pages_written (i32.const 0))
    (global.set $heap_regions_accessed (i32.const 0))
    (global.set $heap_regions_written (i32.const 0))
    (global.set $heap_os_pages_priced (i32.const 0))
    (local.set $end (i32.shl (i32.of_ptr (memory.size $heap)) (i32.const 4)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        ;; 16 OS pages of one Wasm page, eight in each word; accessed is read or written.
        (local.set $written (i64.load $heap_marks offset=WRITTEN (local.get $at)))
        (local.set $written_2 (i64.load $heap_marks offset=WRITTEN (i32.add (local.get $at) (i32.const 8))))
        (local.set $read
          (i64.or (local.get $written) (i64.load $heap_marks (local.get $at))))
        (local.set $read_2
          (i64.or (local.get $written_2) (i64.load $heap_marks offset=8 (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $next (i64.eqz (i64.or (local.get $read) (local.get $read_2))))
        (global.set $heap_os_pages_accessed
          (i32.add (global.get $heap_os_pages_accessed)
            (i32.wrap_i64
              (i64.add (i64.popcnt (local.get $read)) (i64.popcnt (local.get $read_2))))))
        (global.set $heap_regions_accessed
          (i32.add (global.get $heap_regions_accessed) (i32.const 1)))
        (global.set $heap_os_pages_written
          (i32.add (global.get $heap_os_pages_written)
            (i32.wrap_i64
              (i64.add (i64.popcnt (local.get $written)) (i64.popcnt (local.get $written_2))))))
        (global.set $heap_regions_written
          (i32.add (global.get $heap_regions_written)
            (i64.ne (i64.or (local.get $written) (local.get $written_2)) (i64.const 0))))
        (if (i32.ne (global.get $os_pages_priced) (i32.const 1))
          (then
            (global.set $heap_os_pages_priced
              (i32.add (global.get $heap_os_pages_priced)
                (i32.add
                  (call $groups (local.get $written)) (call $groups (local.get $written_2)))))))
        (br $next)))
    (if (i32.eq (global.get $os_pages_priced) (i32.const 1))
      (then (global.set $heap_os_pages_priced (global.get $heap_os_pages_written)))))

  ;; How many of the two groups of four OS pages in a word of marks have any.
  (func $groups (param $marks i64) (result i32)
    (local.set $marks
      (i64.or (local.get $marks) (i64.shr_u (local.get $marks) (i64.const 8))))
    (local.set $marks
      (i64.or (local.get $marks) (i64.shr_u (local.get $marks) (i64.const 16))))
    (i32.wrap_i64
      (i64.popcnt (i64.and (local.get $marks) (i64.const 0x0000000100000001)))))

  ;; What the heap touched so far costs; it is never on the counter.
  (func $heap_charge (export "heap_charge") (result i64)
    (if (i32.eqz (global.get $has_heap_marks)) (then (return (i64.const 0))))
    (if (i64.eqz
          (i64.or (global.get $cost_heap_region_accessed) (global.get $cost_heap_region_written)))
      (then (return (i64.const 0))))
    (call $count_heap)
    (i64.add
      (i64.mul
        (i64.extend_i32_u (global.get $heap_regions_accessed))
        (global.get $cost_heap_region_accessed))
      (i64.mul
        (i64.extend_i32_u (global.get $heap_regions_written))
        (global.get $cost_heap_region_written))))

  (func $clear_marks
    (if (global.get $marks_anywhere)
      (then
        (call $settle)
        (memory.fill $heap_marks
          (i32.const 0) (i32.const 0) (i32.shl (memory.size $heap_marks) (i32.const 16)))
        (global.set $marks_anywhere (i32.const 0))
        (return)))
    (if (global.get $has_heap_marks)
      (then
        (memory.fill $heap_marks
          (i32.const 0)
          (i32.const 0)
          (i32.shl (i32.of_ptr (memory.size $heap)) (i32.const 4)))
        (memory.fill $heap_marks
          (i32.const WRITTEN)
          (i32.const 0)
          (i32.shl (i32.of_ptr (memory.size $heap)) (i32.const 4))))))

  ;; Makes room for keeping the heap, which cannot fail then.
  (func $reserve_kept (export "reserve_kept") (local $size ptr)
    (local.set $size (ptr.of_i32 (global.get $heap_size)))
    (if (ptr.gt_u (local.get $size) (memory.size $heap_kept))
      (then
        (if (ptr.eq (ptr.const -1)
              (memory.grow $heap_kept (ptr.sub (local.get $size) (memory.size $heap_kept))))
          (then (call $stop (global.get $NO_MEMORY)))))))

  ;; Whole Wasm pages of the heap, from $page to before $end, become zero, kept ones, or are kept;
  ;; 2 GiB at a time, because 4 GiB are no 32-bit length.
  (func $step (param $page i32) (param $end i32) (result i32)
    (local.set $end (i32.sub (local.get $end) (local.get $page)))
    (select (local.get $end) (i32.const 0x8000)
      (i32.lt_u (local.get $end) (i32.const 0x8000))))

  (func $bytes (param $wasm_pages i32) (result ptr)
    (ptr.shl (ptr.of_i32 (local.get $wasm_pages)) (ptr.const 16)))

  (func $clear_heap (param $page i32) (param $end i32) (local $step i32)
    (loop $next
      (if (i32.ge_u (local.get $page) (local.get $end)) (then (return)))
      (local.set $step (call $step (local.get $page) (local.get $end)))
      (memory.fill $heap
        (call $bytes (local.get $page)) (i32.const 0) (call $bytes (local.get $step)))
      (local.set $page (i32.add (local.get $page) (local.get $step)))
      (br $next)))

  (func $clear_kept (param $page i32) (param $end i32) (local $step i32)
    (loop $next
      (if (i32.ge_u (local.get $page) (local.get $end)) (then (return)))
      (local.set $step (call $step (local.get $page) (local.get $end)))
      (memory.fill $heap_kept
        (call $bytes (local.get $page)) (i32.const 0) (call $bytes (local.get $step)))
      (local.set $page (i32.add (local.get $page) (local.get $step)))
      (br $next)))

  (func $copy_to_kept (param $page i32) (param $end i32) (local $step i32)
    (loop $next
      (if (i32.ge_u (local.get $page) (local.get $end)) (then (return)))
      (local.set $step (call $step (local.get $page) (local.get $end)))
      (memory.copy $heap_kept $heap
        (call $bytes (local.get $page))
        (call $bytes (local.get $page))
        (call $bytes (local.get $step)))
      (local.set $page (i32.add (local.get $page) (local.get $step)))
      (br $next)))

  (func $copy_from_kept (param $page i32) (param $end i32) (local $step i32)
    (loop $next
      (if (i32.ge_u (local.get $page) (local.get $end)) (then (return)))
      (local.set $step (call $step (local.get $page) (local.get $end)))
      (memory.copy $heap $heap_kept
        (call $bytes (local.get $page))
        (call $bytes (local.get $page))
        (call $bytes (local.get $step)))
      (local.set $page (i32.add (local.get $page) (local.get $step)))
      (br $next)))

  ;; The kept heap becomes equal to the heap.
  (func $keep_heap (export "keep_heap") (param $how i32) (local $at i32) (local $address ptr)
    (call $reserve_kept)
    (global.set $heap_size_kept (global.get $heap_size))
    (if (i32.eq (local.get $how) (i32.const 2))
      (then
        (call $copy_to_kept (i32.const 0) (global.get $heap_size))
        ;; What lies behind must be zero, as a grown heap is.
        (call $clear_kept (global.get $heap_size) (i32.of_ptr (memory.size $heap_kept)))
        (return)))
    (local.set $at (i32.const -1))
    (block $done
      (loop $next
        (local.set $at (call $next_written (i32.add (local.get $at) (i32.const 1))))
        (br_if $done (i32.lt_s (local.get $at) (i32.const 0)))
        (local.set $address (ptr.shl (ptr.of_i32 (local.get $at)) (ptr.const 12)))
        (memory.copy $heap_kept $heap
          (local.get $address) (local.get $address) (ptr.const 4096))
        (br $next))))

  ;; The heap becomes equal to the kept one; what has grown since is zero again.
  (func $restore_heap (param $how i32) (local $at i32) (local $address ptr)
    (global.set $heap_size (global.get $heap_size_kept))
    (if (i32.eq (local.get $how) (i32.const 2))
      (then
        (call $copy_from_kept (i32.const 0) (global.get $heap_size_kept))
        (call $clear_heap (global.get $heap_size_kept) (i32.of_ptr (memory.size $heap)))
        (return)))
    (local.set $at (i32.const -1))
    (block $done
      (loop $next
        (local.set $at (call $next_written (i32.add (local.get $at) (i32.const 1))))
        (br_if $done (i32.lt_s (local.get $at) (i32.const 0)))
        (local.set $address (ptr.shl (ptr.of_i32 (local.get $at)) (ptr.const 12)))
        (if (i32.lt_u (local.get $at) (i32.shl (global.get $heap_size_kept) (i32.const 4)))
          (then
            (memory.copy $heap $heap_kept
              (local.get $address) (local.get $address) (ptr.const 4096)))
          (else
            (memory.fill $heap (local.get $address) (i32.const 0) (ptr.const 4096))))
        (br $next))))

  ;; The first OS page from $at on that is marked as written, or -1.
  (func $next_written (param $at i32) (result i32) (local $end i32) (local $word i64)
    (local.set $end (i32.shl (i32.of_ptr (memory.size $heap)) (i32.const 4)))
    (loop $next
      (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (i32.const -1))))
      ;; Eight marks at once, without those before $at.
      (local.set $word
        (i64.shr_u
          (i64.load $heap_marks offset=WRITTEN (i32.and (local.get $at) (i32.const -8)))
          (i64.extend_i32_u (i32.shl (i32.and (local.get $at) (i32.const 7)) (i32.const 3)))))
      (if (i64.eqz (local.get $word))
        (then
          (local.set $at
            (i32.add (i32.and (local.get $at) (i32.const -8)) (i32.const 8)))
          (br $next))))
    (i32.add
      (local.get $at)
      (i32.wrap_i64 (i64.shr_u (i64.ctz (local.get $word)) (i64.const 3)))))

  ;; Makes the heap new, for an upgrade: $pages Wasm pages of zeros. The driver instantiates the
  ;; module then, calls its start, and keeps the heap whole. Returns whether there was room.
  (func (export "reset_heap") (param $pages i32) (result i32) (local $size ptr)
    (call $clear_heap (i32.const 0) (global.get $heap_size))
    (call $clear_marks)
    (local.set $size (ptr.of_i32 (local.get $pages)))
    (if (ptr.gt_u (local.get $size) (memory.size $heap))
      (then
        (if (ptr.eq (ptr.const -1)
              (memory.grow $heap (ptr.sub (local.get $size) (memory.size $heap))))
          (then (return (i32.const 0))))))
    (global.set $heap_size (local.get $pages))
    (i32.const 1))
