"""A month's bill: worked by hand under each price list, and added up in other ways."""

import csv
import io
import json
import re
import shlex
from dataclasses import replace
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlstable import Canister
from sqlstable.analysis.pricing.frequency import UNITS, Frequency, Wish, read_wish
from sqlstable.analysis.pricing.month_bill import PARTS, BillTerms, bill
from sqlstable.errors import SettingsError
from sqlstable.ic.cycle_fees import CycleFees
from sqlstable.ic.idle_burn import Allocations, MemorySizes
from sqlstable.ic.money import xdr_rate
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.units import GIB, KIB
from sqlstable.report.bill_data import bill_document, render_bill_csv
from sqlstable.report.bill_table import render_bill
from sqlstable.trace.format.estimating import margin_of
from sqlstable.trace.model import ModuleCall, StableArea
from tests.bill_world import ADD, MIB, READ, ledger_trace
from tests.golden_files import check_golden
from tests.hand_built import HandBuiltTrace, message, use

TODAY = date(2026, 8, 18)
TRACKER = PRICE_REGIMES["memory-tracker"]
MONTH_S = 30 * 86_400


def terms(day=TODAY, *, nodes=13, **changes):
    given = BillTerms(day, CycleFees.on(day, node_count=nodes), MemorySizes(module=1_500_000))
    return replace(given, **changes)


def wishes(*texts):
    return [read_wish(it) for it in texts]


def shown(made, trace, width=100):
    return render_bill(
        made,
        rate=xdr_rate("usd"),
        storage="documented",
        settings=trace.settings.values,
        name="ledger.trace",
        width=width,
        color_system=None,
    )


# -- worked by hand --------------------------------------------------------------------------------

# An add, on average of the two in the trace:
#   system-api-2021  45,000 and 200,000: 122,500; calls 2 * 20 + 8,192; heap nothing: 130,732
#   system-api       and 2 dirty OS pages, 2,000: 132,732
#   wasm-native      50,000 and 250,000: 150,000; 8,232 + 2,000; 40 dirty heap OS pages 40,000:
#                    200,232
#   memory-tracker   150,000; 8,232 + 2 * 80,000; 35 regions of the heap at 80,000, 2,800,000:
#                    3,118,232
# Before 2024-10-30 a message costs 590,000 and 0.4 for each instruction, after it 5,000,000 and 1;
# arriving with 100 bytes 1,400,000.
BY_LIST = [
    ("system-api-2021", date(2022, 6, 1), 590_000 + Fraction(4, 10) * 130_732 + 1_400_000),
    ("system-api", date(2023, 1, 1), 590_000 + Fraction(4, 10) * 132_732 + 1_400_000),
    ("wasm-native", date(2024, 1, 1), 590_000 + Fraction(4, 10) * 200_232 + 1_400_000),
    ("wasm-native", date(2025, 1, 1), 5_000_000 + 200_232 + 1_400_000),
    ("memory-tracker", TODAY, 5_000_000 + 3_118_232 + 1_400_000),
]


@pytest.mark.parametrize(("name", "day", "expected"), BY_LIST)
def test_a_month_of_adds_under_each_price_list(name, day, expected):
    trace = ledger_trace(PRICE_REGIMES[name])
    made = bill(trace, wishes(f"{ADD}=10000/day"), terms(day))
    (line,) = made.lines
    # Each message's tenths of a cycle are dropped.
    assert 0 <= expected - line.each < 1
    assert line.total == line.each * 300_000
    # 16 MiB of stable memory, 2 of heap, the module; 127,000 cycles a GiB and second.
    assert made.standing.storage == (18 * MIB + 1_500_000) * 127_000 * MONTH_S // GIB
    assert made.total == line.total + made.standing.storage


@pytest.mark.parametrize(("name", "day", "expected"), BY_LIST)
def test_golden_bills(name, day, expected):
    trace = ledger_trace(PRICE_REGIMES[name])
    made = bill(trace, wishes(f"{ADD}=10000/day", "read=5/s", "upgrade=4/month"), terms(day))
    check_golden(f"bill_{name}_{day.year}.txt", shown(made, trace))


def test_a_bill_with_everything_in_it():
    trace = ledger_trace(TRACKER)
    conditions = terms(
        nodes=34,
        allocations=Allocations(memory_bytes=GIB, compute_percent=2),
        subnet_usage_bytes=1000 * GIB,
        growth=True,
    )
    made = bill(trace, wishes(f"{ADD}=1000/month"), conditions)
    standing = made.standing
    # Half of the adds grew stable memory by 8 MiB: 1,000 of them by 4,000 MiB.
    assert standing.grown_bytes == 4_000 * MIB
    # Below 1 GiB it is allocated already: it grows from 19.4 to 4,019 MiB, evenly.
    size = 18 * MIB + 1_500_000
    inside = Fraction(GIB - size, 4_000 * MIB)
    average = GIB * inside + Fraction(GIB + size + 4_000 * MIB, 2) * (1 - inside)
    price = Fraction(127_000 * MONTH_S * 34, 13 * GIB)
    assert standing.growth_storage == (average - GIB) * price
    assert standing.storage == CycleFees(34).memory(size_bytes=GIB, seconds=MONTH_S)
    assert standing.compute == 10_000_000 * 2 * MONTH_S * 34 // 13
    assert standing.reserved is not None
    assert standing.reserved > 5 * 10**12
    check_golden("bill_everything.txt", shown(made, trace))


def test_how_long_a_balance_lasts():
    trace = ledger_trace(TRACKER)
    plain = bill(trace, wishes(f"{ADD}=10000/day"), terms())
    limit = plain.standing.freezing_limit

    def billed(balance):
        return bill(trace, wishes(f"{ADD}=10000/day"), terms(balance=balance))

    assert plain.days_until_frozen is None
    # A month's total above the limit lasts the month; half of it 15 days.
    assert billed(limit + plain.total).days_until_frozen == 30
    assert billed(limit + plain.total / 2).days_until_frozen == 15
    assert (billed(limit).days_until_frozen, billed(0).days_until_frozen) == (0, 0)
    text = " ".join(shown(billed(5 * 10**12), trace).split())
    assert "5.000 T cycles last 52 days under this bill with storage, until frozen" in text


def test_without_a_wish_it_is_as_in_the_trace():
    trace = ledger_trace(TRACKER)
    made = bill(trace, [], terms())
    assert [(it.name, it.calls_per_month) for it in made.lines] == [
        *(("schema", 1), (ADD, 2), ("read", 1), ("upgrade", 1))
    ]
    assert made.as_in_trace
    text = shown(made, trace)
    assert f"--calls '{ADD}=10000/day'"[:40] in text
    assert "made as often as there" in " ".join(text.split())


def test_one_message_and_one_statement_can_be_named():
    trace = ledger_trace(TRACKER)
    made = bill(trace, wishes("message:1=3", "statement:2=3"), terms())
    # The two adds, apart: 50,000 and 250,000 of computation.
    assert [it.each for it in made.lines] == [9_418_232, 9_618_232]
    assert made.prepaid == 40_005_000_000


def test_what_a_call_goes_on_with_belongs_to_it():
    call = ModuleCall("pay", "pay()", "none", 0, None, 1)
    base = {"instructions": None, "image_bytes": 65_536}
    made = [message(0, "update", (), use(0), call=call, **base),
            message(1, "callback", (), use(0), continues=0, **base),
            message(2, "callback", (), use(0), continues=1, **base)]  # fmt: skip
    trace = ledger_trace(TRACKER)
    counted = [replace(it, instructions=trace.messages[1].instructions) for it in made]
    hand = HandBuiltTrace(settings=trace.settings, messages=tuple(counted))
    (line,) = bill(hand, wishes("pay=1"), terms()).lines
    assert (line.group.call_count, line.group.message_count) == (1, 3)
    # 3 * (5,000,000 + 3,018,232), and one arrival with 100 assumed bytes and a name of 3.
    assert line.total == 3 * 8_018_232 + 1_200_000 + 103 * 2_000
    assert bill(hand, wishes("message:0=1"), terms()).lines[0].total == line.total


def test_queries_cost_nothing_even_where_nobody_counted():
    trace = ledger_trace(TRACKER, is_counted=False)
    made = bill(trace, wishes("read=100/s"), terms())
    assert (made.calls_total, made.total) == (0, made.standing.storage)


# -- in other ways --------------------------------------------------------------------------------

COUNTS = st.fractions(min_value=Fraction(1, 1000), max_value=10**9, max_denominator=1000)
ASKED = st.dictionaries(
    st.sampled_from(["schema", ADD, "read", "upgrade"]),
    st.tuples(COUNTS, st.sampled_from(sorted(UNITS))),
    min_size=1,
)


@settings(max_examples=15)
@given(ASKED, st.sampled_from([13, 28, 34]), st.data())
def test_a_bill_of_two_is_the_bill_of_one_and_of_the_other(asked, nodes, data):
    trace, conditions = ledger_trace(TRACKER), terms(nodes=nodes)
    made = [Wish(name, Frequency(*often)) for name, often in asked.items()]
    cut = data.draw(st.integers(1, len(made)))
    whole, first = bill(trace, made, conditions), bill(trace, made[:cut], conditions)
    rest = bill(trace, made[cut:], conditions).calls_total if made[cut:] else 0
    assert whole.calls_total == first.calls_total + rest
    assert whole.standing == first.standing
    # Twice as often is twice as dear.
    twice = [Wish(it.name, replace(it.frequency, count=2 * it.frequency.count)) for it in made]
    assert bill(trace, twice, conditions).calls_total == 2 * whole.calls_total
    parts = sum(whole.part(name) for name in ("base", "execution", "ingress", "calls"))
    assert whole.total == parts + whole.standing.total


@settings(max_examples=25)
@given(st.integers(0, 20 * GIB), st.integers(0, 10**6), st.integers(0, 20 * GIB))
def test_growth_against_a_sum_over_many_moments(held, calls, allocated):
    trace = ledger_trace(TRACKER)
    conditions = terms(
        sizes=MemorySizes(module=held),
        allocations=Allocations(memory_bytes=allocated),
        growth=True,
    )
    standing = bill(
        trace, [Wish(ADD, Frequency(Fraction(calls + 1), "month"))], conditions
    ).standing
    moments, size = 200, standing.sizes.total
    grown = standing.grown_bytes
    billed = sum(max(size + grown * (2 * it + 1) / (2 * moments), allocated)
                 for it in range(moments)) / moments  # fmt: skip
    more = (billed - standing.billed_bytes) * 127_000 * MONTH_S / GIB
    # Where it leaves the allocation in the middle of a moment, that moment is a little off.
    assert abs(standing.growth_storage - more) <= grown / moments**2 * 127_000 * MONTH_S / GIB + 1


def test_json_and_csv_say_what_the_bill_says():
    trace = ledger_trace(TRACKER)
    made = bill(trace, wishes(f"{ADD}=10000/day", "read=5/s"), terms())
    rate = xdr_rate("eur", 1.2)
    document = bill_document(made, rate=rate, storage="documented", settings=trace.settings.values)
    assert json.loads(json.dumps(document)) == document
    assert document["cycles"]["total"] == round(made.total)
    assert document["money"] == pytest.approx(float(made.total) * 1.2 / 10**12)
    rows = list(csv.DictReader(io.StringIO("".join(render_bill_csv(made, rate=rate)))))
    assert sum(int(row["cycles"]) for row in rows) == round(made.total)
    assert sum(float(row["money_eur"]) for row in rows) == pytest.approx(document["money"])
    assert rows[0]["name"] == ADD


@pytest.mark.parametrize(
    "count", ["1", "0.00123457", "0.0000271", "0.0313131", "0.00000077", "0.0101010101"]
)
def test_all_sums_of_json_and_csv_are_those_of_their_parts(count):
    trace = ledger_trace(TRACKER)
    made = bill(trace, wishes(f"{ADD}={count}/day", f"schema={count}/day"), terms(growth=True))
    rate = xdr_rate("eur", 1.2)
    found = bill_document(made, rate=rate, storage="documented", settings=trace.settings.values)
    parts = {name: it for name, it in found["cycles"].items() if name != "total"}
    assert found["cycles"]["total"] == sum(parts.values())
    for line in found["calls"]:
        assert line["cycles"]["total"] == sum(line["cycles"][name] for name in PARTS)
    for name in PARTS:
        assert parts[name] == sum(line["cycles"][name] for line in found["calls"])
    assert abs(parts["execution"] - made.part("execution")) <= len(made.lines)
    rows = csv.DictReader(io.StringIO("".join(render_bill_csv(made, rate=rate))))
    assert sum(int(row["cycles"]) for row in rows) == found["cycles"]["total"]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(width):
    trace = ledger_trace(TRACKER)
    for asked in ([], wishes(f"{ADD}=10000/day")):
        text = shown(bill(trace, asked, terms(growth=True)), trace, width)
        assert max(map(len, text.splitlines())) <= width


# -- growth within a bucket ------------------------------------------------------------------------


def database(message, used, *, free=0, allocated=8 * MIB, memory_id=120):
    """Return the main database as a message left it."""
    unit = 64 * KIB if memory_id is None else 8 * MIB
    return StableArea(
        message, "main.db", "database", memory_id, allocated, unit, allocated, used, free
    )


def steady(*areas):
    """Return a trace in which stable memory does not grow behind its first message."""
    trace = ledger_trace(TRACKER)
    messages = [replace(it, image_bytes=8 * MIB) for it in trace.messages]
    return replace(trace, messages=tuple(messages), areas=areas)


def said_of_growth(trace, *texts):
    made = bill(trace, wishes(*texts), terms(growth=True))
    assert made.standing.grown_bytes == made.standing.growth_storage == 0
    text = " ".join(shown(made, trace).split())
    assert "0 B in the month" not in text
    return made, text


def test_growth_within_a_bucket_is_told_with_when_it_is_full():
    # From 1 MiB to 3 in two adds: 5 MiB more are 5 adds, at 2 a month 2.5 months.
    trace = steady(database(0, MIB), database(4, 3 * MIB))
    made, text = said_of_growth(trace, f"{ADD}=2/month")
    assert (made.standing.room.updates_left, made.days_until_next_bucket) == (5, 75)
    assert (
        "stable memory grows by buckets of 8.0 MiB: main.db has 5.0 MiB free before it needs the "
        "next; within its last one it grew by 2.0 MiB in 2 updates of the trace, and at that pace "
        "needs the next after 5 more, 75 days of this bill if its updates are like those"
    ) in text
    # A bill of queries alone has no pace, and a bill that asks for no growth says nothing of it.
    assert "needs the next after 5 more frozen" in said_of_growth(trace, "read=1/s")[1]
    assert "free before it needs" not in shown(bill(trace, wishes(f"{ADD}=1"), terms()), trace)


def test_the_pace_is_counted_from_where_the_last_bucket_came():
    two = database(1, 9 * MIB, allocated=16 * MIB)
    trace = steady(database(0, MIB), two, database(4, 11 * MIB, free=MIB, allocated=16 * MIB))
    room = said_of_growth(trace, f"{ADD}=1")[0].standing.room
    assert (room.grown_bytes, room.update_count, room.free_bytes) == (MIB, 1, 6 * MIB)


def test_where_nothing_grew_or_nothing_is_known_it_is_said():
    none = said_of_growth(steady(database(0, MIB), database(4, MIB)), f"{ADD}=1")[1]
    assert "and did not grow within its last one in 2 updates of the trace" in none
    plain = said_of_growth(
        steady(database(0, KIB, allocated=64 * KIB, memory_id=None)), f"{ADD}=1"
    )[1]
    assert (
        "by Wasm pages of 64.0 KiB: main.db has 63.0 KiB free before it needs the next f" in plain
    )
    assert "by whole buckets, and did not in these calls" in said_of_growth(steady(), f"{ADD}=1")[1]


# -- queries that are called as updates ------------------------------------------------------------


@pytest.mark.parametrize("regime", PRICE_REGIMES.values(), ids=lambda it: it.name)
def test_a_query_called_as_an_update_is_billed_as_the_same_update(regime):
    trace = ledger_trace(regime)
    asked = trace.messages[3]
    trace = replace(
        trace,
        messages=(*trace.messages, replace(asked, index=5, kind="update", label="made")),
    )
    made = bill(trace, wishes("read=10/day as update", "made=10/day", "read=5/s"), terms())
    called, update, free = made.lines
    assert (called.kind, called.as_update, called.total) == ("query", True, update.total)
    assert (update.as_update, free.as_update, free.total) == (False, False, 0)
    assert called.each == 5_000_000 + asked.instructions.total + 1_200_000 + 100 * 2_000
    assert bill(trace, wishes("message:3=10/day as update"), terms()).total == (
        bill(trace, wishes("read=10/day as update"), terms()).total
    )


def test_a_bill_says_which_queries_are_called_as_updates():
    trace = ledger_trace(TRACKER)
    made = bill(trace, wishes("read=10/day as update", f"{ADD}=1", "read=5/s"), terms())
    for width in (60, 80, 100):
        text = shown(made, trace, width)
        assert max(map(len, text.splitlines())) <= width
        assert [it.strip() for it in text.splitlines() if it.strip() in NAMED_KINDS] == [
            "query as update",
            "update",
            "query",
        ]
        assert "arrival from outside included: read" in " ".join(text.split())
    rate = xdr_rate("usd")
    document = bill_document(made, rate=rate, storage="documented", settings=trace.settings.values)
    assert [it["as_update"] for it in document["calls"]] == [True, False, False]
    assert any("queries called as updates" in it for it in document["assumptions"])
    rows = list(csv.DictReader(io.StringIO("".join(render_bill_csv(made, rate=rate)))))
    assert [it["as_update"] for it in rows[:4]] == ["true", "false", "false", ""]
    other = shown(bill(trace, wishes("read=5/s"), terms()), trace)
    assert "as update" not in other


NAMED_KINDS = ("query as update", "update", "query")


def test_what_is_an_update_stays_the_update_that_it_is():
    trace = ledger_trace(TRACKER)
    as_update, plain = (
        bill(trace, wishes(f"{ADD}=10/day{ending}"), terms()) for ending in (" as update", "")
    )
    assert as_update == plain


def test_how_a_call_as_an_update_is_written():
    for ending in (" as update", "  as  an update "):
        found = read_wish(f"{READ}=2/hour{ending}")
        assert found == Wish(READ, Frequency(Fraction(2), "hour"), as_update=True)
    assert read_wish("a=3 as update").frequency == Frequency(Fraction(3), "month")


# -- messages of which only some were measured -----------------------------------------------------


@pytest.fixture(scope="module")
def sampled_trace():
    with Canister(engine="both", trace=":memory:", measure="3") as canister:
        canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x)")
        for n in range(30):
            canister.update("INSERT INTO t (x) VALUES (?)", (n,), label="add")
            canister.query("SELECT x FROM t WHERE id = ?", (n,), label="read")
        with canister.trace() as trace:
            yield trace


def test_what_was_estimated_is_marked_in_the_table(sampled_trace):
    made = bill(sampled_trace, [], terms(balance=5 * 10**12))
    estimated = sum(not it.instructions.measured for it in sampled_trace.messages
                    if it.kind == "update")  # fmt: skip
    assert estimated
    text = shown(made, sampled_trace, 120)
    rows = {line.split("  ")[0]: line.count("≈") for line in text.splitlines()}
    # A query is free, whatever it does.
    marked = (rows["add"], rows["instructions"], rows["together"])
    assert marked == (3, 2, 2)
    assert (rows["read"], rows["install"], rows["arrival from outside"]) == (0, 0, 2)
    whole = " ".join(text.split())
    assert f"beware instructions of {estimated} of 62 messages billed are estimated (≈): " in whole
    bands = [it.instructions.error_band for it in sampled_trace.messages if it.kind == "update"]
    paid = [it for it in sampled_trace.summary.blocks if it.group.kind != "query"]
    share = 100 * margin_of(paid) / sum(it.instructions for it in paid)
    spread = (
        f"95 of 100 times those of one message lie within ± {100 * max(filter(None, bands)):.2g} %"
        " of what is stated, or nearer, and those of all messages of the trace that are paid for"
        f" (install, update) together within ± {share:.2g} %: "
    )
    assert spread in whole
    assert "instructions as counted or estimated in the trace" in whole
    assert "cycles last ≈ " in whole


def test_what_was_estimated_is_marked_in_data(sampled_trace):
    made, rate = bill(sampled_trace, [], terms()), xdr_rate("usd")
    settings = sampled_trace.settings.values
    found = bill_document(made, rate=rate, storage="documented", settings=settings)
    [add] = [it for it in found["calls"] if it["name"] == "add"]
    assert 0 < add["messages_estimated"] < add["messages_seen"]
    assert found["sampling"]["measured"] + found["sampling"]["estimated"] == 62
    assert found["sampling"]["margin"] > found["sampling"]["paid_margin"] > 0
    assert found["sampling"]["paid_kinds"] == ["install", "update"]
    spent = [it.instructions.total for it in sampled_trace.messages if it.kind != "query"]
    assert found["sampling"]["paid_instructions"] == sum(spent)
    assert any("are estimated (≈)" in it for it in found["assumptions"])
    rows = csv.DictReader(io.StringIO("".join(render_bill_csv(made, rate=rate))))
    marked = {row["name"]: row["messages_estimated"] for row in rows}
    assert marked["add"] == str(add["messages_estimated"])
    assert (marked["read"], marked["storage"]) == ("0", "")


def test_what_arrives_and_the_heap_are_as_where_every_message_was_measured(sampled_trace):
    """Nothing is assumed; all updates have arguments of about one size."""
    made = bill(sampled_trace, [], terms())
    known = [it for it in sampled_trace.messages if it.heap is not None]
    assert known[-1].index < sampled_trace.messages[-1].index
    assert made.standing.sizes.heap == known[-1].heap.size_bytes
    sizes = {it.payloads.request_bytes for it in known if it.label == "add"}
    [add] = [line for line in made.lines if line.name == "add"]
    low, high = (2_000 * size + 1_200_000 for size in (min(sizes), max(sizes)))
    assert low * 30 <= add.group.ingress <= high * 30
    text = " ".join(shown(made, sampled_trace, 120).split())
    assert "bytes arrive with a call" not in text
    assert f"(as message {known[-1].index}, the last measured, left it)" in text


def test_a_bill_of_what_was_counted_has_no_sign(sampled_trace):
    made = bill(sampled_trace, wishes("message:0=1"), terms())
    assert "≈" not in shown(made, sampled_trace, 120)
    settings = sampled_trace.settings.values
    found = bill_document(made, rate=xdr_rate("usd"), storage="documented", settings=settings)
    assert found["sampling"] is None


def test_other_calls_and_another_way_of_calling_are_billed_beside():
    trace = ledger_trace(TRACKER)
    for texts in (["message:1=1", "message:2=1", "read=1"], ["read=1", "message:3=2 as update"]):
        assert len(bill(trace, wishes(*texts), terms()).lines) == len(texts)


# -- what has labels, by its other names -----------------------------------------------------------


def labelled(trace, *labels):
    """Return a trace whose messages have these labels, in order."""
    messages = [replace(it, label=label) for it, label in zip(trace.messages, labels, strict=True)]
    return replace(trace, messages=tuple(messages))


def test_a_shape_names_what_has_labels():
    plain = ledger_trace(TRACKER)
    trace = labelled(plain, "make", "first", "second", "look", "new code")
    made = bill(trace, wishes(f"{ADD}=10/day"), terms())
    assert made.lines[0].name == ADD
    assert made.total == bill(plain, wishes(f"{ADD}=10/day"), terms()).total
    assert made.not_called == ("make", "look", "new code")
    # Known by one label, it is that; so is a step of the canister's life.
    for name, label in ((READ, "look"), ("upgrade", "new code")):
        (line,) = bill(trace, wishes(f"{name}=10/day"), terms()).lines
        assert (line.name, line.total) == (
            *(label, bill(trace, wishes(f"{label}=10/day"), terms()).calls_total),
        )


def test_a_method_and_a_shape_of_calls_name_what_has_labels():
    plain = ledger_trace(TRACKER)
    called = [
        replace(it, call=ModuleCall("sign", "sign()", "reply", 0, None, 0))
        if it.index in (1, 2, 3)
        else it
        for it in plain.messages
    ]
    shapes = [
        replace(it, shape="query sign" if it.index == 3 else "update sign") if it.index else it
        for it in plain.statements
    ]
    trace = labelled(
        replace(plain, messages=called, statements=tuple(shapes)), "make", "a", "b", "c", "up"
    )
    for name, count in (("sign", 3), ("update sign", 2), ("query sign", 1), ("a", 1)):
        (line,) = bill(trace, wishes(f"{name}=10/day"), terms()).lines
        assert line.group.call_count == count
    (line,) = bill(trace, wishes("query sign=10/day as update"), terms()).lines
    assert (line.as_update, line.total > 0) == (True, True)


def test_what_a_call_goes_on_with_belongs_to_it_by_every_name():
    plain = ledger_trace(TRACKER)
    behind = replace(plain.messages[1], index=5, kind="callback", continues=2, statements=())
    trace = labelled(replace(plain, messages=(*plain.messages, behind)), *("make", "a", "b"),
                     *("look", "up", None))  # fmt: skip
    of_shape = bill(trace, wishes(f"{ADD}=2/day"), terms()).lines[0]
    both = bill(trace, wishes("a=1/day", "b=1/day"), terms())
    assert of_shape.group.message_count == 3
    assert of_shape.total == both.calls_total


@pytest.mark.parametrize(
    ("one", "other"),
    [(ADD, "first"), ("first", ADD), (ADD, "message:2"), ("statement:1", ADD), (READ, "look")],
)
def test_no_call_is_billed_twice_by_its_other_names(one, other):
    trace = labelled(ledger_trace(TRACKER), "make", "first", "second", "look", "up")
    with pytest.raises(SettingsError, match=r"name the same call|is given twice"):
        bill(trace, wishes(f"{one}=1/day", f"{other}=2/day"), terms())


def test_names_that_are_shown_cut_are_taken_as_they_stand():
    trace = ledger_trace(TRACKER)
    long, other = (f"{'SELECT a, b, c, d, e, f FROM t ' * 4}WHERE {it} = ?" for it in "ab")
    shapes = [replace(trace.statements[1], shape=long), replace(trace.statements[2], shape=other)]
    trace = replace(trace, statements=(trace.statements[0], *shapes, trace.statements[3]))
    text = " ".join(shown(bill(trace, [], terms()), trace, 200).split())
    assert f"--calls '{ADD[:1]}" not in text
    with pytest.raises(SettingsError) as refused:
        bill(trace, wishes("adds=1/day"), terms())
    for name in (long, other):
        cut = next(it for it in re.split(r" \| |: |; ", str(refused.value))
                   if it.endswith("…") and name.startswith(it[:-1]))  # fmt: skip
        (line,) = bill(trace, wishes(f"{cut}=1/day"), terms()).lines
        assert line.name == name
    (line,) = bill(trace, wishes("SELECT a, … WHERE b = ?=1/day"), terms()).lines
    assert line.name == other
    with pytest.raises(SettingsError, match="'SELECT…' can be 2 names of the trace: SELECT a"):
        bill(trace, wishes("SELECT…=1/day"), terms())


def test_the_way_to_say_more_can_be_pasted():
    trace = labelled(
        ledger_trace(TRACKER), *("it's a label that is longer than forty letters",) * 5
    )
    text = " ".join(shown(bill(trace, [], terms()), trace, 200).split())
    pasted = shlex.split(text[text.index("--calls") :])[1]
    assert bill(trace, wishes(pasted), terms()).lines[0].group.call_count == 5


def test_a_refused_name_says_how_many_more_there_are():
    trace = ledger_trace(TRACKER)
    many = [replace(trace.messages[1], index=it, label=f"l{it}") for it in range(12)]
    with pytest.raises(
        SettingsError, match="l6 \\| l7 \\| and 4 more; methods and shapes are taken"
    ):
        bill(replace(trace, messages=tuple(many)), wishes("x=1"), terms())


# -- bad input ------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_what_there_is():
    with pytest.raises(SettingsError, match="called 'ad'; there are: schema \\| INSERT INTO"):
        bill(ledger_trace(TRACKER), wishes("ad=10/day"), terms())


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["message:99=1"], "no call with message 99"),
        (["statement:99=1"], "no call with statement 99"),
        (["message:x=1"], "called 'message:x'"),
        ([f"{ADD}=1", f"{ADD}=2/day"], "is given twice"),
        ([f"{ADD}=1", f" {ADD.replace(' ', '  ')}=2/day"], "is given twice"),
        ([f"{ADD}=1", f"{ADD}=2 as update"], "is given twice"),
        (["read=1 as update", "read=2/day as update"], "is given twice"),
        (["read=1", "message:3=2/day"], "^'read' and 'message:3' name the same call, which would"),
        (["statement:1=1", f"{ADD}=2/day"], f"^'statement:1' and '{re.escape(ADD)}' name the same"),
        (["message:1=1", "statement:1=2"], "^'message:1' and 'statement:1' name the same call"),
        (
            ["read=1 as update", "message:3=2 as update"],
            "^'read' and 'message:3' name the same call",
        ),
        (["raed=1/day as update"], "nothing in the trace is called 'raed'"),
        (["upgrade=1 as update"], "no upgrade is called so; leave 'as update' out"),
    ],
)
def test_a_name_that_is_none_or_not_alone_is_refused(texts, words):
    with pytest.raises(SettingsError, match=words):
        bill(ledger_trace(TRACKER), wishes(*texts), terms())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("add", "write it as NAME=10000/day"),
        ("=10/day", "write it as NAME=10000/day"),
        ("add=", "write it as NAME=10000/day"),
        ("add=ten/day", "write it as NAME=10000/day"),
        ("add=1e9/day", "write it as NAME=10000/day"),
        ("add=nan", "write it as NAME=10000/day"),
        ("add=-5/day", "less than no calls"),
        ("add=0/day", "0 calls in a day; give a number above 0"),
        ("add=10/year", "'year'; it must be one of s, minute, hour, day, month"),
        ("add=10/", "calls are counted in ''"),
        ("add=10/day as updates", "calls are counted in 'day as updates'"),
        (
            "add=10/day as call",
            "'day as call'; it must be one of .*, and behind it only 'as update'",
        ),
        ("add=as update", "write it as NAME=10000/day"),
        ("add=99999999999999999999/s", "give a number above 0"),
    ],
)
def test_a_frequency_that_is_none_is_refused(text, words):
    with pytest.raises(SettingsError, match=words):
        read_wish(text)


def test_a_trace_without_messages_or_instructions_is_refused():
    with pytest.raises(SettingsError, match="the trace is empty"):
        bill(HandBuiltTrace(), [], terms())
    native = ledger_trace(TRACKER, is_counted=False)
    with pytest.raises(SettingsError, match=r"no instructions of 'schema'.*engine=\"wasm\""):
        bill(native, [], terms())
    with pytest.raises(SettingsError, match="no instructions of 'INSERT"):
        bill(native, wishes("read=1", f"{ADD}=1"), terms())
    with pytest.raises(SettingsError, match="no instructions of 'read'"):
        bill(native, wishes("read=1 as update"), terms())


def test_a_composite_query_is_not_called_as_an_update():
    trace = ledger_trace(TRACKER)
    composite = replace(
        trace, messages=[replace(trace.messages[3], index=0, kind="composite_query")]
    )
    with pytest.raises(SettingsError, match="a composite query cannot be called so \\(IC0527\\)"):
        bill(composite, wishes("read=1 as update"), terms())


def test_a_subnet_without_room_is_refused():
    with pytest.raises(SettingsError, match="a subnet was to have"):
        bill(ledger_trace(TRACKER), [], terms(subnet_usage_bytes=2048 * GIB))


def test_a_name_with_an_equals_sign_is_read_from_the_right():
    assert read_wish(f"{READ}=2/hour") == Wish(READ, Frequency(Fraction(2), "hour"))
