"""What the Internet Computer counts, by date: weights, costs of calls, pages and the heap."""

import pytest
import wasmtime

from sqlstable.ic.limits import limits_at
from sqlstable.ic.prices import PRICE_REGIMES, REPLICA, REPLICA_2023, REPLICA_FLAT, regime_of
from sqlstable.wasm import shim
from sqlstable.wasm.rewrite.rewriter import RewriteOptions
from tests.witness_driver import FREE, Machine


@pytest.mark.parametrize(
    ("day", "name"),
    [
        ("2021-05-10", "system-api"),
        ("2023-10-03", "system-api"),
        ("2023-10-04", "wasm-native"),
        ("2026-06-30", "wasm-native"),
        ("2026-07-01", "memory-tracker"),
        ("2100-01-01", "memory-tracker"),
    ],
)
def test_the_prices_of_a_day_are_those_that_began_last(day, name):
    assert regime_of(limits_at(day)) is PRICE_REGIMES[name]


def test_without_limits_the_prices_are_the_newest():
    assert regime_of(None) is list(PRICE_REGIMES.values())[-1]


# (accessed, dirty Wasm pages, dirty OS pages), and what the lists charge for them, by hand.
PAGE_BILLS = [
    ("system-api", (3, 2, 5), 5 * 1000, 0),
    ("wasm-native", (3, 2, 5), 5 * 1000, 5 * 1000),
    ("memory-tracker", (3, 2, 5), 5 * 80_000, 5 * 80_000),
]


@pytest.mark.parametrize(("name", "pages", "stable", "heap"), PAGE_BILLS)
def test_pages_cost_what_was_worked_out_by_hand(name, pages, stable, heap):
    regime = PRICE_REGIMES[name]
    accessed, dirty, os_pages = pages
    assert stable == regime.stable_page_cost(
        wasm_pages_accessed=accessed, wasm_pages_dirty=dirty, os_pages_dirty=os_pages
    )
    assert heap == regime.heap_cost(
        wasm_pages_accessed=accessed, wasm_pages_written=dirty, os_pages_written=os_pages
    )
    assert regime.charges_heap == (heap > 0)


def test_calls_cost_20_and_their_bytes_and_growing_100():
    for regime in PRICE_REGIMES.values():
        assert regime.stable_call_cost(accesses=2, bytes_moved=8192, grows=1) == 8332


@pytest.mark.parametrize(
    ("name", "cost"),
    [("system-api", 0), ("wasm-native", 16_000), ("memory-tracker", 160_000)],
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
