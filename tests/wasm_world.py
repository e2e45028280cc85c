"""Filled canisters on the wasm engine, and what they cost."""

import pytest
import wasmtime

from sqlstable import (
    Canister,
)
from sqlstable.ic.prices import PRICE_REGIMES
from sqlstable.wasm import program
from sqlstable.wasm.instance import Instance

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


def made(wat):
    regime = PRICE_REGIMES["memory-tracker"]
    wasm = bytes(wasmtime.wat2wasm(wat))
    found = program.make_program(wasm, name="other", regime=regime, watches_heap=True)
    return Instance(found, stable_wasm_pages_max=10, limits=None)
