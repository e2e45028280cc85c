"""A text that failed has the statements that SQLite came to, on both engines."""

from dataclasses import replace

import pytest

from sqlstable import Canister, LimitTrap, SqlError, latest_limits

SETUP = "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT); CREATE TABLE log (n)"

TEXT = """
INSERT INTO t WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 200)
  SELECT x, hex(zeroblob(100)) FROM c;;
-- A comment; with a semicolon.
SELECT a FROM t WHERE a < 4;
CREATE TRIGGER noted AFTER DELETE ON t BEGIN INSERT INTO log VALUES (old.a); SELECT ';'; END;
WITH few AS (SELECT a FROM t LIMIT 5) SELECT a FROM few;
DELETE FROM t WHERE a % 2;
UPDATE t SET b = '; ' || b
"""


def run_with(engine, pages, sql=TEXT):
    """Run the text where a message may dirty so many OS pages; return its statements."""
    limits = latest_limits()
    with Canister(engine=engine, trace=":memory:", cache_size=10) as canister:
        canister.update(SETUP)
        canister.memory.limits = replace(
            limits, update=replace(limits.update, os_pages_dirty_max=pages)
        )
        trapped = False
        try:
            canister.update(sql)
        except LimitTrap:
            trapped = True
        with canister.trace() as trace:
            last = trace.messages[-1]
            assert (last.outcome == "trapped") == trapped
            found = [trace.statements[index] for index in last.statements]
            parts = sum(each.instructions.total for each in found) if engine == "wasm" else 0
            whole = last.instructions.total if engine == "wasm" else 0
        assert parts <= whole
        seen = [
            (s.sql.rstrip("; \n"), s.kind, s.stable.os_pages_accessed, s.stable.os_pages_dirty)
            for s in found
        ]
        return trapped, seen, [s.row_count for s in found]


def use_of(stable):
    """Return what of stable memory a statement used."""
    return stable.os_pages_accessed, stable.os_pages_dirty


def test_the_statements_of_a_text_that_trapped_are_those_of_the_native_engine():
    lengths = set()
    for pages in range(1, 60, 3):
        trapped, native, native_rows = run_with("native", pages)
        assert run_with("wasm", pages)[:2] == (trapped, native)
        assert run_with("wasm", pages)[2] == native_rows
        lengths.add((len(native), trapped))
    # Some were cut off early, some late, and some not at all.
    assert len(lengths) > 2
    assert {trapped for _, trapped in lengths} == {True, False}


@pytest.mark.parametrize(("refused", "error"), [(40, SqlError), (1_000, LimitTrap)])
def test_many_rows_that_failed_are_one_statement_on_both_engines(refused, error):
    """One run is refused by SQLite, or before that by the limit on dirty OS pages."""
    sql = "INSERT INTO t (b) VALUES (hex(zeroblob(?))); INSERT INTO log VALUES (1 / ?)"
    sql += "; INSERT INTO t (a) SELECT max(a) FROM t WHERE a = ?"
    rows = [(500, 1 + number % 7, refused) for number in range(1000)]
    assert len({str(run_rows(engine, sql, rows, error)) for engine in ("native", "wasm")}) == 1


def run_rows(engine, sql, rows, error):
    """Run a text once a row; return the statements of the message, which fails."""
    limits = latest_limits()
    with Canister(engine=engine, trace=":memory:", cache_size=10) as canister:
        canister.update(SETUP)
        few = replace(limits.update, os_pages_dirty_max=30)
        canister.memory.limits = replace(limits, update=few)
        with pytest.raises(error), canister.message("update") as message:
            message.executemany(sql, rows)
        with canister.trace() as trace:
            found = [trace.statements[index] for index in trace.messages[-1].statements]
    assert len(found) == 1
    return [(s.sql, s.kind, s.row_count, s.stable.os_pages_dirty) for s in found]
