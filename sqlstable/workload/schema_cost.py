"""What a migration costs on somebody's own data, as one upgrade of a canister that holds it.

The canister is one of its own, on a copy in this process's memory, and nothing traps at limits: so
it is known by how much a migration misses them.

**Limitations**

* It is the ``post_upgrade`` of that canister that migrates, with nothing else in it.
* Rows copied are those that the new tables have; a migration that needs more than one message is
  told by `Canister.migrate`.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlstable.canister.canister import Canister
from sqlstable.canister.choices import Keywords
from sqlstable.canister.hooks import HookMessage, Hooks
from sqlstable.canister.reply import Reply
from sqlstable.database.library import quoted
from sqlstable.errors import SqlError, Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import EngineName
from sqlstable.layout.layout import Peek
from sqlstable.layout.layouts import recognised
from sqlstable.memory.stable import StableMemory
from sqlstable.schema.schema_files import image_of, source_kind
from sqlstable.schema.schema_verdicts import Migration
from sqlstable.trace.model import LimitUse

_NO_SETTINGS: Final = frozenset({"enforced", "owners", "depth"})
"""What is chosen for measuring, and changes no number."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one statement of a migration took."""

    sql: str
    purpose: str
    os_pages_accessed: int
    os_pages_dirty: int
    instructions: int | None
    "None on the native engine, which counts none."


@dataclass(frozen=True, slots=True)
class MigrationCost:
    """What a migration took, all in all."""

    source: str
    settings: dict[str, object]
    steps: tuple[StepCost, ...]
    os_pages_accessed: int
    "Of the whole upgrade, opening the database included; each OS page once."
    os_pages_dirty: int
    instructions: int | None
    rows_copied: int
    limits: tuple[LimitUse, ...]
    "Of one upgrade, and how much was used of each."
    stable_bytes_before: int
    stable_bytes_after: int
    failure: str | None = None
    "What ended it, where it did not go through."

    @property
    def fits(self) -> bool:
        """Whether one upgrade may do all of it."""
        return self.failure is None and all(it.used <= it.limit for it in self.limits)


def migration_cost(
    source: Path | str,
    migration: Migration,
    *,
    engine: EngineName = "native",
    layout: str | None = None,
    limits: Limits | str | None = "latest",
) -> MigrationCost:
    """Carry a migration out on a copy of a database, in an upgrade, and say what it took.

    Args:
        source: A SQLite database, which goes into a canister first, an image, or a snapshot's
            folder. It is only read.
        migration: From the schema that it has.
        engine: ``native``, or ``wasm``, which counts instructions.
        layout: That a database gets; an image has its own.
        limits: Limits to measure against: a date, ``"latest"``, a `Limits`, or None for none.

    Raises:
        ImageError: There is no sound database there.
    """
    keywords: Keywords = {"engine": engine, "limits": limits, "enforce": False, "layout": layout}
    failure = None
    with _canister(Path(source), keywords) as canister:
        before_bytes = canister.memory.wasm_pages * WASM_PAGE_BYTES
        try:
            reply = canister.upgrade(hooks=Hooks(post_upgrade=lambda it: _run(it, migration)))
        except (SqlError, Trap) as error:
            reply, failure = None, str(error)
        return MigrationCost(
            source=str(source),
            settings=_settings(canister),
            steps=() if reply is None else tuple(_steps(reply, migration)),
            os_pages_accessed=0 if reply is None else reply.footprint.os_pages_accessed,
            os_pages_dirty=0 if reply is None else reply.footprint.os_pages_dirty,
            instructions=None if reply is None else _instructions(reply),
            rows_copied=0 if reply is None else _rows(canister, migration),
            limits=() if reply is None else reply.limits,
            stable_bytes_before=before_bytes,
            stable_bytes_after=canister.memory.wasm_pages * WASM_PAGE_BYTES,
            failure=failure,
        )


def _settings(canister: Canister) -> dict[str, object]:
    found = canister.status().settings
    return {name: value for name, value in found.items() if name not in _NO_SETTINGS}


def _run(message: HookMessage, migration: Migration) -> None:
    if migration.is_rebuilding:
        message.execute("PRAGMA foreign_keys = off")
    for step in migration.steps:
        message.execute(step.sql)


def _steps(reply: Reply, migration: Migration) -> Iterator[StepCost]:
    statements = reply.statements[1:] if migration.is_rebuilding else reply.statements
    for step, statement in zip(migration.steps, statements, strict=True):
        spent = statement.instructions
        yield StepCost(
            step.sql,
            step.purpose,
            statement.stable.os_pages_accessed,
            statement.stable.os_pages_dirty,
            None if spent is None else spent.total,
        )


def _instructions(reply: Reply) -> int | None:
    spent = reply.message.instructions
    return None if spent is None else spent.total


def _rows(canister: Canister, migration: Migration) -> int:
    total = 0
    for step in migration.steps:
        if step.copies is not None and step.table is not None:
            sql = f"SELECT count(*) FROM {quoted(step.table)}"  # noqa: S608  quoted
            ((count,),) = canister.query(sql).rows
            total += count
    return total


@contextmanager
def _canister(source: Path, keywords: Keywords) -> Iterator[Canister]:
    with ExitStack() as stack:
        if source_kind(source) == "database":
            canister = stack.enter_context(Canister(**keywords))
            canister.import_database(source)
        else:
            image = StableMemory.open(
                image_of(source), limits=None, is_read_only=True, is_created=False
            )
            with image:
                found = recognised(Peek.at(image))
                assert found is not None, "its schema has been read"
                chosen: Keywords = {
                    **keywords,
                    "memory": stack.enter_context(_copied(image)),
                    "layout": found.name,
                }
            canister = stack.enter_context(Canister(**chosen))
        yield canister


def _copied(image: StableMemory) -> StableMemory:
    made = StableMemory(limits=image.limits)
    made.grow(image.wasm_pages)
    assert image.image_file is not None
    for address, data in image.image_file.pieces():
        made.write(address, data)
    return made
