"""Cycles of a whole trace: what SQLite adds up is what messages cost one by one."""

import contextlib
import sqlite3
from datetime import date

import pytest

from sqlstable import Canister, open_trace
from sqlstable.analysis.fitting.circumstances import trace_regime
from sqlstable.analysis.pricing.frequency import read_wish
from sqlstable.analysis.pricing.message_cycles import cycles_as_update, message_cycles
from sqlstable.analysis.pricing.month_bill import BillTerms, bill
from sqlstable.analysis.pricing.trace_cycles import (
    stable_part,
    trace_cycles,
    trace_cycles_as_update,
)
from sqlstable.errors import SettingsError
from sqlstable.ic.charged import Charged, Payloads
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.money import xdr_rate
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.pricing import spent
from sqlstable.ic.words import MESSAGE_KINDS
from sqlstable.report.as_json import document
from sqlstable.report.as_table import render_table
from sqlstable.report.bill_words import assumptions
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


@pytest.mark.parametrize("day", ["2022-01-01", "2024-01-01", "2026-11-01"])
def test_a_recorded_trace_adds_up(day):
    """Also where an instruction cost 0.4 cycles, and each message was rounded down."""
    with Canister(engine="wasm", trace=":memory:", limits=day, track_heap=True) as canister:
        canister.update("CREATE TABLE t (a)")
        for number in range(9):
            canister.update("INSERT INTO t VALUES (?)", (10**number,))
            canister.query("SELECT * FROM t WHERE a > ?", (number,))
        canister.upgrade()
        with canister.trace() as trace:
            fees, regime = trace_fees(trace.settings), trace_regime(trace.settings)
            kinds = trace.summary.kinds
            single = [message_cycles(it, fees).total for it in trace.messages]
            assert trace_cycles(kinds, fees).total == sum(single)
            called = [cycles_as_update(it, fees) for it in trace.messages]
            queries = [it.total for it in called if it is not None]
            assert trace_cycles_as_update(kinds, fees).total == sum(queries)
            assert stable_part(kinds, regime) == trace.summary.instructions.stable


def test_a_heap_with_64_bit_addresses_is_known_by_its_trace():
    assert trace_fees(TraceSettings({"heap_address_bits": 64})) == CycleFees(is_64=True)
    assert trace_fees(TraceSettings({})) == CycleFees()


@pytest.fixture(name="imported", scope="module")
def imported_fixture(tmp_path_factory):
    """A trace of a canister that a database was copied into."""
    folder = tmp_path_factory.mktemp("imported")
    with contextlib.closing(sqlite3.connect(folder / "shop.db")) as database:
        database.execute("CREATE TABLE item AS SELECT 1 AS id")
        database.commit()
    with Canister(engine="wasm", trace=folder / "shop.trace") as canister:
        reply = canister.import_database(folder / "shop.db")
        assert reply.cost.cycles == reply.cost.cycle_parts.base == 0
        assert reply.cost.instructions > 0
        canister.query("SELECT * FROM item")
        canister.update("INSERT INTO item VALUES (2)")
    with open_trace(folder / "shop.trace") as trace:
        yield trace


def test_loading_a_database_is_no_canisters_work_and_costs_no_cycles(imported):
    fees = trace_fees(imported.settings)
    single = [message_cycles(it, fees).total for it in imported.messages]
    assert [bool(it) for it in single] == [True, False, False, True]
    found = trace_cycles(imported.summary.kinds, fees)
    assert (found.total, found.import_count, found.paid_count) == (sum(single), 1, 2)
    frame = imported.messages_frame(library="pyarrow").to_pydict()
    assert frame["cycles"] == single
    assert frame["cycles_as_update"][1] is None
    text = " ".join(render_table(imported, by="message").split())
    assert "; loading a database is left out, no canister's work" in text
    assert "· no canister's work, so no cycles" in text
    assert document(imported)["totals"]["cycle_parts"]["import_count"] == 1
    [tile] = [it for it in summary_words(imported).tiles if it.label == "cycles"]
    assert tile.note.endswith("loading a database is left out, no canister's work")
    # Its instructions, of opening the database, are among those of all messages.
    assert imported.summary.instructions.total == sum(
        it.instructions.total for it in imported.messages
    )


def test_a_bill_leaves_out_the_loading_of_a_database_and_says_so(imported):
    made = bill(imported, [], BillTerms(date(2026, 8, 18), CycleFees()))
    assert [(it.name, it.group.call_count) for it in made.lines][:1] == [("install", 1)]
    assert made.import_count == 1
    assert made.calls_total == trace_cycles(imported.summary.kinds, CycleFees()).total
    said = assumptions(made, xdr_rate("usd"), "documented", imported.settings.values)
    assert any("loading a database is no canister's work, and left out" in it for it in said)
    for name in ("message:1", "import"):
        with pytest.raises(SettingsError, match=r"no call with message 1|is called 'import'"):
            bill(imported, [read_wish(f"{name}=1")], made.terms)


def test_a_module_that_is_installed_once_more_without_limits_is_paid_for():
    later = one(3, "install", limits=())
    assert message_cycles(later, FEES).total > 0
    assert message_cycles(one(3, "install", limits=(), call=None), FEES).total == 0
