;; The shim, fourth part: calls to other canisters. See calls.wat.

  ;; ---- Calls to other canisters ------------------------------------------------------------------

  ;; A call is a record of numbers, i64 each, and behind them callee, method and argument:
  ;;   0 size of the callee, 8 of the method, 16 of the argument, 24 function and 32 environment for
  ;;   a reply, 40 and 48 for a reject, 56 and 64 for a cleanup (function -1: none), 72 and 80
  ;;   cycles, 88 seconds that it waits (-1: no end), 96 fee, 104 prepayment.
  ;; The one under construction lies behind those that were performed, at calls_end.

  (func $check_calling (param $text i64) (param $size i64)
    (if (i64.eqz (out is_calling))
      (then (call $violate_plainly (local.get $text) (local.get $size)))))

  ;; What an argument may have yet.
  (func $call_size (result i64)
    (i64.add
      (i64.add
        (i64.load $outcome (out calls_end)) (i64.load $outcome offset=8 (out calls_end)))
      (i64.load $outcome offset=16 (out calls_end))))

  (func $reserve_call (param $size i64) (local $need i64)
    (local.set $need (call $pages_for (i64.add (out calls_end) (local.get $size))))
    (if (i64.gt_u (local.get $need) (memory.size $outcome))
      (then (call $grown (memory.grow $outcome
        (call $growth (memory.size $outcome) (local.get $need)))))))

  ;; Gives back the cycles of a call that is not performed.
  (func $drop_call
    (if (i64.ne (out is_calling) (i64.const 0))
      (then (call $gain
        (i64.load $outcome offset=72 (out calls_end))
        (i64.load $outcome offset=80 (out calls_end)))))
    (out.set is_calling (i64.const 0)))

  ;; Numbers of functions above 32 bits are no functions.
  (func $function (param $index ptr) (result i64)
    (select (i64.of_ptr (local.get $index)) (i64.const 0xffffffff)
      (i64.lt_u (i64.of_ptr (local.get $index)) (i64.const 0xffffffff))))

  (ic0 call_new
    (call $drop_call)
    (if (i64.gt_u (i64.of_ptr (local.get $name_size)) (i64.const 20000))
      (then (call $violate @"Size of method_name {} exceeds the allowed limit of 20000."
        (i64.of_ptr (local.get $name_size)) (i64.const 0) (i64.const 0))))
    (call $read_heap @"ic0.call_new method_name" (local.get $name_src) (local.get $name_size))
    (call $read_heap @"ic0.call_new callee_src" (local.get $callee_src) (local.get $callee_size))
    (if (i64.gt_u (i64.of_ptr (local.get $callee_size)) (i64.const 29))
      (then (call $refuse_principal)))
    (call $reserve_call (i64.const 0x8000))
    (memory.fill $outcome (out calls_end) (i32.const 0) (i64.const 112))
    (i64.store $outcome (out calls_end) (i64.of_ptr (local.get $callee_size)))
    (i64.store $outcome offset=8 (out calls_end) (i64.of_ptr (local.get $name_size)))
    (i64.store $outcome offset=24 (out calls_end) (call $function (local.get $reply_fun)))
    (i64.store $outcome offset=32 (out calls_end) (i64.of_ptr (local.get $reply_env)))
    (i64.store $outcome offset=40 (out calls_end) (call $function (local.get $reject_fun)))
    (i64.store $outcome offset=48 (out calls_end) (i64.of_ptr (local.get $reject_env)))
    (i64.store $outcome offset=56 (out calls_end) (i64.const -1))
    (i64.store $outcome offset=88 (out calls_end) (i64.const -1))
    (memory.copy $outcome $heap
      (i64.add (out calls_end) (i64.const 112))
      (local.get $callee_src)
      (local.get $callee_size))
    (memory.copy $outcome $heap
      (i64.add
        (i64.add (out calls_end) (i64.const 112)) (i64.of_ptr (local.get $callee_size)))
      (local.get $name_src)
      (local.get $name_size))
    (out.set is_calling (i64.const 1)))

  (ic0 call_on_cleanup
    (call $check_calling @"ic0.call_on_cleanup called when no call is under construction.")
    (if (i64.ne (i64.load $outcome offset=56 (out calls_end)) (i64.const -1))
      (then (call $violate_plainly
        @"ic0.call_on_cleanup can be called at most once between `ic0.call_new` and `ic0.call_perform`")))
    (i64.store $outcome offset=56 (out calls_end) (call $function (local.get $fun)))
    (i64.store $outcome offset=64 (out calls_end) (i64.of_ptr (local.get $env))))

  ;; Method and argument together have 10 MiB at most, on the subnet of the canister.
  (ic0 call_data_append (local $payload i64)
    (call $check_calling @"ic0.call_data_append called when no call is under construction.")
    (local.set $payload
      (i64.sub (call $call_size) (i64.load $outcome (out calls_end))))
    (if (i64.gt_u
          (i64.of_ptr (local.get $size)) (i64.sub (i64.const 10485760) (local.get $payload)))
      (then
        (call $say
          @"Request to {callee}:{method} has a payload size of {}, which exceeds the allowed limit of 10485760.")
        (out.set first (i64.add (local.get $payload) (i64.of_ptr (local.get $size))))
        (call $stop (global.get $CONTRACT))))
    (call $read_heap @"ic0.call_data_append" (local.get $src) (local.get $size))
    (call $reserve_call
      (i64.add
        (i64.const 112) (i64.add (call $call_size) (i64.of_ptr (local.get $size)))))
    (memory.copy $outcome $heap
      (i64.add (i64.add (out calls_end) (i64.const 112)) (call $call_size))
      (local.get $src)
      (local.get $size))
    (i64.store $outcome offset=16 (out calls_end)
      (i64.add
        (i64.load $outcome offset=16 (out calls_end)) (i64.of_ptr (local.get $size)))))

  (ic0 call_with_best_effort_response
    (call $check_calling
      @"ic0.call_with_best_effort_response called when no call is under construction.")
    (if (i64.ne (i64.load $outcome offset=88 (out calls_end)) (i64.const -1))
      (then (call $violate_plainly
        @"ic0_call_with_best_effort_response failed because a timeout is already set.")))
    (i64.store $outcome offset=88 (out calls_end)
      (i64.extend_i32_u
        (select (local.get $timeout_seconds) (i32.const 300)
          (i32.lt_u (local.get $timeout_seconds) (i32.const 300))))))

  (func $attach (param $low i64) (param $high i64)
    (if (call $less_128 (call $liquid) (local.get $low) (local.get $high))
      (then (call $stop (global.get $OUT_OF_CYCLES))))
    (call $lose (local.get $low) (local.get $high))
    (call $add_128
      (i64.load $outcome offset=72 (out calls_end))
      (i64.load $outcome offset=80 (out calls_end))
      (local.get $low)
      (local.get $high))
    (local.set $high)
    (local.set $low)
    (i64.store $outcome offset=72 (out calls_end) (local.get $low))
    (i64.store $outcome offset=80 (out calls_end) (local.get $high)))

  (ic0 call_cycles_add
    (call $check_calling @"ic0_call_cycles_add called when no call is under construction.")
    (call $attach (local.get $amount) (i64.const 0)))
  (ic0 call_cycles_add128
    (call $check_calling @"ic0_call_cycles_add128 called when no call is under construction.")
    (call $attach (local.get $amount_low) (local.get $amount_high)))

  ;; Whether two records have the same callee.
  (func $is_same_callee (param $one i64) (param $other i64) (result i32) (local $size i64)
    (local.set $size (i64.load $outcome (local.get $one)))
    (if (i64.ne (local.get $size) (i64.load $outcome (local.get $other)))
      (then (return (i32.const 0))))
    (block $differs
      (loop $next
        (if (i64.eqz (local.get $size)) (then (return (i32.const 1))))
        (local.set $size (i64.sub (local.get $size) (i64.const 1)))
        (br_if $next
          (i32.eq
            (i32.load8_u $outcome offset=112 (i64.add (local.get $one) (local.get $size)))
            (i32.load8_u $outcome offset=112 (i64.add (local.get $other) (local.get $size)))))))
    (i32.const 0))

  ;; Whether the callee of the call under construction is a principal of the environment.
  (func $is_callee (param $at i64) (param $size i64) (result i32)
    (if (i64.ne (local.get $size) (i64.load $outcome (out calls_end)))
      (then (return (i32.const 0))))
    (block $differs
      (loop $next
        (if (i64.eqz (local.get $size)) (then (return (i32.const 1))))
        (local.set $size (i64.sub (local.get $size) (i64.const 1)))
        (br_if $next
          (i32.eq
            (i32.load8_u $outcome offset=112 (i64.add (out calls_end) (local.get $size)))
            (i32.load8_u $environment (i64.add (local.get $at) (local.get $size)))))))
    (i32.const 0))

  ;; Calls to the same canister that wait already: earlier executions' are (address, size, count).
  (func $waiting (result i64) (local $at i64) (local $end i64) (local $count i64)
    (local.set $at (env waiting_at))
    (local.set $end
      (i64.add (local.get $at) (i64.mul (env waiting_count) (i64.const 24))))
    (block $told
      (loop $next
        (br_if $told (i64.ge_u (local.get $at) (local.get $end)))
        (if (call $is_callee
              (i64.load $environment (local.get $at))
              (i64.load $environment offset=8 (local.get $at)))
          (then (local.set $count
            (i64.add (local.get $count) (i64.load $environment offset=16 (local.get $at))))))
        (local.set $at (i64.add (local.get $at) (i64.const 24)))
        (br $next)))
    (local.set $at (i64.const 1024))
    (block $done
      (loop $next
        (br_if $done (i64.ge_u (local.get $at) (out calls_end)))
        (local.set $count
          (i64.add (local.get $count)
            (i64.extend_i32_u (call $is_same_callee (local.get $at) (out calls_end)))))
        (local.set $at
          (i64.add (local.get $at)
            (i64.add
              (i64.const 112)
              (i64.add
                (i64.load $outcome (local.get $at))
                (i64.add
                  (i64.load $outcome offset=8 (local.get $at))
                  (i64.load $outcome offset=16 (local.get $at)))))))
        (br $next)))
    (local.get $count))

  ;; Returns 0, or 2 where the queue is full, or there are too few cycles.
  (ic0 call_perform (local $fee i64)
    (call $check_calling @"ic0.call_perform called when no call is under construction.")
    (local.set $fee
      (i64.add
        (env call_base_price)
        (i64.div_u
          (i64.mul
            (i64.mul
              (i64.const 1000)
              (i64.sub (call $call_size) (i64.load $outcome (out calls_end))))
            (env node_count))
          (i64.const 13))))
    (if (i32.or
          (i64.ge_u (call $waiting) (env call_room))
          (call $less_128
            (call $liquid)
            (i64.add (local.get $fee) (env response_price)) (i64.const 0)))
      (then
        (call $drop_call)
        (return (i32.const 2))))
    (call $lose (i64.add (local.get $fee) (env response_price)) (i64.const 0))
    (i64.store $outcome offset=96 (out calls_end) (local.get $fee))
    (i64.store $outcome offset=104 (out calls_end) (env response_price))
    (out.set calls_end
      (i64.add (i64.add (out calls_end) (i64.const 112)) (call $call_size)))
    (out.set call_count (i64.add (out call_count) (i64.const 1)))
    (out.set is_calling (i64.const 0))
    (i32.const 0))
