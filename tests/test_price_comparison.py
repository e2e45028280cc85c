"""A trace under many price lists at once, held against bills worked out one by one."""

import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sqlstable.analysis.pricing.price_comparison import (
    compare_prices,
    sensitivity,
    shares,
    times,
)
from sqlstable.errors import SettingsError, TraceError
from sqlstable.ic.charged import Charged
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.ic.pricing import Spent, spent
from sqlstable.report.price_json import (
    price_comparison_csv,
    price_comparison_json,
    price_lists_json,
    sensitivity_json,
)
from sqlstable.report.price_lists import render_price_lists
from sqlstable.report.price_table import render_price_comparison, render_sensitivity
from sqlstable.trace.model import Instructions, Sample, SampleGroup, TraceSettings
from tests.trace_by_hand import MESSAGES, STATEMENTS

COMPUTED = {"replica-flat": 1_000, "replica-2023": 3_000, "replica": 2_000}
FIRST = Charged(COMPUTED, 2, 8_192, 1, 3, 2, 1, 4, 2, 5)
SECOND = Charged(COMPUTED, 1, 4_096, 0, 0, 1, 0, 3, 1, 1)
UNITS = {0: FIRST, 1: SECOND, 2: SECOND, 3: FIRST}


def trace_of(units=UNITS, **settings):
    """A trace of one installation, a query of two statements, an upgrade and a trap."""
    whole = {0: FIRST, 1: SECOND, 2: None, 3: FIRST}
    return SimpleNamespace(
        settings=TraceSettings({"engine": "wasm", "price_regime": "memory-tracker", **settings}),
        messages=[replace(it, charged=whole[it.index]) for it in MESSAGES],
        statements=[replace(it, charged=units.get(it.index)) for it in STATEMENTS],
    )


def test_the_total_of_each_list_is_the_sum_of_its_bills():
    found = compare_prices(trace_of())
    assert [it.name for it in found.lists] == [*PRICE_REGIMES]
    assert found.lists[found.today].name == "memory-tracker"
    for regime, total in zip(found.lists, found.total.spent, strict=True):
        bills = [spent(units, regime) for units in (FIRST, SECOND, FIRST)]
        assert total.total == sum(bill.total for bill in bills)
        assert total.heap == sum(bill.heap for bill in bills)
        assert total.stable == sum(bill.stable for bill in bills)
    # By hand: 3 * 2000; 5 calls * 20 + 20 480 B + 2 growths * 100 + 7 regions * 80 000;
    # (4 + 3 + 4 + 2 + 1 + 2) regions * 80 000.
    assert found.total.spent[found.today] == Spent(6_000, 580_780, 1_280_000)
    assert found.total.count == 4
    assert not found.rows


def test_rows_are_messages_or_statements_or_their_shapes():
    by_message = compare_prices(trace_of(), by="message")
    assert [(row.index, row.name) for row in by_message.rows] == [
        (0, "install"), (1, "all owners"), (2, "upgrade"), (3, "load")
    ]  # fmt: skip
    assert by_message.rows[2].spent == (Spent(0, 0, 0),) * len(PRICE_REGIMES)
    by_statement = compare_prices(trace_of(), by="statement")
    assert [row.index for row in by_statement.rows] == [0, 1, 2, 3]
    by_shape = compare_prices(trace_of(), by="shape")
    assert [row.count for row in by_shape.rows] == [1, 2, 1]
    for place in range(len(PRICE_REGIMES)):
        assert by_shape.rows[1].spent[place].total == sum(
            row.spent[place].total for row in by_statement.rows[1:3]
        )


def test_what_is_assumed_of_queries_holds_for_queries_alone():
    plain = compare_prices(trace_of()).total
    kept = compare_prices(trace_of(), assume={"query-write-charges": "no"}).total
    # The query wrote no region of stable memory, and one of the heap.
    assert plain.spent[-1].heap - kept.spent[-1].heap == 80_000
    assert plain.spent[-1].stable == kept.spent[-1].stable
    assert plain.spent[3] == kept.spent[3]


def test_a_heap_with_64_bit_addresses_pays_as_such():
    narrow, wide = (compare_prices(trace_of(heap_address_bits=bits)).total for bits in (32, 64))
    place = [*PRICE_REGIMES].index("wasm-native")
    assert wide.spent[place].heap == 4 * narrow.spent[place].heap
    assert wide.spent[-1] == narrow.spent[-1]


def test_what_nobody_counted_is_not_made_up():
    stable_alone = {at: Charged(None, *([1] * 6)) for at in range(4)}
    trace = trace_of(stable_alone, engine="native", price_regime=None)
    trace.messages = [replace(it, charged=stable_alone[it.index]) for it in trace.messages]
    found = compare_prices(trace, by="statement")
    for row in (*found.rows, found.total):
        for regime, bill in zip(found.lists, row.spent, strict=True):
            assert bill.computation is bill.total is None
            assert bill.heap == (None if regime.charges_heap else 0)
    # 20 + 1 + 100 + 2 * 80 000 for each of four messages
    assert found.total.spent[-1].stable == 4 * 160_121
    text = render_price_comparison(found)
    assert "the native engine knows stable memory's part alone" in text


def test_a_trace_without_units_is_refused():
    trace = trace_of()
    trace.messages = list(MESSAGES)
    with pytest.raises(TraceError, match="no counts of what price lists charge for"):
        compare_prices(trace)
    with pytest.raises(TraceError, match="no counts of what price lists charge for"):
        compare_prices(trace_of({}), by="shape")
    with pytest.raises(SettingsError, match="and not by 'owner'"):
        compare_prices(trace_of(), by="owner")


@pytest.mark.parametrize("by", ["trace", "message", "statement", "shape"])
def test_table_csv_and_json_say_the_same(by):
    found = compare_prices(trace_of(), by=by)
    document = json.loads(price_comparison_json(found))
    rows = [*csv.DictReader(price_comparison_csv(found))]
    assert len(rows) == (len(found.rows) + 1) * len(PRICE_REGIMES)
    for row in rows[-len(PRICE_REGIMES) :]:
        whole = document["total"]["instructions"][row["prices"]]
        assert whole["total"] == int(row["instructions_total"])
        assert whole["times_today"] == float(row["times_today"])
    for width in (40, 100, 200):
        text = render_price_comparison(found, width=width)
        assert max(map(len, text.splitlines())) <= width
    assert "1,866,780" in text
    assert "stable-write-charges twice" in text


# 6 regions dirty or written … by hand, of 1 866 780 in all: stable writes once spare 2 * 80 000;
# queries without writes 1 * 80 000; calls at nothing 5 * 20.
def test_sensitivity_changes_one_assumption_at_a_time_and_finds_the_extremes():
    found = sensitivity(trace_of(), PRICE_REGIMES["memory-tracker"])
    assert found.default.total == 1_866_780
    moved = {
        (name, value): it.spent.total - 1_866_780
        for it in found.single
        for name, value in it.assumptions.items()
    }
    assert moved == {
        ("stable-write-charges", "once"): -160_000,
        ("query-write-charges", "no"): -80_000,
        ("wasm64-heap-factor", "4"): 0,
        ("stable-call-charge", "0"): -100,
    }
    assert found.least.spent.total == 1_866_780 - 160_000 - 80_000 - 100
    assert found.most.assumptions == {}
    assert found.most.spent == found.default
    document = json.loads(sensitivity_json(found))
    assert document["least"]["instructions"]["total"] == 1_626_680
    for width in (40, 100):
        text = render_sensitivity(found, width=width)
        assert max(map(len, text.splitlines())) <= width
    assert "-8.6%" in text


def beside(*messages):
    """Return a trace of both engines; of each message its block, and its units if measured."""
    trace = trace_of(engine="both", measure="2")
    first = trace.messages[1]
    trace.messages = [
        replace(
            first,
            index=at,
            instructions=Instructions(4, 1, 2, 1, measured=units is not None),
            charged=units or Charged(None, *([1] * 6)),
            sample=Sample(SampleGroup("query", "warm", "discarded", shape, 0, block)),
        )
        for at, (shape, block, units) in enumerate(messages)
    ]
    return trace


def test_sensitivity_of_a_sample_has_each_measured_message_for_what_it_stands_for():
    """By hand: two of FIRST for three messages, one of SECOND for three in two blocks."""
    sampled = beside(
        *[("a", 0, FIRST), ("a", 0, FIRST), ("a", 0, None)],
        *[("b", 0, SECOND), ("b", 0, None), ("b", 1, None), ("c", 0, None)],
    )
    whole = beside(*[("a", 0, FIRST)] * 3, *[("b", 0, SECOND)] * 3)
    regime = PRICE_REGIMES["memory-tracker"]
    expected, found = sensitivity(whole, regime), sensitivity(sampled, regime)
    assert found.default.total is not None
    assert found.default == expected.default
    assert (found.single, found.least, found.most) == (
        *(expected.single, expected.least, expected.most),
    )
    assert (found.message_count, found.measured_count, found.left_out_count) == (7, 3, 1)
    document = json.loads(sensitivity_json(found))
    assert (document["messages"], document["messages_measured"]) == (7, 3)
    text = " ".join(render_sensitivity(found).split())
    assert "≈ all numbers are estimated from 3 of 7 messages" in text
    assert "without 1 that none of them stands for" in text
    assert "≈" not in render_sensitivity(expected)


def test_no_ratio_stands_beside_a_total_that_is_not_known():
    found = compare_prices(beside(("a", 0, FIRST), ("a", 0, None)), by="message")
    assert all(it.total is None for it in found.total.spent)
    text = render_price_comparison(found, width=200)
    for name in PRICE_REGIMES:
        [line] = [it for it in text.splitlines() if it.startswith(f"{name} ")]
        assert line.split()[-2:] == ["-", "-"]
    [row] = [it for it in text.splitlines() if it.startswith("1 all owners")]
    assert row.split()[3:] == ["-"] * len(PRICE_REGIMES)
    for it in json.loads(price_comparison_json(found))["total"]["instructions"].values():
        assert it["times_today"] is None


def test_a_list_that_assumes_nothing_says_so():
    found = sensitivity(trace_of(), PRICE_REGIMES["wasm-native-flat"])
    assert found.single == ()
    assert found.least.spent == found.most.spent == found.default
    assert "assumes nothing" in render_sensitivity(found)


def test_shares_and_multiples_know_what_they_do_not_know():
    assert shares(Spent(1, 1, 2)) == {"computation": 0.25, "stable": 0.25, "heap": 0.5}
    assert shares(Spent(None, 1, 2))["stable"] is None
    assert times(Spent(None, 3, None), Spent(None, 2, None)) is None
    assert times(Spent(0, 3, 0), Spent(None, 2, 0)) is None
    assert times(Spent(0, 3, 0), Spent(0, 2, 0)) == 1.5
    assert times(Spent(0, 1, 0), Spent(0, 0, 0)) is None


@pytest.mark.parametrize("width", [40, 100, 160])
def test_the_lists_fit_any_terminal(width):
    text = render_price_lists([*PRICE_REGIMES.values()], width=width, weights=True)
    assert max(map(len, text.splitlines())) <= width
    assert all(name in text for name in PRICE_REGIMES)


def test_the_lists_as_json_hold_what_they_charge():
    document = json.loads(price_lists_json((*PRICE_REGIMES.values(),), weights=True))
    assert [it["name"] for it in document["prices"]] == [*PRICE_REGIMES]
    today = document["prices"][-1]
    assert today["costs"]["stable_region_accessed"] == today["heap"]["heap_region_written"]
    # One SQLite page of 4 KiB in an untouched region: 5 + 20 + 4096 + 80 000.
    assert today["examples"][0]["instructions"] == 84_121
    assert today["until"] is None
    assert document["prices"][0]["since"] is None
    assert {it["name"]: it for it in document["weights"]}["replica"]["operators"]["call"] == 5


@pytest.mark.parametrize("width", [40, 50, 70, 100])
def test_what_is_assumed_breaks_in_no_word(width):
    text = render_sensitivity(sensitivity(trace_of(), PRICE_REGIMES["wasm-native"]), width=width)
    assert max(map(len, text.splitlines())) <= width
    first = [line.split("  ")[0] for line in text.splitlines()]
    assert any(it.endswith("whole-region") for it in first)
    assert not any(it.endswith("-uni") for it in first)
    assert "-0.0%" not in text
    assert "+0.0%" not in text
