"""A canister of either engine, held against one plain connection."""

from contextlib import suppress

import pytest

from sqlstable import Canister, Trap

ENGINES = ("native", "wasm")


@pytest.fixture(name="canister", params=ENGINES)
def canister_fixture(request):
    with Canister(engine=request.param) as canister:
        yield canister


def trap(canister, *statements):
    with suppress(Trap), canister.message() as message:
        for sql in statements:
            message.execute(sql)
        message.trap()


COUNTS = "SELECT last_insert_rowid(), changes(), total_changes()"
