"""What becomes of an SQL transaction that is open across an await, measured.

A message changes all rows of a table in a transaction and awaits with it open, which the Internet
Computer does not refuse. Meanwhile another message writes a row and is answered. Then something
happens to the first one, and what is there is counted.

What is lost goes by two things: by the journal, and by whether SQLite's page cache holds the whole
transaction. Where it does not, SQLite *spills*: SQLite pages come to stable memory before COMMIT.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal, get_args

from sqlstable.canister.canister import Canister
from sqlstable.errors import SqlError, Trap
from sqlstable.ic.words import EngineName

Ending = Literal["trap", "trap and upgrade", "ROLLBACK"]
"""What happens behind the await."""

ENDINGS: Final[tuple[Ending, ...]] = get_args(Ending)

JOURNALS: Final = ("memory", "off", "delete", "truncate", "persist")
"""Journal modes of layout managed."""

ROWS: Final = 400
"""Rows that the transaction changes."""

CACHES: Final = {"fits": 500, "spills": 10}
"""SQLite pages of the page cache: one that holds the transaction, and one that does not."""

SCHEMA: Final = """\
CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note TEXT);
CREATE INDEX account_by_balance ON account (balance, note);
CREATE TABLE payment (id INTEGER PRIMARY KEY, payer TEXT);"""

FILL: Final = "INSERT INTO account VALUES (?, 100, printf('%.200c', 'x'))"

INTEREST: Final = "UPDATE account SET balance = balance + 1"
PAYMENT: Final = "INSERT INTO payment (payer) VALUES ('bob')"

_CHANGED: Final = "SELECT count(*) FROM account NOT INDEXED WHERE balance = 101"
_CHECK: Final = "PRAGMA integrity_check(1)"
_PAID: Final = "SELECT count(*) FROM payment"


@dataclass(frozen=True, slots=True)
class Remains:
    """What is there of a transaction that awaited."""

    changed: int
    "Rows that it has changed, of `ROWS`; all or none would be right."
    paid: int
    "Rows of the other message, which was answered: 1 would be right."
    check: str
    "What ``PRAGMA integrity_check`` says first."
    is_open: bool
    "Whether the transaction is still open, so that whatever comes next becomes part of it."

    @property
    def is_whole(self) -> bool:
        """Whether nothing is lost, and nothing half there."""
        return self.changed in (0, ROWS) and self.paid == 1 and self.check == "ok"


@dataclass(frozen=True, slots=True)
class Hazard:
    """One way in which a transaction awaited and ended."""

    engine: EngineName
    journal_mode: str
    size: str
    "Whether the page cache holds the transaction: fits or spills."
    seen: int
    "Rows of it that a query saw while it awaited; none would be right."
    remains: dict[Ending, Remains]


def hazards(engine: EngineName, sizes: Iterable[str] = tuple(CACHES)) -> Iterator[Hazard]:
    """Measure every journal mode of an engine, with both caches or those of some ``sizes``."""
    for size in sizes:
        for journal_mode in JOURNALS:
            yield measure(engine, journal_mode, size)


def measure(engine: EngineName, journal_mode: str, size: str = "spills") -> Hazard:
    """Let a transaction await, and end in each of the ways.

    Examples:
        >>> found = measure("native", "memory")
        >>> found.remains["trap"].changed, found.remains["trap"].paid
        (380, 0)
    """
    remains, seen = {}, 0
    for ending in ENDINGS:
        with bank(engine, journal_mode, size) as canister:
            seen = _run(canister, ending)
            remains[ending] = look(canister)
    return Hazard(engine, journal_mode, size, seen, remains)


def look(canister: Canister) -> Remains:
    """Count what is there, and find out whether a transaction is open; that ends it."""
    [(check,)] = canister.query(_CHECK).rows
    [(changed,)] = canister.query(_CHANGED).rows
    [(paid,)] = canister.query(_PAID).rows
    return Remains(changed, paid, check.splitlines()[-1], _has_open_transaction(canister))


def bank(engine: EngineName, journal_mode: str, size: str) -> Canister:
    """Return a canister with the table of accounts, and one for payments."""
    canister = Canister(engine=engine, journal_mode=journal_mode, cache_size=CACHES[size])
    canister.update(SCHEMA)
    with canister.message() as message, message.transaction():
        message.executemany(FILL, [(number,) for number in range(1, ROWS + 1)])
    return canister


def _run(canister: Canister, ending: Ending) -> int:
    """Let a transaction await and end; returns how much of it a query saw meanwhile."""
    with suppress(Trap), canister.message(allow_open_transaction=True) as message:
        message.execute("BEGIN")
        message.execute(INTEREST)
        with message.awaiting():
            [(seen,)] = canister.query(_CHANGED).rows
            canister.update(PAYMENT, allow_open_transaction=True)
        if ending == "ROLLBACK":
            message.execute("ROLLBACK")
        else:
            message.trap()
    if ending == "trap and upgrade":
        canister.upgrade()
    return int(seen)


def _has_open_transaction(canister: Canister) -> bool:
    try:
        canister.update("BEGIN; COMMIT")
    except SqlError:
        return True
    return False
