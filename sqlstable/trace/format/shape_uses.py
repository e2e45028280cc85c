"""Equal work of a trace put together, added up by SQLite: no record is made for any of its rows.

Unlike the view ``shapes`` of the file, equal work here also has one plan and found the heap in one
state: what a new index or another cache changed is two rows.
"""

from dataclasses import dataclass
from typing import Final

from sqlstable.trace.format.schema import COSTS_SINCE_VERSION
from sqlstable.trace.format.storage import TracePart

SHAPE_USES_MAX: Final = 500
"""Rows that are read, the heaviest first: what is behind them is no part that matters."""

_RANKED_BITS: Final = 32
"""Of equally heavy statements the first is named, so the index is part of what is compared."""

_RANKED_OS_PAGES_MAX: Final = (1 << 31) - 1
"""Stable memory has far fewer OS pages; a damaged trace can claim anything."""

# ``total`` never overflows, as ``sum`` does; beyond 2**53 it rounds, which matters to nobody here.
_SELECT_SHAPES: Final = """
SELECT CASE sql_text.shape WHEN '' THEN sql_text.sql ELSE sql_text.shape END AS shape,
  sql_text.kind, message.cache,
  max((min(statement.os_pages_accessed, :pages_max) << :ranked_bits) - statement.statement_index),
  min(statement.statement_index), max(statement.statement_index),
  count(*),
  total(runs), total(row_count),
  count(vm_steps), total(hits), total(vm_steps), total(fullscan_steps),
  total(statement.os_pages_accessed), total(statement.os_pages_dirty),
  total(statement.bytes_read), total(statement.bytes_written),
  {instructions}
FROM statement JOIN sql_text USING (sql_index)
  JOIN message ON message.message_index = statement.message_index {cost}
WHERE statement.statement_index <= :last_statement
GROUP BY 1, sql_text.kind, statement.plan_index, message.cache
ORDER BY total(statement.os_pages_accessed) DESC, min(statement.statement_index)
LIMIT :shape_uses_max
"""

_SELECT_OWNERS: Final = """
SELECT owner.name, owner.table_name, owner.kind, owner.role,
  total(used.os_pages_accessed), total(used.os_pages_dirty),
  total(CASE WHEN sql_text.kind = 'read' THEN used.os_pages_accessed END)
FROM statement_owner AS used JOIN statement USING (statement_index)
  JOIN sql_text USING (sql_index) JOIN owner USING (owner_index)
WHERE used.statement_index <= :last_statement
GROUP BY used.owner_index ORDER BY total(used.os_pages_accessed) DESC, used.owner_index
"""


@dataclass(frozen=True, slots=True)
class ShapeUse:
    """All statements of one shape that have one plan and found the heap in one state.

    Pages and bytes are the sums over the statements.
    """

    shape: str
    kind: str
    cache: str | None
    "State of the heap when their messages began."
    heaviest: int
    "Index of the statement that accessed most OS pages."
    first: int
    "Index of the first of them."
    last: int
    "Index of the last of them."
    statement_count: int
    run_count: int
    row_count: int
    hits: int | None
    "SQLite pages taken from SQLite's own cache; this and the next two None where some lack them."
    vm_steps: int | None
    fullscan_steps: int | None
    "Rows that full scans visited."
    os_pages_accessed: int
    os_pages_dirty: int
    bytes_read: int
    bytes_written: int
    instructions: int | None
    "In all; None where some were not counted."
    heap_instructions: int | None
    "What of them the heap cost."


@dataclass(frozen=True, slots=True)
class OwnerTotal:
    """One owner in one role over all statements; pages are the sums over the statements."""

    name: str
    table: str
    kind: str
    role: str
    os_pages_accessed: int
    os_pages_dirty: int
    os_pages_queried: int
    "OS pages accessed by statements that only read."


def shape_uses(snapshot: TracePart) -> tuple[ShapeUse, ...]:
    """Return equal work together, at most `SHAPE_USES_MAX` of it, the most OS pages first."""
    has_costs = snapshot.version >= COSTS_SINCE_VERSION
    sql = _SELECT_SHAPES.format(
        cost="LEFT JOIN statement_cost USING (statement_index)" if has_costs else "",
        instructions=(
            "total(instructions_total), total(instructions_heap), count(instructions_total)"
            if has_costs
            else "0, 0, 0"
        ),
    )
    rows = snapshot.select(
        sql,
        shape_uses_max=SHAPE_USES_MAX,
        pages_max=_RANKED_OS_PAGES_MAX,
        ranked_bits=_RANKED_BITS,
    )
    return tuple(_shape_use(*row) for row in rows)


def owner_totals(snapshot: TracePart) -> tuple[OwnerTotal, ...]:
    """Return what was touched of each owner, the most accessed first."""
    return tuple(
        OwnerTotal(name, table, kind, role, *map(int, sums))
        for name, table, kind, role, *sums in snapshot.select(_SELECT_OWNERS)
    )


def plan_lines_seen(snapshot: TracePart) -> frozenset[str]:
    """Return the different lines of all plans, without their depth."""
    rows = snapshot.select(
        "SELECT DISTINCT ltrim(line) FROM plan WHERE plan_index IN"
        " (SELECT plan_index FROM statement WHERE statement_index <= :last_statement)"
    )
    return frozenset(line for (line,) in rows)


def _shape_use(shape: str, kind: str, cache: str | None, *numbers: float) -> ShapeUse:
    ranked, first, last, count, runs, rows, *rest = map(int, numbers)
    heaviest = -ranked & ((1 << _RANKED_BITS) - 1)
    with_counters, *counters, accessed, dirty, bytes_read, bytes_written, spent, heap, costs = rest
    hits, vm_steps, scanned = counters if with_counters == count else [None] * 3
    return ShapeUse(
        *(shape, kind, cache, heaviest, first, last, count, runs, rows),
        *(hits, vm_steps, scanned, accessed, dirty, bytes_read, bytes_written),
        *((spent, heap) if costs == count else (None, None)),
    )
