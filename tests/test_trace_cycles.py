"""Cycles of a whole trace: what SQLite adds up is what messages cost one by one."""

import pytest

from sqlstable import Canister
from sqlstable.analysis.fitting.circumstances import trace_regime
from sqlstable.analysis.pricing.message_cycles import message_cycles
from sqlstable.analysis.pricing.trace_cycles import stable_part, trace_cycles
from sqlstable.ic.charged import Charged, Payloads
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.pricing import spent
from sqlstable.ic.words import MESSAGE_KINDS
from sqlstable.report.as_json import document
from sqlstable.report.as_table import render_table
from sqlstable.report.html.summary_words import summary_words
from sqlstable.trace.fees import trace_fees
from sqlstable.trace.model import Instructions, ModuleCall, TraceSettings
from tests import hand_built
from tests.hand_built import HandBuiltTrace, summed_kind, use

FEES = CycleFees()

CALL = ModuleCall("añadir", "añadir(1)", "reply", 7, "()", 0)


def one(index, kind, **changes):
    values = {
        "instructions": Instructions(10 + index, 5 + index, 3, 2),
        "payloads": Payloads(100 + index, 20, 2, 30),
        "charged": Charged({}, stable_accesses=2, stable_bytes=9, stable_regions_dirty=1),
        "call": CALL,
        **changes,
    }
    return hand_built.message(index, kind, (), use(1), **values)


def kinds_of(messages):
    return [summed_kind(kind, [it for it in messages if it.kind == kind]) for kind in MESSAGE_KINDS]


@pytest.mark.parametrize("is_64", [False, True])
@pytest.mark.parametrize("kind", MESSAGE_KINDS)
def test_each_kind_costs_together_what_its_messages_cost(kind, is_64):
    messages = [one(0, kind), one(1, kind, continues=0), one(2, kind, call=None)]
    fees = CycleFees(is_64=is_64)
    single = [message_cycles(it, fees) for it in messages]
    found = trace_cycles(kinds_of(messages), fees)
    assert found.total == sum(it.total for it in single)
    assert (found.nodes, found.heap_address_bits) == (13, 64 if is_64 else 32)
    assert (found.base, found.execution) == (
        sum(it.base for it in single),
        sum(it.execution for it in single),
    )
    assert (found.ingress, found.calls) == (
        sum(it.ingress for it in single),
        sum(it.calls for it in single),
    )


def test_a_snapshot_that_ran_no_code_is_paid_for_by_its_bytes():
    messages = [one(it, "load_snapshot", instructions=None, image_bytes=70) for it in range(2)]
    found = trace_cycles(kinds_of(messages), CycleFees())
    assert found.execution == sum(message_cycles(it, CycleFees()).execution for it in messages)
    assert found.execution == 2 * (2_000_000_000 + 70)


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (32, "on a subnet of 13 nodes; queries are free"),
        (64, "on a subnet of 13 nodes, at the double price of 64-bit memory; queries are free"),
    ],
)
def test_where_cycles_stand_it_is_said_of_which_subnet_and_memory(bits, words):
    trace = HandBuiltTrace(TraceSettings({"heap_address_bits": bits}), [one(0, "update")])
    [tile] = [it for it in summary_words(trace).tiles if it.label == "cycles"]
    assert tile.note == words
    line = " ".join(render_table(trace, by="message").split())
    assert words.partition(";")[0] in line
    assert document(trace)["totals"]["cycle_parts"]["heap_address_bits"] == bits


def test_what_is_not_known_is_not_in_the_total():
    unknown = trace_cycles(kinds_of([one(0, "update"), one(1, "update", payloads=None)]), FEES)
    assert (unknown.total, unknown.unknown_arrivals) == (None, 1)
    # Two messages, 21 instructions, one known to arrive with 100 B and a name of 7, 2 calls.
    assert unknown.known == 2 * 5_000_000 + 21 + 1_200_000 + 107 * 2_000 + 2 * 260_000 + 30_000
    uncounted = trace_cycles(
        kinds_of([one(0, "update"), one(1, "update", instructions=None)]), FEES
    )
    assert (uncounted.total, uncounted.known, uncounted.execution) == (None, None, None)
    free = trace_cycles(kinds_of([one(0, "query", instructions=None, payloads=None)]), FEES)
    assert (free.total, free.paid_count) == (0, 0)


@pytest.mark.parametrize("regime", PRICE_REGIMES.values(), ids=lambda it: it.name)
def test_stable_memorys_part_is_that_of_all_messages(regime):
    messages = [one(0, "update"), one(1, "query"), one(2, "update")]
    each = [spent(it.charged, regime.for_message(it.kind)).stable for it in messages]
    assert stable_part(kinds_of(messages), regime) == sum(each)
    assert stable_part(kinds_of([one(0, "update", charged=None)]), regime) is None


def test_a_recorded_trace_adds_up():
    with Canister(engine="wasm", trace=":memory:") as canister:
        canister.update("CREATE TABLE t (a)")
        canister.update("INSERT INTO t VALUES (1)")
        canister.query("SELECT * FROM t")
        with canister.trace() as trace:
            fees, regime = trace_fees(trace.settings), trace_regime(trace.settings)
            single = [message_cycles(it, fees).total for it in trace.messages]
            assert trace_cycles(trace.summary.kinds, fees).total == sum(single)
            assert stable_part(trace.summary.kinds, regime) == trace.summary.instructions.stable


def test_a_heap_with_64_bit_addresses_is_known_by_its_trace():
    assert trace_fees(TraceSettings({"heap_address_bits": 64})) == CycleFees(is_64=True)
    assert trace_fees(TraceSettings({})) == CycleFees()
