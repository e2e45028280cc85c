"""The workload of the story of survival: a bank whose money is never more and never less.

All rows follow from their numbers, so that each run has the same ones, the same answers and the
same OS pages.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from sqlstable.canister.canister import Canister
from sqlstable.canister.message import Message
from sqlstable.canister.reply import Reply

ACCOUNT_COUNT: Final = 5_000
OPENING_CENTS: Final = 50_000
PAST_TRANSFER_COUNT: Final = 6_000
"""Transfers that the bank begins with; their cents are in the opening balances already."""

TRANSFER_CENTS: Final = 250

_FIRST_NAMES: Final = (
    *("Ada", "Alan", "Amina", "Anton", "Chen", "Dana", "Elif", "Femi", "Grace", "Hana", "Ines"),
    *("Ivo", "Jorge", "Kofi", "Lena", "Malik", "Noor", "Olga", "Pavel"),
)
_LAST_NAMES: Final = (
    *("Almeida", "Bauer", "Costa", "Diallo", "Eriksen", "Fischer", "Garcia", "Haddad", "Ito"),
    *("Jansen", "Kovac", "Lindt", "Moreau", "Nguyen", "Okafor", "Petrov", "Rossi"),
)

SCHEMA: Final = """\
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, cents INTEGER);
CREATE TABLE transfer (id INTEGER PRIMARY KEY, source INTEGER REFERENCES account,
                       target INTEGER REFERENCES account, cents INTEGER);
CREATE INDEX transfer_source ON transfer (source);"""

TAKE_FEE: Final = "UPDATE account SET cents = cents - 100"
PAY_FEE: Final = "UPDATE account SET cents = cents + 500000 WHERE id = 1"
"""The two halves of a message; account 1 is the bank's. Between them, the fees are nowhere."""

SESSION: Final = """\
DROP TABLE IF EXISTS temp.session;
CREATE TEMP TABLE session (account INTEGER, since TEXT);
INSERT INTO session VALUES (17, '09:00'), (42, '09:05'), (99, '09:12');"""
"""Who is logged in: a TEMP table, which lies in the heap."""

SESSIONS: Final = "SELECT count(*) FROM session"
TOTAL: Final = "SELECT sum(cents) FROM account"
ACCOUNTS: Final = "SELECT count(*) FROM account"
LAST_TRANSFER: Final = "SELECT max(id) FROM transfer"

QUESTIONS: Final = (
    TOTAL,
    "SELECT count(*) FROM transfer",
    "SELECT owner, cents FROM account WHERE id = 421",
    "SELECT id, cents FROM account ORDER BY cents DESC, id LIMIT 10",
    """\
SELECT transfer.id, giver.owner, taker.owner, transfer.cents
FROM transfer
JOIN account AS giver ON giver.id = source
JOIN account AS taker ON taker.id = target
ORDER BY transfer.id DESC LIMIT 10""",
)
"""What is asked again and again; the order of rows is fixed."""

Row = tuple[Any, ...]


def accounts() -> Iterator[Row]:
    """Return the rows of all accounts.

    Examples:
        >>> next(accounts())
        (1, 'Alan Costa', 50000)
    """
    for number in range(1, ACCOUNT_COUNT + 1):
        first = _FIRST_NAMES[number % len(_FIRST_NAMES)]
        last = _LAST_NAMES[number * 7 // 3 % len(_LAST_NAMES)]
        yield number, f"{first} {last}", OPENING_CENTS


def transfer(number: int) -> Row:
    """Return a row of the table of transfers.

    Examples:
        >>> transfer(1)
        (1, 1741, 742, 250)
    """
    source = 1 + number * 1_740 % ACCOUNT_COUNT
    target = 1 + number * 741 % ACCOUNT_COUNT
    return number, source, target, TRANSFER_CENTS


def load(canister: Canister) -> Reply:
    """Make the bank; returns the reply of the message that brings its rows."""
    canister.update(SCHEMA)
    with canister.message("update") as message, message.transaction():
        message.executemany("INSERT INTO account VALUES (?, ?, ?)", accounts())
        past = map(transfer, range(1, PAST_TRANSFER_COUNT + 1))
        message.executemany("INSERT INTO transfer VALUES (?, ?, ?, ?)", past)
    return message.reply


def send(canister: Canister, number: int) -> Reply:
    """Move money from one account to another one, in one message.

    Args:
        canister: The bank.
        number: Of the transfer, beyond those that are there.
    """
    _, source, target, cents = row = transfer(number)
    with canister.message("update", label="transfer") as message:
        message.execute("UPDATE account SET cents = cents - ? WHERE id = ?", (cents, source))
        message.execute("UPDATE account SET cents = cents + ? WHERE id = ?", (cents, target))
        message.execute("INSERT INTO transfer VALUES (?, ?, ?, ?)", row)
    return message.reply


def charge(canister: Canister, half_way: Callable[[Message], None]) -> Reply:
    """Take a fee from every account and give it to the bank's own, in one message.

    Args:
        canister: The bank.
        half_way: Is called when the fee is taken, and given to nobody yet.
    """
    with canister.message("update", label="fee") as message:
        message.execute(TAKE_FEE)
        half_way(message)
        message.execute(PAY_FEE)
    return message.reply


@dataclass(frozen=True, slots=True)
class Account:
    """What a bank can give account of; equal wherever nothing was lost."""

    answers_sha256: str
    "Of the rows of all questions."
    total_cents: int
    transfer_count: int
    integrity: str
    "What ``PRAGMA integrity_check`` says; ``ok`` where nothing is wrong."
    stable_sha256: str
    "Of all of stable memory."
    stable_size_bytes: int


def take_account(canister: Canister) -> Account:
    """Ask all questions, check the database, and look at each byte of stable memory."""
    answers = [canister.query(sql, label="proof").rows for sql in QUESTIONS]
    integrity = canister.query("PRAGMA integrity_check", label="proof").rows
    image = canister.image()
    return Account(
        answers_sha256=sha256(repr(answers).encode()).hexdigest(),
        total_cents=answers[0][0][0],
        transfer_count=answers[1][0][0],
        integrity=", ".join(str(row[0]) for row in integrity),
        stable_sha256=sha256(image).hexdigest(),
        stable_size_bytes=len(image),
    )
