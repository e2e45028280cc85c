"""What the Internet Computer counts, by date: weights, costs of calls, pages and the heap."""

import pytest
import wasmtime

from sqlstable.errors import SettingsError
from sqlstable.ic.assumptions import ASSUMPTIONS, assumed, assumptions_of, parsed_assumptions
from sqlstable.ic.charged import Charged
from sqlstable.ic.limits import limits_at
from sqlstable.ic.prices import (
    PRICE_REGIMES,
    REPLICA,
    REPLICA_2023,
    REPLICA_FLAT,
    regime_of,
    resolve_prices,
)
from sqlstable.ic.pricing import Spent, spent
from sqlstable.ic.words import DISCARDED_KINDS, MESSAGE_KINDS
from sqlstable.wasm import shim
from sqlstable.wasm.rewrite.rewriter import RewriteOptions
from tests.witness_driver import FREE, Machine


@pytest.mark.parametrize(
    ("day", "name"),
    [
        ("2021-05-10", "system-api-2021"),
        ("2022-10-10", "system-api-2021"),
        ("2022-10-11", "system-api"),
        ("2023-06-18", "system-api"),
        ("2023-06-19", "wasm-native-flat"),
        ("2023-10-03", "wasm-native-flat"),
        ("2023-10-04", "wasm-native"),
        ("2026-05-06", "wasm-native"),
        ("2026-05-07", "memory-tracker-at-1"),
        ("2026-06-30", "memory-tracker-at-1"),
        ("2026-07-01", "memory-tracker"),
        ("2100-01-01", "memory-tracker"),
    ],
)
def test_the_prices_of_a_day_are_those_that_began_last(day, name):
    assert regime_of(limits_at(day)) is PRICE_REGIMES[name]
    assert resolve_prices(day) == resolve_prices(name) == PRICE_REGIMES[name]
    assert (str(resolve_prices(day).day), resolve_prices(name).day) == (day, None)


def test_without_limits_the_prices_are_the_newest():
    assert regime_of(None) is list(PRICE_REGIMES.values())[-1]


BILLED = Charged(
    {"replica-flat": 100_000, "replica-2023": 160_000, "replica": 150_000},
    stable_accesses=6,
    stable_bytes=24_576,
    stable_grows=1,
    stable_os_pages_dirty=5,
    stable_regions_accessed=3,
    stable_regions_dirty=2,
    heap_regions_accessed=4,
    heap_regions_written=3,
    heap_os_pages_written=7,
)
"""A message of six SQLite pages, read and written, that grows stable memory once."""

# By hand. Its calls cost 6 * 20 + 24 576 * 1 + 1 * 100 = 24 796 under every list.
BILLS = [
    # Each byte and call, and nothing else.
    ("system-api-2021", {}, Spent(100_000, 24_796, 0)),
    # 24 796 + 5 dirty OS pages * 1000
    ("system-api", {}, Spent(100_000, 29_796, 0)),
    ("wasm-native-flat", {}, Spent(100_000, 29_796, 0)),
    # Operators told apart; 7 OS pages of the heap * 1000
    ("wasm-native", {}, Spent(150_000, 29_796, 7_000)),
    # 29 796 + (3 + 2) regions * 16; 7000 + (4 + 3) * 16
    ("memory-tracker-at-1", {}, Spent(150_000, 29_876, 7_112)),
    # 24 796 + (3 + 2) * 80 000; (4 + 3) * 80 000
    ("memory-tracker", {}, Spent(150_000, 424_796, 560_000)),
    # 24 796 + 3 * 80 000
    ("memory-tracker", {"stable-write-charges": "once"}, Spent(150_000, 264_796, 560_000)),
    # 6 calls * 20 less
    ("memory-tracker", {"stable-call-charge": "0"}, Spent(150_000, 424_676, 560_000)),
    ("system-api-2021", {"stable-call-charge": "0"}, Spent(100_000, 24_676, 0)),
    # One growth * 400 more
    ("system-api", {"stable-grow-charge": "500"}, Spent(100_000, 30_196, 0)),
    # 3 Wasm pages of the heap in which something was written * 1000, or * 16 000
    ("wasm-native", {"heap-dirty-unit": "wasm-page"}, Spent(150_000, 29_796, 3_000)),
    ("wasm-native", {"heap-dirty-unit": "whole-region"}, Spent(150_000, 29_796, 48_000)),
    ("wasm-native", {"float-weights": "2023"}, Spent(160_000, 29_796, 7_000)),
]


@pytest.mark.parametrize(("name", "values", "bill"), BILLS)
def test_a_message_costs_what_was_worked_out_by_hand(name, values, bill):
    regime = assumed(PRICE_REGIMES[name], values)
    assert spent(BILLED, regime) == bill
    assert bill.total == bill.computation + bill.stable + bill.heap
    assert regime.charges_heap == (bill.heap > 0)
    assert set(values.items()) <= set(assumptions_of(regime).items())
    # What says nothing else changes nothing, and what is assumed already changes nothing again.
    assert assumed(regime, values) is regime
    defaults = {it.name: it.default for it in ASSUMPTIONS.values()}
    assert assumed(PRICE_REGIMES[name], defaults) is PRICE_REGIMES[name]


def test_every_price_list_and_every_assumption_has_a_bill():
    assert {name for name, values, _ in BILLS if not values} == {*PRICE_REGIMES}
    by_message = {"query-write-charges", "wasm64-heap-factor"}
    assert {name for _, values, _ in BILLS for name in values} | by_message == {*ASSUMPTIONS}


# A cold read of one SQLite page of 4096 B in a region that nobody touched (facts: 84 121 today).
@pytest.mark.parametrize(("name", "cost"), [("wasm-native", 4_121), ("memory-tracker", 84_121)])
def test_a_cold_sqlite_page_costs_what_was_published(name, cost):
    regime = PRICE_REGIMES[name]
    read = Charged({}, stable_accesses=1, stable_bytes=4096, stable_regions_accessed=1)
    assert regime.table.weight("call") + spent(read, regime).stable == cost


@pytest.mark.parametrize("kind", MESSAGE_KINDS)
def test_queries_pay_for_what_they_write_unless_that_is_not_assumed(kind):
    regime = PRICE_REGIMES["memory-tracker"]
    assert regime.for_message(kind) is regime
    kept = assumed(regime, {"query-write-charges": "no"}).for_message(kind)
    # By hand, without writes: 24 796 + 3 * 80 000; 4 * 80 000
    expected = (264_796, 320_000) if kind in DISCARDED_KINDS else (424_796, 560_000)
    assert (spent(BILLED, kept).stable, spent(BILLED, kept).heap) == expected


@pytest.mark.parametrize(
    ("name", "values", "heap"),
    [
        # 7 OS pages * 1000 * 4
        ("wasm-native", {}, 28_000),
        ("wasm-native", {"heap-dirty-unit": "wasm-page"}, 12_000),
        ("memory-tracker", {}, 560_000),
        # 4 * 80 000 + 3 * 80 000 * 4
        ("memory-tracker", {"wasm64-heap-factor": "4"}, 1_280_000),
        # By hand: 7000 * 4 + (4 + 3) * 16
        ("memory-tracker-at-1", {}, 28_112),
    ],
)
def test_a_heap_with_64_bit_addresses_costs_what_was_worked_out_by_hand(name, values, heap):
    regime = assumed(PRICE_REGIMES[name], values)
    assert regime.for_heap(is_64=False) is regime
    wide = regime.for_heap(is_64=True)
    assert spent(BILLED, wide).heap == heap
    assert wide.for_heap(is_64=True) == wide


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["nonsense"], "'nonsense' is not NAME=VALUE"),
        (["stable-writes=once"], "there is no assumption 'stable-writes'; there are stable-write"),
        (["stable-write-charges=three"], "it must be one of twice, once"),
        (["float-weights=2023", "float-weights=today"], "assumed twice"),
    ],
)
def test_an_assumption_that_is_not_known_is_refused_with_those_that_are(texts, words):
    with pytest.raises(SettingsError, match=words):
        parsed_assumptions(texts)


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ("tracker", "'tracker' is neither a price list nor a date; the lists are system-api-2021,"),
        ("2020-01-01", "no prices are known on 2020-01-01; the earliest date is 2021-05-10"),
        (7, "neither a price list nor a date"),
    ],
)
def test_prices_that_are_not_known_are_refused(prices, words):
    with pytest.raises(SettingsError, match=words):
        resolve_prices(prices)


def test_calls_cost_20_and_their_bytes_and_growing_100():
    for regime in PRICE_REGIMES.values():
        assert regime.stable_call_cost(accesses=2, bytes_moved=8192, grows=1) == 8332


@pytest.mark.parametrize(
    ("name", "cost"),
    [
        ("system-api", 0),
        ("wasm-native", 16_000),
        ("memory-tracker-at-1", 16_032),
        ("memory-tracker", 160_000),
    ],
)
def test_no_heap_costs_more_than_one_that_is_written_all_over(name, cost):
    assert PRICE_REGIMES[name].heap_cost_max(1) == cost
    assert PRICE_REGIMES[name].heap_cost_max(65_536) == 65_536 * cost


@pytest.mark.parametrize("table", [REPLICA, REPLICA_2023, REPLICA_FLAT], ids=lambda it: it.name)
def test_a_border_is_free_by_every_table_of_weights(table):
    spent = []
    for border in ("", f"(drop (call $mark (i32.const {shim.BORDER | 1 << 8})))"):
        machine = Machine(
            wasmtime.wat2wasm(
                '(module (import "ic0" "performance_counter" (func $mark (param i32) (result i64)))'
                f'(memory 1) (func (export "run") {border}))'
            ),
            RewriteOptions(table),
            costs=FREE,
        )
        machine.set("charge_border", table.total(shim.BORDER_OPERATORS))
        machine.begin()
        machine.call("run")
        spent.append(machine.used)
    assert spent[0] == spent[1]


def test_names_that_a_table_gives_a_weight_to_win_over_its_default():
    assert REPLICA.weight("i64.rem_u") == 10
    assert REPLICA.weight("i64.add") == REPLICA.default == 1
    assert REPLICA.total("call drop end") == 6
    assert REPLICA.key != REPLICA_2023.key
