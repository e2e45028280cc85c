"""Schemas that change in a canister: inside of an upgrade, or by messages of their own.

What is to be done is decided in `sqlstable.schema`; here it gets its messages, and is told how
many rows each may take.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sqlstable.canister.hooks import HookMessage
from sqlstable.canister.life import Life
from sqlstable.canister.message import Message
from sqlstable.canister.reply import Reply
from sqlstable.database.checking import SqliteConnection, prepare, trust
from sqlstable.database.trial_copy import Scratch
from sqlstable.errors import LimitTrap, SettingsError
from sqlstable.schema.advancing import (
    Advance,
    Doing,
    SchemaRun,
    abandon,
    check_no_run,
    upgrade_to,
)
from sqlstable.schema.applying import SchemaOutcome, read_target
from sqlstable.schema.going_back import go_back
from sqlstable.schema.ledger import Execute, make_ledger, read_ledger
from sqlstable.schema.schema_status import SchemaStatus, read_status
from sqlstable.schema.table_life import deprecate, remove, restore
from sqlstable.trace.model import LimitUse

ROWS_FIRST: Final = 1000
"""Of the first message of a migration: few enough to learn by what a row takes."""

SHARE_AIMED: Final = 0.5
"""Of the limit that is nearest: rows differ, and a message that crosses a limit was in vain."""

GROWTH_MAX: Final = 8
"""From one message to the next: the first rows may have been small ones."""

SHRINKING: Final = 4
"""After a message that crossed a limit."""


_BY_ROWS: Final = ("copy", "catch up", "change")
"""What messages do that take more rows, or fewer, by what the one before has used."""


@dataclass(frozen=True, slots=True)
class MigrationMessage:
    """One message of a migration."""

    doing: Doing
    rows: int
    "Rows that it copied, or brought up to date."
    rows_max: int
    "How many it was allowed."
    limits: tuple[LimitUse, ...]
    "How much of each limit it used."

    @property
    def share(self) -> float:
        """How much of the limit that is nearest it used; 0 where there are no limits."""
        return max((it.used / it.limit for it in self.limits), default=0.0)


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What `Canister.migrate` has done, and what has become of the schema."""

    messages: tuple[MigrationMessage, ...]
    "Those that were committed, in order."
    crossed: int
    "Messages that crossed a limit, left nothing, and were sent again with fewer rows."
    outcomes: tuple[SchemaOutcome, ...]
    "What has become of the schema; nothing where it was there already, or the switch waits."
    is_switched: bool
    "Whether the database has the new schema."

    @property
    def rows(self) -> int:
        """Rows that were copied, or brought up to date."""
        return sum(it.rows for it in self.messages)

    @property
    def share_max(self) -> float:
        """How much of a limit any message used."""
        return max((it.share for it in self.messages), default=0.0)

    @property
    def nearest(self) -> LimitUse | None:
        """The limit of which a message used the largest share; None where there are none."""
        uses = (use for it in self.messages for use in it.limits)
        return max(uses, key=lambda it: it.used / it.limit, default=None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What has become of the schema, in words."""
        return tuple(sentence for it in self.outcomes for sentence in it.sentences)


class UpgradeMigration:
    """What an upgrade to a schema does first in its post_upgrade."""

    def __init__(
        self,
        life: Life,
        schema: Path | str,
        *,
        renames: Mapping[str, str] | None = None,
        dropped: Collection[str] = (),
    ) -> None:
        """Read what is to be reached.

        Raises:
            MigrationError: It cannot be read, or is no folder of migrations.
        """
        self._life = life
        self._target = read_target(schema, renames=renames, dropped=dropped)
        self.notes: tuple[str, ...] = ()
        "What has become of the schema, once the hook has run."

    def __call__(self, message: HookMessage) -> None:
        """Check and migrate, or trap."""
        outcome = upgrade_to(message.execute, self._target, lambda: copy_of(self._life))
        self.notes = outcome.sentences


def migrate(
    life: Life,
    schema: Path | str,
    *,
    renames: Mapping[str, str] | None = None,
    dropped: Collection[str] = (),
    rows_per_message: int | None = None,
    switch: bool = True,
    on_message: Callable[[MigrationMessage], None] | None = None,
) -> MigrationReport:
    """Migrate by messages; see `sqlstable.canister.schema_door.SchemaDoor.migrate`."""
    if rows_per_message is not None and rows_per_message < 1:
        raise SettingsError(
            f"rows_per_message is {rows_per_message}; it is 1 or more, or None to let the limits "
            "decide"
        )
    target = read_target(schema, renames=renames, dropped=dropped)
    run = SchemaRun(target, lambda: copy_of(life), switches=switch)
    run.cuts = rows_per_message is not None
    messages: list[MigrationMessage] = []
    outcomes: list[SchemaOutcome] = []
    rows, crossed = rows_per_message or ROWS_FIRST, 0
    while True:
        try:
            step, one = _send(life, run, rows)
        except LimitTrap:
            is_whole = run.doing == "numbered" and run.can_cut and not run.cuts
            if not is_whole and (run.doing != "copy" or rows == 1):
                raise
            crossed += 1
            # A migration by hand is cut where one message is not enough for it.
            run.cuts |= is_whole
            rows = rows if is_whole else max(1, rows // SHRINKING)
            continue
        messages.append(one)
        if step.outcome is not None:
            outcomes.append(step.outcome)
        if on_message is not None:
            on_message(one)
        if step.is_over:
            is_switched = step.doing != "look" or switch
            return MigrationReport(tuple(messages), crossed, tuple(outcomes), is_switched)
        if rows_per_message is None and step.doing in _BY_ROWS:
            rows = next_rows(rows, one)


def next_rows(rows: int, message: MigrationMessage) -> int:
    """Return how many rows the next message may take, by what the last one used of its limits.

    Examples:
        >>> copied = MigrationMessage("copy", 1000, 1000, (LimitUse("OS pages", 1, 20),))
        >>> next_rows(1000, copied)
        8000
        >>> next_rows(8000, MigrationMessage("copy", 8000, 8000, (LimitUse("OS pages", 15, 20),)))
        5333
    """
    aimed = rows * GROWTH_MAX
    if message.share > 0:
        aimed = min(aimed, int(rows * SHARE_AIMED / message.share))
    return max(1, aimed)


def copy_of(life: Life) -> Scratch:
    """Return a copy of the database as it is now, unrecorded, to try something on."""
    with _observer(life) as connection:
        size_bytes = life.view().store.size_bytes
        return Scratch.copy_of(connection, size_bytes, lambda it: _equip(life, it))


@contextmanager
def observing(life: Life) -> Iterator[Execute]:
    """Yield what reads the database as it is now, unrecorded."""
    with _observer(life) as connection:
        yield lambda sql, params=None: list(connection.execute(sql, params))


@contextmanager
def _observer(life: Life) -> Iterator[SqliteConnection]:
    connection = life.view().observe()
    try:
        _equip(life, connection)
        yield connection
    finally:
        connection.close(force=True)


def _equip(life: Life, connection: SqliteConnection) -> None:
    """Give a connection what the canister's own have, and as much trust."""
    if life.opening.is_foreign:
        prepare(connection, life.opening.setups)
        return
    trust(connection)
    for setup in life.opening.setups:
        setup(connection)


def in_message(life: Life, label: str, body: Callable[[Execute], None]) -> Reply:
    """Do something to the schema in one update message."""
    message = Message(life, "update", label=label)
    with message:
        check_no_run(message.execute)
        body(message.execute)
    return message.reply


def abandon_migration(life: Life) -> Reply:
    """Give up the migration that is under way."""
    message = Message(life, "update", label="abandon the migration")
    with message:
        abandon(message.execute)
    return message.reply


def rollback_schema(life: Life, *, without_removed: bool = False) -> Reply:
    """Take back the last migration; the reply's notes say what became of tables."""
    words: list[str] = []

    def body(execute: Execute) -> None:
        words.extend(go_back(execute, without_removed=without_removed))

    reply = in_message(life, "take back a migration", body)
    reply.notes = (*reply.notes, *words)
    return reply


def move_table(life: Life, step: Literal["deprecate", "restore", "remove"], name: str) -> Reply:
    """Move a table along its life, by hand."""

    def body(execute: Execute) -> None:
        ledger = read_ledger(execute)
        match step:
            case "deprecate":
                make_ledger(execute)
                deprecate(execute, ledger, name, "hand")
            case "restore":
                restore(execute, ledger, name)
            case "remove":
                remove(execute, ledger, name)

    return in_message(life, f"{step} table {name}", body)


def schema_status(life: Life) -> SchemaStatus:
    """Return what the ledger says."""
    with life.turn("schema status"), observing(life) as execute:
        return read_status(execute)


def _send(life: Life, run: SchemaRun, rows: int) -> tuple[Advance, MigrationMessage]:
    message = Message(life, "update", label="migrate")
    with message:
        step = run.advance(message.execute, rows)
    return step, MigrationMessage(step.doing, step.rows, rows, message.reply.limits)
