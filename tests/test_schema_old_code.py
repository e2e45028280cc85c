"""What is promised to the old code: its statements, tried on the new schema."""

import random

import apsw
import pytest

from sqlstable.schema.schema_check import check_schemas
from sqlstable.schema.schema_model import Schema
from tests.pair_world import PAIRS, VALUES, fill, made, pair_options, quoted, tables, value_for

PROMISED = [it for it in PAIRS if it["old_code"] == "works" and it["verdict"] != "incompatible"]
READABLE = [it for it in PAIRS if it["old_code"] == "refused" and it["verdict"] != "incompatible"]


def columns_of(connection, table):
    rows = connection.execute("SELECT * FROM pragma_table_xinfo(?)", (table,)).fetchall()
    return [(row[1], row[2]) for row in rows if row[6] == 0]


def statements_of(connection, seed):
    """Yield statements that name their columns, of which all tables of the old schema are full."""
    rng = random.Random(seed)
    for table in tables(connection):
        columns = columns_of(connection, table)
        names = ", ".join(quoted(name) for name, _ in columns)
        for _ in range(6):
            row = [value_for(rng, declared, (None, 1, "a", 2.5, b"b")) for _, declared in columns]
            marks = ", ".join("?" * len(columns))
            yield f"INSERT INTO {quoted(table)} ({names}) VALUES ({marks})", row
        for name, declared in columns:
            value = value_for(rng, declared, (3, "c"))
            yield (
                f"UPDATE {quoted(table)} SET {quoted(name)} = ? WHERE {quoted(name)} = ?",
                (
                    value,
                    value_for(rng, declared, (1, "a")),
                ),
            )
            yield f"DELETE FROM {quoted(table)} WHERE {quoted(name)} = ?", (value,)
        # In hexadecimal, because a trigger may have made text of any bytes.
        picked = ", ".join(f"typeof({quoted(it)}), hex({quoted(it)})" for it, _ in columns)
        yield f"SELECT {picked} FROM {quoted(table)}", ()


def outcome(connection, sql, values):
    try:
        rows = connection.execute(sql, values).fetchall()
    except apsw.Error as error:
        return type(error).__name__
    return sorted(map(repr, rows))


def twins(pair, seed):
    """Return two databases with the same rows, of which one has been migrated."""
    found = check_schemas(
        Schema.from_sql(pair["old"]), Schema.from_sql(pair["new"]), **pair_options(pair)
    )
    twin = [made(":memory:", pair["old"]) for _ in range(2)]
    for connection in twin:
        # Behind the largest rowid SQLite gives random ones.
        fill(connection, seed, values=[it for it in VALUES if it != 2**63 - 1])
    twin[1].execute(found.migration.script).fetchall()
    return twin


@pytest.mark.parametrize("pair", PROMISED, ids=[it["name"] for it in PROMISED])
@pytest.mark.parametrize("seed", range(2))
def test_statements_that_worked_work_as_they_did(pair, seed):
    old, new = twins(pair, seed)
    worked = 0
    for sql, values in statements_of(old, seed):
        before = outcome(old, sql, values)
        if isinstance(before, list):
            worked += 1
            assert outcome(new, sql, values) == before, sql
        else:
            # What the old schema refused is no statement of a program that runs.
            assert outcome(old, "SELECT 1", ()) == ["(1,)"]
            undo_if_accepted(new, sql, values)
    assert worked or not tables(old)


def undo_if_accepted(connection, sql, values):
    connection.execute("SAVEPOINT refused")
    outcome(connection, sql, values)
    connection.execute("ROLLBACK TO refused; RELEASE refused")


@pytest.mark.parametrize("pair", READABLE, ids=[it["name"] for it in READABLE])
def test_where_writes_are_refused_reading_works(pair):
    for seed in range(3):
        try:
            old, new = twins(pair, seed)
        except apsw.Error:
            continue  # Rows stand in the way, and nothing has been migrated.
        for sql, values in statements_of(old, seed):
            if sql.startswith("SELECT"):
                assert isinstance(outcome(new, sql, values), list)
