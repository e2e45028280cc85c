"""Budgets for the guestbook, as a canister's own tests have them: pytest examples/guestbook."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import sqlstable

MODULE = Path(__file__).parent / "guestbook.wasm"


@pytest.fixture
def book() -> Iterator[sqlstable.CanisterModule]:
    """A guestbook with a thousand entries."""
    with sqlstable.CanisterModule(MODULE) as book:
        for number in range(1000):
            book.update("sign", (f"guest {number}",))
        yield book


def test_signing_stays_cheap(book: sqlstable.CanisterModule) -> None:
    """However many have signed."""
    reply = book.update("sign", ("ana",))
    assert reply.value == 1000
    assert reply.instructions < 1_000_000
    assert reply.footprint.os_pages_dirty <= 2


def test_entries_survive_an_upgrade(book: sqlstable.CanisterModule) -> None:
    """And an upgrade stays far from its limit."""
    upgrade = book.upgrade()
    assert upgrade.instructions < 1_000_000_000
    assert book.query("read", (7,)).value == "guest 7"


def test_what_is_not_there_traps(book: sqlstable.CanisterModule) -> None:
    """A trap is raised; a reject and a missing answer are something else."""
    with pytest.raises(sqlstable.Trap, match="no entry"):
        book.query("read", (5000,))
