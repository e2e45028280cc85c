"""Cycles of single messages, kind by kind, each worked by hand."""

import csv
import io
from dataclasses import replace
from datetime import date

import pytest

from sqlstable import Canister, CanisterModule, open_trace, repriced
from sqlstable.analysis.groups import group_by_owner, group_by_shape
from sqlstable.analysis.mapped_trace import mapped_trace
from sqlstable.analysis.pricing.message_cycles import (
    message_cycles,
    statement_cycles,
)
from sqlstable.analysis.pricing.statement_prices import group_cycles
from sqlstable.analysis.totals import totals
from sqlstable.ic.charged import Payloads
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.message_fees import FREE_KINDS, MessageCycles
from sqlstable.ic.words import CALL_KIND, MESSAGE_KINDS, MODULE_ENGINE
from sqlstable.report.as_csv import render_csv
from sqlstable.report.as_table import render_table
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import HeapUse, Instructions, LimitUse, ModuleCall, TraceSettings
from tests import hand_built
from tests.hand_built import HandBuiltTrace, owner, statement, use

FEES = CycleFees()


def spent(total):
    return Instructions(total, total, 0, 0)


def message(kind, total=2_000_000, payloads=None, **changes):
    return hand_built.message(
        *(0, kind, (), use(1)), instructions=spent(total), payloads=payloads, **changes
    )


def test_an_update_from_outside():
    found = message_cycles(message("update", payloads=Payloads(100, 20)), FEES)
    # 5,000,000 + 2,000,000 + (1,200,000 + 100 * 2,000); the reply's bytes are in its instructions.
    assert found == MessageCycles(5_000_000, 2_000_000, 1_400_000, 0)
    assert found.total == 8_400_000


def test_the_name_of_a_method_arrives_as_well():
    call = ModuleCall("add_user", "add_user(1)", "reply", 7, "()", 0)
    found = message_cycles(message("update", payloads=Payloads(10, 7), call=call), FEES)
    assert found.ingress == 1_200_000 + 18 * 2_000


@pytest.mark.parametrize("kind", FREE_KINDS)
def test_what_nobody_replicates_is_free(kind):
    found = message_cycles(message(kind, payloads=Payloads(10, 7)), FEES)
    assert (found.total, found.prepaid) == (0, 0)


def test_a_replicated_query_is_paid_for_as_an_update():
    payloads = Payloads(100, 20)
    query, update = (
        message("replicated_query", payloads=payloads),
        message("update", payloads=payloads),
    )
    assert message_cycles(query, FEES) == message_cycles(update, FEES)


@pytest.mark.parametrize("kind", ["timer", "heartbeat", "low_memory"])
def test_what_the_system_calls_does_not_arrive(kind):
    payloads = Payloads(0, 0, call_count=2, call_bytes=50)
    found = message_cycles(message(kind, payloads=payloads), FEES)
    # 2 * 260,000 + 50 * 1,000.
    assert found == MessageCycles(5_000_000, 2_000_000, 0, 570_000)
    assert message_cycles(message(kind), FEES).total == 7_000_000


def test_a_callback_pays_for_the_response_and_its_cleanup_for_no_base():
    found = message_cycles(message("callback", payloads=Payloads(300, 0)), FEES)
    assert found == MessageCycles(5_000_000, 2_000_000, 0, 300_000)
    assert message_cycles(message("cleanup", payloads=Payloads(0, 0)), FEES).total == 2_000_000


def test_what_goes_on_behind_an_await_did_not_arrive():
    found = message_cycles(message("update", payloads=Payloads(100, 0), continues=0), FEES)
    assert found.total == 7_000_000


def test_an_upgrade_is_paid_for_as_one_message():
    # Its instructions hold 6,000 for each operator; a limit of 300 billion has to be there.
    upgrade = message(
        "upgrade",
        6_000 * 1_500_000 + 12_000,
        payloads=Payloads(8, 0),
        limits=(LimitUse("instructions", 9_000_012_000, 300_000_000_000),),
    )
    found = message_cycles(upgrade, FEES)
    assert found == MessageCycles(5_000_000, 9_000_012_000, 1_216_000, 0, 300_005_000_000)


def test_a_trapped_message_is_charged_for_what_ran():
    ran = message("update", payloads=Payloads(0, 0))
    trapped = replace(ran, outcome="trapped", trap="out of instructions")
    assert message_cycles(trapped, FEES) == message_cycles(ran, FEES)


def test_steps_that_run_no_code():
    load = replace(
        message("load_snapshot", payloads=Payloads(0, 0)),
        instructions=None,
        image_bytes=1_000_000,
        heap=HeapUse(0, 0, 0, 500_000),
    )
    # 5,000,000 + 2,000,000,000 + 1,500,000 + 1,200,000.
    assert message_cycles(load, FEES).total == 2_007_700_000
    gone = replace(message("uninstall", payloads=Payloads(0, 0)), instructions=None)
    assert message_cycles(gone, FEES).total == 1_200_000


def test_what_nobody_counted_is_not_known():
    native = replace(message("update"), instructions=None)
    assert message_cycles(native, FEES) == MessageCycles(5_000_000, None, None, 0)
    assert message_cycles(native, FEES).total is None
    assert message_cycles(message("update"), FEES, request_bytes=50).total == 8_300_000
    # What the trace says is believed.
    known = message("update", payloads=Payloads(100, 0))
    assert message_cycles(known, FEES, request_bytes=50).ingress == 1_400_000


@pytest.mark.parametrize("kind", MESSAGE_KINDS)
def test_every_kind_has_a_price(kind):
    found = message_cycles(message(kind, payloads=Payloads(0, 0)), FEES)
    assert found.total is not None
    assert (found.total == 0) == (kind in FREE_KINDS)


def test_statements_add_up_to_the_execution_of_their_message():
    made = [hand_built.statement(index, 0, "SELECT 1", instructions=spent(it))
            for index, it in enumerate((7, 80_000, 123_456))]  # fmt: skip
    whole = message_cycles(message("update", 203_463, payloads=Payloads(0, 0)), FEES)
    assert sum(statement_cycles(it, "update", FEES) for it in made) == whole.execution
    assert statement_cycles(made[0], "query", FEES) == 0
    assert statement_cycles(replace(made[0], instructions=None), "update", FEES) is None


# -- in frames -------------------------------------------------------------------------------------


def test_frames_have_the_cycles_of_records():
    with Canister(engine="wasm", trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a)")
        canister.query("SELECT count(*) FROM t")
        canister.upgrade()
        with canister.trace() as trace, mapped_trace(trace, settings=WIDE) as wide:
            for one, fees in ((trace, FEES), (wide, CycleFees(is_64=True))):
                of_messages = [message_cycles(it, fees).total for it in one.messages]
                assert plain(one.messages_frame())["cycles"] == of_messages
                of_statements = [
                    statement_cycles(it, one.messages[it.message].kind, fees)
                    for it in one.statements
                ]
                assert of_statements[0] == one.statements[0].instructions.total * (1 + fees.is_64)
                assert of_statements[1:] == [0]
                for frame in (one.statements_frame(), one.to_pandas()):
                    assert plain(frame)["cycles"] == of_statements


def test_frames_of_the_native_engine_have_cycles_of_what_is_free_alone():
    with Canister(trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a)")
        canister.query("SELECT count(*) FROM t")
        with canister.trace() as trace:
            kinds = [it.kind for it in trace.messages]
            assert plain(trace.messages_frame())["cycles"] == [
                0 if kind == "query" else None for kind in kinds
            ]
            assert plain(trace.to_pandas())["cycles"] == [None, 0]


WIDE = {"heap_address_bits": 64}


def plain(frame):
    """Return a frame of pandas as lists by name, None for what is missing."""
    isna = pytest.importorskip("pandas").isna
    return {
        name: [None if isna(value) else value for value in frame[name].tolist()]
        for name in frame.columns
    }


# -- statements put together -----------------------------------------------------------------------


def grouped(bits):
    """Return a trace of two updates of one shape and a query of another, which share a table."""
    made = (
        statement(0, 0, "UPDATE t SET a = 1", 2, shape="U", owners=(owner("t", 2),)),
        statement(1, 1, "UPDATE t SET a = 2", 1, shape="U", owners=(owner("t", 1),)),
        statement(2, 2, "SELECT 1", 1, shape="S", owners=(owner("t", 1), owner("i", 1))),
    )
    costs = (1_000, 500, 800)
    return HandBuiltTrace(
        settings=TraceSettings({"engine": "wasm", "heap_address_bits": bits}),
        messages=tuple(
            replace(message(kind), index=index, statements=(index,))
            for index, kind in enumerate(("update", "update", "query"))
        ),
        statements=tuple(
            replace(it, instructions=spent(cost)) for it, cost in zip(made, costs, strict=True)
        ),
    )


@pytest.mark.parametrize(("bits", "factor"), [(32, 1), (64, 2)])
def test_a_shape_and_an_owner_cost_what_their_statements_cost(bits, factor):
    trace = grouped(bits)
    price = group_cycles(trace)
    shapes = {it.shape: it.cycles for it in group_by_shape(trace.statements, price)}
    # One cycle an instruction, two with 64-bit addresses; the query is free, whatever it takes.
    assert shapes == {"U": 1_500 * factor, "S": 0}
    owners = {it.name: it.cycles for it in group_by_owner(trace.statements, price)}
    assert owners == {"t": 1_500 * factor, "i": 0}
    for by in ("shape", "owner"):
        rows = list(csv.DictReader(io.StringIO(render_csv(trace, by=by))))
        assert sorted(it["cycles"] for it in rows) == ["0", str(1_500 * factor)]
        assert f"{1_500 * factor:,}" in render_table(trace, by=by)


def test_where_nobody_counted_a_group_has_no_cycles_though_queries_are_free():
    trace = grouped(32)
    bare = replace(
        trace, statements=tuple(replace(it, instructions=None) for it in trace.statements)
    )
    price = group_cycles(bare)
    assert {it.cycles for it in group_by_shape(bare.statements, price)} == {None}
    for by in ("shape", "owner"):
        assert "cycles\n" not in render_table(bare, by=by)


def test_calls_of_a_module_cost_what_their_messages_cost():
    call = ModuleCall("add", "add(1)", "reply", 7, "()", 0)
    one = message("update", payloads=Payloads(10, 7), call=call, total=1_000)
    made = statement(0, 0, "add(1)", 1, kind=CALL_KIND, shape="update add")
    trace = HandBuiltTrace(
        settings=TraceSettings({"engine": MODULE_ENGINE}),
        messages=(replace(one, statements=(0,)),),
        statements=(replace(made, instructions=spent(1_000)),),
    )
    [group] = group_by_shape(trace.statements, group_cycles(trace))
    # 5,000,000 + 1,000 + (1,200,000 + 13 bytes at 2,000).
    assert group.cycles == 6_227_000 == message_cycles(one, FEES).total
    text = " ".join(render_table(trace, by="shape").split())
    assert "cycles of a method: of its calls, whole" in text


@pytest.mark.parametrize("engine", ["native", "wasm"])
@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"limits": "2022-01-01"},
        {"limits": "2024-01-01"},
        {"limits": "2024-01-01", "prices": "memory-tracker"},
        {"prices": "wasm-native"},
        {"limits": None},
    ],
    ids=str,
)
def test_a_reply_has_the_cycles_that_its_trace_has(engine, choices):
    with Canister(engine=engine, trace=":memory:", **choices) as canister:
        replies = [
            canister.update("CREATE TABLE t (a)"),
            canister.update("INSERT INTO t VALUES (1)"),
            canister.query("SELECT a FROM t"),
        ]
        with canister.trace() as trace:
            fees = trace_fees(trace.settings)
            found = [message_cycles(it, fees).total for it in trace.messages][-3:]
        assert [reply.cost.cycles for reply in replies] == found
        assert (found[0] is None) == (engine == "native")


@pytest.mark.parametrize("engine", ["wasm", "both", "module"])
@pytest.mark.parametrize("day", ["2022-01-01", "2024-01-01", "2024-12-01", "2026-07-15"])
def test_prices_of_a_day_are_those_in_cycles_too(engine, day, tmp_path):
    """They are the same for a run under them, and for a trace that is priced by them."""
    found = []
    for prices in (day, None):
        path = tmp_path / f"{prices}.trace"
        if engine == "module":
            with CanisterModule("@counter.wasm", (10,), prices=prices, trace=path) as it:
                it.update("add", (5,))
        else:
            with Canister(engine=engine, measure="all", prices=prices, trace=path) as canister:
                canister.update("CREATE TABLE t (a)")
        with open_trace(path) as trace, repriced(trace, day) as anew:
            found.append(totals(anew).cycles)
            assert trace_fees(anew.settings).execution(instructions=10**6) == CycleFees.on(
                date.fromisoformat(day)
            ).execution(instructions=10**6)
            if prices:
                found.append(totals(trace).cycles)
    assert found[0] is not None
    assert found == [found[0]] * 3
