"""A small canister with a long schema, and how much a reply has read."""

import pytest

from sqlstable import (
    Canister,
)
from tests.doors import series

LAYOUTS = ("managed", "raw")


@pytest.fixture(name="canister")
def canister_fixture():
    """A canister with a table of some SQLite pages, and a schema of more than one."""
    canister = Canister()
    for number in range(60):
        canister.update(f"CREATE TABLE empty_{number} (column_one, column_two, column_three)")
    canister.update("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
    canister.update(f"INSERT INTO t SELECT i, printf('%.*c', 200, 'x') FROM {series(300)}")
    yield canister
    canister.close()


def reads(reply):
    return reply.footprint.calls.read
