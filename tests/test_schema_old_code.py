"""What is promised to the old code: its statements, tried on the new schema."""

import apsw
import pytest

from sqlstable.schema.schema_check import check_schemas
from sqlstable.schema.schema_model import Schema
from tests.pair_world import (
    PAIRS,
    VALUES,
    fill,
    made,
    outcome,
    pair_options,
    statements_of,
    tables,
    works_alike,
)

PROMISED = [it for it in PAIRS if it["old_code"] == "works" and it["verdict"] != "incompatible"]
READABLE = [it for it in PAIRS if it["old_code"] == "refused" and it["verdict"] != "incompatible"]


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
    assert works_alike(old, new, seed) or not tables(old)


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
