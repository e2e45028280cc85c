;; The shim, second part: the system calls of a canister, but for stable memory (memory.wat), cycles
;; (cycles.wat), and calls to other canisters (outgoing.wat); statements.wat is no system call.
;;
;; See memory.wat for all parts, and for what ptr and its like stand for. A name in quotes behind
;; an @ is put into the memory "words"; its address and length stand in its place. The rest of what
;; is put in here comes from sqlstable/ic/system_calls.py and sqlstable/wasm/packing.py:
;;   (ic0 name               the function of a system call: export, parameters, result; then, behind
;;                           its locals, its charge, and a check that it may be called here
;;   (ic0.later name         likewise without the charge, which it makes itself
;;   (env field)             a number of the environment
;;   (out field)             a number of the outcome; (out.set field value) sets it
;;   (in U RQ)               whether the execution is in one of these contexts
;;
;; Memories
;;   environment  what the canister may ask for, as the driver has packed it
;;   outcome      what it did: numbers, certified data from 512 on, and its calls from 1024 on
;;
;; The order of charges, checks and effects is the replica's. Its words are put together by
;; sqlstable/wasm/traps.py from a text and up to three numbers, and what the canister said itself.

  (memory $environment (export "environment") i64 1 65536)
  (memory $outcome (export "outcome") i64 1 65536)

  ;; More values of $trap_code.
  (global $WRONG_CONTEXT i32 (i32.const 12))
  (global $SLICE i32 (i32.const 13))
  (global $CYCLES_SLICE i32 (i32.const 14))
  (global $CYCLES_TOO_BIG i32 (i32.const 15))
  (global $INVALID_PRINCIPAL i32 (i32.const 16))
  (global $OUT_OF_CYCLES i32 (i32.const 17))
  (global $PLAIN i32 (i32.const 18))

  ;; Of the execution.
  (global $context (export "context") (mut i32) (i32.const ANY_CONTEXT_BIT))
  (global $argument_size (export "argument_size") (mut i64) (i64.const 0))
  (global $reply_size (export "reply_size") (mut i64) (i64.const 0))
  (global $reply_size_max (mut i64) (i64.const -1))

  ;; How large replies may be: those of queries that are not replicated, all others, and those of
  ;; executions in no context. The driver sets them.
  (global $reply_max_of_query (export "reply_max_of_query") (mut i64) (i64.const 0x300000))
  (global $reply_max_of_other (export "reply_max_of_other") (mut i64) (i64.const 0x200000))
  (global $reply_max_of_any (export "reply_max_of_any") (mut i64) (i64.const -1))

  (global $debug_size (export "debug_size") (mut i64) (i64.const 0))
  (global $text_size (export "text_size") (mut i64) (i64.const 0))
  (global $answer (export "answer") (mut i32) (i32.const 0))  ;; 0 none, 1 reply, 2 reject

  ;; ---- Trapping with the replica's words -------------------------------------------------------

  ;; Wasm pages that hold so many bytes.
  (func $pages_for (param $size i64) (result i64)
    (i64.shr_u (i64.add (local.get $size) (i64.const 0xffff)) (i64.const 16)))

  (func $reserve_text (param $size i64) (local $need i64)
    (local.set $need (call $pages_for (local.get $size)))
    (if (i64.gt_u (local.get $need) (memory.size $text))
      (then (call $grown
        (memory.grow $text (i64.sub (local.get $need) (memory.size $text)))))))

  ;; Makes a text what the trap says; the numbers stay as they are.
  (func $say (param $text i64) (param $size i64)
    (call $reserve_text (i64.add (local.get $size) (i64.const 0x10000)))
    (memory.copy $text $words (i64.const 0) (local.get $text) (local.get $size))
    (global.set $text_size (local.get $size))
    (out.set said_size (i64.const 0)))

  ;; Adds what the canister said itself, of the heap, to the text; none of it is longer than 32 KiB.
  (func $say_heap (param $src i64) (param $size i64)
    (memory.copy $text $heap
      (i64.add (global.get $text_size) (out said_size))
      (ptr.of_i64 (local.get $src)) (ptr.of_i64 (local.get $size)))
    (out.set said_size (i64.add (out said_size) (local.get $size))))

  (func $stop_with
    (param $code i32) (param $text i64) (param $size i64)
    (param $first i64) (param $second i64) (param $third i64)
    (call $say (local.get $text) (local.get $size))
    (out.set first (local.get $first))
    (out.set second (local.get $second))
    (out.set third (local.get $third))
    (call $stop (local.get $code)))

  ;; Traps for a use that the interface does not allow.
  (func $violate
    (param $text i64) (param $size i64)
    (param $first i64) (param $second i64) (param $third i64)
    (call $stop_with (global.get $CONTRACT) (local.get $text) (local.get $size)
      (local.get $first) (local.get $second) (local.get $third)))

  (func $violate_plainly (param $text i64) (param $size i64)
    (call $violate (local.get $text) (local.get $size) (i64.const 0) (i64.const 0) (i64.const 0)))

  ;; Traps for a call that is not allowed here; the text is what the replica calls it.
  (func $refuse_context (param $text i64) (param $size i64)
    (call $stop_with (global.get $WRONG_CONTEXT) (local.get $text) (local.get $size)
      (i64.const 0) (i64.const 0) (i64.const 0)))

  (func $refuse_principal
    (call $stop (global.get $INVALID_PRINCIPAL)))

  ;; ---- Parts of buffers and of the heap ----------------------------------------------------------

  ;; A part of a buffer that holds $have bytes; the text says of which.
  (func $check_slice
    (param $text i64) (param $text_size i64) (param $at i64) (param $size i64) (param $have i64)
    ;; A sum could wrap around.
    (if (i32.or
          (i64.gt_u (local.get $size) (local.get $have))
          (i64.gt_u (local.get $at) (i64.sub (local.get $have) (local.get $size))))
      (then (call $stop_with (global.get $SLICE) (local.get $text) (local.get $text_size)
        (local.get $at) (local.get $size) (local.get $have)))))

  (func $heap_bytes (result i64)
    (i64.shl (i64.extend_i32_u (global.get $heap_size)) (i64.const 16)))

  ;; A part of the heap that a call reads, or writes.
  (func $read_heap (param $text i64) (param $text_size i64) (param $src ptr) (param $size ptr)
    (call $check_slice (local.get $text) (local.get $text_size)
      (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size)) (call $heap_bytes))
    (call $mark_heap
      (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size)) (i32.const 0)))

  (func $write_heap (param $text i64) (param $text_size i64) (param $dst ptr) (param $size ptr)
    (call $check_slice (local.get $text) (local.get $text_size)
      (i64.of_ptr (local.get $dst)) (i64.of_ptr (local.get $size)) (call $heap_bytes))
    (call $mark_heap
      (i64.of_ptr (local.get $dst)) (i64.of_ptr (local.get $size)) (i32.const WRITTEN)))

  ;; Copies a part of $have bytes of the environment that begin at $from to the heap. The texts say
  ;; what the parts of both are.
  (func $copy_out
    (param $heap_text i64) (param $heap_text_size i64)
    (param $text i64) (param $text_size i64)
    (param $from i64) (param $have i64) (param $dst ptr) (param $offset ptr) (param $size ptr)
    (call $write_heap (local.get $heap_text) (local.get $heap_text_size)
      (local.get $dst) (local.get $size))
    (call $check_slice (local.get $text) (local.get $text_size)
      (i64.of_ptr (local.get $offset)) (i64.of_ptr (local.get $size)) (local.get $have))
    (memory.copy $heap $environment
      (local.get $dst)
      (i64.add (local.get $from) (i64.of_ptr (local.get $offset)))
      (local.get $size)))

  ;; Writes 128 bits to the heap; the text is the name of the call.
  (func $store_128
    (param $text i64) (param $text_size i64) (param $dst ptr) (param $low i64) (param $high i64)
    (if (i64.gt_u
          (i64.of_ptr (local.get $dst)) (i64.sub (call $heap_bytes) (i64.const 16)))
      (then (call $stop_with (global.get $CYCLES_SLICE)
        (local.get $text) (local.get $text_size)
        (i64.of_ptr (local.get $dst)) (i64.const 16) (call $heap_bytes))))
    (if (i64.lt_u (call $heap_bytes) (i64.const 16))
      (then (call $stop_with (global.get $CYCLES_SLICE)
        (local.get $text) (local.get $text_size)
        (i64.of_ptr (local.get $dst)) (i64.const 16) (call $heap_bytes))))
    (call $mark_heap (i64.of_ptr (local.get $dst)) (i64.const 16) (i32.const WRITTEN))
    (i64.store $heap (local.get $dst) (local.get $low))
    (i64.store $heap offset=8 (local.get $dst) (local.get $high)))

  ;; Whether a part of the heap equals one of the environment of the same size.
  (func $equals (param $src ptr) (param $at i64) (param $size i64) (result i32)
    (block $differs
      (loop $next
        (if (i64.eqz (local.get $size)) (then (return (i32.const 1))))
        (local.set $size (i64.sub (local.get $size) (i64.const 1)))
        (br_if $next
          (i32.eq
            (i32.load8_u $heap (ptr.add (local.get $src) (ptr.of_i64 (local.get $size))))
            (i32.load8_u $environment (i64.add (local.get $at) (local.get $size)))))))
    (i32.const 0))

  ;; How many bytes a character of UTF-8 has that begins so; 0 where none does.
  (func $character_size (param $first i32) (result i64)
    (if (i32.lt_u (local.get $first) (i32.const 0x80)) (then (return (i64.const 1))))
    (if (i32.lt_u (local.get $first) (i32.const 0xc2)) (then (return (i64.const 0))))
    (if (i32.lt_u (local.get $first) (i32.const 0xe0)) (then (return (i64.const 2))))
    (if (i32.lt_u (local.get $first) (i32.const 0xf0)) (then (return (i64.const 3))))
    (i64.extend_i32_u
      (i32.shl (i32.lt_u (local.get $first) (i32.const 0xf5)) (i32.const 2))))

  ;; Whether the second byte may follow the first: no longer forms, no surrogates, nothing beyond
  ;; 0x10ffff.
  (func $follows (param $first i32) (param $second i32) (result i32)
    (local $low i32) (local $high i32)
    (local.set $low (i32.const 0x80))
    (local.set $high (i32.const 0xbf))
    (if (i32.eq (local.get $first) (i32.const 0xe0)) (then (local.set $low (i32.const 0xa0))))
    (if (i32.eq (local.get $first) (i32.const 0xed)) (then (local.set $high (i32.const 0x9f))))
    (if (i32.eq (local.get $first) (i32.const 0xf0)) (then (local.set $low (i32.const 0x90))))
    (if (i32.eq (local.get $first) (i32.const 0xf4)) (then (local.set $high (i32.const 0x8f))))
    (i32.and
      (i32.ge_u (local.get $second) (local.get $low))
      (i32.le_u (local.get $second) (local.get $high))))

  (func $heap_byte (param $at i64) (result i32)
    (i32.load8_u $heap (ptr.of_i64 (local.get $at))))

  ;; Whether a part of the heap, inside of it, is UTF-8.
  (func $is_utf8 (param $at i64) (param $size i64) (result i32)
    (local $end i64) (local $first i32) (local $length i64)
    (local.set $end (i64.add (local.get $at) (local.get $size)))
    (loop $next
      (if (i64.eq (local.get $at) (local.get $end)) (then (return (i32.const 1))))
      (local.set $first (call $heap_byte (local.get $at)))
      (local.set $length (call $character_size (local.get $first)))
      (if (i32.or
            (i64.eqz (local.get $length))
            (i64.gt_u (local.get $length) (i64.sub (local.get $end) (local.get $at))))
        (then (return (i32.const 0))))
      (if (i64.gt_u (local.get $length) (i64.const 1))
        (then
          (if (i32.eqz
                (call $follows
                  (local.get $first)
                  (call $heap_byte (i64.add (local.get $at) (i64.const 1)))))
            (then (return (i32.const 0))))))
      (local.set $at (i64.add (local.get $at) (i64.const 1)))
      (local.set $length (i64.sub (local.get $length) (i64.const 1)))
      (loop $rest
        (if (i64.gt_s (local.get $length) (i64.const 0))
          (then
            (if (i32.ne
                  (i32.and (call $heap_byte (local.get $at)) (i32.const 0xc0))
                  (i32.const 0x80))
              (then (return (i32.const 0))))
            (local.set $at (i64.add (local.get $at) (i64.const 1)))
            (local.set $length (i64.sub (local.get $length) (i64.const 1)))
            (br $rest))))
      (br $next))
    (unreachable))

  ;; ---- Argument and caller -----------------------------------------------------------------------

  (ic0 msg_arg_data_size
    (ptr.of_i64 (global.get $argument_size)))

  (ic0 msg_arg_data_copy
    (call $write_heap @"ic0.msg_arg_data_copy heap" (local.get $dst) (local.get $size))
    (call $check_slice @"ic0.msg_arg_data_copy payload"
      (i64.of_ptr (local.get $offset)) (i64.of_ptr (local.get $size)) (global.get $argument_size))
    (memory.copy $heap $argument
      (local.get $dst) (i64.of_ptr (local.get $offset)) (local.get $size)))

  (ic0 msg_caller_size (ptr.of_i64 (env caller_size)))
  (ic0 msg_caller_copy
    (call $copy_out @"ic0.msg_caller_copy heap" @"ic0.msg_caller_copy id"
      (env caller_at) (env caller_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  (ic0 msg_caller_info_data_size (ptr.of_i64 (env info_size)))
  (ic0 msg_caller_info_data_copy
    (call $copy_out
      @"ic0.msg_caller_info_data_copy heap" @"ic0.msg_caller_info_data_copy info"
      (env info_at) (env info_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  (ic0 msg_caller_info_signer_size (ptr.of_i64 (env signer_size)))
  (ic0 msg_caller_info_signer_copy
    (call $copy_out
      @"ic0.msg_caller_info_signer_copy heap" @"ic0.msg_caller_info_signer_copy signer"
      (env signer_at) (env signer_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  ;; A reply has none.
  (ic0 msg_reject_code (i32.wrap_i64 (env reject_code)))

  (ic0 msg_reject_msg_size (ptr.of_i64 (env reject_message_size)))
  (ic0 msg_reject_msg_copy
    (call $copy_out @"ic0.msg_reject_msg_copy heap" @"ic0.msg_reject_msg_copy msg"
      (env reject_message_at) (env reject_message_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  (ic0 msg_deadline (env deadline_ns))

  (ic0 msg_method_name_size (ptr.of_i64 (env method_name_size)))
  (ic0 msg_method_name_copy
    (call $copy_out @"ic0.msg_method_name_copy heap" @"ic0.msg_method_name_copy payload"
      (env method_name_at) (env method_name_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  (ic0 accept_message
    (if (i64.ne (out is_accepted) (i64.const 0))
      (then (call $violate_plainly @"ic0.accept_message: the function was already called.")))
    (out.set is_accepted (i64.const 1)))

  ;; ---- Answers -----------------------------------------------------------------------------------

  (func $is_answered (result i32)
    (i32.or (global.get $answer) (i32.wrap_i64 (env is_answered))))

  ;; Makes room for $size bytes behind the reply so far.
  (func $reserve_reply (param $size i64) (local $need i64)
    (local.set $need
      (call $pages_for (i64.add (global.get $reply_size) (local.get $size))))
    (if (i64.gt_u (local.get $need) (memory.size $reply))
      (then (call $grown (memory.grow $reply
        (call $growth (memory.size $reply) (local.get $need)))))))

  (func $append_reply (param $src ptr) (param $size ptr)
    (call $reserve_reply (i64.of_ptr (local.get $size)))
    (memory.copy $reply $heap
      (global.get $reply_size) (local.get $src) (local.get $size))
    (global.set $reply_size
      (i64.add (global.get $reply_size) (i64.of_ptr (local.get $size)))))

  (ic0 msg_reply_data_append (local $total i64)
    (if (call $is_answered)
      (then (call $violate_plainly @"ic0.msg_reply_data_append: the call is already replied.")))
    (local.set $total (i64.add (global.get $reply_size) (i64.of_ptr (local.get $size))))
    (if (i64.gt_u (local.get $total) (global.get $reply_size_max))
      (then (call $violate
        @"ic0.msg_reply_data_append: application payload size ({}) cannot be larger than {}."
        (local.get $total) (global.get $reply_size_max) (i64.const 0))))
    (call $read_heap @"msg.reply" (local.get $src) (local.get $size))
    (call $append_reply (local.get $src) (local.get $size)))

  (ic0 msg_reply
    (if (call $is_answered)
      (then (call $violate_plainly @"ic0.msg_reply: the call is already replied")))
    (global.set $answer (i32.const 1)))

  ;; The message of a reject stands in the reply's place.
  (ic0 msg_reject
    (if (call $is_answered)
      (then (call $violate_plainly @"ic0.msg_reject: the call is already replied")))
    (if (i64.gt_u (i64.of_ptr (local.get $size)) (global.get $reply_size_max))
      (then (call $violate
        @"ic0.msg_reject: application payload size ({}) cannot be larger than {}."
        (i64.of_ptr (local.get $size)) (global.get $reply_size_max) (i64.const 0))))
    (call $read_heap @"ic0.msg_reject" (local.get $src) (local.get $size))
    (if (i32.eqz
          (call $is_utf8 (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size))))
      (then (call $violate_plainly @"ic0.msg_reject: invalid UTF-8 string provided")))
    (global.set $reply_size (i64.const 0))
    (call $append_reply (local.get $src) (local.get $size))
    (global.set $answer (i32.const 2)))

  ;; ---- The canister and its subnet ---------------------------------------------------------------

  (ic0 canister_self_size (ptr.of_i64 (env self_size)))
  (ic0 canister_self_copy
    (call $copy_out @"ic0.canister_self_copy heap" @"ic0.canister_self_copy id"
      (env self_at) (env self_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  (ic0 subnet_self_size (ptr.of_i64 (env subnet_size)))
  (ic0 subnet_self_copy
    (call $copy_out @"ic0.subnet_self_copy heap" @"ic0.subnet_self_copy id"
      (env subnet_at) (env subnet_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  (ic0 subnet_self_node_count (i32.wrap_i64 (env node_count)))
  (ic0 canister_status (i32.wrap_i64 (env status)))
  (ic0 canister_version (env version))

  ;; Controllers are (address, size), two i64 each.
  (ic0 is_controller (local $at i64) (local $end i64)
    (call $read_heap @"ic0.is_controller" (local.get $src) (local.get $size))
    (if (i64.gt_u (i64.of_ptr (local.get $size)) (i64.const 29))
      (then (call $refuse_principal)))
    (local.set $at (env controllers_at))
    (local.set $end
      (i64.add (local.get $at) (i64.shl (env controller_count) (i64.const 4))))
    (loop $next
      (if (i64.ge_u (local.get $at) (local.get $end)) (then (return (i32.const 0))))
      (if (i64.eq
            (i64.load $environment offset=8 (local.get $at)) (i64.of_ptr (local.get $size)))
        (then
          (if (call $equals
                (local.get $src)
                (i64.load $environment (local.get $at))
                (i64.of_ptr (local.get $size)))
            (then (return (i32.const 1))))))
      (local.set $at (i64.add (local.get $at) (i64.const 16)))
      (br $next))
    (unreachable))

  (ic0 in_replicated_execution
    (i32.eqz (in NRQ TQ CQ CRy CRt CC F)))

  (ic0 root_key_size (ptr.of_i64 (env root_key_size)))
  (ic0 root_key_copy
    (call $copy_out @"ic0.root_key_copy heap" @"ic0.root_key_copy bytes"
      (env root_key_at) (env root_key_size)
      (local.get $dst) (local.get $offset) (local.get $size)))

  ;; Variables are (address, size) of the name and of the value, four i64 each, sorted by name.
  (func $variable (param $index i64) (result i64)
    (if (i64.ge_u (local.get $index) (env variable_count))
      (then (call $stop_with (global.get $PLAIN)
        @"Environment variable index {} is out of bounds. The number of environment variables is {}."
        (local.get $index) (env variable_count) (i64.const 0))))
    (i64.add (env variables_at) (i64.shl (local.get $index) (i64.const 5))))

  ;; The variable of a name, or 0; the texts are the replica's for what a name must not be.
  (func $named
    (param $large i64) (param $large_size i64)
    (param $heap_text i64) (param $heap_text_size i64)
    (param $invalid i64) (param $invalid_size i64)
    (param $src ptr) (param $size ptr) (result i64)
    (local $at i64) (local $end i64)
    (if (i64.gt_u (i64.of_ptr (local.get $size)) (i64.const 100))
      (then (call $violate_plainly (local.get $large) (local.get $large_size))))
    (call $read_heap (local.get $heap_text) (local.get $heap_text_size)
      (local.get $src) (local.get $size))
    (if (i32.eqz
          (call $is_utf8 (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size))))
      (then (call $violate_plainly (local.get $invalid) (local.get $invalid_size))))
    (local.set $at (env variables_at))
    (local.set $end (i64.add (local.get $at) (i64.shl (env variable_count) (i64.const 5))))
    (loop $next
      (if (i64.ge_u (local.get $at) (local.get $end)) (then (return (i64.const 0))))
      (if (i64.eq
            (i64.load $environment offset=8 (local.get $at)) (i64.of_ptr (local.get $size)))
        (then
          (if (call $equals
                (local.get $src)
                (i64.load $environment (local.get $at))
                (i64.of_ptr (local.get $size)))
            (then (return (local.get $at))))))
      (local.set $at (i64.add (local.get $at) (i64.const 32)))
      (br $next))
    (unreachable))

  (func $refuse_variable (param $src ptr) (param $size ptr)
    (call $say @"Environment variable {said} not found.")
    (call $say_heap (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size)))
    (call $stop (global.get $PLAIN)))

  (ic0 env_var_count (ptr.of_i64 (env variable_count)))
  (ic0 env_var_name_size
    (ptr.of_i64
      (i64.load $environment offset=8 (call $variable (i64.of_ptr (local.get $index))))))
  (ic0 env_var_name_copy (local $found i64)
    (local.set $found (call $variable (i64.of_ptr (local.get $index))))
    (call $copy_out @"ic0.env_var_name_copy heap" @"ic0.env_var_name_copy name"
      (i64.load $environment (local.get $found))
      (i64.load $environment offset=8 (local.get $found))
      (local.get $dst) (local.get $offset) (local.get $size)))

  (ic0 env_var_name_exists
    (i64.ne
      (i64.const 0)
      (call $named
        @"ic0.env_var_name_exists: Variable name is too large."
        @"ic0.env_var_name_exists heap"
        @"ic0.env_var_name_exists: Variable name is not a valid UTF-8 string."
        (local.get $name_src) (local.get $name_size))))

  (ic0 env_var_value_size (local $found i64)
    (local.set $found
      (call $named
        @"ic0.env_var_value_size: Variable name is too large."
        @"ic0.env_var_value_size heap"
        @"ic0.env_var_value_size: Variable name is not a valid UTF-8 string."
        (local.get $name_src) (local.get $name_size)))
    (if (i64.eqz (local.get $found))
      (then (call $refuse_variable (local.get $name_src) (local.get $name_size))))
    (ptr.of_i64 (i64.load $environment offset=24 (local.get $found))))

  (ic0 env_var_value_copy (local $found i64)
    (local.set $found
      (call $named
        @"ic0.env_var_value_copy: Variable name is too large."
        @"ic0.env_var_value_copy name"
        @"ic0.env_var_value_copy: Variable name is not a valid UTF-8 string."
        (local.get $name_src) (local.get $name_size)))
    (if (i64.eqz (local.get $found))
      (then (call $refuse_variable (local.get $name_src) (local.get $name_size))))
    (call $copy_out @"ic0.env_var_value_copy heap" @"ic0.env_var_value_copy value"
      (i64.load $environment offset=16 (local.get $found))
      (i64.load $environment offset=24 (local.get $found))
      (local.get $dst) (local.get $offset) (local.get $size)))

  ;; ---- Prints, traps, clocks, counters ---------------------------------------------------------

  ;; What logging $size bytes costs: all of them up to the log's capacity are kept, those for which
  ;; the message has room left are sent.
  (func $logging_cost (param $size i64) (result i64) (local $kept i64) (local $sent i64)
    (local.set $kept (local.get $size))
    (if (i64.gt_u (local.get $kept) (global.get $log_capacity))
      (then (local.set $kept (global.get $log_capacity))))
    (local.set $sent (local.get $size))
    (if (i64.gt_u (local.get $sent) (global.get $log_remaining))
      (then (local.set $sent (global.get $log_remaining))))
    (global.set $log_remaining (i64.sub (global.get $log_remaining) (local.get $sent)))
    (i64.add
      (i64.mul (local.get $kept) (global.get $cost_logged_byte))
      (i64.mul (local.get $sent) (global.get $cost_transmitted_byte))))

  (func $is_in_heap (param $src i64) (param $size i64) (result i32)
    (i32.and
      (i64.le_u (local.get $size) (call $heap_bytes))
      (i64.le_u (local.get $src) (i64.sub (call $heap_bytes) (local.get $size)))))

  ;; How much of a print of $size bytes is kept, or -1: 1 MiB of all prints of a message, each with
  ;; its length.
  (func $print_room (param $size i64) (result i64) (local $room i64)
    (local.set $room (i64.sub (i64.const 0xffffc) (global.get $debug_size)))
    (if (i64.lt_s (local.get $room) (i64.const 0)) (then (return (i64.const -1))))
    (select (local.get $size) (local.get $room)
      (i64.lt_u (local.get $size) (local.get $room))))

  ;; Prints are kept for the driver one after the other, each behind its length, four bytes.
  (func $begin_print (param $size i64) (result i64) (local $end i64) (local $need i64)
    (local.set $end
      (i64.add (i64.add (global.get $debug_size) (local.get $size)) (i64.const 4)))
    (local.set $need (call $pages_for (local.get $end)))
    (if (i64.gt_u (local.get $need) (memory.size $debug))
      (then (call $grown
        (memory.grow $debug (i64.sub (local.get $need) (memory.size $debug))))))
    (i32.store $debug (global.get $debug_size) (i32.wrap_i64 (local.get $size)))
    (i64.add (global.get $debug_size) (i64.const 4))
    (global.set $debug_size (local.get $end)))

  (func $print_words (param $text i64) (param $size i64)
    (local.set $size (call $print_room (local.get $size)))
    (if (i64.lt_s (local.get $size) (i64.const 0)) (then (return)))
    (memory.copy $debug $words
      (call $begin_print (local.get $size)) (local.get $text) (local.get $size)))

  ;; It never traps.
  (ic0 debug_print (local $kept i64)
    (if (i32.eqz
          (call $is_in_heap (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size))))
      (then
        (call $print_words @"(debug_print message out of memory bounds)")
        (return)))
    (call $mark_heap
      (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size)) (i32.const 0))
    (local.set $kept (call $print_room (i64.of_ptr (local.get $size))))
    (if (i64.lt_s (local.get $kept) (i64.const 0)) (then (return)))
    (memory.copy $debug $heap
      (call $begin_print (local.get $kept)) (local.get $src) (ptr.of_i64 (local.get $kept))))

  ;; No more than 32 KiB are kept.
  (ic0 trap (local $kept i64)
    (local.set $kept (i64.of_ptr (local.get $size)))
    (if (i64.gt_u (local.get $kept) (i64.const 32768))
      (then (local.set $kept (i64.const 32768))))
    (if (i32.eqz (call $is_in_heap (i64.of_ptr (local.get $src)) (local.get $kept)))
      (then
        (call $say @"(trap message out of memory bounds)")
        (call $stop (global.get $CALLED))))
    (call $say @"")
    (call $mark_heap (i64.of_ptr (local.get $src)) (local.get $kept) (i32.const 0))
    (memory.copy $text $heap
      (i64.const 0) (local.get $src) (ptr.of_i64 (local.get $kept)))
    (global.set $text_size (local.get $kept))
    (call $stop (global.get $CALLED)))

  (ic0 time (env time_ns))

  (ic0 global_timer_set (local $old i64)
    (local.set $old (out timer_ns))
    (out.set timer_ns (local.get $timestamp))
    (out.set is_timer_set (i64.const 1))
    (local.get $old))

  ;; Instructions that the execution has used so far. In the driver's own builds a counter type whose low byte is 0x53 is a
  ;; border of a phase instead, and costs nothing.
  (ic0.later performance_counter (local $used i64)
    (if (i32.and
          (global.get $has_borders)
          (i32.eq (i32.and (local.get $counter_type) (i32.const 0xff)) (i32.const 0x53)))
      (then
        (global.set $counter (i64.add (global.get $counter) (global.get $cost_border)))
        (global.set $extra_2023 (i64.sub (global.get $extra_2023) (global.get $border_extra_2023)))
        (global.set $extra_flat (i64.sub (global.get $extra_flat) (global.get $border_extra_flat)))
        (call $push_border (i32.shr_u (local.get $counter_type) (i32.const 8)))
        (return (i64.const 0))))
    (call $charge (global.get $cost_performance_counter))
    (if (i32.gt_u (local.get $counter_type) (i32.const 1))
      (then (call $violate @"Error getting performance counter type {}"
        (i64.extend_i32_u (local.get $counter_type)) (i64.const 0) (i64.const 0))))
    (local.set $used
      (i64.add
        (i64.sub (out counter_from) (global.get $counter))
        (call $heap_charge)))
    (if (local.get $counter_type)
      (then (local.set $used (i64.add (local.get $used) (env instructions_before)))))
    (local.get $used))

  ;; ---- Certified data ----------------------------------------------------------------------------

  (ic0 certified_data_set
    (if (i64.gt_u (i64.of_ptr (local.get $size)) (i64.const 32))
      (then (call $violate
        @"ic0_certified_data_set failed because the passed data must be no larger than 32 bytes. Found {} bytes."
        (i64.of_ptr (local.get $size)) (i64.const 0) (i64.const 0))))
    (if (i32.eqz
          (call $is_in_heap (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size))))
      (then (call $violate
        @"ic0_certified_data_set failed because src + size is out of bounds. Found src = {} and size = {} while src + size must be <= {}"
        (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size)) (call $heap_bytes))))
    (call $mark_heap
      (i64.of_ptr (local.get $src)) (i64.of_ptr (local.get $size)) (i32.const 0))
    (memory.copy $outcome $heap (i64.const 512) (local.get $src) (local.get $size))
    (out.set certified_size (i64.of_ptr (local.get $size)))
    (out.set is_certified (i64.const 1)))

  (ic0 data_certificate_present
    (i32.and
      (i32.ne (in NRQ CQ) (i32.const 0))
      (i32.wrap_i64 (env has_certificate))))

  (ic0 data_certificate_size
    (if (i64.eqz (env has_certificate))
      (then (call $refuse_context @"ic0_data_certificate_size")))
    (ptr.of_i64 (env certificate_size)))

  (ic0 data_certificate_copy
    (if (i64.eqz (env has_certificate))
      (then (call $refuse_context @"ic0_data_certificate_copy")))
    (if (i32.or
          (i64.gt_u (i64.of_ptr (local.get $size)) (env certificate_size))
          (i64.gt_u
            (i64.of_ptr (local.get $offset))
            (i64.sub (env certificate_size) (i64.of_ptr (local.get $size)))))
      (then (call $violate
        @"ic0_data_certificate_copy failed because offset + size is out of bounds. Found offset = {} and size = {} while offset + size must be <= {}"
        (i64.of_ptr (local.get $offset)) (i64.of_ptr (local.get $size)) (env certificate_size))))
    (if (i32.eqz
          (call $is_in_heap (i64.of_ptr (local.get $dst)) (i64.of_ptr (local.get $size))))
      (then (call $violate
        @"ic0_data_certificate_copy failed because dst + size is out of bounds. Found dst = {} and size = {} while dst + size must be <= {}"
        (i64.of_ptr (local.get $dst)) (i64.of_ptr (local.get $size)) (call $heap_bytes))))
    (call $mark_heap
      (i64.of_ptr (local.get $dst)) (i64.of_ptr (local.get $size)) (i32.const WRITTEN))
    (memory.copy $heap $environment
      (local.get $dst)
      (i64.add (env certificate_at) (i64.of_ptr (local.get $offset)))
      (local.get $size)))

  ;; ---- For the driver: calls -------------------------------------------------------------------

  ;; Begins an execution: makes room for an argument of $size bytes, which the driver then writes.
  (func (export "begin_call") (param $size i64) (param $bit i32) (local $need i64)
    (local.set $need (call $pages_for (local.get $size)))
    (if (i64.gt_u (local.get $need) (memory.size $argument))
      (then (call $grown
        (memory.grow $argument (i64.sub (local.get $need) (memory.size $argument))))))
    (global.set $argument_size (local.get $size))
    (global.set $reply_size (i64.const 0))
    (global.set $text_size (i64.const 0))
    (global.set $answer (i32.const 0))
    (global.set $context (local.get $bit))
    (global.set $reply_size_max
      (select
        (global.get $reply_max_of_query)
        (select (global.get $reply_max_of_other) (global.get $reply_max_of_any)
          (i32.ne (local.get $bit) (i32.const ANY_CONTEXT_BIT)))
        (in NRQ TQ CQ)))
    (memory.fill $outcome (i64.const 0) (i32.const 0) (i64.const OUTCOME_BYTES))
    (out.set balance_low (env balance_low))
    (out.set balance_high (env balance_high))
    (out.set available_low (env available_low))
    (out.set available_high (env available_high))
    (out.set timer_ns (env timer_ns))
    (out.set prints_from (global.get $debug_size))
    (out.set counter_from (global.get $counter))
    (out.set calls_end (i64.const 1024)))

  ;; Grows the memory of the environment, so that it holds $size bytes.
  (func (export "reserve_environment") (param $size i64) (local $need i64)
    (local.set $need (call $pages_for (local.get $size)))
    (if (i64.gt_u (local.get $need) (memory.size $environment))
      (then (call $grown
        (memory.grow $environment
          (i64.sub (local.get $need) (memory.size $environment)))))))
