"""A replica: what calls come to, what callbacks do, and what is left when something traps."""

import pytest

from sqlstable.errors import MessageError, SettingsError
from sqlstable.ic.principals import canister_id
from sqlstable.replica.rejects import RejectCode
from tests.replica_world import (
    CERTIFY,
    COUNT_REFUND,
    COUNT_REJECT_CODE,
    REJECT,
    REPLY,
    TO_QUERY,
    TO_TREE,
    TRAP,
    UNREACHABLE,
    accept,
    add,
    burn,
    call,
    counters,
    script_module,
    scripted,
    timer,
)

A, B, C = map(canister_id, range(3))
NOBODY = canister_id(99)


def counted(reply):
    return int.from_bytes(reply[:8], "little")


# -- calls from outside ---------------------------------------------------------------------------


def test_reply_reject_and_no_answer_are_three_things():
    with scripted("a") as replica:
        replied = replica.update("a", "run", add(3) + REPLY)
        assert counted(replied.reply) == 3
        assert (replied.rejection, replied.is_pending) == (None, False)
        rejected = replica.update("a", "run", REJECT)
        assert rejected.reply is None
        assert rejected.rejection.code is RejectCode.CANISTER_REJECT
        assert (rejected.rejection.message, rejected.rejection.error_code) == ("no", "")
        silent = replica.update("a", "run", add(1))
        assert silent.reply is None
        assert silent.rejection.error_code == "IC0506"
        assert silent.rejection.message == (
            "Canister bkyz2-fmaaa-aaaaa-qaaaq-cai did not reply to the call"
        )
        # Whatever it answered, and if it did, what it did is kept.
        assert [it.is_kept for it in (*replied.executed, *rejected.executed)] == [True, True]
        assert counters(replica, "a") == (4, 4)


@pytest.mark.parametrize(
    ("script", "number", "words"),
    [
        (TRAP, "IC0503", "Canister called `ic0.trap` with message: 'oops'."),
        (UNREACHABLE, "IC0502", "Canister trapped: unreachable."),
        (REPLY + REPLY, "IC0504", "Canister violated contract: "),
    ],
    ids=["trap", "unreachable", "contract"],
)
def test_a_trap_leaves_nothing_and_is_a_reject(script, number, words):
    with scripted("a") as replica:
        replica.update("a", "run", add(5) + REPLY)
        result = replica.update("a", "run", add(7) + script)
        assert result.rejection.error_code == number
        assert f"Error from Canister bkyz2-fmaaa-aaaaa-qaaaq-cai: {words}" in (
            result.rejection.message
        )
        (executed,) = result.executed
        assert executed.trap is not None
        assert not executed.is_kept
        assert counters(replica, "a") == (5, 5)


def test_what_is_not_there_is_rejected_as_the_internet_computer_does():
    with scripted("a") as replica:
        replica.create("empty")
        missing = replica.update("a", "nothing").rejection
        assert (missing.error_code, missing.code) == ("IC0536", RejectCode.CANISTER_ERROR)
        assert "Canister has no update method 'nothing'." in missing.message
        assert "no query method 'nothing'" in replica.query("a", "nothing").rejection.message
        assert "'bad?'" in replica.update("a", "bad\udcff").rejection.message
        assert replica.update("empty", "run").rejection.error_code == "IC0537"
        nobody = replica.update(NOBODY, "run").rejection
        assert (nobody.error_code, nobody.code) == ("IC0301", RejectCode.DESTINATION_INVALID)
        with pytest.raises(SettingsError, match="there is no canister 'b'; there are: a, empty"):
            replica.update("b", "run")
        tree = replica.update("a", "tree").rejection
        assert tree.error_code == "IC0527"


@pytest.mark.parametrize("limits", ["latest", None])
def test_a_message_from_outside_has_two_mebibytes_at_most(limits):
    with scripted("a", limits=limits) as replica:
        for call_it, method in ((replica.update, "nothing"), (replica.query, "nothing")):
            rejection = call_it("a", method, bytes((2 << 20) - 6)).rejection
            assert ("the call has 2097153 bytes" in rejection.message) == (limits is not None)
            assert call_it("a", method, bytes((2 << 20) - 7)).rejection.error_code == "IC0536"


def test_a_query_leaves_nothing_replicated_or_not():
    with scripted("a") as replica:
        for result in (
            replica.query("a", "run_query", add(3) + REPLY),
            replica.update("a", "run_query", add(3) + REPLY),
        ):
            assert counted(result.reply) == 3
            (executed,) = result.executed
            assert not executed.is_kept
        assert executed.kind == "replicated_query"
        assert counters(replica, "a") == (0, 0)
        assert replica.query("a", "run").rejection.error_code == "IC0536"


# -- calls between canisters ----------------------------------------------------------------------


def test_a_callback_is_a_message_of_its_own_and_answers():
    with scripted("a", "b") as replica:
        script = add(1) + call(B, add(10) + REPLY, reply=add(100) + REPLY)
        result = replica.update("a", "run", script, label="both")
        assert counted(result.reply) == 101
        first, second, third = result.executed
        kinds = [(it.number, it.canister, it.kind, it.continues) for it in result.executed]
        assert kinds == [
            (2, "a", "update", None),
            (3, "b", "update", None),
            (4, "a", "callback", 2),
        ]
        assert first.label == "both"
        assert (second.caller, third.argument[:8]) == (A, (10).to_bytes(8, "little"))
        assert (len(first.calls), first.answer) == (1, None)
        assert counters(replica, "a") == (101, 101)
        assert counters(replica, "b") == (10, 10)
        assert replica.waiting_count == 0


@pytest.mark.parametrize(
    ("callee", "argument", "code"),
    [
        (NOBODY, b"", RejectCode.DESTINATION_INVALID),
        (B, REJECT, RejectCode.CANISTER_REJECT),
        (B, add(1) + TRAP, RejectCode.CANISTER_ERROR),
        (B, add(1), RejectCode.CANISTER_ERROR),
    ],
    ids=["nobody", "reject", "trap", "silence"],
)
def test_a_reject_comes_to_the_callback_for_it(callee, argument, code):
    with scripted("a", "b") as replica:
        script = call(callee, argument, reply=add(1000) + REPLY, reject=COUNT_REJECT_CODE + REPLY)
        result = replica.update("a", "run", script)
        assert counted(result.reply) == code
        assert result.executed[-1].kind == "callback"
        words = result.executed[-1].argument.decode()
        assert {
            3: "not found",
            4: "no",
            5: "Error from Canister" if argument.endswith(TRAP) else "No response",
        }[code] in words
        assert words.startswith("IC0503: ") == argument.endswith(TRAP)


def test_what_was_done_before_the_call_stays_when_its_callback_traps():
    with scripted("a", "b") as replica:
        script = add(1) + call(B, add(10) + REPLY, reply=add(100) + TRAP, cleanup=add(1000))
        result = replica.update("a", "run", script)
        assert result.rejection.error_code == "IC0503"
        kinds = [(it.canister, it.kind, it.trap is None) for it in result.executed]
        assert kinds == [
            ("a", "update", True),
            ("b", "update", True),
            ("a", "callback", False),
            ("a", "cleanup", True),
        ]
        assert result.executed[3].continues == result.executed[2].number
        assert counters(replica, "a") == (1001, 1001)
        assert counters(replica, "b") == (10, 10)


def test_a_cleanup_that_traps_leaves_nothing_either():
    with scripted("a", "b") as replica:
        script = add(1) + call(B, REPLY, reply=TRAP, cleanup=add(1000) + UNREACHABLE)
        result = replica.update("a", "run", script)
        assert result.rejection.error_code == "IC0503"
        assert counters(replica, "a") == (1, 1)


def test_an_answer_before_the_last_callback_is_the_answer():
    with scripted("a", "b") as replica:
        script = add(1) + REPLY + call(B, REPLY, reply=add(5)) + call(B, TRAP, reject=add(50))
        result = replica.update("a", "run", script)
        assert counted(result.reply) == 1
        # A second answer is a trap, and the first one stays.
        again = replica.update("a", "run", REPLY + call(B, REPLY, reply=add(7) + REPLY))
        assert counted(again.reply) == 56
        assert again.executed[-1].trap is not None
        assert counters(replica, "a") == (56, 56)


def test_a_trap_answers_only_where_nothing_else_is_awaited():
    with scripted("a", "b") as replica:
        script = call(B, REPLY, reply=TRAP) + call(B, REPLY, reply=add(3) + REPLY)
        assert counted(replica.update("a", "run", script).reply) == 3


def test_canisters_call_themselves_and_each_other():
    with scripted("a", "b") as replica:
        inner = add(2) + call(A, add(4) + REPLY, reply=add(8) + REPLY)
        result = replica.update("a", "run", add(1) + call(B, inner, reply=add(16) + REPLY))
        assert counted(result.reply) == 1 + 4 + 16
        own = replica.update("a", "run", call(A, add(100) + REPLY, reply=REPLY))
        assert counted(own.reply) == 121
        assert counters(replica, "b") == (10, 10)


def test_calls_without_end_are_one_clear_error():
    # The callback of each call makes the same call again: 30 levels of scripts are enough.
    with scripted("a", messages_max=20) as replica:
        script = add(1)
        for _ in range(15):
            script = add(1) + call(A, REPLY, reply=script)
        with pytest.raises(MessageError, match="20 messages have run and 1 more are to"):
            replica.update("a", "run", script)
        assert replica.update("a", "run", REPLY).reply is not None


# -- cycles ---------------------------------------------------------------------------------------


def test_cycles_that_are_not_accepted_come_back():
    with scripted("a", "b") as replica:
        a, b = replica.canister("a"), replica.canister("b")
        before = a.cycles, b.cycles
        script = call(B, accept(300) + REPLY, cycles=1000, reply=COUNT_REFUND + REPLY)
        result = replica.update("a", "run", script)
        assert counted(result.reply) == 700
        assert b.cycles == before[1] + 300
        assert a.cycles + a.cycles_paid == before[0] - 300
        assert [it.cycles.attached for it in result.executed] == [1000, 0, 0]
        assert [it.cycles.accepted for it in result.executed] == [0, 300, 0]
        assert [it.cycles.refunded for it in result.executed] == [0, 0, 700]
        assert result.executed[-1].cycles.balance == a.cycles


def test_a_trap_gives_all_cycles_back():
    with scripted("a", "b") as replica:
        a, b = replica.canister("a"), replica.canister("b")
        before = a.cycles, b.cycles
        script = call(B, accept(300) + TRAP, cycles=1000, reject=COUNT_REFUND + REPLY)
        assert counted(replica.update("a", "run", script).reply) == 1000
        assert (a.cycles + a.cycles_paid, b.cycles) == before
        assert replica.cycles_under_way == 0


def test_burned_cycles_are_gone():
    with scripted("a") as replica:
        a = replica.canister("a")
        before = a.cycles
        (executed,) = replica.update("a", "run", burn(55) + REPLY).executed
        assert (executed.cycles.burned, a.cycles) == (55, before - 55)


# -- time -----------------------------------------------------------------------------------------


def test_a_timer_runs_when_time_has_come_and_once():
    with scripted("a") as replica:
        replica.update("a", "run", timer(10) + REPLY)
        assert replica.advance(9.5) == ()
        (executed,) = replica.advance(1)
        assert (executed.kind, executed.canister) == ("timer", "a")
        assert executed.time_ns == replica.time_ns - 500_000_000
        assert replica.advance(100) == ()
        assert counters(replica, "a") == (1, 1)


def test_heartbeats_run_in_the_order_of_ids():
    with scripted("b", "a") as replica:
        assert [it.canister for it in replica.heartbeat()] == ["b", "a"]
        assert [it.canister for it in replica.heartbeat("a")] == ["a"]
        assert counters(replica, "a") == (200, 200)


def test_a_bounded_wait_ends_and_a_late_answer_brings_cycles_only():
    with scripted("a", "b") as replica:
        a = replica.canister("a")
        total = a.cycles + replica.canister("b").cycles
        script = call(B, REPLY, cycles=9, timeout_s=5, reply=add(1), reject=COUNT_REJECT_CODE)
        ticket = replica.submit("a", "run", script + add(1))
        assert replica.step()
        assert replica.waiting_count == 1
        replica._runner.time_ns += 6_000_000_000
        replica._traffic.expire()
        replica.run()
        assert replica.result(ticket).rejection.error_code == "IC0506"
        # The end of the wait is seen before the answer, with code 6.
        assert counters(replica, "a")[0] == 7
        assert replica.waiting_count == 0
        assert a.cycles + a.cycles_paid + replica.canister("b").cycles == total


def test_time_does_not_go_back():
    with scripted("a") as replica, pytest.raises(SettingsError, match="it does not go back"):
        replica.advance(-1)


# -- composite queries ----------------------------------------------------------------------------


def test_a_composite_query_calls_queries_and_keeps_nothing():
    with scripted("a", "b", "c") as replica:
        replica.update("c", "run", add(40) + REPLY)
        inner = add(2) + call(C, add(2) + REPLY, to=TO_QUERY, reply=add(3) + REPLY)
        script = add(1) + call(B, inner, to=TO_TREE, reply=add(4) + REPLY)
        result = replica.query("a", "tree", script)
        assert counted(result.reply) == 5
        kinds = [(it.canister, it.kind) for it in result.executed]
        assert kinds == [
            ("a", "composite_query"),
            ("b", "composite_query"),
            ("c", "query"),
            ("b", "composite_callback"),
            ("a", "composite_callback"),
        ]
        # Each execution is told by itself, also those of one canister.
        first, last = result.executed[0].status, result.executed[4].status
        for status, reads in ((first, 0), (last, 1)):
            assert (status.accessed_count, status.dirty_count) == (1, 1)
            assert status.log_count == 2 + 2 * reads + (not reads)
        assert result.executed[2].argument == add(2) + REPLY
        assert int.from_bytes(result.executed[3].argument[:8], "little") == 42
        assert counters(replica, "a") == (0, 0)
        assert counters(replica, "c") == (40, 40)


def test_a_composite_query_that_asks_nobody_hears_so():
    with scripted("a", "b") as replica:
        script = call(NOBODY, to=TO_QUERY, reject=COUNT_REJECT_CODE + REPLY)
        assert counted(replica.query("a", "tree", script).reply) == 3
        script = call(B, TRAP, to=TO_QUERY, reject=COUNT_REJECT_CODE + REPLY)
        assert counted(replica.query("a", "tree", script).reply) == 5
        assert replica.query("a", "tree", add(1)).rejection.error_code == "IC0506"
        # Updates cannot be called by queries.
        script = call(B, REPLY, reject=COUNT_REJECT_CODE + REPLY)
        assert counted(replica.query("a", "tree", script).reply) == 5


def test_a_callback_of_a_composite_query_that_traps_ends_it():
    with scripted("a", "b") as replica:
        script = add(1) + call(B, REPLY, to=TO_QUERY, reply=add(1) + TRAP)
        assert replica.query("a", "tree", script).rejection.error_code == "IC0503"
        assert counters(replica, "a") == (0, 0)


# -- what else ------------------------------------------------------------------------------------


def test_certified_data_and_prints_are_told():
    with scripted("a") as replica:
        (executed,) = replica.update("a", "run", add(9) + CERTIFY + REPLY).executed
        assert executed.prints == ("run",)
        assert replica.canister("a").certified_data == (9).to_bytes(8, "little")
        (trapped,) = replica.update("a", "run", add(1) + CERTIFY + TRAP).executed
        assert trapped.prints == ("run",)
        assert replica.canister("a").certified_data == (9).to_bytes(8, "little")


INSPECT = """
  (func (export "canister_inspect_message")
    (call $arg_copy (i32.const 4096) (i32.const 0) (i32.const 1))
    (if (i32.eq (i32.load8_u (i32.const 4096)) (i32.const 84)) (then unreachable))
    (call $count (i64.const 1))
    (if (i32.ne (i32.load8_u (i32.const 4096)) (i32.const 74)) (then (call $accept_message))))
"""


def test_a_message_is_inspected_first():
    with scripted("a", module=script_module(INSPECT)) as replica:
        result = replica.update("a", "run", REPLY)
        assert [it.kind for it in result.executed] == ["inspect", "update"]
        assert counted(result.reply) == 0
        refused = replica.update("a", "run", REJECT)
        assert [(it.kind, it.is_accepted) for it in refused.executed] == [("inspect", False)]
        assert refused.rejection.error_code == "IC0406"
        assert refused.rejection.message.endswith("Canister rejected the message")
        assert replica.update("a", "run", TRAP).rejection.error_code == "IC0502"
        assert counters(replica, "a") == (0, 0)
