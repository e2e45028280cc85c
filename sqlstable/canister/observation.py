"""Watching one canister: recorder, owners, and the trace that is written as messages end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from sqlstable.database.vfs import StableVFS
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.attribution import (
    Attributed,
    MessageFacts,
    attribute,
    dirty_sqlite_pages,
)
from sqlstable.trace.file import TraceWriter
from sqlstable.trace.model import OwnerRun
from sqlstable.trace.owners import Changes, OwnerMap, owner_spans
from sqlstable.trace.raw import RawMessage
from sqlstable.trace.recorder import Depth, Recorder


class Observation:
    """What is observed of a canister's messages; nothing of it is ever recorded itself.

    Args:
        memory: The canister's stable memory, with its log set.
        writer: Writes the trace file, or None.
        depth: ``counters`` or ``pages``.
        owners: Whether owners of SQLite pages are kept up to date after each message.
    """

    def __init__(
        self,
        memory: StableMemory,
        *,
        writer: TraceWriter | None,
        depth: Depth,
        owners: bool,
    ) -> None:
        """Start with no message."""
        assert memory.log is not None
        self.recorder = Recorder(memory.log, depth=depth)
        self.writer = writer
        self._memory = memory
        self._owner_map = OwnerMap() if owners else None
        self._reader: _StoreReader | None = None
        self._message_count = 0
        self._statement_count = 0

    @property
    def message_count(self) -> int:
        """Messages that have ended so far."""
        return self._message_count

    @property
    def has_owners(self) -> bool:
        """Whether owners are kept."""
        return self._owner_map is not None

    def watch(self, vfs: StableVFS) -> None:
        """Look at the database through this VFS from now on."""
        self.forget_vfs()
        self._reader = _StoreReader(vfs)

    def forget_vfs(self) -> None:
        """Close the observer's connection, before its VFS goes."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def end_message(self, facts: "Callable[[int], MessageFacts]") -> Callable[[], Attributed]:
        """Take what was recorded; attribute it now if a trace is written, else when asked.

        Args:
            facts: Gives the facts of the message, from its index.

        Returns:
            A function that returns the attributed message.
        """
        raw = self.recorder.take()
        index = self._message_count
        first_statement = self._statement_count
        self._message_count += 1
        self._statement_count += len(raw.statements)
        page_size = self._page_size()
        if self._owner_map is None and self.writer is None:
            # Facts are bound now, because they speak of the memory as it is now.
            known = facts(index)
            return lambda: attribute(
                raw, known, first_statement=first_statement, page_size=page_size
            )
        attributed = self._attribute_now(raw, facts(index), first_statement, page_size)
        return lambda: attributed

    def close(self) -> None:
        """Finish the trace."""
        self.forget_vfs()
        if self.writer is not None:
            self.writer.close()

    def _page_size(self) -> int:
        return self._reader.page_size if self._reader is not None else 4096

    def _attribute_now(
        self, raw: RawMessage, facts: MessageFacts, first_statement: int, page_size: int
    ) -> Attributed:
        runs = self._update_owners(raw, facts, page_size)
        attributed = attribute(
            raw,
            facts,
            first_statement=first_statement,
            page_size=page_size,
            owners=self._owner_map,
        )
        if self.writer is not None:
            self.writer.write(
                attributed.message,
                attributed.statements,
                statement_accesses={
                    index: source() for index, source in attributed.statement_accesses.items()
                },
                outside_accesses=[source() for source in attributed.outside_accesses],
                owner_runs=runs,
            )
        return attributed

    def _update_owners(
        self, raw: RawMessage, facts: MessageFacts, page_size: int
    ) -> list[OwnerRun]:
        if self._owner_map is None or self._reader is None:
            return []
        if facts.kind in ("install", "upgrade", "reinstall"):
            changes = self._owner_map.refresh(self._reader)
        elif facts.outcome == "committed":
            dirty = dirty_sqlite_pages(raw, page_size)
            changes = self._owner_map.update(self._reader, dirty)
        else:
            return []
        return self._owner_runs(facts.index, changes)

    def _owner_runs(self, message: int, changes: Changes) -> list[OwnerRun]:
        assert self._owner_map is not None
        owners = self._owner_map.owners
        runs = []
        for span in owner_spans(changes):
            owner = owners[span.owner_index]
            runs.append(
                OwnerRun(
                    message,
                    span.first_number,
                    span.sqlite_page_count,
                    owner.name,
                    owner.table,
                    owner.kind,
                    owner.role,
                )
            )
        return runs


class _StoreReader:
    """The database as it is now, for the owner map."""

    def __init__(self, vfs: StableVFS) -> None:
        self._vfs = vfs
        self._connection: apsw.Connection | None = None

    @property
    def page_size(self) -> int:
        """Bytes of a SQLite page."""
        return self._vfs.store.page_size

    def read_sqlite_page(self, number: int) -> bytes:
        """Return one SQLite page."""
        size = self.page_size
        return self._vfs.store.peek(size, (number - 1) * size)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL on the observer's connection."""
        if self._connection is None:
            self._connection = self._vfs.observe()
        return self._connection.execute(sql).fetchall()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close(force=True)
            self._connection = None


def open_writer(
    trace: Path | str | None, settings: dict[str, object], *, overwrite: bool
) -> TraceWriter | None:
    """Return the writer of a trace file, or None where no trace is wanted."""
    if trace is None:
        return None
    return TraceWriter(None if trace == ":memory:" else trace, settings, overwrite=overwrite)
