;; Stable memory, and the system calls of a canister, as one WebAssembly module: the shim.
;;
;; It stands between a rewritten canister module and the driver. The canister imports its functions
;; as "ic0", its memories and globals as "sqlstable". The driver calls the functions of the section
;; "For the driver", and reads lists and buffers where they lie. Nothing here calls Python.
;;
;; The order of checks in each call on stable memory is the replica's, and so are what it charges
;; and when: sqlstable/memory/api.py has the rules and their sources, and a test compares the two.
;;
;; Memories
;;   heap         of the canister, made by the driver
;;   stable       stable memory, made by the driver: it outlives this instance
;;   heap_marks   1 for each OS page of the heap read; 1 MiB further on, written
;;   heap_kept    the heap as the last message left it, to go back to
;;   bytemap      a byte for each stable OS page: bit 0 written, bit 1 accessed in this message
;;   accessed     list of i64: stable OS pages accessed, in the order of their first access
;;   dirty        list of i64: those written, in the order of their first write
;;   undo         old bytes of the OS page at the same place in dirty
;;   log          list of (kind, address, length), three i64 each: every call on stable memory
;;   borders      list of (mark, instructions, log length, charges for pages, heap regions, heap OS
;;                pages), six i64 each
;;   argument     bytes that a call takes
;;   reply        bytes that it answers
;;   debug        what the message printed
;;   text         what a trap says
;;   principals   who is who, and constant texts
;;   status       what `tell` writes for the driver: one i64 for each number
;;
;; A message begins with begin_message, runs one or more calls, each after begin_call, and ends with
;; commit or rollback. What a message did can be read until it ends.

(module
  (import "sqlstable" "heap" (memory $heap 0))
  (import "sqlstable" "stable" (memory $stable i64 0))

  (memory $heap_marks (export "heap_marks") 32 32)
  (memory $heap_kept (export "heap_kept") 0 65536)
  (memory $bytemap (export "bytemap") i64 0)
  (memory $accessed (export "accessed") i64 0)
  (memory $dirty (export "dirty") i64 0)
  (memory $undo (export "undo") i64 0)
  (memory $log (export "log") i64 0)
  (memory $borders (export "borders") i64 0)
  (memory $argument (export "argument") 0 65536)
  (memory $reply (export "reply") 0 65536)
  (memory $debug (export "debug") 0 65536)
  (memory $text (export "text") 0 65536)
  (memory $principals (export "principals") 1 1)
  (memory $status (export "status") 1 1)

  ;; ---- What the canister module shares -------------------------------------------------------

  (global $counter (export "counter") (mut i64) (i64.const 0))      ;; instructions left
  (global $heap_size (export "heap_size") (mut i32) (i32.const 0))  ;; Wasm pages, logical
  (global $trap_code (export "trap_code") (mut i32) (i32.const 0))

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

  (global $has_heap_marks (export "has_heap_marks") (mut i32) (i32.const 0))
  (global $stable_size_max (export "stable_size_max") (mut i64) (i64.const 8192000))  ;; 500 GiB
  (global $log_capacity (export "log_capacity") (mut i32) (i32.const 4096))  ;; of debug prints

  ;; What the canister may ask for.
  (global $time_ns (export "time_ns") (mut i64) (i64.const 0))
  (global $version (export "version") (mut i64) (i64.const 1))
  (global $is_replicated (export "is_replicated") (mut i32) (i32.const 1))
  (global $cycle_balance (export "cycle_balance") (mut i64) (i64.const 0))
  (global $timer_ns (export "timer_ns") (mut i64) (i64.const 0))
  ;; Principals: the caller's bytes from 0 on, the canister's own from 64, its controller's from
  ;; 128, its subnet's from 192; certified data from 256; texts from 1024, see $name_call.
  (global $caller_size (export "caller_size") (mut i32) (i32.const 1))
  (global $self_size (export "self_size") (mut i32) (i32.const 1))
  (global $controller_size (export "controller_size") (mut i32) (i32.const 0))
  (global $subnet_size (export "subnet_size") (mut i32) (i32.const 1))
  (global $certified_size (export "certified_size") (mut i32) (i32.const 0))
  ;; Both the anonymous caller and the canister's own name are one byte until they are set.
  (data (memory $principals) (i32.const 0) "\04")

  ;; ---- The message -------------------------------------------------------------------------

  (global $instruction_limit (export "instruction_limit") (mut i64) (i64.const 0))
  (global $accessed_max (export "accessed_max") (mut i64) (i64.const -1))
  (global $dirty_max (export "dirty_max") (mut i64) (i64.const -1))
  (global $page_charges (export "page_charges") (mut i64) (i64.const 0))
  (global $log_remaining (mut i32) (i32.const 0))
  ;; For tests: the call on stable memory with this index in its message traps. None has -1.
  (global $trap_at (export "trap_at") (mut i64) (i64.const -1))

  (global $stable_size (export "stable_size_now") (mut i64) (i64.const 0))
  (global $stable_size_kept (export "stable_size_kept") (mut i64) (i64.const 0))
  (global $heap_size_kept (export "heap_size_kept") (mut i32) (i32.const 0))

  (global $accessed_count (export "accessed_count") (mut i64) (i64.const 0))
  (global $dirty_count (export "dirty_count") (mut i64) (i64.const 0))
  (global $log_count (export "log_count") (mut i64) (i64.const 0))
  (global $border_count (export "border_count") (mut i64) (i64.const 0))
  (global $regions_accessed (export "stable_regions_accessed") (mut i64) (i64.const 0))
  (global $regions_dirty (export "stable_regions_dirty") (mut i64) (i64.const 0))

  ;; Of the call.
  (global $argument_size (export "argument_size") (mut i32) (i32.const 0))
  (global $reply_size (export "reply_size") (mut i32) (i32.const 0))
  (global $debug_size (export "debug_size") (mut i32) (i32.const 0))
  (global $text_size (export "text_size") (mut i32) (i32.const 0))
  (global $answer (export "answer") (mut i32) (i32.const 0))  ;; 0 none, 1 reply, 2 reject

  ;; ---- Trapping and charging ---------------------------------------------------------------

  (func $stop (param $code i32)
    (global.set $trap_code (local.get $code))
    (unreachable))

  ;; Takes instructions off the counter. One that would wrap around goes to the lowest there is.
  (func $charge (param $amount i64) (local $left i64)
    (local.set $left (i64.sub (global.get $counter) (local.get $amount)))
    (if (i64.gt_s (local.get $left) (global.get $counter))
      (then (local.set $left (i64.const 0x8000000000000000))))
    (global.set $counter (local.get $left))
    (if (i64.lt_s (local.get $left) (i64.const 0))
      (then (call $stop (global.get $OUT_OF_INSTRUCTIONS)))))

  (func $charge_call (call $charge (global.get $cost_call)))

  ;; A call that copies bytes between the heap and the replica.
  (func $charge_copy (param $size i32) (param $per_byte i64)
    (call $charge
      (i64.add
        (global.get $cost_call)
        (i64.mul (i64.extend_i32_u (local.get $size)) (local.get $per_byte)))))

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
  ;; and written in the upper half; OS pages written. Elsewhere both are 0.
  (func $push_border (param $mark i32) (local $end i64) (local $regions i64) (local $os_pages i64)
    (local.set $end (i64.mul (global.get $border_count) (i64.const 48)))
    (if (i32.and (i32.eq (local.get $mark) (i32.const 1)) (global.get $has_heap_marks))
      (then
        (call $count_heap)
        (local.set $regions
          (i64.or
            (i64.extend_i32_u (global.get $heap_regions_accessed))
            (i64.shl (i64.extend_i32_u (global.get $heap_regions_written)) (i64.const 32))))
        (local.set $os_pages (i64.extend_i32_u (global.get $heap_os_pages_written)))))
    (if (i64.gt_u
          (i64.add (local.get $end) (i64.const 48))
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
    (global.set $border_count (i64.add (global.get $border_count) (i64.const 1))))

  ;; ---- The heap, as system calls see it --------------------------------------------------------

  ;; Marks what a system call touches: $array 0 for read, 1 MiB for written.
  (func $mark_heap (param $address i32) (param $size i32) (param $array i32) (local $last i32)
    (if (i32.or (i32.eqz (global.get $has_heap_marks)) (i32.eqz (local.get $size)))
      (then (return)))
    (local.set $last
      (i32.add (local.get $array)
        (i32.shr_u
          (i32.sub (i32.add (local.get $address) (local.get $size)) (i32.const 1))
          (i32.const 12))))
    (local.set $address
      (i32.add (local.get $array) (i32.shr_u (local.get $address) (i32.const 12))))
    (loop $next
      (i32.store8 $heap_marks (local.get $address) (i32.const 1))
      (local.set $address (i32.add (local.get $address) (i32.const 1)))
      (br_if $next (i32.le_u (local.get $address) (local.get $last)))))

  (func $check_heap (param $address i64) (param $size i64)
    ;; Both are below 2^33 here, so that their sum does not wrap around.
    (if (i64.gt_u
          (i64.add (local.get $address) (local.get $size))
          (i64.shl (i64.extend_i32_u (global.get $heap_size)) (i64.const 16)))
      (then (call $stop (global.get $HEAP_OUT_OF_BOUNDS)))))

  ;; A range of the heap that a system call reads or writes: inside, and marked.
  (func $heap_read (param $address i32) (param $size i32)
    (call $check_heap
      (i64.extend_i32_u (local.get $address)) (i64.extend_i32_u (local.get $size)))
    (call $mark_heap (local.get $address) (local.get $size) (i32.const 0)))

  (func $heap_written (param $address i32) (param $size i32)
    (call $check_heap
      (i64.extend_i32_u (local.get $address)) (i64.extend_i32_u (local.get $size)))
    (call $mark_heap (local.get $address) (local.get $size) (i32.const 0x100000)))

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

  ;; Marks one OS page with $bits (2 read, 3 written) that has not all of them; returns what that
  ;; costs.
  (func $mark (param $os_page i64) (param $mark i32) (param $bits i32) (result i64)
    (local $cost i64)
    (if (i32.eqz (local.get $mark))
      (then
        (call $push_accessed (local.get $os_page))
        (if (call $is_new_region (local.get $os_page) (i64.const 2))
          (then
            (global.set $regions_accessed (i64.add (global.get $regions_accessed) (i64.const 1)))
            (local.set $cost (global.get $cost_stable_region_accessed))))))
    (if (i32.eq (local.get $bits) (i32.const 3))
      (then
        (call $push_dirty (local.get $os_page))
        (local.set $cost (i64.add (local.get $cost) (global.get $cost_dirty_os_page)))
        (if (call $is_new_region (local.get $os_page) (i64.const 1))
          (then
            (global.set $regions_dirty (i64.add (global.get $regions_dirty) (i64.const 1)))
            (local.set $cost
              (i64.add (local.get $cost) (global.get $cost_stable_region_dirty)))))))
    (i32.store8 $bytemap (local.get $os_page) (i32.or (local.get $mark) (local.get $bits)))
    (local.get $cost))

  ;; Accesses the OS pages $os_page to $last: the whole access is checked before any is marked.
  ;; Returns what a canister pays for it.
  (func $touch (param $os_page i64) (param $last i64) (param $bits i32) (result i64)
    (local $at i64) (local $mark i32) (local $fresh i64) (local $clean i64) (local $cost i64)
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
        (then (local.set $cost
          (i64.add (local.get $cost)
            (call $mark (local.get $at) (local.get $mark) (local.get $bits))))))
      (local.set $at (i64.add (local.get $at) (i64.const 1)))
      (br_if $next (i64.le_u (local.get $at) (local.get $last))))
    (local.get $cost))

  (func $charge_pages (param $cost i64)
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
    ;; No heap has more than 4 GiB; how large this one is comes last.
    (if (i32.or
          (i64.gt_u (local.get $address) (i64.const 0x100000000))
          (i64.gt_u (local.get $size) (i64.const 0x100000000)))
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
    (call $mark_heap
      (i32.wrap_i64 (local.get $address)) (i32.wrap_i64 (local.get $size)) (i32.const 0x100000))
    (memory.copy $heap $stable
      (i32.wrap_i64 (local.get $address)) (local.get $offset) (i32.wrap_i64 (local.get $size))))

  (func $write (param $offset i64) (param $address i64) (param $size i64)
    (if (i64.eqz (local.get $size))
      (then
        (call $push_log (global.get $WRITE) (local.get $offset) (i64.const 0))
        (return)))
    (call $access
      (local.get $offset) (local.get $address) (local.get $size) (i32.const 3))
    (call $push_log (global.get $WRITE) (local.get $offset) (local.get $size))
    (call $mark_heap
      (i32.wrap_i64 (local.get $address)) (i32.wrap_i64 (local.get $size)) (i32.const 0))
    (memory.copy $stable $heap
      (local.get $offset) (i32.wrap_i64 (local.get $address)) (i32.wrap_i64 (local.get $size))))

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

  ;; ---- Argument, reply, caller ---------------------------------------------------------------

  ;; Traps for a use that the interface does not allow; the bytes of $name are the call's name.
  (func $violate (param $name i32) (param $size i32)
    (call $name_call (local.get $name) (local.get $size))
    (call $stop (global.get $CONTRACT)))

  ;; A part of a buffer that holds $have bytes.
  (func $check_part (param $offset i32) (param $size i32) (param $have i32)
    (if (i64.gt_u
          (i64.add (i64.extend_i32_u (local.get $offset)) (i64.extend_i32_u (local.get $size)))
          (i64.extend_i32_u (local.get $have)))
      (then (call $violate @"a copy reaches beyond what there is"))))

  (func $copy_principal
    (param $from i32) (param $have i32) (param $dst i32) (param $offset i32) (param $size i32)
    (call $charge_copy (local.get $size) (global.get $cost_copied_byte))
    (call $check_part (local.get $offset) (local.get $size) (local.get $have))
    (call $heap_written (local.get $dst) (local.get $size))
    (memory.copy $heap $principals
      (local.get $dst) (i32.add (local.get $from) (local.get $offset)) (local.get $size)))

  (func (export "msg_arg_data_size") (result i32)
    (call $charge_call)
    (global.get $argument_size))

  (func (export "msg_arg_data_copy") (param $dst i32) (param $offset i32) (param $size i32)
    (call $charge_copy (local.get $size) (global.get $cost_copied_byte))
    (call $check_part (local.get $offset) (local.get $size) (global.get $argument_size))
    (call $heap_written (local.get $dst) (local.get $size))
    (memory.copy $heap $argument (local.get $dst) (local.get $offset) (local.get $size)))

  ;; Makes room for $size bytes behind the reply so far.
  (func $reserve_reply (param $size i32) (local $need i64)
    (local.set $need
      (i64.shr_u
        (i64.add
          (i64.add
            (i64.extend_i32_u (global.get $reply_size)) (i64.extend_i32_u (local.get $size)))
          (i64.const 0xffff))
        (i64.const 16)))
    (if (i64.gt_u (local.get $need) (i64.extend_i32_u (memory.size $reply)))
      (then (call $grown (i64.extend_i32_s (memory.grow $reply
        (i32.wrap_i64
          (call $growth (i64.extend_i32_u (memory.size $reply)) (local.get $need)))))))))

  (func $append_reply (param $src i32) (param $size i32)
    (call $charge_copy (local.get $size) (global.get $cost_transmitted_byte))
    (if (global.get $answer) (then (call $violate @"msg_reply: this call is answered already")))
    (call $heap_read (local.get $src) (local.get $size))
    (call $reserve_reply (local.get $size))
    (memory.copy $reply $heap
      (global.get $reply_size) (local.get $src) (local.get $size))
    (global.set $reply_size (i32.add (global.get $reply_size) (local.get $size))))

  (func (export "msg_reply_data_append") (param $src i32) (param $size i32)
    (call $append_reply (local.get $src) (local.get $size)))

  (func (export "msg_reply")
    (call $charge_call)
    (if (global.get $answer) (then (call $violate @"msg_reply: this call is answered already")))
    (global.set $answer (i32.const 1)))

  ;; The message of a reject stands in the reply's place.
  (func (export "msg_reject") (param $src i32) (param $size i32)
    (global.set $reply_size (i32.const 0))
    (call $append_reply (local.get $src) (local.get $size))
    (global.set $answer (i32.const 2)))

  (func (export "msg_reject_code") (result i32) (call $charge_call) (i32.const 0))
  (func (export "msg_deadline") (result i64) (call $charge_call) (i64.const 0))

  (func (export "msg_caller_size") (result i32) (call $charge_call) (global.get $caller_size))
  (func (export "msg_caller_copy") (param $dst i32) (param $offset i32) (param $size i32)
    (call $copy_principal (i32.const 0) (global.get $caller_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  (func (export "canister_self_size") (result i32) (call $charge_call) (global.get $self_size))
  (func (export "canister_self_copy") (param $dst i32) (param $offset i32) (param $size i32)
    (call $copy_principal (i32.const 64) (global.get $self_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  (func (export "subnet_self_size") (result i32) (call $charge_call) (global.get $subnet_size))
  (func (export "subnet_self_copy") (param $dst i32) (param $offset i32) (param $size i32)
    (call $copy_principal (i32.const 192) (global.get $subnet_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  (func (export "is_controller") (param $src i32) (param $size i32) (result i32)
    (local $at i32)
    (call $charge
      (i64.add
        (global.get $cost_is_controller)
        (i64.mul (i64.extend_i32_u (local.get $size)) (global.get $cost_copied_byte))))
    (call $heap_read (local.get $src) (local.get $size))
    (if (i32.ne (local.get $size) (global.get $controller_size)) (then (return (i32.const 0))))
    (block $equal
      (loop $next
        (br_if $equal (i32.eq (local.get $at) (local.get $size)))
        (if (i32.ne
              (i32.load8_u $heap (i32.add (local.get $src) (local.get $at)))
              (i32.load8_u $principals offset=128 (local.get $at)))
          (then (return (i32.const 0))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (i32.const 1))

  ;; ---- Prints, traps, clocks, counters ---------------------------------------------------------

  ;; What logging $size bytes costs: all of them up to the log's capacity are kept, those for which
  ;; the message has room left are sent.
  (func $logging_cost (param $size i32) (result i64) (local $kept i32) (local $sent i32)
    (local.set $kept (local.get $size))
    (if (i32.gt_u (local.get $kept) (global.get $log_capacity))
      (then (local.set $kept (global.get $log_capacity))))
    (local.set $sent (local.get $size))
    (if (i32.gt_u (local.get $sent) (global.get $log_remaining))
      (then (local.set $sent (global.get $log_remaining))))
    (global.set $log_remaining (i32.sub (global.get $log_remaining) (local.get $sent)))
    (i64.add
      (i64.mul (i64.extend_i32_u (local.get $kept)) (global.get $cost_logged_byte))
      (i64.mul (i64.extend_i32_u (local.get $sent)) (global.get $cost_transmitted_byte))))

  ;; Prints are kept for the driver one after the other, each behind its length, four bytes.
  (func (export "debug_print") (param $src i32) (param $size i32) (local $need i32)
    (call $charge
      (i64.add (global.get $cost_debug_print) (call $logging_cost (local.get $size))))
    (call $heap_read (local.get $src) (local.get $size))
    (local.set $need
      (i32.shr_u
        (i32.add
          (i32.add (global.get $debug_size) (local.get $size)) (i32.const 0x10003))
        (i32.const 16)))
    (if (i32.gt_u (local.get $need) (memory.size $debug))
      (then (call $grown (i64.extend_i32_s
        (memory.grow $debug (i32.sub (local.get $need) (memory.size $debug)))))))
    (i32.store $debug (global.get $debug_size) (local.get $size))
    (memory.copy $debug $heap
      (i32.add (global.get $debug_size) (i32.const 4)) (local.get $src) (local.get $size))
    (global.set $debug_size
      (i32.add (global.get $debug_size) (i32.add (local.get $size) (i32.const 4)))))

  (func $reserve_text (param $size i32) (local $need i32)
    (local.set $need (i32.add (i32.shr_u (local.get $size) (i32.const 16)) (i32.const 1)))
    (if (i32.gt_u (local.get $need) (memory.size $text))
      (then (call $grown (i64.extend_i32_s
        (memory.grow $text (i32.sub (local.get $need) (memory.size $text))))))))

  (func (export "trap") (param $src i32) (param $size i32)
    (call $charge
      (i64.add
        (i64.add
          (global.get $cost_trap)
          (i64.mul (i64.extend_i32_u (local.get $size)) (global.get $cost_copied_byte)))
        (call $logging_cost (local.get $size))))
    (call $heap_read (local.get $src) (local.get $size))
    (call $reserve_text (local.get $size))
    (memory.copy $text $heap (i32.const 0) (local.get $src) (local.get $size))
    (global.set $text_size (local.get $size))
    (call $stop (global.get $CALLED)))

  (func (export "time") (result i64) (call $charge_call) (global.get $time_ns))

  (func (export "global_timer_set") (param $time i64) (result i64) (local $old i64)
    (call $charge_call)
    (local.set $old (global.get $timer_ns))
    (global.set $timer_ns (local.get $time))
    (local.get $old))

  ;; Instructions used so far. A counter type whose low byte is 0x53 is a border instead: the
  ;; driver's own builds mark phases with it. It costs nothing.
  (func (export "performance_counter") (param $type i32) (result i64)
    (if (i32.eq (i32.and (local.get $type) (i32.const 0xff)) (i32.const 0x53))
      (then
        (global.set $counter (i64.add (global.get $counter) (global.get $cost_border)))
        (call $push_border (i32.shr_u (local.get $type) (i32.const 8)))
        (return (i64.const 0))))
    (call $charge (global.get $cost_performance_counter))
    (if (i32.gt_u (local.get $type) (i32.const 1))
      (then (call $violate @"performance_counter: there is no such counter type")))
    (i64.add
      (i64.sub (global.get $instruction_limit) (global.get $counter))
      (call $heap_charge)))

  (func (export "canister_version") (result i64) (call $charge_call) (global.get $version))
  (func (export "canister_status") (result i32) (call $charge_call) (i32.const 1))
  (func (export "in_replicated_execution") (result i32)
    (call $charge_call)
    (global.get $is_replicated))
  (func (export "env_var_count") (result i32) (call $charge_call) (i32.const 0))

  ;; ---- Certified data and cycles -------------------------------------------------------------

  (func (export "certified_data_set") (param $src i32) (param $size i32)
    (call $charge_copy (local.get $size) (global.get $cost_copied_byte))
    (if (i32.gt_u (local.get $size) (i32.const 32))
      (then (call $violate @"certified_data_set: more than 32 bytes")))
    (call $heap_read (local.get $src) (local.get $size))
    (memory.copy $principals $heap (i32.const 256) (local.get $src) (local.get $size))
    (global.set $certified_size (local.get $size)))

  ;; There is none without a network that signs it.
  (func (export "data_certificate_present") (result i32) (call $charge_call) (i32.const 0))

  (func $store_128 (param $dst i32) (param $amount i64)
    (call $heap_written (local.get $dst) (i32.const 16))
    (i64.store $heap (local.get $dst) (local.get $amount))
    (i64.store $heap offset=8 (local.get $dst) (i64.const 0)))

  (func (export "canister_cycle_balance") (result i64)
    (call $charge_call)
    (global.get $cycle_balance))
  (func (export "canister_cycle_balance128") (param $dst i32)
    (call $charge_call)
    (call $store_128 (local.get $dst) (global.get $cycle_balance)))
  (func (export "canister_liquid_cycle_balance128") (param $dst i32)
    (call $charge_call)
    (call $store_128 (local.get $dst) (global.get $cycle_balance)))
  (func (export "msg_cycles_available") (result i64) (call $charge_call) (i64.const 0))
  (func (export "msg_cycles_available128") (param $dst i32)
    (call $charge_call)
    (call $store_128 (local.get $dst) (i64.const 0)))
  (func (export "msg_cycles_accept") (param $max i64) (result i64)
    (call $charge_call)
    (i64.const 0))
  (func (export "msg_cycles_accept128") (param $high i64) (param $low i64) (param $dst i32)
    (call $charge_call)
    (call $store_128 (local.get $dst) (i64.const 0)))

  ;; ---- Calls without meaning -----------------------------------------------------------------

  ;; Traps with the name of the call.
  (func $refuse (param $name i32) (param $size i32)
    (call $name_call (local.get $name) (local.get $size))
    (call $stop (global.get $NO_MEANING)))

  (func (export "accept_message") (call $refuse @"accept_message"))
  (func (export "call_new") (param i32 i32 i32 i32 i32 i32 i32 i32) (call $refuse @"call_new"))
  (func (export "call_on_cleanup") (param i32 i32) (call $refuse @"call_on_cleanup"))
  (func (export "call_data_append") (param i32 i32) (call $refuse @"call_data_append"))
  (func (export "call_with_best_effort_response") (param i32)
    (call $refuse @"call_with_best_effort_response"))
  (func (export "call_cycles_add") (param i64) (call $refuse @"call_cycles_add"))
  (func (export "call_cycles_add128") (param i64 i64) (call $refuse @"call_cycles_add128"))
  (func (export "call_perform") (result i32) (call $refuse @"call_perform") (unreachable))
  (func (export "cost_call") (param i64 i64 i32) (call $refuse @"cost_call"))
  (func (export "cost_create_canister") (param i32) (call $refuse @"cost_create_canister"))
  (func (export "cost_http_request") (param i64 i64 i32) (call $refuse @"cost_http_request"))
  (func (export "cost_sign_with_ecdsa") (param i32 i32 i32 i32) (result i32)
    (call $refuse @"cost_sign_with_ecdsa") (unreachable))
  (func (export "cost_sign_with_schnorr") (param i32 i32 i32 i32) (result i32)
    (call $refuse @"cost_sign_with_schnorr") (unreachable))
  (func (export "cost_vetkd_derive_key") (param i32 i32 i32 i32) (result i32)
    (call $refuse @"cost_vetkd_derive_key") (unreachable))
  (func (export "cycles_burn128") (param i64 i64 i32) (call $refuse @"cycles_burn128"))
  (func (export "data_certificate_size") (result i32)
    (call $refuse @"data_certificate_size") (unreachable))
  (func (export "data_certificate_copy") (param i32 i32 i32)
    (call $refuse @"data_certificate_copy"))
  (func (export "env_var_name_size") (param i32) (result i32)
    (call $refuse @"env_var_name_size") (unreachable))
  (func (export "env_var_name_copy") (param i32 i32 i32 i32) (call $refuse @"env_var_name_copy"))
  (func (export "env_var_name_exists") (param i32 i32) (result i32)
    (call $refuse @"env_var_name_exists") (unreachable))
  (func (export "env_var_value_size") (param i32 i32) (result i32)
    (call $refuse @"env_var_value_size") (unreachable))
  (func (export "env_var_value_copy") (param i32 i32 i32 i32 i32)
    (call $refuse @"env_var_value_copy"))
  (func (export "msg_cycles_refunded") (result i64)
    (call $refuse @"msg_cycles_refunded") (unreachable))
  (func (export "msg_cycles_refunded128") (param i32) (call $refuse @"msg_cycles_refunded128"))
  (func (export "msg_method_name_size") (result i32)
    (call $refuse @"msg_method_name_size") (unreachable))
  (func (export "msg_method_name_copy") (param i32 i32 i32)
    (call $refuse @"msg_method_name_copy"))
  (func (export "msg_reject_msg_size") (result i32)
    (call $refuse @"msg_reject_msg_size") (unreachable))
  (func (export "msg_reject_msg_copy") (param i32 i32 i32) (call $refuse @"msg_reject_msg_copy"))
  (func (export "root_key_size") (result i32) (call $refuse @"root_key_size") (unreachable))
  (func (export "root_key_copy") (param i32 i32 i32) (call $refuse @"root_key_copy"))

  ;; Makes a name what the trap says. Names are written @"name" in this file; the assembler puts
  ;; them behind the principals, and their address and length where they stood.
  (func $name_call (param $name i32) (param $size i32)
    (call $reserve_text (local.get $size))
    (memory.copy $text $principals (i32.const 0) (local.get $name) (local.get $size))
    (global.set $text_size (local.get $size)))

  ;; ---- For the driver: messages ----------------------------------------------------------------

  (func (export "begin_message")
    (param $instructions i64) (param $accessed i64) (param $dirty i64)
    ;; At most 2^62 instructions: borders give some back, which must not wrap around.
    (global.set $instruction_limit (local.get $instructions))
    (global.set $counter (local.get $instructions))
    (global.set $accessed_max (local.get $accessed))
    (global.set $dirty_max (local.get $dirty))
    (global.set $log_remaining (global.get $log_capacity))
    (global.set $trap_code (i32.const 0)))

  ;; Makes room for an argument of $size bytes, which the driver then writes.
  (func (export "begin_call") (param $size i32) (local $need i32)
    (local.set $need
      (i32.add
        (i32.shr_u (local.get $size) (i32.const 16))
        (i32.ne (i32.and (local.get $size) (i32.const 0xffff)) (i32.const 0))))
    (if (i32.gt_u (local.get $need) (memory.size $argument))
      (then (call $grown (i64.extend_i32_s
        (memory.grow $argument (i32.sub (local.get $need) (memory.size $argument)))))))
    (global.set $argument_size (local.get $size))
    (global.set $reply_size (i32.const 0))
    (global.set $text_size (i32.const 0))
    (global.set $answer (i32.const 0)))

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
    (global.set $debug_size (i32.const 0))
    (call $clear_marks))

  ;; An access that does not move bytes: checked, marked and logged. Returns what a canister pays
  ;; for its OS pages. $bits: 2 read, 3 written; $flags go into the kind in the log.
  (func $outside_access
    (param $offset i64) (param $size i64) (param $bits i32) (param $flags i64) (result i64)
    (local $end i64) (local $cost i64)
    (local.set $end (i64.add (local.get $offset) (local.get $size)))
    (if (i64.ne (local.get $size) (i64.const 0))
      (then
        (if (i32.or
              (i64.lt_u (local.get $end) (local.get $offset))
              (i64.gt_u (local.get $end) (i64.shl (global.get $stable_size) (i64.const 16))))
          (then (call $stop (global.get $STABLE_OUT_OF_BOUNDS))))
        (local.set $cost
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
    (local.get $cost))

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
    (i64.store $status offset=24 (i32.const 0) (i64.extend_i32_u (global.get $reply_size)))
    (i64.store $status offset=32 (i32.const 0) (i64.extend_i32_u (global.get $text_size)))
    (i64.store $status offset=40 (i32.const 0) (i64.extend_i32_u (global.get $debug_size)))
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
      (i64.extend_i32_u (global.get $heap_regions_written))))

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

  ;; Counts the marks into the four globals above.
  (func $count_heap (export "count_heap")
    (local $at i32) (local $end i32) (local $read i64) (local $read_2 i64)
    (local $written i64) (local $written_2 i64)
    (global.set $heap_os_pages_accessed (i32.const 0))
    (global.set $heap_os_pages_written (i32.const 0))
    (global.set $heap_regions_accessed (i32.const 0))
    (global.set $heap_regions_written (i32.const 0))
    (local.set $end (i32.shl (memory.size $heap) (i32.const 4)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        ;; 16 OS pages of one Wasm page, eight in each word; accessed is read or written.
        (local.set $written (i64.load $heap_marks offset=0x100000 (local.get $at)))
        (local.set $written_2 (i64.load $heap_marks offset=0x100008 (local.get $at)))
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
        (br $next))))

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
    (if (global.get $has_heap_marks)
      (then
        (memory.fill $heap_marks
          (i32.const 0) (i32.const 0) (i32.shl (memory.size $heap) (i32.const 4)))
        (memory.fill $heap_marks
          (i32.const 0x100000) (i32.const 0) (i32.shl (memory.size $heap) (i32.const 4))))))

  ;; Makes room for keeping the heap, which cannot fail then.
  (func $reserve_kept (export "reserve_kept")
    (if (i32.gt_u (global.get $heap_size) (memory.size $heap_kept))
      (then (call $grown (i64.extend_i32_s (memory.grow $heap_kept
        (i32.sub (global.get $heap_size) (memory.size $heap_kept))))))))

  ;; The kept heap becomes equal to the heap.
  (func $keep_heap (export "keep_heap") (param $how i32) (local $at i32) (local $size i32)
    (call $reserve_kept)
    (global.set $heap_size_kept (global.get $heap_size))
    (if (i32.eq (local.get $how) (i32.const 2))
      (then
        (local.set $size (i32.shl (global.get $heap_size) (i32.const 16)))
        (memory.copy $heap_kept $heap (i32.const 0) (i32.const 0) (local.get $size))
        ;; What lies behind must be zero, as a grown heap is.
        (memory.fill $heap_kept
          (local.get $size)
          (i32.const 0)
          (i32.sub (i32.shl (memory.size $heap_kept) (i32.const 16)) (local.get $size)))
        (return)))
    (local.set $at (i32.const -1))
    (block $done
      (loop $next
        (local.set $at (call $next_written (i32.add (local.get $at) (i32.const 1))))
        (br_if $done (i32.lt_s (local.get $at) (i32.const 0)))
        (local.set $size (i32.shl (local.get $at) (i32.const 12)))
        (memory.copy $heap_kept $heap (local.get $size) (local.get $size) (i32.const 4096))
        (br $next))))

  ;; The heap becomes equal to the kept one; what has grown since is zero again.
  (func $restore_heap (param $how i32) (local $at i32) (local $size i32)
    (global.set $heap_size (global.get $heap_size_kept))
    (if (i32.eq (local.get $how) (i32.const 2))
      (then
        (local.set $size (i32.shl (global.get $heap_size_kept) (i32.const 16)))
        (memory.copy $heap $heap_kept (i32.const 0) (i32.const 0) (local.get $size))
        (memory.fill $heap
          (local.get $size)
          (i32.const 0)
          (i32.sub (i32.shl (memory.size $heap) (i32.const 16)) (local.get $size)))
        (return)))
    (local.set $at (i32.const -1))
    (block $done
      (loop $next
        (local.set $at (call $next_written (i32.add (local.get $at) (i32.const 1))))
        (br_if $done (i32.lt_s (local.get $at) (i32.const 0)))
        (local.set $size (i32.shl (local.get $at) (i32.const 12)))
        (if (i32.lt_u (local.get $at) (i32.shl (global.get $heap_size_kept) (i32.const 4)))
          (then
            (memory.copy $heap $heap_kept
              (local.get $size) (local.get $size) (i32.const 4096)))
          (else
            (memory.fill $heap (local.get $size) (i32.const 0) (i32.const 4096))))
        (br $next))))

  ;; The first OS page from $at on that is marked as written, or -1.
  (func $next_written (param $at i32) (result i32) (local $end i32) (local $word i64)
    (local.set $end (i32.shl (memory.size $heap) (i32.const 4)))
    (loop $next
      (if (i32.ge_u (local.get $at) (local.get $end)) (then (return (i32.const -1))))
      ;; Eight marks at once, without those before $at.
      (local.set $word
        (i64.shr_u
          (i64.load $heap_marks offset=0x100000 (i32.and (local.get $at) (i32.const -8)))
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
  (func (export "reset_heap") (param $pages i32) (result i32)
    (memory.fill $heap
      (i32.const 0) (i32.const 0) (i32.shl (global.get $heap_size) (i32.const 16)))
    (call $clear_marks)
    (if (i32.gt_u (local.get $pages) (memory.size $heap))
      (then
        (if (i32.eq (i32.const -1)
              (memory.grow $heap (i32.sub (local.get $pages) (memory.size $heap))))
          (then (return (i32.const 0))))))
    (global.set $heap_size (local.get $pages))
    (i32.const 1))
)
