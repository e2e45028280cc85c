"""A canister that keeps SQLite in its stable memory: install, update, query, upgrade.

`Canister` joins the machine (memory, database, engine) and the observation (recorder, trace). A
message commits whole or leaves nothing; a query's writes are discarded; an upgrade wipes the heap
and keeps stable memory.
"""

from collections.abc import Callable
from contextlib import ExitStack
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from sqlstable.canister import steps
from sqlstable.canister.choices import Choices, Keywords
from sqlstable.canister.holding import giving_back, hold, refuse_held
from sqlstable.canister.hooks import Hooks
from sqlstable.canister.inbox import Inbox
from sqlstable.canister.life import CLOSED, Life
from sqlstable.canister.life_cycle import LifeCycle
from sqlstable.canister.life_figures import StatusTerms, figures_of_life
from sqlstable.canister.machine import Opening
from sqlstable.canister.machines import make_machine
from sqlstable.canister.observation import Observation, check_trace, open_writer
from sqlstable.canister.presence import Presence
from sqlstable.canister.reply import Reply
from sqlstable.canister.schema_door import SchemaDoor
from sqlstable.canister.snapshot_door import SnapshotDoor
from sqlstable.canister.status import Status
from sqlstable.database.foreign import DatabaseSource, SourceOptions, open_source
from sqlstable.database.settings import Settings, imported_page_size
from sqlstable.database.transfer import extract_database
from sqlstable.database.vfs import StableVFS
from sqlstable.engine.statements import Statements
from sqlstable.errors import MessageError
from sqlstable.ic.units import WASM_PAGE_BYTES
from sqlstable.memory.stable import StableMemory
from sqlstable.trace.format.file import Trace
from sqlstable.trace.markup import html_table

if TYPE_CHECKING:
    import apsw


class Canister(LifeCycle, SnapshotDoor, SchemaDoor, Inbox, Presence):
    """SQLite in simulated stable memory.

    Threads may share a canister: messages run one after the other, each whole in the thread that
    began it. Do not wait inside a message for a thread that sends another one.

    Args:
        path: An image file that keeps stable memory, see `StableMemory.open`; made if it is not
            there, and opened as it is if it is. None keeps everything in this process's memory.
        engine: ``native``: APSW in this process; ``wasm``: SQLite in a Wasm module as a canister
            runs it, with its instructions counted; ``both``: the native one, with what is to
            be measured run again in the Wasm module, where updates are lived through anyway.
        measure: Of ``both``: which messages are measured: ``auto``, ``all``, so many of each shape
            (``"25"``), or a share (``"2.5%"``).
        layout: ``managed`` (the memory manager of ic-stable-structures), ``raw``, or that of a
            product, ``froghub`` or ``ic-sqlite-vfs`` (2.x).
        preset: PRAGMAs of a known product, see `sqlstable.database.settings.PRESETS`.
        page_size: Bytes of a SQLite page, 512 to 65 536; an existing database keeps its own.
        cache_size: SQLite pages that SQLite keeps in the heap; negative for KiB.
        journal_mode: ``memory`` or ``off``; in layout managed also ``delete``, ``truncate`` or
            ``persist``, with a stable file.
        bucket_pages: Wasm pages of a bucket of a new memory manager.
        growth: How a file in a memory manager gets more room: ``bucket`` by whole buckets
            (the default), ``wasm-page`` by what it needs.
        limits: Limits to enforce: a date, ``"latest"``, a `Limits`, or None for none.
        prices: The price list that instructions are counted by: a name, a date, or a
            `sqlstable.ic.prices.PriceRegime`; by default that of the limits' date. Natively nobody
            counts, and it is what the trace names.
        assume: What the list assumes otherwise than by default, by names of
            `sqlstable.ic.assumptions.ASSUMPTIONS`.
        enforce: False measures against the limits of messages and traps at none of them: reports
            show which ones were crossed. The size of stable memory stays limited.
        trace: Path of a trace file to write, or ``":memory:"`` for one that `trace` gives back.
        overwrite_trace: Whether an existing trace file may be replaced; never one that is still
            being written.
        depth: ``counters`` asks SQLite for VM steps, scans, sorts and cache hits (about 2 µs a
            statement), ``pages`` does without.
        owners: Whether each message's OS pages are attributed to tables and indexes; by default
            where a trace is written.
        bytes_changed: Whether the trace says of each message how many bytes of stable memory it
            changed, for write amplification; comparing takes about 10 µs a message.
        memory: An existing stable memory, such as `StableMemory.from_image` gives; of no other
            canister that is open. Closing the canister leaves it open. The wasm engine works on
            a copy of one that was not made for it, which closing writes back. Its limits are
            its own, whatever ``limits`` says.
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
        hooks: The code that is installed, as far as the life cycle goes: what it does when it is
            installed and upgraded.
        machine: Makes what the canister runs on, where that is none of the engines; see
            `sqlstable.canister.machine.Machine`.

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

    def __init__(self, path: Path | str | None = None, **keywords: Unpack[Keywords]) -> None:
        for name in keywords.keys() - Keywords.__annotations__.keys():
            raise TypeError(f"Canister.__init__() got an unexpected keyword argument {name!r}")
        choices = Choices(path, **keywords)
        refuse_held(choices.memory)
        check_trace(choices.trace, overwrite=choices.overwrite_trace)
        settings = choices.settings
        self.machine = machine = make_machine(choices)
        "What it runs on."
        memory = machine.memory
        memory.bytemap.is_enforced = choices.enforce
        with ExitStack() as undo:
            if memory is not choices.memory:
                undo.callback(memory.close)
            observation = Observation(
                memory,
                writer=open_writer(choices.trace, {}, overwrite=choices.overwrite_trace),
                owners=choices.has_owners,
                compares=choices.bytes_changed,
            )
            opening = Opening(settings, is_foreign=memory.wasm_pages > 0)
            self._life = Life(
                machine,
                observation,
                opening,
                choices.hooks or Hooks(),
                give_back=giving_back(memory, choices.memory),
            )
            undo.callback(self._life.let_go)
            steps.install(self._life)
            undo.pop_all()
        hold(self._life, choices.memory)
        self._life.state_settings()

    def close(self) -> None:
        """Finish the trace and give all memory back; closing twice does no harm.

        A memory that the canister was given stays open, and another canister can go on with it.

        Raises:
            ImageError: The image file could not be left whole; it keeps its log.
        """
        self._life.close()

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
        neither instructions nor cycles.

        Args:
            path: The file, which is only read; its bytes; or what
                `sqlstable.database.foreign.open_source` gives, which is checked already.
            page_size: Bytes of a SQLite page that the copy is to have; None keeps the file's.
            integrity_check: Compares indexes with their tables, too, which takes longer.

        Raises:
            ImageError: The file is missing, not a database, truncated or damaged.
            MessageError: The canister has a database already.
        """
        life = self._life
        with life.turn("import"), ExitStack() as stack:
            vfs = steps.empty_vfs(life)
            if not isinstance(path, DatabaseSource):
                size = imported_page_size(self.settings, page_size)
                options = SourceOptions(
                    setups=life.opening.setups, is_thorough=integrity_check, page_size=size
                )
                path = stack.enter_context(open_source(path, options))
            reply = Reply([], steps.load(life, vfs, path))
            reply.notes = path.notes
            return reply

    def extract_database(self, path: Path | str, *, overwrite: bool = False) -> int:
        """Write the database as a plain SQLite file, and return its size in bytes.

        Raises:
            ImageError: The file exists already, or cannot be written.
        """
        with self._life.turn("extract"):
            return extract_database(self._life.view(), path, overwrite=overwrite)

    def image(self) -> bytes:
        """Return all of stable memory, as in a snapshot's ``stable_memory.bin``.

        Raises:
            MessageError: The canister is closed.
        """
        if self._life.is_closed:
            raise MessageError(CLOSED)
        return self._life.memory.image()

    # -- looking --------------------------------------------------------------------------------

    @property
    def memory(self) -> StableMemory:
        """The canister's stable memory."""
        return self._life.memory

    @property
    def vfs(self) -> StableVFS:
        """What gives SQLite the database file; a new one after each upgrade and reinstall.

        Raises:
            MessageError: The canister is closed.
        """
        vfs = self._life.view()
        self._life.memory.check("query")
        return vfs

    @property
    def recovery(self) -> str | None:
        """One line on what was recovered from the image file's log on opening, or None."""
        image_file = self._life.memory.image_file
        return None if image_file is None else image_file.recovery

    @property
    def message_count(self) -> int:
        """Messages that have ended, life-cycle steps included; known of a closed canister, too."""
        return self._life.observation.message_count

    def status(self, terms: StatusTerms | None = None) -> Status:
        """Return sizes, settings, and what it burns; printed, as ``dfx canister status``.

        Args:
            terms: What a simulation cannot know: balance, subnet, allocations.

        Examples:
            >>> with Canister() as canister:
            ...     figures = canister.status(StatusTerms(balance=10**12)).figures
            >>> figures.sizes.stable, figures.idle_cycles_per_day
            (65536, 669726)
        """
        vfs = self._life.view()
        self._life.memory.check("query")
        return Status(
            stable_size_bytes=self._life.memory.wasm_pages * WASM_PAGE_BYTES,
            database_size_bytes=vfs.store.size_bytes,
            messages=self._life.observation.message_count,
            settings=self._life.described,
            growth=self._life.observation.growth(vfs),
            figures=figures_of_life(self._life, terms or StatusTerms()),
        )

    def trace(self) -> Trace:
        """Return what the trace holds so far; to be closed by itself, and readable after `close`.

        Raises:
            MessageError: The canister was made without a trace.
            TraceError: The trace cannot be written or read.
        """
        if not self._life.is_closed:
            self._life.memory.check("query")
        trace = self._life.observation.trace()
        if trace is None:
            raise MessageError(
                'the canister keeps no trace; make it with trace=":memory:", or with a path'
            )
        return trace

    def _repr_html_(self) -> str:
        """Show in a notebook how large it is, and what it consists of."""
        try:
            status = self.status()
        except MessageError as error:
            return html_table("canister", (), [("state", str(error))])
        names = ("engine", "layout", "page_size", "cache_size", "journal_mode", "limits")
        rows = [(name.replace("_", " "), status.settings.get(name)) for name in names]
        sizes = [(f"bytes: {part.name}", part.size_bytes) for part in status.growth.parts]
        return html_table(
            f"canister with {status.messages:,} messages behind it",
            (),
            [
                *rows,
                ("database, bytes", status.database_size_bytes),
                ("stable memory, bytes", status.stable_size_bytes),
                *sizes,
            ],
        )

    def on_connect(self, setup: "Callable[[apsw.Connection], None]") -> None:
        """Run ``setup`` on each connection that is opened, now and again after upgrades and traps.

        For functions, collations and authorizers: they live in the heap, and go with it.
        """
        with self._life.turn("on_connect"):
            self._life.on_connect(setup)

    # -- inside ---------------------------------------------------------------------------------

    @property
    def engine(self) -> Statements:
        """What executes the SQL."""
        return self._life.statements

    @property
    def settings(self) -> Settings:
        """How the database is opened; one that is there keeps what it is."""
        return self._life.opening.settings


# Who asks for its arguments, as help does, is told all of them by name.
Canister.__signature__ = signature(Choices)  # type: ignore[attr-defined]
