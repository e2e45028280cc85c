"""What the scenes of survival are made of: what is compared, and what is drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from sqlstable.canister.canister import Canister
from sqlstable.cli.fates import Band, Fate, fates_of
from sqlstable.cli.scene import Check
from sqlstable.ic.units import OS_PAGE_BYTES
from sqlstable.report.numbers import count, counted, size
from sqlstable.trace.model import Message
from sqlstable.workload import bank
from sqlstable.workload.bank import Account

SHA256_DIGITS: Final = 12
"""Of a sum, enough to tell two apart by eye."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happened to the canister: a line of the summary."""

    name: str
    heap: str
    stable: str
    account: Account | None
    "What was there behind it; None where nothing was."
    os_pages: int
    "Accessed on the way."
    instructions: int | None
    "None where nobody counted them."

    @classmethod
    def of(
        cls, name: str, heap: str, stable: str, account: Account | None, message: Message
    ) -> Self:
        """Return what happened by a message."""
        instructions = message.instructions
        return cls(
            name,
            heap,
            stable,
            account,
            message.stable.os_pages_accessed,
            None if instructions is None else instructions.total,
        )


@dataclass(frozen=True, slots=True)
class Halfway:
    """What had happened when a hook trapped."""

    accessed: tuple[int, ...]
    "OS pages, by their indexes."
    dirty: tuple[int, ...]
    total_cents: int
    "In all accounts, as the hook saw them."


@dataclass(frozen=True, slots=True)
class Pages:
    """Where the database lies in stable memory."""

    count: int
    places: dict[int, int]
    "Of each OS page its place in the database, from 0."

    @classmethod
    def of(cls, canister: Canister) -> Self:
        """Look at a canister."""
        pages = canister.status().database_size_bytes // OS_PAGE_BYTES
        find = canister.vfs.store.placement.map.address
        places = {find(place * OS_PAGE_BYTES) // OS_PAGE_BYTES: place for place in range(pages)}
        return cls(pages, places)

    def of_database(self, os_pages: Iterable[int]) -> list[int]:
        """Return the places of those OS pages that are the database's."""
        return [self.places[os_page] for os_page in os_pages if os_page in self.places]


def account_checks(account: Account, twin: Account, beginning: Account) -> list[Check]:
    """Compare what a canister has with what its twin has, and its money with that of old."""
    return [
        Check(
            f"answers to {counted(len(bank.QUESTIONS), 'question')}: sha-256 "
            f"{_both(account.answers_sha256, twin.answers_sha256)}",
            account.answers_sha256 == twin.answers_sha256,
        ),
        Check(
            f"money: {money(account.total_cents)}, at the beginning {money(beginning.total_cents)}",
            account.total_cents == beginning.total_cents,
        ),
        Check(f"integrity_check: {account.integrity}", account.integrity == "ok"),
        Check(
            f"all {size(account.stable_size_bytes)} of stable memory: sha-256 "
            f"{_both(account.stable_sha256, twin.stable_sha256)}",
            account.stable_sha256 == twin.stable_sha256,
        ),
    ]


def session_words(before: int | None, after: int | None) -> str:
    """Say how many rows the TEMP table had and has; None where there is none.

    Examples:
        >>> session_words(3, None)
        'TEMP table session: 3 rows, then not there'
    """
    there, then = (
        "not there" if rows is None else counted(rows, "row") for rows in (before, after)
    )
    return f"TEMP table session: {there}, then {then}"


def heap_band(pages: Pages, cached: Sequence[int], fate: Fate, note: str = "") -> Band:
    """Draw the heap.

    Args:
        pages: Of the database.
        cached: Places of those that SQLite had a copy of.
        fate: What became of the heap.
        note: What else there is to say of it.
    """
    return Band(
        "heap",
        fates_of(pages.count, there=cached, fate=fate),
        f"{fate}: SQLite's copies of {counted(len(cached), 'OS page')}{note}",
    )


def stable_band(
    pages: Pages, fate: Fate = "stayed", note: str = "", *, back: Iterable[int] = ()
) -> Band:
    """Draw stable memory.

    Args:
        pages: Of the database.
        fate: What became of it.
        note: What else there is to say.
        back: Places of those that were written, and have their old bytes.
    """
    fates = fates_of(pages.count, there=range(pages.count), fate=fate, back=back)
    words = f"{fate}: {counted(pages.count, 'OS page')} of the database{note}"
    return Band("stable memory", fates, words)


def taken(message: Message) -> tuple[tuple[str, str], ...]:
    """Say what a step of the life cycle took."""
    used, instructions = message.stable, message.instructions
    spelled = "not counted; --engine wasm does"
    if instructions is not None:
        spelled = count(instructions.total)
    return (
        (
            "OS pages",
            f"accessed {count(used.os_pages_accessed)}, dirty {count(used.os_pages_dirty)}",
        ),
        ("instructions", spelled),
    )


def money(cents: int) -> str:
    """Spell an amount.

    Examples:
        >>> money(123456)
        '1,234.56'
    """
    return f"{cents / 100:,.2f}"


def _both(mine: str, twins: str) -> str:
    mine, twins = mine[:SHA256_DIGITS], twins[:SHA256_DIGITS]
    return f"{mine}…, as the twin's" if mine == twins else f"{mine}…, the twin's {twins}…"
