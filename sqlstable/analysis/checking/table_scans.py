"""Which tables a statement's plan goes through from one end to the other.

A plan names tables by what the statement calls them, so aliases are looked up in the SQL. What a
plan scans beside tables of the database costs no stable memory, and does not count: rows of a
subquery or a common table expression, one row of constants, and virtual tables, which look things
up by themselves.

Source: https://www.sqlite.org/eqp.html (SCAN, AUTOMATIC INDEX).
"""

import re
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from sqlstable.analysis.advice.sql_columns import take_apart
from sqlstable.analysis.trace_source import TraceSource
from sqlstable.trace.model import Statement

_SCANNED: Final = re.compile(
    r"\s*(?:SCAN (?P<scanned>.+?)(?: USING .*| LEFT-JOIN)?"
    r"|SEARCH (?P<indexed>.+?) USING AUTOMATIC .*)"
)
_VIRTUAL: Final = "VIRTUAL TABLE INDEX"


class TableScan(NamedTuple):
    """One line of a plan, and the table that it goes through."""

    table: str
    "As the schema spells it."
    line: str
    "Of EXPLAIN QUERY PLAN, without its depth."


def tables_of(trace: TraceSource) -> dict[str, str]:
    """Return the tables that the main database had when the trace ended, by lower-case name."""
    return {it.name.lower(): it.name for it in trace.schema if it.type == "table"}


def table_scans(statement: Statement, tables: dict[str, str]) -> Iterator[TableScan]:
    """Yield what a statement scans, in the order of its plan.

    Args:
        statement: With its plan.
        tables: What `tables_of` returns. A table that was dropped later is known by the OS pages
            that it owned.

    Examples:
        >>> from sqlstable.trace.model import NO_USE, SqliteCounters
        >>> sql = "SELECT 1 FROM note AS n"
        >>> statement = Statement(0, 0, sql, sql, "read", 0, 1, ("SCAN n",), NO_USE, {},
        ...     SqliteCounters(), ())
        >>> list(table_scans(statement, {"note": "note"}))
        [TableScan(table='note', line='SCAN n')]
    """
    lines = [line for line in statement.plan if _VIRTUAL not in line and _SCANNED.fullmatch(line)]
    if not lines:
        return
    known = {**{it.table.lower(): it.table for it in statement.owners if it.table}, **tables}
    aliases: dict[str, str] | None = None
    for line in lines:
        match = _SCANNED.fullmatch(line)
        assert match is not None
        called = (match["scanned"] or match["indexed"]).lower()
        table = known.get(called)
        if table is None:
            if aliases is None:
                aliases = _aliases(statement.sql, known)
            table = known.get(aliases.get(called, ""))
        if table is not None:
            yield TableScan(table, line.strip())


def _aliases(sql: str, known: Collection[str]) -> dict[str, str]:
    """Return what a statement calls its tables, in lower case."""
    parts = take_apart(sql, lambda table: ("rowid",) if table.lower() in known else ())
    return {} if parts is None else {it.alias.lower(): it.table.lower() for it in parts.tables}
