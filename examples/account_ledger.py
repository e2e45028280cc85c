"""An account ledger: money that neither traps, nor mistakes, nor upgrades can lose.

Accounts send each other money; whatever happens, the total stays what it was. The ledger also
shows what small updates cost: one transfer for each message, many of them in one message, and many
in one SQL transaction. At the end the database leaves the canister as a plain file, and Python's
own sqlite3 does the bookkeeping again.

    python examples/account_ledger.py
"""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlstable

ACCOUNTS = 5_000
OPENING_CENTS = 10_000
TRANSFERS = 200
CENTS = 25

SCHEMA = """
CREATE TABLE account (
  account_id INTEGER PRIMARY KEY, owner TEXT NOT NULL,
  cents INTEGER NOT NULL CHECK (cents >= 0)
);
CREATE TABLE transfer (
  transfer_id INTEGER PRIMARY KEY, source INTEGER NOT NULL REFERENCES account,
  target INTEGER NOT NULL REFERENCES account, cents INTEGER NOT NULL CHECK (cents > 0)
);
"""

DEBIT = "UPDATE account SET cents = cents - ? WHERE account_id = ?"
CREDIT = "UPDATE account SET cents = cents + ? WHERE account_id = ?"
NOTE = "INSERT INTO transfer (source, target, cents) VALUES (?, ?, ?)"
TOTAL = "SELECT sum(cents) FROM account"

WRONG_ACCOUNTS = """
WITH
  change AS (
    SELECT source AS account_id, -cents AS cents FROM transfer
    UNION ALL SELECT target, cents FROM transfer
  ),
  book AS (
    SELECT account.cents AS cents, ? + ifnull(sum(change.cents), 0) AS expected_cents
    FROM account LEFT JOIN change USING (account_id) GROUP BY account_id
  )
SELECT count(*) FROM book WHERE cents <> expected_cents
"""


@dataclass(frozen=True)
class Use:
    """What a number of transfers wrote to stable memory."""

    messages: int
    os_pages_dirty: int
    "Added up over the messages: each one is charged for the OS pages it dirties itself."
    writes: int
    "Calls that write to stable memory."
    bytes_written: int


@dataclass(frozen=True)
class Mishap:
    """A message that was meant to fail."""

    name: str
    error: str
    "What the caller gets to hear, in short."
    image_unchanged: bool
    "Whether stable memory is byte for byte what it was before."


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did to a database."""

    database_os_pages: int
    os_pages_accessed: int
    os_pages_dirty: int
    image_unchanged: bool


@dataclass(frozen=True)
class Ledger:
    """All numbers of the story."""

    uses: dict[str, Use]
    "TRANSFERS transfers, by the way in which they were sent."
    os_pages_dirty_max: int
    "The most that a single transfer dirtied."
    mishaps: tuple[Mishap, ...]
    upgrades: tuple[Upgrade, ...]
    "Of a canister with few accounts, and of this one."
    totals_cents: dict[str, int]
    "The money in all accounts, by when it was counted."
    integrity_check: str
    "What the standard sqlite3 says of the extracted file."
    transfers: int
    "In the extracted file."
    wrong_accounts: int
    "Accounts in the extracted file that their transfers do not explain."


def scattered(number: int, size: int) -> int:
    """Return a whole number below ``size`` that looks random, the same in every run."""
    return number * 2_654_435_761 % 2**32 * size // 2**32


def parties(number: int) -> tuple[int, int]:
    """Return who sends, and who receives: two different accounts."""
    source = scattered(number, ACCOUNTS)
    distance = 1 + scattered(number + 77, ACCOUNTS - 1)
    return 1 + source, 1 + (source + distance) % ACCOUNTS


def transfer(message: sqlstable.Message, number: int, cents: int = CENTS) -> None:
    """Send money, inside a message."""
    source, target = parties(number)
    message.execute(DEBIT, (cents, source))
    message.execute(CREDIT, (cents, target))
    message.execute(NOTE, (source, target, cents))


def open_ledger(accounts: int) -> sqlstable.Canister:
    """Return a canister whose accounts are filled."""
    canister = sqlstable.Canister()
    canister.update(SCHEMA)
    rows = [(number, f"Owner {number}", OPENING_CENTS) for number in range(1, accounts + 1)]
    with canister.message(label="open accounts") as message:
        message.execute("BEGIN")
        message.executemany("INSERT INTO account VALUES (?, ?, ?)", rows)
        message.execute("COMMIT")
    return canister


def total_cents(canister: sqlstable.Canister) -> int:
    """Return the money in all accounts."""
    (cents,) = canister.query(TOTAL).rows[0]
    assert isinstance(cents, int)
    return cents


def sum_up(replies: list[sqlstable.Reply]) -> Use:
    """Add up what messages wrote."""
    footprints = [reply.footprint for reply in replies]
    return Use(
        messages=len(footprints),
        os_pages_dirty=sum(footprint.os_pages_dirty for footprint in footprints),
        writes=sum(footprint.calls.write for footprint in footprints),
        bytes_written=sum(footprint.bytes_written for footprint in footprints),
    )


def send_one_by_one(canister: sqlstable.Canister) -> list[sqlstable.Reply]:
    """Send each transfer as a message of its own."""
    replies = []
    for number in range(TRANSFERS):
        with canister.message(label="transfer") as message:
            message.execute("BEGIN")
            transfer(message, number)
            message.execute("COMMIT")
        replies.append(message.reply)
    return replies


def send_together(canister: sqlstable.Canister, *, in_transaction: bool) -> sqlstable.Reply:
    """Send all transfers in one message."""
    with canister.message(label="transfers") as message:
        if in_transaction:
            message.execute("BEGIN")
        for number in range(TRANSFERS):
            transfer(message, number)
        if in_transaction:
            message.execute("COMMIT")
    return message.reply


def trap_half_way(canister: sqlstable.Canister) -> None:
    """Take money from one account, and trap before the other one has it."""
    with canister.message() as message:
        message.execute(DEBIT, (CENTS, 1))
        message.trap("half-way through a transfer")


def overdraw(canister: sqlstable.Canister) -> None:
    """Credit first, then debit more than there is: SQLite refuses the second statement."""
    with canister.message() as message:
        message.execute(CREDIT, (2 * OPENING_CENTS, 2))
        message.execute(DEBIT, (2 * OPENING_CENTS, 1))


def forget_commit(canister: sqlstable.Canister) -> None:
    """Leave an SQL transaction open at the end of a message."""
    with canister.message() as message:
        message.execute("BEGIN")
        transfer(message, 1)


MISHAPS: tuple[tuple[str, Callable[[sqlstable.Canister], None]], ...] = (
    ("a trap half-way", trap_half_way),
    ("an overdraft", overdraw),
    ("a forgotten COMMIT", forget_commit),
)


def measure_mishap(
    canister: sqlstable.Canister, name: str, mishap: Callable[[sqlstable.Canister], None]
) -> Mishap:
    """Let something go wrong, and look what is left of it."""
    image = canister.image()
    try:
        mishap(canister)
    except sqlstable.SqlstableError as error:
        text = str(error).split(";", maxsplit=1)[0]
        return Mishap(name, f"{type(error).__name__}: {text}", canister.image() == image)
    raise AssertionError(f"{name} went well")


def measure_upgrade(canister: sqlstable.Canister) -> Upgrade:
    """Upgrade, and compare stable memory before and after."""
    image = canister.image()
    footprint = canister.upgrade().footprint
    return Upgrade(
        database_os_pages=canister.status().database_size_bytes // 4096,
        os_pages_accessed=footprint.os_pages_accessed,
        os_pages_dirty=footprint.os_pages_dirty,
        image_unchanged=canister.image() == image,
    )


def audit(canister: sqlstable.Canister) -> tuple[int, str, int, int]:
    """Return what the standard sqlite3 finds in the extracted file.

    Returns:
        The total, the integrity check, the transfers, and the accounts that they do not explain.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        canister.extract_database(path)
        with closing(sqlite3.connect(path)) as connection:
            (cents,) = connection.execute(TOTAL).fetchone()
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
            (transfers,) = connection.execute("SELECT count(*) FROM transfer").fetchone()
            (wrong,) = connection.execute(WRONG_ACCOUNTS, (OPENING_CENTS,)).fetchone()
    return cents, verdict, transfers, wrong


def measure() -> Ledger:
    """Run the ledger, and return its numbers."""
    with open_ledger(accounts=10) as small:
        upgrade_small = measure_upgrade(small)
    with open_ledger(ACCOUNTS) as canister:
        totals = {"the opening": total_cents(canister)}
        single = send_one_by_one(canister)
        uses = {
            "one message for each": sum_up(single),
            "one message": sum_up([send_together(canister, in_transaction=False)]),
            "one message, one transaction": sum_up([send_together(canister, in_transaction=True)]),
        }
        totals["the transfers"] = total_cents(canister)
        mishaps = tuple(measure_mishap(canister, name, mishap) for name, mishap in MISHAPS)
        totals["the mishaps"] = total_cents(canister)
        upgrade = measure_upgrade(canister)
        totals["an upgrade"] = total_cents(canister)
        totals["extraction"], verdict, transfers, wrong = audit(canister)
    return Ledger(
        uses=uses,
        os_pages_dirty_max=max(reply.footprint.os_pages_dirty for reply in single),
        mishaps=mishaps,
        upgrades=(upgrade_small, upgrade),
        totals_cents=totals,
        integrity_check=verdict,
        transfers=transfers,
        wrong_accounts=wrong,
    )


def changed(*, image_unchanged: bool) -> str:
    """Spell whether stable memory is what it was."""
    return "no byte changed" if image_unchanged else "CHANGED"


def use_line(name: str, use: Use) -> str:
    """Spell one row of the first table."""
    return (
        f"  {name:30}{use.os_pages_dirty:6,}{use.os_pages_dirty / TRANSFERS:14.2f}"
        f"{use.writes:9,}{use.bytes_written // 1024:14,}"
    )


def upgrade_line(upgrade: Upgrade) -> str:
    """Spell what one upgrade did."""
    return (
        f"  database of {upgrade.database_os_pages:3} OS pages: {upgrade.os_pages_accessed} "
        f"accessed, {upgrade.os_pages_dirty} dirty, "
        f"{changed(image_unchanged=upgrade.image_unchanged)}"
    )


def story(ledger: Ledger) -> str:
    """Tell what was measured."""
    uses = "\n".join(use_line(name, use) for name, use in ledger.uses.items())
    mishaps = "\n".join(
        f"  {mishap.name}: {changed(image_unchanged=mishap.image_unchanged)}\n    {mishap.error}"
        for mishap in ledger.mishaps
    )
    upgrades = "\n".join(map(upgrade_line, ledger.upgrades))
    totals = "\n".join(
        f"  after {name:14}{cents:12,} cents" for name, cents in ledger.totals_cents.items()
    )
    return f"""\
1. {TRANSFERS} transfers between {ACCOUNTS:,} accounts, sent in three ways

                           OS pages dirty   per transfer   writes   KiB written
{uses}

  A transfer alone dirties at most {ledger.os_pages_dirty_max} OS pages: two accounts and a note. \
Together they share
  OS pages; inside one SQL transaction each of these is also written only once.

2. Three messages that go wrong half-way: what stable memory looks like afterwards

{mishaps}

3. An upgrade wipes the heap

{upgrades}

4. The money

{totals}

5. The extracted file, in Python's own sqlite3

  integrity_check: {ledger.integrity_check}
  transfers: {ledger.transfers}
  accounts that their transfers do not explain: {ledger.wrong_accounts}
"""


def main() -> Ledger:
    """Measure, tell, and return the numbers."""
    ledger = measure()
    print(story(ledger), end="")
    return ledger


if __name__ == "__main__":
    main()
