"""A ledger in a file that survives kill -9: what was answered is there, what was not is not.

A child process moves money in a canister whose stable memory is an image file. After each answer it
says so; in the middle of a message it is killed with SIGKILL. Then the image is opened again, and
again, each time by a new process: all that was answered is there, and the total is what it was.

    python examples/survive_kill.py
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlstable

ACCOUNTS = 1_000
OPENING_CENTS = 10_000
CENTS = 25
KILLS = (40, 7, 120)
"""Transfers that each child answers before it is killed in the middle of the next one."""

SCHEMA = """
CREATE TABLE account (account_id INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
CREATE TABLE transfer (transfer_id INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
"""
DEBIT = "UPDATE account SET cents = cents - ? WHERE account_id = ?"
CREDIT = "UPDATE account SET cents = cents + ? WHERE account_id = ?"
NOTE = "INSERT INTO transfer VALUES (?, ?)"


@dataclass(frozen=True)
class Life:
    """One child process, and what it left behind."""

    answered: int
    "Transfers that it said were done."
    signal: int
    "What ended it."
    has_log: bool
    "Whether a log lay beside the image after it."
    recovery: str
    "What opening the image again said."
    transfers: int
    "In the image, all lives together."
    total_cents: int
    integrity_check: str


@dataclass(frozen=True)
class Story:
    """All numbers of the story."""

    lives: tuple[Life, ...]
    total_cents: int
    "At the beginning."
    log_at_end: bool
    "Whether a log lies beside the image after it was closed well."


def nothing() -> None:
    """Let a transfer go on to its end."""


def send(canister: sqlstable.Canister, number: int, half_way: Callable[[], None] = nothing) -> None:
    """Send money from one account to another one, as one message."""
    source, target = 1 + number % ACCOUNTS, 1 + (number * 7 + 1) % ACCOUNTS
    with canister.message("update", label="transfer") as message:
        message.execute(DEBIT, (CENTS, source))
        half_way()
        message.execute(CREDIT, (CENTS, target))
        message.execute(NOTE, (number, CENTS))


def kill_myself() -> None:
    """End this process as kill -9 does: at once, without any last word."""
    os.kill(os.getpid(), signal.SIGKILL)


def live(image: str, transfers: int) -> None:
    """Be the child: answer some transfers, and die in the middle of one more."""
    with sqlstable.Canister(image) as canister:
        first = 1 + count_transfers(canister)
        for number in range(first, first + transfers):
            send(canister, number)
            print("done", flush=True)
        send(canister, first + transfers, kill_myself)


def count_transfers(canister: sqlstable.Canister) -> int:
    """Return how many transfers the ledger knows."""
    (count,) = canister.query("SELECT count(*) FROM transfer").rows[0]
    assert isinstance(count, int)
    return count


def total_cents(canister: sqlstable.Canister) -> int:
    """Return the money in all accounts."""
    (cents,) = canister.query("SELECT sum(cents) FROM account").rows[0]
    assert isinstance(cents, int)
    return cents


def open_ledger(image: Path) -> int:
    """Make the image, and return the money in it."""
    with sqlstable.Canister(image) as canister:
        canister.update(SCHEMA)
        with canister.message() as message:
            rows = [(number, OPENING_CENTS) for number in range(1, ACCOUNTS + 1)]
            message.executemany("INSERT INTO account VALUES (?, ?)", rows)
        return total_cents(canister)


def raise_and_kill(image: Path, transfers: int) -> Life:
    """Let a child live and die, and look at what is left."""
    command = [sys.executable, __file__, "live", str(image), str(transfers)]
    # The child finds sqlstable where this process has found it.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.run(  # noqa: S603  this very script
        command, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    has_log = image.with_name(f"{image.name}-log").exists()
    with sqlstable.Canister(image) as canister:
        (verdict,) = canister.query("PRAGMA integrity_check").rows[0]
        return Life(
            answered=child.stdout.count("done"),
            signal=-child.returncode,
            has_log=has_log,
            recovery=(canister.recovery or "nothing").replace(str(image), image.name),
            transfers=count_transfers(canister),
            total_cents=total_cents(canister),
            integrity_check=str(verdict),
        )


def measure() -> Story:
    """Live and die as often as `KILLS` says."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "ledger.stable"
        total = open_ledger(image)
        lives = tuple(raise_and_kill(image, transfers) for transfers in KILLS)
        log_at_end = image.with_name(f"{image.name}-log").exists()
    return Story(lives, total, log_at_end)


def life_lines(number: int, life: Life) -> str:
    """Spell one life."""
    log = "a log lay" if life.has_log else "no log lay"
    return f"""\
  process {number}: {life.answered} transfers answered, then {signal.Signals(life.signal).name} \
inside the next one; {log} beside the image
    opened again: {life.recovery}
    transfers in the ledger: {life.transfers}; money: {life.total_cents:,} cents; \
integrity_check: {life.integrity_check}
"""


def story(found: Story) -> str:
    """Tell what was found."""
    lives = "\n".join(life_lines(number, life) for number, life in enumerate(found.lives, 1))
    answered = sum(life.answered for life in found.lives)
    return f"""\
1. A ledger of {ACCOUNTS:,} accounts in an image file: {found.total_cents:,} cents

2. {len(found.lives)} processes, each killed in the middle of a message

{lives}
3. What is there now

  answered by all processes: {answered}; in the ledger: {found.lives[-1].transfers}
  money missing: {found.total_cents - found.lives[-1].total_cents} cents
  After a clean close {"a log is left" if found.log_at_end else "the image lies alone"}.
"""


def main() -> Story:
    """Measure, tell, and return the numbers."""
    found = measure()
    print(story(found), end="")
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["live"]:
        live(sys.argv[2], int(sys.argv[3]))
    else:
        main()
