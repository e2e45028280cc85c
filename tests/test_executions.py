"""What code of a canister finds, and what an execution leaves."""

import pytest

from sqlstable.errors import ContractTrap
from sqlstable.ic.contexts import Context
from sqlstable.wasm.environment import (
    EntryExport,
    Environment,
    RejectData,
    ReplyData,
)
from sqlstable.wasm.packing import EnvironmentNumbers, packed
from tests.calls_world import (
    HEADER,
    INSTRUCTIONS,
    NO_LIMIT,
    code_of,
    environment_of,
    run_code,
    told,
    u64,
)

WIDTHS = pytest.mark.parametrize("is_64", [False, True], ids=["wasm32", "wasm64"])

UPDATE = environment_of(Context.UPDATE)

# -- the environment -------------------------------------------------------------------------------


def test_an_environment_is_packed_field_by_field():
    environment = Environment(
        Context.UPDATE,
        caller=b"a",
        self_id=b"bc",
        controllers=(b"def", b""),
        subnet_id=b"ghij",
        method_name="klmno",
        time_ns=1,
        deadline_ns=2,
        version=3,
        status=2,
        cycle_balance=(4 << 64) + 5,
        freezing_limit=(6 << 64) + 7,
        cycles_available=(8 << 64) + 9,
        cycles_refunded=(10 << 64) + 11,
        reject_code=12,
        reject_message=b"pqrstu",
        timer_ns=13,
        certificate=b"vwxyzab",
        variables=(("z", "1"), ("a", "22")),
        is_answered=True,
        call_room=14,
        calls_outstanding=((b"x", 15),),
        instructions_before=16,
        caller_info=(b"info....", b"signer..."),
        root_key=b"root......",
        node_count=26,
    )
    data = packed(environment, is_64=False)
    count = len(EnvironmentNumbers._fields)
    numbers = EnvironmentNumbers._make(memoryview(data[: 8 * count]).cast("Q"))
    expected = {
        "time_ns": 1,
        "deadline_ns": 2,
        "version": 3,
        "status": 2,
        "balance_low": 5,
        "balance_high": 4,
        "freezing_low": 7,
        "freezing_high": 6,
        "available_low": 9,
        "available_high": 8,
        "refunded_low": 11,
        "refunded_high": 10,
        "reject_code": 12,
        "timer_ns": 13,
        "is_answered": 1,
        "call_room": 14,
        "instructions_before": 16,
        "has_certificate": 1,
        "node_count": 26,
        "may_mint": 0,
        "call_base_price": 520_000,
        "creation_price": 1_000_000_000_000,
        "controller_count": 2,
        "variable_count": 2,
        "waiting_count": 1,
    }
    assert {name: getattr(numbers, name) for name in expected} == expected
    blobs = {
        "caller": b"a",
        "self": b"bc",
        "subnet": b"ghij",
        "method_name": b"klmno",
        "reject_message": b"pqrstu",
        "certificate": b"vwxyzab",
        "root_key": b"root......",
        "info": b"info....",
        "signer": b"signer...",
        "usage_header": HEADER,
    }
    for name, blob in blobs.items():
        start, size = getattr(numbers, f"{name}_at"), getattr(numbers, f"{name}_size")
        assert data[start : start + size] == blob, name
    at, size = memoryview(data[numbers.variables_at :][:16]).cast("Q")
    assert data[at : at + size] == b"a"


@WIDTHS
@pytest.mark.parametrize(
    ("call", "context", "expected"),
    [
        ("msg_arg_data", Context.UPDATE, b"argument"),
        ("msg_caller", Context.INIT, b"caller"),
        ("msg_caller_info_data", Context.QUERY, b"info"),
        ("msg_caller_info_signer", Context.QUERY, b"signer"),
        ("msg_reject_msg", Context.REJECT, b"message"),
        ("canister_self", Context.QUERY, bytes.fromhex("00000000000000040101")),
        ("subnet_self", Context.QUERY, b"subnet"),
        ("msg_method_name", Context.INSPECT, b"method"),
        ("root_key", Context.TASK, b"rootkey"),
        ("data_certificate", Context.COMPOSITE_QUERY, b"certificate"),
    ],
)
def test_bytes_are_told_in_size_and_in_parts(is_64, call, context, expected):
    environment = environment_of(context, root_key=b"rootkey")
    instance = code_of(
        f"""
        (call ${call}_copy (ptr.const 50) (ptr.const 0) (call ${call}_size))
        (call ${call}_copy (ptr.const 10) (ptr.const 1) (ptr.const 2))
        (call $debug_print (ptr.const 0) (ptr.const 100))
        """,
        is_64=is_64,
    )
    instance.begin_message(INSTRUCTIONS, NO_LIMIT, NO_LIMIT)
    found = instance.execute(EntryExport("canister_update run"), b"argument", environment)
    (printed,) = found.prints
    instance.rollback(is_new_heap=False)
    heap = printed.encode()
    if call != "canister_self":
        assert heap[50 : 50 + len(expected)] == expected
        assert heap[10:12] == expected[1:3]


def test_an_environment_may_be_large():
    message = bytes(range(256)) * 800
    environment = environment_of(Context.REJECT, reject_message=message)
    data = told(
        """
        (call $msg_reject_msg_copy (i32.const 0) (i32.const 204700) (i32.const 100))
        (if (i32.ne (call $msg_reject_msg_size) (i32.const 204800)) (then unreachable))""",
        environment,
    )
    assert data == message[204_700:]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "(call $msg_arg_data_copy (i32.const 65530) (i32.const 0) (i32.const 8))",
            "ic0.msg_arg_data_copy heap: src=65530 + length=8 exceeds the slice size=65536",
        ),
        (
            "(call $msg_arg_data_copy (i32.const 0) (i32.const 1) (i32.const 8))",
            "ic0.msg_arg_data_copy payload: src=1 + length=8 exceeds the slice size=8",
        ),
        (
            "(call $msg_caller_copy (i32.const 0) (i32.const 0) (i32.const 7))",
            "ic0.msg_caller_copy id: src=0 + length=7 exceeds the slice size=6",
        ),
        (
            "(call $canister_cycle_balance128 (i32.const 65521))",
            (
                "ic0_canister_cycle_balance128 failed because dst + size is out of bounds."
                "Found dst = 65521 and size = 16 while must be <= 65536"
            ),
        ),
        (
            "(call $certified_data_set (i32.const 0) (i32.const 33))",
            (
                "ic0_certified_data_set failed because the passed data must be no larger than 32 "
                "bytes. Found 33 bytes."
            ),
        ),
        (
            "(call $certified_data_set (i32.const 65535) (i32.const 2))",
            (
                "ic0_certified_data_set failed because src + size is out of bounds. Found src = "
                "65535 and size = 2 while src + size must be <= 65536"
            ),
        ),
        (
            "(drop (call $performance_counter (i32.const 2)))",
            "Error getting performance counter type 2",
        ),
        (
            "(call $call_on_cleanup (i32.const 0) (i32.const 0))",
            "ic0.call_on_cleanup called when no call is under construction.",
        ),
        (
            "(call $call_cycles_add128 (i64.const 0) (i64.const 0))",
            "ic0_call_cycles_add128 called when no call is under construction.",
        ),
        (
            "(drop (call $call_perform))",
            "ic0.call_perform called when no call is under construction.",
        ),
        (
            "(drop (call $env_var_name_exists (i32.const 0) (i32.const 101)))",
            "ic0.env_var_name_exists: Variable name is too large.",
        ),
    ],
)
def test_misuse_traps_with_the_words_of_the_replica(code, words):
    found = run_code(code, UPDATE, b"argument")
    assert isinstance(found, ContractTrap)
    assert str(found) == f"Canister violated contract: {words}"


def test_a_wasm64_sum_that_wraps_around_is_no_address():
    found = run_code("(call $msg_reject (i64.const -1) (i64.const 2))", UPDATE, is_64=True)
    assert str(found) == (
        "Canister violated contract: ic0.msg_reject: src=18446744073709551615 + length=2 is an "
        "invalid address"
    )


@WIDTHS
def test_environment_variables_are_sorted_by_name(is_64):
    variables = (("b", "two"), ("a", "one"), ("key", "value"))
    data = told(
        """
        (i64.store (ptr.const 0) (i64.of_ptr (call $env_var_count)))
        (call $env_var_name_copy (ptr.const 0) (ptr.const 8) (ptr.const 0) (ptr.const 1))
        (i64.store (ptr.const 16) (i64.of_ptr (call $env_var_name_size (ptr.const 2))))
        (i32.store (ptr.const 24) (call $env_var_name_exists (ptr.const 2000) (ptr.const 3)))
        (i32.store (ptr.const 28) (call $env_var_name_exists (ptr.const 2000) (ptr.const 2)))
        (call $env_var_value_copy
          (ptr.const 2000) (ptr.const 3) (ptr.const 32) (ptr.const 1)
          (ptr.sub (call $env_var_value_size (ptr.const 2000) (ptr.const 3)) (ptr.const 1)))
        """,
        environment_of(Context.UPDATE, variables=variables),
        is_64=is_64,
    )
    assert (u64(data), data[8:9], u64(data, 16)) == (3, b"a", 3)
    assert (data[24], data[28], data[32:36]) == (1, 0, b"alue")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "(drop (call $env_var_name_size (i32.const 1)))",
            (
                "Environment variable index 1 is out of bounds. The number of environment "
                "variables is 1."
            ),
        ),
        (
            "(drop (call $env_var_value_size (i32.const 2000) (i32.const 2)))",
            "Environment variable ke not found.",
        ),
    ],
)
def test_variables_that_are_not_there_trap(code, words):
    found = run_code(code, UPDATE)
    assert isinstance(found, ContractTrap)
    assert str(found) == words


@WIDTHS
def test_controllers_are_many(is_64):
    def asked(controllers):
        return told(
            "(i32.store (ptr.const 0) (call $is_controller (ptr.const 2000) (ptr.const 3)))",
            environment_of(Context.UPDATE, controllers=controllers),
            is_64=is_64,
        )[0]

    assert asked((b"a", b"key", b"kez")) == asked((b"key",)) == 1
    assert asked(()) == asked((b"ke", b"keyy", b"kez")) == 0
    found = run_code("(drop (call $is_controller (i32.const 0) (i32.const 30)))")
    assert str(found) == "Canister provided invalid principal id"


def test_numbers_are_told():
    data = told(
        """
        (i64.store (i32.const 0) (call $time))
        (i64.store (i32.const 8) (call $canister_version))
        (i32.store (i32.const 16) (call $canister_status))
        (i32.store (i32.const 20) (call $subnet_self_node_count))
        (i64.store (i32.const 24) (call $msg_deadline))
        (i32.store (i32.const 32) (call $in_replicated_execution))
        """,
        environment_of(
            Context.UPDATE, time_ns=1 << 62, version=9, status=3, node_count=34, deadline_ns=5
        ),
    )
    assert (u64(data), u64(data, 8), u64(data, 24)) == (1 << 62, 9, 5)
    assert (data[16], data[20], data[32]) == (3, 34, 1)


@pytest.mark.parametrize(
    ("context", "is_replicated"),
    [(Context.QUERY, 0), (Context.REPLICATED_QUERY, 1), (Context.COMPOSITE_REPLY, 0)],
)
def test_code_knows_whether_it_is_replicated(context, is_replicated):
    code = "(i32.store (i32.const 0) (call $in_replicated_execution))"
    assert told(code, environment_of(context))[0] == is_replicated


def test_the_second_counter_goes_on_where_earlier_executions_of_the_call_ended():
    data = told(
        """
        (i64.store (i32.const 0) (call $performance_counter (i32.const 0)))
        (i64.store (i32.const 8) (call $performance_counter (i32.const 1)))
        """,
        environment_of(Context.REPLY, instructions_before=10**12),
    )
    assert u64(data, 8) > 10**12 + u64(data) > 10**12 + 200
    assert u64(data, 8) < 10**12 + u64(data) + 300


def test_the_first_counter_begins_with_the_execution_and_not_with_its_message():
    instance = code_of("""
        (i64.store (i32.const 0) (call $performance_counter (i32.const 0)))
        (call $tell)""")
    instance.begin_message(INSTRUCTIONS, NO_LIMIT, NO_LIMIT)
    entry = EntryExport("canister_update run")
    first = instance.execute(entry, b"", UPDATE).answer.data
    instance.set_value("counter", 10_000_000)
    assert instance.execute(entry, b"", UPDATE).answer.data == first
    assert 200 < u64(first) < 300
    instance.rollback(is_new_heap=False)


# -- answers ---------------------------------------------------------------------------------------


def test_reply_reject_and_no_answer_are_three_things():
    empty = run_code("(call $msg_reply)").answer
    assert empty == ReplyData(b"")
    assert run_code("").answer is None
    assert run_code("(call $msg_reject (i32.const 2000) (i32.const 3))").answer == RejectData(
        b"key"
    )
    appended = "(call $msg_reply_data_append (i32.const 2000) (i32.const 3))"
    assert run_code(appended).answer is None
    assert run_code(f"{appended} {appended} (call $msg_reply)").answer == ReplyData(b"keykey")
    refused = f"{appended} (call $msg_reject (i32.const 2000) (i32.const 2))"
    assert run_code(refused).answer == RejectData(b"ke")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("(call $msg_reply)", "ic0.msg_reply: the call is already replied"),
        (
            "(call $msg_reject (i32.const 0) (i32.const 0))",
            "ic0.msg_reject: the call is already replied",
        ),
        (
            "(call $msg_reply_data_append (i32.const 0) (i32.const 0))",
            "ic0.msg_reply_data_append: the call is already replied.",
        ),
    ],
)
def test_a_call_is_answered_once(code, words):
    expected = f"Canister violated contract: {words}"
    assert str(run_code(f"(call $msg_reply) {code}")) == expected
    answered = environment_of(Context.REPLY, is_answered=True)
    assert str(run_code(code, answered)) == expected


@pytest.mark.parametrize(
    ("context", "size_max"),
    [
        (Context.UPDATE, 2 << 20),
        (Context.REPLICATED_QUERY, 2 << 20),
        (Context.QUERY, 3 << 20),
        (Context.COMPOSITE_QUERY, 3 << 20),
        (Context.COMPOSITE_REPLY, 2 << 20),
    ],
)
def test_a_reply_is_limited(context, size_max):
    code = f"""
        (local $left i32)
        (local.set $left (i32.const {size_max >> 16}))
        (loop $next
          (call $msg_reply_data_append (i32.const 0) (i32.const 65536))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br_if $next (local.get $left)))"""
    found = run_code(f"{code} (call $msg_reply)", environment_of(context))
    assert len(found.answer.data) == size_max
    more = "(call $msg_reply_data_append (i32.const 0) (i32.const 1))"
    assert str(run_code(code + more, environment_of(context))) == (
        "Canister violated contract: ic0.msg_reply_data_append: application payload size "
        f"({size_max + 1}) cannot be larger than {size_max}."
    )


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"plain", "äöü".encode(), "\u20ac\U0001f600".encode(), b"\xf4\x8f\xbf\xbf"),
        *(b"\x80", b"\xc0\x80", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
        *(b"a\xff", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xc3(", b"\xe2\x82(", b"\xf8"),
    ],
)
def test_a_reject_is_utf8(data):
    code = f"""
        (call $msg_arg_data_copy (i32.const 0) (i32.const 0) (i32.const {len(data)}))
        (call $msg_reject (i32.const 0) (i32.const {len(data)}))"""
    found = run_code(code, UPDATE, data)
    try:
        data.decode()
    except UnicodeDecodeError:
        assert str(found).endswith("ic0.msg_reject: invalid UTF-8 string provided")
    else:
        assert found.answer == RejectData(data)


def test_a_message_is_accepted_once():
    inspecting = environment_of(Context.INSPECT)
    assert run_code("(call $accept_message)", inspecting).is_accepted
    assert not run_code("", inspecting).is_accepted
    twice = run_code("(call $accept_message) (call $accept_message)", inspecting)
    assert str(twice).endswith("ic0.accept_message: the function was already called.")


def test_prints_never_trap_and_belong_to_their_execution():
    instance = code_of("""
        (call $debug_print (i32.const 2000) (i32.const 3))
        (call $debug_print (i32.const 65535) (i32.const 2))""")
    instance.begin_message(INSTRUCTIONS, NO_LIMIT, NO_LIMIT)
    for _ in range(2):
        found = instance.execute(EntryExport("canister_update run"), b"", UPDATE)
        assert found.prints == ("key", "(debug_print message out of memory bounds)")
    instance.rollback(is_new_heap=False)


def test_what_is_set_is_told():
    found = run_code(
        """
        (if (i64.ne (call $global_timer_set (i64.const 7)) (i64.const 3)) (then unreachable))
        (if (i64.ne (call $global_timer_set (i64.const 0)) (i64.const 7)) (then unreachable))
        (call $certified_data_set (i32.const 2000) (i32.const 3))
        """,
        environment_of(Context.UPDATE, timer_ns=3),
    )
    assert (found.timer_ns, found.certified_data) == (0, b"key")
    nothing = run_code("")
    assert (nothing.timer_ns, nothing.certified_data) == (None, None)
    emptied = run_code("(call $certified_data_set (i32.const 0) (i32.const 0))")
    assert emptied.certified_data == b""
