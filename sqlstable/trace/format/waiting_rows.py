"""Rows of a trace file that wait to be written: records of `sqlstable.trace.model` become rows."""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final

from sqlstable.ic.units import NO_LIMIT
from sqlstable.trace.format.charges import (
    NO_PAYLOADS,
    NOT_CHARGED,
    NOT_COMPUTED,
    payload_row,
    unit_row,
)
from sqlstable.trace.format.columns import FEW_VALUES
from sqlstable.trace.format.cost_rows import (
    message_cost_row,
    part_row,
    statement_cost_row,
)
from sqlstable.trace.format.schema import (
    AREA_FIELDS,
    CALL_FIELDS,
    COMPUTATION_TABLES,
    COUNTER_NAMES,
    LOOP_FIELDS,
    STABLE_FIELDS,
    TREE_FIELDS,
)
from sqlstable.trace.format.spans import SPANS_MAX, encode_spans
from sqlstable.trace.format.storage import Row
from sqlstable.trace.model import (
    NO_USE,
    AccessSpan,
    AddressRun,
    Message,
    OwnerRuns,
    SchemaObject,
    StableArea,
    Statement,
    TreeShape,
)

_SPANS_KNOWN_MAX: Final = FEW_VALUES - 1
"""Spans that are looked up as they are."""

_KNOWN_MAX: Final = 1 << 16
"""Texts known by their index. Forgetting them all costs a few double rows, never correctness."""

_ToRow = Callable[[object], Row]

# In the order of the columns: of a message all, of a statement those after its four indexes.
_BY_TABLE: Final = COMPUTATION_TABLES
_stable_row: Final[_ToRow] = attrgetter(*STABLE_FIELDS)
_message_row: Final[_ToRow] = attrgetter(
    *("index", "kind", "label", "outcome", "trap", "discarded_writes", "cache", "image_bytes"),
    *(f"stable.{field}" for field in STABLE_FIELDS),
    *("trap_limit", "bytes_changed"),
)
_area_row: Final[_ToRow] = attrgetter(*AREA_FIELDS)
_tree_row: Final[_ToRow] = attrgetter(*TREE_FIELDS)
_loop_row: Final[_ToRow] = attrgetter(*LOOP_FIELDS)
_call_row: Final[_ToRow] = attrgetter(*CALL_FIELDS)
_statement_row: Final[_ToRow] = attrgetter(
    *("row_count", "runs", *(f"sqlite.{name}" for name in COUNTER_NAMES)),
)
_owner_row: Final[_ToRow] = attrgetter("name", "table", "kind", "role")

_TEXTS: Final = ("sql_text", "owner", "plan", "access_order", "shape_sample")
"""Tables of numbered values, which messages refer to; one that nobody refers to does no harm."""


class WaitingRows(dict[str, list[Row]]):
    """Rows by the name of their table, in the order of the schema.

    Attributes:
        message_count: Messages that are here whole.
        block_bytes: Bytes of their blocks.
        has_end: Whether what the trace ends with is among them, to replace what was said before.
        has_samples: Whether messages have been added that stand for others.
        whole: How many rows of each table belong to whole messages, while one is being added.
    """

    whole: dict[str, int] | None

    def __init__(self, tables: Iterable[str]) -> None:
        super().__init__((table, []) for table in tables)
        self.message_count = self.block_bytes = 0
        self.has_end = self.has_samples = False
        self.whole = None
        self._sql_texts = _Numbers(self["sql_text"])
        self._owners = _Numbers(self["owner"])
        self._plans = _Numbers(self["plan"], enumerate)
        self._samples = _Numbers(self["shape_sample"])
        self._orders = _Numbers(self["access_order"], _order_rows)

    def take_back(self) -> None:
        """Forget the rows of a message that an exception from outside has cut off."""
        assert self.whole is not None
        for table, count in self.whole.items():
            if table not in _TEXTS:
                del self[table][count:]
        self.whole = None

    def forget(self) -> None:
        """Forget all rows: they are in the file."""
        for rows in self.values():
            rows.clear()
        self.message_count = self.block_bytes = 0
        self.has_end = False

    def add_message(self, message: Message, order: Sequence[AccessSpan]) -> None:
        """Begin to add a message, which is here whole or not at all, with its own rows.

        Args:
            message: All else that is added while `whole` is not None belongs to it.
            order: How its accesses followed each other.
        """
        self.whole = dict(zip(self, map(len, self.values()), strict=True))
        index, order_index = message.index, None
        if 0 < len(order) <= _SPANS_KNOWN_MAX:
            order_index = self._orders[tuple(order)]
        elif 0 < len(order) <= SPANS_MAX:
            # Equal work has equal spans, and looking many up would take as long as encoding them.
            order_index = self._orders[(encode_spans(order),)]
        self["message"].append((*_message_row(message), order_index, message.continues))
        if message.instructions is not None:
            self["message_cost"].append(message_cost_row(message, message.instructions))
        if message.charged is not None:
            payloads = message.payloads
            brought = NO_PAYLOADS if payloads is None else payload_row(payloads)
            computation = message.charged.computation
            computed = NOT_COMPUTED if computation is None else map(computation.get, _BY_TABLE)
            row = (*computed, *unit_row(message.charged), *brought)
            self["message_charge"].append((index, *row))
        elif message.payloads is not None:
            row = (*NOT_CHARGED, *payload_row(message.payloads))
            self["message_charge"].append((index, *row))
        if message.sample is not None:
            sample = message.sample
            there = (sample.os_pages_accessed, sample.os_pages_dirty, sample.difference)
            self["message_sample"].append((index, self._samples[sample.group], *there))
            self.has_samples = True
        for position, use in enumerate(message.limits):
            # As `limit_row`, which would be a call for each of several.
            limit = None if use.limit == NO_LIMIT else use.limit
            self["message_limit"].append((index, position, use.name, use.used, limit))
        for position, part in enumerate(message.parts):
            self["message_part"].append(part_row(index, position, part))
        if message.call is not None:
            self["message_call"].append((index, *_call_row(message.call)))
        for position, outside in enumerate(message.outside):
            row = (index, position, outside.name, *_stable_row(outside.stable))
            self["outside"].append(row)

    def add_statement(self, statement: Statement) -> None:
        """Add a statement with its phases, costs, loops and owners."""
        index, plan = statement.index, statement.plan
        # Loops and no comprehensions: most of these are short or empty, and each would be a call.
        sql_index = self._sql_texts[statement.sql, statement.shape, statement.kind]
        plan_index = self._plans[plan] if plan else None
        keys = (index, statement.message, sql_index, plan_index)
        whole = _stable_row(statement.stable)
        self["statement"].append(keys + _statement_row(statement) + whole)
        for phase, use in statement.phases.items():
            if not (use is NO_USE or use == NO_USE):
                row = whole if use is statement.stable else _stable_row(use)
                self["statement_phase"].append((index, phase, *row))
        if statement.instructions is not None:
            self["statement_cost"].append(statement_cost_row(statement, statement.instructions))
        if statement.charged is not None:
            charged = statement.charged
            computation = charged.computation
            computed = NOT_COMPUTED if computation is None else map(computation.get, _BY_TABLE)
            row = (*computed, *unit_row(charged))
            self["statement_charge"].append((index, *row))
        for position, loop in enumerate(statement.loops):
            self["statement_loop"].append((index, position, *_loop_row(loop)))
        for position, owner in enumerate(statement.owners):
            counts = (owner.os_pages_accessed, owner.os_pages_dirty)
            row = (index, position, self._owners[_owner_row(owner)], *counts)
            self["statement_owner"].append(row)

    def add_owner_runs(self, runs: OwnerRuns) -> None:
        """Add runs of SQLite pages with one owner each."""
        owners = {id(owner): owner for owner in runs.owners}
        indexes = {key: self._owners[_owner_row(owner)] for key, owner in owners.items()}
        columns = (runs.first_sqlite_pages, runs.sqlite_page_counts, runs.owners)
        # SQLite numbers the rows itself, from 1.
        self["owner_run"] += [
            (None, runs.since_message, first, count, indexes[id(owner)])
            for first, count, owner in zip(*columns, strict=True)
        ]

    def add_address_runs(self, message: int, runs: Sequence[AddressRun]) -> None:
        """Add whose addresses are known since a message."""
        for run in runs:
            owner = self._owners[_owner_row(run.owner)]
            row = (None, message, run.first_address, run.size_bytes, owner)
            self["address_run"].append(row)

    def add_areas(self, areas: Sequence[StableArea]) -> None:
        """Add what stable memory consists of."""
        self["area"] += [
            (area.message, position, *_area_row(area)) for position, area in enumerate(areas)
        ]

    def add_end(self, objects: Sequence[SchemaObject], trees: Sequence[TreeShape]) -> None:
        """Replace what the trace ends with."""
        self["schema_object"][:] = [
            (position, it.type, it.name, it.table, it.sql) for position, it in enumerate(objects)
        ]
        self["tree"][:] = [(position, *_tree_row(it)) for position, it in enumerate(trees)]
        self.has_end = True


def _order_rows(key: Row) -> Iterable[Row]:
    """Return the row of an order, of which many spans are encoded already."""
    return [key] if isinstance(key[0], bytes) else [(encode_spans(key),)]


class _Numbers(dict[Row, int]):
    """Gives each different value the next index, and adds its rows; equal values share them."""

    def __init__(
        self, rows: list[Row], rows_of: Callable[[Row], Iterable[Row]] | None = None
    ) -> None:
        super().__init__()
        self._rows = rows
        self._rows_of = rows_of
        self._next = 0

    def __missing__(self, value: Row) -> int:
        if len(self) == _KNOWN_MAX:
            self.clear()
        index = self._next
        self._next += 1
        rows = [value] if self._rows_of is None else self._rows_of(value)
        self._rows += [(index, *row) for row in rows]
        # Last: a number that is known has its rows, whatever exception comes from outside.
        self[value] = index
        return index
