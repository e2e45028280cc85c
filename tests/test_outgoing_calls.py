"""Cycles, what things cost in them, and calls to other canisters."""

import pytest

from sqlstable.errors import Trap
from sqlstable.ic.contexts import Context
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.principals import principal_of
from sqlstable.wasm.environment import Callback, ExecutionResult
from sqlstable.wasm.packing import EnvironmentNumbers, packed
from tests.calls_world import (
    HEADER,
    INSTRUCTIONS,
    NO_LIMIT,
    code_of,
    environment_of,
    run,
    run_code,
    told,
    u64,
    u128,
)

WIDTHS = pytest.mark.parametrize("is_64", [False, True], ids=["wasm32", "wasm64"])

UPDATE = environment_of(Context.UPDATE)

CALL = """(call $call_new
  (ptr.const 2000) (ptr.const 2) (ptr.const 2000) (ptr.const 3)
  (ptr.const 1) (ptr.const 11) (ptr.const 2) (ptr.const 12))"""

PERFORM = "(if (call $call_perform) (then unreachable))"

# -- cycles ----------------------------------------------------------------------------------------

BIG = (3 << 64) + 5


@WIDTHS
def test_cycles_have_128_bits(is_64):
    environment = environment_of(
        Context.REPLY,
        cycle_balance=BIG,
        freezing_limit=(1 << 64) + 6,
        cycles_available=(2 << 64) + 1,
        cycles_refunded=(7 << 64) + 8,
    )
    data = told(
        """
        (call $canister_cycle_balance128 (ptr.const 0))
        (call $canister_liquid_cycle_balance128 (ptr.const 16))
        (call $msg_cycles_refunded128 (ptr.const 32))
        (call $msg_cycles_accept128 (i64.const 1) (i64.const -1) (ptr.const 48))
        (call $msg_cycles_available128 (ptr.const 64))
        (call $canister_cycle_balance128 (ptr.const 80))
        """,
        environment,
        is_64=is_64,
    )
    accepted = (2 << 64) - 1
    assert [u128(data, at) for at in range(0, 96, 16)] == [
        *(BIG, BIG - (1 << 64) - 6, (7 << 64) + 8),
        *(accepted, 2, BIG + accepted),
    ]


def test_more_than_there_is_is_neither_accepted_nor_burned():
    environment = environment_of(
        Context.UPDATE, cycle_balance=100, freezing_limit=30, cycles_available=50
    )
    found = run_code(
        """
        (if (i64.ne (call $msg_cycles_accept (i64.const 20)) (i64.const 20)) (then unreachable))
        (if (i64.ne (call $msg_cycles_accept (i64.const -1)) (i64.const 30)) (then unreachable))
        (if (i64.ne (call $msg_cycles_available) (i64.const 0)) (then unreachable))
        (if (i64.ne (call $canister_cycle_balance) (i64.const 150)) (then unreachable))
        (call $cycles_burn128 (i64.const 0) (i64.const 1) (i32.const 0))
        (call $cycles_burn128 (i64.const 9) (i64.const 0) (i32.const 0))
        """,
        environment,
    )
    assert (found.cycles_accepted, found.cycles_burned, found.cycle_balance) == (50, 120, 30)


def test_cycles_that_do_not_fit_trap():
    for name in ("canister_cycle_balance", "msg_cycles_available", "msg_cycles_refunded"):
        environment = environment_of(
            Context.REPLY, cycle_balance=BIG, cycles_available=BIG, cycles_refunded=BIG
        )
        found = run_code(f"(drop (call ${name}))", environment)
        assert isinstance(found, Trap)
        assert str(found) == "cycles amount exceeds 64-bit representation"


def test_only_the_minting_canister_mints():
    code = "(call $mint_cycles128 (i64.const 1) (i64.const 2) (i32.const 0))"
    found = run_code(code, environment_of(Context.UPDATE, cycle_balance=1))
    assert (found.cycles_minted, found.cycle_balance) == ((1 << 64) + 2, (1 << 64) + 3)
    other = principal_of("bkyz2-fmaaa-aaaaa-qaaaq-cai")
    refused = run_code(code, environment_of(Context.UPDATE, self_id=other))
    assert str(refused) == (
        "Canister violated contract: ic0.mint_cycles128 cannot be executed on non Cycles Minting "
        "Canister: bkyz2-fmaaa-aaaaa-qaaaq-cai != rkp4c-7iaaa-aaaaa-aaaca-cai"
    )


@WIDTHS
@pytest.mark.parametrize("node_count", [13, 34])
def test_prices_in_cycles(is_64, node_count):
    fees, reference = CycleFees(node_count, is_64), CycleFees(is_64=is_64)
    data = told(
        """
        (call $cost_call (i64.const 10) (i64.const 90) (ptr.const 0))
        (call $cost_create_canister (ptr.const 16))
        (call $cost_http_request (i64.const 100) (i64.const 2000) (ptr.const 32))
        """,
        environment_of(Context.UPDATE, node_count=node_count),
        is_64=is_64,
    )
    # The replica takes a subnet of 13 for the first, whatever the subnet.
    assert u128(data) == reference.call_sending(payload_bytes=100) + reference.response_prepayment
    assert u128(data, 16) == fees.canister_creation
    assert u128(data, 32) == fees.http_outcall(request_bytes=100, response_bytes_max=2000)


def test_published_prices():
    # dfinity/developer-docs docs/references/cycle-costs.md: an outcall with 1 KiB and 13 nodes;
    # canister creation; the two keys.
    assert CycleFees().canister_creation == 500_000_000_000
    assert CycleFees(34).canister_creation == 1_307_692_307_692
    assert CycleFees.signature(key_name="key_1") == 26_153_846_153
    assert CycleFees.signature(key_name="test_key_1") == 10_000_000_000
    base = CycleFees().http_outcall(request_bytes=0, response_bytes_max=0)
    assert base == 49_140_000


@pytest.mark.parametrize(
    ("scheme", "number", "key", "expected"),
    [
        ("sign_with_ecdsa", 0, b"key_1", 0),
        ("sign_with_ecdsa", 1, b"key_1", 2),
        ("sign_with_ecdsa", 2, b"key_1", 1),
        ("sign_with_schnorr", 1, b"test_key_1", 0),
        ("sign_with_schnorr", 2, b"key_1", 1),
        ("vetkd_derive_key", 0, b"other", 2),
    ],
)
def test_the_price_of_a_signature_depends_on_its_key(scheme, number, key, expected):
    data = told(
        f"""
        (call $msg_arg_data_copy (i32.const 50) (i32.const 0) (i32.const {len(key)}))
        (i32.store (i32.const 16)
          (call $cost_{scheme}
            (i32.const 50) (i32.const {len(key)}) (i32.const {number}) (i32.const 0)))""",
        UPDATE,
        key,
    )
    price = CycleFees.signature(key_name=key.decode()) if expected == 0 else 0
    assert (data[16], u128(data)) == (expected, price)


@WIDTHS
def test_the_price_of_an_outcall_by_its_usage(is_64):
    # Worked out in the replica's own tests: 38,482,600 + 13 * 650,002 + 27,415,557.
    usage = {
        "request_bytes": 100,
        "http_roundtrip_time_ms": 2000,
        "raw_response_bytes": 1000,
        "transformed_response_bytes": 2000,
        "transform_instructions": 26,
    }
    numbers = EnvironmentNumbers._make(
        memoryview(packed(UPDATE, is_64=False)[: 8 * len(EnvironmentNumbers._fields)]).cast("Q")
    )
    fields = sorted(usage, key=lambda name: getattr(numbers, name))
    encoded = HEADER + b"".join(usage[name].to_bytes(8, "little") for name in fields)
    code = f"""
        (call $msg_arg_data_copy (ptr.const 4000) (ptr.const 0) (ptr.const {len(encoded)}))
        (call $cost_http_request_v2 (ptr.const 4000) (ptr.const %d) (ptr.const 0))"""
    data = told(code % len(encoded), UPDATE, encoded, is_64=is_64)
    assert u128(data) == 38_482_600 + 13 * 650_002 + 27_415_557
    refused = run_code(code % (len(encoded) - 1), UPDATE, encoded, is_64=is_64)
    assert "cost_http_request_v2 of another encoding" in str(refused)


# -- calls -----------------------------------------------------------------------------------------


@WIDTHS
def test_a_call_is_put_together(is_64):
    found = run_code(
        f"""
        {CALL}
        (call $call_data_append (ptr.const 2001) (ptr.const 2))
        (call $call_on_cleanup (ptr.const 3) (ptr.const -1))
        (call $call_data_append (ptr.const 2000) (ptr.const 3))
        (call $call_cycles_add128 (i64.const 1) (i64.const 2))
        (call $call_cycles_add128 (i64.const 0) (i64.const -1))
        (call $call_with_best_effort_response (i32.const -1))
        {PERFORM} {CALL} {PERFORM}
        """,
        environment_of(Context.UPDATE, cycle_balance=BIG),
        is_64=is_64,
    )
    first, second = found.calls
    fees = CycleFees(is_64=is_64)
    assert (first.callee, first.method, first.argument) == (b"ke", "key", b"eykey")
    assert (first.on_reply, first.on_reject) == (Callback(1, 11), Callback(2, 12))
    assert first.on_cleanup == Callback(3, (1 << (64 if is_64 else 32)) - 1)
    assert (first.cycles, first.timeout_s) == ((2 << 64) + 1, 300)
    assert first.fee == fees.call_sending(payload_bytes=8)
    assert first.prepayment == fees.response_prepayment
    assert (second.argument, second.cycles, second.timeout_s) == (b"", 0, None)
    assert second.on_cleanup is None
    spent = sum(call.cycles + call.fee + call.prepayment for call in found.calls)
    assert found.cycle_balance == BIG - spent


def test_a_call_that_is_not_performed_gives_its_cycles_back():
    adding = f"{CALL} (call $call_cycles_add128 (i64.const 0) (i64.const 1000))"
    found = run_code(adding, environment_of(Context.UPDATE, cycle_balance=5000))
    assert (found.calls, found.cycle_balance) == ((), 4000)
    found = run_code(f"{adding} {CALL}", environment_of(Context.UPDATE, cycle_balance=5000))
    assert found.cycle_balance == 5000


@pytest.mark.parametrize("missing", [0, 1])
def test_a_call_needs_its_price_above_the_freezing_limit(missing):
    fees = CycleFees()
    price = fees.call_sending(payload_bytes=3) + fees.response_prepayment
    environment = environment_of(
        Context.UPDATE, freezing_limit=777, cycle_balance=777 + 9 + price - missing
    )
    found = run_code(
        f"""
        {CALL} (call $call_cycles_add (i64.const 9))
        (i32.store (i32.const 0) (call $call_perform)) (call $tell)""",
        environment,
    )
    assert found.answer.data[0] == (2 if missing else 0)
    assert len(found.calls) == 1 - missing
    assert found.cycle_balance == (environment.cycle_balance if missing else 777)


def test_more_cycles_than_there_are_cannot_be_attached():
    environment = environment_of(Context.UPDATE, cycle_balance=100, freezing_limit=50)
    assert isinstance(
        run_code(f"{CALL} (call $call_cycles_add (i64.const 50))", environment), ExecutionResult
    )
    found = run_code(f"{CALL} (call $call_cycles_add (i64.const 51))", environment)
    assert str(found) == "Canister rkp4c-7iaaa-aaaaa-aaaca-cai is out of cycles"


def test_the_queue_to_a_canister_is_full_at_its_end():
    code = f"""
        (local $left i32)
        (local.set $left (i32.const 6))
        (loop $next
          {CALL}
          (i32.store8 (local.get $left) (call $call_perform))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br_if $next (local.get $left)))
        (i32.store8 (i32.const 2000) (i32.const 0x21))
        {CALL} (i32.store8 (i32.const 0) (call $call_perform)) (call $tell)"""
    environment = environment_of(
        Context.UPDATE,
        cycle_balance=BIG,
        call_room=5,
        calls_outstanding=((b"k", 9), (b"ke", 2), (b"!", 9)),
    )
    found = run_code(code, environment)
    assert [*found.answer.data[:7]] == [0, 2, 2, 2, 0, 0, 0]
    assert [call.callee for call in found.calls] == [b"ke", b"ke", b"ke", b"!e"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "(call $call_on_cleanup (i32.const 1) (i32.const 1))" * 2,
            (
                "ic0.call_on_cleanup can be called at most once between `ic0.call_new` and "
                "`ic0.call_perform`"
            ),
        ),
        (
            "(call $call_with_best_effort_response (i32.const 1))" * 2,
            "ic0_call_with_best_effort_response failed because a timeout is already set.",
        ),
        (
            f"{PERFORM} (call $call_data_append (i32.const 0) (i32.const 0))",
            "ic0.call_data_append called when no call is under construction.",
        ),
        (
            "(call $call_data_append (i32.const 0) (i32.const 10485758))",
            (
                "Request to 7iedk-rdlmu:key has a payload size of 10485761, which exceeds the "
                "allowed limit of 10485760."
            ),
        ),
        (
            (
                "(call $call_new (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 20001) "
                "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))"
            ),
            "Size of method_name 20001 exceeds the allowed limit of 20000.",
        ),
    ],
)
def test_a_call_is_put_together_in_order(code, words):
    found = run_code(f"{CALL} {code}")
    assert str(found) == f"Canister violated contract: {words}"


@WIDTHS
def test_callbacks_are_functions_of_the_table(is_64):
    instance = code_of(
        "",
        is_64=is_64,
        functions="""
        (table 3 funcref)
        (elem (i32.const 1) $callback $other)
        (func $other)
        (func $callback (param $environment ptr)
          (i64.store (ptr.const 0) (i64.of_ptr (local.get $environment)))
          (call $msg_arg_data_copy (ptr.const 8) (ptr.const 0) (call $msg_arg_data_size))
          (call $tell))""",
    )

    def called(entry):
        instance.begin_message(INSTRUCTIONS, NO_LIMIT, NO_LIMIT)
        try:
            return instance.execute(entry, b"answer", environment_of(Context.REPLY))
        except Trap as trap:
            return str(trap)
        finally:
            instance.rollback(is_new_heap=False)

    largest = (1 << (64 if is_64 else 32)) - 1
    data = called(Callback(1, largest)).answer.data
    assert (u64(data), data[8:14]) == (largest, b"answer")
    assert called(Callback(3, 0)) == (
        "Canister requested to invoke a non-existent Wasm function 3 from table 0"
    )
    assert called(Callback(0, 0)) == (
        "Canister violated contract: unexpected null function reference"
    )
    assert called(Callback(2, 0)) == "unknown"


def test_an_execution_leaves_no_trace_in_the_next():
    instance = code_of(f"""
        (if (i32.eqz (call $msg_arg_data_size)) (then (return)))
        {CALL} {PERFORM} (call $msg_reply)
        (drop (call $global_timer_set (i64.const 5)))
        (call $certified_data_set (i32.const 0) (i32.const 1))""")
    busy, _ = run(instance, "canister_update run", UPDATE, b"1")
    assert busy.calls
    quiet, _ = run(instance, "canister_update run", UPDATE, b"")
    assert quiet == ExecutionResult(cycle_balance=UPDATE.cycle_balance)
