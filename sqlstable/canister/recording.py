"""``sqlstable.record``: a trace of what somebody's own APSW connection does.

The lower door for people who have a connection on a `StableVFS` already and want to see its
statements, without a `Canister`.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Self

from sqlstable.canister.areas import file_owners
from sqlstable.canister.observation import StoreReader
from sqlstable.database.library import sqlite_version
from sqlstable.database.vfs import StableVFS, vfs_of
from sqlstable.errors import MessageError
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.prices import regime_of
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import WRITE
from sqlstable.trace.format.file import Trace, TraceWriter
from sqlstable.trace.format.summary import Summary
from sqlstable.trace.model import (
    Message,
    OwnerFault,
    OwnerRun,
    StableArea,
    Statement,
    TraceSettings,
)
from sqlstable.trace.ownership.owners import OwnerMap, owner_runs
from sqlstable.trace.recording.attribution import (
    Attributed,
    MessageFacts,
    attribute,
    dirty_sqlite_pages,
    grown_wasm_pages,
)
from sqlstable.trace.recording.foreign_recorder import ForeignRecorder
from sqlstable.trace.recording.owner_numbers import Places
from sqlstable.trace.recording.raw import RawMessage

if TYPE_CHECKING:
    import apsw

_PRAGMAS = ("page_size", "cache_size", "journal_mode", "locking_mode", "synchronous", "temp_store")


class Recording:
    """A trace in the making; it can be read when the ``with`` block of `record` has ended."""

    def __init__(self, recorder: ForeignRecorder) -> None:
        self._recorder = recorder
        self._trace: Trace | None = None

    def window(self, name: str) -> AbstractContextManager[None]:
        """Bill the accesses of a ``with`` block to ``name`` instead of a statement.

        For what SQLite reports no statement of: blob I/O, backups.
        """
        return self._recorder.window(name)

    def finish(self, trace: Trace) -> Self:
        """Take the finished trace; `record` calls this."""
        self._trace = trace
        return self

    @property
    def trace(self) -> Trace:
        """The trace, as `open_trace` gives it.

        Raises:
            MessageError: The ``with`` block has not ended.
        """
        if self._trace is None:
            raise MessageError("the recording is still running; read it after its with block")
        return self._trace

    @property
    def settings(self) -> TraceSettings:
        """Circumstances of the recording."""
        return self.trace.settings

    @property
    def messages(self) -> Sequence[Message]:
        """One message per SQL transaction."""
        return self.trace.messages

    @property
    def statements(self) -> Sequence[Statement]:
        """All statements."""
        return self.trace.statements

    @property
    def summary(self) -> Summary:
        """All messages together."""
        return self.trace.summary

    @property
    def owners(self) -> Sequence[OwnerRun]:
        """Owners of SQLite pages, before and after the recording."""
        return self.trace.owners

    @property
    def owner_faults(self) -> Sequence[OwnerFault]:
        """Why owners are unknown that should not be."""
        return self.trace.owner_faults

    @property
    def areas(self) -> Sequence[StableArea]:
        """What stable memory consists of, after the recording."""
        return self.trace.areas

    def accesses(self, statement: Statement | int) -> Accesses:
        """Return a statement's accesses in order."""
        return self.trace.accesses(statement)

    def outside_accesses(self, message: Message | int) -> tuple[tuple[str, Accesses], ...]:
        """Return a message's accesses that belong to no statement, by name."""
        return self.trace.outside_accesses(message)

    def to_pandas(self) -> Any:  # noqa: ANN401  pandas is optional
        """Return one row per statement."""
        return self.trace.to_pandas()


@contextmanager
def record(connection: "apsw.Connection") -> Iterator[Recording]:
    """Record what a connection on a `StableVFS` does inside a ``with`` block.

    Each SQL transaction is one message of the trace. Plans and owners are looked up when the
    block ends, unrecorded.

    Args:
        connection: A connection whose main database lies in stable memory.

    Raises:
        SettingsError: The connection is not opened through a `StableVFS`.
        MessageError: The stable memory is being recorded already.

    Examples:
        >>> import apsw, sqlstable
        >>> vfs = sqlstable.StableVFS(sqlstable.StableMemory())
        >>> connection = apsw.Connection("main.db", vfs=vfs.name)
        >>> _ = connection.execute("PRAGMA journal_mode = memory")
        >>> with sqlstable.record(connection) as trace:
        ...     _ = connection.execute("CREATE TABLE t (x)")
        >>> [(statement.sql, statement.stable.os_pages_dirty) for statement in trace.statements]
        [('CREATE TABLE t (x)', 3)]
        >>> connection.close()
        >>> vfs.unregister()
    """
    vfs = vfs_of(connection)
    memory, store = vfs.memory, vfs.store
    if memory.log is not None:
        raise MessageError("this stable memory is being recorded already; end that recording first")
    settings = _settings(vfs, connection)
    watch = _OwnerWatch(vfs)
    memory.log = store.new_log()
    store.messages.position_after_commit = store.messages.position_at_lock = 0
    store.rebind()
    recorder = ForeignRecorder(
        memory.log,
        connection,
        position_after_commit=lambda: store.messages.position_after_commit,
        position_at_lock=lambda: store.messages.position_at_lock,
    )
    recording = Recording(recorder)
    writer = TraceWriter(None, settings)
    try:
        yield recording
    finally:
        memory.log = None
        store.rebind()
        watch.write(recorder.stop(), writer)
        recording.finish(writer.trace())


class _OwnerWatch:
    """Looks at the owners before and after a recording, and writes its trace."""

    def __init__(self, vfs: StableVFS) -> None:
        self._vfs = vfs
        self._reader = StoreReader(vfs)
        self._owners = OwnerMap()
        self._before = self._owners.refresh(self._reader, whole=True)
        self._files = file_owners(vfs)
        self._refresh_files()
        self._wasm_pages = vfs.memory.wasm_pages

    def write(self, raws: list[RawMessage], writer: TraceWriter) -> None:
        """Look at them after, and write what was recorded."""
        changes = self._owners.refresh(self._reader, whole=True)
        self._refresh_files()
        first_statement = 0
        for index, raw in enumerate(raws):
            is_last = index == len(raws) - 1
            attributed = self._attributed(raw, index, first_statement, is_last=is_last)
            first_statement += len(attributed.statements)
            writer.write(
                attributed.message,
                attributed.statements,
                statement_accesses={
                    number: source() for number, source in attributed.statement_accesses.items()
                },
                outside_accesses=[source() for source in attributed.outside_accesses],
                # One map serves all messages, so that what it says holds from the first on.
                owner_runs=(
                    [owner_runs(self._owners.owners, 0, it) for it in (self._before, changes)]
                    if index == 0
                    else ()
                ),
                areas=self._reader.areas(index) if is_last else (),
                owner_fault=self._owners.fault or None if index == 0 else None,
                address_runs=self._files.take_news() if self._files and self._files.news else (),
                order=attributed.order,
            )

    def _attributed(
        self, raw: RawMessage, index: int, first_statement: int, *, is_last: bool
    ) -> Attributed:
        page_size, wasm_pages = self._vfs.store.page_size, self._vfs.memory.wasm_pages
        wrote = _has_written(raw)
        # What was undone in between has grown nothing; in the end the memory itself knows.
        self._wasm_pages = min(self._wasm_pages + grown_wasm_pages(raw), wasm_pages)
        if is_last:
            self._wasm_pages = wasm_pages
        facts = MessageFacts(
            message=index,
            kind="update" if wrote else "query",
            outcome="committed" if wrote else "discarded",
            image_bytes=self._wasm_pages * WASM_PAGE_BYTES,
            cache="warm",
        )
        places = Places(self._owners, self._files, dirty_sqlite_pages(raw, page_size), page_size)
        return attribute(raw, facts, first_statement=first_statement, places=places)

    def _refresh_files(self) -> None:
        if self._files is not None:
            self._files.refresh()


def _has_written(raw: RawMessage) -> bool:
    """Whether a message wrote anywhere in stable memory."""
    return any((chunk.kind == WRITE).any() for chunk in raw.accesses.chunks(0, len(raw.accesses)))


def _settings(vfs: StableVFS, connection: "apsw.Connection") -> dict[str, object]:
    pragmas = {name: connection.pragma(name) for name in _PRAGMAS}
    limits, image_file = vfs.memory.limits, vfs.memory.image_file
    return {
        "engine": "native",
        "sqlite": sqlite_version(),
        "layout": vfs.layout.name,
        "bucket_pages": vfs.bucket_pages,
        **pragmas,
        "growth": getattr(vfs, "growth", None),
        "durability": None if image_file is None else image_file.durability,
        "limits": None if limits is None else limits.date.isoformat(),
        "prices": regime_of(limits).name,
        "owners": True,
    }
