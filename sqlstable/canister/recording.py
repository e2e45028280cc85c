"""``sqlstable.record``: a trace of what somebody's own APSW connection does.

The lower door for people who have a connection on a `StableVFS` already and want to see its
statements, without a `Canister`.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Self

from sqlstable.canister.observation import StoreReader, owner_runs
from sqlstable.database.vfs import StableVFS, sqlite_version, vfs_of
from sqlstable.errors import MessageError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.trace.attribution import MessageFacts, attribute, dirty_sqlite_pages
from sqlstable.trace.file import Trace, TraceWriter
from sqlstable.trace.foreign import ForeignRecorder
from sqlstable.trace.model import Accesses, Message, OwnerRun, Statement, TraceSettings
from sqlstable.trace.owners import OwnerMap

if TYPE_CHECKING:
    import apsw

_PRAGMAS = ("page_size", "cache_size", "journal_mode", "locking_mode", "synchronous", "temp_store")


class Recording:
    """A trace in the making; it can be read when the ``with`` block of `record` has ended."""

    def __init__(self, recorder: ForeignRecorder) -> None:
        """Join a recorder and the trace to come."""
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
            msg = "the recording is still running; read it after its with block"
            raise MessageError(msg)
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
    def owners(self) -> Sequence[OwnerRun]:
        """Owners of SQLite pages, before and after the recording."""
        return self.trace.owners

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
        msg = "this stable memory is being recorded already; end that recording first"
        raise MessageError(msg)
    settings = _settings(vfs, connection)
    owners = OwnerMap()
    reader = StoreReader(vfs)
    owners.refresh(reader)
    memory.log = store.new_log()
    store.position_after_commit = 0
    store.rebind()
    recorder = ForeignRecorder(
        memory.log, connection, position_after_commit=lambda: store.position_after_commit
    )
    recording = Recording(recorder)
    writer = TraceWriter(None, settings)
    try:
        yield recording
    finally:
        memory.log = None
        store.rebind()
        _write(recorder, vfs, owners, reader, writer)
        reader.close()
        recording.finish(writer.trace())


def _write(
    recorder: ForeignRecorder,
    vfs: StableVFS,
    owners: OwnerMap,
    reader: StoreReader,
    writer: TraceWriter,
) -> None:
    page_size = vfs.store.page_size
    raws = recorder.stop()
    changes = owners.refresh(reader)
    first_statement = 0
    for index, raw in enumerate(raws):
        wrote = bool(len(dirty_sqlite_pages(raw, page_size)))
        facts = MessageFacts(
            index=index,
            kind="update" if wrote else "query",
            outcome="committed" if wrote else "discarded",
            image_bytes=vfs.memory.wasm_pages * WASM_PAGE_BYTES,
            cache="warm",
        )
        attributed = attribute(
            raw, facts, first_statement=first_statement, page_size=page_size, owners=owners
        )
        first_statement += len(attributed.statements)
        is_last = index == len(raws) - 1
        writer.write(
            attributed.message,
            attributed.statements,
            statement_accesses={
                number: source() for number, source in attributed.statement_accesses.items()
            },
            outside_accesses=[source() for source in attributed.outside_accesses],
            owner_runs=owner_runs(owners, index, changes) if is_last else (),
        )


def _settings(vfs: StableVFS, connection: "apsw.Connection") -> dict[str, object]:
    pragmas = {name: connection.pragma(name) for name in _PRAGMAS}
    limits = vfs.memory.limits
    return {
        "engine": "native",
        "sqlite": sqlite_version(),
        "layout": vfs.layout,
        "bucket_pages": vfs.bucket_pages if vfs.layout == "managed" else None,
        **pragmas,
        "limits": None if limits is None else limits.date.isoformat(),
        "prices": None,
        "owners": True,
    }
