"""Reading a trace file back: rows and blocks become the records of `sqlstable.trace.model`."""

import importlib
import json
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, Self

from sqlstable.errors import TraceError
from sqlstable.ic.limits import NO_LIMIT
from sqlstable.trace.blocks import EMPTY_BLOCK, decode_accesses
from sqlstable.trace.model import (
    INSTRUCTION_PHASES,
    PHASES,
    Accesses,
    Calls,
    HeapUse,
    Instructions,
    LimitUse,
    LoopUse,
    Message,
    OutsideUse,
    OwnerRun,
    OwnerUse,
    SqliteCounters,
    StableArea,
    StableUse,
    Statement,
    TraceSettings,
)
from sqlstable.trace.schema import (
    AREA_FIELDS,
    AREAS_SINCE_VERSION,
    COST_FIELDS,
    COSTS_SINCE_VERSION,
    COUNTER_NAMES,
    TRACE_APPLICATION_ID,
    TRACE_FORMAT_VERSION,
)
from sqlstable.trace.storage import (
    Row,
    SharedConnection,
    application_and_version,
    connected,
    reading,
)

_SELECT_BLOCK: Final = (
    "SELECT block FROM statement LEFT JOIN statement_accesses USING (statement_index)"
    " WHERE statement_index = ?"
)
_SELECT_OUTSIDE_BLOCKS: Final = (
    "SELECT name, block FROM outside"
    " LEFT JOIN outside_accesses USING (message_index, outside_index)"
    " WHERE message_index = ? ORDER BY outside_index"
)

_Select = Callable[[str], list[Row]]


class Trace:
    """A trace, read back; a context manager. ``open_trace`` and ``TraceWriter.trace`` make one.

    Settings are read at once, everything else when it is first asked for. What has been read
    does not change any more, even if the trace is still being written. Reading raises
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
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        """Return the trace."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the trace."""
        self.close()

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        """All messages in order."""
        with reading(self._name):
            return tuple(_messages(self._select))

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """All statements in order."""
        with reading(self._name):
            return tuple(_statements(self._select))

    @cached_property
    def owners(self) -> tuple[OwnerRun, ...]:
        """Owners of SQLite pages, as runs in the order in which they became true.

        A later run replaces an earlier one wherever they overlap.
        """
        with reading(self._name):
            rows = self._select("SELECT * FROM owner_runs ORDER BY run_number")
            return tuple(OwnerRun(*row[1:8]) for row in rows)

    @cached_property
    def areas(self) -> tuple[StableArea, ...]:
        """What stable memory consists of, after each message that changed its size.

        Empty for a trace of format version 1, which did not note it.
        """
        [(version,)] = self._select("PRAGMA user_version")
        if version < AREAS_SINCE_VERSION:
            return ()
        names = ", ".join(AREA_FIELDS)
        rows = self._select(
            f"SELECT message_index, {names} FROM area ORDER BY message_index, position"  # noqa: S608  our own names
        )
        return tuple(StableArea(*row) for row in rows)

    def accesses(self, statement: Statement | int) -> Accesses:
        """Return the accesses of a statement, given itself or its index, in order."""
        index = statement.index if isinstance(statement, Statement) else int(statement)
        rows = self._select(_SELECT_BLOCK, index)
        if not rows:
            raise TraceError(f"{self._name} has no statement with the index {index}")
        return self._decoded(rows[0][0], f"statement {index}")

    def outside_accesses(self, message: Message | int) -> tuple[tuple[str, Accesses], ...]:
        """Return the accesses in a message, given itself or its index, that no statement made.

        Returns:
            For each outside entry of the message its name and its accesses in order.
        """
        index = message.index if isinstance(message, Message) else int(message)
        if not self._select("SELECT 1 FROM message WHERE message_index = ?", index):
            raise TraceError(f"{self._name} has no message with the index {index}")
        return tuple(
            (name, self._decoded(block, f"message {index}, {name}"))
            for name, block in self._select(_SELECT_OUTSIDE_BLOCKS, index)
        )

    def to_pandas(self) -> Any:  # noqa: ANN401  pandas is optional, so its types are unknown here
        """Return a ``pandas.DataFrame`` with one row per statement.

        The columns are those of the view ``statements``, the first of them the index: every
        count is a column of its own, of the whole statement as ``calls_read`` …, of its phases as
        ``prepare_calls_read`` …. SQLite's counters are missing where they were not asked for.

        Raises:
            TraceError: pandas is not installed, or the file is damaged.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise TraceError(
                "to_pandas needs pandas, which is not installed; pip install pandas"
            ) from error
        rows = self._select("SELECT * FROM statements ORDER BY statement_index")
        names = [name for _, name, *_ in self._select("PRAGMA table_info(statements)")]
        frame = pandas.DataFrame(rows, columns=names)
        for name in COUNTER_NAMES:
            # From the rows again: a column with gaps has become floats, which round.
            place = names.index(name)
            frame[name] = pandas.array([row[place] for row in rows], dtype="Int64")
        return frame.set_index("statement_index")

    def close(self) -> None:
        """Close the file; idempotent. What has been read before stays usable."""
        self._release()

    def _select(self, sql: str, *parameters: object) -> list[Row]:
        if not self._release.alive:
            raise TraceError(f"{self._name} is closed; open it again")
        with reading(self._name):
            return self._shared.connection.execute(sql, parameters).fetchall()

    def _decoded(self, block: bytes | None, place: str) -> Accesses:
        try:
            with reading(self._name):
                return decode_accesses(EMPTY_BLOCK if block is None else block)
        except TraceError as error:
            raise TraceError(f"{self._name}, {place}: {error}") from error


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


# Equal work has equal counts: sharing the records saves time and memory on long traces.
@lru_cache(maxsize=4096)
def _stable_use(*row: int) -> StableUse:
    return StableUse(Calls(*row[:4]), *row[4:])


def _grouped(rows: Iterable[Row]) -> dict[int, list[Row]]:
    """Return the rows by their first column, without it."""
    groups: dict[int, list[Row]] = defaultdict(list)
    for first, *rest in rows:
        groups[first].append(tuple(rest))
    return groups


def _messages(select: _Select) -> Iterator[Message]:
    statements = _grouped(
        select("SELECT message_index, statement_index FROM statement ORDER BY statement_index")
    )
    outside = _grouped(select("SELECT * FROM outside ORDER BY message_index, outside_index"))
    limits = _grouped(select("SELECT * FROM message_limit ORDER BY message_index, limit_index"))
    costs = _costs(select, "message_cost")
    for row in select("SELECT * FROM message ORDER BY message_index"):
        index, kind, label, outcome, trap, discarded_writes, cache, image_bytes, *stable = row
        yield Message(
            *(index, kind, label, outcome, trap, bool(discarded_writes), cache),
            tuple(statement for (statement,) in statements.get(index, ())),
            _stable_use(*stable),
            tuple(OutsideUse(name, _stable_use(*use)) for _, name, *use in outside.get(index, ())),
            tuple(
                LimitUse(name, used, NO_LIMIT if limit is None else limit)
                for _, name, used, limit in limits.get(index, ())
            ),
            image_bytes,
            _instructions(costs.get(index)),
            _heap(costs.get(index)),
        )


def _costs(select: _Select, table: str) -> dict[int, Row]:
    """Return the rows of a table of costs by their index; a trace of version 1 has none."""
    if not _has_costs(select):
        return {}
    return {index: tuple(row) for index, *row in select(f"SELECT * FROM {table}")}  # noqa: S608  our own names


def _has_costs(select: _Select) -> bool:
    [(version,)] = select("PRAGMA user_version")
    return bool(version >= COSTS_SINCE_VERSION)


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


def _loops(select: _Select) -> dict[int, tuple[LoopUse, ...]]:
    if not _has_costs(select):
        return {}
    rows = select("SELECT * FROM statement_loop ORDER BY statement_index, position")
    return {
        index: tuple(LoopUse(*loop) for _, *loop in loops)
        for index, loops in _grouped(rows).items()
    }


def _statements(select: _Select) -> Iterator[Statement]:
    sql_texts = {index: texts for index, *texts in select("SELECT * FROM sql_text")}
    plan_rows = select("SELECT * FROM plan ORDER BY plan_index, line_index")
    plans = {
        index: tuple(line for _, line in lines) for index, lines in _grouped(plan_rows).items()
    }
    phases = {
        (index, phase): stable for index, phase, *stable in select("SELECT * FROM statement_phase")
    }
    owners = _grouped(select("SELECT * FROM statement_owners ORDER BY statement_index, position"))
    costs, loops = _costs(select, "statement_cost"), _loops(select)
    for row in select("SELECT * FROM statement ORDER BY statement_index"):
        index, message, sql_index, plan_index, row_count, runs, *counts = row
        sql, shape, kind = sql_texts[sql_index]
        yield Statement(
            *(index, message, sql, shape, kind, row_count, runs),
            () if plan_index is None else plans[plan_index],
            _stable_use(*counts[4:]),
            {phase: _stable_use(*phases[index, phase]) for phase in PHASES},
            SqliteCounters(*counts[:4]),
            tuple(OwnerUse(*owner) for _, *owner in owners.get(index, ())),
            _instructions(costs.get(index)),
            _phase_instructions(costs.get(index)),
            loops.get(index, ()),
        )
