"""Filled canisters on the wasm engine, and what they cost."""

import pytest
import wasmtime

from sqlstable import (
    Canister,
)
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm import program
from sqlstable.wasm.instance import Instance
from sqlstable.wasm.shim import INSTRUCTIONS_MAX

ROWS = [(index, f"row {index}") for index in range(300)]


@pytest.fixture(name="canister")
def canister_fixture():
    with Canister(engine="wasm") as made:
        yield made


@pytest.fixture(name="filled")
def filled_fixture(canister):
    """One with a table of 300 rows, whose heap is warm."""
    fill(canister)
    return canister


def fill(canister):
    canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    with canister.message() as message, message.transaction():
        message.executemany("INSERT INTO t VALUES (?, ?)", ROWS)


def costs(reply):
    return (reply.message.instructions, reply.message.heap, reply.message.stable)


def made(wat, regime="memory-tracker", **options):
    """An instance of a module in the text format."""
    found = program.make_program(
        bytes(wasmtime.wat2wasm(wat)),
        name="other",
        regime=PRICE_REGIMES[regime],
        watches_heap=True,
        **options,
    )
    return Instance(found, stable_wasm_pages_max=10, limits=None)


def begun(wat, regime="memory-tracker", **options):
    """An instance in an open message without limits."""
    instance = made(wat, regime, **options)
    instance.begin_message(INSTRUCTIONS_MAX, _NO_LIMIT, _NO_LIMIT)
    return instance


_NO_LIMIT = (1 << 63) - 1
