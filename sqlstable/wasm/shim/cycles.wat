;; The shim, third part: cycles, and what things cost in them. See calls.wat.

  ;; ---- Numbers of 128 bits -----------------------------------------------------------------------

  (func $add_128
    (param $low i64) (param $high i64) (param $low_2 i64) (param $high_2 i64) (result i64 i64)
    (local.set $low (i64.add (local.get $low) (local.get $low_2)))
    (local.get $low)
    (i64.add
      (i64.add (local.get $high) (local.get $high_2))
      (i64.extend_i32_u (i64.lt_u (local.get $low) (local.get $low_2)))))

  (func $less_128
    (param $low i64) (param $high i64) (param $low_2 i64) (param $high_2 i64) (result i32)
    (if (i64.ne (local.get $high) (local.get $high_2))
      (then (return (i64.lt_u (local.get $high) (local.get $high_2)))))
    (i64.lt_u (local.get $low) (local.get $low_2)))

  (func $min_128
    (param $low i64) (param $high i64) (param $low_2 i64) (param $high_2 i64) (result i64 i64)
    (if (call $less_128
          (local.get $low) (local.get $high) (local.get $low_2) (local.get $high_2))
      (then (return (local.get $low) (local.get $high))))
    (local.get $low_2)
    (local.get $high_2))

  ;; The difference, but not less than 0.
  (func $subtract_128
    (param $low i64) (param $high i64) (param $low_2 i64) (param $high_2 i64) (result i64 i64)
    (if (call $less_128
          (local.get $low) (local.get $high) (local.get $low_2) (local.get $high_2))
      (then (return (i64.const 0) (i64.const 0))))
    (i64.sub (local.get $low) (local.get $low_2))
    (i64.sub
      (i64.sub (local.get $high) (local.get $high_2))
      (i64.extend_i32_u (i64.lt_u (local.get $low) (local.get $low_2)))))

  ;; ---- Cycles ------------------------------------------------------------------------------------

  (func $only_64 (param $low i64) (param $high i64) (result i64)
    (if (i64.ne (local.get $high) (i64.const 0))
      (then (call $stop (global.get $CYCLES_TOO_BIG))))
    (local.get $low))

  (func $liquid (result i64 i64)
    (call $subtract_128
      (out balance_low) (out balance_high) (env freezing_low) (env freezing_high)))

  (ic0 canister_cycle_balance
    (call $only_64 (out balance_low) (out balance_high)))
  (ic0 canister_cycle_balance128
    (call $store_128 @"ic0_canister_cycle_balance128"
      (local.get $dst) (out balance_low) (out balance_high)))
  (ic0 canister_liquid_cycle_balance128
    (call $store_128 @"ic0_canister_liquid_cycle_balance128"
      (local.get $dst) (call $liquid)))

  (ic0 msg_cycles_available
    (call $only_64 (out available_low) (out available_high)))
  (ic0 msg_cycles_available128
    (call $store_128 @"ic0_msg_cycles_available128"
      (local.get $dst) (out available_low) (out available_high)))

  (ic0 msg_cycles_refunded
    (call $only_64 (env refunded_low) (env refunded_high)))
  (ic0 msg_cycles_refunded128
    (call $store_128 @"ic0_msg_cycles_refunded128"
      (local.get $dst) (env refunded_low) (env refunded_high)))

  (func $gain (param $low i64) (param $high i64)
    (call $add_128
      (out balance_low) (out balance_high) (local.get $low) (local.get $high))
    (local.set $high)
    (local.set $low)
    (out.set balance_low (local.get $low))
    (out.set balance_high (local.get $high)))

  (func $lose (param $low i64) (param $high i64)
    (call $subtract_128
      (out balance_low) (out balance_high) (local.get $low) (local.get $high))
    (local.set $high)
    (local.set $low)
    (out.set balance_low (local.get $low))
    (out.set balance_high (local.get $high)))

  ;; Accepts as much as there is, and returns how much.
  (func $accept (param $low i64) (param $high i64) (result i64 i64) (local $sum_low i64) (local $sum_high i64)
    (call $min_128
      (local.get $low) (local.get $high) (out available_low) (out available_high))
    (local.set $high)
    (local.set $low)
    (call $gain (local.get $low) (local.get $high))
    (call $subtract_128
      (out available_low) (out available_high) (local.get $low) (local.get $high))
    (local.set $sum_high)
    (local.set $sum_low)
    (out.set available_low (local.get $sum_low))
    (out.set available_high (local.get $sum_high))
    (call $add_128
      (out accepted_low) (out accepted_high) (local.get $low) (local.get $high))
    (local.set $sum_high)
    (local.set $sum_low)
    (out.set accepted_low (local.get $sum_low))
    (out.set accepted_high (local.get $sum_high))
    (local.get $low)
    (local.get $high))

  (ic0 msg_cycles_accept
    (call $accept (local.get $max_amount) (i64.const 0))
    drop)
  (ic0 msg_cycles_accept128
    (call $store_128 @"ic0_msg_cycles_accept128"
      (local.get $dst)
      (call $accept (local.get $max_amount_low) (local.get $max_amount_high))))

  (ic0 cycles_burn128 (local $low i64) (local $high i64)
    (call $min_128 (local.get $amount_low) (local.get $amount_high) (call $liquid))
    (local.set $high)
    (local.set $low)
    (call $lose (local.get $low) (local.get $high))
    (call $store_128 @"ic0_cycles_burn128"
      (local.get $dst) (local.get $low) (local.get $high))
    (call $add_128 (out burned_low) (out burned_high) (local.get $low) (local.get $high))
    (local.set $high)
    (local.set $low)
    (out.set burned_low (local.get $low))
    (out.set burned_high (local.get $high)))

  ;; One canister may.
  (ic0 mint_cycles128 (local $low i64) (local $high i64)
    (if (i64.eqz (env may_mint))
      (then (call $violate_plainly
        @"ic0.mint_cycles128 cannot be executed on non Cycles Minting Canister: {self} != {minting}")))
    (call $gain (local.get $amount_low) (local.get $amount_high))
    (call $store_128 @"ic0_mint_cycles_128"
      (local.get $dst) (local.get $amount_low) (local.get $amount_high))
    (call $add_128
      (out minted_low) (out minted_high) (local.get $amount_low) (local.get $amount_high))
    (local.set $high)
    (local.set $low)
    (out.set minted_low (local.get $low))
    (out.set minted_high (local.get $high)))

  ;; ---- What things cost in cycles ----------------------------------------------------------------

  ;; No message or outcall is as large as this; sizes beyond have no price with a meaning.
  (func $size (param $size i64) (result i64)
    (select (local.get $size) (i64.const 0x10000000000)
      (i64.lt_u (local.get $size) (i64.const 0x10000000000))))

  ;; The size of the subnet does not matter to this one, as in the replica.
  (ic0 cost_call
    (call $store_128 @"ic0_cost_call" (local.get $dst)
      (i64.add
        (env call_price)
        (i64.mul
          (i64.const 1000)
          (i64.add
            (call $size (local.get $method_name_size)) (call $size (local.get $payload_size)))))
      (i64.const 0)))

  (ic0 cost_create_canister
    (call $store_128 @"ic0_cost_create_canister"
      (local.get $dst) (env creation_price) (i64.const 0)))

  (ic0 cost_http_request
    (call $store_128 @"ic0_cost_http_request" (local.get $dst)
      (i64.mul
        (env node_count)
        (i64.add
          (i64.add
            (i64.const 3000000) (i64.mul (i64.const 60000) (env node_count)))
          (i64.add
            (i64.mul (i64.const 400) (call $size (local.get $request_size)))
            (i64.mul (i64.const 800) (call $size (local.get $max_res_bytes))))))
      (i64.const 0)))

  ;; One of the five fields of the record, sorted by the hashes of their names.
  (func $usage (param $src ptr) (param $index i64) (result i64)
    (call $size
      (i64.load $heap
        (ptr.add
          (local.get $src)
          (ptr.of_i64
            (i64.add (env usage_header_size) (i64.shl (local.get $index) (i64.const 3))))))))

  ;; Of a fully replicated outcall, whose usage is encoded in just one way.
  (ic0 cost_http_request_v2 (local $nodes i64) (local $agreeing i64) (local $bytes i64)
    (call $read_heap @"ic0.cost_http_request_v2 heap"
      (local.get $params_src) (local.get $params_size))
    (if (i64.eqz
          (i64.extend_i32_u
            (i32.and
              (i64.eq
                (i64.of_ptr (local.get $params_size))
                (i64.add (env usage_header_size) (i64.const 40)))
              (call $equals
                (local.get $params_src) (env usage_header_at) (env usage_header_size)))))
      (then (call $stop_with (global.get $NO_MEANING)
        @"cost_http_request_v2 of another encoding than a record of its five numbers"
        (i64.const 0) (i64.const 0) (i64.const 0))))
    (local.set $nodes (env node_count))
    (local.set $agreeing
      (i64.sub
        (local.get $nodes)
        (i64.div_u (i64.sub (local.get $nodes) (i64.const 1)) (i64.const 3))))
    (local.set $bytes
      (call $usage (local.get $params_src) (env transformed_response_bytes)))
    ;; A reject may come in the place of the response.
    (if (i64.lt_u (local.get $bytes) (i64.const 1025)) (then (local.set $bytes (i64.const 1025))))
    (call $store_128 @"ic0_cost_http_request_v2" (local.get $dst)
      (i64.mul
        (local.get $nodes)
        (i64.add
          (i64.add
            (i64.add
              (i64.add
                (i64.const 1000000)
                (i64.mul (i64.const 140000) (local.get $nodes)))
              (i64.mul (i64.const 800) (i64.mul (local.get $nodes) (local.get $nodes))))
            (i64.add
              (i64.mul
                (i64.const 50)
                (i64.add
                  (call $usage (local.get $params_src) (env request_bytes))
                  (call $usage (local.get $params_src) (env raw_response_bytes))))
              (i64.add
                (i64.mul
                  (i64.const 300)
                  (call $usage (local.get $params_src) (env http_roundtrip_time_ms)))
                (i64.div_u
                  (call $usage (local.get $params_src) (env transform_instructions))
                  (i64.const 13)))))
          (i64.div_u
            (i64.add
              (i64.mul
                (i64.mul
                  (i64.add (i64.mul (i64.const 10) (local.get $nodes)) (i64.const 600))
                  (local.get $nodes))
                (local.get $bytes))
              (i64.sub (local.get $agreeing) (i64.const 1)))
            (local.get $agreeing))))
      (i64.const 0)))

  ;; Keys are (address, size) of the name and a price, three i64 each. Returns 0, or 1 for a scheme
  ;; that is not known, or 2 for a key that is not.
  (func $price_key
    (param $name i64) (param $name_size i64)
    (param $src ptr) (param $size ptr) (param $scheme i32) (param $schemes i32) (param $dst ptr)
    (result i32)
    (local $at i64) (local $end i64)
    (if (i32.eqz
          (call $is_utf8 (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size))))
      (then
        (call $say @"Failed to decode key name {said}")
        (call $say_heap
          (i64.of_ptr (local.get $src))
          (select (i64.of_ptr (local.get $size)) (i64.const 32768)
            (i64.lt_u (i64.of_ptr (local.get $size)) (i64.const 32768))))
        (call $stop (global.get $CONTRACT))))
    (if (i32.ge_u (local.get $scheme) (local.get $schemes)) (then (return (i32.const 1))))
    (local.set $at (env keys_at))
    (local.set $end
      (i64.add (local.get $at) (i64.mul (env key_count) (i64.const 24))))
    (loop $next
      (if (i64.ge_u (local.get $at) (local.get $end)) (then (return (i32.const 2))))
      (if (i64.eq
            (i64.load $environment offset=8 (local.get $at)) (i64.of_ptr (local.get $size)))
        (then
          (if (call $equals
                (local.get $src)
                (i64.load $environment (local.get $at))
                (i64.of_ptr (local.get $size)))
            (then
              (call $store_128 (local.get $name) (local.get $name_size) (local.get $dst)
                (i64.load $environment offset=16 (local.get $at)) (i64.const 0))
              (return (i32.const 0))))))
      (local.set $at (i64.add (local.get $at) (i64.const 24)))
      (br $next))
    (unreachable))

  ;; The second curve is known, and no key of it.
  (ic0 cost_sign_with_ecdsa
    (call $read_heap @"ic0.cost_sign_with_ecdsa heap" (local.get $src) (local.get $size))
    (if (i32.eq (local.get $ecdsa_curve) (i32.const 1)) (then (return (i32.const 2))))
    (call $price_key @"ic0_cost_sign_with_ecdsa"
      (local.get $src) (local.get $size)
      (local.get $ecdsa_curve) (i32.const 1) (local.get $dst)))

  (ic0 cost_sign_with_schnorr
    (call $read_heap @"ic0.cost_sign_with_schnorr heap" (local.get $src) (local.get $size))
    (call $price_key @"ic0_cost_sign_with_schnorr"
      (local.get $src) (local.get $size)
      (local.get $algorithm) (i32.const 2) (local.get $dst)))

  (ic0 cost_vetkd_derive_key
    (call $read_heap @"ic0.cost_vetkd_derive_key heap" (local.get $src) (local.get $size))
    (call $price_key @"ic0_cost_vetkd_derive_key"
      (local.get $src) (local.get $size)
      (local.get $vetkd_curve) (i32.const 1) (local.get $dst)))
