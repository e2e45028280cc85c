"""A canister that keeps SQLite in its stable memory: install, update, query, upgrade.

`Canister` joins the machine (memory, database, engine) and the observation (recorder, trace). A
message commits whole or leaves nothing; a query's writes are discarded; an upgrade wipes the heap
and keeps stable memory.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from weakref import ref

from sqlstable.canister.hosts import (
    ENGINES,
    EngineName,
    Flavour,
    Place,
    check_image_arguments,
    chosen_cache_size,
    make_host,
)
from sqlstable.canister.message import Message, check_choice
from sqlstable.canister.observation import EndedMessage, Observation, open_writer
from sqlstable.canister.reply import Reply
from sqlstable.canister.status import Presence, Status, described
from sqlstable.canister.turns import Turn, Turns
from sqlstable.database.extent import state_size
from sqlstable.database.foreign import DatabaseSource, SourceOptions, open_source
from sqlstable.database.settings import Settings, resolve_settings
from sqlstable.database.transfer import extract_database, import_database
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.engine import Engine, Params
from sqlstable.errors import LimitTrap, MessageError, Trap
from sqlstable.ic.limits import Limits
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.ic.words import CacheState, CallKind
from sqlstable.memory.image.durability import Durability
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.format.file import Trace
from sqlstable.trace.recording.recorder import Depth

if TYPE_CHECKING:
    import apsw


class Canister(Presence):
    """SQLite in simulated stable memory.

    Threads may share a canister: messages run one after the other, each whole in the thread that
    began it. Do not wait inside a message for a thread that sends another one.

    Args:
        path: An image file that keeps stable memory, see `StableMemory.open`; made if it is not
            there, and opened as it is if it is. None keeps everything in this process's memory.
        engine: ``native``: APSW in this process; ``wasm``: SQLite in a Wasm module as a canister
            runs it, with its instructions counted.
        layout: ``managed`` (the memory manager of ic-stable-structures) or ``raw``.
        preset: PRAGMAs of a known product, see `sqlstable.database.settings.PRESETS`.
        page_size: Bytes of a SQLite page, 512 to 65 536; an existing database keeps its own.
        cache_size: SQLite pages that SQLite keeps in the heap; negative for KiB.
        journal_mode: ``memory`` or ``off``; in layout managed also ``delete``, ``truncate`` or
            ``persist``, with a stable file.
        bucket_pages: Wasm pages of a bucket of a new memory manager, layout managed only.
        growth: How a file gets more stable memory, layout managed only: ``bucket`` by whole buckets
            (the default), ``wasm-page`` by what it needs.
        limits: Limits to enforce: a date, ``"latest"``, a `Limits`, or None for none.
        enforce: False measures against the limits of messages and traps at none of them: reports
            show which ones were crossed. The size of stable memory stays limited.
        trace: Path of a trace file to write, or ``":memory:"`` for one that `trace` gives back.
        overwrite_trace: Whether an existing trace file may be replaced.
        depth: ``counters`` asks SQLite for VM steps, scans, sorts and cache hits (about 2 µs a
            statement), ``pages`` does without.
        owners: Whether each message's OS pages are attributed to tables and indexes; by default
            where a trace is written.
        memory: An existing stable memory, such as `StableMemory.from_image` gives.
        durability: With ``path``: ``process`` (an answered message survives ``kill -9``, the
            default) or ``power`` (it survives a loss of power, too).
        read_only: With ``path``: allows queries only, and leaves all files as they are; so does a
            file that is not writable.
        now: The date and time that SQL sees.
        seed: Seed of SQL's ``random()``.
        foreign_keys: Whether SQLite enforces foreign keys; it does not unless it is told to.
        build: Of the wasm engine: ``standard``, ``profile`` (counts the rows that loops visit) or
            ``lean`` (set up for prices that charge the heap).
        track_heap: Of the wasm engine: whether to watch what is touched in the heap; by default
            where the prices of the limits' date charge it.

    Raises:
        SettingsError: A setting is unknown, out of range, or does not go with another one.
        ImageError: The image holds something else than the layout, or a damaged database; or
            the file is no image, is open elsewhere, or has a log that does not belong to it.

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
        path: Path | str | None = None,
        *,
        engine: EngineName = "native",
        layout: str | None = None,
        preset: str | None = None,
        page_size: int | None = None,
        cache_size: int | None = None,
        journal_mode: str | None = None,
        bucket_pages: int | None = None,
        growth: str | None = None,
        limits: Limits | date | str | None = "latest",
        enforce: bool = True,
        trace: Path | str | None = None,
        overwrite_trace: bool = False,
        depth: Depth = "counters",
        owners: bool | None = None,
        memory: StableMemory | None = None,
        durability: Durability | None = None,
        read_only: bool = False,
        now: str | None = None,
        seed: int | None = None,
        foreign_keys: bool | None = None,
        build: str | None = None,
        track_heap: bool | None = None,
    ) -> None:
        check_choice("engine", engine, ENGINES)
        check_choice("depth", depth, ("counters", "pages"))
        check_image_arguments(path, memory, durability, read_only=read_only)
        self.settings = resolve_settings(
            preset=preset,
            layout=layout,
            page_size=page_size,
            cache_size=chosen_cache_size(cache_size, preset, build),
            journal_mode=journal_mode,
            bucket_pages=bucket_pages,
            growth=growth,
            now=now,
            seed=seed,
            foreign_keys=foreign_keys,
        )
        place = Place(path, limits, durability, read_only=read_only)
        flavour = Flavour(build, track_heap=track_heap)
        self._host = make_host(engine, flavour, self.settings, memory or place, depth=depth)
        self._memory = self._host.memory
        self._memory.bytemap.is_enforced = enforce
        self.turns = Turns()
        self._setups: list[Callable[[apsw.Connection], None]] = []
        self._message: ref[Message] | None = None
        # Not while a message runs, and not after one that was cut off from outside.
        self._is_whole = True
        # What a step of the life cycle has changed, which is undone with it.
        self._before: tuple[Settings, bool] | None = None
        self._is_closed = self._is_let_go = self._is_given_back = False
        self._is_foreign = self._memory.wasm_pages > 0
        with ExitStack() as undo:
            if self._memory is not memory:
                undo.callback(self._memory.close)
            self._observation = Observation(
                self._memory,
                self._host.recorder,
                writer=open_writer(trace, {}, overwrite=overwrite_trace),
                owners=owners if owners is not None else trace is not None,
            )
            undo.callback(self._let_go)
            self._install()
            undo.pop_all()
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
        cache: CacheState | None = None,
        label: str | None = None,
    ) -> Reply:
        """Run SQL as one query message; whatever it writes is discarded.

        Args:
            sql: One or more statements.
            params: Values to bind.
            cache: State of the heap: ``fresh`` (the database is just being opened), ``cold``
                (schema and statements are there, SQLite's page cache is empty) or ``warm`` (as
                earlier messages left it). On the native engine cold is the default, and a warm
                query leaves in the heap what it cached; on the wasm engine warm is, and leaves
                nothing, as on the Internet Computer.
            label: Name of the message in reports.

        Raises:
            SqlError: SQLite refused a statement.
            Trap: The message trapped.
        """
        message = Message(self, "query", cache=cache or self._host.cache, label=label)
        with message:
            message.execute(sql, params)
        return message.reply

    def message(
        self,
        kind: CallKind = "update",
        *,
        cache: CacheState | None = None,
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
        return Message(
            self, kind, cache=cache or self._host.cache, label=label, keep_open=keep_open
        )

    # -- life cycle -----------------------------------------------------------------------------

    def upgrade(self, *, label: str | None = None) -> Reply:
        """Upgrade the canister: the heap goes, stable memory stays."""
        return self._life_cycle_step("upgrade", self._restart_heap, label=label)

    def reinstall(self, *, label: str | None = None) -> Reply:
        """Reinstall the canister: heap and stable memory go."""

        def step() -> None:
            self._stop_heap()
            self._memory.wipe()
            self._is_foreign = False
            self._start_heap()

        return self._life_cycle_step("reinstall", step, label=label)

    def close(self) -> None:
        """Finish the trace and give all memory back; closing twice does no harm.

        Raises:
            ImageError: The image file could not be left whole; it keeps its log.
        """
        if not self.turns.is_mine():
            with Turn(self.turns, "close", self._close):
                return
        message = None if self._message is None else self._message()
        if message is not None:
            message.abandon()
        self._close()

    def _close(self) -> None:
        if self._is_given_back:
            return
        try:
            self._let_go()
        finally:
            # Closing it twice does no harm: the first time may have been cut off.
            self._is_let_go = True
            self._memory.close()
        self._is_given_back = True

    def __enter__(self) -> Self:
        """Use the canister in a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- in and out -----------------------------------------------------------------------------

    def import_database(
        self,
        path: Path | str | bytes | DatabaseSource,
        *,
        page_size: int | None = None,
        integrity_check: bool = False,
    ) -> Reply:
        """Copy a SQLite database file into the canister, whose own database must be empty.

        The database is opened defensively from then on: its schema is not trusted. One that needs
        functions, collations or modules that are not here comes in all the same, and the reply's
        ``notes`` name what could not be checked; `on_connect` can give them to it.
        Instructions are those of opening it; loading its bytes is no canister's work, and costs
        nothing.

        Args:
            path: The file, which is only read; its bytes; or what
                `sqlstable.database.foreign.open_source` gives, which is checked already.
            page_size: Bytes of a SQLite page that the copy is to have; None keeps the file's.
            integrity_check: Compares indexes with their tables, too, which takes longer.

        Raises:
            ImageError: The file is missing, not a database, truncated or damaged.
            MessageError: The canister has a database already.
        """
        with self._turn("import"), ExitStack() as stack:
            vfs = self._check_empty()
            if not isinstance(path, DatabaseSource):
                options = SourceOptions(
                    setups=tuple(self._setups), is_thorough=integrity_check, page_size=page_size
                )
                path = stack.enter_context(open_source(path, options))
            return self._import(vfs, path)

    def _check_empty(self) -> StableVFS:
        self._memory.check("install")
        vfs = self._open_vfs()
        if vfs.store.size_bytes:
            raise MessageError(
                f"the canister has a database of {vfs.store.size_bytes} bytes already; reinstall "
                "it first, or import into a new one"
            )
        return vfs

    def _import(self, vfs: StableVFS, source: DatabaseSource) -> Reply:
        def step() -> None:
            import_database(vfs.store, source)
            self._is_foreign = True
            self._restart_heap()

        reply = self._run_step("install", step, label=None, limited=False)
        reply.notes = source.notes
        self._state_settings()
        return reply

    def extract_database(self, path: Path | str, *, overwrite: bool = False) -> int:
        """Write the database as a plain SQLite file, and return its size in bytes.

        Raises:
            ImageError: The file exists already, or cannot be written.
        """
        with self._turn("extract"):
            self._memory.check("query")
            return extract_database(self._open_vfs(), path, overwrite=overwrite)

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
        vfs = self._open_vfs()
        self._memory.check("query")
        return vfs

    @property
    def recovery(self) -> str | None:
        """One line on what was recovered from the image file's log on opening, or None."""
        image_file = self._memory.image_file
        return None if image_file is None else image_file.recovery

    @property
    def message_count(self) -> int:
        """Messages that have ended, life-cycle steps included; known of a closed canister, too."""
        return self._observation.message_count

    def status(self) -> Status:
        """Return sizes and settings."""
        vfs = self._open_vfs()
        self._memory.check("query")
        return Status(
            stable_size_bytes=self._memory.wasm_pages * WASM_PAGE_BYTES,
            database_size_bytes=vfs.store.size_bytes,
            messages=self._observation.message_count,
            settings=described(self._host, self.settings, owners=self._observation.has_owners),
            growth=self._observation.growth(vfs),
        )

    def trace(self) -> Trace:
        """Return what the trace holds so far; to be closed by itself, and readable after `close`.

        Raises:
            MessageError: The canister was made without a trace.
            TraceError: The trace cannot be written or read.
        """
        if not self._is_closed:
            self._memory.check("query")
        trace = self._observation.trace()
        if trace is None:
            raise MessageError(
                'the canister keeps no trace; make it with trace=":memory:", or with a path'
            )
        return trace

    def on_connect(self, setup: "Callable[[apsw.Connection], None]") -> None:
        """Run ``setup`` on each connection that is opened, now and again after upgrades and traps.

        For functions, collations and authorizers: they live in the heap, and go with it.
        """
        with self._turn("on_connect"):
            self.engine.on_connect(setup)
            self._setups.append(setup)

    # -- inside: messages -----------------------------------------------------------------------

    def begin_message(self, message: "Message") -> None:
        """Begin a message whose turn it is; `Message` calls this."""
        # Before anybody looks into the image: reading a map beyond its file kills the process.
        self._memory.check(message.kind)
        self.settle()
        engine = self._host.engine
        assert engine is not None
        self._is_whole = False
        self._message = ref(message)
        must_enter = engine.begin(message.kind, message.cache)
        self._memory.begin(message.kind)
        if must_enter:
            try:
                with self._observation.recorder.outside("open"):
                    engine.enter()
            except BaseException as error:
                self.end_message(message, error)
                raise

    def end_message(self, message: "Message", error: BaseException | None) -> Trap | None:
        """End a message; returns the trap, if there was one. `Message` calls this."""
        memory, engine, vfs = self._memory, self._host.engine, self._host.vfs
        assert engine is not None
        assert vfs is not None
        trap = memory.trap
        if trap is None and error is not None:
            trap = memory.poison(_trap_of(error))
        ended = EndedMessage(memory, message.kind, label=message.label, cache=message.cache)
        self._host.capture()
        self._observation.before_end()
        if trap is None and message.kind != "query":
            try:
                memory.commit()
            except Trap as refused:
                trap = refused
        if trap is not None or message.kind == "query":
            self._observation.before_rollback()
        if trap is not None:
            engine.discard_heap()
            memory.rollback()
            ended.outcome = "trapped"
            ended.trap = str(trap)
            ended.trap_limit = trap.limit or None if isinstance(trap, LimitTrap) else None
        elif message.kind == "query":
            ended.discarded_writes = bool(memory.bytemap.dirty)
            memory.rollback()
            engine.end(discarded=ended.discarded_writes)
            ended.outcome = "discarded"
        else:
            engine.end(discarded=False)
        ended.wasm_pages = memory.wasm_pages
        self._host.settle(is_watched=self._observation.is_watching)
        if vfs.store.is_page_size_stale:
            vfs.adopt_page_size()
            self._observation.end_message(ended)
            # Not before the log is taken, which is still in the old unit.
            self._adopt(vfs)
            self._state_settings()
        else:
            self._observation.end_message(ended)
        message.ended = ended
        self._message = None
        self._is_whole = True
        return trap

    def outside(self, name: str) -> AbstractContextManager[None]:
        """Bill accesses to a name; `Message` calls this."""
        return self._observation.recorder.outside(name)

    def unfinished(self, *, keep_transaction: bool) -> str | None:
        """Say what the open message has left open; `Message` calls this."""
        return self.engine.unfinished(keep_transaction=keep_transaction)

    @property
    def engine(self) -> Engine:
        """What executes the SQL."""
        if self._host.engine is None:
            raise MessageError(_CLOSED)
        return self._host.engine

    def _install(self) -> None:
        if self._is_read_only:
            self._revive_heap()
            self._observation.recorder.take()
        else:
            self._life_cycle_step("install", self._start_heap)

    # -- inside: the heap -----------------------------------------------------------------------

    def _life_cycle_step(
        self,
        kind: str,
        step: Callable[[], None],
        *,
        label: str | None = None,
    ) -> Reply:
        with self._turn(kind):
            return self._run_step(kind, step, label=label)

    def _run_step(
        self, kind: str, step: Callable[[], None], *, label: str | None, limited: bool = True
    ) -> Reply:
        memory = self._memory
        memory.check(kind)
        had_heap = self._host.engine is not None
        self._is_whole = False
        self._before = (self.settings, self._is_foreign)
        try:
            memory.begin(kind)
            if not limited:
                memory.limit(None)
            with self._observation.recorder.outside("open"):
                step()
            ended = EndedMessage(memory, kind, label=label)
            self._host.capture()
            memory.commit()
            self._before = None
            self._observation.end_message(ended)
            self._is_whole = True
        except BaseException:
            # Without a heap before, it is the installation that fails, and the canister goes.
            if had_heap:
                # Where it cannot now, as in the middle of a commit to an image, the next use of
                # the canister tries again, and says why.
                with suppress(Exception):
                    self._recover()
            raise
        return Reply([], ended)

    # -- inside: whole again --------------------------------------------------------------------

    def _turn(self, kind: str) -> Turn:
        return Turn(self.turns, kind, self._begin_turn)

    def _begin_turn(self) -> None:
        self.settle()
        self._memory.check("query")

    def settle(self) -> None:
        """Begin a turn: a canister that is closed has none, and one that was cut off recovers.

        Raises:
            MessageError: The canister is closed.
        """
        if self._is_closed:
            raise MessageError(_CLOSED)
        if not self._is_whole:
            self._recover()

    def _recover(self) -> None:
        """Start over from what is committed, wherever a message or step was cut off.

        What is derived from it is made anew. That may be cut off as well, and be done again.
        """
        # A commit to an image that was cut off may have left its file shorter than a map of it.
        self._memory.check("query")
        message = None if self._message is None else self._message()
        if message is not None:
            message.cut_off()
        self._drop_heap()
        is_committed = self._memory.recover()
        if self._before is not None and not is_committed:
            self.settings, self._is_foreign = self._before
        self._revive_heap()
        self._observation.recorder.take()
        self._message = self._before = None
        self._is_whole = True

    def _drop_heap(self) -> None:
        """Let the heap go, in whatever state it is; what it still writes changes nothing."""
        self._memory.seal()
        self._observation.drop_vfs()
        self._host.drop_heap()

    def _start_heap(self) -> None:
        host = self._host
        host.open_vfs(self.settings)
        if host.vfs is not None:
            self._adopt(host.vfs)
            if self._memory.kind != "query":
                # Each engine goes by the header.
                state_size(host.vfs.store)
        host.open_engine(self.settings, self._setups, is_foreign=self._is_foreign)
        assert host.vfs is not None
        self._adopt(host.vfs)
        self._observation.watch(host.vfs)

    def _adopt(self, vfs: StableVFS) -> None:
        """An existing database keeps its page size, an existing manager its bucket size."""
        self._host.adopt(vfs)
        self.settings = resolve_settings(
            **{
                **asdict(self.settings),
                "page_size": vfs.store.page_size,
                "bucket_pages": vfs.bucket_pages,
            }
        )

    def _stop_heap(self) -> None:
        self._observation.forget_vfs()
        self._host.close_heap()

    def _restart_heap(self) -> None:
        self._stop_heap()
        self._start_heap()

    def _revive_heap(self) -> None:
        """Have a heap again for the one that a failed step wiped."""
        self._host.revive(self._start_heap)
        assert self._host.vfs is not None
        self._observation.watch(self._host.vfs)

    def _let_go(self) -> None:
        """Finish the trace and leave the memory alone."""
        self._is_closed = True
        was_whole, self._is_whole = self._is_whole, False
        if self._is_let_go:
            self._observation.drop_vfs()
        elif was_whole:
            self._stop_heap()
        else:
            self._drop_heap()
            self._memory.recover()
        self._observation.close()
        self._host.let_go()

    def _open_vfs(self) -> StableVFS:
        if not self._is_whole and not self.turns.is_mine():
            with self._turn("look"):
                pass
        vfs = self._host.vfs
        if vfs is None:
            raise MessageError(_CLOSED)
        self._host.settle(is_watched=True)
        return vfs

    def _state_settings(self) -> None:
        """Write the settings into the trace: those of an imported database are its own."""
        writer = self._observation.writer
        if writer is not None:
            writer.update_settings(self.status().settings)

    @property
    def _is_read_only(self) -> bool:
        image_file = self._memory.image_file
        return image_file is not None and image_file.is_read_only


def _trap_of(error: BaseException) -> Trap:
    return error if isinstance(error, Trap) else Trap(str(error) or type(error).__name__)


_CLOSED: Final = "the canister is closed; make a new one"
