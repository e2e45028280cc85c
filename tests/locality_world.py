"""Traces with accesses, for views and pictures of where they are and how local."""

from functools import cache

import numpy as np

from sqlstable import Canister
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.ic.words import READ, WRITE
from tests.hand_built import HandBuiltTrace, message, statement, use
from tests.hostile_texts import HOSTILE_NAME

HOSTILE_NAMES = (
    HOSTILE_NAME,
    "_a$b_{x}^2$ \\$ \\frac{1}{0} %s {0} [bold]",
    "漢字\u0300 \x00\r\n ☺\ufe0f",
    "x" * 5_000,
)
"""Names that would do harm to markup, to mathematics, to a terminal, or to a layout."""

SHOP = (
    "CREATE TABLE sale (id INTEGER PRIMARY KEY, customer INTEGER, note TEXT)",
    """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
    INSERT INTO sale SELECT i, i * 7919 % 500, 'note of ' || i FROM n""",
    "SELECT count(*) FROM sale WHERE customer = 42",
    "CREATE INDEX sale_customer ON sale (customer)",
    "SELECT count(*) FROM sale WHERE customer = 42",
    "UPDATE sale SET note = 'none' WHERE id % 100 = 3",
)


@cache
def shop_trace():
    """Return the trace of a table, a scan, an index, and updates of every hundredth row."""
    return _recorded(SHOP)


@cache
def hostile_trace():
    """Return a trace whose tables have hostile names."""
    quoted = ['"' + name.replace('"', '""').replace("\x00", "") + '"' for name in HOSTILE_NAMES]
    return _recorded([f"CREATE TABLE {name} (a)" for name in quoted])


def _recorded(sql):
    canister = Canister(trace=":memory:", cache_size=10)
    for each in sql:
        (canister.query if each.startswith("SELECT") else canister.update)(each)
    canister.close()
    return canister.trace()


def one_access():
    """Return a trace of one statement that reads one OS page."""
    return _by_hand([READ], [7 * OS_PAGE_BYTES])


@cache
def million_accesses():
    """Return a trace of one statement with a million accesses to 20 000 OS pages."""
    random = np.random.default_rng(7)
    places = np.minimum(random.zipf(1.2, 1_000_000), 20_000) * 13 % 20_000
    return _by_hand(random.integers(READ, WRITE + 1, len(places)), places * OS_PAGE_BYTES)


def _by_hand(kinds, addresses):
    addresses = np.array(addresses, np.int64)
    made = Accesses(
        np.array(kinds, np.int8),
        addresses,
        np.full(len(addresses), 100, np.int64),
        np.array(addresses - 0, np.int64),
    )
    return HandBuiltTrace(
        messages=(message(0, "update", (0,), use(len(addresses)), image_bytes=1 << 27),),
        statements=(statement(0, 0, "SELECT 1", len(addresses)),),
        accesses_by_statement=(made,),
    )
