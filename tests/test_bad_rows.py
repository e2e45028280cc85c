"""Rows of parameters that end badly leave the same on every engine."""

import pytest

from sqlstable import Canister, SqlError

ENGINES = ("native", "wasm", "both")


def raising():
    yield (1,)
    yield (2,)
    raise ValueError("no more")


ROWS = {
    "no value of SQLite": [(1,), (2,), (object(),), (3,)],
    "too large a number": [(1,), (10**30,)],
    "no Unicode": [(1,), ("\ud800",)],
    "nothing": [(1,), None, (2,)],
    "a text": [(1,), "x"],
    "a number": [(1,), 5],
    "too many": [(1,), (2, 3)],
    "a name": [(1,), {"b": 1}],
    "raising": raising,
    "refused": [(1,), (1,), (2,), (3,)],
    "refused at once, and no value behind it": [(None, 1), (object(),)],
    "the first": [(object(),), (1,)],
    "none": [],
}


def run(engine, rows):
    """Send rows; return what is there then, why they ended, and what the message cost."""
    with Canister(engine=engine, trace=":memory:", measure="all") as canister:
        canister.update("CREATE TABLE t (a INTEGER PRIMARY KEY)")
        error = None
        with canister.message("update") as message:
            try:
                message.executemany("INSERT INTO t VALUES (?)", rows() if callable(rows) else rows)
            except (SqlError, ValueError) as caught:
                error = type(caught)
            found = message.execute("SELECT a FROM t")
        sent = canister.trace().messages[-1]
    return found, error, sent.instructions, sent.payloads


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_rows_before_a_bad_one_have_run_on_every_engine(rows):
    native, wasm, both = (run(engine, rows) for engine in ENGINES)
    assert native[:2] == wasm[:2] == both[:2]
    assert (native[1] is None) == (rows == [])
    assert wasm[2:] == both[2:]


def test_of_rows_that_never_end_no_more_are_asked_for_than_were_bound():
    def rows():
        while True:
            yield (1,)

    with Canister(engine="both") as canister:
        canister.update("CREATE TABLE t (a PRIMARY KEY)")
        with canister.message("update") as message:
            with pytest.raises(SqlError, match="UNIQUE"):
                message.executemany("INSERT INTO t VALUES (?)", rows())
            assert message.execute("SELECT count(*) FROM t") == [(1,)]
