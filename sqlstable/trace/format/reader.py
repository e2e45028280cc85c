"""Reading a trace file back: rows and blocks become the records of `sqlstable.trace.model`."""

import importlib
import json
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from sqlstable.errors import TraceError
from sqlstable.ic.accesses import Accesses
from sqlstable.ic.units import NO_LIMIT
from sqlstable.ic.words import INSTRUCTION_PHASES, PHASES
from sqlstable.trace.format.charges import charged_of, charges_by_index, payloads_of
from sqlstable.trace.format.estimating import samples_by_message
from sqlstable.trace.format.records import Records
from sqlstable.trace.format.schema import (
    AREA_FIELDS,
    AREAS_SINCE_VERSION,
    CALLS_SINCE_VERSION,
    CONTINUES_SINCE_VERSION,
    COST_FIELDS,
    COSTS_SINCE_VERSION,
    ORDERS_SINCE_VERSION,
    OWNER_FAULTS_SINCE_VERSION,
    PARTS_SINCE_VERSION,
    TRACE_APPLICATION_ID,
    TRACE_FORMAT_VERSION,
    TRAP_LIMITS_SINCE_VERSION,
)
from sqlstable.trace.format.shape_uses import (
    OwnerTotal,
    ShapeUse,
    owner_totals,
    plan_lines_seen,
    shape_uses,
)
from sqlstable.trace.format.storage import (
    OF_MESSAGES,
    OF_STATEMENTS,
    Row,
    SharedConnection,
    TracePart,
    application_and_version,
    connected,
    reading,
)
from sqlstable.trace.format.summary import Summary, summary
from sqlstable.trace.markup import html_table
from sqlstable.trace.model import (
    NO_USE,
    Calls,
    HeapUse,
    Instructions,
    LimitUse,
    LoopUse,
    Message,
    ModuleCall,
    OutsideUse,
    Owner,
    OwnerFault,
    OwnerRun,
    OwnerUse,
    Part,
    SchemaObject,
    SqliteCounters,
    StableArea,
    StableUse,
    Statement,
    TraceSettings,
    TreeShape,
)
from sqlstable.trace.trap_words import limit_named_by

if TYPE_CHECKING:
    from sqlstable.trace.access_stream import AccessBlock
    from sqlstable.trace.format.access_reader import AccessReader
    from sqlstable.trace.format.frames import FrameColumns, FrameLibrary

RECORDS_HELD_MAX: Final = 100_000
"""Messages or statements that are read once and kept; more are read again for each look."""

T = TypeVar("T")

_SELECT_SQL_TEXTS: Final = (
    "SELECT * FROM sql_text WHERE sql_index IN"  # noqa: S608  our own words
    f" (SELECT sql_index FROM statement WHERE {OF_STATEMENTS})"
)
_SELECT_PLANS: Final = (
    "SELECT * FROM plan WHERE plan_index IN"  # noqa: S608  our own words
    f" (SELECT plan_index FROM statement WHERE {OF_STATEMENTS}) ORDER BY plan_index, line_index"
)

ROWS_SHOWN: Final = 20
"""Statements that a notebook shows of a trace."""

_SELECT_BLOCK: Final = (
    "SELECT block FROM statement LEFT JOIN statement_accesses USING (statement_index)"
    " WHERE statement_index = :index"
)
_SELECT_OUTSIDE_BLOCKS: Final = (
    "SELECT name, block FROM outside"
    " LEFT JOIN outside_accesses USING (message_index, outside_index)"
    " WHERE message_index = :index ORDER BY outside_index"
)
_SELECT_LAST: Final = (
    "SELECT (SELECT max(message_index) FROM message), (SELECT max(statement_index) FROM statement)"
)
_SHOWN: Final = ("statement", "message", "SQL", "OS pages accessed", "dirty", "rows")
_SELECT_SHOWN: Final = (
    "SELECT statement_index, message_index, sql, os_pages_accessed, os_pages_dirty, row_count"
    " FROM statement JOIN sql_text USING (sql_index) WHERE statement_index <= :last_statement"
    " ORDER BY statement_index LIMIT :shown"
)
_NO_PARAMETERS: Final[Mapping[str, object]] = {}


class Trace:
    """A trace, read back; a context manager. ``open_trace`` and ``TraceWriter.trace`` make one.

    Settings are read at once, everything else when it is first asked for; of a long trace it is
    never all in memory. It shows the messages
    that were there when it was opened, even if the trace is still being written. Reading raises
    ``TraceError`` where the file is damaged or closed, or an index is unknown.

    Attributes:
        settings: The circumstances of the run. ``settings["closed"]`` is False where the run
            was cut off, or still goes on.
    """

    def __init__(self, shared: SharedConnection, name: str) -> None:
        """Take over one use of a connection; ``open_trace`` is the way in."""
        self._shared = shared
        self._name = name
        self._release = weakref.finalize(self, shared.release)
        try:
            with reading(name):
                rows = self._select("SELECT name, value FROM settings ORDER BY rowid")
                self.settings = TraceSettings({key: json.loads(value) for key, value in rows})
                # One statement, so that both belong to one moment. What messages have written
                # never changes, and whatever is read later is bounded by these two.
                [(message, statement)] = self._select(_SELECT_LAST)
                [(version,)] = self._select("PRAGMA user_version")
            self._snapshot = TracePart(
                self._select,
                version=version,
                last_message=-1 if message is None else message,
                last_statement=-1 if statement is None else statement,
            )
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        snapshot = self._snapshot
        return (
            f"<Trace {self._name}: engine {self.settings.values.get('engine')}, "
            f"{snapshot.last_message + 1} messages, {snapshot.last_statement + 1} statements>"
        )

    def _repr_html_(self) -> str:
        """Show the first statements in a notebook."""
        with reading(self._name):
            rows = self._snapshot.select(_SELECT_SHOWN, shown=ROWS_SHOWN)
        return html_table(repr(self), _SHOWN, rows)

    @property
    def message_count(self) -> int:
        """How many messages it has."""
        return self._snapshot.last_message + 1

    @property
    def statement_count(self) -> int:
        """How many statements it has."""
        return self._snapshot.last_statement + 1

    @cached_property
    def messages(self) -> Sequence[Message]:
        """All messages in order; those of a long trace are read again for each look."""
        if self.message_count > RECORDS_HELD_MAX:
            return Records(self.message_count, self.messages_at)
        with reading(self._name):
            return tuple(_messages(self._snapshot))

    @cached_property
    def statements(self) -> Sequence[Statement]:
        """All statements in order; those of a long trace likewise."""
        if self.statement_count > RECORDS_HELD_MAX:
            return Records(self.statement_count, self.statements_at)
        with reading(self._name):
            return tuple(_statements(self._snapshot))

    def messages_at(self, first: int, last: int) -> tuple[Message, ...]:
        """Read the messages from one index to another, both included, and keep none."""
        _check_indexes(self._name, "message", self.message_count, first, last)
        with reading(self._name):
            return _whole(tuple(_messages(self._snapshot.of_messages(first, last))), first, last)

    def statements_at(self, first: int, last: int) -> tuple[Statement, ...]:
        """Read the statements from one index to another likewise."""
        _check_indexes(self._name, "statement", self.statement_count, first, last)
        with reading(self._name):
            found = _statements(self._snapshot.of_statements(first, last))
            return _whole(tuple(found), first, last)

    @cached_property
    def summary(self) -> Summary:
        """All messages together."""
        with reading(self._name):
            return summary(self._snapshot)

    @cached_property
    def shape_uses(self) -> tuple[ShapeUse, ...]:
        """Equal work together, the most OS pages first."""
        with reading(self._name):
            return shape_uses(self._snapshot)

    @cached_property
    def owner_totals(self) -> tuple[OwnerTotal, ...]:
        """What statements touched of each owner, the most accessed first."""
        with reading(self._name):
            return owner_totals(self._snapshot)

    @cached_property
    def plan_lines(self) -> frozenset[str]:
        """The different lines of all plans, without their depth."""
        with reading(self._name):
            return plan_lines_seen(self._snapshot)

    @cached_property
    def owners(self) -> tuple[OwnerRun, ...]:
        """Owners of SQLite pages, as runs in the order in which they became true.

        A later run replaces an earlier one wherever they overlap.
        """
        with reading(self._name):
            rows = self._snapshot.select(
                "SELECT * FROM owner_runs WHERE since_message <= :last_message ORDER BY run_number"
            )
            return tuple(OwnerRun(*row[1:8]) for row in rows)

    @cached_property
    def areas(self) -> tuple[StableArea, ...]:
        """What stable memory consists of, after each message that changed its size.

        Empty for a trace of format version 1, which did not note it.
        """
        if self._snapshot.version < AREAS_SINCE_VERSION:
            return ()
        names = ", ".join(AREA_FIELDS)
        rows = self._snapshot.select(
            f"SELECT message_index, {names} FROM area WHERE message_index <= :last_message"  # noqa: S608  our own names
            " ORDER BY message_index, position"
        )
        return tuple(StableArea(*row) for row in rows)

    @cached_property
    def owner_faults(self) -> tuple[OwnerFault, ...]:
        """From which messages on owners are unknown that should not be, and why.

        Empty for a trace of format version 1 or 2, which did not note it.
        """
        if self._snapshot.version < OWNER_FAULTS_SINCE_VERSION:
            return ()
        rows = self._snapshot.select(
            "SELECT * FROM owner_fault WHERE message_index <= :last_message ORDER BY message_index"
        )
        return tuple(OwnerFault(*row) for row in rows)

    @cached_property
    def schema(self) -> tuple[SchemaObject, ...]:
        """The main database's sqlite_schema when the trace ended, in its order.

        Empty for a trace of format version 1 to 3, which did not note it.
        """
        return tuple(
            SchemaObject(*row)
            for row in self._at_end("SELECT type, name, table_name, sql FROM schema_object")
        )

    @cached_property
    def trees(self) -> tuple[TreeShape, ...]:
        """The shapes of the main database's B-trees when the trace ended.

        Empty likewise, and where ``settings["trees_skipped"]`` says why.
        """
        with reading(self._name):
            return tuple(TreeShape(*row) for _, *row in self._at_end("SELECT * FROM tree"))

    def _at_end(self, sql: str) -> list[Row]:
        if self._snapshot.version < ORDERS_SINCE_VERSION:
            return []
        return self._select(f"{sql} ORDER BY position")

    def accesses(self, statement: Statement | int) -> Accesses:
        """Return the accesses of a statement, given itself or its index, in order."""
        index = statement.index if isinstance(statement, Statement) else int(statement)
        _check_indexes(self._name, "statement", self.statement_count, index, index)
        with reading(self._name):
            [(block,)] = self._snapshot.select(_SELECT_BLOCK, index=index)
        return self._decoded(block, f"statement {index}")

    def outside_accesses(self, message: Message | int) -> tuple[tuple[str, Accesses], ...]:
        """Return the accesses in a message, given itself or its index, that no statement made.

        Returns:
            For each outside entry of the message its name and its accesses in order.
        """
        index = message.index if isinstance(message, Message) else int(message)
        _check_indexes(self._name, "message", self.message_count, index, index)
        return tuple(
            (name, self._decoded(block, f"message {index}, {name}"))
            for name, block in self._snapshot.select(_SELECT_OUTSIDE_BLOCKS, index=index)
        )

    def access_blocks(
        self, *, owners: bool = True, pieces: bool = False
    ) -> Iterator["AccessBlock"]:
        """Yield all accesses in the order in which they happened, as blocks of columns.

        Args:
            owners: Whether to find out whose each one is; without, all are the unknown owner's.
            pieces: Whether an access that moves SQLite pages of several owners, as loading a
                database does, is cut where an owner ends; the pieces share their position. They
                begin where an OS page does.

        Yields:
            Blocks of at most 131 072 accesses; those of many small messages stand together. Traces
            of format version 1 to 3 have no phases, and a message's accesses come statement by
            statement, its outside entries last; outside of the main database file they know the
            memory manager's part alone. Owners of SQLite pages assume that the page size of the
            settings held throughout.

        Examples:
            >>> from sqlstable import Canister
            >>> canister = Canister(trace=":memory:")
            >>> reply = canister.update("CREATE TABLE t (a)")
            >>> trace = canister.trace()
            >>> [block] = trace.access_blocks()
            >>> owners = block.owner[block.statement == 0]
            >>> sorted({trace.access_owners[owner].name for owner in owners})
            ['(memory manager)', '(unknown)', 'sqlite_schema', 't']
            >>> trace.close(); canister.close()
        """
        with reading(self._name):
            yield from self._access_reader.blocks(owners=owners, pieces=pieces)

    @property
    def access_owners(self) -> tuple[Owner, ...]:
        """Who can own an access, the unknown one first: `AccessBlock.owner` is an index of it."""
        return self._access_reader.owners

    @property
    def outside_names(self) -> tuple[str, ...]:
        """What made accesses of no statement: `AccessBlock.outside` is an index of it."""
        return self._access_reader.outside_names

    @cached_property
    def _access_reader(self) -> "AccessReader":
        from sqlstable.trace.format.access_reader import AccessReader  # noqa: PLC0415  numbers need no arrays

        with reading(self._name):
            return AccessReader(self._snapshot, _page_size(self.settings))

    def to_pandas(self) -> Any:  # noqa: ANN401  pandas is optional, so its types are unknown here
        """Return a ``pandas.DataFrame`` with one row per statement.

        The columns are those of the view ``statements``, the first of them the index: every
        count is a column of its own, of the whole statement as ``calls_read`` …, of its phases as
        ``prepare_calls_read`` …, the units of price lists as ``charged_…``; ``cycles`` pay its
        instructions. What was not asked for, or not counted, is missing.

        Raises:
            TraceError: pandas is not installed, or the file is damaged.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise TraceError(
                "to_pandas needs pandas, which is not installed; pip install pandas"
            ) from error
        with reading(self._name):
            from sqlstable.trace.format.data_frame import statement_frame  # noqa: PLC0415  numbers need no arrays

            return statement_frame(pandas, self._snapshot)

    def column_parts(self, what: str) -> Iterator["FrameColumns"]:
        """Yield the columns of a frame of accesses, statements or messages, a part at a time."""
        from sqlstable.trace.format.column_parts import column_parts  # noqa: PLC0415

        page_size = _page_size(self.settings)
        with reading(self._name):
            yield from column_parts(self._snapshot, self._access_reader, page_size, what)

    def accesses_frame(self, *, library: "FrameLibrary" = "pandas") -> Any:  # noqa: ANN401  as above
        """Return a data frame with one row per access, in the order in which they happened.

        Columns: ``message``, ``statement`` (missing where none made the access), ``outside`` (what
        made it then), ``phase``, ``kind``, ``os_page`` and ``sqlite_page`` (of the first byte, from
        0 and from 1; missing where no byte was moved, or outside of the database file), ``owner``,
        ``table``, ``owner_kind`` and ``role`` (as `AccessBlock.owner`), ``position`` (among the
        accesses of the statement), ``address`` and ``length`` in bytes. Names are categories.

        Args:
            library: Whose frame: pandas, polars, or pyarrow for a table of Arrow.

        Raises:
            TraceError: The library is not installed, or the file is damaged.
        """
        from sqlstable.trace.format.access_frame import access_columns  # noqa: PLC0415
        from sqlstable.trace.format.frames import frame  # noqa: PLC0415  numbers need no arrays

        with reading(self._name):
            return frame(access_columns(self._access_reader, _page_size(self.settings)), library)

    def messages_frame(self, *, library: "FrameLibrary" = "pandas") -> Any:  # noqa: ANN401
        """Return a data frame with one row per message.

        Every count is a column: calls, bytes, OS and Wasm pages, ``instructions_total`` …, what was
        done to the heap, ``charged_…``, payloads, ``bytes_changed``, and of each limit ``used_…``
        and ``limit_…``, ``continues``, and all ``cycles``. Else as `accesses_frame`.
        """
        with reading(self._name):
            return _record_frame(self._snapshot, "message_values", library)

    def statements_frame(self, *, library: "FrameLibrary" = "pandas") -> Any:  # noqa: ANN401
        """Return a data frame with one row per statement: the columns of the view ``statements``.

        As `to_pandas`, of any library, with names as categories and the index as a column.
        """
        with reading(self._name):
            return _record_frame(self._snapshot, "statement_values", library)

    def owners_frame(self, *, library: "FrameLibrary" = "pandas") -> Any:  # noqa: ANN401
        """Return a data frame of `owners`: one row per run of SQLite pages with one owner."""
        with reading(self._name):
            return _record_frame(self._snapshot, "owner_values", library)

    def limits_frame(self, *, library: "FrameLibrary" = "pandas") -> Any:  # noqa: ANN401
        """Return a data frame with one row per message and limit: ``used`` and ``limit``."""
        with reading(self._name):
            return _record_frame(self._snapshot, "limit_values", library)

    def close(self) -> None:
        """Close the file; idempotent. What has been read before stays usable."""
        self._release()

    def _select(self, sql: str, parameters: Mapping[str, object] = _NO_PARAMETERS) -> list[Row]:
        if not self._release.alive:
            raise TraceError(f"{self._name} is closed; open it again")
        with reading(self._name):
            return self._shared.connection.execute(sql, parameters).fetchall()

    def _decoded(self, block: bytes | None, place: str) -> Accesses:
        from sqlstable.trace.blocks import EMPTY_BLOCK, decode_accesses  # noqa: PLC0415  numbers need no arrays

        try:
            with reading(self._name):
                return decode_accesses(EMPTY_BLOCK if block is None else block)
        except TraceError as error:
            raise TraceError(f"{self._name}, {place}: {error}") from error


def _check_indexes(name: str, noun: str, count: int, first: int, last: int) -> None:
    """Refuse what a caller asks for and no trace could have, lest it be taken for damage."""
    if 0 <= first <= last + 1 <= count:
        return
    what = f"{noun} with the index {first}" if first == last else f"{noun}s {first} to {last}"
    there = f"{count:,}, with the indexes from 0 to {count - 1}" if count else "none"
    raise TraceError(f"{name} has no {what}; it has {there}")


def open_trace(path: Path | str) -> Trace:
    """Open a trace file for reading; the file is not changed.

    Args:
        path: A file that ``TraceWriter`` has written, or is still writing.

    Raises:
        TraceError: The file is missing, is no trace, has a newer format, or is damaged.
    """
    path = Path(path)
    found = application_and_version(path)
    if found is None:
        raise TraceError(f"{path} is not a trace: it is not a SQLite file")
    application_id, version = found
    if application_id != TRACE_APPLICATION_ID:
        raise TraceError(
            f"{path} is a SQLite database but not a trace: its application_id is "
            f"0x{application_id:08x}, that of a trace 0x{TRACE_APPLICATION_ID:08x}"
        )
    if not 1 <= version <= TRACE_FORMAT_VERSION:
        raise TraceError(
            f"{path} has trace format version {version}, and this sqlstable reads up to "
            f"{TRACE_FORMAT_VERSION}; upgrade sqlstable"
        )
    with reading(str(path)):
        connection = connected(path.absolute().as_uri() + "?mode=ro")
    return Trace(SharedConnection(connection), str(path))


def _page_size(settings: TraceSettings) -> int | None:
    """Return the bytes of a SQLite page, where they are known."""
    page_size = settings.values.get("page_size")
    return page_size if isinstance(page_size, int) and page_size > 0 else None


def _record_frame(snapshot: TracePart, values: str, library: "FrameLibrary") -> Any:  # noqa: ANN401
    """Return what a function of the module of frames gives, as a frame."""
    from sqlstable.trace.format import record_frames  # noqa: PLC0415  numbers need no arrays
    from sqlstable.trace.format.frames import frame  # noqa: PLC0415

    return frame(record_frames.framed(getattr(record_frames, values)(snapshot)), library)


# Equal work has equal counts: sharing the records saves time and memory on long traces.
@lru_cache(maxsize=4096)
def _stable_use(*row: int) -> StableUse:
    return StableUse(Calls(*row[:4]), *row[4:])


@lru_cache(maxsize=4096)
def _owner_use(owner: tuple[str, str, str, str], accessed: int, dirty: int) -> OwnerUse:
    return OwnerUse(*owner, accessed, dirty)


@lru_cache(maxsize=4096)
def _limit_uses(*rows: Row) -> tuple[LimitUse, ...]:
    return tuple(
        LimitUse(name, used, NO_LIMIT if limit is None else limit) for _, name, used, limit in rows
    )


def _grouped(rows: Iterable[Row]) -> dict[int, list[Row]]:
    """Return the rows by their first column, without it."""
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[0]].append(row[1:])
    return groups


def _messages(snapshot: TracePart) -> Iterator[Message]:
    select = snapshot.select_of_messages
    statements = _grouped(
        snapshot.select_of_statements("SELECT message_index, statement_index FROM statement")
    )
    outside = _grouped(select("SELECT * FROM outside", "message_index, outside_index"))
    limits = _grouped(select("SELECT * FROM message_limit", "message_index, limit_index"))
    parts: dict[int, list[Row]] = {}
    if snapshot.version >= PARTS_SINCE_VERSION:
        parts = _grouped(select("SELECT * FROM message_part", "message_index, position"))
    calls: dict[int, ModuleCall] = {}
    if snapshot.version >= CALLS_SINCE_VERSION:
        rows = select("SELECT * FROM message_call", "message_index")
        calls = {index: ModuleCall(*call) for index, *call in rows}
    samples = samples_by_message(snapshot)
    costs = _costs(snapshot, "message_cost", "message_index")
    charges = charges_by_index(snapshot, "message_index")
    for row in select("SELECT * FROM message", "message_index"):
        index, kind, label, outcome, trap, discarded_writes, cache, image_bytes, *rest = row
        if snapshot.version < TRAP_LIMITS_SINCE_VERSION:
            rest.append(limit_named_by(outcome, trap))
        if snapshot.version < ORDERS_SINCE_VERSION:
            rest += (None, None)
        if snapshot.version < CONTINUES_SINCE_VERSION:
            rest.append(None)
        *stable, trap_limit, bytes_changed, _, continues = rest
        yield Message(
            *(index, kind, label, outcome, trap, bool(discarded_writes), cache),
            tuple(statement for (statement,) in statements.get(index, ())),
            _stable_use(*stable),
            tuple(OutsideUse(name, _stable_use(*use)) for _, name, *use in outside.get(index, ())),
            _limit_uses(*limits.get(index, ())),
            image_bytes,
            _instructions(costs.get(index)),
            _heap(costs.get(index)),
            trap_limit,
            bytes_changed,
            continues,
            tuple(Part(*part) for _, *part in parts.get(index, ())),
            calls.get(index),
            charged_of(charges.get(index)),
            payloads_of(charges.get(index)),
            sample=samples.get(index),
        )


def _costs(snapshot: TracePart, table: str, key: str) -> dict[int, Row]:
    """Return the rows of a table of costs by their index; a trace of version 1 has none."""
    if snapshot.version < COSTS_SINCE_VERSION:
        return {}
    bounds = OF_MESSAGES if key == "message_index" else OF_STATEMENTS
    rows = snapshot.select(f"SELECT * FROM {table} WHERE {bounds}")  # noqa: S608  our own names
    return {row[0]: row[1:] for row in rows}


def _instructions(row: Row | None) -> Instructions | None:
    if row is None:
        return None
    total, computation, stable, heap, measured, error_band = row[: len(COST_FIELDS)]
    return Instructions(total, computation, stable, heap, bool(measured), error_band)


def _heap(row: Row | None) -> HeapUse | None:
    if row is None or row[len(COST_FIELDS)] is None:
        return None
    return HeapUse(*row[len(COST_FIELDS) :])


def _phase_instructions(row: Row | None) -> dict[str, int] | None:
    if row is None or row[len(COST_FIELDS)] is None:
        return None
    return dict(zip(INSTRUCTION_PHASES, row[len(COST_FIELDS) :], strict=True))


def _loops(snapshot: TracePart) -> dict[int, tuple[LoopUse, ...]]:
    if snapshot.version < COSTS_SINCE_VERSION:
        return {}
    rows = snapshot.select_of_statements("SELECT * FROM statement_loop", "position")
    return {
        index: tuple(LoopUse(*loop) for _, *loop in loops)
        for index, loops in _grouped(rows).items()
    }


def _owners(snapshot: TracePart) -> dict[int, list[OwnerUse]]:
    owners = {index: tuple(names) for index, *names in snapshot.select("SELECT * FROM owner")}
    rows = snapshot.select_of_statements("SELECT * FROM statement_owner", "position")
    found: dict[int, list[OwnerUse]] = defaultdict(list)
    for statement, _, owner, accessed, dirty in rows:
        found[statement].append(_owner_use(owners[owner], accessed, dirty))
    return found


def _statements(snapshot: TracePart) -> Iterator[Statement]:
    sql_texts = {index: texts for index, *texts in snapshot.select(_SELECT_SQL_TEXTS)}
    plan_rows = snapshot.select(_SELECT_PLANS)
    plans = {
        index: tuple(line for _, line in lines) for index, lines in _grouped(plan_rows).items()
    }
    phases = {
        row[:2]: _stable_use(*row[2:])
        for row in snapshot.select_of_statements("SELECT * FROM statement_phase", "phase")
    }
    owners, loops = _owners(snapshot), _loops(snapshot)
    costs = _costs(snapshot, "statement_cost", "statement_index")
    charges = charges_by_index(snapshot, "statement_index")
    for row in snapshot.select_of_statements("SELECT * FROM statement"):
        index, message, sql_index, plan_index, row_count, runs, *counts = row
        sql, shape, kind = sql_texts[sql_index]
        cost = costs.get(index)
        uses = {phase: phases.get((index, phase), NO_USE) for phase in PHASES}
        stable = _stable_use(*counts[4:])
        if stable != NO_USE and all(use is NO_USE for use in uses.values()):
            raise LookupError(f"statement {index} has lost its phases")
        yield Statement(
            *(index, message, sql, shape, kind, row_count, runs),
            () if plan_index is None else plans[plan_index],
            stable,
            uses,
            SqliteCounters(*counts[:4]),
            tuple(owners.get(index, ())),
            _instructions(cost),
            _phase_instructions(cost),
            loops.get(index, ()),
            charged_of(charges.get(index)),
        )


def _whole(records: tuple[T, ...], first: int, last: int) -> tuple[T, ...]:
    if len(records) != last - first + 1:
        raise LookupError(f"of the records {first} to {last} there are {len(records)}")
    return records
