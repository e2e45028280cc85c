"""A canister that keeps SQLite in its stable memory: install, update, query, upgrade.

`Canister` joins the machine (memory, database, engine) and the observation (recorder, trace). A
message commits whole or leaves nothing; a query's writes are discarded; an upgrade wipes the heap
and keeps stable memory.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from sqlstable.canister.message import Message, MessageKind, check_choice
from sqlstable.canister.observation import EndedMessage, Observation, open_writer
from sqlstable.canister.reply import Reply
from sqlstable.database.settings import Settings, resolve_settings
from sqlstable.database.transfer import extract_database, import_database, read_database
from sqlstable.database.vfs import StableVFS, sqlite_version
from sqlstable.engine.native import NativeEngine
from sqlstable.engine.protocol import CacheState, Params
from sqlstable.errors import MessageError, Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.accesslog import AccessLog
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.file import Trace
from sqlstable.trace.recorder import Depth

if TYPE_CHECKING:
    import apsw


@dataclass(frozen=True, slots=True)
class Status:
    """How large a canister is, and what it has done."""

    stable_size_bytes: int
    "Grown bytes of stable memory; the Internet Computer charges storage for them."
    database_size_bytes: int
    "Bytes of the database file."
    messages: int
    "Messages that have ended, life-cycle steps included."
    settings: dict[str, object]
    "All settings, as reports state them."


class Canister:
    """SQLite in simulated stable memory.

    Args:
        engine: ``native``: APSW in this process.
        layout: ``managed`` (the memory manager of ic-stable-structures) or ``raw``.
        preset: PRAGMAs of a known product, see `sqlstable.database.settings.PRESETS`.
        page_size: Bytes of a SQLite page, 512 to 65 536; an existing database keeps its own.
        cache_size: SQLite pages that SQLite keeps in the heap; negative for KiB.
        journal_mode: ``memory`` or ``off``.
        bucket_pages: Wasm pages of a bucket of a new memory manager, layout managed only.
        limits: Limits to enforce: a date, ``"latest"``, a `Limits`, or None for none.
        trace: Path of a trace file to write, or ``":memory:"`` for one that `trace` gives back.
        overwrite_trace: Whether an existing trace file may be replaced.
        depth: ``counters`` asks SQLite for VM steps, scans, sorts and cache hits (about 2 µs a
            statement), ``pages`` does without.
        owners: Whether each message's OS pages are attributed to tables and indexes; by default
            where a trace is written.
        memory: An existing stable memory, such as `StableMemory.from_image` gives.
        now: The date and time that SQL sees.
        seed: Seed of SQL's ``random()``.

    Raises:
        SettingsError: A setting is unknown, out of range, or does not go with another one.
        ImageError: ``memory`` holds something else than the layout, or a damaged database.

    Examples:
        >>> canister = Canister()
        >>> _ = canister.update("CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT)")
        >>> _ = canister.update("INSERT INTO account (owner) VALUES (?)", ("alice",))
        >>> reply = canister.query("SELECT owner FROM account WHERE id = ?", (1,))
        >>> reply.rows, reply.footprint.os_pages_accessed
        ([('alice',)], 2)
        >>> canister.upgrade().outcome
        'committed'
        >>> canister.query("SELECT owner FROM account").rows
        [('alice',)]
        >>> canister.close()
    """

    def __init__(  # noqa: PLR0913  each is a keyword with a default
        self,
        *,
        engine: Literal["native"] = "native",
        layout: str | None = None,
        preset: str | None = None,
        page_size: int | None = None,
        cache_size: int | None = None,
        journal_mode: str | None = None,
        bucket_pages: int | None = None,
        limits: Limits | date | str | None = "latest",
        trace: Path | str | None = None,
        overwrite_trace: bool = False,
        depth: Depth = "counters",
        owners: bool | None = None,
        memory: StableMemory | None = None,
        now: str | None = None,
        seed: int | None = None,
    ) -> None:
        """Install the canister."""
        check_choice("engine", engine, ("native",))
        check_choice("depth", depth, ("counters", "pages"))
        self.settings = resolve_settings(
            preset=preset,
            layout=layout,
            page_size=page_size,
            cache_size=cache_size,
            journal_mode=journal_mode,
            bucket_pages=bucket_pages,
            now=now,
            seed=seed,
        )
        self._memory = memory if memory is not None else StableMemory(limits=limits)
        self._memory.log = AccessLog(self.settings.page_size)
        self._vfs: StableVFS | None = None
        self._engine: NativeEngine | None = None
        self._setups: list[Callable[[apsw.Connection], None]] = []
        self._message: Message | None = None
        self._is_closed = False
        self._is_foreign = memory is not None
        with_owners = owners if owners is not None else trace is not None
        writer = open_writer(trace, {}, overwrite=overwrite_trace)
        self._observation = Observation(
            self._memory, writer=writer, depth=depth, owners=with_owners
        )
        try:
            self._life_cycle_step("install", self._start_heap)
        except BaseException:
            self._let_go()
            if memory is None:
                self._memory.close()
            raise
        self._state_settings()

    # -- messages -------------------------------------------------------------------------------

    def update(self, sql: str, params: Params = None, *, label: str | None = None) -> Reply:
        """Run SQL as one update message; it commits whole, or leaves nothing.

        Args:
            sql: One or more statements.
            params: Values to bind: a sequence, or a dictionary for named parameters.
            label: Name of the message in reports.

        Raises:
            SqlError: SQLite refused a statement.
            Trap: The message trapped; nothing it did remains.
        """
        message = Message(self, "update", label=label)
        with message:
            message.execute(sql, params)
        return message.reply

    def query(
        self,
        sql: str,
        params: Params = None,
        *,
        cache: CacheState = "cold",
        label: str | None = None,
    ) -> Reply:
        """Run SQL as one query message; whatever it writes is discarded.

        Args:
            sql: One or more statements.
            params: Values to bind.
            cache: State of the heap: ``fresh`` (the database is just being opened), ``cold``
                (schema and statements are there, SQLite's page cache is empty) or ``warm`` (on
                the connection of the updates, which keeps what the query cached).
            label: Name of the message in reports.

        Raises:
            SqlError: SQLite refused a statement.
            Trap: The message trapped.
        """
        message = Message(self, "query", cache=cache, label=label)
        with message:
            message.execute(sql, params)
        return message.reply

    def message(
        self,
        kind: MessageKind = "update",
        *,
        cache: CacheState = "cold",
        label: str | None = None,
        keep_open: bool = False,
    ) -> "Message":
        """Return a message to be used in a ``with`` block, for several statements.

        Args:
            kind: ``update`` or ``query``.
            cache: State of a query's heap, as for `query`.
            label: Name of the message in reports.
            keep_open: Allows an SQL transaction to stay open when the message ends. On the
                Internet Computer that is dangerous: other messages come between, and what was
                spilled before a trap stays.

        Examples:
            >>> with Canister() as canister:
            ...     with canister.message("update") as message:
            ...         _ = message.execute("CREATE TABLE t (x)")
            ...         _ = message.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
            ...     message.reply.statements[1].runs
            2
        """
        return Message(self, kind, cache=cache, label=label, keep_open=keep_open)

    # -- life cycle -----------------------------------------------------------------------------

    def upgrade(self, *, label: str | None = None) -> Reply:
        """Upgrade the canister: the heap goes, stable memory stays."""
        return self._life_cycle_step("upgrade", self._restart_heap, label=label)

    def reinstall(self, *, label: str | None = None) -> Reply:
        """Reinstall the canister: heap and stable memory go."""
        self._check_idle()
        self._stop_heap()
        self._memory.reset()
        self._is_foreign = False
        return self._life_cycle_step("reinstall", self._start_heap, label=label)

    def close(self) -> None:
        """Finish the trace and give all memory back; closing twice does no harm."""
        if self._is_closed:
            return
        if self._message is not None:
            self._message.abandon()
        self._let_go()
        self._memory.close()

    def __enter__(self) -> Self:
        """Use the canister in a ``with`` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the canister."""
        self.close()

    # -- in and out -----------------------------------------------------------------------------

    def import_database(self, path: Path | str | bytes) -> Reply:
        """Copy a SQLite database file into the canister, whose own database must be empty.

        The database is opened defensively from then on: its schema is not trusted.

        Args:
            path: The file, or what `sqlstable.database.transfer.read_database` returned for it.

        Raises:
            ImageError: The file is missing, not a database, truncated or damaged.
            MessageError: The canister has a database already.
        """
        self._check_idle()
        vfs = self._open_vfs()
        if vfs.store.size_bytes:
            msg = (
                f"the canister has a database of {vfs.store.size_bytes} bytes already; reinstall "
                "it first, or import into a new one"
            )
            raise MessageError(msg)
        data = path if isinstance(path, bytes) else read_database(path)

        def step() -> None:
            import_database(vfs.store, data)
            self._is_foreign = True
            self._restart_heap()

        reply = self._life_cycle_step("install", step, limited=False)
        self._state_settings()
        return reply

    def extract_database(self, path: Path | str, *, overwrite: bool = False) -> int:
        """Write the database as a plain SQLite file, and return its size in bytes.

        Raises:
            ImageError: The file exists already, or cannot be written.
        """
        self._check_idle()
        return extract_database(self._open_vfs().store, path, overwrite=overwrite)

    def image(self) -> bytes:
        """Return all of stable memory, as in a snapshot's ``stable_memory.bin``."""
        return self._memory.image()

    # -- looking --------------------------------------------------------------------------------

    @property
    def memory(self) -> StableMemory:
        """The canister's stable memory."""
        return self._memory

    @property
    def vfs(self) -> StableVFS:
        """What gives SQLite the database file; a new one after each upgrade and reinstall.

        Raises:
            MessageError: The canister is closed.
        """
        return self._open_vfs()

    def status(self) -> Status:
        """Return sizes and settings."""
        vfs = self._open_vfs()
        recorder = self._observation.recorder
        return Status(
            stable_size_bytes=self._memory.wasm_pages * WASM_PAGE_BYTES,
            database_size_bytes=vfs.store.size_bytes,
            messages=self._observation.message_count,
            settings=self._described(recorder.depth, owners=self._observation.has_owners),
        )

    def trace(self) -> Trace:
        """Return what the trace holds so far; to be closed by itself, and readable after `close`.

        Raises:
            MessageError: The canister was made without a trace.
            TraceError: The trace cannot be written or read.
        """
        writer = self._observation.writer
        if writer is None:
            msg = 'the canister keeps no trace; make it with trace=":memory:", or with a path'
            raise MessageError(msg)
        return writer.trace()

    def on_connect(self, setup: "Callable[[apsw.Connection], None]") -> None:
        """Run ``setup`` on each connection that is opened, now and again after upgrades and traps.

        For functions, collations and authorizers: they live in the heap, and go with it.
        """
        self._check_idle()
        self.engine.on_connect(setup)
        self._setups.append(setup)

    # -- inside: messages -----------------------------------------------------------------------

    def begin_message(self, message: "Message") -> None:
        """Begin a message; `Message` calls this."""
        self._check_idle()
        engine = self._engine
        assert engine is not None
        engine.begin(message.kind, message.cache)
        self._memory.begin(message.kind)
        self._message = message
        if message.cache == "fresh" and message.kind == "query":
            try:
                with self._observation.recorder.outside("open"):
                    engine.enter()
            except BaseException as error:
                self.end_message(message, error)
                raise

    def end_message(self, message: "Message", error: BaseException | None) -> Trap | None:
        """End a message; returns the trap, if there was one. `Message` calls this."""
        memory, engine, vfs = self._memory, self._engine, self._vfs
        assert engine is not None
        assert vfs is not None
        self._message = None
        trap = memory.trap
        if trap is None and error is not None:
            trap = memory.poison(error if isinstance(error, Trap) else Trap(str(error)))
        ended = EndedMessage(memory, message.kind, label=message.label, cache=message.cache)
        if trap is not None:
            engine.discard_heap()
            memory.rollback()
            ended.outcome = "trapped"
            ended.trap = str(trap)
        elif message.kind == "query":
            ended.discarded_writes = bool(memory.bytemap.dirty)
            memory.rollback()
            engine.end(discarded=ended.discarded_writes)
            ended.outcome = "discarded"
        else:
            memory.commit()
            engine.end(discarded=False)
        ended.wasm_pages = memory.wasm_pages
        if vfs.store.is_page_size_stale:
            vfs.adopt_page_size()
            self._observation.end_message(ended)
            # Not before the log is taken, which is still in the old unit.
            self._adopt(vfs)
            self._state_settings()
        else:
            self._observation.end_message(ended)
        message.ended = ended
        return trap

    def outside(self, name: str) -> AbstractContextManager[None]:
        """Bill accesses to a name; `Message` calls this."""
        return self._observation.recorder.outside(name)

    def unfinished(self, *, keep_transaction: bool) -> str | None:
        """Say what the open message has left open; `Message` calls this."""
        assert self._engine is not None
        return self._engine.unfinished(keep_transaction=keep_transaction)

    @property
    def engine(self) -> NativeEngine:
        """What executes the SQL."""
        if self._engine is None:
            raise MessageError(_CLOSED)
        return self._engine

    # -- inside: the heap -----------------------------------------------------------------------

    def _life_cycle_step(
        self,
        kind: str,
        step: Callable[[], None],
        *,
        label: str | None = None,
        limited: bool = True,
    ) -> Reply:
        self._check_idle()
        memory = self._memory
        before = (self._engine is not None, self.settings, self._is_foreign)
        memory.begin(kind)
        if not limited:
            memory.bytemap.begin(None, kind)
        try:
            with self._observation.recorder.outside("open"):
                step()
        except BaseException as error:
            memory.poison(Trap(str(error)))
            self._stop_heap()
            memory.rollback()
            had_heap, self.settings, self._is_foreign = before
            if had_heap:
                self._revive_heap()
            self._observation.recorder.take()
            raise
        ended = EndedMessage(memory, kind, label=label)
        memory.commit()
        self._observation.end_message(ended)
        return Reply([], ended)

    def _start_heap(self) -> None:
        settings = self.settings
        vfs = StableVFS(
            self._memory,
            layout=settings.layout,
            page_size=settings.page_size,
            bucket_pages=settings.bucket_pages,
            now=settings.now,
            implicit_messages=False,
        )
        self._vfs = vfs
        self._adopt(vfs)
        engine = NativeEngine(
            vfs, self.settings, self._observation.recorder.attach, is_foreign=self._is_foreign
        )
        self._engine = engine
        for setup in self._setups:
            engine.on_connect(setup)
        engine.open()
        self._observation.watch(vfs)

    def _adopt(self, vfs: StableVFS) -> None:
        """An existing database keeps its page size, an existing manager its bucket size."""
        log = self._memory.log
        assert log is not None
        log.sqlite_page_bytes = vfs.store.page_size
        self.settings = resolve_settings(
            **{
                **asdict(self.settings),
                "page_size": vfs.store.page_size,
                "bucket_pages": vfs.bucket_pages,
            }
        )

    def _stop_heap(self) -> None:
        self._observation.forget_vfs()
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        if self._vfs is not None:
            self._vfs.unregister()
            self._vfs = None

    def _restart_heap(self) -> None:
        self._stop_heap()
        self._start_heap()

    def _revive_heap(self) -> None:
        """Start a heap for the one that a failed step wiped, unlimited; nothing of it is kept."""
        self._memory.begin("query")
        self._memory.bytemap.begin(None, "query")
        try:
            self._start_heap()
        finally:
            self._memory.rollback()

    def _let_go(self) -> None:
        """Finish the trace and leave the memory alone."""
        self._is_closed = True
        self._stop_heap()
        self._observation.close()
        self._memory.log = None

    def _open_vfs(self) -> StableVFS:
        if self._vfs is None:
            raise MessageError(_CLOSED)
        return self._vfs

    def _check_idle(self) -> None:
        if self._is_closed:
            raise MessageError(_CLOSED)
        if self._message is not None:
            msg = (
                f"a message ({self._message.kind}) is open; a canister runs one message at a "
                "time: end it first"
            )
            raise MessageError(msg)

    def _state_settings(self) -> None:
        """Write the settings into the trace: those of an imported database are its own."""
        writer = self._observation.writer
        if writer is not None:
            writer.update_settings(self.status().settings)

    def _described(self, depth: Depth, *, owners: bool) -> dict[str, object]:
        limits = self._memory.limits
        return {
            "engine": "native",
            "sqlite": sqlite_version(),
            **_described_settings(self.settings),
            "limits": None if limits is None else limits.date.isoformat(),
            "prices": None,
            "depth": depth,
            "owners": owners,
        }


_CLOSED: Final = "the canister is closed; make a new one"


def _described_settings(settings: Settings) -> dict[str, object]:
    values: dict[str, object] = asdict(settings)
    if settings.layout != "managed":
        values["bucket_pages"] = None
    return values
